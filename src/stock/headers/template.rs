//! Values with variables in them.

use serde::de::{Deserialize, Deserializer, Error};

use crate::hook::Request;

/// A value for a header, with variables in it: `${client_ip}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(Variable),
}

/// Meaning of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    ClientIp,
    RequestId,
    Host,
    Path,
    Route,
    Upstream,
    Cookie(String),
    Query(String),
    Header(String),
}

impl Template {
    /// The variables, as they stand.
    pub(super) fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Variable(variable) => Some(variable),
        })
    }

    /// The value, with what `value` says of each variable in its place.
    pub(super) fn fill(&self, mut value: impl FnMut(&Variable) -> String) -> String {
        let mut filled = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Variable(variable) => filled.push_str(&value(variable)),
            }
        }
        // A value neither begins nor ends with blanks (RFC 9110 §5.5).
        filled.trim().to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                parts.push(Part::Text(format!("{before}${{")));
                rest = after;
                continue;
            }
            let (name, behind) = after.split_once('}').ok_or("a `${` has no `}`; for `${` itself write `$${`")?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Variable(Variable::parse(name)?));
            rest = behind;
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| *part != Part::Text(String::new()));
        let is_a_value = parts.iter().all(|part| !matches!(part, Part::Text(text) if fit(text).is_none()));
        if is_a_value {
            Ok(Self(parts))
        } else {
            Err("a header has no control characters and nothing beyond ASCII".into())
        }
    }
}

impl Variable {
    fn parse(name: &str) -> Result<Self, String> {
        let named = |kind: &str| name.strip_prefix(kind)?.strip_prefix(':').filter(|name| !name.is_empty());
        let variable = match name {
            "client_ip" => Some(Self::ClientIp),
            "request_id" => Some(Self::RequestId),
            "host" => Some(Self::Host),
            "path" => Some(Self::Path),
            "route" => Some(Self::Route),
            "upstream" => Some(Self::Upstream),
            _ => None,
        };
        let variable = variable.or_else(|| named("cookie").map(|name| Self::Cookie(name.to_owned())));
        let variable = variable.or_else(|| named("query").map(|name| Self::Query(name.to_owned())));
        let variable = variable.or_else(|| named("header").map(|name| Self::Header(name.to_owned())));
        variable.ok_or_else(|| format!("there is no variable `{name}`\n  expected: one of {VARIABLES}"))
    }

    /// Its value in a request: empty where there is none, and where it has what a header may not have.
    pub(super) fn of(&self, request: &Request<'_>) -> String {
        let value = match self {
            Self::ClientIp => Some(request.client().to_string()),
            Self::RequestId => Some(request.id().to_owned()),
            Self::Host => Some(request.host().to_owned()),
            Self::Path => Some(request.path().to_owned()),
            Self::Route => Some(request.route().to_owned()),
            Self::Upstream => Some(request.upstream().to_owned()),
            Self::Cookie(name) => request.cookie(name).map(str::to_owned),
            Self::Query(name) => argument(request.uri().query(), name).map(str::to_owned),
            Self::Header(name) => request.header(name).map(str::to_owned),
        };
        value.filter(|value| fit(value).is_some()).unwrap_or_default()
    }
}

const VARIABLES: &str = "client_ip, request_id, host, path, route, upstream, cookie:NAME, query:NAME, header:NAME";

/// The first value of a query argument, as it stands in the request: decoded it could have anything in it.
fn argument<'q>(query: Option<&'q str>, name: &str) -> Option<&'q str> {
    let arguments = query?.split('&').filter_map(|argument| argument.split_once('='));
    arguments.into_iter().find(|(argument, _)| *argument == name).map(|(_, value)| value)
}

/// A text that can stand in a header's value.
fn fit(text: &str) -> Option<&str> {
    text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')).then_some(text)
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
