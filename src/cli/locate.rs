//! `longhaul where`: which route, key and backend a request would get, from the file alone or by a running gateway.

use std::fmt::Write;
use std::net::IpAddr;
use std::process::ExitCode;

use clap::Args;
use http::header::{HeaderName, HeaderValue};

use super::control::Instance;
use crate::config::Upstream;
use crate::control::ControlRequest;
use crate::counted::counted;
use crate::discovery;
use crate::hook::HookRegistry;
use crate::metrics::Metrics;
use crate::snapshot::Snapshot;
use crate::status::{Live, LiveBackend, LocateAsked, Located};
use crate::tls::certificates::Lapsed;
use crate::upstream;

/// A request to be located.
#[derive(Debug, Args)]
pub(super) struct Question {
    /// Ask the running gateway, which knows how its backends are; from the file alone if left out
    #[arg(long)]
    running: bool,
    #[command(flatten)]
    instance: Instance,
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
    cookie: Vec<String>,
    /// A header the client sends, as NAME=VALUE or NAME: VALUE; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = field)]
    header: Vec<(String, String)>,
    /// The client comes by TLS
    #[arg(long)]
    tls: bool,
    /// SHA-256 of the certificate that the client presents, in hexadecimal digits
    #[arg(long, value_name = "FINGERPRINT", value_parser = fingerprint)]
    certificate: Option<String>,
}

pub(super) fn run(question: &Question, hooks: &HookRegistry) -> ExitCode {
    let asked = question.asked();
    if question.running {
        return question.instance.ask(&ControlRequest::Where(asked), hooks);
    }
    let Some(file) = question.instance.file() else {
        return super::control::wrong("name a configuration with `-c FILE`, or ask the gateway with `--running`");
    };
    let config = match super::output::load(file, hooks, &Lapsed::Taken) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let members = discovery::known(&config);
    let snapshot = Snapshot::compile(&config, members, 1, &upstream::Registry::default(), &Metrics::new());
    match asked.by_configuration(&snapshot) {
        Ok(located) => show(&located, question.instance.wants_json()),
        Err(error) => super::control::wrong(error),
    }
}

