//! Values of `tunnel` that limit how much clients may send through their tunnels.

use std::num::NonZeroU64;

/// `messages`, `bytes`, `over_rate` and `per_key` of `tunnel`: how much clients may send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelRates {
    /// `messages`, `bytes`: of each tunnel.
    pub each: Rates,
    /// `per_key`: of all tunnels of one affinity key together.
    pub per_key: Rates,
    /// `over_rate`: the fate of a tunnel whose client sends more, default `throttle`.
    pub over_rate: OverRate,
}

/// Rates of what may pass, with as much as a second's at once. `None` stands for `off`, the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// `messages`: data messages a second, 1 to 1,000,000.
    pub messages: Option<NonZeroU64>,
    /// `bytes`: bytes a second, frame headers and control frames included, 1 KiB to 1 GiB.
    pub bytes: Option<NonZeroU64>,
}

/// Fate of a tunnel whose client sends more than it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverRate {
    /// `throttle`: it is not read until it may send more.
    #[default]
    Throttle,
    /// `close`: it is ended with Close 1008.
    Close,
}

impl Rates {
    /// Tells if one of them is limited.
    pub fn are_on(&self) -> bool {
        self.messages.is_some() || self.bytes.is_some()
    }
}

impl TunnelRates {
    /// Tells if one of them is limited.
    pub fn are_on(&self) -> bool {
        self.each.are_on() || self.per_key.are_on()
    }
}
