//! Growth of the cost of a pick, of finding a route and of limits with their number: `cargo bench --bench growth`
//!
//! What a worker's turns take by the number of its tunnels is measured within the library, by real tunnels:
//! `cargo test --release --lib tunnels::tests::growth -- --ignored --nocapture`
//!
//! Prints tables in Markdown: nanoseconds (the best of several batches, since other work on the machine only adds time)
//! and memory on the heap. There is no verdict, since times differ from machine to machine. The columns should stay
//! level or grow with the logarithm.
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on ends there")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use longhaul::config::{self, Backend, HostPattern, Route};
use longhaul::route::Routes;
use longhaul::tunnel::deadlines::Deadlines;
use longhaul::upstream::{LoadGuard, Member, Registry, Ring, Thresholds, Upstream};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

fn main() {
    // `cargo test --all-targets` runs benches too: a short form for it.
    let batch = if std::env::args().any(|argument| argument == "--bench") { 50 } else { 1 };
    let watch = Watch { batch: Duration::from_millis(batch) };
    picks(&watch);
    memory();
    routes(&watch);
    limits(&watch);
}

/// Pings every 30 s of so many tunnels, on a clock of the bench's own: limits come due, and are set anew.
fn limits(watch: &Watch) {
    println!("\n| a limit that is due, ns | {} |", TUNNELS.map(|count| format!("{count} tunnels")).join(" | "));
    println!("|---|{}", "---|".repeat(TUNNELS.len()));
    // The limits of tunnels that opened one after the other, and of those that opened together.
    for (name, within) in [("of its tunnel alone", 1.0), ("of all tunnels at once, each", 0.0)] {
        let figures = TUNNELS.map(|count| {
            let (start, mut deadlines) = (Instant::now(), deadlines(count, within));
            let mut now = start;
            let figure = watch.nanoseconds(|_| {
                loop {
                    if let Some(slot) = deadlines.take_due(now) {
                        deadlines.set(black_box(slot), now + PING);
                        return;
                    }
                    now = deadlines.next().unwrap();
                }
            });
            format!("{figure:.0}")
        });
        println!("| {name} | {} |", figures.join(" | "));
    }
    let memory = TUNNELS.map(|count| format!("{:.1}", bytes(|| deadlines(count, 1.0)) as f64 / count as f64));
    println!("| memory of each, bytes | {} |", memory.join(" | "));
}

/// Deadlines of so many tunnels, spread over a share of the time between two Pings.
fn deadlines(count: usize, within: f64) -> Deadlines {
    let start = Instant::now();
    let mut deadlines = Deadlines::new(start);
    for slot in 0..count {
        deadlines.set(slot, start + PING.mul_f64(within * slot as f64 / count as f64));
    }
    deadlines
}

/// Measures the time of one call.
struct Watch {
    batch: Duration,
}

impl Watch {
    /// Nanoseconds a call, in the best of [`BATCHES`]. Each call gets its number.
    fn nanoseconds(&self, mut call: impl FnMut(u32)) -> f64 {
        let mut number = 0;
        let batches = [(); BATCHES].map(|()| {
            let begun = Instant::now();
            let first = number;
            while begun.elapsed() < self.batch {
                for _ in 0..CALLS {
                    call(number);
                    number = number.wrapping_add(1);
                }
            }
            begun.elapsed().as_nanos() as f64 / f64::from(number.wrapping_sub(first))
        });
        batches.into_iter().fold(f64::INFINITY, f64::min)
    }
}

/// State of the backends while picks are measured.
#[derive(Clone, Copy)]
enum Up {
    All,
    /// One of this many is up.
    OneOf(usize),
    /// Exactly one is up.
    One,
}

fn picks(watch: &Watch) {
    println!("| pick, ns | {} |", SIZES.map(|size| format!("{size} backends")).join(" | "));
    println!("|---|{}", "---|".repeat(SIZES.len()));
    let rows: [(&str, bool, Option<f64>, Up); 9] = [
        ("with a key", true, None, Up::All),
        ("with a key, 90 % down", true, None, Up::OneOf(10)),
        ("with a key, all down but one", true, None, Up::One),
        ("with a key, `balance_factor`", true, Some(1.25), Up::All),
        ("with a key, `balance_factor`, 90 % down", true, Some(1.25), Up::OneOf(10)),
        ("without a key", false, None, Up::All),
        ("without a key, 90 % down", false, None, Up::OneOf(10)),
        ("without a key, all down but one", false, None, Up::One),
        ("a backend goes down and up again", true, None, Up::All),
    ];
    for (row, (name, keyed, factor, up)) in rows.into_iter().enumerate() {
        let figures = SIZES.map(|size| {
            let (upstream, _load) = loaded(size, factor, up);
            let figure = if row == rows.len() - 1 {
                watch.nanoseconds(|number| fall_and_rise(&upstream, number as usize % size))
            } else {
                watch.nanoseconds(|number| {
                    let key = number.to_le_bytes();
                    black_box(upstream.pick(keyed.then_some(&key[..]), &[]).unwrap());
                })
            };
            format!("{figure:.0}")
        });
        println!("| {name} | {} |", figures.join(" | "));
    }
    println!();
}

