//! `admin`: the listener of the admin API, which is never open to strangers.

use super::keys;
use super::listener_tls;
use super::listeners::{TakenAddresses, listen_address};
use crate::config::model::Admin;
use crate::config::named_files::{FileUse, NamedFiles};
use crate::config::yaml::problem::Report;
use crate::config::yaml::scalar::text;
use crate::config::yaml::value::Value;

/// Reads `admin`.
pub(super) fn read(
    value: &Value<'_>,
    taken: &mut TakenAddresses,
    files: &mut NamedFiles,
    report: &mut Report,
) -> Option<Admin> {
    if value.text() == Some("off") {
        let problem = value.wrong("a mapping such as `address: 127.0.0.1:9099`");
        return report.refuse(problem.remedy("leave `admin` out to have no admin listener"));
    }
    let mut fields = keys::ADMIN.fields(value, report)?;
    let written = fields.required("address", "an IP address and a port, such as `127.0.0.1:9099`", report);
    let address = written.and_then(|v| listen_address(&v, taken, report));
    let token_file =
        fields.take_or("token_file", None, |v| listener_tls::path(v, FileUse::Tokens, files, report).map(Some));
    let tls = fields.take_or("tls", None, |v| listener_tls::read(v, files, report).map(Some));
    let names = fields.take_or("names", Vec::new(), |v| names(v, report));
    let admin = Admin { address: address?, token_file: token_file?, tls: tls?, names: names? };
    let (written, address) = (written?, admin.address);
    let is_near = address.ip().to_canonical().is_loopback();
    let asks_for_certificates =
        admin.tls.as_ref().and_then(|tls| tls.client_auth.as_ref()).is_some_and(|auth| auth.required);
    match (is_near, &admin.token_file, asks_for_certificates, &admin.tls) {
        (false, None, false, _) => {
            let problem = written.error(format!("whoever reaches {address} could command the gateway"));
            let problem = problem.expected(
                "a loopback address; or a `token_file`; or `tls` with a `client_auth` that asks each client for a \
                 certificate",
            );
            return report.refuse(problem.remedy(
                "`openssl rand -hex 32 > FILE` makes a token: keep the file to the gateway, and name it in \
                 `token_file`",
            ));
        }
        (false, Some(_), _, None) => {
            let problem = written.warning("the token crosses the network as it is: whoever listens can use it");
            report.push(problem.remedy("add `tls`, or listen on loopback behind a tunnel such as `ssh -L`"));
        }
        _ => {}
    }
    Some(admin)
}

fn names(value: &Value<'_>, report: &mut Report) -> Option<Vec<String>> {
    const EXPECTED: &str = "a list of host names, such as `[gateway.example.com]`";
    let items = value.items(EXPECTED, report)?;
    let names: Vec<_> = items.iter().map(|item| name(item, report)).collect();
    names.into_iter().collect()
}

fn name(value: &Value<'_>, report: &mut Report) -> Option<String> {
    const EXPECTED: &str = "a host name without a port, such as `gateway.example.com`";
    let name = text(value, EXPECTED, report)?.to_ascii_lowercase();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    match !name.is_empty() && name.bytes().all(fits) {
        true => Some(name),
        false => report.refuse(value.wrong(EXPECTED)),
    }
}
