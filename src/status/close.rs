//! Tunnels that an operator closes: by id or by a filter, at once or spread over a time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::filter::{FilterError, TunnelFilter};
use crate::counted::counted;
use crate::snapshot::Running;
use crate::tunnel::{Seen, Spot};
use crate::upstream::BackendState;

/// A command to close tunnels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CloseAsked {
    /// The tunnels meant.
    pub filter: TunnelFilter,
    /// Every tunnel is meant; needed where the filter is empty.
    pub all: bool,
    /// Status code of the Close frames, 1012 where it is left out.
    pub code: Option<u16>,
    /// Reason text of the Close frames, 123 bytes at most; `operator_closed` where it is left out.
    pub reason: Option<String>,
    /// Milliseconds over which the ends are spread evenly; at once where it is left out.
    pub over_ms: Option<u64>,
    /// Nothing is closed; the answer tells how many would be.
    pub dry_run: bool,
}

/// Outcome of a command to close tunnels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseOutcome {
    /// Number of tunnels that the command selects.
    pub matched: usize,
    /// Number of tunnels that the command ends. Tunnels that were ending already do not count. 0 for a rehearsal.
    pub closing: usize,
    /// Number of selected tunnels for each backend, which is named `UPSTREAM/NAME`, and its address where the name is
    /// another text.
    pub by_backend: BTreeMap<String, usize>,
    /// Milliseconds over which they end.
    pub over_ms: u64,
    /// Status code of the Close frames.
    pub code: u16,
    /// Nothing was closed.
    pub dry_run: bool,
}

/// Why no tunnel was closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseRefused {
    /// The tunnels are not named.
    #[error("name an id or a filter; `all` (`--all`) means every tunnel")]
    NoFilter,
    /// Two selections that contradict each other.
    #[error("`all` means every tunnel, and a filter some: give one of them")]
    AllOfSome,
    /// Fault of the filter.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A code that no endpoint may send (RFC 6455 §7.4).
    #[error("code {0} may not be sent: 1000 to 1003, 1007 to 1014 and 3000 to 4999 may (RFC 6455 §7.4)")]
    Code(u16),
    /// A text that is too long for a Close frame (RFC 6455 §5.5).
    #[error("the reason has {0} bytes, and a Close frame takes {MOST_OF_A_REASON} (RFC 6455 §5.5)")]
    Reason(usize),
    /// A time that cannot be told.
    #[error("a day is the longest time over which tunnels are closed")]
    Over,
    /// No tunnel fits.
    #[error("{0}: nothing is closed")]
    Nothing(String),
}

/// Place and backend of a tunnel that is meant.
type Meant = (Spot, Arc<BackendState>);

impl CloseAsked {
    /// Closes the tunnels meant.
    ///
    /// # Errors
    /// [`CloseRefused`]; nothing is closed then.
    pub async fn carry_out(&self, running: &Running) -> Result<CloseOutcome, CloseRefused> {
        let code = self.checked_code()?;
        let over = Duration::from_millis(self.over_ms.unwrap_or(0));
        if over > LONGEST {
            return Err(CloseRefused::Over);
        }
        let meant = self.meant(running).await?;
        let mut by_backend = BTreeMap::new();
        for (_, backend) in &meant {
            *by_backend.entry(backend.to_string()).or_insert(0) += 1;
        }
        let closing = if self.dry_run { 0 } else { self.close(running, &meant, code, over).await };
        let over_ms = self.over_ms.unwrap_or(0);
        Ok(CloseOutcome { matched: meant.len(), closing, by_backend, over_ms, code, dry_run: self.dry_run })
    }

    fn checked_code(&self) -> Result<u16, CloseRefused> {
        let code = self.code.unwrap_or(DEFAULT_CODE);
        if !may_be_sent(code) {
            return Err(CloseRefused::Code(code));
        }
        match self.reason.as_ref().map_or(0, String::len) {
            length if length > MOST_OF_A_REASON => Err(CloseRefused::Reason(length)),
            _ => Ok(code),
        }
    }

    async fn meant(&self, running: &Running) -> Result<Vec<Meant>, CloseRefused> {
        match (self.filter.is_empty(), self.all) {
            (true, false) => return Err(CloseRefused::NoFilter),
            (false, true) => return Err(CloseRefused::AllOfSome),
            _ => {}
        }
        let chosen = self.filter.read()?;
        let found = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&found);
        let look = move |seen: &Seen<'_>| {
            if chosen.holds(seen) {
                let meant = (seen.spot(), Arc::clone(seen.record().backend()));
                told.lock().unwrap_or_else(PoisonError::into_inner).push(meant);
            }
        };
        running.tunnels.visit(Arc::new(look)).await;
        let found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
        if found.is_empty() {
            return Err(CloseRefused::Nothing(self.filter.why_nothing(&running.snapshot())));
        }
        Ok(found)
    }

    async fn close(&self, running: &Running, meant: &[Meant], code: u16, over: Duration) -> usize {
        let (now, words) = (Instant::now(), self.reason.as_deref().map(Arc::from));
        let share = |place: usize| (place as f64 + rand::random::<f64>()) / meant.len() as f64;
        let ends: Vec<_> =
            meant.iter().enumerate().map(|(place, (spot, _))| (*spot, now + over.mul_f64(share(place)))).collect();
        running.tunnels.close(&ends, code, words.as_ref()).await
    }

    /// The command as it is logged: without the key's value.
    #[must_use]
    pub fn for_logs(&self) -> Self {
        Self { filter: self.filter.for_logs(), ..self.clone() }
    }
}

impl std::fmt::Display for CloseOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tunnels = |count: usize| counted(count, "tunnel");
        let over = humantime::format_duration(Duration::from_millis(self.over_ms));
        let pace = if self.over_ms == 0 { String::new() } else { format!(" over {over}") };
        if self.dry_run {
            write!(f, "would close {}{pace} with code {}", tunnels(self.matched), self.code)?;
        } else {
            write!(f, "closing {}{pace} with code {}", tunnels(self.closing), self.code)?;
        }
        if !self.dry_run && self.closing < self.matched {
            write!(f, "; {} had ended or were ending", self.matched - self.closing)?;
        }
        self.by_backend.iter().try_for_each(|(backend, count)| write!(f, "\n  {backend}: {}", tunnels(*count)))
    }
}

/// Tells whether an endpoint may send a status code (RFC 6455 §7.4.1 and its IANA registry).
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Clients may come back, to another backend or the same.
const DEFAULT_CODE: u16 = 1012;
/// Bytes of a reason text: a control frame takes 125, of which the code takes two (RFC 6455 §5.5).
const MOST_OF_A_REASON: usize = 123;
const LONGEST: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_that_an_endpoint_may_send() {
        for code in [1000, 1003, 1007, 1012, 1014, 3000, 4999] {
            assert_eq!(CloseAsked { code: Some(code), ..CloseAsked::default() }.checked_code(), Ok(code));
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
            let asked = CloseAsked { code: Some(code), ..CloseAsked::default() };
            assert_eq!(asked.checked_code(), Err(CloseRefused::Code(code)));
        }
    }

    #[test]
    fn a_reason_is_measured_in_bytes() {
        let asked = |reason: String| CloseAsked { reason: Some(reason), ..CloseAsked::default() }.checked_code();
        assert_eq!(asked("x".repeat(123)), Ok(1012));
        assert_eq!(asked("é".repeat(62)), Err(CloseRefused::Reason(124)));
    }
}
