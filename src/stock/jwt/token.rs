//! Finds the token of a request, and removes it.

use http::{HeaderMap, HeaderName, header};

use crate::hook::{Request, Result};

/// A place of a request that may carry a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TokenSource {
    /// A header: `Bearer TOKEN`, and in any but `Authorization` also the token alone.
    Header(HeaderName),
    /// A cookie.
    Cookie(String),
    /// An argument of the query.
    Query(String),
    /// An entry of `Sec-WebSocket-Protocol` that begins with this text. Where an entry is this text alone, the entry
    /// behind it.
    Protocol(String),
}

/// A token, and the place where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundToken {
    /// The token as sent, not looked at yet.
    pub(super) token: String,
    /// The index of its place.
    pub(super) place: usize,
    /// For a token among the subprotocols: the entry that the answer acknowledges.
    pub(super) entry: Option<String>,
}

/// A place carries more than one token. The gateway cannot know which of them the backend would use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ambiguous;

impl TokenSource {
    /// The tokens in this place, each with the entry to acknowledge.
    fn tokens(&self, request: &Request<'_>) -> Vec<(String, Option<String>)> {
        let alone = |token: &str| (token.to_owned(), None);
        match self {
            Self::Header(name) => {
                lines(request.headers(), name).filter_map(|line| of_header(name, line)).map(alone).collect()
            }
            Self::Cookie(name) => {
                cookies(request.headers()).filter_map(|pair| of_cookie(name, pair)).map(alone).collect()
            }
            Self::Query(name) => {
                let query = request.uri().query().unwrap_or_default();
                let named = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
                named.map(|(_, value)| (value.into_owned(), None)).filter(|(token, _)| !token.is_empty()).collect()
            }
            Self::Protocol(prefix) => of_protocols(&protocols(request.headers()), prefix).0,
        }
    }

    /// Takes every token in this place out of the request.
    ///
    /// # Errors
    /// HTTP does not allow the rest. Requests from clients never lead to this.
    pub(super) fn clear(&self, request: &mut Request<'_>) -> Result<()> {
        match self {
            Self::Header(name) => {
                let rest: Vec<String> = lines(request.headers(), name)
                    .filter(|line| of_header(name, line).is_none())
                    .map(str::to_owned)
                    .collect();
                replace(request, name, rest)
            }
            Self::Cookie(name) => {
                let rest: Vec<&str> =
                    cookies(request.headers()).filter(|pair| of_cookie(name, pair).is_none()).collect();
                let line = (!rest.is_empty()).then(|| rest.join("; "));
                replace(request, &header::COOKIE, line)
            }
            Self::Query(name) => clear_query(request, name),
            Self::Protocol(prefix) => {
                let rest = of_protocols(&protocols(request.headers()), prefix).1;
                let line = (!rest.is_empty()).then(|| rest.join(", "));
                replace(request, &header::SEC_WEBSOCKET_PROTOCOL, line)
            }
        }
    }
}

/// The token in the first of the places that carries one.
pub(super) fn find(places: &[TokenSource], request: &Request<'_>) -> Result<Option<FoundToken>, Ambiguous> {
    for (index, place) in places.iter().enumerate() {
        let mut tokens = place.tokens(request).into_iter();
        match (tokens.next(), tokens.next()) {
            (Some((token, entry)), None) => return Ok(Some(FoundToken { token, place: index, entry })),
            (Some(_), Some(_)) => return Err(Ambiguous),
            (None, _) => {}
        }
    }
    Ok(None)
}

fn lines<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    headers.get_all(name).iter().filter_map(|line| line.to_str().ok())
}

/// The token of a header's line (RFC 6750 §2.1). The scheme's name may have any letter case (RFC 9110 §11.1).
fn of_header<'l>(name: &HeaderName, line: &'l str) -> Option<&'l str> {
    let scheme = line.get(..BEARER.len()).filter(|scheme| scheme.eq_ignore_ascii_case(BEARER));
    let token = match scheme {
        Some(_) => &line[BEARER.len()..],
        None if *name == header::AUTHORIZATION => return None,
        None => line,
    };
    Some(token.trim()).filter(|token| !token.is_empty())
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    lines(headers, &header::COOKIE).flat_map(|line| line.split(';')).map(str::trim).filter(|pair| !pair.is_empty())
}

fn of_cookie<'p>(name: &str, pair: &'p str) -> Option<&'p str> {
    let (key, value) = pair.split_once('=')?;
    // A value may stand in quotes (RFC 6265 §4.1.1).
    let value = value.trim().trim_matches('"');
    (key.trim() == name && !value.is_empty()).then_some(value)
}

fn protocols(headers: &HeaderMap) -> Vec<&str> {
    let entries = lines(headers, &header::SEC_WEBSOCKET_PROTOCOL).flat_map(|line| line.split(','));
    entries.map(str::trim).filter(|entry| !entry.is_empty()).collect()
}

/// The tokens among the entries, each with the entry to acknowledge, and the entries that belong to none.
fn of_protocols<'e>(entries: &[&'e str], prefix: &str) -> (Vec<(String, Option<String>)>, Vec<&'e str>) {
    let (mut tokens, mut rest) = (Vec::new(), Vec::new());
    let mut left = entries.iter();
    while let Some(&entry) = left.next() {
        let token = match entry.strip_prefix(prefix) {
            Some("") => left.next().copied(),
            Some(token) => Some(token),
            None => {
                rest.push(entry);
                continue;
            }
        };
        tokens.extend(token.map(|token| (token.to_owned(), Some(entry.to_owned()))));
    }
    (tokens, rest)
}

/// Takes the argument out and leaves the others as they were written.
fn clear_query(request: &mut Request<'_>, name: &str) -> Result<()> {
    let Some(query) = request.uri().query() else { return Ok(()) };
    let is_named = |pair: &&str| form_urlencoded::parse(pair.as_bytes()).any(|(key, _)| key == name);
    let rest: Vec<&str> = query.split('&').filter(|pair| !is_named(pair)).collect();
    let mark = if rest.is_empty() { "" } else { "?" };
    let target = format!("{}{mark}{}", request.path(), rest.join("&"));
    request.set_target(&target)
}

fn replace(request: &mut Request<'_>, name: &HeaderName, lines: impl IntoIterator<Item = String>) -> Result<()> {
    request.remove_header(name.as_str());
    lines.into_iter().try_for_each(|line| request.append_header(name.as_str(), line))
}

const BEARER: &str = "Bearer ";
