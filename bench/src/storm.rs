//! A storm: the clients of a fleet come back at once to three backends that bear so many handshakes a second each.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Resource, Signal, getrlimit};

use crate::load::crowd::{Job, Told};
use crate::load::{self, Fleet, READY};
use crate::peer::{Clients, Ground, Isolated, Peer, Setting, Site, Storm};
use crate::report::About;
use crate::session;
use crate::stop::Stop;
use crate::ws::Message;

/// Plan of a storm.
pub struct Plan {
    /// The gateways, in turn.
    pub peers: Vec<Peer>,
    /// Clients that come back.
    pub clients: usize,
    /// Handshakes a second that each backend takes.
    pub rate: u32,
    /// Their way to the gateway.
    pub tls: Clients,
    /// Open tunnels that talk meanwhile.
    pub talkers: usize,
}

/// Handshakes that may wait at a backend itself: the backlog of many application servers.
const BACKEND_QUEUE: usize = 128;
/// Clients of one process of the generator: each takes a descriptor.
const CROWD: usize = 9_000;
/// Messages a second of each tunnel that talks.
const TALK: f64 = 5.0;
/// Measurement of the tunnels without a storm.
const QUIET: Duration = Duration::from_secs(3);
/// Part of that measurement after which the storm is looked at.
const SLICE: Duration = Duration::from_millis(500);

/// Tunnels that talk to backends of their own on the gateway's core, as a control. They do not pass the gateway, and
/// wait for what else happens on its core: for the gateway's own work, and for moments in which the machine stands
/// still.
const CONTROLS: usize = 200;

/// Outcome for one gateway.
struct Outcome {
    told: Told,
    /// Without the storm, and in it.
    talkers: [Waits; 2],
    controls: [Waits; 2],
    lost: u64,
}

/// Longest wait of 99 of 100 messages: of the whole time, and at the median of its half seconds.
#[derive(Clone, Copy)]
struct Waits {
    whole: Duration,
    median: Duration,
}

/// Echoes of a fleet over some time.
#[derive(Default)]
struct Talk {
    all: load::Outcome,
    /// 99 % of each half second.
    slices: Vec<Duration>,
}

impl Talk {
    fn waits(&self) -> Waits {
        let mut slices = self.slices.clone();
        slices.sort_unstable();
        Waits { whole: self.all.latency.quantile(0.99), median: slices[slices.len() / 2] }
    }
}

/// Runs it, prints the figures, and writes them as `storm.md` into `out`.
///
/// # Errors
/// When a client of Longhaul's got 502, or was not in at the end; when the user wants an end.
pub fn run(plan: &Plan, ground: &Ground, out: Option<&Path>) -> Result<()> {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let all = (plan.clients + plan.talkers) as u64;
    let stay = 2 * all + SPARE < descriptors;
    let way = match plan.tls {
        Clients::Plain => "plain",
        Clients::Tls => "over TLS 1.3, a full handshake each",
        Clients::Resuming => "over TLS 1.3, resumed sessions",
    };
    let method = format!(
        "{} clients at once from 250 source addresses, {way}; 3 backends that take {} handshakes a second each, one at \
         a time, and let {BACKEND_QUEUE} wait; {} tunnels talk meanwhile, {TALK} messages a second each. Clients {}.",
        plan.clients,
        plan.rate,
        plan.talkers,
        if stay { "stay" } else { "leave after their first echo: descriptors are short" }
    );
    let mut page = String::new();
    let mut verdict = Ok(());
    for &peer in plan.peers.iter().filter(|peer| peer.bears_storms()) {
        eprintln!("{}: a storm", peer.title());
        match measure(plan, peer, stay, descriptors, ground) {
            Ok(outcome) => {
                page += &section(plan, peer, &outcome);
                let count = |status: u16| outcome.told.refused.get(&status).copied().unwrap_or_default();
                if peer == Peer::Longhaul && (count(502) > 0 || outcome.told.admitted.len() < plan.clients) {
                    verdict = Err(anyhow::anyhow!("clients of Longhaul's got 502, or were not in at the end"));
                }
            }
            Err(error) => {
                ground.stop.check()?;
                writeln!(page, "## {}\n\nNot measured: {error:#}\n", peer.title())?;
                if peer == Peer::Longhaul {
                    verdict = Err(error);
                }
            }
        }
    }
    let page = format!("{page}{}", About::here(&plan.peers, &ground.longhaul, method).markdown());
    print!("{page}");
    if let Some(folder) = out {
        std::fs::create_dir_all(folder).context("the folder cannot be made")?;
        std::fs::write(folder.join("storm.md"), page)?;
    }
    verdict
}

