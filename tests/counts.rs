//! Allocations of the hot paths: none for a message, a pick or a route, and a stated number for a handshake. Bytes that
//! an idle tunnel takes, and that are left when it has ended.
//!
//! The count is of the whole process, so other work can only add to it: the least of several rounds counts.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]
#![allow(unreachable_pub, reason = "a test binary's modules are seen by nobody else")]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longhaul::access_log::AccessLog;
use longhaul::config::{HostPattern, Route, TunnelLimits};
use longhaul::route::Routes;
use longhaul::tunnel::Tunnels;
use longhaul::upstream::{Registry, Upstream};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[allow(dead_code, reason = "not every test binary needs all of it")]
#[path = "support/certificates.rs"]
mod certificates;
#[path = "counts/crowd.rs"]
mod crowd;
#[path = "support/lane.rs"]
mod lane;
#[path = "counts/sealed.rs"]
mod sealed;
#[path = "support/shake.rs"]
mod shake;
use crowd::{Common, Crowd};
use lane::Lane;
use sealed::SealedLane;
use shake::{parse, serve, shake};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// The most allocations that a handshake may cost, from the accepted connection to the end of the tunnel: the headers
/// of both sides, the key and the request's id, the handshake and the tunnel themselves. 43 were counted; a fifth is
/// room for other versions of what is below us.
const MOST_PER_HANDSHAKE: usize = 52;

/// The most bytes that an idle plain tunnel may take: its own allocation, in a class of 512 bytes, and its places in
/// the lists of its worker, which have room for up to twice as many as there are. 533 were counted.
const MOST_PER_TUNNEL: usize = 552;
/// The most bytes that may be left of any number of tunnels: room for up to 128 in each list, and for those of one turn
/// in the list of that turn, which is in use while they go. 5,920 were counted.
const MOST_LEFT: usize = 8_192;

/// Lock of the test that counts: tests of one binary run at the same time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    // A test that failed under the lock left no state behind.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Number of allocations and reallocations of `work`, in the best of [`ROUNDS`].
fn allocations(mut work: impl FnMut()) -> usize {
    let round = |_| {
        let region = Region::new(ALLOCATOR);
        work();
        let change = region.change();
        change.allocations + change.reallocations
    };
    (0..ROUNDS).map(round).min().unwrap()
}

#[test]
fn a_message_allocates_nothing() {
    let _alone = alone();
    let tunnels = Tunnels::start(1, &AccessLog::off()).unwrap();
    let mut lane = Lane::open(&tunnels, TunnelLimits::default());
    lane.exchange();
    assert_eq!(allocations(|| (0..1_000).for_each(|_| lane.exchange())), 0, "by 2,000 messages");
}

#[test]
fn a_message_by_tls_allocates_nothing() {
    let _alone = alone();
    let tunnels = Tunnels::start(1, &AccessLog::off()).unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut lane = SealedLane::open(&tunnels, version);
        lane.exchange();
        assert_eq!(allocations(|| (0..1_000).for_each(|_| lane.exchange())), 0, "by 2,000 messages, {version:?}");
    }
}

#[test]
fn a_message_under_limits_allocates_nothing() {
    let _alone = alone();
    let tunnels = Tunnels::start(1, &AccessLog::off()).unwrap();
    let mut limits = TunnelLimits::default();
    limits.idle = Some(Duration::from_secs(60));
    limits.max_age = Some(Duration::from_secs(600));
    limits.ping = Some(Duration::from_secs(30));
    limits.max_message = Some(1024);
    let mut lane = Lane::open(&tunnels, limits);
    lane.exchange();
    assert_eq!(allocations(|| (0..1_000).for_each(|_| lane.exchange())), 0, "by 2,000 messages");
}

#[test]
fn messages_on_many_tunnels_at_once_allocate_nothing() {
    let _alone = alone();
    let tunnels = Tunnels::start(2, &AccessLog::off()).unwrap();
    let mut lanes: Vec<Lane> = (0..64).map(|_| Lane::open(&tunnels, TunnelLimits::default())).collect();
    let mut exchange = || {
        lanes.iter_mut().for_each(Lane::send);
        lanes.iter_mut().for_each(Lane::answer);
        lanes.iter_mut().for_each(Lane::hear);
    };
    (0..20).for_each(|_| exchange());
    assert_eq!(allocations(|| (0..20).for_each(|_| exchange())), 0, "by 2,560 messages");
}

