//! `limits`: bounds on what clients send before they are served.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::keys;
use crate::config::limits::{HeadLimits, KeepAlive, Limits};
use crate::config::yaml::problem::{Problem, Report, quoted};
use crate::config::yaml::scalar::{Span, duration, duration_or_off, size_in, whole};
use crate::config::yaml::value::Value;

const TIME: Span = Span { least: Duration::from_millis(100), most: Duration::from_secs(3_600), example: "10s" };
const IDLE: Span = Span { least: Duration::from_secs(1), most: Duration::from_secs(86_400), example: "75s" };
/// Pingora reads no more of a head (`MAX_HEADER_SIZE`, `MAX_HEADERS`).
const SIZES: RangeInclusive<u64> = 1024..=1 << 20;
const LINES: RangeInclusive<u64> = 1..=256;
const TARGETS: RangeInclusive<u64> = 64..=1 << 20;

/// Reads `limits`.
pub(crate) fn read(value: &Value<'_>, report: &mut Report) -> Option<Limits> {
    let defaults = Limits::default();
    let mut fields = keys::LIMITS.fields(value, report)?;
    let head = fields.take_or("head", defaults.head, |v| head(v, report));
    let keep_alive = fields.take_or("keep_alive", defaults.keep_alive, |v| keep_alive(v, report));
    Some(Limits { head: head?, keep_alive: keep_alive? })
}

fn head(value: &Value<'_>, report: &mut Report) -> Option<HeadLimits> {
    let defaults = HeadLimits::default();
    let mut fields = keys::HEAD.fields(value, report)?;
    let time = fields.take_or("time", defaults.time, |v| duration(v, &TIME, report));
    let size = fields.take_or("size", defaults.size, |v| bytes(v, &SIZES, "1KiB to 1MiB, such as `32KiB`", report));
    let lines = fields.take_or("lines", defaults.lines, |v| whole(v, LINES, report).and_then(|n| n.try_into().ok()));
    let target = fields.take_or("target", defaults.target.min(size.unwrap_or(usize::MAX)), |v| {
        let target = bytes(v, &TARGETS, "64B to 1MiB, such as `8KiB`", report)?;
        match size {
            Some(size) if target > size => report.refuse(longer_than_the_head(v)),
            _ => Some(target),
        }
    });
    Some(HeadLimits { time: time?, size: size?, lines: lines?, target: target? })
}

fn keep_alive(value: &Value<'_>, report: &mut Report) -> Option<KeepAlive> {
    let mut fields = keys::KEEP_ALIVE.fields(value, report)?;
    let idle = fields.take_or("idle", KeepAlive::default().idle, |v| duration_or_off(v, &IDLE, report));
    Some(KeepAlive { idle: idle? })
}

/// Reads a size within `bounds`.
fn bytes(value: &Value<'_>, bounds: &RangeInclusive<u64>, spelled: &str, report: &mut Report) -> Option<usize> {
    let expected = format!("a size from {spelled}");
    match size_in(value, expected.clone()) {
        Ok(size) if bounds.contains(&size) => size.try_into().ok(),
        Ok(_) => {
            let text = quoted(value.text().unwrap_or_default());
            report.refuse(value.error(format!("{text} is out of bounds")).expected(expected))
        }
        Err(problem) => report.refuse(problem),
    }
}

fn longer_than_the_head(value: &Value<'_>) -> Problem {
    value.error("a target cannot be longer than the head that it stands in").expected("at most `limits.head.size`")
}
