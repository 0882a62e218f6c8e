//! `set` and `map`: variables whose values a file states.

use std::collections::HashMap;

use super::lex::Directive;
use crate::convert::fits;
use crate::convert::model::Source;

/// The `map` blocks of a configuration, by the variable that each makes.
#[derive(Debug, Default)]
pub(super) struct Maps<'d> {
    by_name: HashMap<&'d str, &'d Directive>,
}

/// The upstream that a `proxy_pass` leads to, by the host that was asked for.
pub(super) type ByHost = Vec<(Option<String>, String)>;

/// Most variables that lead to each other.
const MAX_STEPS: usize = 8;

impl<'d> Maps<'d> {
    pub(super) fn of(directives: &'d [Directive]) -> Self {
        let maps = directives.iter().filter(|directive| directive.name == "map");
        let named = maps.filter_map(|map| Some((map.argument(1).strip_prefix('$')?, map)));
        Self { by_name: named.collect() }
    }

    /// Tells whether a variable is the connection header of an upgrade, which needs nothing.
    pub(super) fn is_of_upgrade(map: &Directive) -> bool {
        map.argument(0) == "$http_upgrade"
    }

    /// Tells whether a `map` is read where its variable is used.
    pub(super) fn is_read(map: &Directive) -> bool {
        Self::is_of_upgrade(map) || is_host(map.argument(0)) || source(map.argument(0)).is_some()
    }

    /// A text with the variables of `set` in it replaced.
    pub(super) fn with_set(text: &str, set: &[&Directive]) -> String {
        let mut text = text.to_owned();
        for _ in 0..MAX_STEPS {
            if !text.contains('$') || text.len() > 4_096 {
                break;
            }
            // The longest name first, so that `$chat_host` is not taken for `$chat`.
            let named = set.iter().filter_map(|set| Some((set.argument(0).strip_prefix('$')?, set.argument(1))));
            let mut named: Vec<_> = named.filter(|(name, _)| !name.is_empty()).collect();
            named.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
            let before = text.clone();
            for (name, value) in named {
                // A longer one is no address, and could grow without a bound.
                if text.len() <= 4_096 && value.len() <= 256 {
                    text = text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value);
                }
            }
            if text == before {
                break;
            }
        }
        text
    }

    /// The values of a variable that a `map` makes from the host.
    pub(super) fn by_host(&self, variable: &str) -> Option<ByHost> {
        let map = self.by_name.get(name_of(variable)?)?;
        if !is_host(map.argument(0)) {
            return None;
        }
        let mut values = Vec::new();
        for entry in map.below() {
            let value = entry.argument(0).to_owned();
            match entry.name.as_str() {
                "hostnames" | "volatile" => {}
                "default" => values.push((None, value)),
                name if name.starts_with('.') => {
                    values.push((Some(fits::host(&name[1..])?), value.clone()));
                    values.push((Some(fits::host(&format!("*{name}"))?), value));
                }
                name => values.push((Some(fits::host(name)?), value)),
            }
        }
        Some(values)
    }

    /// The sources of a key, in the order in which they are asked: of one variable, or of a `map` that falls to another
    /// variable where the first has no value.
    pub(super) fn sources(&self, key: &str) -> Option<Vec<Source>> {
        let mut sources = Vec::new();
        let mut key = key.to_owned();
        for _ in 0..MAX_STEPS {
            if let Some(source) = source(&key) {
                sources.push(source);
                return Some(sources);
            }
            let map = self.by_name.get(name_of(&key)?)?;
            let of = |wanted: &str| map.below().iter().find(|entry| entry.name == wanted);
            let (default, empty) = (of("default")?, of("")?);
            if map.below().len() != 2 || name_of(default.argument(0)) != name_of(map.argument(0)) {
                return None;
            }
            sources.push(source(map.argument(0))?);
            key = empty.argument(0).to_owned();
        }
        None
    }
}

/// The name of a text that is one variable.
fn name_of(text: &str) -> Option<&str> {
    let name = text.strip_prefix('$')?;
    let name = name.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(name);
    let fits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    fits.then_some(name)
}

fn is_host(variable: &str) -> bool {
    matches!(name_of(variable), Some("host" | "http_host" | "ssl_server_name" | "server_name"))
}

/// The source of affinity that gives the value of a variable.
fn source(variable: &str) -> Option<Source> {
    let name = name_of(variable)?;
    let of = |begin: &str| name.strip_prefix(begin).filter(|rest| !rest.is_empty());
    if name == "remote_addr" || name == "binary_remote_addr" {
        return Some(Source::ClientIp { ipv4_prefix: 32, ipv6_prefix: 128 });
    }
    if name == "host" {
        return Some(Source::Header("host".to_owned()));
    }
    if let Some(cookie) = of("cookie_") {
        return fits::token(cookie).then(|| Source::Cookie(cookie.to_owned()));
    }
    if let Some(argument) = of("arg_") {
        return fits::argument(argument).then(|| Source::Query(argument.to_owned()));
    }
    let header = of("http_")?.replace('_', "-").to_ascii_lowercase();
    fits::token(&header).then_some(Source::Header(header))
}

/// Tells whether a key is the address in binary, which hashes to another place than its text.
pub(super) fn is_binary(key: &str) -> bool {
    name_of(key) == Some("binary_remote_addr")
}
