//! The predecessor's side of a handover: gives sockets and tunnels to a successor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use log::{error, info, warn};

use super::follow::Whereabouts;
use super::notify;
use super::operator::Operator;
use super::signals::Signals;
use super::speak_tls::SpeakTls;
use crate::config::Drain;
use crate::drain;
use crate::handover::{BATCH, Handed, HandoverError, PATIENCE, Refusal, ToSuccessor};
use crate::snapshot::Running;
use crate::tunnel::{Batch, Frozen, Reason, Scope};

/// Result of a handover.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moved {
    pub(super) tunnels: usize,
    /// Number of them that speak TLS.
    pub(super) tls: SpeakTls,
    /// Number of tunnels that stayed, and have ended or end here.
    pub(super) stayed: usize,
    /// The longest time that a tunnel stood still in this process.
    pub(super) longest_pause: Duration,
}

/// A handover that ended before its end. This process remains the gateway.
#[derive(Debug)]
pub(super) struct Stopped {
    /// Tunnels that had moved. They are the successor's, and end with it.
    pub(super) moved: usize,
    /// Tunnels that stayed, and go on here.
    pub(super) stayed: usize,
    /// The successor may have accepted clients, and ends by itself once they have left.
    pub(super) accepted: bool,
    /// This process was told to end, which ended the handover.
    pub(super) told_to_end: bool,
    pub(super) why: HandoverError,
}

/// A handover under way: the connection, and what was moved by it.
struct Course {
    successor: ToSuccessor,
    moved: Moved,
    running: Arc<Running>,
    /// The states of hooks have moved.
    hooks_moved: bool,
    /// Set to end the moving before the next batch.
    told_to_end: Arc<AtomicBool>,
}

/// Reason why the moving paused.
enum Pause {
    /// No tunnel is left that can move now.
    NoneLeft,
    /// This process is told to end.
    ToldToEnd,
    /// The successor is silent, and nothing is lost by it.
    Silent(HandoverError),
}

