//! The predecessor's side of a handover: gives sockets and tunnels to a successor.

mod course;
mod stopped;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use log::{error, info, warn};

use super::follow::Whereabouts;
use super::members::Meanwhile;
use super::notify;
use super::operator::Operator;
use super::signals::Signals;
use crate::config::Drain;
use crate::counted::counted;
use crate::drain;
use crate::handover::{HandoverError, PATIENCE, ToSuccessor};
use crate::reload;
use crate::tunnel::{Reason, Scope};
pub(super) use course::Moved;
use course::{Course, Pause};
use stopped::StoppedHandover;
pub(super) use stopped::TOLD_TO_END;

impl Operator {
    /// Hands everything over to a successor. Where that succeeds this process must end.
    ///
    /// # Errors
    /// The reason why it stopped. This process accepts again, and has every tunnel that the successor has not taken.
    pub(super) async fn give_way(
        &mut self,
        successor: ToSuccessor,
        signals: &mut Signals,
    ) -> Result<Moved, StoppedHandover> {
        self.whereabouts.send_replace(Whereabouts::Moving);
        // Clients that wait here for their turn at a backend go on by what becomes of it.
        let meanwhile = Meanwhile::begin(&self.running, &self.sources, &self.history);
        let handed_over = self.hand_over(successor, signals).await;
        if meanwhile.end().await && handed_over.is_err() {
            // Tunnels that were on their way, and are back, have not been judged by it.
            reload::enforce(&self.running).await;
        }
        if let Err(stopped) = &handed_over {
            self.whereabouts.send_replace(if stopped.moved > 0 { Whereabouts::Split } else { Whereabouts::Here });
        }
        match &handed_over {
            Ok(moved) => {
                self.history.upgraded(true, format!("{} moved{}", counted(moved.tunnels, "tunnel"), moved.tls))
            }
            Err(stopped) if stopped.told_to_end => info!("the handover is given up: {stopped}"),
            Err(stopped) => {
                error!("the handover failed, this process goes on: {stopped}");
                self.history.upgraded(false, stopped.to_string());
                if let Err(error) = self.acceptor.start() {
                    error!("{error}");
                }
            }
        }
        handed_over
    }

    async fn hand_over(&mut self, successor: ToSuccessor, signals: &mut Signals) -> Result<Moved, StoppedHandover> {
        let (successor, silence) = self.let_serve(successor, signals).await?;
        let course = Course::new(successor, Arc::clone(&self.running));
        let course = self.move_all(course, silence, signals).await?;
        let pid = course.successor.successor().pid;
        notify::successor(pid);
        self.whereabouts.send_replace(Whereabouts::There(pid));
        // Listeners that the successor does not have refuse from now on.
        self.acceptor.close();
        let mut moved = self.finish_requests(course, signals).await;
        moved.stayed = moved.stayed.max(self.running.tunnels.count());
        if moved.stayed > 0 && signals.take_terminate() {
            self.drain(signals, None).await;
        }
        info!(
            "handed over: {} moved, {} stayed, longest pause {:?}{}",
            counted(moved.tunnels, "tunnel"),
            moved.stayed,
            moved.longest_pause,
            moved.tls
        );
        Ok(moved)
    }

    /// Gives the successor the listening sockets, and waits until it accepts; returns its silence where it may accept
    /// and does not say so.
    async fn let_serve(
        &self,
        mut successor: ToSuccessor,
        signals: &mut Signals,
    ) -> Result<(ToSuccessor, Option<HandoverError>), StoppedHandover> {
        let entry = successor.entry();
        let failed = |failure| StoppedHandover::before_any(failure, !entry.revoke());
        let sockets = self.acceptor.copies().map_err(HandoverError::Gone).map_err(failed)?;
        let (drained, revocable) = (drain::drained_backends(&self.running), entry.clone());
        let speaks_tls = self.running.snapshot().listeners().iter().any(|listener| listener.tls.is_some());
        let ticket_keys = self.running.ticket_keys.save(SystemTime::now()).filter(|_| speaks_tls);
        let members = self.sources.save(&self.running.snapshot().members);
        let history = self.history.save(&self.running);
        let serving = blocking(move || {
            let welcomed = successor.welcome(&sockets, drained, members, ticket_keys, history);
            match welcomed.and_then(|()| successor.wait_serving()) {
                Ok(()) => Ok((successor, None)),
                Err(failure) if failure.is_silence() && !revocable.revoke() => Ok((successor, Some(failure))),
                Err(failure) => {
                    successor.abort(&failure.to_string());
                    Err(failure)
                }
            }
        });
        tokio::select! {
            serving = serving => serving.map_err(failed),
            // A successor that comes to serve finds this process gone, and goes on alone.
            () = signals.told_to_end() => Err(StoppedHandover::told_to_end()),
        }
    }

