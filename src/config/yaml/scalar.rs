//! Readers of single values: truth values, numbers, durations, sizes and choices.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::core_schema;
use super::near::nearest;
use super::problem::{Problem, Report, quoted};
use super::value::Value;

/// The bounds of a duration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DurationBounds {
    pub(crate) least: Duration,
    pub(crate) most: Duration,
    /// Example in the message about a wrong value.
    pub(crate) example: &'static str,
}

impl DurationBounds {
    pub(crate) fn expected(&self) -> String {
        format!("a duration from {} to {}, such as `{}`", spelled(self.least), spelled(self.most), self.example)
    }
}

/// Accepted sizes of a message limit, in bytes. The upper bound is far beyond the messages of any application.
const SIZES: RangeInclusive<u64> = 1..=1 << 40;
pub(crate) const SIZE: &str = "a size from 1B to 1TiB, such as `64KiB`";

/// Reads a text of at least one character.
pub(crate) fn text<'v>(value: &Value<'v>, expected: &str, report: &mut Report) -> Option<&'v str> {
    match value.text() {
        Some("") => report.refuse(value.error("empty text").expected(expected)),
        Some(text) => Some(text),
        None => report.refuse(value.wrong(expected)),
    }
}

/// Reads `true` or `false`.
pub(crate) fn boolean(value: &Value<'_>, report: &mut Report) -> Option<bool> {
    let problem = value.wrong("`true` or `false`");
    match value.plain_text() {
        Some(text) if let Some(boolean) = core_schema::boolean(text) => Some(boolean),
        Some("yes" | "Yes" | "on" | "On" | "1") => report.refuse(problem.remedy("write `true`")),
        Some("no" | "No" | "off" | "Off" | "0") => report.refuse(problem.remedy("write `false`")),
        _ => report.refuse(problem),
    }
}

/// Reads a whole number within `bounds`.
pub(crate) fn whole(value: &Value<'_>, bounds: RangeInclusive<u64>, report: &mut Report) -> Option<u64> {
    whole_in(value, &bounds).map_err(|problem| report.push(problem)).ok()
}

/// [`whole`] that returns its problem, so that the caller can add a remedy.
pub(crate) fn whole_in(value: &Value<'_>, bounds: &RangeInclusive<u64>) -> Result<u64, Problem> {
    let expected = format!("a whole number from {} to {}", bounds.start(), bounds.end());
    let Some(text) = value.text() else { return Err(value.wrong(expected)) };
    if let Some(problem) = wrong_with_whole(value, text) {
        return Err(problem.expected(expected));
    }
    match text.parse() {
        Ok(number) if bounds.contains(&number) => Ok(number),
        _ => Err(value.error(format!("{} is out of bounds", quoted(text))).expected(expected)),
    }
}

/// The problem of `text` as a whole number in decimal digits, apart from bounds; `None` where it is one.
pub(crate) fn wrong_with_whole(value: &Value<'_>, text: &str) -> Option<Problem> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(value.error(format!("{} is not a whole number", quoted(text))));
    }
    if value.plain_text().is_none() {
        return Some(value.error("a number in quotes is text").remedy("remove the quotes"));
    }
    if digits.len() > 1 && digits.starts_with('0') {
        let problem = value.error(format!("{} begins with a zero, which some read as octal", quoted(text)));
        return Some(problem.remedy("remove the zeros at its beginning"));
    }
    None
}

/// Reads a number in plain decimal digits, with or without a fraction.
pub(crate) fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if plain { text.parse().ok() } else { None }
}

/// Reads a duration within `span`: `500ms`, `30s`, `5m`, `1d`.
pub(crate) fn duration(value: &Value<'_>, span: &DurationBounds, report: &mut Report) -> Option<Duration> {
    duration_in(value, span, span.expected()).map_err(|problem| report.push(problem)).ok()
}

/// Reads a duration within `span`, or `off`, which gives `None`.
pub(crate) fn duration_or_off(
    value: &Value<'_>,
    span: &DurationBounds,
    report: &mut Report,
) -> Option<Option<Duration>> {
    let expected = format!("{}, or `off`", span.expected());
    or_off(value, expected, report, |value, expected| duration_in(value, span, expected))
}

/// Reads a number of bytes with its unit, `64KiB` or `1MiB`.
pub(crate) fn size(value: &Value<'_>, report: &mut Report) -> Option<u64> {
    size_in(value, SIZE.to_owned()).map_err(|problem| report.push(problem)).ok()
}

/// Reads a number of bytes with its unit, `64KiB` or `1MiB`, or `off`, which gives `None`.
pub(crate) fn size_or_off(value: &Value<'_>, report: &mut Report) -> Option<Option<u64>> {
    or_off(value, format!("{SIZE}, or `off`"), report, size_in)
}

