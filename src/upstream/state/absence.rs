//! Absence of a backend: the moment since which it is away, and whether its clients are to wait for it.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::super::admission::{Awaited, Presence};
use super::{BackendState, lock};

/// Statement of its source about a backend that keeps its place on the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) enum Listed {
    /// The backend is there.
    #[default]
    Here,
    /// The backend leaves.
    Leaving,
    /// The backend is not named any more.
    Gone,
}

/// State of a backend's absence. Reads no clock: the moment is an argument.
#[derive(Debug, Default)]
pub(super) struct Absence {
    listed: Listed,
    /// Results of checks count.
    checked: bool,
    /// A connect of traffic failed, and no check has passed since.
    pub(super) refused: bool,
    /// The moment at which it went away; `None` while it is there, and until that moment is asked for.
    since: Option<Instant>,
}

impl Absence {
    /// Tells whether the backend is away; `up` is its health. Forgets the moment of an absence that is over.
    pub(super) fn look(&mut self, up: bool) -> bool {
        let away = self.listed != Listed::Here || self.checked && (!up || self.refused);
        if !away {
            self.since = None;
        }
        away
    }

    /// The moment at which the backend went away; `now` at the first call of an absence. `None` while the backend is
    /// there.
    fn since(&mut self, up: bool, now: Instant) -> Option<Instant> {
        self.look(up).then(|| *self.since.get_or_insert(now))
    }
}

impl BackendState {
    /// True while the backend is away: it is down, a connection to it failed and no check has passed since, or its
    /// source says that it leaves or does not name it any more.
    pub fn is_away(&self) -> bool {
        self.live.away.load(Relaxed)
    }

    /// Time since the backend went away; `None` while it is there.
    pub fn away_for(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.away_since(now)?))
    }

    /// Moment until which clients of the backend wait for it; `None` where they do not.
    pub fn awaited_until(&self, hold: Duration, now: Instant) -> Option<Instant> {
        match self.presence(hold, now) {
            Presence::Away(until) => Some(until),
            Presence::Here | Presence::Over | Presence::Drained => None,
        }
    }

    /// Notes that a connect of traffic failed. Until a check passes the backend is taken as away.
    pub fn refused(&self, now: Instant) {
        self.change_absence(|absence| absence.refused = true);
        self.observe(now);
    }

    /// Notes the moment of an absence that has begun.
    pub fn observe(&self, now: Instant) {
        self.away_since(now);
    }

    /// The moment since which the backend is away. Costs one atomic load while the backend is there.
    fn away_since(&self, now: Instant) -> Option<Instant> {
        if self.is_away() { lock(&self.live.locked).absence.since(self.is_up(), now) } else { None }
    }

    /// Notes a check that passed.
    pub(super) fn connects_again(&self) {
        if self.is_away() {
            self.change_absence(|absence| absence.refused = false);
        }
    }

    /// Notes the statement of the backend's source, and whether checks of the backend count.
    pub(in super::super) fn stand(&self, listed: Listed, checked: bool, now: Instant) {
        self.change_absence(|absence| {
            absence.listed = listed;
            absence.checked = checked;
        });
        self.observe(now);
    }

    /// Changes the absence, unless the backend has another address by now.
    fn change_absence(&self, change: impl FnOnce(&mut Absence)) {
        let mut locked = lock(&self.live.locked);
        if locked.address == self.address {
            change(&mut locked.absence);
            self.change_locked(&mut locked, |_| {});
        }
    }
}

impl Awaited for BackendState {
    fn name(&self) -> &str {
        self.name()
    }

    fn presence(&self, hold: Duration, now: Instant) -> Presence {
        match self.away_since(now) {
            None => Presence::Here,
            Some(_) if self.is_draining() => Presence::Drained,
            Some(since) if since + hold > now => Presence::Away(since + hold),
            Some(_) => Presence::Over,
        }
    }

    fn want_check(&self) {
        self.live.check_wanted.notify_one();
    }
}
