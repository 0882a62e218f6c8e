//! HTTP requests that hooks make themselves.

use std::path::Path;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, RequestBuilder, StatusCode, Url};

use crate::causes::with_causes;
use crate::hook::SetupError;
use crate::tls::certificates::certificates_of;

/// Why a request that a hook made did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(super) enum OutgoingError {
    /// Not connected, no answer within the timeout, or an answer that broke off.
    #[error("{0}")]
    NoAnswer(String),
    /// An answer that does not say that it worked.
    #[error("the answer is {0}{hint}", hint = redirect_hint(*.0))]
    Status(StatusCode),
    /// An answer longer than is taken.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

fn redirect_hint(status: StatusCode) -> &'static str {
    if status.is_redirection() { ", and redirects are not followed" } else { "" }
}

/// A client for `url`: redirects are not followed, lest a token or an event go where nobody configured it to. The proxy
/// that the environment names (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`) is used.
///
/// # Errors
/// `ca_file` cannot be used; the system has no certificates although `url` needs them.
pub(super) fn client(url: &Url, ca_file: Option<&Path>, timeout: Duration) -> Result<Client, SetupError> {
    let mut builder = Client::builder().redirect(Policy::none()).timeout(timeout).user_agent(USER_AGENT);
    if let Some(path) = ca_file {
        let unusable = |why: String| SetupError::at("ca_file", why);
        let certificates = certificates_of(path).map_err(|error| unusable(error.to_string()))?;
        let certificates = certificates.iter().map(|der| Certificate::from_der(der)).collect::<Result<Vec<_>, _>>();
        let certificates =
            certificates.map_err(|error| unusable(format!("{}: {}", path.display(), with_causes(&error))))?;
        builder = builder.tls_certs_only(certificates);
    } else if url.scheme() == "http" {
        // Where nothing is to be verified, a system without certificates must not be a problem.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| SetupError::new(format!("no HTTP client can be made: {}", with_causes(&error))))
}

/// Reads a setting as an absolute `http` or `https` URL.
///
/// # Errors
/// The text is no such URL; the error names `field`.
pub(super) fn url(field: &str, text: &str) -> Result<Url, SetupError> {
    let url = Url::parse(text).map_err(|error| SetupError::at(field, format!("not a URL: {error}")))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(SetupError::at(field, format!("a URL of `{other}:`, where `https:` or `http:` is needed"))),
    }
}

/// A URL as it may be logged: without what could be a password.
pub(super) fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

/// Sends a request, and returns the answer's body if its status says that it worked (2xx).
///
/// # Errors
/// See [`OutgoingError`].
pub(super) async fn send(request: RequestBuilder, longest: usize) -> Result<Vec<u8>, OutgoingError> {
    let no_answer = |error: reqwest::Error| OutgoingError::NoAnswer(with_causes(&error.without_url()));
    let mut answer = request.send().await.map_err(no_answer)?;
    if !answer.status().is_success() {
        return Err(OutgoingError::Status(answer.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(no_answer)? {
        if body.len() + chunk.len() > longest {
            return Err(OutgoingError::TooLong(longest));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

const USER_AGENT: &str = concat!("longhaul/", env!("CARGO_PKG_VERSION"));
