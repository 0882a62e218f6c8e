//! `drain`, `drain_window`, `on_change` and `rehome`: how open tunnels are ended.

use std::time::Duration;

use super::keys;
use crate::config::model::{Drain, OnChange};
use crate::config::yaml::problem::Report;
use crate::config::yaml::scalar::{DurationBounds, choice, duration};
use crate::config::yaml::value::Value;

/// Time over which tunnels closed for a change are spread; at 0 all are closed at once.
const DRAIN_WINDOW: DurationBounds = DurationBounds { least: Duration::ZERO, most: DAY, example: "30s" };

/// A load balancer asks for readiness again long before an hour is over.
const GRACE: DurationBounds = DurationBounds { least: Duration::ZERO, most: Duration::from_secs(3_600), example: "5s" };
const WINDOW: DurationBounds = DurationBounds { least: Duration::ZERO, most: DAY, example: "30s" };
const REHOME: DurationBounds = DurationBounds { least: Duration::ZERO, most: DAY, example: "5m" };
const DAY: Duration = Duration::from_secs(86_400);

/// Close codes that clients take as a request to reconnect: going away, service restart, try again later (IANA's
/// registry of WebSocket close codes).
const CODES: [(&str, u16); 3] = [("1001", 1001), ("1012", 1012), ("1013", 1013)];

/// Reads `drain`.
pub(crate) fn read(value: &Value<'_>, report: &mut Report) -> Option<Drain> {
    let defaults = Drain::default();
    let mut fields = keys::DRAIN.fields(value, report)?;
    let grace = fields.take_or("grace", defaults.grace, |v| duration(v, &GRACE, report));
    let window = fields.take_or("window", defaults.window, |v| duration(v, &WINDOW, report));
    let code = fields.take_or("code", defaults.code, |v| choice(v, &CODES, report));
    Some(Drain { grace: grace?, window: window?, code: code? })
}

/// Reads an upstream's `drain_window`.
pub(crate) fn window(value: &Value<'_>, report: &mut Report) -> Option<Duration> {
    duration(value, &DRAIN_WINDOW, report)
}

/// Reads an upstream's `on_change`.
pub(crate) fn on_change(value: &Value<'_>, report: &mut Report) -> Option<OnChange> {
    choice(value, &[("keep", OnChange::Keep), ("close", OnChange::Close)], report)
}

/// Reads an upstream's `rehome`; `Some(None)` for `off`.
pub(crate) fn rehome(value: &Value<'_>, report: &mut Report) -> Option<Option<Duration>> {
    const EXPECTED: &str = "`off`, or a mapping such as `over: 5m`";
    match value.text() {
        Some("off") => return Some(None),
        Some("false" | "no" | "none" | "Off" | "OFF") => {
            return report.refuse(value.wrong(EXPECTED).remedy("write `off`"));
        }
        Some("on" | "true" | "yes") => {
            return report.refuse(value.wrong(EXPECTED).remedy("write `rehome: { over: 5m }`"));
        }
        Some(text) if humantime::parse_duration(text).is_ok() => {
            return report.refuse(value.wrong(EXPECTED).remedy(format!("write `rehome: {{ over: {text} }}`")));
        }
        _ if !value.is_mapping() => return report.refuse(value.wrong(EXPECTED)),
        _ => {}
    }
    let mut fields = keys::REHOME.fields(value, report)?;
    let over = fields.required("over", &REHOME.expected(), report)?;
    duration(&over, &REHOME, report).map(Some)
}
