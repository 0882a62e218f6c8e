//! The command line.

mod arguments;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use rustix::process::{Resource, Rlimit};

use crate::curves;
use crate::echo;
use crate::generator::Generator;
use crate::load::crowd;
use crate::members;
use crate::netns::Namespace;
use crate::peer::{Clients, Ground, Peer};
use crate::reattach;
use crate::report::{self, About};
use crate::restarts;
use crate::run::{self, Plan};
use crate::session;
use crate::soak;
use crate::stop::Stop;
use crate::storm;
use crate::tls::Certificate;
use crate::upgrades;
use crate::work::{Amount, Work};
use arguments::{Cli, Options, Places, StormTls, Sub};

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // The generator leads a session, as the gateways and the backends do.
    if !matches!(cli.command, Some(Sub::Echo { .. } | Sub::Launch { .. } | Sub::Crowd { .. })) {
        match session::lead() {
            Ok(None) => {}
            Ok(Some(code)) => return code,
            Err(error) => return report_error(&error),
        }
    }
    let result = match cli.command {
        Some(Sub::Echo { listen, name, handshake_us, queue }) => {
            let slow = handshake_us.map(|each| echo::Slow { each: Duration::from_micros(each), queue });
            backend(listen, &name, slow)
        }
        Some(Sub::Crowd { job }) => raise_descriptors().and_then(|()| crowd::run(&job)),
        Some(Sub::Storm { peers, clients, rate, tls, talkers, places }) => ground(&places).and_then(|ground| {
            let peers = installed(&peers, &places);
            let (clients, talkers) = (clients as usize, talkers as usize);
            let tls = tls.map_or(Clients::Plain, StormTls::clients);
            let rate = rate.unwrap_or(if tls == Clients::Plain { 500 } else { 150 });
            storm::run(&storm::Plan { peers, clients, rate, tls, talkers }, &ground, places.out.as_deref())
        }),
        Some(Sub::Reattach { peers, clients, pause, places }) => ground(&places).and_then(|ground| {
            let peers = installed(&peers, &places);
            let pause = Duration::from_secs_f64(pause);
            reattach::run(&reattach::Plan { peers, clients: clients as usize, pause }, &ground, places.out.as_deref())
        }),
        Some(Sub::Restarts { peers, clients, backends, away, pause, places }) => ground(&places).and_then(|ground| {
            let peers = installed(&peers, &places);
            let (away, pause) = (Duration::from_secs_f64(away), Duration::from_secs_f64(pause));
            let plan = restarts::Plan { peers, clients: clients as usize, backends: backends as usize, away, pause };
            restarts::run(&plan, &ground, places.out.as_deref())
        }),
        Some(Sub::Launch { end, words }) => session::launch(end, &words),
        Some(Sub::Curves { peers, repeats, seconds, rate, places }) => ground(&places).and_then(|ground| {
            let load = Duration::from_secs_f64(seconds);
            let peers = installed(&peers, &places);
            let plan = curves::Plan { peers, repeats: repeats as usize, load, rate };
            curves::run(&plan, &ground, places.out.as_deref())
        }),
        Some(Sub::Soak { peer, minutes, tunnels, places }) => ground(&places).and_then(|ground| {
            let length = Duration::from_secs_f64(minutes * 60.0);
            soak::run(&soak::Plan { peer, length, tunnels: tunnels as usize }, &ground, places.out.as_deref())
        }),
        Some(Sub::Upgrades { tunnels, times, places }) => ground(&places).and_then(|ground| {
            upgrades::run(&upgrades::Plan { tunnels: tunnels as usize, times: times as usize }, &ground)
        }),
        Some(Sub::Members { members, tunnels, changes, places }) => ground(&places)
            .and_then(|ground| members::run(&members::Plan { members, tunnels: tunnels as usize, changes }, &ground)),
        None => compare(&cli.options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report_error(&error),
    }
}

fn report_error(error: &anyhow::Error) -> ExitCode {
    eprintln!("longhaul-bench: {error:#}");
    ExitCode::FAILURE
}

fn compare(options: &Options) -> Result<()> {
    let ground = Ground { generator: options.generator, ..ground(&options.places)? };
    let namespace = matches!(options.generator, Generator::TokioNetns).then(Namespace::new).transpose()?;
    let ground = Ground { namespace, ..ground };
    let plan = options.plan()?;
    let results = run::run(&plan, &ground)?;
    let about = About::here(&plan.peers, &ground.longhaul, plan.method());
    print!("{}", report::page(&results, &about));
    match &options.places.out {
        Some(folder) => report::write(folder, &results, &about),
        None => Ok(()),
    }
}

/// Prepares this process for measurements.
fn ground(places: &Places) -> Result<Ground> {
    raise_descriptors()?;
    // Processes that a gateway leaves behind when it replaces itself become children of this process, and end with the
    // rest.
    rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1)).context("orphans cannot be adopted")?;
    let (longhaul, generator) = (places.longhaul.clone(), Generator::Mio);
    let certificate = Certificate::new()?;
    Ok(Ground { longhaul, stop: Stop::on_signals()?, certificate, generator, namespace: None })
}

impl Options {
    fn plan(&self) -> Result<Plan> {
        let either = |full: f64, quick: f64| if self.quick { quick } else { full };
        let seconds = |chosen: Option<f64>, default: f64| Duration::from_secs_f64(chosen.unwrap_or(default));
        let repeats = self.repeats.unwrap_or(if self.quick { 2 } else { 5 }) as usize;
        let wait = seconds(self.wait, either(10.0, 3.0));
        let mut works = all_if_empty(&self.only);
        if self.only.is_empty() {
            works.retain(|work| work.is_offered(self.generator));
        }
        let missing = works.iter().find(|work| !work.is_offered(self.generator));
        ensure!(missing.is_none(), "this generator has no {:?}", missing.unwrap_or(&Work::Paced));
        Ok(Plan {
            peers: installed(&all_if_empty(&self.peers), &self.places),
            works,
            generator: self.generator,
            repeats,
            steady_repeats: repeats.min(if self.quick { 1 } else { 3 }),
            amount: Amount {
                load: seconds(self.seconds, either(1.5, 0.7)),
                idle: self.idle as usize,
                wait,
                watch: wait.mul_f64(1.5),
                rate: self.rate,
            },
        })
    }
}

fn all_if_empty<T: ValueEnum + Clone>(chosen: &[T]) -> Vec<T> {
    if chosen.is_empty() { T::value_variants().to_vec() } else { chosen.to_vec() }
}

/// The installed ones of these peers. Names the others on standard error.
fn installed(peers: &[Peer], places: &Places) -> Vec<Peer> {
    let mut peers = peers.to_vec();
    peers.retain(|peer| {
        let is_there = *peer == Peer::Direct || peer.program(&places.longhaul).is_some();
        if !is_there {
            let remedy = match peer {
                Peer::Longhaul => "make build, or --longhaul PATH",
                Peer::Pingora => "make stock-pingora",
                _ => "bench/install.sh",
            };
            eprintln!("longhaul-bench: {} is not there and left out ({remedy})", peer.title());
        }
        is_there
    });
    peers
}

fn backend(listen: SocketAddr, name: &str, slow: Option<echo::Slow>) -> Result<()> {
    raise_descriptors()?;
    echo::serve(listen, name, slow)
}

/// Raises the limit of open files to the maximum of this machine, for this process and its children.
fn raise_descriptors() -> Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(Resource::Nofile, raised).context("the limit of open files cannot be raised")
}
