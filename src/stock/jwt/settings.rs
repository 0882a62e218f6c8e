//! The settings of `jwt`, and the values that are made of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, header};
use jsonwebtoken::{Algorithm, AlgorithmFamily};
use serde::Deserialize;

use super::claims::ToldClaim;
use super::keys::{KeySet, KeysError};
use super::remote::{KeySetSource, Remote};
use super::token::TokenSource;
use super::verify::Terms;
use super::{Jwt, Keys};
use crate::config::Period;
use crate::hook::{Setup, SetupError};
use crate::stock::outgoing;

/// Settings under `with:`. docs/hooks/jwt.md is the reference.
#[derive(Debug, Deserialize)]
pub struct Settings {
    secret_file: Option<PathBuf>,
    secret_env: Option<String>,
    #[serde(default)]
    secret_encoding: Encoding,
    public_key_file: Option<PathBuf>,
    jwks_file: Option<PathBuf>,
    jwks_url: Option<String>,
    ca_file: Option<PathBuf>,
    refresh: Option<Period>,
    cooldown: Option<Period>,
    fetch_timeout: Option<Period>,
    algorithms: Option<Vec<Algorithm>>,
    #[serde(default)]
    pub(super) issuer: OneOrMore,
    #[serde(default)]
    pub(super) audience: OneOrMore,
    #[serde(default = "default_leeway")]
    leeway: Period,
    #[serde(default = "default_require")]
    require: Vec<String>,
    #[serde(default = "default_from")]
    from: Vec<TokenFrom>,
    #[serde(default)]
    claims: BTreeMap<String, String>,
    pub(super) key: Option<String>,
    #[serde(default)]
    pub(super) optional: bool,
    #[serde(default = "default_forward")]
    pub(super) forward: bool,
    #[serde(default)]
    pub(super) on_expiry: OnExpiry,
    #[serde(default = "default_expiry_code")]
    expiry_code: u16,
    #[serde(default = "default_realm")]
    realm: String,
}

/// Encoding of a secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Encoding {
    /// The text is the secret.
    #[default]
    Text,
    /// The text is the secret in base64 (RFC 4648 §4).
    Base64,
}

/// Fate of a tunnel when its token expires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnExpiry {
    #[default]
    Close,
    Keep,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TokenFrom {
    Header(String),
    Cookie(String),
    Query(String),
    Protocol(String),
}

/// One text, or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMore {
    #[default]
    None,
    One(String),
    More(Vec<String>),
}

impl Settings {
    /// The source of keys. Keys of a file or of the environment are read at once.
    pub(super) fn keys(&self, setup: &Setup<'_, Jwt>) -> Result<Keys, SetupError> {
        self.only_one_source()?;
        let accepted = self.accepted()?;
        let fixed = |field: &str, keys: Result<KeySet, KeysError>| match keys {
            Ok(keys) => Ok(Keys::Fixed(keys)),
            Err(error @ (KeysError::SecretShort { .. } | KeysError::OtherAlgorithms(_))) if accepted.is_some() => {
                Err(SetupError::at("algorithms", error.to_string()))
            }
            Err(error) => Err(SetupError::at(field, error.to_string())),
        };
        if let Some(path) = &self.secret_file {
            let secret = self.decoded("secret_file", without_newline(read("secret_file", path)?))?;
            fixed("secret_file", KeySet::secret(&secret, accepted))
        } else if let Some(name) = &self.secret_env {
            let text = std::env::var(name);
            let text = text.map_err(|error| SetupError::at("secret_env", format!("{name}: {error}")))?;
            fixed("secret_env", KeySet::secret(&self.decoded("secret_env", text.into_bytes())?, accepted))
        } else if let Some(path) = &self.public_key_file {
            fixed("public_key_file", KeySet::public_pem(&read("public_key_file", path)?, accepted))
        } else if let Some(path) = &self.jwks_file {
            fixed("jwks_file", KeySet::jwks(&read("jwks_file", path)?, accepted))
        } else {
            let url = self.jwks_url.as_deref().expect("one of the sources is given");
            self.remote(url, accepted, setup).map(Keys::Remote)
        }
    }

