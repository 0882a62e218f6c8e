//! `tracing`: the trace context of requests, and the export of spans.

use std::time::Duration;

use super::keys;
use crate::config::model::{TraceExport, Tracing};
use crate::config::yaml::problem::{Report, quoted};
use crate::config::yaml::scalar::{DurationBounds, decimal, duration, text, whole};
use crate::config::yaml::value::Value;

/// Reads `tracing`; `Some(None)` for `off`.
pub(crate) fn read(value: &Value<'_>, report: &mut Report) -> Option<Option<Tracing>> {
    if value.text() == Some("off") {
        return Some(None);
    }
    if !value.is_mapping() {
        return report.refuse(value.wrong("`off`, or a mapping such as `{ sample: 0.1 }`"));
    }
    let mut fields = keys::TRACING.fields(value, report)?;
    let sample = fields.take_or("sample", 1.0, |v| read_sample(v, report));
    let export = fields.take_or("export", None, |v| read_export(v, report).map(Some));
    Some(Some(Tracing { sample: sample?, export: export? }))
}

fn read_sample(value: &Value<'_>, report: &mut Report) -> Option<f64> {
    const EXPECTED: &str = "a number from 0 to 1, such as `0.1` for every tenth trace";
    let written = value.text();
    let Some(text) = written.filter(|_| value.plain_text().is_some()) else {
        return report.refuse(value.wrong(EXPECTED));
    };
    let problem = |message: &str| value.error(format!("{} {message}", quoted(text))).expected(EXPECTED);
    match decimal(text) {
        Some(share) if (0.0..=1.0).contains(&share) => Some(share),
        Some(share) if share > 1.0 && share <= 100.0 => {
            report.refuse(problem("is out of bounds").remedy(format!("{share} % is written `{}`", share / 100.0)))
        }
        Some(_) => report.refuse(problem("is out of bounds")),
        None => {
            let percent = text.strip_suffix('%').and_then(decimal).filter(|percent| (0.0..=100.0).contains(percent));
            let problem = problem("is not a number");
            report.refuse(match percent {
                Some(percent) => problem.remedy(format!("write `{}`", percent / 100.0)),
                None => problem,
            })
        }
    }
}

fn read_export(value: &Value<'_>, report: &mut Report) -> Option<TraceExport> {
    let mut fields = keys::TRACE_EXPORT.fields(value, report)?;
    let url = fields.required("url", URL, report).and_then(|v| read_url(&v, report));
    let service = fields.take_or("service", "longhaul".to_owned(), |v| read_service(v, report));
    let queue = fields.take_or("queue", 4_096, |v| whole(v, 1..=1_000_000, report));
    let timeout = fields.take_or("timeout", Duration::from_secs(10), |v| duration(v, &TIMEOUT, report));
    let queue = queue.and_then(|queue| usize::try_from(queue).ok());
    Some(TraceExport { url: url?, service: service?, queue: queue?, timeout: timeout? })
}

fn read_url(value: &Value<'_>, report: &mut Report) -> Option<String> {
    let written = text(value, URL, report)?;
    let problem = |message: &str| value.error(format!("{} {message}", quoted(written))).expected(URL);
    let Ok(uri) = written.parse::<http::Uri>() else { return report.refuse(problem("is no URL")) };
    let Some(authority) = uri.authority().filter(|_| matches!(uri.scheme_str(), Some("http" | "https"))) else {
        return report.refuse(problem("is no URL that spans can be posted to"));
    };
    if authority.as_str().contains('@') {
        return report.refuse(
            problem("has a name or a password in it")
                .remedy("send spans to a collector near the gateway, and have that one show who it is"),
        );
    }
    if uri.path() == "/" {
        let warning = value.warning(format!("{} has no path", quoted(written)));
        report.push(warning.remedy("spans are posted to exactly this URL; receivers expect them at `/v1/traces`"));
    }
    Some(written.to_owned())
}

fn read_service(value: &Value<'_>, report: &mut Report) -> Option<String> {
    const EXPECTED: &str = "a name of at most 255 bytes, such as `longhaul`";
    let name = text(value, EXPECTED, report)?;
    match (1..=255).contains(&name.len()) && !name.contains(char::is_control) {
        true => Some(name.to_owned()),
        false => report.refuse(value.wrong(EXPECTED)),
    }
}

const URL: &str = "an `http` or `https` URL, such as `http://127.0.0.1:4318/v1/traces`";
const TIMEOUT: DurationBounds =
    DurationBounds { least: Duration::from_millis(100), most: Duration::from_secs(60), example: "10s" };
