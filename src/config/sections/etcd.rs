//! `discover.etcd`: keys under a prefix in etcd that are members.

use http::Uri;

use super::keys;
use super::listener_tls::{file, path};
use super::upstream_tls::certificate;
use crate::config::model::{Etcd, EtcdUser, Password};
use crate::config::named_files::{FileUse, NamedFiles};
use crate::config::yaml::problem::{Problem, Report, quoted};
use crate::config::yaml::scalar::text;
use crate::config::yaml::value::{Mapping, Value};

const ENDPOINTS: &str = "a list of URLs, such as `- https://10.0.0.5:2379`";
const ENDPOINT: &str = "a URL with a port, such as `https://10.0.0.5:2379`";
const PREFIX: &str = "the begin of the keys, with `/` at its end, such as `/services/chat/`";
const USER: &str = "the name of a user of etcd";
/// A cluster of etcd has seven members at most in practice; there may be names for them beside their addresses.
const MOST_ENDPOINTS: usize = 16;

/// Reads `etcd`.
pub(super) fn read(value: &Value<'_>, files: &mut NamedFiles, report: &mut Report) -> Option<Etcd> {
    let mut fields = keys::ETCD.fields(value, report)?;
    let endpoints_value = fields.required("endpoints", ENDPOINTS, report);
    let endpoints = endpoints_value.and_then(|v| endpoints(&v, report));
    let prefix = fields.required("prefix", PREFIX, report).and_then(|v| prefix(&v, report));
    let ca_value = fields.take("ca");
    let ca = ca_value.map_or(Some(None), |v| path(&v, FileUse::Roots, files, report).map(Some));
    let certificate = certificate(&mut fields, files, report);
    let user_value = fields.take("user");
    let user = user(user_value, &mut fields, files, report);
    if let Some(endpoints) = &endpoints {
        let plain = |endpoint: &str| endpoint.starts_with("http:");
        if let Some(ca) = ca_value.filter(|_| endpoints.iter().all(|endpoint| plain(endpoint))) {
            let problem = ca.error("no endpoint is spoken to by TLS, so `ca` would not be read");
            report.push(problem.expected("`ca` beside endpoints that begin with `https://`"));
        }
        if let Some(user) = user_value.filter(|_| endpoints.iter().any(|e| plain(e) && !is_loopback(e))) {
            let warning = user.warning("the password goes over the network as it is, to an endpoint without TLS");
            report.push(warning.remedy("write `https://` in `endpoints`, and name etcd's authority with `ca`"));
        }
    }
    Some(Etcd { endpoints: endpoints?, prefix: prefix?, ca: ca?, certificate: certificate?, user: user? })
}

fn endpoints(value: &Value<'_>, report: &mut Report) -> Option<Vec<Box<str>>> {
    let items = value.items(ENDPOINTS, report)?;
    if items.is_empty() || items.len() > MOST_ENDPOINTS {
        let problem = value.error(format!("{} endpoints", items.len()));
        return report.refuse(problem.expected(format!("1 to {MOST_ENDPOINTS} URLs, which are tried in turn")));
    }
    let mut read: Vec<Box<str>> = Vec::new();
    for item in &items {
        let Some(endpoint) = endpoint(item, report) else { continue };
        if read.contains(&endpoint) {
            report.push(item.error(format!("{} is an endpoint twice", quoted(&endpoint))).expected("each URL once"));
        }
        read.push(endpoint);
    }
    (read.len() == items.len()).then_some(read)
}

fn endpoint(value: &Value<'_>, report: &mut Report) -> Option<Box<str>> {
    let written = text(value, ENDPOINT, report)?;
    match wrong_with_endpoint(value, written) {
        Some(problem) => report.refuse(problem.expected(ENDPOINT)),
        None => Some(written.trim_end_matches('/').into()),
    }
}

fn wrong_with_endpoint(value: &Value<'_>, written: &str) -> Option<Problem> {
    let wrong = |what: &str| Some(value.error(format!("{} {what}", quoted(written))));
    let Ok(uri) = written.parse::<Uri>() else { return wrong("is no URL") };
    let Some(authority) = uri.authority().filter(|_| matches!(uri.scheme_str(), Some("http" | "https"))) else {
        let problem = wrong("does not begin with `http://` or `https://`");
        return problem.map(|problem| problem.remedy("write `https://` where etcd has TLS, else `http://`"));
    };
    if authority.as_str().contains('@') {
        // Not shown: it may have a password in it.
        let problem = value.error("a user in a URL").remedy("name the user under `user`, and `password_file`");
        return Some(problem);
    }
    if uri.port_u16().is_none_or(|port| port == 0) {
        let problem = wrong("has no port to connect to");
        return problem.map(|problem| problem.remedy("etcd's own is 2379"));
    }
    if uri.host().is_none_or(str::is_empty) || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return wrong("is not scheme, host and port alone");
    }
    None
}

fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

fn prefix(value: &Value<'_>, report: &mut Report) -> Option<Box<str>> {
    let prefix = text(value, PREFIX, report)?;
    if prefix.chars().any(char::is_control) {
        return report.refuse(value.error("the prefix has a control character in it").expected(PREFIX));
    }
    if !prefix.ends_with('/') {
        let problem = value.error(format!("{} has no `/` at its end", quoted(prefix))).expected(PREFIX);
        let remedy = format!("write `{prefix}/`: else keys that begin with `{prefix}2` would be members, too");
        return report.refuse(problem.remedy(remedy));
    }
    Some(prefix.into())
}

/// Reads `user`, and `password` or `password_file`, which come together.
fn user(
    name: Option<Value<'_>>,
    fields: &mut Mapping<'_, '_>,
    files: &mut NamedFiles,
    report: &mut Report,
) -> Option<Option<EtcdUser>> {
    let password = match (fields.take("password"), fields.take("password_file")) {
        (Some(_), Some(file)) => {
            let problem = file.error("the password is given, and a file for it as well");
            return report.refuse(problem.expected("either `password` or `password_file`"));
        }
        (Some(value), None) => {
            let given = text(&value, "a password", report).map(|given| Password::Given(given.into()));
            Some((value, given))
        }
        (None, Some(value)) => {
            let read = file(&value, report);
            let read = read.inspect(|path| files.single(&value, FileUse::Password, path.clone()));
            Some((value, read.map(Password::File)))
        }
        (None, None) => None,
    };
    match (name, password) {
        (None, None) => Some(None),
        (Some(name), Some((_, password))) => {
            let name = text(&name, USER, report);
            Some(Some(EtcdUser { name: name?.into(), password: password? }))
        }
        (Some(name), None) => {
            report.refuse(name.error("a user without a password").expected("`password_file` or `password` beside it"))
        }
        (None, Some((password, _))) => {
            report.refuse(password.error("a password without a user").expected("`user` beside it"))
        }
    }
}
