//! The predecessor's side of a handover: gives sockets and tunnels to a successor.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{error, info, warn};

use super::notify;
use super::operator::Operator;
use super::signals::Signals;
use crate::handover::{BATCH, HandoverError, ToSuccessor};
use crate::snapshot::Running;
use crate::tunnel::{Batch, Frozen, Reason, Scope};

/// Result of a handover.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moved {
    pub(super) tunnels: usize,
    /// Number of tunnels that stayed, and have ended or end here.
    pub(super) stayed: usize,
    /// The longest time that a tunnel stood still in this process.
    pub(super) longest_pause: Duration,
}

impl Operator {
    /// Hands everything over to the successor that `successor` speaks to. Where that succeeds this process is to end.
    ///
    /// # Errors
    /// What went wrong. This process goes on: it accepts again, and has every tunnel that the successor has not.
    pub(super) async fn give_way(
        &mut self,
        successor: ToSuccessor,
        signals: &mut Signals,
    ) -> Result<Moved, HandoverError> {
        let handed_over = self.hand_over(successor, signals).await;
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

    async fn hand_over(&mut self, mut successor: ToSuccessor, signals: &mut Signals) -> Result<Moved, HandoverError> {
        let sockets = self.acceptor.copies().map_err(HandoverError::Gone)?;
        let serving = blocking(move || match successor.welcome(&sockets).and_then(|()| successor.wait_serving()) {
            Ok(()) => Ok(successor),
            Err(failure) => {
                successor.abort(&failure.to_string());
                Err(failure)
            }
        });
        let successor = tokio::select! {
            successor = serving => successor?,
            // Nothing has changed hands. A successor that comes to serve finds this process gone, and goes on alone.
            () = signals.told_to_end() => return Err(HandoverError::Refused("this process is told to end".into())),
        };
        // Both accept now; from here on only the successor does.
        self.acceptor.pause();
        let running = Arc::clone(&self.running);
        let (successor, moved) = blocking(move || {
            let successor = move_hooks(successor, &running)?;
            let (mut successor, moved) = move_tunnels(successor, &running, Moved::default())?;
            info!("{} tunnels moved, longest pause {:?}", moved.tunnels, moved.longest_pause);
            successor.done()?;
            Ok((successor, moved))
        })
        .await?;
        notify::successor(successor.successor().pid);
        // Listeners that the successor does not have refuse from now on.
        self.acceptor.close();
        let mut moved = tokio::select! {
            moved = self.finish_requests(successor, moved) => moved,
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
    async fn finish_requests(&self, successor: ToSuccessor, mut moved: Moved) -> Moved {
        let drain = self.running.snapshot().config.drain;
        let begun = Instant::now();
        let mut deadline = begun + self.longest.unwrap_or(REQUESTS_WITHIN);
        let mut successor = Some(successor);
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
            let Some(able) = successor.take_if(|_| tunnels > 0) else { continue };
            let running = Arc::clone(&self.running);
            match blocking(move || move_tunnels(able, &running, moved)).await {
                Ok((able, more)) => (successor, moved) = (Some(able), more),
                Err(failure) => warn!("tunnels that opened during the handover stay here: {failure}"),
            }
        }
    }
}

/// Gives the successor the state that hooks have of their own.
fn move_hooks(mut successor: ToSuccessor, running: &Running) -> Result<ToSuccessor, HandoverError> {
    let saved = running.snapshot().save_hooks();
    if !saved.is_empty()
        && let Err(failure) = successor.offer_hooks(saved).and_then(|()| successor.commit())
    {
        successor.abort(&failure.to_string());
        return Err(failure);
    }
    Ok(successor)
}

/// Moves every tunnel that can move, batch by batch.
fn move_tunnels(
    mut successor: ToSuccessor,
    running: &Running,
    mut moved: Moved,
) -> Result<(ToSuccessor, Moved), HandoverError> {
    loop {
        let begun = Instant::now();
        let Batch { frozen: batch, staying, .. } = running.tunnels.freeze(BATCH);
        if batch.is_empty() {
            moved.stayed += staying;
            return Ok((successor, moved));
        }
        if let Err(failure) = successor.offer(&batch).and_then(|()| successor.commit()) {
            batch.into_iter().for_each(|frozen| running.tunnels.thaw(frozen));
            successor.abort(&failure.to_string());
            return Err(failure);
        }
        moved.tunnels += batch.len();
        batch.into_iter().for_each(Frozen::give_up);
        moved.longest_pause = moved.longest_pause.max(begun.elapsed());
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HandoverError> + Send + 'static,
) -> Result<T, HandoverError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(HandoverError::Refused(error.to_string())))
}

/// How long requests may take that were under way at a handover, where `grace_period_seconds` says nothing: Pingora's own
/// default for it.
const REQUESTS_WITHIN: Duration = Duration::from_secs(300);
/// How long the last tunnel that stays may take to say goodbye (5 s) and to end.
const GOODBYE_WITHIN: Duration = Duration::from_secs(10);
/// How often a process that has handed over looks for what is left.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
