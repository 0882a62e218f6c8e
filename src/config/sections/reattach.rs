//! `routes[].reattach`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::keys;
use crate::config::model::{Occasions, Reattach};
use crate::config::yaml::problem::{Problem, Report, quoted};
use crate::config::yaml::scalar::{DurationBounds, duration, not_known, one_of, size_in, whole_in};
use crate::config::yaml::value::Value;

const WITHIN: DurationBounds =
    DurationBounds { least: Duration::from_millis(100), most: Duration::from_secs(3_600), example: "30s" };
/// Below the least a message of a chat does not fit, and above the most a few hundred clients fill a machine.
const BUFFERS: RangeInclusive<u64> = 1024..=64 << 20;
const EXPECTED: &str = "a mapping such as `{ within: 30s, buffer: 256KiB }`";
const OCCASIONS: [&str; 3] = ["leaving", "going_away", "crash"];

/// Reads `reattach` of a route.
pub(crate) fn read(value: &Value<'_>, report: &mut Report) -> Option<Option<Reattach>> {
    match value.text() {
        Some("off") => return Some(None),
        Some("on" | "true" | "yes") => {
            return report.refuse(value.wrong(EXPECTED).remedy("write `reattach: {}` for the defaults"));
        }
        Some(text) if humantime::parse_duration(text).is_ok() => {
            return report.refuse(value.wrong(EXPECTED).remedy(format!("write `reattach: {{ within: {text} }}`")));
        }
        _ if !value.is_mapping() => return report.refuse(value.wrong(EXPECTED)),
        _ => {}
    }
    let defaults = Reattach::default();
    let mut fields = keys::REATTACH.fields(value, report)?;
    let within = fields.take_or("within", defaults.within, |v| duration(v, &WITHIN, report));
    let buffer = fields.take_or("buffer", defaults.buffer, |v| buffer(v).map_err(|p| report.push(p)).ok());
    let on = fields.take_or("on", defaults.on, |v| occasions(v, report));
    let code = fields.take_or("code", defaults.code, |v| code(v, report));
    Some(Some(Reattach { within: within?, buffer: buffer?, on: on?, code: code? }))
}

fn buffer(value: &Value<'_>) -> Result<u32, Problem> {
    const EXPECTED: &str = "a size from 1KiB to 64MiB, such as `256KiB`";
    let bytes = size_in(value, EXPECTED.to_owned())?;
    u32::try_from(bytes).ok().filter(|_| BUFFERS.contains(&bytes)).ok_or_else(|| {
        value.error(format!("{} is out of bounds", quoted(value.text().unwrap_or_default()))).expected(EXPECTED)
    })
}

fn occasions(value: &Value<'_>, report: &mut Report) -> Option<Occasions> {
    const EXPECTED: &str = "a list of `leaving`, `going_away` and `crash`, such as `[leaving, crash]`";
    let items = value.items(EXPECTED, report)?;
    if items.is_empty() {
        let problem = value.error("no occasion: nobody would ever be re-attached").expected(EXPECTED);
        return report.refuse(problem.remedy("remove `reattach`, or name an occasion"));
    }
    let mut on = Occasions { leaving: false, going_away: false, crash: false };
    let mut is_right = true;
    for item in &items {
        match item.text() {
            Some("leaving") => on.leaving = true,
            Some("going_away") => on.going_away = true,
            Some("crash") => on.crash = true,
            Some(text) => {
                report.push(not_known(item, text, &OCCASIONS));
                is_right = false;
            }
            None => {
                report.push(item.wrong(one_of(&OCCASIONS)));
                is_right = false;
            }
        }
    }
    is_right.then_some(on)
}

/// Codes that a server may send to say that the connection ends for the time being, and those of applications
/// (RFC 6455 §7.4).
fn code(value: &Value<'_>, report: &mut Report) -> Option<u16> {
    const EXPECTED: &str = "1001, 1011, 1012, 1013, or a code of an application from 3000 to 4999";
    let code = whole_in(value, &(1000..=4999)).map_err(|problem| report.push(problem.expected(EXPECTED))).ok()?;
    match u16::try_from(code) {
        Ok(code @ (1001 | 1011 | 1012 | 1013 | 3000..=4999)) => Some(code),
        _ => report.refuse(value.error(format!("{code} is not sent for this")).expected(EXPECTED)),
    }
}
