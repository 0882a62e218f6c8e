//! Three upgrades in a row under two thousand tunnels: nothing is dropped, lost, repeated or reordered.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::lab::{Lab, upgrade};
use crate::support::within;
use crate::ws::{BINARY, CLOSE, Tunnel, frame, read_frame};

/// Tunnels that exchange a number every now and then.
const SMALL: usize = 1_850;
/// Tunnels that exchange messages of 1 byte to 1 MiB, one at a time.
const SIZED: usize = 140;
/// Tunnels that send and do not read before the upgrades are over.
const SLOW: usize = 10;
const UPGRADES: usize = 3;

/// State that all clients share.
#[derive(Default)]
struct Course {
    over: AtomicBool,
    exchanges: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrades_under_load_lose_repeat_and_reorder_nothing() {
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let lab = Lab::start().await;
    // The slow ones read nothing for as long as the upgrades take.
    let mut gateway = lab.gateway("    tunnel: { stall: off, tcp_user_timeout: off }\n").await;
    let address = gateway.address();
    let course = Arc::new(Course::default());
    let read = watch::Sender::new(false);
    let mut clients: Vec<JoinHandle<()>> = Vec::new();
    for number in 0..SMALL + SIZED + SLOW {
        let tunnel = open(address, number).await;
        clients.push(match number {
            _ if number < SMALL => tokio::spawn(small(tunnel, number, Arc::clone(&course))),
            _ if number < SMALL + SIZED => tokio::spawn(sized(tunnel, number, Arc::clone(&course))),
            _ => tokio::spawn(slow(tunnel, number, read.subscribe())),
        });
    }
    let mut old = Vec::new();
    for _ in 0..UPGRADES {
        exchange_for_a_while(&course).await;
        old.push(upgrade(&mut gateway).await);
        assert!(clients.iter().all(|client| !client.is_finished()), "a tunnel failed");
    }
    exchange_for_a_while(&course).await;
    read.send(true).unwrap();
    course.over.store(true, SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    for process in &mut old {
        let moved = format!("handed over: {} tunnels moved, 0 stayed", SMALL + SIZED + SLOW);
        process.log.find(&[&moved]).await;
        process.access.to_the_end().await;
        assert_eq!(process.access.count(&[" tunnel_end "]), 0);
        assert!(process.status().is_some(), "only one process is left");
    }
    assert!(gateway.status().is_none());
    gateway.access.find_nth(&[" tunnel_end "], SMALL + SIZED + SLOW - 1).await;
    gateway.access.find_nth(&[" tunnel_end ", "reason=client_close"], SMALL + SIZED + SLOW - 1).await;
}

/// Waits for so many exchanges as there are tunnels.
async fn exchange_for_a_while(course: &Course) {
    let enough = course.exchanges.load(SeqCst) + SMALL;
    let reached = async {
        while course.exchanges.load(SeqCst) < enough {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("exchanges", reached).await;
}

async fn open(address: SocketAddr, number: usize) -> Tunnel {
    let source = Ipv4Addr::new(127, 1, (number >> 7) as u8, 1 + (number & 0x7f) as u8);
    Tunnel::open_from(address, "/echo", source, number >= SMALL + SIZED).await
}

async fn small(mut tunnel: Tunnel, number: usize, course: Arc<Course>) {
    let mut random = StdRng::seed_from_u64(number as u64);
    while !course.over.load(SeqCst) {
        tokio::time::sleep(Duration::from_millis(random.random_range(0..2_000))).await;
        tunnel.echoes().await;
        course.exchanges.fetch_add(1, SeqCst);
    }
    tunnel.close().await;
}

async fn sized(mut tunnel: Tunnel, number: usize, course: Arc<Course>) {
    let mut random = StdRng::seed_from_u64(number as u64);
    while !course.over.load(SeqCst) {
        // As many sizes between 1 and 2 as between 512 KiB and 1 MiB.
        let size = 2f64.powf(random.random_range(0.0..=20.0)) as usize;
        let mut message = vec![0; size];
        random.fill_bytes(&mut message);
        let bytes = frame(BINARY, &message, true);
        // Large ones come back while they are still being sent.
        let (mut from, mut to) = tunnel.stream.split();
        let (sent, received) =
            within("an exchange", async { tokio::join!(to.write_all(&bytes), read_frame(&mut from)) }).await;
        sent.unwrap();
        assert!(received.unwrap().payload == message, "another message came back");
        course.exchanges.fetch_add(1, SeqCst);
        tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await;
    }
    tunnel.close().await;
}

/// Sends without end and reads nothing until it is told to; everything on its way is pending until then.
async fn slow(tunnel: Tunnel, number: usize, mut read: watch::Receiver<bool>) {
    let (from, mut to) = tunnel.stream.into_split();
    let message = move |count: usize| [number.to_be_bytes(), count.to_be_bytes()].concat().repeat(4096);
    let told = read.clone();
    let writer = tokio::spawn(async move {
        let mut count = 0;
        while !*told.borrow() {
            to.write_all(&frame(BINARY, &message(count), true)).await.unwrap();
            count += 1;
        }
        to.write_all(&frame(CLOSE, &1000u16.to_be_bytes(), true)).await.unwrap();
        (to, count)
    });
    read.wait_for(|read| *read).await.unwrap();
    let mut from = BufReader::new(from);
    for count in 0.. {
        let received = within("a message", read_frame(&mut from)).await.unwrap();
        if received.first == CLOSE {
            let (_to, sent) = writer.await.unwrap();
            assert_eq!(count, sent, "every message came back");
            assert!(count > 16, "a megabyte was pending: {count}");
            return;
        }
        assert!(received.payload == message(count), "message {count} is another");
    }
}
