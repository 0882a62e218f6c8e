//! Tells whether the kernel schedules the processes under test alike, and whether the machine is fit for measuring.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::Result;

use crate::proc::{self, Pid};
use crate::stop::Stop;

/// Processes that must get a share of the cores of their own: the gateway, a backend, or the generator.
pub struct Party {
    /// Its name in warnings.
    pub name: String,
    /// Its processes.
    pub pids: BTreeSet<Pid>,
}

/// The kernel's rules for one thread.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rules {
    cpus: String,
    cgroup: String,
    nice: String,
    policy: String,
}

/// The kernel's rules for the threads of one party.
struct Scheduled {
    name: String,
    rules: BTreeSet<Rules>,
    /// Scheduling groups by session; empty where the kernel has none.
    groups: BTreeSet<String>,
}

/// Differences between the parties, one sentence each; none when all are scheduled alike.
pub fn differences(parties: &[Party]) -> Vec<String> {
    let scheduled: Vec<Scheduled> = parties.iter().map(Scheduled::read).collect();
    compare(&scheduled)
}

fn compare(parties: &[Scheduled]) -> Vec<String> {
    let mut found = Vec::new();
    let Some(first) = parties.first() else { return found };
    for (at, party) in parties.iter().enumerate() {
        if party.groups.len() > 1 {
            found.push(format!("{} has {} scheduling groups instead of one", party.name, party.groups.len()));
        }
        for other in &parties[..at] {
            if other.groups.intersection(&party.groups).next().is_some() {
                found.push(format!("{} and {} share a scheduling group", other.name, party.name));
            }
        }
        for rules in &party.rules {
            if let Some(wanted) = first.rules.first()
                && rules != wanted
            {
                found.push(format!("{} is scheduled unlike {}: {rules:?}, not {wanted:?}", party.name, first.name));
            }
        }
    }
    found
}

impl Scheduled {
    fn read(party: &Party) -> Self {
        let mut scheduled = Self { name: party.name.clone(), rules: BTreeSet::new(), groups: BTreeSet::new() };
        for pid in &party.pids {
            let cgroup = read(&format!("/proc/{pid}/cgroup"));
            scheduled.groups.extend(parse_group(&read(&format!("/proc/{pid}/autogroup"))));
            for task in proc::tasks(*pid) {
                let (stat, status) = (read(&format!("{task}/stat")), read(&format!("{task}/status")));
                scheduled.rules.extend(parse_rules(&stat, &status, &cgroup));
            }
        }
        scheduled
    }
}

/// proc_pid_stat(5): nice is field 19, policy is field 41; proc_pid_status(5): `Cpus_allowed_list`.
fn parse_rules(stat: &str, status: &str, cgroup: &str) -> Option<Rules> {
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    let cpus = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    Some(Rules {
        cpus: cpus.trim().to_owned(),
        cgroup: cgroup.trim().replace('\n', " "),
        nice: (*fields.get(19 - 3)?).to_owned(),
        policy: (*fields.get(41 - 3)?).to_owned(),
    })
}

/// sched(7): `/autogroup-25 nice 0`.
fn parse_group(autogroup: &str) -> Option<String> {
    autogroup.split_whitespace().next().map(str::to_owned)
}

/// Circumstances of this machine that blur figures or favour a process, one sentence each. Takes a second, in which
/// this process does nothing.
///
/// # Errors
/// When the user wants an end.
pub fn machine(stop: &Stop) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let governors: BTreeSet<String> = fs::read_dir("/sys/devices/system/cpu")
        .into_iter()
        .flatten()
        .filter_map(|cpu| fs::read_to_string(cpu.ok()?.path().join("cpufreq/scaling_governor")).ok())
        .map(|governor| governor.trim().to_owned())
        .collect();
    if governors.iter().any(|governor| governor != "performance") {
        let names: Vec<&str> = governors.iter().map(String::as_str).collect();
        found.push(format!("frequency governor: {}, not performance", names.join(" and ")));
    }
    let own = read("/proc/self/cgroup");
    let path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let limit = read(&format!("/sys/fs/cgroup{path}/cpu.max"));
    if !limit.is_empty() && !limit.starts_with("max") {
        found.push(format!("the cgroup {path} limits CPU time: cpu.max is {}", limit.trim()));
    }
    let before = Times::now();
    stop.wait(Duration::from_secs(1))?;
    let Times { busy, stolen, total } = Times::now().since(before);
    if busy > QUIET * total {
        found.push(format!("other processes used {:.0} % of the cores just before", busy * 100.0 / total));
    }
    if stolen > QUIET * total {
        found.push(format!("the host took {:.0} % of the cores just before", stolen * 100.0 / total));
    }
    Ok(found)
}

