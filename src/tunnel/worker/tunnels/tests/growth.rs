//! Growth of a worker's work with the number of its tunnels, to a million, for figures and not for truth:
//! `cargo test --release --lib tunnels::tests::growth -- --ignored --nocapture`
//!
//! Prints tables in Markdown, of CPU time: other work on the machine does not count. Nothing comes from the sockets,
//! since all tunnels share two ([`Crowd`]); what tunnels send is sent.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;

use tokio::sync::oneshot;

use super::crowd::{Crowd, PING};
use super::*;
use crate::hook::{Injector, Item, KeyTag, Outlet, To, Tunnel as HookedTunnel, TunnelId};
use crate::tunnel::worker::{Look, RuleVerdict, Scope, Standing};

impl Crowd {
    /// Takes turns, as a worker does, until nothing is left to be done by now. The first begins with a command.
    fn turns(&mut self, command: impl FnOnce(&mut OpenTunnels, Instant)) -> Took {
        let (now, mut command) = (self.bench.now, Some(command));
        let (mut took, mut begun) = (Took::default(), spent());
        loop {
            if let Some(command) = command.take() {
                command(&mut self.bench.tunnels, now);
            }
            self.bench.tunnels.drive(now);
            self.bench.tunnels.judge_on(now);
            if self.is_due() {
                self.bench.tunnels.check(now);
            }
            let ended = spent();
            took.add(ended - begun);
            begun = ended;
            if !self.bench.tunnels.is_busy() && !self.is_due() {
                return took;
            }
        }
    }

    fn is_due(&self) -> bool {
        self.bench.tunnels.due().is_some_and(|due| due <= self.bench.now)
    }

    /// Looks at every tunnel, a slice in each turn.
    fn listing(&mut self) -> Took {
        let rows: Arc<std::sync::Mutex<Vec<(String, Duration, u64)>>> = Arc::default();
        let told = Arc::clone(&rows);
        // As much as a row of a listing: identity, times, counts.
        let look: Box<Look> = Box::new(move |seen| {
            let bytes = Side::ALL.into_iter().map(|side| seen.passed()[side].0).sum();
            let row = (seen.record().request_id.to_string(), seen.age().max(seen.idle()), bytes);
            told.lock().unwrap().push(row);
        });
        let (mut next, mut took) = (Some(0), Took::default());
        while let Some(from) = next {
            let begun = spent();
            next = self.bench.tunnels.visit(&*look, from);
            took.add(spent() - begun);
            rows.lock().unwrap().clear();
        }
        took
    }

    /// Lets a rule end the tunnels whose number divides by `each`, if it is given, over half a minute.
    fn judged(&mut self, each: Option<u32>) -> Took {
        // As a reload's rule does, it finds the route and the backend by their names.
        let routes = HashMap::from([(self.route.to_string(), ())]);
        let backends = HashMap::from([(self.backend.name().to_owned(), ())]);
        let rule = Arc::new(move |standing: &Standing<'_>| {
            let record = standing.record;
            let stays = routes.contains_key(&*record.route) && backends.contains_key(record.backend().name());
            let ends = each.is_some_and(|each| record.key.hash().is_some_and(|number| number % each == 0));
            match stays && !ends {
                true => RuleVerdict::Keep,
                false => RuleVerdict::End { reason: Reason::Changed, over: PING },
            }
        });
        let (done, mut judged) = oneshot::channel();
        let took = self.turns(|tunnels, now| tunnels.judge(rule, done, now));
        black_box(judged.try_recv().unwrap());
        took
    }

    /// Announces the ends of all tunnels, and calls them off.
    fn drained(&mut self) -> [Took; 2] {
        let reason = Reason::Shutdown { code: 1001 };
        let ended = self.turns(|tunnels, now| tunnels.end(&Scope::All, reason, 10 * PING, now));
        [ended, self.turns(|tunnels, _| tunnels.spare(&Scope::All, reason))]
    }

    /// Lets half a minute pass, in which every tunnel sends its first Pings; looks at the clock every 100 ms.
    fn pinged(&mut self) -> Took {
        let mut took = Took::default();
        for _ in 0..300 {
            self.bench.now += STEP;
            took = took.and(self.turns(|_, _| ()));
        }
        let sent = self.bench.tunnels.slots.iter().map(|(_, tunnel)| tunnel.pair.due().unwrap());
        assert!(sent.into_iter().all(|due| due > self.bench.now), "every side was sent a Ping");
        took
    }
}