/// Descriptors that a gateway has for other things than clients and backends.
const SPARE: u64 = 500;

/// The gateway has a core for itself, and on the other one the talking tunnels come first: they are to wait for the
/// gateway, and not for the crowd's clients.
fn measure(plan: &Plan, peer: Peer, stay: bool, descriptors: u64, ground: &Ground) -> Result<Outcome> {
    let storm = Some(Storm { rate: plan.rate, queue: BACKEND_QUEUE, descriptors });
    let setting =
        Setting { workers: 1, is_replaced: false, is_logged: false, clients: plan.tls, storm, is_restarted: false };
    let site = Site::start(peer, setting, ground)?;
    let stop = &ground.stop;
    let without_gateway = Site::start(Peer::Direct, Setting { storm: None, ..setting }, ground)?;
    let mut fleet = Fleet::open(&site.targets, plan.talkers, stop)?;
    let mut controls = Fleet::open(&without_gateway.targets, CONTROLS, stop)?;
    without_gateway.share_core_of_gateway()?;
    let _isolated = site.isolate(&["one", "two", "three"])?;
    talk_both([&mut fleet, &mut controls], &AtomicBool::new(true), || Ok(()))?;
    let quiet_over = AtomicBool::new(false);
    let (quiet, ()) = talk_both([&mut fleet, &mut controls], &quiet_over, || {
        let waited = stop.wait(QUIET);
        quiet_over.store(true, Ordering::SeqCst);
        waited
    })?;
    ensure!(quiet.iter().all(|talk| talk.all.done > 0), "nothing came back");
    let mut crowds = crowds(plan, stay, &site)?;
    let over = AtomicBool::new(false);
    let (beside, told) = talk_both([&mut fleet, &mut controls], &over, || {
        let told = listen(&mut crowds, stop);
        over.store(true, Ordering::SeqCst);
        told
    })?;
    site.check_scheduling();
    let waits = |of: usize| [quiet[of].waits(), beside[of].waits()];
    Ok(Outcome { told, talkers: waits(0), controls: waits(1), lost: fleet.lost() + controls.lost() })
}

/// Echoes over both fleets while `act` runs, until it says that it is over.
fn talk_both<T: Send>(
    fleets: [&mut Fleet; 2],
    over: &AtomicBool,
    act: impl FnOnce() -> Result<T> + Send,
) -> Result<([Talk; 2], T)> {
    std::thread::scope(|scope| {
        let acting = scope.spawn(act);
        let [talkers, controls] = fleets;
        let beside = scope.spawn(|| {
            let _isolated = Isolated::this_thread()?;
            talk(controls, over)
        });
        let outcome = talk(talkers, over);
        let Ok(acted) = acting.join() else { bail!("the thread beside the talking tunnels panicked") };
        let Ok(beside) = beside.join() else { bail!("the thread of the control panicked") };
        Ok(([outcome?, beside?], acted?))
    })
}

/// Echoes until it is over.
fn talk(fleet: &mut Fleet, over: &AtomicBool) -> Result<Talk> {
    let (message, rate) = (Message::new(64), TALK * fleet.size() as f64);
    let mut talk = Talk::default();
    loop {
        let slice = fleet.paced(&message, rate, SLICE)?;
        talk.slices.push(slice.latency.quantile(0.99));
        talk.all.add(&slice);
        if over.load(Ordering::SeqCst) {
            return Ok(talk);
        }
    }
}

/// A process of the generator. Killed on drop.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have failed, and ended, by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the clients, and waits until they are ready.
fn crowds(plan: &Plan, stay: bool, site: &Site) -> Result<Vec<Process>> {
    let program = std::env::current_exe().context("this program's file is unknown")?;
    let ideal = plan.clients as f64 / f64::from(plan.rate * 3);
    let patience = Duration::from_secs_f64(5.0 * ideal + 30.0);
    let mut crowds = Vec::new();
    for first in (0..plan.clients).step_by(CROWD) {
        let is_resuming = plan.tls == Clients::Resuming;
        let tls = (plan.tls != Clients::Plain).then(|| (PathBuf::from(site.path("tls.pem")), is_resuming));
        let count = CROWD.min(plan.clients - first);
        let job = Job { target: site.targets.of(0), first, count, tls, stay, patience };
        let mut command = session::command(&program, Signal::KILL)?;
        command.arg("crowd").arg(serde_json::to_string(&job)?).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("the clients do not start")?;
        let input = child.stdin.take().context("its input is piped")?;
        let output = BufReader::new(child.stdout.take().context("its output is piped")?);
        crowds.push(Process { child, input, output });
    }
    for crowd in &mut crowds {
        let mut word = String::new();
        crowd.output.read_line(&mut word)?;
        ensure!(word.trim() == READY, "the clients said {word:?}");
    }
    Ok(crowds)
}

