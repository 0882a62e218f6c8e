//! The settings of `webhook`, and what they are made into.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::endpoint::WebhookEndpoint;
use super::event::EventKind;
use super::{Gate, OnFailure};
use crate::config::Period;
use crate::hook::SetupError;
use crate::stock::outgoing;

/// Settings under `with:`. docs/hooks/webhook.md is the reference.
#[derive(Debug, Deserialize)]
pub struct Settings {
    url: String,
    #[serde(default = "default_events")]
    events: Vec<EventKind>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    secret_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    #[serde(default = "default_timeout")]
    timeout: Period,
    #[serde(default = "default_queue")]
    queue: usize,
    #[serde(default = "default_retries")]
    retries: u32,
    #[serde(default)]
    gate: bool,
    refused_code: Option<u16>,
    on_failure: Option<OnFailure>,
}

impl Settings {
    /// The kinds of events that are sent.
    pub(super) fn events(&self) -> Result<Vec<EventKind>, SetupError> {
        match self.events.as_slice() {
            [] => Err(SetupError::at("events", "no event is sent")),
            events if self.gate && !events.contains(&EventKind::Open) => {
                Err(SetupError::at("events", "`gate` asks when a tunnel opens, and `open` is not among these"))
            }
            events => Ok(events.to_vec()),
        }
    }

    /// Number of events that may wait.
    pub(super) fn queue(&self) -> Result<usize, SetupError> {
        let error = || SetupError::at("queue", format!("1 to {LONGEST_QUEUE} events are possible here"));
        (1..=LONGEST_QUEUE).contains(&self.queue).then_some(self.queue).ok_or_else(error)
    }

    /// The longest that one request takes.
    pub(super) fn timeout(&self) -> Result<Duration, SetupError> {
        let error = || SetupError::at("timeout", "from 100ms to 30s is possible here");
        let is_possible = (Duration::from_millis(100)..=Duration::from_secs(30)).contains(&self.timeout.0);
        is_possible.then_some(self.timeout.0).ok_or_else(error)
    }

    /// The settings by which the endpoint decides about tunnels; `None` when it does not decide.
    pub(super) fn gate(&self) -> Result<Option<Gate>, SetupError> {
        let needless = [("refused_code", self.refused_code.is_some()), ("on_failure", self.on_failure.is_some())];
        match needless.iter().find(|(_, given)| *given && !self.gate) {
            Some((field, _)) => return Err(SetupError::at(*field, "this belongs to `gate: true`, which is not given")),
            None if !self.gate => return Ok(None),
            None => {}
        }
        let code = self.refused_code.unwrap_or(4403);
        if !(4000..=4999).contains(&code) && code != 1008 {
            return Err(SetupError::at("refused_code", "a code of one's own, 4000 to 4999, or 1008 (RFC 6455 §7.4)"));
        }
        Ok(Some(Gate { code, on_failure: self.on_failure.unwrap_or_default() }))
    }

    /// The endpoint.
    pub(super) fn endpoint(&self) -> Result<WebhookEndpoint, SetupError> {
        if self.retries > MOST_RETRIES {
            return Err(SetupError::at("retries", format!("0 to {MOST_RETRIES} are possible here")));
        }
        let url = outgoing::url("url", &self.url)?;
        Ok(WebhookEndpoint {
            client: outgoing::client(&url, self.ca_file.as_deref(), self.timeout()?)?,
            url,
            headers: self.own_headers()?,
            secret: self.secret()?,
            retries: self.retries,
        })
    }

    fn own_headers(&self) -> Result<HeaderMap, SetupError> {
        let each = self.headers.iter().map(|(name, value)| {
            let wrong = |what: &str| SetupError::at(format!("headers.{name}"), format!("HTTP allows no such {what}"));
            let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("name"))?;
            let mut value = HeaderValue::from_str(value).map_err(|_| wrong("value"))?;
            // It may be a password.
            value.set_sensitive(true);
            Ok((parsed, value))
        });
        each.collect()
    }

    fn secret(&self) -> Result<Option<hmac::Key>, SetupError> {
        let Some(path) = &self.secret_file else { return Ok(None) };
        let at = |why: String| SetupError::at("secret_file", format!("{}: {why}", path.display()));
        let text = fs::read(path).map_err(|error| at(error.to_string()))?;
        let text = text.trim_ascii();
        let secret = match text.strip_prefix(PREFIX) {
            Some(base64) => STANDARD.decode(base64).map_err(|error| at(format!("after `whsec_`: {error}")))?,
            None => text.to_vec(),
        };
        if secret.len() < SHORTEST_SECRET {
            return Err(at(format!(
                "a secret has at least {SHORTEST_SECRET} bytes, and this one has {}",
                secret.len()
            )));
        }
        Ok(Some(hmac::Key::new(hmac::HMAC_SHA256, &secret)))
    }
}

fn default_events() -> Vec<EventKind> {
    vec![EventKind::Open, EventKind::Close]
}

fn default_timeout() -> Period {
    Period(Duration::from_secs(3))
}

fn default_queue() -> usize {
    1_000
}

fn default_retries() -> u32 {
    3
}

/// Standard Webhooks 1.0: how a secret in base64 begins, and how long one is at least.
const PREFIX: &[u8] = b"whsec_";
const SHORTEST_SECRET: usize = 24;

/// Most events in the queue. Each takes about a kilobyte.
const LONGEST_QUEUE: usize = 100_000;

/// Most tries after the first one. The pauses between them add up to a minute and a half.
const MOST_RETRIES: u32 = 8;
