//! Rates, as `10/s` spells them.

use std::num::NonZeroU32;
use std::time::Duration;

/// So many in a time: `10/s`, `600/m`. As many may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Number in the time.
    pub count: NonZeroU32,
    /// The time: a second or a minute.
    pub per: Duration,
}

impl Rate {
    /// Time from one to the next at this rate; never zero.
    pub fn interval(&self) -> Duration {
        (self.per / self.count.get()).max(Duration::from_nanos(1))
    }
}
