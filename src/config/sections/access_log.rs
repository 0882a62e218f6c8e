//! `access_log`: target and format of the access log.

use super::keys;
use crate::config::model::{AccessLog, LogFormat, LogTarget};
use crate::config::yaml::problem::Report;
use crate::config::yaml::scalar::{choice, text};
use crate::config::yaml::value::Value;

/// Reads `access_log`; `Some(None)` for `off`.
pub(crate) fn read(value: &Value<'_>, report: &mut Report) -> Option<Option<AccessLog>> {
    const EXPECTED: &str = "`off`, or a mapping with the keys to and format";
    match value.text() {
        Some("off") => return Some(None),
        Some("false" | "no" | "none" | "Off" | "OFF") => {
            return report.refuse(value.wrong(EXPECTED).remedy("write `off`"));
        }
        Some(target) => {
            let problem = value.wrong(EXPECTED);
            return report.refuse(problem.remedy(format!("write `{{ to: {} }}`", target.escape_debug())));
        }
        None if !value.is_mapping() => return report.refuse(value.wrong(EXPECTED)),
        None => {}
    }
    let defaults = AccessLog::default();
    let mut fields = keys::ACCESS_LOG.fields(value, report)?;
    let to = fields.take_or("to", defaults.to, |v| target(v, report));
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = fields.take_or("format", defaults.format, |v| choice(v, &formats, report));
    Some(Some(AccessLog { to: to?, format: format? }))
}

fn target(value: &Value<'_>, report: &mut Report) -> Option<LogTarget> {
    const EXPECTED: &str = "`stdout`, or the path of a file such as `/var/log/longhaul/access.log`";
    match text(value, EXPECTED, report)? {
        "stdout" => Some(LogTarget::Stdout),
        // In other programs these words have a meaning; here they would become names of files.
        "stderr" | "syslog" | "off" | "-" => {
            let problem = value.wrong(EXPECTED);
            report
                .refuse(problem.remedy("`access_log: off` turns the log off; a file of this name is written `./NAME`"))
        }
        path if path.contains('\0') => report.refuse(value.wrong(EXPECTED)),
        path => Some(LogTarget::File(path.into())),
    }
}
