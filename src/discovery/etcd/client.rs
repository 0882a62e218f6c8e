//! Requests to one server of etcd, by its JSON gateway.
//!
//! The gateway is part of every server since etcd 3.4 (its documentation: "gRPC gateway").

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Identity, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::messages::{Authenticated, Changed, EtcdRefused, Range, ResponseHeader, Watched, in_words, message};
use crate::causes::with_causes;
use crate::config::{Etcd, Password, password};
use crate::tls::certificates::certificates_of;

/// One server, and the token that the gateway authenticates with.
pub(super) struct EtcdClient {
    http: reqwest::Client,
    endpoint: Box<str>,
    token: Option<HeaderValue>,
}

/// Why a server cannot be used, with its endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{endpoint}: {reason}")]
pub(super) struct EndpointFailure {
    endpoint: Box<str>,
    reason: String,
}

/// A watch that is open.
pub(super) struct OpenWatch {
    answer: Response,
    endpoint: Box<str>,
    /// Bytes of a message that is not whole.
    read: Vec<u8>,
}

impl EtcdClient {
    /// Reads the files that the configuration names, and asks for a token where there is a user.
    ///
    /// # Errors
    /// A file cannot be used, or the server does not answer, or does not know the user.
    pub(super) async fn connect(etcd: &Etcd, endpoint: &str) -> Result<Self, EndpointFailure> {
        let settings = etcd.clone();
        let is_plain = endpoint.starts_with("http:");
        let read = tokio::task::spawn_blocking(move || Ok((http(&settings, is_plain)?, secret(&settings)?))).await;
        let failure = |reason| EndpointFailure { endpoint: endpoint.into(), reason };
        let (http, user) = read.unwrap_or_else(|_| Err("reading the files panicked".to_owned())).map_err(failure)?;
        let mut client = Self { http, endpoint: endpoint.into(), token: None };
        if let Some((name, password)) = user {
            let asked = json!({ "name": name, "password": password });
            let Authenticated { token } = client.ask("auth/authenticate", &asked).await?;
            let token = HeaderValue::from_str(&token);
            let mut token = token.map_err(|_| client.failed("the token cannot be sent back"))?;
            token.set_sensitive(true);
            client.token = Some(token);
        }
        Ok(client)
    }

    /// The first keys of a range, with the values that they had at a revision, or have now.
    pub(super) async fn range(&self, from: &[u8], end: &[u8], revision: Option<u64>) -> Result<Range, EndpointFailure> {
        let mut asked = json!({ "key": text(from), "range_end": text(end), "limit": PAGE.to_string() });
        if let Some(revision) = revision {
            asked["revision"] = json!(revision.to_string());
        }
        self.ask("kv/range", &asked).await
    }

    /// The state of the store, as most of the cluster's servers agree on it. A server that is cut off from them does
    /// not answer.
    pub(super) async fn state(&self, prefix: &[u8]) -> Result<ResponseHeader, EndpointFailure> {
        let asked = json!({ "key": text(prefix), "range_end": text(&end_of(prefix)), "count_only": true });
        let Range { header, .. } = self.ask("kv/range", &asked).await?;
        Ok(header)
    }

    /// Begins to watch the keys with a prefix, from a revision on. Returns the server's first message, too, by which it
    /// confirms the watch.
    pub(super) async fn watch(&self, prefix: &[u8], from: u64) -> Result<(OpenWatch, Watched), EndpointFailure> {
        let asked =
            json!({ "key": text(prefix), "range_end": text(&end_of(prefix)), "start_revision": from.to_string() });
        let asked = json!({ "create_request": asked });
        let begun = async {
            let answer = self.request("watch", &asked).send().await.map_err(|error| self.no_answer(error))?;
            let status = answer.status();
            if !status.is_success() {
                return Err(self.refused(status, &self.whole(answer).await?));
            }
            let mut watch = OpenWatch { answer, endpoint: self.endpoint.clone(), read: Vec::new() };
            let first = watch.next().await?;
            Ok((watch, first))
        };
        timeout(WITHIN, begun).await.unwrap_or_else(|_| Err(self.failed("no watch begins in time")))
    }

    /// Puts a value under the lease of another key, if that other key is still the one that was created at the given
    /// revision. Returns whether it is.
    pub(super) async fn put_beside(
        &self,
        other: &[u8],
        created: u64,
        (key, value, lease): (&[u8], &str, Option<&Value>),
    ) -> Result<bool, EndpointFailure> {
        let compare = json!({
            "key": text(other), "target": "CREATE", "result": "EQUAL", "create_revision": created.to_string(),
        });
        let mut put = json!({ "key": text(key), "value": text(value.as_bytes()) });
        if let Some(lease) = lease {
            put["lease"] = lease.clone();
        }
        let asked = json!({ "compare": [compare], "success": [{ "request_put": put }] });
        let Changed { succeeded, .. } = self.ask("kv/txn", &asked).await?;
        Ok(succeeded)
    }

    /// Removes a key. Tells whether it was there.
    pub(super) async fn remove(&self, key: &[u8]) -> Result<bool, EndpointFailure> {
        let Changed { deleted, .. } = self.ask("kv/deleterange", &json!({ "key": text(key) })).await?;
        Ok(deleted > 0)
    }

    /// A failure of this server.
    pub(super) fn failed(&self, reason: impl Into<String>) -> EndpointFailure {
        EndpointFailure { endpoint: self.endpoint.clone(), reason: reason.into() }
    }

