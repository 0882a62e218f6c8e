//! The course of a handover: hooks' states and tunnels move, batch by batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use log::warn;

use super::stopped::StoppedHandover;
use crate::handover::{BATCH, Handed, HandoverError, RefusedTunnel, ToSuccessor};
use crate::server::signals::Signals;
use crate::server::speak_tls::SpeakTls;
use crate::snapshot::Running;
use crate::tunnel::{Batch, Frozen};

/// Result of a handover.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::server) struct Moved {
    pub(in crate::server) tunnels: usize,
    /// Number of them that speak TLS.
    pub(in crate::server) tls: SpeakTls,
    /// Number of tunnels that stayed, and have ended or end here.
    pub(in crate::server) stayed: usize,
    /// The longest time that a tunnel stood still in this process.
    pub(in crate::server) longest_pause: Duration,
}

/// A handover under way: the connection, and what was moved by it.
pub(super) struct Course {
    pub(super) successor: ToSuccessor,
    pub(super) moved: Moved,
    running: Arc<Running>,
    /// The states of hooks have moved.
    hooks_moved: bool,
    /// Set to end the moving before the next batch.
    told_to_end: Arc<AtomicBool>,
}

/// Reason why the moving paused.
pub(super) enum Pause {
    /// No tunnel is left that can move now.
    NoneLeft,
    /// This process is told to end.
    ToldToEnd,
    /// The successor is silent, and nothing is lost by it.
    Silent(HandoverError),
}

impl Course {
    pub(super) fn new(successor: ToSuccessor, running: Arc<Running>) -> Self {
        Self { successor, moved: Moved::default(), running, hooks_moved: false, told_to_end: Arc::default() }
    }

    /// Moves tunnels until none is left, the successor is silent, or this process is told to end.
    pub(super) async fn go_on(self, signals: &mut Signals) -> Result<(Self, Pause), StoppedHandover> {
        let (told_to_end, running, moved_before) =
            (Arc::clone(&self.told_to_end), Arc::clone(&self.running), self.moved.tunnels);
        let moving = tokio::task::spawn_blocking(move || self.move_tunnels());
        tokio::pin!(moving);
        let moved = tokio::select! {
            moved = &mut moving => moved,
            () = signals.told_to_end() => {
                told_to_end.store(true, Ordering::Relaxed);
                moving.await
            }
        };
        moved.unwrap_or_else(|error| {
            let why = HandoverError::Refused(error.to_string());
            Err(StoppedHandover::halfway(moved_before, running.tunnels.count(), why))
        })
    }

    /// Moves the states of hooks, where that was not done yet, and then tunnels, batch by batch.
    fn move_tunnels(mut self) -> Result<(Self, Pause), StoppedHandover> {
        match self.move_hooks() {
            Ok(None) => {}
            Ok(Some(pause)) => return Ok((self, pause)),
            Err(failure) => return Err(self.abort(failure)),
        }
        loop {
            if self.told_to_end.load(Ordering::Relaxed) {
                return Ok((self, Pause::ToldToEnd));
            }
            let begun = Instant::now();
            let Batch { frozen: batch, staying, .. } = self.running.tunnels.freeze(BATCH, self.successor.takes_tls());
            if batch.is_empty() {
                self.moved.stayed += staying;
                return Ok((self, Pause::NoneLeft));
            }
            let handed = self.successor.hand(&batch);
            let pause = match handed {
                Ok(Handed::Taken { refused, silent }) => {
                    self.part_with(batch, &refused);
                    silent.map(Pause::Silent)
                }
                Ok(Handed::Withdrawn(failure)) => {
                    self.put_back(batch);
                    Some(Pause::Silent(failure))
                }
                Err(failure) => {
                    self.put_back(batch);
                    return Err(self.abort(failure));
                }
            };
            self.moved.longest_pause = self.moved.longest_pause.max(begun.elapsed());
            if let Some(pause) = pause {
                return Ok((self, pause));
            }
        }
    }

    /// Moves the states of hooks, once; returns the silence of the successor as a pause.
    fn move_hooks(&mut self) -> Result<Option<Pause>, HandoverError> {
        let saved = if self.hooks_moved { Vec::new() } else { self.running.snapshot().save_hooks() };
        if saved.is_empty() {
            self.hooks_moved = true;
            return Ok(None);
        }
        let handed = self.successor.hand_hooks(saved)?;
        self.hooks_moved = matches!(handed, Handed::Taken { .. });
        Ok(match handed {
            Handed::Taken { silent, .. } => silent.map(Pause::Silent),
            Handed::Withdrawn(failure) => Some(Pause::Silent(failure)),
        })
    }

    fn part_with(&mut self, batch: Vec<Frozen>, refused: &[RefusedTunnel]) {
        for (index, frozen) in batch.into_iter().enumerate() {
            match refused.iter().find(|refusal| refusal.index == index) {
                Some(RefusedTunnel { reason, .. }) => {
                    warn!("a tunnel stays here, the new process refuses it: {reason}");
                    self.running.tunnels.thaw(frozen.refuse());
                }
                None => {
                    self.moved.tunnels += 1;
                    self.moved.tls.count(frozen.tls());
                    frozen.give_up();
                }
            }
        }
    }

    fn put_back(&self, batch: Vec<Frozen>) {
        batch.into_iter().for_each(|frozen| self.running.tunnels.thaw(frozen));
    }

    /// Waits until a silent successor has answered; `false`: this process is told to end.
    pub(super) async fn wait_for_answer(
        mut self,
        until: tokio::time::Instant,
        silence: HandoverError,
        signals: &mut Signals,
    ) -> Result<(Self, bool), StoppedHandover> {
        loop {
            tokio::select! {
                stirs = self.successor.stirs() => if let Err(error) = stirs {
                    return Err(self.abort(HandoverError::Gone(error)));
                },
                () = tokio::time::sleep_until(until) => return Err(self.abort(silence)),
                () = signals.told_to_end() => return Ok((self, false)),
            }
            let caught_up = tokio::task::spawn_blocking(move || {
                let caught_up = self.successor.catch_up();
                (self, caught_up)
            });
            let caught_up = caught_up.await;
            let (course, caught_up) = caught_up.expect("reading an answer does not panic");
            self = course;
            match caught_up {
                Ok(()) => return Ok((self, true)),
                Err(failure) if failure.is_silence() => {}
                Err(failure) => return Err(self.abort(failure)),
            }
        }
    }

    /// Ends the handover where it stands.
    pub(super) fn abort(self, why: HandoverError) -> StoppedHandover {
        self.successor.abort(&why.to_string());
        StoppedHandover::halfway(self.moved.tunnels, self.running.tunnels.count(), why)
    }
}
