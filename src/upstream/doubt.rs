//! Doubt: failures of traffic after its request was sent, and the ejection that they may lead to.
//!
//! A client can cause such a failure by its choice of a request, so one client's failures alone prove nothing about a
//! backend. Doubt ejects a backend for a time. It ends with one request on trial: a backend that answers it is back,
//! one that does not is out for twice as long. Pure: results and moments go in, decisions come out.

use std::time::{Duration, Instant};

use super::ClientNetwork;

/// Doubt about one backend.
#[derive(Debug, Default)]
pub struct Doubt {
    /// Failures since the last success of any client.
    failures: u32,
    /// Networks that those failures came from: no more than count.
    networks: [Option<ClientNetwork>; NETWORKS],
    last_failure: Option<Instant>,
    ejection: Option<Ejection>,
    /// Ejections in a row; each makes the next one twice as long.
    ejections: u32,
    /// End of the last ejection.
    returned: Option<Instant>,
}

/// A request that failed after it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedRequest {
    /// Network of the client.
    pub network: ClientNetwork,
    /// The request was to decide whether an ejected backend is back.
    pub on_trial: bool,
}

/// A backend that is out.
#[derive(Debug)]
struct Ejection {
    until: Instant,
    trial: Trial,
}

/// Stage of the one request that decides whether a backend is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trial {
    /// The time of the ejection is not over.
    NotYet,
    /// The next request for the backend is the one.
    Open,
    /// The request is under way.
    Taken,
}

impl Doubt {
    /// True when the backend is ejected, on trial or not.
    pub fn is_ejected(&self) -> bool {
        self.ejection.is_some()
    }

    /// True when traffic may be sent to the backend: it is not ejected, or waits for a request on trial.
    pub fn admits(&self) -> bool {
        self.ejection.as_ref().is_none_or(|ejection| ejection.trial == Trial::Open)
    }

    /// True when a success would change anything.
    pub fn is_any(&self) -> bool {
        self.failures > 0 || self.is_ejected()
    }

    /// Notes a failure. True where the evidence is enough to eject the backend: `fall` failures in a row came from
    /// three networks, or from one where nobody else has come (`alone`).
    ///
    /// Of a backend that is ejected only requests on trial count. One client's trials do not prolong an ejection
    /// either: the next request is on trial, until trials of three networks have failed.
    pub fn failed(&mut self, request: FailedRequest, alone: bool, fall: u32, now: Instant) -> bool {
        if self.is_ejected() && !request.on_trial {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        self.last_failure = Some(now);
        let network = Some(request.network);
        if !self.networks.contains(&network)
            && let Some(free) = self.networks.iter_mut().find(|known| known.is_none())
        {
            *free = network;
        }
        let networks = self.networks.iter().flatten().count();
        let fall = if self.is_ejected() { 1 } else { fall };
        self.failures >= fall && (networks == NETWORKS || (alone && networks == 1))
    }

    /// Takes the backend out; returns for how long.
    pub fn eject(&mut self, now: Instant) -> Duration {
        let again = self.is_ejected()
            || self.returned.is_some_and(|returned| now.saturating_duration_since(returned) < LONGEST);
        self.ejections = if again { self.ejections.saturating_add(1) } else { 1 };
        let length = SHORTEST.saturating_mul(1 << (self.ejections - 1).min(16)).min(LONGEST);
        self.ejection = Some(Ejection { until: now + length, trial: Trial::NotYet });
        self.clear();
        length
    }

    /// Notes an answer as it should be. True where that ends an ejection.
    pub fn succeeded(&mut self, now: Instant) -> bool {
        let was_ejected = self.ejection.take().is_some();
        if was_ejected {
            self.returned = Some(now);
        }
        self.clear();
        was_ejected
    }

    /// Opens the trial when it is due; returns the next moment to ask.
    pub fn attend(&mut self, now: Instant) -> Option<Instant> {
        let ejection = self.ejection.as_mut()?;
        if ejection.trial == Trial::NotYet && now >= ejection.until {
            ejection.trial = Trial::Open;
        }
        (ejection.trial == Trial::NotYet).then_some(ejection.until)
    }

    /// Makes a request that is about to be sent the one on trial; false where none is wanted.
    pub fn take_trial(&mut self) -> bool {
        match &mut self.ejection {
            Some(Ejection { trial: trial @ Trial::Open, .. }) => {
                *trial = Trial::Taken;
                true
            }
            _ => false,
        }
    }

    /// The request on trial has ended. Where it neither succeeded nor failed, the next one is on trial.
    pub fn trial_ended(&mut self) {
        if let Some(Ejection { trial: trial @ Trial::Taken, .. }) = &mut self.ejection {
            *trial = Trial::Open;
        }
    }

    /// A check passed: failures that are a while ago are forgotten. An ejection stays.
    pub fn check_passed(&mut self, now: Instant) {
        if self.last_failure.is_some_and(|last| now.saturating_duration_since(last) >= FORGOTTEN_AFTER) {
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.failures = 0;
        self.networks = [None; NETWORKS];
        self.last_failure = None;
    }
}

/// Networks whose failures together are evidence.
const NETWORKS: usize = 3;
/// The first ejection.
const SHORTEST: Duration = Duration::from_secs(5);
/// The longest ejection. An ejection that comes sooner than this after the last one is twice as long as that.
const LONGEST: Duration = Duration::from_secs(300);
/// Time after the last failure from which on a check that passes counts for more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
