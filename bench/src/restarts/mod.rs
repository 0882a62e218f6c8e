//! A rolling restart: each of ten backends goes away for some seconds, one after the other, and its clients come back.

mod backends;
mod clients;
mod gateways;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::peer::{Ground, Peer};
use crate::report::About;
use backends::Backends;
use clients::Clients;
pub use gateways::Case;
use gateways::Gateway;

/// Plan of a restart.
pub struct Plan {
    /// The gateways, in turn.
    pub peers: Vec<Peer>,
    /// Clients, each with a key of its own and a tunnel that it opens again whenever it ends.
    pub clients: usize,
    /// Backends, restarted one after the other.
    pub backends: usize,
    /// Time for which each is away.
    pub away: Duration,
    /// Time between the return of one and the end of the next.
    pub pause: Duration,
}

/// Figures of one case.
#[derive(Debug)]
struct Outcome {
    /// Number of tunnels that were opened again, for each client.
    reconnects: f64,
    /// Share of the clients whose tunnel leads to the backend that they began with. `None` where every such backend was
    /// replaced.
    at_home: Option<f64>,
    /// Answers by status, other than 101.
    refused: Vec<(u16, usize)>,
    /// Number of connections that failed in another way.
    failed: usize,
    /// Median and longest time that a client was without its tunnel.
    without: [Duration; 2],
}

/// Most reconnects of a client whose backend it waits for.
const GOAL_NAMED: f64 = 1.1;
/// Most reconnects of a client whose backend is replaced by another one.
const GOAL_REPLACED: f64 = 1.3;
/// Longest wait for all clients to have a tunnel, at the beginning and at the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the plan, prints the figures, and writes them as `restarts.md` into `out`.
///
/// # Errors
/// When Longhaul misses its goals; when the user wants an end.
pub fn run(plan: &Plan, ground: &Ground, out: Option<&Path>) -> Result<()> {
    let mut page = String::from(
        "| gateway | backends | reconnects a client | at home at the end | 502 / 503 | other failures | \
         without a tunnel, median / longest |\n|---|---|---|---|---|---|---|\n",
    );
    let mut missed = Vec::new();
    let cases = plan.peers.iter().flat_map(|&peer| Case::of(peer).iter().map(move |&case| (peer, case)));
    for (peer, case) in cases {
        eprintln!("{}: {}", peer.title(), case.title());
        let outcome = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
            // Whatever happens, it ends.
            let each = plan.away + plan.pause + Duration::from_secs(5);
            let most = each * plan.backends as u32 + 3 * PATIENCE;
            tokio::time::timeout(most, measure(plan, peer, case, ground)).await.context("it does not end")?
        });
        match outcome {
            Ok(outcome) => {
                page += &row(peer, case, &outcome);
                missed.extend(misses(case, &outcome));
            }
            Err(error) => {
                ground.stop.check()?;
                writeln!(page, "| {} | {} | not measured: {error:#} | | | | |", peer.title(), case.title())?;
                if peer == Peer::Longhaul {
                    missed.push(format!("{}: {error:#}", case.title()));
                }
            }
        }
    }
    let method = format!(
        "{} clients, each with a key of its own, {} backends; one after the other ends with its connections, is away \
         for {} s and is given {} s when it is back. Clients come back within a tenth of a second.",
        plan.clients,
        plan.backends,
        plan.away.as_secs_f64(),
        plan.pause.as_secs_f64()
    );
    let page = format!("{page}\n{}", About::here(&plan.peers, &ground.longhaul, method).markdown());
    print!("{page}");
    if let Some(folder) = out {
        std::fs::create_dir_all(folder).context("the folder cannot be made")?;
        std::fs::write(folder.join("restarts.md"), page)?;
    }
    ensure!(missed.is_empty(), "goals missed: {}", missed.join("; "));
    Ok(())
}

async fn measure(plan: &Plan, peer: Peer, case: Case, ground: &Ground) -> Result<Outcome> {
    let mut backends = Backends::start(plan.backends).await?;
    let mut gateway = Gateway::start(peer, case, &backends, ground).await?;
    let clients = Clients::begin(gateway.address, plan.clients);
    clients.all_open(PATIENCE, &ground.stop).await.context("clients have no tunnel at the beginning")?;
    clients.begin_to_count();
    for place in 0..plan.backends {
        if case == Case::Replaced {
            backends.add(place).await?;
            gateway.tell(&backends)?;
            wait(plan.away, ground).await?;
            backends.end_replaced(place).await;
            gateway.tell(&backends)?;
        } else {
            backends.end(place).await;
            gateway.tell(&backends)?;
            wait(plan.away, ground).await?;
            backends.start_again(place, case.returns_elsewhere()).await?;
            gateway.tell(&backends)?;
        }
        wait(plan.pause, ground).await?;
    }
    clients.all_open(PATIENCE, &ground.stop).await.context("clients have no tunnel at the end")?;
    let outcome = clients.outcome(case != Case::Replaced);
    clients.end().await;
    Ok(outcome)
}

async fn wait(duration: Duration, ground: &Ground) -> Result<()> {
    let until = tokio::time::Instant::now() + duration;
    while tokio::time::Instant::now() < until {
        ground.stop.check()?;
        tokio::time::sleep_until(until.min(tokio::time::Instant::now() + Duration::from_millis(50))).await;
    }
    Ok(())
}

/// Goals that Longhaul misses.
fn misses(case: Case, outcome: &Outcome) -> Vec<String> {
    let mut missed = Vec::new();
    let mut miss = |is_missed: bool, what: String| {
        if is_missed {
            missed.push(format!("{}: {what}", case.title()));
        }
    };
    match case {
        Case::NamedAndHeld => {
            miss(outcome.reconnects > GOAL_NAMED, format!("{:.2} reconnects a client", outcome.reconnects));
            miss(outcome.at_home < Some(1.0), format!("{:?} at home", outcome.at_home));
            miss(outcome.count(&[502, 503]) > 0, "502 or 503".to_owned());
        }
        Case::Replaced => {
            miss(outcome.reconnects > GOAL_REPLACED, format!("{:.2} reconnects a client", outcome.reconnects));
            miss(outcome.count(&[502, 503]) > 0, "502 or 503".to_owned());
        }
        _ => {}
    }
    missed
}

fn row(peer: Peer, case: Case, outcome: &Outcome) -> String {
    let at_home = outcome.at_home.map_or("–".to_owned(), |share| format!("{:.1} %", share * 100.0));
    let others: usize = outcome.refused.iter().filter(|(status, _)| ![502, 503].contains(status)).map(|(_, n)| n).sum();
    let [median, longest] = outcome.without.map(|time| format!("{:.1} s", time.as_secs_f64()));
    format!(
        "| {} | {} | {:.2} | {at_home} | {} / {} | {} | {median} / {longest} |\n",
        peer.title(),
        case.title(),
        outcome.reconnects,
        outcome.count(&[502]),
        outcome.count(&[503]),
        others + outcome.failed,
    )
}

impl Outcome {
    fn count(&self, statuses: &[u16]) -> usize {
        self.refused.iter().filter(|(status, _)| statuses.contains(status)).map(|(_, count)| count).sum()
    }
}
