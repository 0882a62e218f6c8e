//! `timeouts` of requests and handshakes, and `tunnel`: the limits of open tunnels.

use std::time::Duration;

use super::{keys, rates};
use crate::config::model::{Timeouts, TunnelLimits, TunnelRates};
use crate::config::yaml::problem::Report;
use crate::config::yaml::scalar::{DurationBounds, duration, duration_or_off, size_or_off, spelled};
use crate::config::yaml::value::Value;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

const CONNECT: DurationBounds = DurationBounds { least: MILLISECOND, most: HOUR, example: "3s" };
const HANDSHAKE: DurationBounds = DurationBounds { least: MILLISECOND, most: HOUR, example: "10s" };
const TRY: DurationBounds = DurationBounds { least: MILLISECOND, most: HOUR, example: "3s" };
/// nginx configurations for WebSockets write a day; a week leaves room above it.
const TRANSFER: DurationBounds =
    DurationBounds { least: MILLISECOND, most: Duration::from_secs(7 * 86_400), example: "60s" };
/// Below a second Pingora's own timers would keep it, whose thread wakes 100 times a second.
const KEPT: DurationBounds = DurationBounds { least: SECOND, most: DAY, example: "60s" };

/// A limit of a tunnel is kept to within 100 ms (`tunnel::worker`), so that one below a second would be coarse.
const IDLE: DurationBounds = DurationBounds { least: SECOND, most: YEAR, example: "1d" };
const MAX_AGE: DurationBounds = DurationBounds { least: SECOND, most: YEAR, example: "7d" };
const PING: DurationBounds = DurationBounds { least: SECOND, most: DAY, example: "30s" };
const TCP_USER_TIMEOUT: DurationBounds = DurationBounds { least: SECOND, most: HOUR, example: "60s" };
const STALL: DurationBounds = DurationBounds { least: SECOND, most: HOUR, example: "60s" };

/// Reads `timeouts`.
pub(crate) fn timeouts(value: &Value<'_>, report: &mut Report) -> Option<Timeouts> {
    let defaults = Timeouts::default();
    let mut fields = keys::TIMEOUTS.fields(value, report)?;
    let connect = fields.take_or("connect", defaults.connect, |v| duration(v, &CONNECT, report));
    let (whole, part) = (fields.take("handshake"), fields.take("try"));
    let handshake = whole.map_or(Some(defaults.handshake), |v| duration(&v, &HANDSHAKE, report));
    let per_try = part.map_or(Some(defaults.per_try), |v| duration(&v, &TRY, report));
    if let (Some(handshake), Some(per_try)) = (handshake, per_try) {
        let why = "the first backend that hangs takes all of it";
        warn_if_longer(("try", (part, per_try)), ("handshake", (whole, handshake)), why, report);
    }
    let read = fields.take_or("read", defaults.read, |v| duration(v, &TRANSFER, report));
    let write = fields.take_or("write", defaults.write, |v| duration(v, &TRANSFER, report));
    let idle = fields.take_or("idle", defaults.idle, |v| duration_or_off(v, &KEPT, report));
    let (connect, handshake, per_try) = (connect?, handshake?, per_try?);
    Some(Timeouts { connect, handshake, per_try, read: read?, write: write?, idle: idle? })
}

/// A duration of the file with the value that was written for it; none where the default is taken.
type Written<'v> = (Option<Value<'v>>, Duration);

/// Warns of `longer`, which without a word would never come into force beside `shorter`.
fn warn_if_longer(
    (name, (written, limit)): (&str, Written<'_>),
    (other, (other_written, bound)): (&str, Written<'_>),
    why: &str,
    report: &mut Report,
) {
    let Some(at) = written.or(other_written).filter(|_| limit > bound) else { return };
    let by_default = |written: &Option<Value<'_>>| if written.is_none() { " (the default)" } else { "" };
    let (limit_by, bound_by) = (by_default(&written), by_default(&other_written));
    let problem = at.warning(format!(
        "`{name}` of {}{limit_by} is longer than `{other}` of {}{bound_by}: {why}",
        spelled(limit),
        spelled(bound),
    ));
    let remedy = format!("set `{name}` to {} or less, or `{other}` to {} or more", spelled(bound), spelled(limit));
    report.push(problem.remedy(remedy));
}

/// Reads `tunnel`.
pub(crate) fn tunnel(value: &Value<'_>, report: &mut Report) -> Option<(TunnelLimits, TunnelRates)> {
    let defaults = TunnelLimits::default();
    let mut fields = keys::TUNNEL.fields(value, report)?;
    let idle = fields.take_or("idle", defaults.idle, |v| duration_or_off(v, &IDLE, report));
    let max_age = fields.take_or("max_age", defaults.max_age, |v| duration_or_off(v, &MAX_AGE, report));
    let ping = fields.take_or("ping", defaults.ping, |v| duration_or_off(v, &PING, report));
    let max_message = fields.take_or("max_message", defaults.max_message, |v| size_or_off(v, report));
    let (kernels, ours) = (fields.take("tcp_user_timeout"), fields.take("stall"));
    let tcp_user_timeout =
        kernels.map_or(Some(defaults.tcp_user_timeout), |v| duration_or_off(&v, &TCP_USER_TIMEOUT, report));
    let stall = ours.map_or(Some(defaults.stall), |v| duration_or_off(&v, &STALL, report));
    if let (Some(Some(longest)), Some(Some(stalled))) = (tcp_user_timeout, stall) {
        let why = "the kernel counts the time of a closed window too, and ends the tunnel first";
        warn_if_longer(("stall", (ours, stalled)), ("tcp_user_timeout", (kernels, longest)), why, report);
    }
    let rates = rates::of_tunnel(&mut fields, max_message.flatten(), report);
    let limits = TunnelLimits {
        idle: idle?,
        max_age: max_age?,
        ping: ping?,
        max_message: max_message?,
        tcp_user_timeout: tcp_user_timeout?,
        stall: stall?,
    };
    Some((limits, rates?))
}

impl TunnelLimits {
    /// The first limit that is shorter than a millisecond, or longer than the file may make it, in words.
    pub(crate) fn out_of_bounds(&self) -> Option<String> {
        let times = [
            ("idle", self.idle, &IDLE),
            ("max_age", self.max_age, &MAX_AGE),
            ("ping", self.ping, &PING),
            ("tcp_user_timeout", self.tcp_user_timeout, &TCP_USER_TIMEOUT),
        ];
        let wrong = times.into_iter().find_map(|(name, limit, span)| {
            let limit = limit.filter(|limit| !(MILLISECOND..=span.most).contains(limit))?;
            let most = humantime::format_duration(span.most);
            Some(format!("`{name}` is {} s: it is 1 ms to {most}, or `None`", limit.as_secs_f64()))
        });
        let is_empty = self.max_message == Some(0);
        wrong.or_else(|| is_empty.then(|| "`max_message` is 0: it is at least 1 byte, or `None`".to_owned()))
    }
}
