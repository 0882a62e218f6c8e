//! Tests of `jwt`: the clients that it admits, the headers that backends get of them, and the end of their tunnels.

mod expiry;
mod issuer;
mod remote;
mod settings;
mod tokens;
mod trust;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use jsonwebtoken::Algorithm;
use pingora::http::{RequestHeader, ResponseHeader};
use serde_json::{Value, json};

use self::issuer::Issuer;
use super::expiry::Expiry;
use super::verify::{Terms, TokenRules};
use super::{Jwt, Keys};
use crate::config::{HookEntry, KnownHooks, Settings};
use crate::hook::{Chain, Contexts, Facts, Next, Request, Response};
use crate::metrics::Metrics;

/// Outcome of a request.
struct Outcome {
    next: Next,
    header: RequestHeader,
    key: Option<Vec<u8>>,
    contexts: Contexts,
}

impl Outcome {
    /// 200 for a request that was admitted, else the status of the answer.
    fn status(&self) -> u16 {
        match &self.next {
            Next::Continue => 200,
            Next::Answer(answer) => answer.status().as_u16(),
        }
    }

    /// The answer's challenge.
    fn challenge(&self) -> &str {
        match &self.next {
            Next::Continue => "",
            Next::Answer(answer) => {
                answer.headers().get("www-authenticate").map_or("", |value| value.to_str().unwrap())
            }
        }
    }

    fn sees(&self, name: &str) -> Vec<&str> {
        self.header.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }
}

fn settings(with: &str) -> Settings {
    Settings::parse(with).unwrap()
}

/// A chain of one `jwt`.
fn chain(with: &str) -> Chain {
    chain_after(with, None)
}

fn chain_after(with: &str, previous: Option<&Chain>) -> Chain {
    let entry = HookEntry { name: "jwt".into(), settings: settings(with), timeout: Duration::from_secs(5) };
    let metrics = Metrics::new();
    match Chain::build(&[entry], "* /", &crate::stock::registry(), previous, |name| metrics.hook(name)) {
        Ok(chain) => chain,
        Err(problems) => panic!("{problems:?}"),
    }
}

/// Problems that `check` names.
fn problems(with: &str) -> String {
    let found = crate::stock::registry().check("jwt", &settings(with)).expect_err(with);
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

async fn ask(chain: &Chain, target: &str, headers: &[(&str, &str)]) -> Outcome {
    let mut header = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
    for (name, value) in headers {
        header.append_header((*name).to_owned(), *value).unwrap();
    }
    let facts = Facts {
        id: "id",
        client: [192, 0, 2, 1].into(),
        peer: ([192, 0, 2, 1], 1).into(),
        host: "example.com",
        route: "* /",
        upstream: "chat",
        upgrade: true,
        secure: false,
        certificate: None,
        injector: crate::hook::Injector::to_nobody(),
    };
    let mut contexts = chain.contexts().unwrap();
    let mut request = Request::bare(&mut header, facts);
    let next = chain.on_request(&mut request, &mut contexts).await.unwrap();
    let key = request.into_chosen().key;
    Outcome { next, header, key, contexts }
}

/// Sends a request with the token in `Authorization`, as is usual.
async fn bear(chain: &Chain, token: &str) -> Outcome {
    ask(chain, "/", &[("authorization", &format!("Bearer {token}"))]).await
}

/// The headers of the 101, of which the backend gave `given`.
async fn upgraded(chain: &Chain, contexts: &mut Contexts, given: &[(&'static str, &str)]) -> HeaderMap {
    let mut response = ResponseHeader::build(101, None).unwrap();
    for (name, value) in given {
        response.append_header(*name, *value).unwrap();
    }
    chain.on_response(&mut Response::new(&mut response), contexts).await.unwrap();
    response.headers.clone()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Claims that expire in an hour. The claims of `more` are added, or take the place of the usual ones.
fn claims(more: Value) -> Value {
    let mut claims = json!({ "sub": "u-1", "exp": now() + 3600 });
    let all: BTreeMap<String, Value> = serde_json::from_value(more).unwrap();
    all.into_iter().for_each(|(name, value)| claims[name] = value);
    claims
}

/// An issuer that signs by HS256, and the settings under which its tokens are valid.
fn with_secret() -> (Issuer, String) {
    let issuer = Issuer::new(Algorithm::HS256);
    let with = format!("secret_file: {}", issuer.key_file());
    (issuer, with)
}

/// A hook with these keys that asks nothing of a token but its signature.
fn jwt(keys: Keys, expiry: Option<Expiry>) -> Jwt {
    Jwt {
        places: Vec::new(),
        keys,
        rules: TokenRules::new(Terms::default()),
        told: Vec::new(),
        key: None,
        optional: false,
        forward: true,
        realm: String::new(),
        expiry: expiry.map(Arc::new),
    }
}