/// Backends of weight 1, each with one to four tunnels on it.
fn loaded(size: usize, balance_factor: Option<f64>, up: Up) -> (Upstream, Vec<LoadGuard>) {
    let upstream = Upstream::compile(&upstream(size, balance_factor), &Registry::default());
    for index in 0..size {
        let stays = match up {
            Up::All => true,
            Up::OneOf(each) => index % each == 0,
            Up::One => index == size / 2,
        };
        if !stays {
            assert!(upstream.connect_failed(index, "refused").is_some());
        }
    }
    let load = (0..size).flat_map(|index| (0..=index % 4).map(move |_| index));
    let load = load.map(|index| upstream.states()[index].occupy()).collect();
    (upstream, load)
}

fn fall_and_rise(upstream: &Upstream, index: usize) {
    upstream.connect_failed(index, "refused");
    upstream.states()[index].check_passed(Thresholds { rise: 1, fall: 1 }, "passed", std::time::Instant::now());
}

fn upstream(size: usize, balance_factor: Option<f64>) -> config::Upstream {
    let address = |n: usize| SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 80));
    config::Upstream {
        name: "u".to_owned(),
        affinity: Vec::new(),
        backends: (0..size).map(|n| Backend { name: None, address: address(n), weight: 1 }).collect(),
        discover: None,
        balance_factor,
        health: Some(config::Health { fall: 1, rise: 1, ..config::Health::default() }),
        fail_open: false,
        tries: 2,
        drain_window: Duration::from_secs(30),
        on_change: config::OnChange::Close,
        rehome: None,
        timeouts: config::Timeouts::default(),
        tunnel: config::TunnelLimits::default(),
        rates: config::TunnelRates::default(),
        tls: None,
        limits: config::BackendLimits::default(),
        admission: None,
        absent: None,
        proxy_protocol: None,
    }
}

fn memory() {
    println!("| memory, KiB | {} |", SIZES.map(|size| format!("{size} backends")).join(" | "));
    println!("|---|{}", "---|".repeat(SIZES.len()));
    let rings = SIZES.map(|size| kib(|| Ring::new(&Member::of(&upstream(size, None)))));
    println!("| the ring | {} |", rings.join(" | "));
    let upstreams = SIZES.map(|size| {
        let registry = Registry::default();
        kib(|| Upstream::compile(&upstream(size, Some(1.25)), &registry))
    });
    println!("| the upstream, with ring and live state | {} |\n", upstreams.join(" | "));
}

fn kib<T>(make: impl FnOnce() -> T) -> String {
    format!("{:.1}", bytes(make) as f64 / 1024.0)
}

/// Memory that the result of `make` takes on the heap.
fn bytes<T>(make: impl FnOnce() -> T) -> usize {
    let region = Region::new(ALLOCATOR);
    let made = make();
    let change = region.change();
    drop(made);
    change.bytes_allocated - change.bytes_deallocated
}

fn routes(watch: &Watch) {
    println!("| finding a route, ns | {} |", ROUTES.map(|count| format!("{count} routes")).join(" | "));
    println!("|---|{}", "---|".repeat(ROUTES.len()));
    type Named = fn(u32) -> (HostPattern, String);
    let by_path: Named = |n| (HostPattern::Any, format!("/api/v1/service-{n}"));
    let by_host: Named = |n| (HostPattern::Exact(format!("tenant-{n}.chat.example.com")), "/ws".to_owned());
    let by_wildcard: Named = |n| (HostPattern::Wildcard(format!("tenant-{n}.example.com")), "/".to_owned());
    for (name, named, asked) in [
        ("by path", by_path, ("chat.example.com", "/api/v1/service-0/room/7")),
        ("by host", by_host, ("tenant-0.chat.example.com", "/ws")),
        ("by wildcard", by_wildcard, ("eu.tenant-0.example.com", "/ws/room")),
        ("none fits", by_host, ("other.example.org", "/nowhere")),
    ] {
        let figures = ROUTES.map(|count| {
            let route = |n| {
                let (host, path) = named(n);
                let (compression, handshake) = (config::Compression::default(), config::Handshake::default());
                let upstream = "u".to_owned();
                let (affinity, hooks, body_size, limits) = (None, Vec::new(), None, Default::default());
                Route {
                    host,
                    path,
                    upstream,
                    affinity,
                    hooks,
                    compression,
                    handshake,
                    body_size,
                    limits,
                    reattach: None,
                }
            };
            let routes = Routes::compile(&(0..count).map(route).collect::<Vec<_>>());
            let figure = watch.nanoseconds(|_| {
                black_box(routes.find(Some(black_box(asked.0)), black_box(asked.1)));
            });
            format!("{figure:.0}")
        });
        println!("| {name} | {} |", figures.join(" | "));
    }
}

const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
const TUNNELS: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
const PING: Duration = Duration::from_secs(30);
const ROUTES: [u32; 3] = [1, 100, 10_000];
const BATCHES: usize = 5;
/// Calls between two readings of the clock.
const CALLS: u32 = 64;