    async fn ask<T: DeserializeOwned>(&self, path: &str, asked: &Value) -> Result<T, EndpointFailure> {
        let answered = async {
            let answer = self.request(path, asked).send().await.map_err(|error| self.no_answer(error))?;
            let status = answer.status();
            Ok((status, self.whole(answer).await?))
        };
        let answered = timeout(WITHIN, answered).await;
        let (status, body) = answered.unwrap_or_else(|_| Err(self.failed("no answer in time")))?;
        if !status.is_success() {
            return Err(self.refused(status, &body));
        }
        serde_json::from_slice(&body).map_err(|error| self.failed(format!("not an answer of etcd's gateway: {error}")))
    }

    fn request(&self, path: &str, asked: &Value) -> RequestBuilder {
        let request = self.http.post(format!("{}/v3/{path}", self.endpoint)).body(asked.to_string());
        let request = request.header(CONTENT_TYPE, "application/json").header(REQUIRE_LEADER.0, REQUIRE_LEADER.1);
        self.token.iter().fold(request, |request, token| request.header(AUTHORIZATION, token.clone()))
    }

    async fn whole(&self, mut answer: Response) -> Result<Vec<u8>, EndpointFailure> {
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.no_answer(error))? {
            if body.len() + chunk.len() > LONGEST {
                return Err(self.failed(format!("an answer is longer than {LONGEST} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn no_answer(&self, error: reqwest::Error) -> EndpointFailure {
        self.failed(with_causes(&error.without_url()))
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> EndpointFailure {
        let EtcdRefused { message, error } = serde_json::from_slice(body).unwrap_or_default();
        let said = if message.is_empty() { error } else { message };
        match said.is_empty() {
            true => self.failed(format!("the answer is {status}, not one of etcd's gateway")),
            false => self.failed(in_words(&said)),
        }
    }
}

impl OpenWatch {
    /// The next message. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Watched, EndpointFailure> {
        let failed = |endpoint: &str, reason: String| EndpointFailure { endpoint: endpoint.into(), reason };
        let mut looked_at = 0;
        loop {
            if let Some(end) = self.read[looked_at..].iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=looked_at + end).collect();
                return message(&line).map_err(|reason| failed(&self.endpoint, reason));
            }
            looked_at = self.read.len();
            let chunk = self.answer.chunk().await;
            let chunk = chunk.map_err(|error| failed(&self.endpoint, with_causes(&error.without_url())))?;
            let chunk = chunk.ok_or_else(|| failed(&self.endpoint, "the watch has ended".to_owned()))?;
            if self.read.len() + chunk.len() > LONGEST {
                return Err(failed(&self.endpoint, format!("a message is longer than {LONGEST} bytes")));
            }
            self.read.extend_from_slice(&chunk);
        }
    }
}

/// End of the range of all keys with a prefix: the prefix with its last byte raised.
pub(super) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // etcd's word for "to the last key".
    vec![0]
}

fn http(etcd: &Etcd, is_plain: bool) -> Result<reqwest::Client, String> {
    // No time limit for answers: a watch is silent as long as nothing changes. Another request asks whether the server
    // is there.
    let mut builder = reqwest::Client::builder().no_proxy().redirect(Policy::none()).connect_timeout(CONNECT);
    if let Some(file) = etcd.ca.as_ref().filter(|_| !is_plain) {
        let certificates = certificates_of(file).map_err(|error| error.to_string())?;
        let certificates = certificates.iter().map(|der| Certificate::from_der(der)).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|error| format!("{}: {}", file.display(), with_causes(&error)))?;
        builder = builder.tls_certs_only(certificates);
    } else if is_plain {
        // Where nothing is to be verified, a system without certificates must not be a problem.
        builder = builder.tls_certs_only([]);
    }
    if let Some(pair) = etcd.certificate.as_ref().filter(|_| !is_plain) {
        let pem = [read(&pair.cert)?, b"\n".to_vec(), read(&pair.key)?].concat();
        let identity =
            Identity::from_pem(&pem).map_err(|error| format!("{}: {}", pair.cert.display(), with_causes(&error)));
        builder = builder.identity(identity?);
    }
    builder.build().map_err(|error| format!("no HTTP client can be made: {}", with_causes(&error)))
}

fn read(file: &std::path::Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("{}: cannot be read: {error}", file.display()))
}

/// Name and password of the user, where there is one.
fn secret(etcd: &Etcd) -> Result<Option<(String, String)>, String> {
    let Some(user) = &etcd.user else { return Ok(None) };
    let password = match &user.password {
        Password::Given(given) => given.to_string(),
        Password::File(file) => password(file).map_err(|error| format!("{}: {error}", file.display()))?,
    };
    Ok(Some((user.name.to_string(), password)))
}

fn text(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Header that asks a server without a leader to refuse at once and to end its watches: etcd's `WithRequireLeader`, as
/// its JSON gateway takes it.
const REQUIRE_LEADER: (&str, &str) = ("grpc-metadata-hasleader", "true");
/// Time for a connection, TLS included. It is short enough for the second of three servers to answer within `wait` when
/// the first one is dead.
const CONNECT: Duration = Duration::from_secs(2);
/// Time for an answer. etcd itself gives up after about seven seconds without a leader.
const WITHIN: Duration = Duration::from_secs(5);
/// Most keys of one answer.
const PAGE: u64 = 500;
/// Most bytes of an answer, and of a message of a watch. A page of members takes far less.
const LONGEST: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_a_prefix_ends_behind_its_last_key() {
        assert_eq!(end_of(b"/services/chat/"), b"/services/chat0");
        assert_eq!(end_of(b"a\xff"), b"b");
        assert_eq!(end_of(b"\xff\xff"), [0]);
    }
}
