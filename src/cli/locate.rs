//! `longhaul where`: which route, key and backend a request would get, from the file alone.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

use crate::hook::Registry;
use crate::metrics::Metrics;
use crate::snapshot::{Asked, Located, Snapshot, Target};
use crate::upstream;

/// A request to be located.
#[derive(Debug, Args)]
pub(super) struct Question {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    conf: PathBuf,
    /// The address the connection comes from
    #[arg(long, value_name = "ADDRESS")]
    ip: IpAddr,
    /// The host asked for
    #[arg(long, value_name = "HOST", default_value = "")]
    host: String,
    /// The path asked for, with its query if it has one
    #[arg(long, value_name = "PATH", default_value = "/", value_parser = target)]
    path: String,
    /// A cookie the client sends, as NAME=VALUE; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = cookie)]
    cookie: Vec<HeaderValue>,
    /// A header the client sends, as NAME=VALUE or NAME: VALUE; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = field)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// The client comes by TLS
    #[arg(long)]
    tls: bool,
    /// SHA-256 of the certificate that the client presents, in hexadecimal digits
    #[arg(long, value_name = "FINGERPRINT", value_parser = fingerprint)]
    certificate: Option<String>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(question: &Question, hooks: &Registry) -> ExitCode {
    let config = match super::output::load(&question.conf, hooks) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let snapshot = Snapshot::compile(&config, 1, &upstream::Registry::default(), &Metrics::new());
    let headers = question.headers();
    let (path, query) = match question.path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (question.path.as_str(), None),
    };
    let (by_tls, certificate) = (question.tls || question.certificate.is_some(), question.certificate.as_deref());
    let host = &question.host;
    let asked = Asked { host, path, query, headers: &headers, peer: question.ip, by_tls, certificate };
    // The value of a minted cookie is random, so that its backend is not known beforehand.
    let located = snapshot.locate(&asked, String::new);
    if let Some(unclear) = snapshot.unclear(&asked) {
        super::output::say(&match question.json {
            true => {
                format!("{}\n", json!({ "client": located.client.address.to_string(), "refused": unclear.to_string() }))
            }
            false => format!("{:<9} {}\n{:<9} 400: {unclear}\n", "client", located.client.address, "refused"),
        });
        return ExitCode::FAILURE;
    }
    let found = located.route.map(|route| Found::new(&snapshot, route, &located));
    if question.json {
        super::output::say(&format!("{}\n", as_json(&located, found.as_ref())));
    } else {
        super::output::say(&as_text(&located, found.as_ref()));
    }
    if found.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Question {
    fn headers(&self) -> HeaderMap {
        let mut headers: HeaderMap = HeaderMap::new();
        for (name, value) in &self.header {
            headers.append(name, value.clone());
        }
        for cookie in &self.cookie {
            headers.append(header::COOKIE, cookie.clone());
        }
        headers
    }
}

/// The answer for a request that a route fits.
struct Found<'a> {
    target: &'a Target,
    source: &'static str,
    /// The key as text; the reason where it is not known beforehand.
    key: Result<String, &'static str>,
    /// Addresses of the backends in the order in which the key tries them.
    order: Vec<String>,
    /// Names of the route's hooks, which may change the rest of the answer.
    hooks: Vec<&'a str>,
}

impl<'a> Found<'a> {
    fn new(snapshot: &'a Snapshot, route: usize, located: &Located<'_>) -> Self {
        let target = snapshot.target(route);
        let upstream = &target.to.upstream;
        let (source, key, order) = match &located.key {
            None => ("none", Err(LEAST_LOADED), Vec::new()),
            Some(key) if key.issued.is_some() => (key.source.as_str(), Err(MINTED), Vec::new()),
            // `mint` gave an empty text, which no source does.
            Some(key) if key.bytes.is_empty() => (key.source.as_str(), Err(DRAWN), Vec::new()),
            Some(key) => {
                (key.source.as_str(), Ok(String::from_utf8_lossy(&key.bytes).into_owned()), upstream.order(&key.bytes))
            }
        };
        let hooks = snapshot.config.routes[route].hooks.iter().map(|entry| entry.name.as_str()).collect();
        let address = |index: usize| upstream.members()[index].address.to_string();
        Self { target, source, key, order: order.into_iter().map(address).collect(), hooks }
    }
}

fn as_text(located: &Located<'_>, found: Option<&Found<'_>>) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        writeln!(text, "{name:<9} {value}").expect("writing into a String cannot fail");
    };
    line("client", &located.client.address.to_string());
    let Some(found) = found else {
        line("route", "none matches: answered 404");
        return text;
    };
    line("route", &found.target.route);
    line("upstream", &found.target.to.upstream.config().name);
    match &found.key {
        Ok(key) => line("key", &format!("{key:?} from {}", found.source)),
        Err(why) => line("key", &format!("none: {why}")),
    }
    for (place, address) in found.order.iter().take(SHOWN).enumerate() {
        line(if place == 0 { "backend" } else { "then" }, address);
    }
    if found.order.len() > SHOWN {
        line("then", &format!("{} more", found.order.len() - SHOWN));
    }
    if !found.hooks.is_empty() {
        line("hooks", &format!("{}: {HOOKS_DECIDE}", found.hooks.join(", ")));
    }
    text
}

fn as_json(located: &Located<'_>, found: Option<&Found<'_>>) -> serde_json::Value {
    json!({
        "client": located.client.address.to_string(),
        "route": found.map(|found| &*found.target.route),
        "upstream": found.map(|found| &found.target.to.upstream.config().name),
        "key": found.and_then(|found| found.key.as_ref().ok()),
        "key_source": found.map(|found| found.source),
        "backend": found.and_then(|found| found.order.first()),
        "then": found.map(|found| found.order.get(1..).unwrap_or_default()),
        "hooks": found.map(|found| &found.hooks),
        "note": found.and_then(|found| found.key.as_ref().err()),
    })
}

fn target(text: &str) -> Result<String, String> {
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err("a path begins with /".into()) }
}

/// Reads a fingerprint as `openssl x509 -fingerprint -sha256` writes it, or as this gateway does.
fn fingerprint(text: &str) -> Result<String, String> {
    let digits: String = text.chars().filter(|c| *c != ':').map(|c| c.to_ascii_lowercase()).collect();
    match digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        true => Ok(digits),
        false => Err("a fingerprint has 64 hexadecimal digits".into()),
    }
}

fn cookie(text: &str) -> Result<HeaderValue, String> {
    if !text.contains('=') {
        return Err("write NAME=VALUE".into());
    }
    HeaderValue::from_str(text).map_err(|error| error.to_string())
}

fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(['=', ':']).ok_or("write NAME=VALUE")?;
    let name = HeaderName::try_from(name.trim()).map_err(|error| error.to_string())?;
    let value = HeaderValue::from_str(value.trim()).map_err(|error| error.to_string())?;
    Ok((name, value))
}

/// Most backends that the text form names; JSON has all.
const SHOWN: usize = 10;
const HOOKS_DECIDE: &str = "they may answer, or choose another key, upstream or backend";
const LEAST_LOADED: &str = "no source has a value; the backend with the fewest open tunnels and requests is taken";
const DRAWN: &str = "no source has a value; a key is drawn, and goes before the session that the backend begins";
const MINTED: &str = "the client has no cookie yet; a new one is issued, and its random value decides";
