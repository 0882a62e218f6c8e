//! Lines before backends that are away: their order, their bounds and their end.

use std::sync::Mutex;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// A backend whose presence the test sets.
#[derive(Debug)]
struct Told {
    name: &'static str,
    presence: Mutex<Presence>,
    checks: AtomicUsize,
}

impl Told {
    fn away(name: &'static str, until: Instant) -> Arc<Self> {
        Arc::new(Self { name, presence: Mutex::new(Presence::Away(until)), checks: AtomicUsize::new(0) })
    }

    fn become_(&self, presence: Presence) {
        *self.presence.lock().unwrap() = presence;
    }
}

impl Awaited for Told {
    fn name(&self) -> &str {
        self.name
    }

    fn presence(&self, _: Duration, _: Instant) -> Presence {
        *self.presence.lock().unwrap()
    }

    fn want_check(&self) {
        self.checks.fetch_add(1, Relaxed);
    }
}

/// Lines of the backends `one` and `two`, in which as many may wait as `queue` says.
fn lines(queue: usize) -> Lines<Ticket> {
    let rules = Some(config::Absent { hold: MS * 1000, queue });
    Lines { rules, listed: ["one", "two"].map(Arc::from).into(), ..Lines::default() }
}

fn join(lines: &mut Lines<Ticket>, at: &Arc<Told>, ticket: Ticket, deadline: Instant) -> Result<(), HeldEnd> {
    lines.join(Arc::clone(at) as Arc<dyn Awaited>, ticket, deadline, || ticket)
}

/// Clients that a turn tells, in order, each with its end.
fn turn(lines: &mut Lines<Ticket>, now: Instant) -> Vec<(Ticket, HeldEnd)> {
    let mut wakes = Vec::new();
    lines.turn(now, &mut wakes);
    wakes.into_iter().map(|ticket| (ticket, lines.fetch(ticket, |_| None).unwrap())).collect()
}

#[test]
fn a_backend_that_returns_lets_its_clients_go_in_order_of_arrival_and_nobody_elses() {
    let (now, mut lines) = (Instant::now(), lines(10));
    let (one, two) = (Told::away("one", now + MS * 1000), Told::away("two", now + MS * 1000));
    for ticket in [5, 3, 8] {
        join(&mut lines, &one, ticket, now + MS * 1000).unwrap();
    }
    join(&mut lines, &two, 1, now + MS * 1000).unwrap();
    assert_eq!(turn(&mut lines, now), []);
    assert_eq!([&one, &two].map(|backend| backend.checks.load(Relaxed)), [1, 1]);
    one.become_(Presence::Here);
    let returned = [3, 5, 8].map(|ticket| (ticket, HeldEnd::Returned));
    assert_eq!(turn(&mut lines, now), returned);
    assert_eq!((lines.held("one"), lines.held("two")), (0, 1));
}

#[test]
fn one_too_many_is_told_so_and_takes_nobodys_place() {
    let (now, mut lines) = (Instant::now(), lines(2));
    let (one, two) = (Told::away("one", now + MS), Told::away("two", now + MS));
    join(&mut lines, &one, 1, now + MS).unwrap();
    join(&mut lines, &one, 2, now + MS).unwrap();
    assert_eq!(join(&mut lines, &one, 3, now + MS), Err(HeldEnd::Full));
    join(&mut lines, &two, 4, now + MS).unwrap();
    lines.leave(1);
    join(&mut lines, &one, 5, now + MS).unwrap();
    assert_eq!(lines.held("one"), 2);
}

#[test]
fn a_wait_ends_with_the_time_of_the_backend_and_with_that_of_the_client() {
    let (now, mut lines) = (Instant::now(), lines(10));
    let one = Told::away("one", now + MS * 1000);
    join(&mut lines, &one, 1, now + MS * 1000).unwrap();
    join(&mut lines, &one, 2, now + MS * 100).unwrap();
    let mut wakes = Vec::new();
    assert_eq!(lines.turn(now, &mut wakes), Some(now + MS * 100));
    assert_eq!(turn(&mut lines, now + MS * 100), [(2, HeldEnd::Over)]);
    one.become_(Presence::Over);
    assert_eq!(turn(&mut lines, now + MS * 200), [(1, HeldEnd::Over)]);
    assert_eq!(lines.turn(now, &mut wakes), None);
}

#[test]
fn a_drain_other_rules_and_the_end_of_the_process_end_every_wait() {
    let now = Instant::now();
    type End = fn(&mut Lines<Ticket>, &Told);
    let cases: [(End, HeldEnd); 4] = [
        (|_, one| one.become_(Presence::Drained), HeldEnd::Elsewhere),
        (|lines, _| lines.listed.clear(), HeldEnd::Elsewhere),
        (|lines, _| lines.rules = None, HeldEnd::Elsewhere),
        (|lines, _| lines.closing = true, HeldEnd::Draining),
    ];
    for (change, end) in cases {
        let (mut lines, one) = (lines(10), Told::away("one", now + MS * 1000));
        join(&mut lines, &one, 1, now + MS * 1000).unwrap();
        change(&mut lines, &one);
        assert_eq!(turn(&mut lines, now), [(1, end)]);
    }
    let (mut lines, one) = (lines(10), Told::away("one", now));
    lines.closing = true;
    assert_eq!(join(&mut lines, &one, 1, now), Err(HeldEnd::Draining));
}

#[test]
fn many_are_told_in_groups_the_oldest_first() {
    let (now, mut lines) = (Instant::now(), lines(1000));
    let one = Told::away("one", now + MS * 1000);
    for ticket in 0..100 {
        join(&mut lines, &one, ticket, now + MS * 1000).unwrap();
    }
    one.become_(Presence::Here);
    let mut wakes = Vec::new();
    assert_eq!(lines.turn(now, &mut wakes), Some(now + PAUSE));
    assert_eq!(wakes, (0..64).collect::<Vec<_>>());
    wakes.clear();
    assert_eq!(lines.turn(now + PAUSE, &mut wakes), None);
    assert_eq!(wakes, (64..100).collect::<Vec<_>>());
}
