//! Host names in `backends`.

use super::backends;
use super::keys;
use super::matching::backend_name;
use crate::config::model::Host;
use crate::config::yaml::address::{AddressUse, wrong_port};
use crate::config::yaml::problem::{Report, quoted};
use crate::config::yaml::value::Value;

/// Tells whether an entry of `backends` has a host name in the place of its IP address.
pub(super) fn is_host(item: &Value<'_>) -> bool {
    let text = if item.is_mapping() { item.under("address").and_then(|address| address.text()) } else { item.text() };
    text.is_some_and(|text| match text.rsplit_once(':') {
        // A path behind the colon is that of a unix socket.
        Some((host, port)) => is_host_name(host) && !port.contains('/'),
        None => is_host_name(text),
    })
}

/// Reads such an entry.
pub(super) fn read(item: &Value<'_>, report: &mut Report) -> Option<Host> {
    if !item.is_mapping() {
        let (text, host, port) = split(item, report)?;
        return Some(Host { text: text.into(), host: host.into(), port, weight: 1 });
    }
    let mut fields = keys::BACKEND.fields(item, report)?;
    let name = fields.take_or("name", None, |v| backend_name(v, report).map(Some));
    let weight = fields.take_or("weight", 1, |v| backends::read_weight(v, report));
    let (text, host, port) = fields.take("address").and_then(|v| split(&v, report))?;
    let text = name?.map_or_else(|| text.into(), Into::into);
    Some(Host { text, host: host.into(), port, weight: weight? })
}

/// The text, and the host name and the port in it.
fn split<'v>(value: &Value<'v>, report: &mut Report) -> Option<(&'v str, &'v str, u16)> {
    let text = value.text()?;
    let expected = "a host name and a port from 1 to 65535, such as `chat.internal:9001`";
    let Some((host, port)) = text.rsplit_once(':').filter(|(_, port)| !port.is_empty()) else {
        let problem = value.error(format!("the port is missing in {}", quoted(text)));
        let host = text.trim_end_matches(':');
        return report.refuse(problem.expected(expected).remedy(format!("such as `{host}:9001`")));
    };
    match port.parse() {
        Ok(port) if port > 0 => Some((text, host, port)),
        _ => report.refuse(wrong_port(value, port, AddressUse::Connect).expected(expected)),
    }
}

/// True for a name of labels of letters, digits, `-` and `_` (SRV), with a letter in the last one: all digits would be
/// an address (RFC 1123 §2.1).
pub(super) fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253 && name.split('.').all(is_label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}
