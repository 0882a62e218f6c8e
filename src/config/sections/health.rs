//! `health`: how the backends of an upstream are checked.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::check_request::{self, CheckRequestKeys, unread};
use super::keys;
use crate::config::model::{Check, Health, OnDown, TrafficHealth};
use crate::config::yaml::problem::{Report, quoted};
use crate::config::yaml::scalar::{DurationBounds, choice, duration, spelled, whole};
use crate::config::yaml::value::{Mapping, Value};

const INTERVAL: DurationBounds =
    DurationBounds { least: Duration::from_millis(10), most: Duration::from_secs(86_400), example: "2s" };
const TIMEOUT: DurationBounds =
    DurationBounds { least: Duration::from_millis(1), most: Duration::from_secs(86_400), example: "1s" };

/// Checks in a row. With more than this a backend would change its state after hours.
const IN_A_ROW: RangeInclusive<u64> = 1..=1_000;

const CHECKS: [(&str, CheckKind); 3] =
    [("tcp", CheckKind::Tcp), ("http", CheckKind::Http), ("websocket", CheckKind::Websocket)];

/// [`Check`] without its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CheckKind {
    Tcp,
    Http,
    Websocket,
}

/// Reads `health`; `Some(None)` for `off`.
pub(crate) fn read(value: &Value<'_>, report: &mut Report) -> Option<Option<Health>> {
    const EXPECTED: &str = "`off`, or a mapping such as `check: websocket`";
    match value.text() {
        Some("off") => return Some(None),
        Some("false" | "no" | "none" | "Off" | "OFF") => {
            return report.refuse(value.wrong(EXPECTED).remedy("write `off`"));
        }
        Some(text) if CHECKS.iter().any(|(name, _)| *name == text) => {
            return report.refuse(value.wrong(EXPECTED).remedy(format!("write `health: {{ check: {text} }}`")));
        }
        _ if !value.is_mapping() => return report.refuse(value.wrong(EXPECTED)),
        _ => {}
    }
    let defaults = Health::default();
    let mut fields = keys::HEALTH.fields(value, report)?;
    let check = read_check(&mut fields, report);
    let times = read_times(&mut fields, &defaults, report);
    let rise = fields.take_or("rise", defaults.rise, |v| in_a_row(v, report));
    let fall = fields.take_or("fall", defaults.fall, |v| in_a_row(v, report));
    let words = [("off", TrafficHealth::Off), ("connect", TrafficHealth::Connect), ("full", TrafficHealth::Full)];
    let traffic = fields.take_or("traffic", defaults.traffic, |v| choice(v, &words, report));
    let words = [("keep", OnDown::Keep), ("close", OnDown::Close)];
    let on_down = fields.take_or("on_down", defaults.on_down, |v| choice(v, &words, report));
    let (interval, timeout) = times?;
    let (check, rise, fall, traffic, on_down) = (check?, rise?, fall?, traffic?, on_down?);
    Some(Some(Health { check, interval, timeout, rise, fall, traffic, on_down }))
}

fn read_check(fields: &mut Mapping<'_, '_>, report: &mut Report) -> Option<Check> {
    let kind = fields.take_or("check", CheckKind::Tcp, |v| choice(v, &CHECKS, report));
    let expect = fields.take("expect");
    let subprotocols = fields.take("subprotocols");
    let asked = CheckRequestKeys::take(fields);
    if kind == Some(CheckKind::Tcp) {
        asked.warn_unread(report);
    }
    if let (Some(CheckKind::Tcp | CheckKind::Websocket), Some(value)) = (kind, expect) {
        report.push(unread(&value, "expect", "only an `http` check compares statuses", "`check: http`"));
    }
    if let (Some(CheckKind::Tcp | CheckKind::Http), Some(value)) = (kind, subprotocols) {
        let why = "only a `websocket` check offers subprotocols";
        report.push(unread(&value, "subprotocols", why, "`check: websocket`"));
    }
    let request = asked.read(report);
    let expect = match expect {
        Some(value) if kind.is_none_or(|kind| kind == CheckKind::Http) => statuses(&value, report),
        _ => Some(vec![(200, 399)]),
    };
    let subprotocols = match subprotocols {
        Some(value) if kind.is_none_or(|kind| kind == CheckKind::Websocket) => {
            check_request::subprotocols(&value, report)
        }
        _ => Some(Vec::new()),
    };
    Some(match kind? {
        CheckKind::Tcp => Check::Tcp,
        CheckKind::Http => Check::Http { request: request?, expect: expect? },
        CheckKind::Websocket => Check::Websocket { request: request?, subprotocols: subprotocols? },
    })
}

/// Reads `interval` and `timeout`; a timeout longer than the interval is refused.
fn read_times(fields: &mut Mapping<'_, '_>, defaults: &Health, report: &mut Report) -> Option<(Duration, Duration)> {
    let (interval_value, timeout_value) = (fields.take("interval"), fields.take("timeout"));
    let interval = interval_value.map_or(Some(defaults.interval), |v| duration(&v, &INTERVAL, report));
    let timeout = timeout_value.map_or(Some(defaults.timeout), |v| duration(&v, &TIMEOUT, report));
    let (interval, timeout) = (interval?, timeout?);
    let Some(at) = interval_value.or(timeout_value).filter(|_| interval < timeout) else {
        return Some((interval, timeout));
    };
    let by_default = |value: Option<Value<'_>>| if value.is_none() { " (the default)" } else { "" };
    let problem = at
        .error(format!(
            "checks every {}{}, shorter than the timeout of {}{}",
            spelled(interval),
            by_default(interval_value),
            spelled(timeout),
            by_default(timeout_value),
        ))
        .expected("an interval as long as the timeout, or longer");
    report.refuse(problem.remedy(format!(
        "set `interval` to {} or more, or `timeout` to {} or less",
        spelled(timeout),
        spelled(interval)
    )))
}

fn in_a_row(value: &Value<'_>, report: &mut Report) -> Option<u32> {
    u32::try_from(whole(value, IN_A_ROW, report)?).ok()
}

/// Reads `expect`: a status, a range of statuses, or a list of both.
fn statuses(value: &Value<'_>, report: &mut Report) -> Option<Vec<(u16, u16)>> {
    const EXPECTED: &str = "a status such as `200`, a range such as `200-299`, or a list of these";
    if !value.is_sequence() {
        return Some(vec![status_range(value, EXPECTED, report)?]);
    }
    let items = value.items(EXPECTED, report)?;
    if items.is_empty() {
        return report.refuse(value.error("an empty list: no check could pass").expected(EXPECTED));
    }
    let ranges: Vec<_> = items.iter().map(|item| status_range(item, EXPECTED, report)).collect();
    ranges.into_iter().collect()
}

fn status_range(value: &Value<'_>, expected: &str, report: &mut Report) -> Option<(u16, u16)> {
    let Some(text) = value.text() else { return report.refuse(value.wrong(expected)) };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (Some(first), Some(last)) = (status(first), status(last)) else {
        let problem = value.error(format!("{} is not a status from 200 to 599, nor a range of them", quoted(text)));
        return report.refuse(match text {
            "101" => problem.expected(expected).remedy("for a handshake use `check: websocket`"),
            _ => problem.expected(expected),
        });
    };
    if first > last {
        let problem = value.error(format!("{} runs backwards", quoted(text))).expected(expected);
        return report.refuse(problem.remedy(format!("write `{last}-{first}`")));
    }
    Some((first, last))
}

/// A final status (RFC 9110 §15): three digits, not informational.
fn status(text: &str) -> Option<u16> {
    let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|status| digits && (200..=599).contains(status))
}