    /// Moves every tunnel that can move, and makes the successor the gateway. While the successor is silent, this
    /// process accepts and serves; `silence` where it is silent from the beginning.
    async fn move_all(
        &mut self,
        mut course: Course,
        mut silence: Option<HandoverError>,
        signals: &mut Signals,
    ) -> Result<Course, StoppedHandover> {
        let mut patient_until = None;
        loop {
            if let Some(failure) = silence.take() {
                let until = *patient_until.get_or_insert_with(|| tokio::time::Instant::now() + PATIENCE);
                warn!(
                    "the new process is silent, with {}; this process serves until it answers: {failure}",
                    counted(course.moved.tunnels, "tunnel")
                );
                if let Err(error) = self.acceptor.start() {
                    error!("{error}");
                }
                let answered;
                (course, answered) = course.wait_for_answer(until, failure, signals).await?;
                if !answered {
                    break;
                }
            }
            // Both accept now; from here on only the successor does.
            self.acceptor.pause();
            let before = course.moved.tunnels;
            let pause;
            (course, pause) = course.go_on(signals).await?;
            match pause {
                // Told to end, this process leaves the successor the gateway: it may have clients.
                Pause::NoneLeft | Pause::ToldToEnd => break,
                Pause::Silent(failure) => silence = Some(failure),
            }
            if course.moved.tunnels > before {
                patient_until = None;
            }
        }
        self.acceptor.pause();
        let Moved { tunnels, longest_pause, tls, .. } = course.moved;
        info!("{} moved, longest pause {longest_pause:?}{tls}", counted(tunnels, "tunnel"));
        match course.successor.done() {
            Ok(()) => Ok(course),
            Err(failure) => Err(course.abort(failure)),
        }
    }

    /// Serves the requests under way to their end, moves the tunnels that handshakes among them still open or that
    /// hooks were busy with, and ends those that cannot move.
    async fn finish_requests(&mut self, course: Course, signals: &mut Signals) -> Moved {
        let drain = self.running.snapshot().config.drain;
        let begun = Instant::now();
        let mut moved = course.moved;
        let mut deadline = begun + self.longest.unwrap_or(REQUESTS_WITHIN);
        let mut course = Some(course);
        let running = Arc::clone(&self.running);
        let mut told = 0;
        // Tunnels that were there when the last try moved none of them.
        let mut tried_in_vain = 0;
        loop {
            if moved.stayed > told {
                let scope = if course.is_some() { Scope::Staying } else { Scope::All };
                self.end_staying(&scope, moved.stayed - told, drain, begun);
                told = moved.stayed;
                deadline = deadline.max(begun + drain.window + GOODBYE_WITHIN);
            }
            let mut changed = std::pin::pin!(running.tunnels.changes().next());
            // Before the look, so that no change between the two is missed.
            changed.as_mut().enable();
            if self.is_quiet() || Instant::now() >= deadline {
                return moved;
            }
            let tunnels = running.tunnels.count();
            let Some(able) = course.take_if(|_| tunnels > tried_in_vain) else {
                // Tunnels that hooks are busy with are asked again now and then, even where nothing tells of them.
                let again = if tried_in_vain > 0 { deadline.min(Instant::now() + ASK_AGAIN) } else { deadline };
                if ends_before(changed, again, signals).await {
                    return moved;
                }
                tried_in_vain = 0;
                continue;
            };
            match able.go_on(signals).await {
                Ok((able, Pause::Silent(failure))) => {
                    warn!("tunnels that opened during the handover stay here: {failure}");
                    moved = able.moved;
                }
                Ok((able, _)) => {
                    moved = able.moved;
                    course = Some(able);
                    tried_in_vain = running.tunnels.count();
                }
                Err(stopped) => warn!("tunnels that opened during the handover stay here: {stopped}"),
            }
            if course.is_none() {
                moved.stayed = moved.stayed.max(self.running.tunnels.count());
            }
        }
    }

    /// True when there is no connection, no request and no tunnel left. Looked at in this order, a handshake that
    /// becomes a tunnel is seen as the one or the other.
    fn is_quiet(&self) -> bool {
        let has_none = self.acceptor.connections().are_gone() && self.running.requests() == 0;
        has_none && self.running.tunnels.count() == 0
    }

    /// Ends tunnels that stay, by the drain policy: within what is left of `drain.window` since `begun`.
    fn end_staying(&self, scope: &Scope, count: usize, drain: Drain, begun: Instant) {
        let within = humantime::format_duration(drain.window);
        info!("{} cannot move: the end comes within {within}", counted(count, "tunnel"));
        let left = (begun + drain.window).saturating_duration_since(Instant::now());
        self.running.tunnels.end(scope, Reason::Shutdown { code: drain.code }, left);
    }
}

/// Waits for a change, until a moment at most. Returns whether this process is told to end meanwhile.
async fn ends_before(changed: impl Future<Output = ()>, until: Instant, signals: &mut Signals) -> bool {
    tokio::select! {
        () = changed => false,
        () = tokio::time::sleep_until(until.into()) => false,
        () = signals.told_to_end() => true,
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HandoverError> + Send + 'static,
) -> Result<T, HandoverError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(HandoverError::Refused(error.to_string())))
}

/// Time that requests under way at a handover may take, where `grace_period_seconds` says nothing: Pingora's own
/// default for it.
const REQUESTS_WITHIN: Duration = Duration::from_secs(300);
/// Time that the last tunnel that stays may take for its Close frames (5 s) and its end.
const GOODBYE_WITHIN: Duration = Duration::from_secs(10);
/// Interval at which tunnels that hooks are busy with are asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