/// Shows the way of a request, and tells whether it has one.
pub(super) fn show(located: &Located, json: bool) -> ExitCode {
    let text = if json { format!("{}\n", serde_json::json!(located)) } else { text(located) };
    let is_served = |live: &Live| {
        let refused = matches!(live.handshake.as_deref(), Some("key_full" | "full"));
        (live.picked.is_some() || live.waits_for.is_some()) && !refused && live.draining.as_deref() != Some("closing")
    };
    let arrives = located.route.is_some() && located.live.as_ref().is_none_or(is_served);
    super::output::say_last(&text, if arrives { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Question {
    fn asked(&self) -> LocateAsked {
        let cookies = self.cookie.iter().map(|pair| ("cookie".to_owned(), pair.clone()));
        LocateAsked {
            ip: self.ip,
            host: self.host.clone(),
            path: self.path.clone(),
            headers: self.header.iter().cloned().chain(cookies).collect(),
            tls: self.tls,
            certificate: self.certificate.clone(),
        }
    }
}

fn text(located: &Located) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        writeln!(text, "{name:<9} {value}").expect("writing into a String cannot fail");
    };
    line("client", &located.client.map_or_else(String::new, |client| client.to_string()));
    if let Some(refused) = &located.refused {
        line("refused", &format!("400: {refused}"));
        return text;
    }
    let (Some(route), Some(upstream)) = (&located.route, &located.upstream) else {
        line("route", "none matches: answered 404");
        return text;
    };
    line("route", route);
    if upstream == Upstream::NOWHERE {
        return text + &answered_by(located);
    }
    line("upstream", upstream);
    line("key", &key(located));
    let state = |name: &String| {
        let backends = located.live.as_ref().map_or(&[][..], |live| &live.backends);
        backends.iter().find(|live| live.backend == *name).map_or_else(String::new, standing)
    };
    if let Some(backend) = backend(located, state) {
        line("backend", &backend);
    }
    if let Some(awaited) = located.live.as_ref().and_then(|live| live.waits_for.as_ref()) {
        line("waits", &format!("for {awaited} first, which is away (absent.hold)"));
    }
    for (name, value) in located.live.iter().flat_map(reservations) {
        line(name, value);
    }
    let then = located.then.as_deref().unwrap_or_default();
    for backend in then.iter().take(SHOWN - 1) {
        line("then", &format!("{backend}{}", state(backend)));
    }
    if then.len() > SHOWN - 1 {
        line("then", &format!("{} more", then.len() - (SHOWN - 1)));
    }
    if let Some(hooks) = located.hooks.as_ref().filter(|hooks| !hooks.is_empty()) {
        line("hooks", &format!("{}: {HOOKS_DECIDE}", hooks.join(", ")));
    }
    text
}

/// The line of a route that names no upstream.
fn answered_by(located: &Located) -> String {
    let hooks = located.hooks.as_deref().unwrap_or_default().join(", ");
    format!("{:<9} {hooks}: they answer, or choose an upstream; otherwise 404\n", "hooks")
}

fn key(located: &Located) -> String {
    match (&located.key, &located.note) {
        (Some(key), _) => format!("{key:?} from {}", located.key_source.as_deref().unwrap_or("none")),
        (None, note) => format!("none: {}", note.as_deref().unwrap_or_default()),
    }
}

/// The backend, as far as there is one; `state` tells its own.
fn backend(located: &Located, state: impl Fn(&String) -> String) -> Option<String> {
    match (&located.live, &located.backend) {
        (Some(live), Some(backend)) => {
            let how = live.picked.as_deref().unwrap_or_default();
            Some(format!("{backend} now ({how}){}", state(backend)))
        }
        (Some(Live { picked: None, handshake: None, waits_for: None, .. }), None) => {
            Some("none can be picked now: answered 503".to_owned())
        }
        (None, Some(backend)) => Some(backend.clone()),
        (_, None) => None,
    }
}

/// Lines about a handshake that does not get the backend at once, and about a gateway that drains.
fn reservations(live: &Live) -> impl Iterator<Item = (&'static str, &'static str)> {
    let handshake = live.handshake.as_deref().map(|why| match why {
        "key_full" => "a handshake would be answered 429: its key has all the tunnels that limits.per_key allows",
        "waits" => "a handshake would wait: every backend has all the tunnels that limits.tunnels allows",
        _ => "a handshake would be answered 503: every backend has all the tunnels that limits.tunnels allows",
    });
    let draining = live.draining.as_deref().map(|phase| match phase {
        "grace" => "the gateway drains, and still accepts for a moment",
        _ => "the gateway drains, and takes nothing new",
    });
    handshake.map(|text| ("handshake", text)).into_iter().chain(draining.map(|text| ("draining", text)))
}

fn standing(backend: &LiveBackend) -> String {
    let hindrance = backend.hindrance.as_ref().map_or_else(String::new, |why| format!("{}, ", why.replace('_', " ")));
    format!(", {hindrance}{}", counted(backend.tunnels, "tunnel"))
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

fn cookie(text: &str) -> Result<String, String> {
    if !text.contains('=') {
        return Err("write NAME=VALUE".into());
    }
    HeaderValue::from_str(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(['=', ':']).ok_or("write NAME=VALUE")?;
    let name = HeaderName::try_from(name.trim()).map_err(|error| error.to_string())?;
    HeaderValue::from_str(value.trim()).map_err(|error| error.to_string())?;
    Ok((name.to_string(), value.trim().to_owned()))
}

/// Most backends that the text form names; JSON has all.
const SHOWN: usize = 10;
const HOOKS_DECIDE: &str = "they may answer, or choose another key, upstream or backend";