impl Operator {
    /// Hands everything over to a successor. Where that succeeds this process must end.
    ///
    /// # Errors
    /// The reason why it stopped. This process accepts again, and has every tunnel that the successor has not taken.
    pub(super) async fn give_way(&mut self, successor: ToSuccessor, signals: &mut Signals) -> Result<Moved, Stopped> {
        self.whereabouts.send_replace(Whereabouts::Moving);
        let handed_over = self.hand_over(successor, signals).await;
        if let Err(stopped) = &handed_over {
            self.whereabouts.send_replace(if stopped.moved > 0 { Whereabouts::Split } else { Whereabouts::Here });
        }
        match &handed_over {
            Ok(moved) => self.history.upgraded(true, format!("{} tunnels moved{}", moved.tunnels, moved.tls)),
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

    async fn hand_over(&mut self, successor: ToSuccessor, signals: &mut Signals) -> Result<Moved, Stopped> {
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
            "handed over: {} tunnels moved, {} stayed, longest pause {:?}{}",
            moved.tunnels, moved.stayed, moved.longest_pause, moved.tls
        );
        Ok(moved)
    }

    /// Gives the successor the listening sockets, and waits until it accepts; returns its silence where it may accept
    /// and does not say so.
    async fn let_serve(
        &self,
        mut successor: ToSuccessor,
        signals: &mut Signals,
    ) -> Result<(ToSuccessor, Option<HandoverError>), Stopped> {
        let entry = successor.entry();
        let failed = |failure| Stopped::before_any(failure, !entry.revoke());
        let sockets = self.acceptor.copies().map_err(HandoverError::Gone).map_err(failed)?;
        let (drained, revocable) = (drain::drained_backends(&self.running), entry.clone());
        let speaks_tls = self.running.snapshot().listeners().iter().any(|listener| listener.tls.is_some());
        let ticket_keys = self.running.ticket_keys.save(SystemTime::now()).filter(|_| speaks_tls);
        let serving = blocking(move || {
            let welcomed = successor.welcome(&sockets, drained, ticket_keys);
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
            () = signals.told_to_end() => Err(Stopped::told_to_end()),
        }
    }

    /// Moves every tunnel that can move, and makes the successor the gateway. While the successor is silent, this
    /// process accepts and serves; `silence` where it is silent from the beginning.
    async fn move_all(
        &mut self,
        mut course: Course,
        mut silence: Option<HandoverError>,
        signals: &mut Signals,
    ) -> Result<Course, Stopped> {
        let mut patient_until = None;
        loop {
            if let Some(failure) = silence.take() {
                let until = *patient_until.get_or_insert_with(|| tokio::time::Instant::now() + PATIENCE);
                warn!(
                    "the new process is silent, with {} tunnels; this process serves until it answers: {failure}",
                    course.moved.tunnels
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
        info!("{tunnels} tunnels moved, longest pause {longest_pause:?}{tls}");
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
            let tunnels = running.tunnels.count();
            if (tunnels == 0 && self.acceptor.connections().are_gone()) || Instant::now() >= deadline {
                return moved;
            }
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

    /// Ends tunnels that stay, by the drain policy: within what is left of `drain.window` since `begun`.
    fn end_staying(&self, scope: &Scope, count: usize, drain: Drain, begun: Instant) {
        info!("{count} tunnels cannot move, and end within {}", humantime::format_duration(drain.window));
        let left = (begun + drain.window).saturating_duration_since(Instant::now());
        self.running.tunnels.end(scope, Reason::Shutdown { code: drain.code }, left);
    }
}

impl Course {
    fn new(successor: ToSuccessor, running: Arc<Running>) -> Self {
        Self { successor, moved: Moved::default(), running, hooks_moved: false, told_to_end: Arc::default() }
    }

    /// Moves tunnels until none is left, the successor is silent, or this process is told to end.
    async fn go_on(self, signals: &mut Signals) -> Result<(Self, Pause), Stopped> {
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
            Err(Stopped::halfway(moved_before, running.tunnels.count(), why))
        })
    }

    /// Moves the states of hooks, where that was not done yet, and then tunnels, batch by batch.
    fn move_tunnels(mut self) -> Result<(Self, Pause), Stopped> {
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

    fn part_with(&mut self, batch: Vec<Frozen>, refused: &[Refusal]) {
        for (index, frozen) in batch.into_iter().enumerate() {
            match refused.iter().find(|refusal| refusal.index == index) {
                Some(Refusal { reason, .. }) => {
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
    async fn wait_for_answer(
        mut self,
        until: tokio::time::Instant,
        silence: HandoverError,
        signals: &mut Signals,
    ) -> Result<(Self, bool), Stopped> {
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
    fn abort(self, why: HandoverError) -> Stopped {
        self.successor.abort(&why.to_string());
        Stopped::halfway(self.moved.tunnels, self.running.tunnels.count(), why)
    }
}

impl Stopped {
    fn before_any(why: HandoverError, accepted: bool) -> Self {
        Self { moved: 0, stayed: 0, accepted, told_to_end: false, why }
    }

    fn halfway(moved: usize, stayed: usize, why: HandoverError) -> Self {
        Self { moved, stayed, accepted: true, told_to_end: false, why }
    }

    fn told_to_end() -> Self {
        let why = HandoverError::Refused(TOLD_TO_END.into());
        Self { moved: 0, stayed: 0, accepted: false, told_to_end: true, why }
    }
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { moved, stayed, accepted, why, .. } = self;
        match why {
            _ if !accepted => write!(f, "{why}"),
            HandoverError::Gone(_) => write!(
                f,
                "{moved} tunnels had moved to the new process and ended with it, {stayed} stayed: {why}; \
                 clients that it had accepted itself ended with it, too"
            ),
            _ => write!(
                f,
                "{moved} tunnels moved to the new process, {stayed} stayed: {why}; the new process is told to drain \
                 what it has, with the clients that it accepted itself, and to end"
            ),
        }
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

/// Reason why a handover or an upgrade is given up when this process ends.
pub(super) const TOLD_TO_END: &str = "this process is told to end";
/// Time that requests under way at a handover may take, where `grace_period_seconds` says nothing: Pingora's own
/// default for it.
const REQUESTS_WITHIN: Duration = Duration::from_secs(300);
/// Time that the last tunnel that stays may take for its Close frames (5 s) and its end.
const GOODBYE_WITHIN: Duration = Duration::from_secs(10);
/// Interval at which tunnels that hooks are busy with are asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
