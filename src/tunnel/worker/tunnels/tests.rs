//! Turns of a worker, counted: whom they drive, how far, and at whose limits they look.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use mio::{Events, Poll};

use super::turns::{BULK_BYTES, HEAVY, SHORT_FOR};
use super::*;
use crate::config::TunnelLimits;
use crate::metrics::WorkerMetrics;
use crate::tunnel::worker::tests::plain::{Far, MESSAGE, plain};

/// Open tunnels whose turns the test takes.
struct Bench {
    poll: Poll,
    tunnels: OpenTunnels,
    /// Bytes kept.
    kept: IntGauge,
    now: Instant,
}

impl Bench {
    fn start() -> Self {
        Self::start_by(Engine::Auto)
    }

    fn start_by(engine: Engine) -> Self {
        let (poll, now) = (Poll::new().unwrap(), Instant::now());
        let registry = Rc::new(poll.registry().try_clone().unwrap());
        let kept = WorkerMetrics::new().kept().clone();
        let (log, changes) = (AccessLog::off(), ChangeSignal::default());
        let keys = Arc::new(RatedKeys::new());
        let shared = Shared { engine, log, caller: None, limits: Arc::default(), kept: kept.clone(), changes, keys };
        let tunnels = OpenTunnels::new(registry, Arc::default(), shared, now);
        Self { poll, tunnels, kept, now }
    }

    /// Opens a tunnel; slots are given in order.
    fn open(&mut self, limits: TunnelLimits) -> Far {
        let (tunnel, far) = plain("a", limits);
        self.tunnels.open(Box::new(tunnel), self.now);
        assert!(!self.tunnels.is_busy(), "nothing has come");
        far
    }

    /// The poller says that the client of a tunnel has sent something.
    fn tell(&mut self, slot: usize) {
        let readiness = Readiness { readable: true, writable: true, hung_up: false };
        self.tunnels.note(token_of(slot, Side::Client), readiness);
        self.tunnels.note(token_of(slot, Side::Backend), Readiness { readable: false, ..readiness });
    }

    /// Waits until so many bytes of a client have come: the system may take a moment to bring them over.
    fn arrived(&self, slot: usize, bytes: usize) {
        self.arrived_by(slot, bytes, || ());
    }

    /// The same, with something to be done meanwhile.
    fn arrived_by(&self, slot: usize, bytes: usize, mut meanwhile: impl FnMut()) {
        let until = Instant::now() + PATIENCE;
        while rustix::io::ioctl_fionread(self.tunnels.slots[slot].pair.stream(Side::Client)).unwrap() < bytes as u64 {
            assert!(Instant::now() < until, "{bytes} bytes of the client's have not come");
            meanwhile();
            std::thread::yield_now();
        }
    }

    fn volumes(&self) -> Vec<u64> {
        let volume = |tunnel: &Tunnel| Side::ALL.into_iter().map(|side| tunnel.pair.passed(side).0).sum();
        self.tunnels.slots.iter().map(|(_, tunnel)| volume(tunnel)).collect()
    }
}

