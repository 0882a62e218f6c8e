//! Measurement of lists and closes over as many tunnels as descriptors allow, for figures and not for truth:
//! `cargo test --release --lib status::measured -- --ignored --nocapture`

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on ends there")]

use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use super::{CloseAsked, Listing, TunnelFilter, TunnelsAsked};
use crate::access_log::AccessLog;
use crate::config::{self, TunnelLimits};
use crate::hook::{HookRegistry, TunnelId};
use crate::metrics::Metrics;
use crate::snapshot::{Running, SnapshotOrigin};
use crate::tls::tickets::TicketKeys;
use crate::tunnel::{Addresses, KeyMark, Look, NewTunnel, NextSlice, Record, Seen, Tunnels};

fn running() -> Running {
    let text = "listeners: [{ address: 127.0.0.1:0 }]\nroutes: [{ upstream: a }]\n\
                upstreams: { a: { health: off, backends: [127.0.0.1:9001] } }\n";
    let config = config::parse(text, &config::NoHooks).unwrap().config;
    let log = AccessLog::off();
    let tunnels = Arc::new(Tunnels::start(2, &log).unwrap());
    let keys = TicketKeys::draw(SystemTime::now());
    let origin =
        SnapshotOrigin { config: &config, members: Default::default(), hooks: Arc::new(HookRegistry::empty()) };
    Running::new(origin, Arc::new(Metrics::new()), tunnels, log, keys, Instant::now()).unwrap()
}

/// Opens a tunnel over two more descriptors of one connection, on which nothing ever comes.
fn open(running: &Running, end: &TcpStream) -> TunnelId {
    let snapshot = running.snapshot();
    let to = snapshot.destination("a").unwrap();
    let mut guard = to.upstream.states()[0].occupy();
    guard.mark_tunnel();
    let id = TunnelId::random();
    let record = Record {
        id,
        generation: 1,
        request_id: "b59dec5f45a89037e17f804c2677afe9".into(),
        addresses: Addresses::new([127, 0, 0, 1].into(), ([127, 0, 0, 1], 1).into()),
        rare: None,
        route: "* /".into(),
        key_source: None,
        by_hook: false,
        key: KeyMark::default(),
        guard,
        admitted: None,
        metrics: Arc::clone(&to.metrics),
    };
    let [client, backend] = [end.try_clone().unwrap(), end.try_clone().unwrap()];
    let limits = TunnelLimits { tcp_user_timeout: None, ..TunnelLimits::default() };
    let early = Default::default();
    running.tunnels.open(NewTunnel {
        client: client.into(),
        backend: backend.into(),
        early,
        limits,
        record,
        kept: None,
        hooks: None,
    });
    id
}

/// The longest time between the first and the last look of one slice.
async fn longest_slice(running: &Running) -> (Duration, usize) {
    let seen: Arc<Mutex<(Option<Instant>, Duration)>> = Arc::default();
    let told = Arc::clone(&seen);
    let look: Arc<Look> = Arc::new(move |_: &Seen<'_>| {
        let mut seen = told.lock().unwrap();
        let begun = *seen.0.get_or_insert_with(Instant::now);
        seen.1 = begun.elapsed();
    });
    let (mut next, mut longest, mut slices) = (Some(NextSlice::default()), Duration::ZERO, 0);
    while let Some(from) = next {
        next = running.tunnels.visit_slice(&look, from).await;
        let (_, took) = std::mem::take(&mut *seen.lock().unwrap());
        longest = longest.max(took);
        slices += 1;
    }
    (longest, slices)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn lists_and_closes() {
    let descriptors = rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let count = usize::try_from(descriptors.saturating_sub(200) / 2).unwrap().min(100_000);
    let running = running();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (near, _) = listener.accept().unwrap();
    near.set_nonblocking(true).unwrap();
    let ids: Vec<_> = (0..count).map(|_| open(&running, &near)).collect();
    let (longest, slices) = longest_slice(&running).await;

    let begun = Instant::now();
    let mut listing = Listing::begin(&running, &TunnelsAsked::default()).unwrap();
    let (mut rows, mut bytes) = (0, 0);
    while let Some(some) = listing.next().await {
        rows += some.len();
        bytes += some.iter().map(|row| serde_json::to_string(row).unwrap().len()).sum::<usize>();
    }
    let listed = begun.elapsed();
    assert_eq!(rows, count);

    let begun = Instant::now();
    let filter = TunnelFilter { ids: vec![ids[count - 1].to_string()], ..TunnelFilter::default() };
    let closed = CloseAsked { filter, ..CloseAsked::default() }.carry_out(&running).await.unwrap();
    let closing = begun.elapsed();
    assert_eq!(closed.closing, 1);
    let of_100_000 = |time: Duration| time.mul_f64(100_000.0 / count as f64);
    println!("{count} tunnels on 2 workers: {slices} slices, the longest {longest:?}");
    println!("listed in {listed:?} ({bytes} bytes of JSON); at 100,000: {:?}", of_100_000(listed));
    println!("one found and closed in {closing:?}; at 100,000: {:?}", of_100_000(closing));
}