#[test]
fn an_idle_tunnel_takes_no_more_memory_than_is_stated_and_leaves_none() {
    let _alone = alone();
    let tunnels = Tunnels::start(1, &AccessLog::off()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let common = Common::new();
    // Whoever is shown all tunnels knows that the worker has seen to all of them.
    let settle = || runtime.block_on(tunnels.visit(Arc::new(|_| {})));
    let leave = |crowd: Crowd| {
        crowd.leave();
        runtime.block_on(tunnels.changes().wait_until(|| tunnels.count() == 0));
        settle();
    };
    leave(Crowd::open(&tunnels, &common, 1));
    let region = Region::new(ALLOCATOR);
    let live = || {
        let change = region.change();
        change.bytes_allocated.saturating_sub(change.bytes_deallocated)
    };
    let round = |_| {
        let crowd = Crowd::open(&tunnels, &common, CROWD);
        settle();
        let each = live() / CROWD;
        leave(crowd);
        (each, live())
    };
    let rounds: Vec<(usize, usize)> = (0..ROUNDS).map(round).collect();
    let least = |of: fn(&(usize, usize)) -> usize| rounds.iter().map(of).min().unwrap();
    let (each, left) = (least(|round| round.0), least(|round| round.1));
    assert!(each <= MOST_PER_TUNNEL, "{each} bytes a tunnel, {MOST_PER_TUNNEL} are stated");
    assert!(left <= MOST_LEFT, "{left} bytes are left of {CROWD} tunnels, {MOST_LEFT} are stated");
}

#[test]
fn a_pick_allocates_nothing() {
    let _alone = alone();
    let address = |n: u16| format!("127.0.{}.{}:9000", n / 250, n % 250 + 1);
    let backends: Vec<_> = (0..1_000).map(address).collect();
    for policy in ["", "balance_factor: 1.25"] {
        let upstream = format!("backends: [{}]\n    {policy}", backends.join(", "));
        let upstream = Upstream::compile(&parse(&upstream).upstreams[0], &Registry::default());
        for down in (0..1_000).filter(|index| index % 10 > 0) {
            while upstream.is_up(down) {
                upstream.connect_failed(down, "refused");
            }
        }
        let pick = |n: u32| {
            let key = n.to_le_bytes();
            drop(upstream.pick(n.is_multiple_of(2).then_some(&key[..]), &[]).unwrap());
        };
        assert_eq!(allocations(|| (0..1_000).for_each(pick)), 0, "by 1,000 picks, {policy}");
    }
}

#[test]
fn finding_a_route_allocates_nothing() {
    let _alone = alone();
    let route = |n: usize| Route {
        host: HostPattern::Exact(format!("tenant-{n}.example.com")),
        path: "/ws".to_owned(),
        upstream: "u".to_owned(),
        affinity: None,
        compression: longhaul::config::Compression::Inspect,
        handshake: longhaul::config::Handshake::Strict,
        body_size: None,
        limits: Default::default(),
        reattach: None,
        hooks: Vec::new(),
    };
    let routes = Routes::compile(&(0..1_000).map(route).collect::<Vec<_>>());
    let find = |_| assert_eq!(routes.find(Some("tenant-7.example.com:443"), "/ws/room"), Some(7));
    assert_eq!(allocations(|| (0..1_000).for_each(find)), 0, "by 1,000 requests");
}

#[test]
fn a_handshake_allocates_no_more_than_is_stated() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let gateway = serve(dir.path(), None);
    (0..HANDSHAKES).for_each(|_| shake(gateway));
    let each = allocations(|| (0..HANDSHAKES).for_each(|_| shake(gateway))).div_ceil(HANDSHAKES);
    assert!(each <= MOST_PER_HANDSHAKE, "{each} allocations a handshake, {MOST_PER_HANDSHAKE} are stated");
}

const ROUNDS: usize = 5;
const HANDSHAKES: usize = 100;
/// Tunnels at once; twice as many descriptors are open by default.
const CROWD: usize = 400;