/// Time that something took, in turns of a worker.
#[derive(Clone, Copy, Default)]
struct Took {
    whole: Duration,
    longest: Duration,
}

impl Took {
    fn add(&mut self, turn: Duration) {
        *self = self.and(Self { whole: turn, longest: turn });
    }

    fn and(self, other: Self) -> Self {
        Self { whole: self.whole + other.whole, longest: self.longest.max(other.longest) }
    }

    /// The better of two runs: other work on the machine only adds time.
    fn or_better(self, other: Self) -> Self {
        Self { whole: self.whole.min(other.whole), longest: self.longest.min(other.longest) }
    }
}

/// Runs something several times, and returns the best of each figure.
fn best<const N: usize>(mut run: impl FnMut() -> [Took; N]) -> [Took; N] {
    let runs = [(); RUNS].map(|()| run());
    std::array::from_fn(|at| runs.iter().map(|run| run[at]).reduce(Took::or_better).unwrap())
}

/// Figures of a number of tunnels, by row.
fn work(count: usize) -> Vec<(&'static str, Took)> {
    let mut rows = Vec::new();
    let mut crowd = Crowd::opened(count, Duration::ZERO);
    let [listing] = best(|| [crowd.listing()]);
    rows.push(("a listing", listing));
    let [kept] = best(|| [crowd.judged(None)]);
    rows.push(("a rule that keeps all", kept));
    let [ended, called_off] = best(|| [crowd.judged(Some(10)), crowd.judged(None)]);
    rows.extend([("a rule that ends a tenth", ended), ("a rule that calls these ends off", called_off)]);
    let [drained, spared] = best(|| crowd.drained());
    rows.extend([("a drain of all", drained), ("a drain that is called off", spared)]);
    drop(crowd);
    let [pinged] = best(|| [Crowd::opened(count, PING).pinged()]);
    rows.push(("Pings of all, spread over 30 s", pinged));
    let [opened, pinged] = best(|| {
        let (mut crowd, mut opened) = (Crowd::opened(0, Duration::ZERO), Took::default());
        for some in (0..count).step_by(TOGETHER) {
            let begun = spent();
            (some..count.min(some + TOGETHER)).for_each(|number| crowd.open(number));
            opened.add(spent() - begun);
        }
        crowd.bench.now += PING + STEP;
        [opened, crowd.turns(|_, _| ())]
    });
    rows.extend([("Pings of all, due together", pinged), ("openings, a thousand in a turn", opened)]);
    rows
}

/// Outlet that leads nowhere.
struct Nowhere;

impl Outlet for Nowhere {
    fn deliver(&self, _: To, _: Item, _: tokio::sync::mpsc::UnboundedSender<usize>) {}
}

/// A tunnel as its hooks see it.
fn hooked() -> HookedTunnel {
    HookedTunnel {
        id: TunnelId::random(),
        request_id: "".into(),
        client: Ipv4Addr::LOCALHOST.into(),
        route: "* /".into(),
        upstream: "u".into(),
        backend: (Ipv4Addr::LOCALHOST, 1).into(),
        key: None,
        injector: Injector::new(Arc::new(Nowhere)),
        outbox: crate::hook::Outbox::default(),
    }
}

/// Nanoseconds that the directory takes for each of so many tunnels with hooks, and the longest thousand of calls.
fn directory(count: usize) -> Vec<(&'static str, f64, Duration)> {
    let names: Vec<_> = (0..count).map(|number| (TunnelId::random(), KeyTag::of(&number.to_le_bytes()))).collect();
    let mut tunnel = hooked();
    let mut runs: [Vec<Took>; 4] = std::array::from_fn(|_| Vec::new());
    for _ in 0..RUNS {
        let mut directory = Directory::default();
        let mut each = |run: &mut Vec<Took>, call: &mut dyn FnMut(&mut Directory, &HookedTunnel, usize)| {
            let mut took = Took::default();
            let mut slot = 0;
            for names in names.chunks(TOGETHER) {
                let begun = spent();
                for (id, key) in names {
                    (tunnel.id, tunnel.key) = (*id, Some(*key));
                    call(&mut directory, &tunnel, slot);
                    slot += 1;
                }
                took.add(spent() - begun);
            }
            run.push(took);
        };
        let [enter, by_id, by_key, leave] = &mut runs;
        each(enter, &mut |directory, tunnel, slot| directory.enter(tunnel, slot));
        each(by_id, &mut |directory, tunnel, _| {
            black_box(directory.find(tunnel.id));
        });
        each(by_key, &mut |directory, tunnel, _| {
            black_box(directory.meant(&To::Key(tunnel.key.unwrap()), |_| ""));
        });
        each(leave, &mut |directory, tunnel, slot| directory.leave(tunnel, slot));
    }
    let names = ["a tunnel enters the directory", "it is found by id", "it is found by key", "it leaves"];
    let best = runs.map(|runs| runs.into_iter().reduce(Took::or_better).unwrap());
    let row = |(name, took): (_, Took)| (name, took.whole.as_nanos() as f64 / count as f64, took.longest);
    names.into_iter().zip(best).map(row).collect()
}

