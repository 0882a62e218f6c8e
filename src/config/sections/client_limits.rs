//! `limits`: bounds on what clients take and send.

use std::num::{NonZeroU32, NonZeroU64};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{keys, rate, vain};
use crate::config::model::{BodyLimits, HeadLimits, KeepAlive, Limits, Pace, PerClient, RouteLimits};
use crate::config::yaml::problem::{Problem, Report, quoted};
use crate::config::yaml::scalar::{
    DurationBounds, duration, duration_or_off, most_or_off, or_off, size_in, size_of, size_or_off, whole, whole_in,
};
use crate::config::yaml::value::{Mapping, Value};

const TIME: DurationBounds =
    DurationBounds { least: Duration::from_millis(100), most: Duration::from_secs(3_600), example: "10s" };
const IDLE: DurationBounds =
    DurationBounds { least: Duration::from_secs(1), most: Duration::from_secs(86_400), example: "75s" };
const PACE: DurationBounds =
    DurationBounds { least: Duration::from_secs(1), most: Duration::from_secs(86_400), example: "60s" };
/// Pingora reads no more of a head (`MAX_HEADER_SIZE`, `MAX_HEADERS`).
const SIZES: RangeInclusive<u64> = 1024..=1 << 20;
const LINES: RangeInclusive<u64> = 1..=256;
const TARGETS: RangeInclusive<u64> = 64..=1 << 20;
const MOST_RATE: u64 = 1 << 30;
const COUNTS: RangeInclusive<u64> = 1..=u32::MAX as u64;
const REFUSE_NETWORKS: &str = "to refuse clients, name their networks in `listeners[].deny`";
const REFUSE_ON_ROUTE: &str =
    "to refuse everybody, give the route the hook `ip_filter` with `deny: [0.0.0.0/0, \"::/0\"]`";

/// Reads `limits`.
pub(crate) fn read(value: &Value<'_>, report: &mut Report) -> Option<Limits> {
    let defaults = Limits::default();
    let mut fields = keys::LIMITS.fields(value, report)?;
    let connections = fields.take_or("connections", defaults.connections, |v| connections(v, report));
    let written = fields.take("memory");
    let memory = written.map_or(Some(defaults.memory), |v| size_or_off(&v, report));
    let per_client = fields.take_or("per_client", defaults.per_client, |v| per_client(v, report));
    let head = fields.take_or("head", defaults.head, |v| head(v, report));
    if let (Some(written), Some(head)) = (written, &head) {
        vain::of_memory(&written, memory.flatten(), head, report);
    }
    let body = fields.take_or("body", defaults.body, |v| body(v, report));
    let answer = fields.take_or("answer", defaults.answer, |v| pace(&mut keys::ANSWER.fields(v, report)?, report));
    let keep_alive = fields.take_or("keep_alive", defaults.keep_alive, |v| keep_alive(v, report));
    Some(Limits {
        connections: connections?,
        memory: memory?,
        per_client: per_client?,
        head: head?,
        body: body?,
        answer: answer?,
        keep_alive: keep_alive?,
    })
}

/// Reads `limits.connections`: a number, or `auto`, which gives `None`.
fn connections(value: &Value<'_>, report: &mut Report) -> Option<Option<NonZeroU32>> {
    let expected = format!("{}, or `auto`", count_expected());
    match value.text() {
        Some("auto") => Some(None),
        Some("off" | "Auto" | "AUTO" | "unlimited" | "0") => {
            report.refuse(value.wrong(expected).remedy("write `auto`: as many as there are file descriptors for"))
        }
        _ => count_in(value, expected).map(Some).map_err(|problem| report.push(problem)).ok(),
    }
}

fn per_client(value: &Value<'_>, report: &mut Report) -> Option<PerClient> {
    let defaults = PerClient::default();
    let mut fields = keys::PER_CLIENT.fields(value, report)?;
    let connections = fields.take_or("connections", defaults.connections, |v| count_or_off(v, REFUSE_NETWORKS, report));
    let tunnels = fields.take_or("tunnels", defaults.tunnels, |v| count_or_off(v, REFUSE_NETWORKS, report));
    let handshakes = fields.take_or("handshakes", defaults.handshakes, |v| rate::or_off(v, report));
    let ipv4_prefix = fields.take_or("ipv4_prefix", defaults.ipv4_prefix, |v| prefix(v, 32, report));
    let ipv6_prefix = fields.take_or("ipv6_prefix", defaults.ipv6_prefix, |v| prefix(v, 128, report));
    Some(PerClient {
        connections: connections?,
        tunnels: tunnels?,
        handshakes: handshakes?,
        ipv4_prefix: ipv4_prefix?,
        ipv6_prefix: ipv6_prefix?,
    })
}