/// Lets all clients come, and gathers what they tell.
fn listen(crowds: &mut [Process], stop: &Stop) -> Result<Told> {
    for crowd in &mut *crowds {
        crowd.input.write_all(b"go\n").context("the clients have ended")?;
    }
    let mut all = Told::default();
    for crowd in &mut *crowds {
        let mut line = String::new();
        crowd.output.read_line(&mut line)?;
        stop.check()?;
        let told: Told = serde_json::from_str(&line).with_context(|| format!("the clients said {line:?}"))?;
        all.admitted.extend(told.admitted);
        told.refused.into_iter().for_each(|(status, count)| *all.refused.entry(status).or_default() += count);
        all.broken += told.broken;
        all.silent += told.silent;
        all.unresumed += told.unresumed;
    }
    all.admitted.sort_unstable();
    Ok(all)
}

fn section(plan: &Plan, peer: Peer, outcome: &Outcome) -> String {
    let Outcome { told, talkers, controls, lost } = outcome;
    let at = |part: f64| {
        let place = (told.admitted.len().saturating_sub(1) as f64 * part) as usize;
        told.admitted.get(place).map_or(f64::NAN, |milliseconds| *milliseconds as f64 / 1e3)
    };
    let ideal = plan.clients as f64 / f64::from(plan.rate * 3);
    let last = at(1.0);
    let refused: Vec<_> = told.refused.iter().filter(|(status, _)| **status != 502).collect();
    let others: u64 = refused.iter().map(|(_, count)| **count).sum();
    let by_status: Vec<_> = refused.iter().map(|(status, count)| format!("{status}: {count}")).collect();
    let curve: Vec<_> = curve(&told.admitted).iter().map(ToString::to_string).collect();
    let seen = |[quiet, storm]: [Duration; 2]| {
        let [quiet, storm] = [quiet, storm].map(|wait| wait.as_secs_f64() * 1e3);
        format!("{quiet:.2}, {storm:.2}, {:.2}", storm / quiet)
    };
    format!(
        "## {}\n\n| | |\n|---|---|\n\
         | in after, s: first, median, last | {:.2}, {:.2}, {last:.2} |\n\
         | last ÷ (N ÷ rate = {ideal:.2} s), at most 1.2 | {:.2} |\n\
         | not in at the end | {} |\n\
         | 502 | {} |\n\
         | other refusals, each followed by another try | {others} ({}) |\n\
         | connections without an answer | {} |\n\
         | in, and no echo; not resumed | {}; {} |\n\
         | p99 of {} talking tunnels, ms: quiet, in the storm, ratio (at most 1.5) | {} |\n\
         | … at the median of the half seconds | {} |\n\
         | p99 of {CONTROLS} tunnels to backends on the gateway's core | {} |\n\
         | … at the median of the half seconds | {} |\n\
         | talking tunnels lost | {lost} |\n\n\
         Admissions in each second: {}\n\n",
        peer.title(),
        at(0.0),
        at(0.5),
        last / ideal,
        plan.clients - told.admitted.len().min(plan.clients),
        told.refused.get(&502).copied().unwrap_or_default(),
        by_status.join(", "),
        told.broken,
        told.silent,
        told.unresumed,
        plan.talkers,
        seen(talkers.map(|waits| waits.whole)),
        seen(talkers.map(|waits| waits.median)),
        seen(controls.map(|waits| waits.whole)),
        seen(controls.map(|waits| waits.median)),
        curve.join(" "),
    )
}

/// Number of clients that were let in in each second; `admitted` is sorted.
fn curve(admitted: &[u64]) -> Vec<usize> {
    let seconds = admitted.last().map_or(0, |last| last / 1000 + 1);
    (0..seconds).map(|second| admitted.iter().filter(|at| **at / 1000 == second).count()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_has_every_second_up_to_the_last() {
        assert_eq!(curve(&[0, 999, 1000, 3500]), [2, 1, 0, 1]);
        assert!(curve(&[]).is_empty());
    }
}
