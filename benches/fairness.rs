//! Echoes of 64 bytes through a worker that also carries bulk tunnels: `cargo bench --bench fairness`
//!
//! Prints a table in Markdown: median and 99th percentile of the echoes, and the bulk throughput, for 0 to 16 bulk
//! tunnels. It judges nothing: times differ from machine to machine, and bulk senders and receivers take the same
//! cores. What the worker does between two echoes is asserted by count in `tunnel::worker::tunnels::tests`.
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on ends there")]
#![allow(unreachable_pub, reason = "a bench's modules are seen by nobody else")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use longhaul::access_log::AccessLog;
use longhaul::config::TunnelLimits;
use longhaul::tunnel::Tunnels;

#[path = "../tests/support/lane.rs"]
mod lane;
use lane::Lane;

fn main() {
    // `cargo test --all-targets` runs benches too, in their shortest form.
    let time = Duration::from_millis(if std::env::args().any(|argument| argument == "--bench") { 3_000 } else { 1 });
    println!("| bulk tunnels | echo, median µs | echo, p99 µs | bulk, MB/s |\n|---|---|---|---|");
    for count in [0, 1, 4, 16] {
        let (mut echoes, rate) = measure(count, time);
        echoes.sort_unstable();
        let at = |share: usize| echoes[(echoes.len() * share / 100).min(echoes.len() - 1)].as_secs_f64() * 1e6;
        println!("| {count} | {:.0} | {:.0} | {rate:.0} |", at(50), at(99));
    }
}

/// Times of echoes beside `count` bulk tunnels, and megabytes a second through all of those.
fn measure(count: usize, time: Duration) -> (Vec<Duration>, f64) {
    let tunnels = Tunnels::start(1, &AccessLog::off()).unwrap();
    let bulk: Vec<Bulk> = (0..count).map(|_| Bulk::start(&tunnels)).collect();
    let mut lane = Lane::open(&tunnels, TunnelLimits::default());
    let (begun, mut echoes) = (Instant::now(), Vec::new());
    while begun.elapsed() < time || echoes.is_empty() {
        let sent = Instant::now();
        lane.exchange();
        echoes.push(sent.elapsed());
    }
    let bytes: u64 = bulk.iter().map(|bulk| bulk.bytes.load(Ordering::Relaxed)).sum();
    let rate = bytes as f64 / begun.elapsed().as_secs_f64() / 1e6;
    bulk.into_iter().for_each(Bulk::stop);
    (echoes, rate)
}

/// A tunnel whose client sends messages of 64 KiB without end.
struct Bulk {
    bytes: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    threads: [JoinHandle<()>; 2],
}

impl Bulk {
    fn start(tunnels: &Tunnels) -> Self {
        let (mut client, mut backend) = Lane::open(tunnels, TunnelLimits::default()).into_ends();
        let (bytes, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counted, stopped) = (Arc::clone(&bytes), Arc::clone(&stop));
        let send = move || {
            while !stopped.load(Ordering::Relaxed) && client.write_all(&MESSAGE).is_ok() {}
        };
        let receive = move || drain(&mut backend, &counted);
        Self { bytes, stop, threads: [std::thread::spawn(send), std::thread::spawn(receive)] }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

fn drain(stream: &mut TcpStream, bytes: &AtomicU64) {
    let mut buffer = vec![0; 256 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        bytes.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// A masked binary message of 64 KiB.
static MESSAGE: [u8; 65_550] = {
    let mut frame = [0; 65_550];
    (frame[0], frame[1], frame[7]) = (0x82, 0xFF, 1);
    frame
};