/// Reads `off`, which gives `None`, and any other value by `read`.
pub(crate) fn or_off<T>(
    value: &Value<'_>,
    expected: String,
    report: &mut Report,
    read: impl FnOnce(&Value<'_>, String) -> Result<T, Problem>,
) -> Option<Option<T>> {
    match value.text() {
        Some("off") => Some(None),
        Some("Off" | "OFF" | "false" | "False" | "no" | "none" | "None" | "never" | "disabled" | "unlimited" | "0") => {
            report.refuse(value.wrong(expected).remedy("write `off`"))
        }
        _ => read(value, expected).map(Some).map_err(|problem| report.push(problem)).ok(),
    }
}

/// [`or_off`] for a most of something: a 0 is taken neither for no limit nor for a refusal of everybody, whose way
/// `to_refuse` tells.
pub(crate) fn most_or_off<T>(
    value: &Value<'_>,
    expected: String,
    to_refuse: &str,
    report: &mut Report,
    read: impl FnOnce(&Value<'_>, String) -> Result<T, Problem>,
) -> Option<Option<T>> {
    if value.text() == Some("0") {
        return report.refuse(value.wrong(expected).remedy(format!("`off` means no limit; {to_refuse}")));
    }
    or_off(value, expected, report, read)
}

/// Reads one of some words.
pub(crate) fn choice<T: Copy>(value: &Value<'_>, words: &[(&str, T)], report: &mut Report) -> Option<T> {
    let names: Vec<_> = words.iter().map(|(name, _)| *name).collect();
    let Some(text) = value.text() else { return report.refuse(value.wrong(one_of(&names))) };
    match words.iter().find(|(name, _)| *name == text) {
        Some((_, meant)) => Some(*meant),
        None => report.refuse(not_known(value, text, &names)),
    }
}

/// The problem of a `text` that is not in `names`.
pub(crate) fn not_known(value: &Value<'_>, text: &str, names: &[&str]) -> Problem {
    let problem = value.error(format!("{} is not known here", quoted(text))).expected(one_of(names));
    match nearest(text, names.iter().copied()) {
        Some(near) => problem.remedy(format!("did you mean `{near}`?")),
        None => problem,
    }
}

/// Description of a value that must be one of `names`.
pub(crate) fn one_of(names: &[&str]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [one] => format!("`{one}`"),
        _ => format!("one of {}", names.join(", ")),
    }
}

/// Writes a duration in the largest unit that leaves no fraction: `90s`, `1d`.
pub(crate) fn spelled(duration: Duration) -> String {
    const UNITS: [(&str, u128); 4] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let milliseconds = duration.as_millis();
    match UNITS.iter().find(|(_, unit)| milliseconds > 0 && milliseconds.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", milliseconds / unit),
        None if milliseconds == 0 => "0s".to_owned(),
        None => format!("{milliseconds}ms"),
    }
}

/// Writes a number of bytes in the largest unit that leaves no fraction: `64KiB`, `1000B`.
pub(crate) fn spelled_size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.iter().find(|(_, bits)| bytes > 0 && bytes.is_multiple_of(1 << bits)) {
        Some((unit, bits)) => format!("{}{unit}", bytes >> bits),
        None => format!("{bytes}B"),
    }
}

pub(crate) fn duration_in(value: &Value<'_>, span: &DurationBounds, expected: String) -> Result<Duration, Problem> {
    let Some(text) = value.text() else { return Err(value.wrong(expected)) };
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let problem = value.error(format!("{} has no unit", quoted(text))).expected(expected);
        return Err(problem.remedy(with_units(text, &["s", "ms", "m"])));
    }
    let problem = || value.error(format!("{} is not a duration", quoted(text)));
    if text == "off" {
        return Err(value.error("`off` is not possible here").expected(expected));
    }
    if text.ends_with('M') {
        let remedy = format!("write {} for minutes", quoted(&text.to_lowercase()));
        return Err(problem().expected(expected).remedy(remedy));
    }
    match humantime::parse_duration(text) {
        Ok(duration) if duration < span.least => Err(out_of_bounds(value, text, "short").expected(expected)),
        Ok(duration) if duration > span.most => Err(out_of_bounds(value, text, "long").expected(expected)),
        Ok(duration) => Ok(duration),
        Err(_) => Err(problem().expected(expected).remedy("units are ms, s, m (minutes), h and d")),
    }
}

fn out_of_bounds(value: &Value<'_>, text: &str, how: impl Display) -> Problem {
    value.error(format!("{} is too {how}", quoted(text)))
}

pub(crate) fn size_in(value: &Value<'_>, expected: String) -> Result<u64, Problem> {
    match value.text() {
        Some(text) => size_of(text, value, expected),
        None => Err(value.wrong(expected)),
    }
}

/// Reads `text`, which is all of `value` or the part of it that is a size.
pub(crate) fn size_of(text: &str, value: &Value<'_>, expected: String) -> Result<u64, Problem> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let problem = value.error(format!("{} has no unit", quoted(text))).expected(expected);
        return Err(problem.remedy(with_units(text, &["B", "KiB", "MiB"])));
    }
    let problem = value.error(format!("{} is not a size", quoted(text))).expected(expected.clone());
    if text.ends_with("/s") {
        return Err(problem.remedy("this is a size and no rate: leave out the `/s`"));
    }
    if !text.ends_with(['B', 'b']) {
        // `64k` is 65,536 to nginx and 64,000 to SI: the author of the file decides.
        return Err(problem.remedy("units are B, KiB (1,024), MiB and GiB, or KB (1,000), MB and GB"));
    }
    match text.parse::<bytesize::ByteSize>() {
        Ok(size) if SIZES.contains(&size.as_u64()) => Ok(size.as_u64()),
        Ok(_) => Err(value.error(format!("{} is out of bounds", quoted(text))).expected(expected)),
        Err(_) => Err(problem.remedy("units are B, KiB (1,024), MiB and GiB, or KB (1,000), MB and GB")),
    }
}

fn with_units(number: &str, units: &[&str]) -> String {
    let number = number.get(..20).unwrap_or(number);
    let written: Vec<_> = units.iter().map(|unit| format!("`{number}{unit}`")).collect();
    format!("write the unit: {}", written.join(", or "))
}
