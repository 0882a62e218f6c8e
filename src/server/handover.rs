//! The predecessor's side of a handover, as the operator carries it out.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{error, info, warn};

use super::operator::Operator;
use crate::handover::{BATCH, Failure, Giver};
use crate::snapshot::Running;
use crate::tunnel::Frozen;

/// What a handover moved.
#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    tunnels: usize,
    /// The longest time that a tunnel stood still on our side.
    longest_pause: Duration,
}

impl Operator {
    /// Hands everything over to the process at the other end; says whether this one is to end.
    ///
    /// Where it fails this process goes on: it accepts again, and has every tunnel that was not committed.
    pub(super) async fn hand_over(&mut self, stream: UnixStream) -> bool {
        match self.try_to_hand_over(stream).await {
            Ok(()) => true,
            Err(failure) => {
                error!("the handover failed, this process goes on: {failure}");
                if let Err(error) = self.acceptor.start() {
                    error!("{error}");
                }
                false
            }
        }
    }

    async fn try_to_hand_over(&mut self, stream: UnixStream) -> Result<(), Failure> {
        let sockets = self.acceptor.copies().map_err(Failure::Gone)?;
        let giver = blocking(move || {
            let mut giver = Giver::greet(stream)?;
            let successor = giver.successor();
            info!("process {} (longhaul {}) asks to take over", successor.pid, successor.version);
            match giver.welcome(&sockets).and_then(|()| giver.wait_serving()) {
                Ok(()) => Ok(giver),
                Err(failure) => {
                    giver.abort(&failure.to_string());
                    Err(failure)
                }
            }
        })
        .await?;
        // Both accept now; from here on only the successor does.
        self.acceptor.pause();
        let running = Arc::clone(&self.running);
        let (mut giver, mut moved) = blocking(move || {
            let (giver, moved) = move_tunnels(giver, &running, Moved::default())?;
            info!("{} tunnels moved, longest pause {:?}", moved.tunnels, moved.longest_pause);
            Ok((giver, moved))
        })
        .await?;
        giver.done()?;
        // Listeners that the successor does not have refuse from now on.
        self.acceptor.close();
        let deadline = tokio::time::Instant::now() + self.grace;
        // Requests under way end here; handshakes among them may still become tunnels.
        let mut ticks = tokio::time::interval(STRAGGLERS);
        while !(self.acceptor.connections().are_gone() && self.running.tunnels.count() == 0)
            && tokio::time::timeout_at(deadline, ticks.tick()).await.is_ok()
        {
            let running = Arc::clone(&self.running);
            let step = blocking(move || move_tunnels(giver, &running, moved)).await;
            match step {
                Ok(step) => (giver, moved) = step,
                Err(failure) => {
                    warn!("tunnels that opened during the handover are cut off: {failure}");
                    break;
                }
            }
        }
        info!(
            "handed over: {} tunnels moved, {} stayed, longest pause {:?}",
            moved.tunnels,
            self.running.tunnels.count(),
            moved.longest_pause
        );
        Ok(())
    }
}

/// Moves every tunnel there is, batch by batch.
fn move_tunnels(mut giver: Giver, running: &Running, mut moved: Moved) -> Result<(Giver, Moved), Failure> {
    loop {
        let begun = Instant::now();
        let batch = running.tunnels.freeze(BATCH);
        if batch.is_empty() {
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

/// How often a process that has handed over looks for tunnels that opened since.
const STRAGGLERS: Duration = Duration::from_millis(20);