    fn only_one_source(&self) -> Result<(), SetupError> {
        let sources = [
            ("secret_file", self.secret_file.is_some()),
            ("secret_env", self.secret_env.is_some()),
            ("public_key_file", self.public_key_file.is_some()),
            ("jwks_file", self.jwks_file.is_some()),
            ("jwks_url", self.jwks_url.is_some()),
        ];
        let mut given = sources.iter().filter(|(_, given)| *given).map(|(name, _)| *name);
        let Some(source) = given.next() else {
            let names = sources.map(|(name, _)| format!("`{name}`")).join(", ");
            return Err(SetupError::new(format!("there is no key: one of {names} is needed")));
        };
        if let Some(other) = given.next() {
            return Err(SetupError::at(other, format!("there is `{source}` already, and keys come from one place")));
        }
        let of_url = [
            ("ca_file", self.ca_file.is_some()),
            ("refresh", self.refresh.is_some()),
            ("cooldown", self.cooldown.is_some()),
            ("fetch_timeout", self.fetch_timeout.is_some()),
        ];
        match of_url.iter().find(|(_, given)| *given && source != "jwks_url") {
            Some((name, _)) => Err(SetupError::at(*name, "this belongs to `jwks_url`, which is not given")),
            None => Ok(()),
        }
    }

    fn accepted(&self) -> Result<Option<&[Algorithm]>, SetupError> {
        let Some(accepted) = self.algorithms.as_deref() else { return Ok(None) };
        let symmetric = |algorithm: &Algorithm| algorithm.family() == AlgorithmFamily::Hmac;
        let index = accepted.iter().position(symmetric);
        match index {
            _ if accepted.is_empty() => Err(SetupError::at("algorithms", "no algorithm is accepted, and so no token")),
            Some(index) if self.public_key_file.is_some() || self.jwks_url.is_some() => Err(SetupError::at(
                format!("algorithms[{index}]"),
                format!("{:?} is signed with a secret, and these keys are public: anybody could sign", accepted[index]),
            )),
            _ => Ok(Some(accepted)),
        }
    }

    fn decoded(&self, field: &str, text: Vec<u8>) -> Result<Vec<u8>, SetupError> {
        match self.secret_encoding {
            Encoding::Text => Ok(text),
            Encoding::Base64 => STANDARD
                .decode(text.trim_ascii())
                .map_err(|error| SetupError::at(field, format!("this is not base64: {error}"))),
        }
    }

    fn remote(
        &self,
        url: &str,
        accepted: Option<&[Algorithm]>,
        setup: &Setup<'_, Jwt>,
    ) -> Result<Arc<Remote>, SetupError> {
        let within = |field: &str, given: Option<Period>, default: &str, span: [&str; 2]| {
            let [default, least, most] = [default, span[0], span[1]]
                .map(|text| humantime::parse_duration(text).expect("durations written here are durations"));
            let value = given.map_or(default, |Period(given)| given);
            let is_within = (least..=most).contains(&value);
            let error = || SetupError::at(field, format!("from {} to {} is possible here", span[0], span[1]));
            is_within.then_some(value).ok_or_else(error)
        };
        let origin = KeySetSource {
            url: outgoing::url("jwks_url", url)?,
            ca_file: self.ca_file.clone(),
            timeout: within("fetch_timeout", self.fetch_timeout, "3s", ["100ms", "1m"])?,
            refresh: within("refresh", self.refresh, "10m", ["1s", "7d"])?,
            cooldown: within("cooldown", self.cooldown, "10s", ["1s", "1h"])?,
            accepted: accepted.map(<[_]>::to_vec),
        };
        let client = outgoing::client(&origin.url, self.ca_file.as_deref(), origin.timeout)?;
        let before = setup.previous().and_then(|jwt| match &jwt.keys {
            Keys::Remote(remote) => Some(remote),
            Keys::Fixed(_) => None,
        });
        // With a file of certificates the client may be another although its path is the same.
        if let Some(same) = before.filter(|before| *before.origin() == origin && origin.ca_file.is_none()) {
            return Ok(Arc::clone(same));
        }
        let known = before.filter(|before| before.origin().url == origin.url).and_then(|before| before.current());
        let remote = Remote::new(origin, client);
        if let Some(known) = known {
            remote.seed(known.text.clone());
        }
        Ok(Arc::new(remote))
    }

    /// Rules for tokens.
    pub(super) fn terms(&self) -> Result<Terms, SetupError> {
        let leeway = self.leeway.0.as_secs();
        if leeway > LONGEST_LEEWAY {
            return Err(SetupError::at("leeway", "at most 1h is possible here: later, an expired token is just that"));
        }
        Ok(Terms {
            issuers: self.issuer.list(),
            audience: self.audience.list(),
            leeway,
            required: self.require.clone(),
        })
    }

