//! `messages`, `bytes`, `over_rate` and `per_key` of `tunnel`.

use std::num::NonZeroU64;
use std::ops::RangeInclusive;

use super::{keys, vain};
use crate::config::model::{OverRate, Rates, TunnelRates};
use crate::config::yaml::problem::{Problem, Report, quoted};
use crate::config::yaml::scalar::{choice, or_off};
use crate::config::yaml::value::{Mapping, Value};

const OVER_RATE: [(&str, OverRate); 2] = [("throttle", OverRate::Throttle), ("close", OverRate::Close)];
const MESSAGES: RangeInclusive<u64> = 1..=1_000_000;
/// Above the most a client would be throttled by steps of nanoseconds (`tunnel::rates`).
const BYTES: RangeInclusive<u64> = 1024..=1 << 30;

/// Reads the keys of `tunnel` that limit rates, beside its `max_message`.
pub(crate) fn of_tunnel(
    fields: &mut Mapping<'_, '_>,
    max_message: Option<u64>,
    report: &mut Report,
) -> Option<TunnelRates> {
    let each = rates(fields, report);
    let per_key = fields.take_or("per_key", Rates::default(), |v| rates(&mut keys::PER_KEY.fields(v, report)?, report));
    let written = fields.take("over_rate");
    let over_rate = written.map_or(Some(OverRate::default()), |v| choice(&v, &OVER_RATE, report));
    let rates = TunnelRates { each: each?, per_key: per_key?, over_rate: over_rate? };
    if let (Some(over_rate), OverRate::Close, false) = (written, rates.over_rate, rates.are_on()) {
        let problem = over_rate.warning("no rate is limited: nothing is ever over it");
        report.push(problem.remedy("add `messages` or `bytes`, such as `messages: 200/s`, or remove `over_rate`"));
    }
    if let Some(over_rate) = written {
        vain::of_rates(&over_rate, &rates, max_message, report);
    }
    Some(rates)
}

fn rates(fields: &mut Mapping<'_, '_>, report: &mut Report) -> Option<Rates> {
    let messages = fields.take_or("messages", None, |v| {
        const EXPECTED: &str = "messages a second from 1/s to 1000000/s, such as `200/s`, or `off`";
        or_off(v, EXPECTED.to_owned(), report, messages)
    });
    let bytes = fields.take_or("bytes", None, |v| {
        const EXPECTED: &str = "bytes a second from 1KiB/s to 1GiB/s, such as `1MiB/s`, or `off`";
        or_off(v, EXPECTED.to_owned(), report, bytes)
    });
    Some(Rates { messages: messages?, bytes: bytes? })
}

fn messages(value: &Value<'_>, expected: String) -> Result<NonZeroU64, Problem> {
    let number = a_second(value, &expected, |text| is_number(text).then(|| format!("{text}/s")))?;
    if !is_number(number) {
        let problem = value.error(format!("{} is not a whole number", quoted(number))).expected(expected);
        return Err(problem.remedy("write how many messages a second may have; the least is `1/s`"));
    }
    within(value, number.parse().ok(), &MESSAGES, expected)
}

fn bytes(value: &Value<'_>, expected: String) -> Result<NonZeroU64, Problem> {
    let rate = |text: &str| match is_number(text) {
        true => Some(format!("{text}B/s")),
        false => in_bytes(text).map(|_| format!("{text}/s")),
    };
    let size = a_second(value, &expected, rate)?;
    let Some(bytes) = in_bytes(size) else {
        if is_number(size) {
            let problem = value.error(format!("{} has no unit", quoted(size))).expected(expected);
            return Err(problem.remedy(format!("write the unit: `{0}B/s`, or `{0}KiB/s`", shortened(size))));
        }
        let problem = value.error(format!("{} is not a size", quoted(size))).expected(expected);
        return Err(problem.remedy("units are B, KiB (1,024), MiB and GiB, or KB (1,000), MB and GB"));
    };
    within(value, Some(bytes), &BYTES, expected)
}

/// The part of a rate before `/s`. `meant` is the rate that a text without a unit of time probably stands for.
fn a_second<'v>(
    value: &Value<'v>,
    expected: &str,
    meant: impl FnOnce(&str) -> Option<String>,
) -> Result<&'v str, Problem> {
    let Some(text) = value.text() else { return Err(value.wrong(expected)) };
    text.strip_suffix("/s").ok_or_else(|| {
        let problem = value.error(format!("{} is not a rate", quoted(text))).expected(expected);
        if text.contains('/') {
            return problem.remedy("the only unit of time here is a second: `/s`");
        }
        match meant(shortened(text)) {
            Some(rate) => problem.remedy(format!("write what a second may have: `{rate}`")),
            None => problem,
        }
    })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn in_bytes(size: &str) -> Option<u64> {
    size.parse::<bytesize::ByteSize>().ok().filter(|_| size.ends_with(['B', 'b'])).map(|bytes| bytes.as_u64())
}

/// The beginning of a text, as much as a message has room for.
fn shortened(text: &str) -> &str {
    text.get(..20).unwrap_or(text)
}

fn within(
    value: &Value<'_>,
    number: Option<u64>,
    bounds: &RangeInclusive<u64>,
    expected: String,
) -> Result<NonZeroU64, Problem> {
    number.filter(|number| bounds.contains(number)).and_then(NonZeroU64::new).ok_or_else(|| {
        value.error(format!("{} is out of bounds", quoted(value.text().unwrap_or_default()))).expected(expected)
    })
}
