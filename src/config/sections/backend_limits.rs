//! `limits`, `admission` and `absent` of an upstream: what its backends carry, and how clients are admitted to them.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::keys;
use crate::config::model::{Absent, Admission, BackendLimits, HandshakeRate};
use crate::config::yaml::problem::{Problem, Report, quoted};
use crate::config::yaml::scalar::{DurationBounds, decimal, duration, most_or_off, or_off, whole, whole_in};
use crate::config::yaml::value::Value;

/// Bounds of counts. The upper one is far beyond the load that one machine carries; so are the ones below.
const COUNTS: RangeInclusive<u64> = 1..=10_000_000;
const QUEUES: RangeInclusive<u64> = 1..=1_000_000;
const BURSTS: RangeInclusive<u64> = 1..=1_000_000;
const RATES: RangeInclusive<f64> = 0.01..=1_000_000.0;
const HOLD: DurationBounds =
    DurationBounds { least: Duration::from_millis(100), most: Duration::from_secs(3_600), example: "20s" };
const WAIT: DurationBounds =
    DurationBounds { least: Duration::from_millis(100), most: Duration::from_secs(3_600), example: "15s" };

const NOTHING_NEW: &str = "to send a backend nothing new, give it `weight: 0`";

/// Reads `limits`.
pub(crate) fn limits(value: &Value<'_>, report: &mut Report) -> Option<BackendLimits> {
    let mut fields = keys::BACKEND_LIMITS.fields(value, report)?;
    let tunnels = fields.take_or("tunnels", None, |v| count_or_off(v, NOTHING_NEW, report));
    let requests = fields.take_or("requests", None, |v| count_or_off(v, NOTHING_NEW, report));
    let per_key = fields.take_or("per_key", None, |v| count_or_off(v, "the least is 1", report));
    Some(BackendLimits { tunnels: tunnels?, requests: requests?, per_key: per_key? })
}

/// Reads `admission`; `limits` are those of the same upstream, where they could be read.
pub(crate) fn admission(
    value: &Value<'_>,
    limits: Option<BackendLimits>,
    report: &mut Report,
) -> Option<Option<Admission>> {
    if value.text() == Some("off") {
        return Some(None);
    }
    let defaults = Admission::default();
    let mut fields = keys::ADMISSION.fields(value, report)?;
    let handshakes = fields.take_or("handshakes", defaults.handshakes, |v| rate(v, report));
    let burst = fields.take_or("burst", defaults.burst, |v| number(v, BURSTS, report));
    let queue = fields.take_or("queue", defaults.queue, |v| number(v, QUEUES, report));
    let wait = fields.take_or("wait", defaults.wait, |v| duration(v, &WAIT, report));
    let admission = Admission { handshakes: handshakes?, burst: burst?, queue: queue?, wait: wait? };
    if admission.handshakes == HandshakeRate::Off && limits.is_none_or(|limits| limits.tunnels.is_none()) {
        let problem = value.warning("nobody ever waits: backends have neither a rate nor a bound on their tunnels");
        report.push(problem.remedy("set `handshakes` to a rate such as `500/s` or to `auto`, or `limits.tunnels`"));
    }
    Some(Some(admission))
}

/// Reads `absent`.
pub(crate) fn absent(value: &Value<'_>, report: &mut Report) -> Option<Option<Absent>> {
    if value.text() == Some("off") {
        return Some(None);
    }
    let mut fields = keys::ABSENT.fields(value, report)?;
    let queue = fields.take_or("queue", Absent::QUEUE, |v| number(v, QUEUES, report));
    let hold = fields.required("hold", "the time for which clients wait for a backend that is away", report);
    let hold = hold.and_then(|v| duration(&v, &HOLD, report));
    Some(Some(Absent { hold: hold?, queue: queue? }))
}

fn count_or_off(value: &Value<'_>, to_refuse: &str, report: &mut Report) -> Option<Option<usize>> {
    let expected = format!("a whole number from {} to {}, or `off`", COUNTS.start(), COUNTS.end());
    let read = |value: &Value<'_>, expected: String| match whole_in(value, &COUNTS) {
        Ok(count) => usize::try_from(count).map_err(|_| value.error("is out of bounds").expected(expected)),
        Err(problem) => Err(problem.expected(expected)),
    };
    most_or_off(value, expected, to_refuse, report, read)
}

fn number<T: TryFrom<u64>>(value: &Value<'_>, bounds: RangeInclusive<u64>, report: &mut Report) -> Option<T> {
    whole(value, bounds, report).and_then(|number| number.try_into().ok())
}

/// Reads a rate of handshakes: `500/s`, `30/m`, `auto` or `off`.
fn rate(value: &Value<'_>, report: &mut Report) -> Option<HandshakeRate> {
    const EXPECTED: &str = "a rate from 0.01/s to 1000000/s, such as `500/s` or `30/m`, or `auto`, or `off`";
    match value.text() {
        Some("auto") => return Some(HandshakeRate::Auto),
        Some("Auto" | "AUTO" | "automatic") => {
            return report.refuse(value.wrong(EXPECTED).remedy("write `auto`"));
        }
        _ => {}
    }
    let read = or_off(value, EXPECTED.to_owned(), report, |value, expected| {
        let Some(text) = value.text() else { return Err(value.wrong(expected)) };
        per_second(value, text).map_err(|problem| problem.expected(expected))
    })?;
    Some(read.map_or(HandshakeRate::Off, HandshakeRate::PerSecond))
}

fn per_second(value: &Value<'_>, text: &str) -> Result<f64, Problem> {
    let problem = |how: &str| value.error(format!("{} {how}", quoted(text)));
    let Some((count, unit)) = text.split_once('/') else {
        let is_number = !text.is_empty() && decimal(text).is_some();
        let problem = problem(if is_number { "has no unit" } else { "is not a rate" });
        return Err(if is_number { problem.remedy(format!("write `{text}/s`, or `{text}/m`")) } else { problem });
    };
    let seconds = match unit {
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err(problem("is not a rate").remedy("units are /s (a second) and /m (a minute)")),
    };
    let Some(count) = decimal(count).filter(|_| !count.is_empty()) else {
        return Err(problem("is not a rate").remedy("write a number before the `/`"));
    };
    let rate = count / seconds;
    if RATES.contains(&rate) { Ok(rate) } else { Err(problem("is out of bounds")) }
}
