//! Time to apply changes of members: `cargo bench --bench members`
//!
//! Prints, for 10,000 members whose health is checked, the time from an answer's being due to its being in force: with
//! one member more, one at another address, one leaving, and none that differs. A table in Markdown; no verdict.
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on ends there")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use longhaul::access_log::AccessLog;
use longhaul::config::{self, NoHooks};
use longhaul::hook::HookRegistry;
use longhaul::metrics::Metrics;
use longhaul::reload::put_members_in_force;
use longhaul::snapshot::{Running, SnapshotOrigin};
use longhaul::tls::tickets::TicketKeys;
use longhaul::tunnel::Tunnels;
use longhaul::upstream::{Member, MemberLists, MemberSource};

const CONFIG: &str = "listeners: [{ address: 127.0.0.1:0 }]\nroutes: [{ upstream: a }]\n\
                      upstreams: { a: { discover: push, health: { interval: 1h } } }\n";

fn main() {
    // `cargo test --all-targets` runs benches too: a short form for it.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (count, rounds) = if is_bench { (10_000, 20) } else { (100, 1) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(measure(count, rounds));
}

async fn measure(count: u32, rounds: u32) {
    let before: Vec<Member> = (0..count).map(|number| member(number, 9)).collect();
    let running = gateway(lists(&before));
    running.check_health().await;
    println!("| {count} members, ms | median of {rounds} | longest |\n|---|---|---|");
    let one_more = |round: u32| {
        let mut members = before.clone();
        members.push(member(count + round, 9));
        members
    };
    let one_moved = |round: u32| {
        let mut members = before.clone();
        members[7] = member(7, 10 + round as u16);
        members
    };
    let one_leaves = |round: u32| {
        let mut members = before.clone();
        members[(round % count) as usize].leaving = true;
        members
    };
    row("one more", &running, rounds, &one_more).await;
    row("one at another address", &running, rounds, &one_moved).await;
    row("one leaving", &running, rounds, &one_leaves).await;
    put_members_in_force(&running, lists(&before)).await.unwrap();
    row("none differs", &running, rounds, &|_| before.clone()).await;
}

/// Applies the members of each round, and prints the times.
async fn row(what: &str, running: &Arc<Running>, rounds: u32, members: &dyn Fn(u32) -> Vec<Member>) {
    let mut times = Vec::new();
    for round in 0..rounds {
        let lists = lists(&members(round));
        let begun = Instant::now();
        put_members_in_force(running, lists).await.unwrap();
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!("| {what} | {:.2} | {:.2} |", ms(times[times.len() / 2]), ms(times[times.len() - 1]));
}

fn lists(members: &[Member]) -> MemberLists {
    let mut lists = MemberLists::default();
    lists.set("a", members.into());
    lists
}

/// A member at an address of its own, where nobody listens.
fn member(number: u32, port: u16) -> Member {
    let address = SocketAddr::from((Ipv4Addr::from_bits((127 << 24 | 1 << 16) + number), port));
    let name = format!("shard-{number}").into();
    Member { name, place: None, address, weight: 1, leaving: false, closing: None, source: MemberSource::Push }
}

fn gateway(members: MemberLists) -> Arc<Running> {
    let config = config::parse(CONFIG, &NoHooks).unwrap().config;
    let log = AccessLog::off();
    let tunnels = Arc::new(Tunnels::start(2, &log).unwrap());
    let (hooks, metrics) = (Arc::new(HookRegistry::empty()), Arc::new(Metrics::new()));
    let keys = TicketKeys::draw(SystemTime::now());
    Arc::new(
        Running::new(SnapshotOrigin { config: &config, members, hooks }, metrics, tunnels, log, keys, Instant::now())
            .unwrap(),
    )
}
