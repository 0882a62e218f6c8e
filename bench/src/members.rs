//! Open tunnels while one of very many members of an upstream changes, again and again. Each change is to be in force
//! soon, and no tunnel may wait for it.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::histogram::Histogram;
use crate::load::{self, Fleet, Outcome};
use crate::peer::{Clients, Ground, Peer, Setting, Site};
use crate::stop::Stop;
use crate::ws::Message;

/// Plan of a run.
pub struct Plan {
    /// Members of the upstream.
    pub members: u32,
    /// Open tunnels, each to the member that its client's address leads to.
    pub tunnels: usize,
    /// Changes of one member each.
    pub changes: u32,
}

/// Messages a second over the tunnels, and over those of the gateway whose members stay.
const RATE: f64 = 1_000.0;
/// Tunnels through the gateway whose members stay.
const BESIDE: usize = 200;
const WARM_UP: Duration = Duration::from_millis(500);
const QUIET: Duration = Duration::from_secs(5);
/// Time from one change to the next.
const APART: Duration = Duration::from_millis(250);
/// The longest time until all members are checked, and the longest wait for an answer of the control socket.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest a change may take, and the longest that a tunnel may wait for it.
const IN_FORCE: Duration = Duration::from_millis(50);
const WAIT: Duration = Duration::from_millis(5);

/// Runs it, and prints a table and the verdict. A second gateway stays as it is under the same load: what its tunnels
/// wait for is the cores, which the members are not charged with.
///
/// # Errors
/// When a tunnel was lost or an answer was wrong, when half of the changes took longer than 50 ms, when 99.9 % of the
/// echoes did not come within 5 ms more than through the gateway that stays, or when the user wants an end.
pub fn run(plan: &Plan, ground: &Ground) -> Result<()> {
    let setting = Setting {
        workers: 2,
        is_replaced: false,
        is_logged: false,
        clients: Clients::Plain,
        storm: None,
        is_restarted: false,
    };
    let stays = Site::start(Peer::Longhaul, setting, ground)?;
    let mut site = Site::start(Peer::Longhaul, setting, ground)?;
    let port = site.start_everywhere()?;
    push_members(&site)?;
    let list: Vec<Value> = (0..plan.members).map(|number| member(number, port)).collect();
    let begun = Instant::now();
    tell(&site, "set", &list)?;
    println!("{} members in force after {:.0} ms", plan.members, begun.elapsed().as_secs_f64() * 1e3);
    wait_for_checks(&site, &ground.stop)?;
    let mut fleet = Fleet::open(&site.targets, plan.tunnels, &ground.stop)?;
    let mut beside = Fleet::open(&stays.targets, BESIDE, &ground.stop)?;
    let (quiet, _) = loaded([&mut fleet, &mut beside], || ground.stop.wait(WARM_UP + QUIET))?;
    let (busy, times) = loaded([&mut fleet, &mut beside], || changes(plan, &site, port, &ground.stop))?;
    let lost = fleet.lost() + beside.lost();
    let errors: u64 = quiet.iter().chain(&busy).map(|outcome| outcome.errors).sum();
    print_table(plan, &quiet, &busy, &times);
    ensure!(lost == 0 && errors == 0, "{lost} tunnels were lost, {errors} answers were wrong or missing");
    ensure!(times.quantile(0.5) <= IN_FORCE, "half of the changes took longer than {IN_FORCE:?}");
    let beyond = busy[0].latency.quantile(0.999).saturating_sub(busy[1].latency.quantile(0.999));
    ensure!(beyond <= WAIT, "tunnels waited longer than {WAIT:?}");
    Ok(())
}

/// Replaces the backends of the configuration by members that are told, and are checked once.
fn push_members(site: &Site) -> Result<()> {
    let text = std::fs::read_to_string(&site.file)?;
    let (head, rest) = text.split_once("    backends:\n").context("the configuration has no backends")?;
    let (_, tail) = rest.split_once("    health: off\n").context("the configuration checks health")?;
    std::fs::write(&site.file, format!("{head}    discover: push\n    health: {{ interval: 1h }}\n{tail}"))?;
    site.command(&["reload".into(), "-c".into(), site.file.clone()])
}

