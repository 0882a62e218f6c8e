//! What the kernel says about processes: whose child they are, their CPU time, their memory, their context switches.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

/// A process id.
pub type Pid = i32;

/// All descendants of `root` that have not ended, itself left out. Orphans count as children of whoever adopted them. It is
/// read process by process, so one that is adopted meanwhile may be missed.
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

/// Whether the process is there and has not ended.
pub fn is_alive(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| Some(parse_stat(&stat)?.state != 'Z'))
        .unwrap_or(false)
}

/// CPU time, user and system, that the threads of these processes have used: in nanoseconds, by the scheduler's account.
/// A thread that runs right now is up to a tick behind, so it is read when the load is over. Threads that have ended are
/// not in it.
pub fn cpu(pids: &BTreeSet<Pid>) -> Duration {
    let mut total = 0;
    for pid in pids {
        for task in entries(&format!("/proc/{pid}/task")) {
            let line = fs::read_to_string(format!("/proc/{pid}/task/{task}/schedstat")).unwrap_or_default();
            total += line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Duration::from_nanos(total)
}

/// Memory of some processes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// Proportional set size: pages shared by several processes are split among them.
    pub pss: u64,
    /// The anonymous part of it: what the programs themselves have asked for.
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

/// Context switches of all threads of these processes so far: each is a wake-up, or the end of a time slice.
pub fn switches(pids: &BTreeSet<Pid>) -> u64 {
    let mut total = 0;
    for pid in pids {
        for task in entries(&format!("/proc/{pid}/task")) {
            let status = fs::read_to_string(format!("/proc/{pid}/task/{task}/status")).unwrap_or_default();
            total += parse_switches(&status);
        }
    }
    total
}

fn entries(directory: &str) -> impl Iterator<Item = Pid> {
    fs::read_dir(directory).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

#[derive(Debug, PartialEq)]
struct Stat {
    state: char,
    parent: Pid,
}

/// proc_pid_stat(5). The name in parentheses may hold spaces and parentheses, so it ends at the last one.
fn parse_stat(stat: &str) -> Option<Stat> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some(Stat { state, parent: fields.next()?.parse().ok()? })
}

/// proc_pid_smaps(5): `Pss:` and `Pss_Anon:`, in KiB.
fn parse_rollup(rollup: &str) -> Memory {
    let field = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
    };
    Memory { pss: field("Pss:").unwrap_or(0), anonymous: field("Pss_Anon:").unwrap_or(0) }
}

fn parse_switches(status: &str) -> u64 {
    status
        .lines()
        .filter_map(|line| {
            line.strip_prefix("voluntary_ctxt_switches:").or_else(|| line.strip_prefix("nonvoluntary_ctxt_switches:"))
        })
        .filter_map(|count| count.trim().parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "4711 (a) b (c)) S 42 4711 4711 0 -1 4194304 100";
        assert_eq!(parse_stat(stat), Some(Stat { state: 'S', parent: 42 }));
    }

    #[test]
    fn the_rollup_is_read_in_bytes_and_its_parts_are_not_confused() {
        let rollup =
            "55d0-7ffe ---p 00000000 00:00 0 [rollup]\nRss: 900 kB\nPss: 600 kB\nPss_Dirty: 70 kB\nPss_Anon: 50 kB\n";
        assert_eq!(parse_rollup(rollup), Memory { pss: 600 * 1024, anonymous: 50 * 1024 });
        assert_eq!(parse_rollup(""), Memory::default());
    }

    #[test]
    fn both_kinds_of_context_switches_count() {
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t30\nnonvoluntary_ctxt_switches:\t12\n";
        assert_eq!(parse_switches(status), 42);
    }

    #[test]
    fn this_process_is_alive_has_memory_and_has_used_cpu_time() {
        let me = std::process::id() as Pid;
        assert!(is_alive(me));
        assert!(memory(&BTreeSet::from([me])).pss > 0);
        assert!(cpu(&BTreeSet::from([me])) > Duration::ZERO);
    }
}
