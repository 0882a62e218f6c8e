//! `tls` and `proxy_protocol` of an upstream: the layers between TCP and HTTP towards its backends.

use rustls::pki_types::ServerName;

use super::keys;
use super::listener_tls::{file, path};
use crate::config::model::{PemPair, UpstreamTls};
use crate::config::named_files::{FileUse, NamedFiles};
use crate::config::yaml::problem::{Problem, Report, Severity, quoted};
use crate::config::yaml::scalar::{boolean, choice};
use crate::config::yaml::value::{Mapping, Value};
use crate::proxy_protocol::ProxyVersion;

/// Reads `tls`.
pub(super) fn read(value: &Value<'_>, files: &mut NamedFiles, report: &mut Report) -> Option<UpstreamTls> {
    if !value.is_mapping() {
        let problem = value.wrong("a mapping such as `server_name: chat.internal`");
        let yes = matches!(value.text(), Some("true" | "on" | "yes" | "True" | "On"));
        return report.refuse(if yes { problem.remedy("write `tls: {}` for TLS with the defaults") } else { problem });
    }
    let mut fields = keys::UPSTREAM_TLS.fields(value, report)?;
    let server_name = fields.take_or("server_name", None, |v| server_name(v, report).map(Some));
    let ca_value = fields.take("ca");
    let ca = ca_value.map_or(Some(None), |v| path(&v, FileUse::Roots, files, report).map(Some));
    let certificate = certificate(&mut fields, files, report);
    let verify_value = fields.take("verify");
    let verify = verify_value.map_or(Some(true), |v| boolean(&v, report));
    if let (Some(at), Some(false)) = (verify_value, verify) {
        let message = "certificates of backends are not verified: anybody on the way may pass for one";
        let warning = Problem::new(Severity::Warning, at.mark(), at.path(), message);
        report.push(warning.remedy("name the authority of the backends with `ca`, or their certificate itself"));
        if let Some(ca) = ca_value {
            let problem = ca.error("with `verify: false` nothing is verified, so `ca` would not be read");
            report.push(problem.remedy("remove `verify: false`, or `ca`"));
        }
    }
    Some(UpstreamTls { server_name: server_name?, ca: ca?, certificate: certificate?, verify: verify? })
}

/// Reads `certificate` and `key`, which come together.
pub(super) fn certificate(
    fields: &mut Mapping<'_, '_>,
    files: &mut NamedFiles,
    report: &mut Report,
) -> Option<Option<PemPair>> {
    let (cert, key) = match (fields.take("certificate"), fields.take("key")) {
        (None, None) => return Some(None),
        (Some(cert), Some(key)) => (cert, key),
        (Some(alone), None) => return report.refuse(alone.error("`certificate` without `key`").remedy(BOTH)),
        (None, Some(alone)) => return report.refuse(alone.error("`key` without `certificate`").remedy(BOTH)),
    };
    let pair = (file(&cert, report), file(&key, report));
    let pair = PemPair { cert: pair.0?, key: pair.1? };
    files.pair(&cert, &key, pair.clone());
    Some(Some(pair))
}

fn server_name(value: &Value<'_>, report: &mut Report) -> Option<ServerName<'static>> {
    const EXPECTED: &str = "the name that the backends' certificates are for, such as `chat.internal`";
    let Some(text) = value.text() else { return report.refuse(value.wrong(EXPECTED)) };
    if let Ok(name) = ServerName::try_from(text.to_owned()) {
        return Some(name);
    }
    let problem = value.error(format!("{} is not the name of a host", quoted(text))).expected(EXPECTED);
    report.refuse(match text.split_once("://").map(|(_, rest)| rest) {
        Some(_) => problem.remedy("leave the scheme out"),
        None if text.starts_with("*.") => problem.remedy("write one name; a certificate for a wildcard is for it too"),
        None if text.contains(':') => problem.remedy("leave the port out"),
        None => problem,
    })
}

/// Reads `proxy_protocol` of an upstream.
pub(super) fn proxy_protocol(value: &Value<'_>, report: &mut Report) -> Option<Option<ProxyVersion>> {
    choice(value, &VERSIONS, report)
}

const VERSIONS: [(&str, Option<ProxyVersion>); 3] =
    [("off", None), ("v1", Some(ProxyVersion::V1)), ("v2", Some(ProxyVersion::V2))];
const BOTH: &str = "name both files: a file with both is named twice";
