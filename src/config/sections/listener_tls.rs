//! `tls` of a listener, and the keys that only make sense beside it: `redirect`, `hsts`.

use std::path::PathBuf;
use std::time::Duration;

use super::keys;
use crate::config::model::{ClientAuth, Hsts, ListenerTls, PemPair, TlsVersion};
use crate::config::named_files::{FileUse, NamedFiles};
use crate::config::yaml::problem::{Problem, Report};
use crate::config::yaml::scalar::{DurationBounds, boolean, choice, duration, text};
use crate::config::yaml::value::Value;

/// Most certificates of one listener: each name costs a place in a table, and a list repeated by aliases stays small.
const MOST_CERTIFICATES: usize = 10_000;

const CERTIFICATES: &str = "a list such as `- { cert: /etc/longhaul/chat.pem, key: /etc/longhaul/chat.key }`";
const VERSIONS: [(&str, TlsVersion); 2] = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];
const MODES: [(&str, bool); 2] = [("required", true), ("optional", false)];
/// The preload lists of browsers ask for a year; twice that is common.
const MAX_AGE: DurationBounds =
    DurationBounds { least: Duration::ZERO, most: Duration::from_secs(10 * 365 * 86_400), example: "365d" };

/// Reads `tls` of a listener.
pub(super) fn read(value: &Value<'_>, files: &mut NamedFiles, report: &mut Report) -> Option<ListenerTls> {
    let mut fields = keys::LISTENER_TLS.fields(value, report)?;
    let certificates = fields.required("certificates", CERTIFICATES, report);
    let certificates = certificates.and_then(|v| certificates_of(&v, files, report));
    let min_version =
        fields.take_or("min_version", TlsVersion::default(), |v| version(v).map_err(|p| report.push(p)).ok());
    let ticket_keys = fields.take_or("ticket_keys", None, |v| path(v, FileUse::TicketKeys, files, report).map(Some));
    let client_auth = fields.take_or("client_auth", None, |v| client_auth(v, files, report).map(Some));
    Some(ListenerTls {
        certificates: certificates?,
        min_version: min_version?,
        ticket_keys: ticket_keys?,
        client_auth: client_auth?,
    })
}

fn certificates_of(value: &Value<'_>, files: &mut NamedFiles, report: &mut Report) -> Option<Vec<PemPair>> {
    let items = value.items(CERTIFICATES, report)?;
    if items.is_empty() {
        return report.refuse(value.error("no certificate: no client could be answered").expected(CERTIFICATES));
    }
    if items.len() > MOST_CERTIFICATES {
        let problem = value.error(format!("{} certificates on one listener", items.len()));
        return report.refuse(problem.expected(format!("at most {MOST_CERTIFICATES}")));
    }
    let pairs: Vec<_> = items.iter().map(|item| pair(item, files, report)).collect();
    pairs.into_iter().collect()
}

fn pair(value: &Value<'_>, files: &mut NamedFiles, report: &mut Report) -> Option<PemPair> {
    if value.text().is_some() {
        let problem = value.wrong("a mapping such as `{ cert: /etc/longhaul/chat.pem, key: /etc/longhaul/chat.key }`");
        return report.refuse(problem.remedy("a file with both is named twice, as `cert` and as `key`"));
    }
    let mut fields = keys::LISTENER_CERTIFICATE.fields(value, report)?;
    let cert = fields.required("cert", "the path of a PEM file with the certificate and its chain", report);
    let key = fields.required("key", "the path of a PEM file with the private key", report);
    let (cert, key) = (cert?, key?);
    let pair = (file(&cert, report), file(&key, report));
    let pair = PemPair { cert: pair.0?, key: pair.1? };
    files.pair(&cert, &key, pair.clone());
    Some(pair)
}

/// Reads the path of a file, and notes the file for the check that follows.
pub(crate) fn path(value: &Value<'_>, used: FileUse, files: &mut NamedFiles, report: &mut Report) -> Option<PathBuf> {
    let path = file(value, report)?;
    files.single(value, used, path.clone());
    Some(path)
}

/// Reads the path of a file.
pub(super) fn file(value: &Value<'_>, report: &mut Report) -> Option<PathBuf> {
    const EXPECTED: &str = "the path of a file, such as `/etc/longhaul/chat.pem`";
    let path = text(value, EXPECTED, report)?;
    if path.contains('\0') {
        return report.refuse(value.wrong(EXPECTED));
    }
    if path.starts_with("-----BEGIN") {
        let problem = value.error("this is the text of a PEM file").expected(EXPECTED);
        return report.refuse(problem.remedy("write it to a file, and name the file here"));
    }
    Some(path.into())
}

fn version(value: &Value<'_>) -> Result<TlsVersion, Problem> {
    let written = value.text().map(|text| text.trim_start_matches("TLSv").trim_start_matches("TLS"));
    match VERSIONS.iter().find(|(name, _)| Some(*name) == value.text()) {
        Some((_, version)) => Ok(*version),
        None => {
            let problem = value.wrong("`\"1.2\"` or `\"1.3\"`");
            Err(match written {
                Some("1.0" | "1.1" | "1" | "3") => problem.remedy("older versions of TLS are not spoken (RFC 8996)"),
                Some(number @ ("1.2" | "1.3")) => problem.remedy(format!("write `\"{number}\"`")),
                _ => problem,
            })
        }
    }
}

fn client_auth(value: &Value<'_>, files: &mut NamedFiles, report: &mut Report) -> Option<ClientAuth> {
    let mut fields = keys::CLIENT_AUTH.fields(value, report)?;
    let ca = fields.required("ca", "the path of a PEM file with the certificates that clients' lead to", report);
    let ca = ca.and_then(|v| path(&v, FileUse::Roots, files, report));
    let required = fields.take_or("mode", true, |v| choice(v, &MODES, report));
    Some(ClientAuth { ca: ca?, required: required? })
}

/// Reads `redirect`: `https`, or `https:PORT`.
pub(super) fn redirect(value: &Value<'_>, report: &mut Report) -> Option<u16> {
    const HTTPS: u16 = 443;
    let target = value.text().and_then(|text| match text.strip_prefix("https")? {
        "" => Some(HTTPS),
        rest => rest.strip_prefix(':')?.parse().ok().filter(|port| *port != 0),
    });
    match target {
        Some(port) => Some(port),
        None => report.refuse(value.wrong("`https`, or `https:PORT` for another port than 443")),
    }
}

/// Reads `hsts`: a duration, or a mapping.
pub(super) fn hsts(value: &Value<'_>, report: &mut Report) -> Option<Hsts> {
    if value.text().is_some() {
        let max_age = duration(value, &MAX_AGE, report)?;
        return Some(Hsts { max_age, include_subdomains: false, preload: false });
    }
    let mut fields = keys::HSTS.fields(value, report)?;
    let max_age = fields.required("max_age", &MAX_AGE.expected(), report);
    let max_age = max_age.and_then(|v| duration(&v, &MAX_AGE, report));
    let include_subdomains = fields.take_or("include_subdomains", false, |v| boolean(v, report));
    let preload = fields.take_or("preload", false, |v| boolean(v, report));
    Some(Hsts { max_age: max_age?, include_subdomains: include_subdomains?, preload: preload? })
}