/// Fills the client's way with one long message; the backend reads everything.
fn fill(far: &mut Far) {
    far.client.write_all(&[0x82, 0xFF, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    far.client.set_nonblocking(true).unwrap();
    fill_up(far);
}

/// Fills it again, with more of the message.
fn fill_up(far: &mut Far) {
    loop {
        match far.client.write(&[7; 64 * 1024]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("{error}"),
        }
    }
}

mod crowd;
mod growth;
mod slices;
mod together;

#[test]
fn between_two_looks_at_the_poller_all_bulk_tunnels_together_move_one_slice() {
    let mut bench = Bench::start();
    let mut bulk: Vec<Far> = (0..4).map(|_| bench.open(TunnelLimits::default())).collect();
    let mut small = bench.open(TunnelLimits::default());
    for (slot, far) in bulk.iter_mut().enumerate() {
        // All that the turns below move is there before the first of them: no turn waits for the system.
        let ours = socket2::SockRef::from(bench.tunnels.slots[slot].pair.stream(Side::Client));
        ours.set_recv_buffer_size(1024 * 1024).unwrap();
        fill(far);
        bench.arrived_by(slot, READ_BYTES + 5 * BULK_BYTES, || fill_up(far));
    }
    (0..4).for_each(|slot| bench.tell(slot));
    // Nobody knows yet that they are.
    bench.tunnels.drive(bench.now);
    let mut before: Vec<u64> = bench.volumes();
    assert!(before[..4].iter().all(|moved| (1..=READ_BYTES as u64).contains(moved)), "{before:?}");
    let mut turns_of = [0; 4];
    for turn in 0..16 {
        small.client.write_all(&MESSAGE).unwrap();
        bench.arrived(4, MESSAGE.len());
        bench.tell(4);
        // Events of those that wait for their turn do not give them another one.
        (0..4).for_each(|slot| bench.tell(slot));
        bulk.iter_mut().for_each(|far| drain(&mut far.backend));
        bench.tunnels.drive(bench.now);
        let after = bench.volumes();
        let moved: Vec<u64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
        assert_eq!(moved[4], MESSAGE.len() as u64, "turn {turn}: the small message passed in the turn it came");
        assert!(moved[..4].iter().sum::<u64>() <= BULK_BYTES as u64, "turn {turn}: {moved:?}");
        for (count, _) in turns_of.iter_mut().zip(&moved).filter(|(_, moved)| **moved > 0) {
            *count += 1;
        }
        before = after;
    }
    assert!(turns_of.iter().all(|turns| *turns == 4), "each has its share: {turns_of:?}");
}

#[test]
fn bulk_tunnels_have_the_whole_buffer_again_when_nobody_else_has_been_in_use_for_a_while() {
    let mut bench = Bench::start();
    let mut bulk = bench.open(TunnelLimits::default());
    let mut small = bench.open(TunnelLimits::default());
    fill(&mut bulk);
    let mut turn = |bench: &mut Bench, small_too: bool| {
        fill_up(&mut bulk);
        bench.arrived(0, BULK_BYTES + 1);
        if small_too {
            small.client.write_all(&MESSAGE).unwrap();
            bench.arrived(1, MESSAGE.len());
            bench.tell(1);
        }
        bench.tell(0);
        let before = bench.volumes()[0];
        bench.tunnels.drive(bench.now);
        drain(&mut bulk.backend);
        bench.volumes()[0] - before
    };
    assert!(turn(&mut bench, false) > BULK_BYTES as u64, "nobody knows yet that it is one");
    let slice = HEAVY.into()..=BULK_BYTES as u64;
    assert!(slice.contains(&turn(&mut bench, true)));
    bench.now += SHORT_FOR - Duration::from_millis(1);
    assert!(slice.contains(&turn(&mut bench, false)));
    bench.now += Duration::from_millis(1);
    assert!(turn(&mut bench, false) > BULK_BYTES as u64);
}

#[test]
fn bulk_tunnels_do_not_shorten_the_slices_of_each_other() {
    let mut bench = Bench::start();
    let mut bulk: Vec<Far> = (0..2).map(|_| bench.open(TunnelLimits::default())).collect();
    let long = [&[0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[7; 64 * 1024]].concat();
    let mut turn = |bench: &mut Bench| {
        for (slot, far) in bulk.iter_mut().enumerate() {
            let ours = socket2::SockRef::from(bench.tunnels.slots[slot].pair.stream(Side::Client));
            ours.set_recv_buffer_size(1024 * 1024).unwrap();
            far.client.write_all(&long).unwrap();
            bench.arrived(slot, long.len());
            bench.tell(slot);
        }
        let before = bench.volumes();
        bench.tunnels.drive(bench.now);
        bulk.iter_mut().for_each(|far| drain(&mut far.backend));
        bench.volumes().iter().zip(before).map(|(after, before)| after - before).collect::<Vec<_>>()
    };
    assert_eq!(turn(&mut bench), [long.len() as u64; 2], "nobody knows yet that they are");
    // As after a turn in which only the end of its message was left.
    bench.tunnels.slots[0].heavy = false;
    assert_eq!(turn(&mut bench), [long.len() as u64; 2]);
}

#[test]
fn bytes_that_a_receiver_does_not_take_are_counted_until_it_does_or_the_tunnel_is_gone() {
    let mut bench = Bench::start();
    let mut all: Vec<Far> = (0..2).map(|_| bench.open(TunnelLimits::default())).collect();
    all.iter_mut().for_each(fill);
    let kept = |bench: &Bench| -> usize { bench.tunnels.slots.iter().map(|(_, tunnel)| tunnel.pair.kept()).sum() };
    assert_eq!((bench.kept.get(), kept(&bench)), (0, 0));
    // Until the ways to the backends are full.
    while bench.tunnels.slots.iter().any(|(_, tunnel)| tunnel.pair.kept() == 0) {
        all.iter_mut().for_each(fill_up);
        (0..2).for_each(|slot| bench.tell(slot));
        bench.tunnels.drive(bench.now);
    }
    assert_eq!(bench.kept.get(), i64::try_from(kept(&bench)).unwrap());
    while bench.tunnels.slots[0].pair.kept() > 0 {
        drain(&mut all[0].backend);
        bench.tell(0);
        bench.tunnels.drive(bench.now);
    }
    let second = i64::try_from(bench.tunnels.slots[1].pair.kept()).unwrap();
    assert!(second > 0);
    assert_eq!(bench.kept.get(), second, "the first one's receiver has taken everything");
    bench.tunnels.remove(1, bench.now);
    assert_eq!(bench.kept.get(), 0);
}

fn drain(stream: &mut std::net::TcpStream) {
    stream.set_nonblocking(true).unwrap();
    let mut buffer = [0; 64 * 1024];
    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
}

#[test]
fn a_due_limit_is_looked_at_alone_and_a_tunnel_in_use_once_in_its_time() {
    let mut bench = Bench::start();
    let idle = |seconds| TunnelLimits { idle: Some(Duration::from_secs(seconds)), ..TunnelLimits::default() };
    let _others: Vec<Far> = (0..100).map(|_| bench.open(idle(3_600))).collect();
    let mut used = bench.open(idle(10));
    let start = bench.now;
    let mut looks = Vec::new();
    for second in 1..=25 {
        bench.now = start + Duration::from_secs(second);
        used.client.write_all(&MESSAGE).unwrap();
        bench.arrived(100, MESSAGE.len());
        bench.tell(100);
        bench.tunnels.drive(bench.now);
        looks.push(bench.tunnels.check(bench.now));
    }
    assert_eq!(looks.iter().sum::<usize>(), 2, "its limit is put off by every message: {looks:?}");
    bench.now = start + Duration::from_secs(40);
    assert_eq!(bench.tunnels.check(bench.now), 1);
    assert!(bench.tunnels.slots[100].pair.is_ending());
    assert!(bench.tunnels.due().is_some_and(|due| due <= bench.now + Duration::from_secs(6)));
}

#[test]
fn idle_tunnels_wake_nobody_before_their_first_limit() {
    let mut bench = Bench::start();
    let idle = TunnelLimits { idle: Some(Duration::from_secs(600)), ..TunnelLimits::default() };
    let _fars: Vec<Far> = (0..20).map(|_| bench.open(idle)).collect();
    assert!(!bench.tunnels.is_busy());
    assert!(bench.tunnels.due().is_some_and(|due| due >= bench.now + Duration::from_secs(600)));
}

#[test]
fn the_poller_says_that_a_side_has_room_only_where_it_had_none() {
    let mut bench = Bench::start();
    let mut far = bench.open(TunnelLimits::default());
    let mut events = Events::with_capacity(8);
    bench.poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
    assert!(events.is_empty(), "a tunnel that opens has nothing to do: {events:?}");

    fill(&mut far);
    while !bench.tunnels.slots[0].pair.takes_no_more(Side::Backend) {
        bench.tunnels.note(token_of(0, Side::Client), Readiness { readable: true, writable: false, hung_up: false });
        bench.tunnels.drive(bench.now);
        fill_up(&mut far);
    }
    far.backend.set_nonblocking(true).unwrap();
    let has_room =
        |events: &Events| events.iter().any(|event| event.token() == token_of(0, Side::Backend) && event.is_writable());
    while !has_room(&events) {
        while far.backend.read(&mut [0; 64 * 1024]).is_ok() {}
        bench.poll.poll(&mut events, Some(PATIENCE)).unwrap();
        assert!(!events.is_empty(), "the backend has taken everything");
    }
}

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