/// Share of the cores that others may use on a machine that counts as quiet.
const QUIET: f64 = 0.05;

/// Ticks of all cores.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Times {
    busy: f64,
    stolen: f64,
    total: f64,
}

impl Times {
    fn now() -> Self {
        Self::parse(&read("/proc/stat")).unwrap_or(Self { busy: 0.0, stolen: 0.0, total: 0.0 })
    }

    fn since(self, earlier: Self) -> Self {
        Self { busy: self.busy - earlier.busy, stolen: self.stolen - earlier.stolen, total: self.total - earlier.total }
    }

    /// proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal.
    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<f64> = line.split_whitespace().take(8).filter_map(|field| field.parse().ok()).collect();
        let total: f64 = ticks.iter().sum();
        let (idle, stolen) = (ticks.get(3)? + ticks.get(4)?, *ticks.get(7)?);
        Some(Self { busy: total - idle - stolen, stolen, total })
    }
}

/// Scheduling of sessions on this machine, for the reader of the results.
pub fn sessions() -> &'static str {
    match read("/proc/sys/kernel/sched_autogroup_enabled").trim() {
        "1" => "a session, and with it a scheduling group, of its own each (sched_autogroup_enabled=1)",
        _ => "a session of its own each (sched_autogroup_enabled is not 1: sessions are not scheduled apart)",
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(cpus: &str) -> Rules {
        Rules { cpus: cpus.into(), cgroup: "0::/".into(), nice: "0".into(), policy: "0".into() }
    }

    fn scheduled(name: &str, cpus: &[&str], groups: &[&str]) -> Scheduled {
        Scheduled {
            name: name.into(),
            rules: cpus.iter().map(|cpus| rules(cpus)).collect(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        }
    }

    #[test]
    fn parties_with_a_group_of_their_own_and_the_same_rules_are_alike() {
        let parties = [scheduled("generator", &["0-1"], &["a"]), scheduled("nginx", &["0-1"], &["b"])];
        assert_eq!(compare(&parties), [""; 0]);
    }

    #[test]
    fn a_gateway_in_the_generators_group_is_named() {
        let parties = [scheduled("generator", &["0-1"], &["a"]), scheduled("HAProxy", &["0-1"], &["a"])];
        assert_eq!(compare(&parties), ["generator and HAProxy share a scheduling group"]);
    }

    #[test]
    fn a_gateway_with_two_groups_gets_two_shares_and_is_named() {
        let parties = [scheduled("generator", &["0-1"], &["a"]), scheduled("Envoy", &["0-1"], &["b", "c"])];
        assert_eq!(compare(&parties), ["Envoy has 2 scheduling groups instead of one"]);
    }

    #[test]
    fn a_thread_that_is_pinned_elsewhere_is_named() {
        let parties = [scheduled("generator", &["0-1"], &["a"]), scheduled("nginx", &["0-1", "1"], &["b"])];
        let found = compare(&parties);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("nginx is scheduled unlike generator: Rules { cpus: \"1\""), "{found:?}");
    }

    #[test]
    fn kernels_without_groups_by_session_have_none_to_compare() {
        assert_eq!(parse_group(""), None);
        assert_eq!(parse_group("/autogroup-25 nice 0\n").as_deref(), Some("/autogroup-25"));
        let parties = [scheduled("generator", &["0"], &[]), scheduled("nginx", &["0"], &[])];
        assert_eq!(compare(&parties), [""; 0]);
    }

    #[test]
    fn nice_and_policy_are_read_from_their_fields() {
        let rest: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
        let stat = format!("7 (a b) {}", rest.join(" "));
        let rules = parse_rules(&stat, "Cpus_allowed:\t3\nCpus_allowed_list:\t0-1\n", "0::/x\n").unwrap();
        assert_eq!((rules.nice.as_str(), rules.policy.as_str()), ("19", "41"));
        assert_eq!((rules.cpus.as_str(), rules.cgroup.as_str()), ("0-1", "0::/x"));
    }

    #[test]
    fn idle_and_stolen_ticks_are_not_busy() {
        let times = Times::parse("cpu  10 20 30 400 5 1 2 7 0 0\ncpu0 1\n").unwrap();
        assert_eq!(times, Times { busy: 63.0, stolen: 7.0, total: 475.0 });
    }

    #[test]
    fn this_process_is_scheduled_like_itself() {
        let party = |name: &str| Party { name: name.into(), pids: BTreeSet::from([std::process::id() as Pid]) };
        assert!(differences(&[party("itself")]).iter().all(|found| !found.contains("unlike")));
    }
}
