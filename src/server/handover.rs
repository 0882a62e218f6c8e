//! The predecessor's side of a handover, as the operator carries it out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{error, info, warn};

use super::notify;
use super::operator::Operator;
use super::signals::Signals;
use crate::handover::{BATCH, Failure, Giver};
use crate::snapshot::Running;
use crate::tunnel::{Batch, Frozen, Reason, Scope};

/// What a handover moved.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moved {
    pub(super) tunnels: usize,
    /// How many stayed, and ended or end here.
    pub(super) stayed: usize,
    /// The longest time that a tunnel stood still on our side.
    pub(super) longest_pause: Duration,
}

impl Operator {
    /// Hands everything over to the successor that `giver` speaks to. Where that succeeds this process is to end.
    ///
    /// # Errors
    /// What went wrong. This process goes on: it accepts again, and has every tunnel that the successor has not.
    pub(super) async fn give_way(&mut self, giver: Giver, signals: &mut Signals) -> Result<Moved, Failure> {
        let handed_over = self.hand_over(giver, signals).await;
        match &handed_over {
            Ok(moved) => self.history.upgraded(true, format!("{} tunnels moved", moved.tunnels)),
            Err(failure) => {
                error!("the handover failed, this process goes on: {failure}");
                self.history.upgraded(false, failure.to_string());
                if let Err(error) = self.acceptor.start() {
                    error!("{error}");
                }
            }
        }
        handed_over
    }

    async fn hand_over(&mut self, mut giver: Giver, signals: &mut Signals) -> Result<Moved, Failure> {
        let sockets = self.acceptor.copies().map_err(Failure::Gone)?;
        let serving = blocking(move || match giver.welcome(&sockets).and_then(|()| giver.wait_serving()) {
            Ok(()) => Ok(giver),
            Err(failure) => {
                giver.abort(&failure.to_string());
                Err(failure)
            }
        });
        let giver = tokio::select! {
            giver = serving => giver?,
            // Nothing has changed hands. A successor that comes to serve finds this process gone, and goes on alone.
            () = signals.told_to_end() => return Err(Failure::Refused("this process is told to end".into())),
        };
        // Both accept now; from here on only the successor does.
        self.acceptor.pause();
        let running = Arc::clone(&self.running);
        let (giver, moved) = blocking(move || {
            let giver = move_hooks(giver, &running)?;
            let (mut giver, moved) = move_tunnels(giver, &running, Moved::default())?;
            info!("{} tunnels moved, longest pause {:?}", moved.tunnels, moved.longest_pause);
            giver.done()?;
            Ok((giver, moved))
        })
        .await?;
        notify::successor(giver.successor().pid);
        // Listeners that the successor does not have refuse from now on.
        self.acceptor.close();
        let mut moved = tokio::select! {
            moved = self.finish_requests(giver, moved) => moved,
            () = signals.told_to_end() => moved,
        };
        moved.stayed = moved.stayed.max(self.running.tunnels.count());
        info!(
            "handed over: {} tunnels moved, {} stayed, longest pause {:?}",
            moved.tunnels, moved.stayed, moved.longest_pause
        );
        Ok(moved)
    }

    /// Serves the requests under way to their end, moves the tunnels that handshakes among them still open or that hooks were
    /// busy with, and ends those that cannot move.
    async fn finish_requests(&self, giver: Giver, mut moved: Moved) -> Moved {
        let drain = self.running.snapshot().config.drain;
        let begun = Instant::now();
        let mut deadline = begun + self.longest.unwrap_or(REQUESTS_WITHIN);
        let mut giver = Some(giver);
        let mut looks = tokio::time::interval(LOOK_AGAIN);
        let mut told = 0;
        loop {
            if moved.stayed > told {
                let more = moved.stayed - told;
                told = moved.stayed;
                info!("{more} tunnels cannot move, and end within {}", humantime::format_duration(drain.window));
                let left = (begun + drain.window).saturating_duration_since(Instant::now());
                self.running.tunnels.end(&Scope::Staying, Reason::Shutdown { code: drain.code }, left);
                deadline = deadline.max(begun + drain.window + GOODBYE_WITHIN);
            }
            looks.tick().await;
            let tunnels = self.running.tunnels.count();
            if tunnels == 0 && self.acceptor.connections().are_gone() {
                return moved;
            }
            if Instant::now() >= deadline {
                return moved;
            }
            let Some(able) = giver.take_if(|_| tunnels > 0) else { continue };
            let running = Arc::clone(&self.running);
            match blocking(move || move_tunnels(able, &running, moved)).await {
                Ok((able, more)) => (giver, moved) = (Some(able), more),
                Err(failure) => warn!("tunnels that opened during the handover stay here: {failure}"),
            }
        }
    }
}

/// Gives the successor the state that hooks have of their own.
fn move_hooks(mut giver: Giver, running: &Running) -> Result<Giver, Failure> {
    let saved = running.snapshot().save_hooks();
    if !saved.is_empty()
        && let Err(failure) = giver.offer_hooks(saved).and_then(|()| giver.commit())
    {
        giver.abort(&failure.to_string());
        return Err(failure);
    }
    Ok(giver)
}

/// Moves every tunnel that can move, batch by batch.
fn move_tunnels(mut giver: Giver, running: &Running, mut moved: Moved) -> Result<(Giver, Moved), Failure> {
    loop {
        let begun = Instant::now();
        let Batch { frozen: batch, staying, .. } = running.tunnels.freeze(BATCH);
        if batch.is_empty() {
            moved.stayed += staying;
            return Ok((giver, moved));
        }
        if let Err(failure) = giver.offer(&batch).and_then(|()| giver.commit()) {
            batch.into_iter().for_each(|frozen| running.tunnels.thaw(frozen));
            giver.abort(&failure.to_string());
            return Err(failure);
        }
        moved.tunnels += batch.len();
        batch.into_iter().for_each(Frozen::give_up);
        moved.longest_pause = moved.longest_pause.max(begun.elapsed());
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Failure::Refused(error.to_string())))
}

/// How long requests may take that were under way at a handover, where `grace_period_seconds` says nothing: Pingora's own
/// default for it.
const REQUESTS_WITHIN: Duration = Duration::from_secs(300);
/// How long the last tunnel that stays may take to say goodbye (5 s) and to end.
const GOODBYE_WITHIN: Duration = Duration::from_secs(10);
/// How often a process that has handed over looks for what is left.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
