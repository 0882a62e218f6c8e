//! `headers`: sets, adds and removes headers of requests and answers.

mod fields;
mod template;

use http::{HeaderName, header};

use crate::hook::{Backend, Hook, Next, Pick, Request, Response, Result, Setup, SetupError};

use template::Variable;

pub use fields::{HeaderValues, Names};
pub use template::Template;

/// Changes headers of requests, upgrades too, on their way to the backend, and of its answers on their way to the
/// client.
pub struct Headers {
    settings: Settings,
    /// Parts of the values for answers, in the order in which they are needed.
    kept: Vec<Variable>,
}

/// Settings under `with:`. docs/hooks/headers.md is the reference.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Settings {
    /// Of requests.
    #[serde(default)]
    pub request: HeaderChanges,
    /// Of backends' answers, that of a 101 too.
    #[serde(default)]
    pub response: HeaderChanges,
}

/// Changes of a header section: first what is removed, then what is set, then what is added.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub struct HeaderChanges {
    /// Headers that are gone.
    #[serde(default)]
    pub remove: Names,
    /// Headers in place of all of their names; one with an empty value is none.
    #[serde(default)]
    pub set: HeaderValues,
    /// Headers beside those of their names; one with an empty value is none.
    #[serde(default)]
    pub add: HeaderValues,
}

/// Of one request: the values of the variables for its answer.
#[derive(Debug, Default)]
pub struct Context(Vec<String>);

impl Hook for Headers {
    type Settings = Settings;
    type Context = Context;

    fn new(settings: Settings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        check("request", &settings.request, whose_in_requests)?;
        check("response", &settings.response, whose_in_answers)?;
        let HeaderChanges { set, add, .. } = &settings.response;
        let kept = set.0.iter().chain(&add.0).flat_map(|(_, template)| template.variables().cloned()).collect();
        Ok(Self { settings, kept })
    }

    async fn on_request(&self, request: &mut Request<'_>, context: &mut Context) -> Result<Next> {
        let HeaderChanges { remove, set, add } = &self.settings.request;
        // All values are those of the request as it came: none depends on the order of the settings.
        let values = |fields: &HeaderValues| -> Vec<String> {
            fields.0.iter().map(|(_, template)| template.fill(|variable| variable.of(request))).collect()
        };
        let (set_to, added) = (values(set), values(add));
        context.0 = self.kept.iter().map(|variable| variable.of(request)).collect();
        remove.0.iter().for_each(|name| request.remove_header(name.as_str()));
        for ((name, _), value) in set.0.iter().zip(&set_to) {
            match value.as_str() {
                "" => request.remove_header(name.as_str()),
                value => request.set_header(name.as_str(), value)?,
            }
        }
        for ((name, _), value) in add.0.iter().zip(&added).filter(|(_, value)| !value.is_empty()) {
            request.append_header(name.as_str(), value)?;
        }
        Ok(Next::Continue)
    }

    async fn on_pick(&self, backend: &Backend<'_>, context: &mut Context) -> Result<Pick> {
        for (variable, value) in self.kept.iter().zip(&mut context.0) {
            // Hooks behind this one may have chosen another.
            if *variable == Variable::Upstream {
                *value = backend.upstream.to_owned();
            }
        }
        Ok(Pick::Accept)
    }

    async fn on_response(&self, response: &mut Response<'_>, context: &mut Context) -> Result<()> {
        let HeaderChanges { remove, set, add } = &self.settings.response;
        remove.0.iter().for_each(|name| response.remove_header(name.as_str()));
        let mut kept = context.0.iter();
        let mut value = |template: &Template| template.fill(|_| kept.next().cloned().unwrap_or_default());
        for (name, template) in &set.0 {
            match value(template).as_str() {
                "" => response.remove_header(name.as_str()),
                value => response.set_header(name.as_str(), value)?,
            }
        }
        for (name, template) in &add.0 {
            match value(template).as_str() {
                "" => {}
                value => response.append_header(name.as_str(), value)?,
            }
        }
        Ok(())
    }

    fn pack(&self, _: &Context) -> Option<Vec<u8>> {
        // The answer has passed: nothing more is asked of it.
        Some(Vec::new())
    }
}

/// Why a header is not for the settings to change.
type Why = &'static str;

/// Finds the first header that is not for the settings to change; `whose` says why, where that is so.
fn check(
    section: &str,
    changes: &HeaderChanges,
    whose: fn(&HeaderName, Change) -> Option<Why>,
) -> Result<(), SetupError> {
    let HeaderChanges { remove, set, add } = changes;
    let removed = remove.0.iter().enumerate().map(|(index, name)| (format!("remove[{index}]"), name, Change::Remove));
    let is_set = set.0.iter().map(|(name, _)| (format!("set.{name}"), name, Change::Set));
    let added = add.0.iter().map(|(name, _)| (format!("add.{name}"), name, Change::Add));
    for (field, name, change) in removed.chain(is_set).chain(added) {
        if let Some(why) = whose(name, change) {
            return Err(SetupError::at(format!("{section}.{field}"), format!("`{name}` cannot be changed: {why}")));
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Remove,
    Set,
    Add,
}

fn whose_in_requests(name: &HeaderName, change: Change) -> Option<Why> {
    match name.as_str() {
        "host" if change != Change::Set => Some("a request has one host; it can be set"),
        "x-request-id" => Some("the gateway writes the request's id there"),
        "x-forwarded-proto" | "x-forwarded-host" => {
            Some("the gateway writes it, or keeps that of a proxy in `trusted_proxies`")
        }
        _ => of_the_connection(name),
    }
}

fn whose_in_answers(name: &HeaderName, _: Change) -> Option<Why> {
    of_the_connection(name)
}

/// Headers of one connection and its framing (RFC 9110 §7.6.1), or of the handshake (RFC 6455 §11.3).
fn of_the_connection(name: &HeaderName) -> Option<Why> {
    match *name {
        header::CONNECTION | header::TE | header::TRAILER | header::TRANSFER_ENCODING | header::UPGRADE => {
            Some("it belongs to one connection, and the gateway has one with each side")
        }
        header::CONTENT_LENGTH => Some("it is where the body ends"),
        _ if matches!(name.as_str(), "keep-alive" | "proxy-connection") => {
            Some("it belongs to one connection, and the gateway has one with each side")
        }
        _ if name.as_str().starts_with("sec-websocket-") => Some("it is part of the WebSocket handshake"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
