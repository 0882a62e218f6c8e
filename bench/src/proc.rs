//! Facts of the kernel about processes: parents, CPU time, memory, context switches.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

/// A process id.
pub type Pid = i32;

/// All descendants of `root` that have not ended, `root` left out. Orphans count as children of the process that
/// adopted them. `/proc` is read process by process, so a process that is adopted meanwhile may be missed.
pub fn descendants(root: Pid) -> BTreeSet<Pid> {
    let processes: Vec<(Pid, Stat)> = entries("/proc")
        .filter_map(|pid| Some((pid, parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?)))
        .collect();
    let mut found = BTreeSet::from([root]);
    loop {
        let before = found.len();
        for (pid, stat) in &processes {
            if found.contains(&stat.parent) {
                found.insert(*pid);
            }
        }
        if found.len() == before {
            break;
        }
    }
    let ended = processes.iter().filter(|(_, stat)| stat.state == 'Z').map(|(pid, _)| *pid);
    for pid in ended.chain([root]) {
        found.remove(&pid);
    }
    found
}

/// True while the process exists and has not ended.
pub fn is_alive(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| Some(parse_stat(&stat)?.state != 'Z'))
        .unwrap_or(false)
}

/// True when this process leads its session. Read from `/proc`, because `getsid` of rustix panics on the session 0
/// that the kernel reports for a leader outside the PID namespace (pid_namespaces(7)).
pub fn leads_session() -> bool {
    fs::read_to_string("/proc/self/stat")
        .ok()
        .and_then(|stat| parse_stat(&stat))
        .is_some_and(|stat| i64::from(stat.session) == i64::from(std::process::id()))
}

/// CPU time and context switches of some threads.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// User and system time.
    pub cpu: Duration,
    /// Context switches.
    pub switches: Switches,
}

/// Context switches of some threads.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Switches {
    /// A thread that had nothing to do slept. Each stands for a wake-up.
    pub voluntary: u64,
    /// A thread that wanted to run on was made to wait.
    pub involuntary: u64,
}

impl Cost {
    /// The cost since `earlier`, a reading of the same processes.
    pub fn since(self, earlier: Self) -> Self {
        let (now, then) = (self.switches, earlier.switches);
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            switches: Switches {
                voluntary: now.voluntary.saturating_sub(then.voluntary),
                involuntary: now.involuntary.saturating_sub(then.involuntary),
            },
        }
    }
}

/// Cost of all threads of these processes so far, by the scheduler's account. Threads that have ended are not in it. A
/// thread that runs right now is up to a tick behind, so callers read it when the load is over.
pub fn cost(pids: &BTreeSet<Pid>) -> Cost {
    let mut total = Cost::default();
    for task in pids.iter().flat_map(|pid| tasks(*pid)) {
        let line = fs::read_to_string(format!("{task}/schedstat")).unwrap_or_default();
        let nanoseconds = line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
        total.cpu += Duration::from_nanos(nanoseconds);
        let switches = parse_switches(&fs::read_to_string(format!("{task}/status")).unwrap_or_default());
        total.switches.voluntary += switches.voluntary;
        total.switches.involuntary += switches.involuntary;
    }
    total
}

/// Memory of some processes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// Proportional set size: pages shared by several processes are split among them.
    pub pss: u64,
    /// The anonymous part of it: memory that the programs themselves have asked for.
    pub anonymous: u64,
}

/// Memory of these processes.
pub fn memory(pids: &BTreeSet<Pid>) -> Memory {
    let mut total = Memory::default();
    for pid in pids {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let memory = parse_rollup(&rollup);
        total.pss += memory.pss;
        total.anonymous += memory.anonymous;
    }
    total
}

/// The folders in `/proc` of a process's threads.
pub fn tasks(pid: Pid) -> impl Iterator<Item = String> + use<> {
    entries(&format!("/proc/{pid}/task")).map(move |task| format!("/proc/{pid}/task/{task}"))
}

fn entries(directory: &str) -> impl Iterator<Item = Pid> + use<> {
    fs::read_dir(directory).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

#[derive(Debug, PartialEq)]
struct Stat {
    state: char,
    parent: Pid,
    session: Pid,
}

/// proc_pid_stat(5). The name in parentheses may hold spaces and parentheses, so it ends at the last one.
fn parse_stat(stat: &str) -> Option<Stat> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    // The process group lies between.
    Some(Stat { state, parent, session: fields.nth(1)?.parse().ok()? })
}

/// proc_pid_smaps(5): `Pss:` and `Pss_Anon:`, in KiB.
fn parse_rollup(rollup: &str) -> Memory {
    let field = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
    };
    Memory { pss: field("Pss:").unwrap_or(0), anonymous: field("Pss_Anon:").unwrap_or(0) }
}

/// proc_pid_status(5).
fn parse_switches(status: &str) -> Switches {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    };
    Switches { voluntary: field("voluntary_ctxt_switches:"), involuntary: field("nonvoluntary_ctxt_switches:") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "4711 (a) b (c)) S 42 4711 4711 0 -1 4194304 100";
        assert_eq!(parse_stat(stat), Some(Stat { state: 'S', parent: 42, session: 4711 }));
    }

    #[test]
    fn the_rollup_is_read_in_bytes_and_its_parts_are_not_confused() {
        let rollup =
            "55d0-7ffe ---p 00000000 00:00 0 [rollup]\nRss: 900 kB\nPss: 600 kB\nPss_Dirty: 70 kB\nPss_Anon: 50 kB\n";
        assert_eq!(parse_rollup(rollup), Memory { pss: 600 * 1024, anonymous: 50 * 1024 });
        assert_eq!(parse_rollup(""), Memory::default());
    }

    #[test]
    fn both_kinds_of_context_switches_are_told_apart() {
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t30\nnonvoluntary_ctxt_switches:\t12\n";
        assert_eq!(parse_switches(status), Switches { voluntary: 30, involuntary: 12 });
    }

    #[test]
    fn a_cost_is_the_difference_of_two_readings() {
        let reading = |cpu, voluntary, involuntary| Cost {
            cpu: Duration::from_micros(cpu),
            switches: Switches { voluntary, involuntary },
        };
        assert_eq!(reading(50, 7, 3).since(reading(20, 5, 3)), reading(30, 2, 0));
    }

    #[test]
    fn this_process_is_alive_has_memory_and_has_used_cpu_time() {
        let me = std::process::id() as Pid;
        assert!(is_alive(me));
        assert!(memory(&BTreeSet::from([me])).pss > 0);
        assert!(cost(&BTreeSet::from([me])).cpu > Duration::ZERO);
    }
}