    /// Places of a request where tokens are looked for.
    pub(super) fn places(&self) -> Result<Vec<TokenSource>, SetupError> {
        if self.from.is_empty() {
            return Err(SetupError::at("from", "a token is looked for nowhere"));
        }
        self.from.iter().enumerate().map(|(index, from)| from.place(index)).collect()
    }

    /// The claims that are passed on to backends.
    pub(super) fn told(&self) -> Result<Vec<ToldClaim>, SetupError> {
        let each = self.claims.iter().map(|(claim, name)| {
            let field = || format!("claims.{claim}");
            let header = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| SetupError::at(field(), format!("{name:?} is not the name of a header")))?;
            let is_ours = OURS.contains(&header) || header.as_str().starts_with("sec-websocket-");
            if is_ours {
                let why = format!("{name} is a part of the protocol, and cannot hold a claim");
                return Err(SetupError::at(field(), why));
            }
            Ok(ToldClaim { claim: claim.clone(), header })
        });
        each.collect()
    }

    /// The code that a tunnel whose token has expired is closed with.
    pub(super) fn code(&self) -> Result<u16, SetupError> {
        match self.expiry_code {
            code @ 4000..=4999 => Ok(code),
            1008 => Ok(1008),
            _ => Err(SetupError::at("expiry_code", "a code of one's own, 4000 to 4999, or 1008 (RFC 6455 §7.4)")),
        }
    }

    /// The realm, as it stands in a challenge.
    pub(super) fn realm(&self) -> Result<&str, SetupError> {
        let is_plain = |c: char| (' '..='~').contains(&c) && c != '"' && c != '\\';
        match self.realm.chars().all(is_plain) {
            true => Ok(&self.realm),
            false => Err(SetupError::at("realm", "printable ASCII without quotes and backslashes is possible here")),
        }
    }
}

impl TokenFrom {
    fn place(&self, index: usize) -> Result<TokenSource, SetupError> {
        let refused = |kind: &str, why: &str| Err(SetupError::at(format!("from[{index}].{kind}"), why));
        match self {
            Self::Header(name) => match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => Ok(TokenSource::Header(name)),
                Err(_) => refused("header", "this is not the name of a header"),
            },
            Self::Cookie(name) if name.is_empty() => refused("cookie", "a name is needed"),
            Self::Query(name) if name.is_empty() => refused("query", "a name is needed"),
            Self::Protocol(prefix) if !is_token(prefix) => {
                refused("protocol", "this is not the beginning of a subprotocol, such as `bearer.` (RFC 6455 §4.1)")
            }
            Self::Cookie(name) => Ok(TokenSource::Cookie(name.clone())),
            Self::Query(name) => Ok(TokenSource::Query(name.clone())),
            Self::Protocol(prefix) => Ok(TokenSource::Protocol(prefix.clone())),
        }
    }
}

impl OneOrMore {
    fn list(&self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::One(one) => vec![one.clone()],
            Self::More(more) => more.clone(),
        }
    }
}

/// Tells whether a text is a token of HTTP (RFC 9110 §5.6.2).
fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}

fn read(field: &str, path: &Path) -> Result<Vec<u8>, SetupError> {
    fs::read(path).map_err(|error| SetupError::at(field, format!("{}: {error}", path.display())))
}

/// Removes the newline at the end. Editors end files with one, and it is never part of a secret.
fn without_newline(mut text: Vec<u8>) -> Vec<u8> {
    if text.last() == Some(&b'\n') {
        text.pop();
        text.pop_if(|last| *last == b'\r');
    }
    text
}

fn default_leeway() -> Period {
    Period(std::time::Duration::from_secs(30))
}

fn default_require() -> Vec<String> {
    vec!["exp".to_owned()]
}

fn default_from() -> Vec<TokenFrom> {
    vec![TokenFrom::Header("authorization".to_owned())]
}

fn default_forward() -> bool {
    true
}

fn default_expiry_code() -> u16 {
    4401
}

fn default_realm() -> String {
    "longhaul".to_owned()
}

/// Most seconds of `leeway`.
const LONGEST_LEEWAY: u64 = 3600;

/// Headers that the gateway needs for itself.
const OURS: [HeaderName; 9] = [
    header::HOST,
    header::CONNECTION,
    header::UPGRADE,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::AUTHORIZATION,
    header::COOKIE,
];
