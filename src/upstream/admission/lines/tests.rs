//! Tests of the queues: order, turns, deadlines, room, and backends that stop taking anybody.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::upstream::{BackendState, Demand, LoadGuard, Registry, Room};

const MS: Duration = Duration::from_millis(1);

fn backend(registry: &Registry, name: &str) -> Arc<BackendState> {
    registry.backend("u", name, SocketAddr::from(([127, 0, 0, 1], 9000)))
}

/// Lines of two backends, and the clients that wait with the guards of their picks.
struct Lab {
    _registry: Registry,
    backends: [Arc<BackendState>; 2],
    lines: Lines<Ticket>,
    guards: HashMap<Ticket, LoadGuard>,
    start: Instant,
    next: Ticket,
}

impl Lab {
    fn new(rate: HandshakeRate, burst: u32, tunnels: Option<usize>) -> Self {
        let registry = Registry::default();
        let backends = ["one", "two"].map(|name| backend(&registry, name));
        let start = Instant::now();
        let mut lab =
            Self { _registry: registry, backends, lines: Lines::default(), guards: HashMap::new(), start, next: 0 };
        lab.enforce(rate, burst, tunnels, &["one", "two"], start);
        lab
    }

    fn enforce(
        &mut self,
        handshakes: HandshakeRate,
        burst: u32,
        tunnels: Option<usize>,
        listed: &[&str],
        now: Instant,
    ) {
        let admission = config::Admission { handshakes, burst, queue: 5, wait: MS * 1000 };
        let rules = QueueRules { admission: Some(admission), tunnels, is_checked: true, counts_keys: false };
        let listed = self.backends.iter().filter(|backend| listed.contains(&backend.name()));
        self.lines.enforce(rules, listed.map(|backend| Arc::clone(backend) as Arc<dyn QueuedBackend>), now);
    }

    /// Lets a new client ask for a turn at a backend.
    fn come(&mut self, backend: usize, now: Instant) -> (Ticket, Option<TurnVerdict>) {
        self.next += 1;
        (self.next, self.join(backend, self.next, now))
    }

    /// Lets a client that arrived earlier join the line of a backend.
    fn join(&mut self, backend: usize, ticket: Ticket, now: Instant) -> Option<TurnVerdict> {
        let state = &self.backends[backend];
        let guard = state.occupy_within(usize::MAX, Room::unbounded(Demand::Tunnel)).unwrap();
        self.guards.insert(ticket, guard);
        self.lines.join(&self.backends[backend], (ticket, self.start), || ticket, now)
    }

    /// Gives turns. Returns the clients that were woken, in order, and the moment of the next call.
    fn turn(&mut self, now: Instant) -> (Vec<(Ticket, TurnVerdict)>, Option<Instant>) {
        self.turn_after(&[], now)
    }

    fn turn_after(&mut self, freed: &[Arc<str>], now: Instant) -> (Vec<(Ticket, TurnVerdict)>, Option<Instant>) {
        let mut woken = Vec::new();
        let next = self.lines.turn(freed, now, &mut woken);
        let told = woken.into_iter().map(|ticket| (ticket, self.lines.fetch(ticket, |_| None).unwrap()));
        (told.collect(), next)
    }
}

const ADMITTED: TurnVerdict = TurnVerdict::Admitted;

#[test]
fn the_next_turn_comes_sooner_for_the_first_of_a_line_and_for_the_first_deadline() {
    let mut lab = Lab::new(HandshakeRate::PerSecond(1.0), 1, None);
    let now = lab.start;
    let mut sooner = |backend, ticket| lab.join(backend, ticket, now).is_none() && lab.lines.has_turn_sooner(ticket);
    // The first one has the token, and waits for nothing.
    assert_eq!([5, 6, 7].map(|ticket| sooner(0, ticket)), [false, true, false]);
    assert_eq!([8, 9, 10].map(|ticket| sooner(1, ticket)), [false, true, false]);
    assert!(sooner(0, 4), "the deadline of an older client is the first");
    let (woken, next) = lab.turn(now);
    assert_eq!((woken, next), (vec![], Some(now + MS * 1000)));
}

#[test]
fn clients_have_their_turns_in_order_of_arrival_and_at_the_rate() {
    let mut lab = Lab::new(HandshakeRate::PerSecond(100.0), 2, None);
    let start = lab.start;
    let came: Vec<_> = (0..5).map(|_| lab.come(0, start)).collect();
    assert_eq!(came.iter().filter(|(_, verdict)| *verdict == Some(ADMITTED)).count(), 2, "the burst");
    let (told, next) = lab.turn(start);
    assert!(told.is_empty());
    assert_eq!(lab.turn(next.unwrap()).0, [(3, ADMITTED)]);
    assert_eq!(lab.turn(start + MS * 31).0, [(4, ADMITTED), (5, ADMITTED)]);
    assert_eq!(lab.turn(start + MS * 500), (Vec::new(), None), "with nobody there is nothing to wait for");
}