/// CPU time that this thread has had so far.
fn spent() -> Duration {
    thread_local! {
        static SPENT: File = File::open("/proc/thread-self/schedstat").unwrap();
    }
    // The system brings the figure up to date when a thread lets others go first.
    std::thread::yield_now();
    let mut text = [0; 64];
    let length = SPENT.with(|file| file.read_at(&mut text, 0)).unwrap();
    let (nanoseconds, _) = std::str::from_utf8(&text[..length]).unwrap().split_once(' ').unwrap();
    Duration::from_nanos(nanoseconds.parse().unwrap())
}

/// Bytes of memory that the process has.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

/// Prints the memory that a tunnel takes, where there are so many. To be asked first: memory that was given back to
/// the allocator is used again, and does not show.
fn memory(count: usize) {
    let mut kept: Vec<Box<dyn std::any::Any>> = Vec::new();
    let mut text = String::new();
    let mut measure = |what: &str, make: &mut dyn FnMut() -> Box<dyn std::any::Any>| {
        let before = resident();
        kept.push(make());
        let bytes = resident().saturating_sub(before) as f64 / count as f64;
        writeln!(text, "| {what} | {bytes:.1} |").unwrap();
    };
    measure("its slot", &mut || {
        let mut slots: Slots<NonZeroUsize> = Slots::default();
        (0..count).for_each(|slot| assert_eq!(slots.insert(|_| NonZeroUsize::MIN), slot));
        Box::new(slots)
    });
    measure("its deadline", &mut || {
        let now = Instant::now();
        let mut deadlines = Deadlines::new(now);
        (0..count).for_each(|slot| deadlines.set(slot, now + PING.mul_f64(slot as f64 / count as f64)));
        Box::new(deadlines)
    });
    measure("its place in the directory, with hooks and a key", &mut || {
        let (mut directory, mut tunnel) = (Directory::default(), hooked());
        for slot in 0..count {
            (tunnel.id, tunnel.key) = (TunnelId::random(), Some(KeyTag::of(&slot.to_le_bytes())));
            directory.enter(&tunnel, slot);
        }
        Box::new(directory)
    });
    measure("a plain tunnel, with slot and deadline", &mut || Box::new(Crowd::opened(count, PING)));
    println!("| memory of a tunnel, bytes | {count} tunnels |\n|---|---|\n{text}");
}

#[test]
#[ignore = "a measurement"]
fn up_to_a_million_tunnels() {
    memory(COUNTS[COUNTS.len() - 1]);
    let heads = COUNTS.map(|count| format!("{count} tunnels")).join(" | ");
    let rule = "---|".repeat(COUNTS.len());
    println!("| whole / longest turn, ms | {heads} |\n|---|{rule}");
    print(&COUNTS.map(work), |(name, took)| {
        let [whole, longest] = [took.whole, took.longest].map(|time| time.as_secs_f64() * 1e3);
        (*name, format!("{whole:.2} / {longest:.2}"))
    });
    println!("\n| each, ns (the longest thousand, ms) | {heads} |\n|---|{rule}");
    print(&COUNTS.map(directory), |(name, each, longest)| {
        (*name, format!("{each:.0} ({:.2})", longest.as_secs_f64() * 1e3))
    });
}

fn print<T>(columns: &[Vec<T>], cell: impl Fn(&T) -> (&'static str, String)) {
    for row in 0..columns[0].len() {
        let cells: Vec<String> = columns.iter().map(|column| cell(&column[row]).1).collect();
        println!("| {} | {} |", cell(&columns[0][row]).0, cells.join(" | "));
    }
}

const COUNTS: [usize; 3] = [10_000, 100_000, 1_000_000];
const RUNS: usize = 3;
/// Calls whose time is taken together.
const TOGETHER: usize = 1_000;