fn prefix(value: &Value<'_>, most: u8, report: &mut Report) -> Option<u8> {
    whole(value, 1..=most.into(), report)?.try_into().ok()
}

fn count_or_off(value: &Value<'_>, to_refuse: &str, report: &mut Report) -> Option<Option<NonZeroU32>> {
    most_or_off(value, format!("{}, or `off`", count_expected()), to_refuse, report, count_in)
}

fn count_in(value: &Value<'_>, expected: String) -> Result<NonZeroU32, Problem> {
    let count = whole_in(value, &COUNTS).map_err(|problem| problem.expected(expected))?;
    Ok(u32::try_from(count).ok().and_then(NonZeroU32::new).expect("the bounds are those of the type"))
}

fn count_expected() -> String {
    format!("a whole number from {} to {}", COUNTS.start(), COUNTS.end())
}

/// Reads `limits` of a listener: the most connections that it has.
pub(crate) fn of_listener(value: &Value<'_>, report: &mut Report) -> Option<Option<NonZeroU32>> {
    let mut fields = keys::LISTENER_LIMITS.fields(value, report)?;
    fields.take_or("connections", None, |v| count_or_off(v, REFUSE_NETWORKS, report))
}

/// Reads `limits` of a route.
pub(crate) fn of_route(value: &Value<'_>, report: &mut Report) -> Option<RouteLimits> {
    let mut fields = keys::ROUTE_LIMITS.fields(value, report)?;
    let tunnels = fields.take_or("tunnels", None, |v| count_or_off(v, REFUSE_ON_ROUTE, report));
    let requests = fields.take_or("requests", None, |v| count_or_off(v, REFUSE_ON_ROUTE, report));
    Some(RouteLimits { tunnels: tunnels?, requests: requests? })
}

/// Reads `body` of a route: its own limit of the size, or none.
pub(crate) fn body_of_route(value: &Value<'_>, report: &mut Report) -> Option<Option<u64>> {
    let mut fields = keys::ROUTE_BODY.fields(value, report)?;
    let size = fields.required("size", "a size such as `10MiB`, or `off`", report)?;
    size_or_off(&size, report)
}

fn body(value: &Value<'_>, report: &mut Report) -> Option<BodyLimits> {
    let mut fields = keys::BODY.fields(value, report)?;
    let pace = pace(&mut fields, report);
    let size = fields.take_or("size", None, |v| size_or_off(v, report));
    Some(BodyLimits { pace: pace?, size: size? })
}

/// Reads `idle` and `min_rate`.
fn pace(fields: &mut Mapping<'_, '_>, report: &mut Report) -> Option<Pace> {
    let defaults = Pace::default();
    let idle = fields.take_or("idle", defaults.idle, |v| duration_or_off(v, &PACE, report));
    let min_rate = fields.take_or("min_rate", defaults.min_rate, |v| min_rate(v, report));
    Some(Pace { idle: idle?, min_rate: min_rate? })
}

fn min_rate(value: &Value<'_>, report: &mut Report) -> Option<Option<NonZeroU64>> {
    const EXPECTED: &str = "bytes a second from 1B to 1GiB, such as `100B` or `100B/s`, or `off`";
    or_off(value, EXPECTED.to_owned(), report, |value, expected| {
        let Some(text) = value.text() else { return Err(value.wrong(expected)) };
        let size = size_of(text.strip_suffix("/s").unwrap_or(text), value, expected.clone())?;
        let rate = NonZeroU64::new(size).filter(|_| size <= MOST_RATE);
        rate.ok_or_else(|| {
            let text = quoted(value.text().unwrap_or_default());
            value.error(format!("{text} is out of bounds")).expected(expected)
        })
    })
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
    let least = "1 ends each connection after its first answer";
    let requests = fields.take_or("requests", KeepAlive::default().requests, |v| count_or_off(v, least, report));
    Some(KeepAlive { idle: idle?, requests: requests? })
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