/// A member at an address of its own, each of which the same backend serves.
fn member(number: u32, port: u16) -> Value {
    let address = Ipv4Addr::from_bits(Ipv4Addr::new(127, 128, 0, 1).to_bits() + number);
    json!({ "name": format!("shard-{number}"), "address": format!("{address}:{port}") })
}

/// Changes members by the control socket. They are in force when it returns.
fn tell(site: &Site, action: &str, members: &[Value]) -> Result<()> {
    let mut socket = UnixStream::connect(site.path("control.sock")).context("no control socket")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let command =
        json!({ "version": 1, "command": "members", "upstream": "echo", "action": action, "members": members });
    socket.write_all(format!("{command}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(socket).read_line(&mut answer)?;
    let answer: Value = serde_json::from_str(&answer).context("no answer of the control socket")?;
    ensure!(answer["reply"] == "done", "the members were refused: {answer}");
    Ok(())
}

/// Waits until requests of many clients are answered by the members that they belong to.
fn wait_for_checks(site: &Site, stop: &Stop) -> Result<()> {
    let are_up =
        || Ok((0..100).all(|client| load::ask(client, &site.targets).is_ok_and(|answer| answer.status == 200)));
    ensure!(stop.wait_until(PATIENCE, are_up)?, "the members do not answer");
    Ok(())
}

/// Puts a load on both fleets until `act` has returned.
fn loaded<T>(fleets: [&mut Fleet; 2], act: impl FnOnce() -> Result<T>) -> Result<([Outcome; 2], T)> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let loads = fleets.map(|fleet| scope.spawn(|| load(fleet, &is_over)));
        let acted = act();
        is_over.store(true, Ordering::Relaxed);
        let mut outcomes = [Outcome::default(), Outcome::default()];
        for (outcome, load) in outcomes.iter_mut().zip(loads) {
            let Ok(loaded) = load.join() else { bail!("the thread of a load panicked") };
            *outcome = loaded?;
        }
        Ok((outcomes, acted?))
    })
}

fn load(fleet: &mut Fleet, is_over: &AtomicBool) -> Result<Outcome> {
    let message = Message::new(64);
    let mut all = fleet.paced(&message, RATE, WARM_UP)?;
    all.latency = Histogram::default();
    while !is_over.load(Ordering::Relaxed) {
        all.add(&fleet.paced(&message, RATE, APART)?);
    }
    Ok(all)
}

/// One member more and one less in turn; the times until each was in force.
fn changes(plan: &Plan, site: &Site, port: u16, stop: &Stop) -> Result<Histogram> {
    let mut times = Histogram::default();
    stop.wait(WARM_UP)?;
    for number in 0..plan.changes {
        let action = if number % 2 == 0 { "add" } else { "remove" };
        let begun = Instant::now();
        tell(site, action, &[member(plan.members, port)])?;
        times.record(begun.elapsed());
        stop.wait(APART)?;
    }
    Ok(times)
}

fn print_table(plan: &Plan, quiet: &[Outcome; 2], busy: &[Outcome; 2], times: &Histogram) {
    let ms = |histogram: &Histogram, part: f64| histogram.quantile(part).as_secs_f64() * 1e3;
    let mut text = String::from("\n| echoes, ms | 50 % | 99 % | 99.9 % | longest |\n|---|---|---|---|---|\n");
    for (what, [own, beside]) in [("nothing changes", quiet), ("members change", busy)] {
        for (which, outcome) in [("", own), (", a gateway beside it", beside)] {
            let [half, most, nearly, all] = [0.5, 0.99, 0.999, 1.0].map(|part| ms(&outcome.latency, part));
            // Writing to a string does not fail.
            let _ = writeln!(text, "| {what}{which} | {half:.2} | {most:.2} | {nearly:.2} | {all:.2} |");
        }
    }
    println!("{text}");
    println!(
        "{} changes of one of {} members under {} tunnels: in force after {:.1} ms at the median, {:.1} ms at the most",
        plan.changes,
        plan.members,
        plan.tunnels,
        ms(times, 0.5),
        ms(times, 1.0)
    );
}
