//! Readers of rates: `10/s`, `600/m`.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::config::model::Rate;
use crate::config::yaml::problem::{Problem, Report, quoted};
use crate::config::yaml::scalar;
use crate::config::yaml::value::Value;

/// Reads a rate, or `off`, which gives `None`.
pub(crate) fn or_off(value: &Value<'_>, report: &mut Report) -> Option<Option<Rate>> {
    scalar::or_off(value, format!("{EXPECTED}, or `off`"), report, read)
}

fn read(value: &Value<'_>, expected: String) -> Result<Rate, Problem> {
    let Some(text) = value.text() else { return Err(value.wrong(expected)) };
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number = text.get(..20).unwrap_or(text);
        let problem = value.error(format!("{} does not say in what time", quoted(text))).expected(expected);
        return Err(problem.remedy(format!("write `{number}/s`, or `{number}/m`")));
    }
    let rate = text.split_once('/').and_then(|(count, unit)| {
        let per = match unit {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            _ => return None,
        };
        let digits = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| (count.parse::<u32>().ok().filter(|count| *count <= MOST).and_then(NonZeroU32::new), per))
    });
    match rate {
        Some((Some(count), per)) => Ok(Rate { count, per }),
        Some((None, _)) => Err(value.error(format!("{} is out of bounds", quoted(text))).expected(expected)),
        None => Err(not_a_rate(value, text).expected(expected)),
    }
}

fn not_a_rate(value: &Value<'_>, text: &str) -> Problem {
    let problem = value.error(format!("{} is not a rate", quoted(text)));
    let Some((count, unit @ ("s" | "m"))) = text.split_once('/') else {
        return problem.remedy("units are s (a second) and m (a minute)");
    };
    let a_minute = scalar::decimal(count).filter(|_| unit == "s").map(|count| count * 60.0);
    problem.remedy(match a_minute.filter(|count| count.fract() == 0.0 && (1.0..=f64::from(MOST)).contains(count)) {
        Some(count) => format!("rates are whole numbers: write `{count}/m`"),
        None => "rates are whole numbers of at least 1, such as `10/s`, or `30/m` for one in two seconds".to_owned(),
    })
}

const MOST: u32 = 1_000_000;
const EXPECTED: &str = "a rate from 1/m to 1000000/s, such as `10/s`";