#[test]
fn nobody_comes_before_those_who_wait() {
    let mut lab = Lab::new(HandshakeRate::PerSecond(100.0), 1, None);
    let start = lab.start;
    assert_eq!(lab.come(0, start).1, Some(ADMITTED));
    assert_eq!(lab.come(0, start).1, None);
    assert_eq!(lab.come(0, start + MS * 11).1, None, "there is a token, and it is another's");
    assert_eq!(lab.turn(start + MS * 11).0, [(2, ADMITTED)]);
}

#[test]
fn a_client_that_leaves_is_passed_over_and_costs_no_token() {
    let mut lab = Lab::new(HandshakeRate::PerSecond(100.0), 1, None);
    let start = lab.start;
    (0..4).for_each(|_| _ = lab.come(0, start));
    assert!(!lab.lines.leave(2));
    assert_eq!(lab.turn(start + MS * 11).0, [(3, ADMITTED)]);
    // Admitted, and gone before it heard of it.
    let mut woken = Vec::new();
    lab.lines.turn(&[], start + MS * 21, &mut woken);
    assert_eq!(woken, [4]);
    assert!(lab.lines.leave(4), "its token is there for others");
    assert_eq!(lab.come(0, start + MS * 21).1, Some(ADMITTED));
    assert_eq!(lab.lines.len(), 0);
}

#[test]
fn a_deadline_that_passes_and_a_full_queue_are_refused() {
    let mut lab = Lab::new(HandshakeRate::PerSecond(0.1), 1, None);
    let start = lab.start;
    (0..6).for_each(|_| _ = lab.come(0, start));
    assert_eq!(lab.come(0, start).1, Some(TurnVerdict::Refused(NotAdmitted::QueueFull)));
    let (told, next) = lab.turn(start);
    assert_eq!((told.len(), next), (0, Some(start + MS * 1000)));
    let (told, _) = lab.turn(start + MS * 1000);
    assert_eq!(told, (2..7).map(|ticket| (ticket, TurnVerdict::Refused(NotAdmitted::Deadline))).collect::<Vec<_>>());
}

#[test]
fn a_backend_that_dies_sends_its_clients_away_and_they_keep_their_order() {
    let mut lab = Lab::new(HandshakeRate::PerSecond(100.0), 1, None);
    let start = lab.start;
    for backend in [0, 1, 0, 1, 0, 1] {
        lab.come(backend, start);
    }
    lab.backends[0].set_draining(true);
    let (told, _) = lab.turn(start);
    assert_eq!(told, [(3, TurnVerdict::Again), (5, TurnVerdict::Again)]);
    for (ticket, _) in told {
        assert_eq!(lab.join(1, ticket, start), None);
    }
    let order: Vec<_> = (1..=4).flat_map(|turn| lab.turn(start + MS * (turn * 10 + 1)).0).collect();
    assert_eq!(order, [3, 4, 5, 6].map(|ticket| (ticket, ADMITTED)));
}

#[test]
fn where_nobody_else_is_left_clients_wait_at_a_backend_that_is_closed() {
    let mut lab = Lab::new(HandshakeRate::PerSecond(100.0), 1, None);
    let start = lab.start;
    (0..2).for_each(|_| _ = lab.come(0, start));
    lab.backends[0].set_draining(true);
    assert_eq!(lab.turn(start).0, [(2, TurnVerdict::Again)]);
    assert_eq!(lab.join(0, 2, start), None);
    assert_eq!(lab.turn(start).0, [], "it is not sent away again");
    assert_eq!(lab.turn(start + MS * 11).0, [(2, ADMITTED)]);
}

#[test]
fn clients_of_a_backend_that_left_the_configuration_go_elsewhere() {
    let mut lab = Lab::new(HandshakeRate::PerSecond(100.0), 1, None);
    let start = lab.start;
    (0..2).for_each(|_| _ = lab.come(0, start));
    lab.enforce(HandshakeRate::PerSecond(100.0), 1, None, &["two"], start);
    assert_eq!(lab.turn(start).0, [(2, TurnVerdict::Gone)]);
    assert_eq!(lab.come(0, start).1, Some(TurnVerdict::Gone));
    assert_eq!(lab.come(1, start).1, Some(ADMITTED));
}

#[test]
fn another_rate_is_in_force_for_those_who_wait() {
    let mut lab = Lab::new(HandshakeRate::PerSecond(0.01), 1, None);
    let start = lab.start;
    (0..4).for_each(|_| _ = lab.come(0, start));
    lab.enforce(HandshakeRate::PerSecond(100.0), 1, None, &["one", "two"], start);
    assert_eq!(lab.turn(start + MS * 11).0, [(2, ADMITTED)]);
    lab.enforce(HandshakeRate::Off, 1, None, &["one", "two"], start + MS * 11);
    assert_eq!(lab.turn(start + MS * 11).0, [(3, ADMITTED), (4, ADMITTED)]);
}

#[test]
fn a_full_backend_admits_as_tunnels_end() {
    let mut lab = Lab::new(HandshakeRate::Off, 1, Some(2));
    let start = lab.start;
    let came: Vec<_> = (0..4).map(|_| lab.come(0, start).1).collect();
    assert_eq!(came, [Some(ADMITTED), Some(ADMITTED), None, None]);
    assert_eq!(lab.turn(start), (Vec::new(), Some(start + MS * 1000)), "only deadlines are waited for");
    drop(lab.guards.remove(&1));
    assert_eq!(lab.turn(start).0, [(3, ADMITTED)]);
    assert_eq!(lab.turn(start).0, []);
}

#[test]
fn room_at_another_backend_is_offered_to_the_oldest_once() {
    let mut lab = Lab::new(HandshakeRate::Off, 1, Some(1));
    let start = lab.start;
    for backend in [0, 1, 0, 0] {
        lab.come(backend, start);
    }
    drop(lab.guards.remove(&2));
    let freed = ["two".into()];
    assert_eq!(lab.turn_after(&freed, start).0, [(3, TurnVerdict::Again)]);
    assert_eq!(lab.turn(start).0, []);
    assert_eq!(lab.join(1, 3, start), Some(ADMITTED));
}

#[test]
fn the_end_of_the_process_is_told_to_all() {
    let mut lab = Lab::new(HandshakeRate::PerSecond(1.0), 1, None);
    let start = lab.start;
    (0..3).for_each(|_| _ = lab.come(0, start));
    lab.lines.close();
    let draining = TurnVerdict::Refused(NotAdmitted::Draining);
    assert_eq!(lab.turn(start).0, [(2, draining), (3, draining)]);
    assert_eq!(lab.come(0, start).1, Some(draining));
}

#[test]
fn no_more_are_told_at_once_than_workers_can_serve_beside_their_tunnels() {
    let mut lab = Lab::new(HandshakeRate::PerSecond(0.01), 1, None);
    let start = lab.start;
    let admission = config::Admission { queue: 1_000, ..lab.lines.rules.admission.unwrap() };
    lab.lines.rules.admission = Some(admission);
    (0..201).for_each(|_| _ = lab.come(0, start));
    lab.backends[0].set_draining(true);
    let (mut now, mut all) = (start, Vec::new());
    loop {
        let (told, next) = lab.turn(now);
        assert!(told.len() <= MOST_AT_ONCE);
        all.extend(told.into_iter().map(|(ticket, _)| ticket));
        match next {
            Some(next) => now = next,
            None => break,
        }
    }
    assert_eq!(all, (2..=201).collect::<Vec<_>>(), "the oldest first");
}

proptest! {
    /// Whatever clients come and leave: within a line turns keep the order of arrival, and there are never more of them
    /// than burst and rate allow.
    #[test]
    fn order_and_rate_are_kept_whatever_comes(
        rate in 1.0..500.0f64,
        burst in 1..10u32,
        steps in prop::collection::vec((0..3u8, 0..30u32, 0..2usize), 1..300),
    ) {
        let mut lab = Lab::new(HandshakeRate::PerSecond(rate), burst, None);
        let (start, mut now, mut gone) = (lab.start, lab.start, Vec::new());
        let mut turns: [Vec<Ticket>; 2] = Default::default();
        let mut at = HashMap::new();
        for (what, milliseconds, backend) in steps {
            now += MS * milliseconds;
            let mut admitted = Vec::new();
            match what {
                0 => {
                    let (ticket, verdict) = lab.come(backend, now);
                    at.insert(ticket, backend);
                    admitted.extend((verdict == Some(ADMITTED)).then_some(ticket));
                }
                1 if lab.next > 0 => {
                    let ticket = 1 + u64::from(milliseconds) % lab.next;
                    lab.lines.leave(ticket);
                    gone.push(ticket);
                }
                _ => {
                    let told = lab.turn(now).0.into_iter();
                    admitted.extend(told.filter(|(_, verdict)| *verdict == ADMITTED).map(|(ticket, _)| ticket));
                }
            }
            for ticket in admitted {
                turns[at[&ticket]].push(ticket);
            }
            for turns in &turns {
                prop_assert!(turns.is_sorted(), "{turns:?}");
                let most = f64::from(burst) + rate * (now - start).as_secs_f64();
                prop_assert!(turns.len() as f64 <= most + 1e-3);
            }
        }
    }
}
