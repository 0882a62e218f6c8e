//! Guard of the API: decides which requests are admitted, and refuses those that a page of a stranger made a browser
//! send.
//!
//! A page of a stranger can have a browser send requests to addresses that the browser reaches, and by DNS rebinding
//! under a name of the stranger's own. So the name that is asked for must be one of the gateway's; a browser that says
//! where a request comes from must name this listener; and a request that changes something must have a form that no
//! page can send to another origin without asking first, which is never allowed: there are no CORS headers.

use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use log::warn;

use super::Visitor;
use super::token::Token;
use crate::config::{self, SecretError};

/// Checks of requests to the API.
pub(super) struct Guard {
    /// Tokens, one of which each request needs; `None` where none is asked for.
    token: Option<Token>,
    /// Further names of the listener, in lower case.
    names: Vec<String>,
    /// Requests that change nothing.
    reads: DefaultDirectRateLimiter,
    /// Requests that change something.
    changes: DefaultDirectRateLimiter,
    /// Requests for the page, which needs no token.
    pages: DefaultDirectRateLimiter,
    /// Requests without a right token.
    strangers: DefaultDirectRateLimiter,
}

/// Why a request is not admitted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ApiRefused {
    /// There is no host, or there are two (RFC 9112 §3.2).
    #[error("name one host in `Host`")]
    Host,
    /// The name is none of the listener's: DNS rebinding looks so.
    #[error("this listener is asked by its address, as localhost, or by one of `admin.names`, and not as `{0}`")]
    Name(String),
    /// A page of another origin sent it.
    #[error("requests of pages from other origins are not heard")]
    Origin,
    /// The token is missing or wrong.
    #[error("a token is needed: `Authorization: Bearer TOKEN`")]
    Token,
    /// The gateway cannot read its tokens.
    #[error("the gateway's token file cannot be used: {0}")]
    NoToken(SecretError),
    /// A change that a form of a page could ask for.
    #[error("a request without a token that changes something needs the header `{HEADER}: 1`")]
    Header,
    /// A body that a form of a page could send.
    #[error("send a body of `Content-Type: application/json`")]
    ContentType,
    /// Too many requests.
    #[error("too many requests; try again in a second")]
    TooMany,
}

impl ApiRefused {
    /// Status of the answer.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Host => StatusCode::BAD_REQUEST,
            Self::Name(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin | Self::Header => StatusCode::FORBIDDEN,
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::NoToken(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// Name of the kind, for programs.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Host => "host_missing",
            Self::Name(_) => "host_unknown",
            Self::Origin => "origin",
            Self::Token => "token",
            Self::NoToken(_) => "token_file",
            Self::Header => "header_missing",
            Self::ContentType => "content_type",
            Self::TooMany => "too_many",
        }
    }
}

impl Guard {
    /// A guard by the configuration of the admin listener.
    pub(super) fn of(config: Option<&config::Admin>) -> Self {
        Self {
            token: config.and_then(|admin| admin.token_file.clone()).map(Token::in_file),
            names: config.map_or_else(Vec::new, |admin| admin.names.clone()),
            reads: limiter(READS),
            changes: limiter(CHANGES),
            pages: limiter(PAGES),
            strangers: limiter(STRANGERS),
        }
    }

    /// Admits a request, and says who sent it, for the log.
    ///
    /// # Errors
    /// [`ApiRefused`]
    pub(super) async fn admit<B>(&self, request: &Request<B>, visitor: &Visitor) -> Result<String, ApiRefused> {
        let headers = request.headers();
        let host = self.host(headers, request.uri())?;
        check_origin(headers, &host, visitor.by_tls)?;
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
        match &self.token {
            Some(token) => self.check_token(token, headers, visitor).await?,
            // No page can add a header to a request to another origin without asking first.
            None if changes && headers.get(HEADER).is_none_or(|value| value != "1") => return Err(ApiRefused::Header),
            None => {}
        }
        if changes && !is_json(headers) {
            return Err(ApiRefused::ContentType);
        }
        let limiter = if changes { &self.changes } else { &self.reads };
        limiter.check().map_err(|_| ApiRefused::TooMany)?;
        Ok(self.who(visitor))
    }

    /// Admits a request for a file of the page, which has no secret and changes nothing. A link on a page of another
    /// origin may lead here.
    ///
    /// # Errors
    /// [`ApiRefused`]
    pub(super) fn admit_to_page<B>(&self, request: &Request<B>) -> Result<(), ApiRefused> {
        self.host(request.headers(), request.uri())?;
        self.pages.check().map_err(|_| ApiRefused::TooMany)
    }

    /// The host asked for, as it is written; HTTP/1.1 asks for one (RFC 9112 §3.2).
    fn host(&self, headers: &HeaderMap, uri: &Uri) -> Result<String, ApiRefused> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(ApiRefused::Host) };
        let host = host.to_str().map_err(|_| ApiRefused::Host)?;
        // An absolute target names the host as well, and must not name another one.
        if uri.authority().is_some_and(|authority| !authority.as_str().eq_ignore_ascii_case(host)) {
            return Err(ApiRefused::Host);
        }
        let name = name_of(host).to_ascii_lowercase();
        // An address is fine: DNS rebinding needs a name, which the browser then sends.
        let is_address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
        if is_address || name == "localhost" || self.names.contains(&name) {
            return Ok(host.to_owned());
        }
        Err(ApiRefused::Name(name.escape_default().to_string()))
    }

    async fn check_token(&self, token: &Token, headers: &HeaderMap, visitor: &Visitor) -> Result<(), ApiRefused> {
        let sent = headers.get(header::AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        match sent {
            Some(sent) if token.is(sent).await.map_err(ApiRefused::NoToken)? => return Ok(()),
            _ if self.strangers.check().is_err() => return Err(ApiRefused::TooMany),
            Some(_) => warn!("a wrong token came to the admin API from {}", visitor.peer),
            None => {}
        }
        Err(ApiRefused::Token)
    }

    fn who(&self, visitor: &Visitor) -> String {
        let by = match (&visitor.certificate, &self.token) {
            (Some(certificate), _) => format!("with certificate {certificate}"),
            (None, Some(_)) => "with a token".to_owned(),
            (None, None) => "without a token".to_owned(),
        };
        format!("{}, by the admin API {by},", visitor.peer)
    }
}

/// Refuses what a page of another origin sent, as far as the browser says so (Fetch §3.1, Fetch Metadata §2.3).
fn check_origin(headers: &HeaderMap, host: &str, by_tls: bool) -> Result<(), ApiRefused> {
    let scheme = if by_tls { "https" } else { "http" };
    let own = format!("{scheme}://{host}");
    let is_own = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(own.as_bytes());
    if !headers.get_all(header::ORIGIN).iter().all(is_own) {
        return Err(ApiRefused::Origin);
    }
    let site = headers.get_all("sec-fetch-site").iter();
    // `none`: a person typed the address.
    if !site.into_iter().all(|site| site == "same-origin" || site == "none") {
        return Err(ApiRefused::Origin);
    }
    Ok(())
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750 §2.1); the scheme's letter case means nothing.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_first_chunk::<7>()?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| {
        value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    })
}

/// A host without its port.
fn name_of(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host.ends_with(']') && (host.starts_with('[') || host.matches(':').count() == 1) => {
            &host[..colon]
        }
        _ => host,
    }
}

fn limiter(a_second: NonZeroU32) -> DefaultDirectRateLimiter {
    RateLimiter::direct(Quota::per_second(a_second))
}

/// Header that a change without a token needs.
pub(super) const HEADER: &str = "x-longhaul-admin";
/// Most reads a second. Programs ask for a few.
const READS: NonZeroU32 = NonZeroU32::new(200).expect("it is not 0");
/// A page is eleven files. They are counted apart, so that strangers who ask for them keep nobody from the API.
const PAGES: NonZeroU32 = NonZeroU32::new(100).expect("it is not 0");
const CHANGES: NonZeroU32 = NonZeroU32::new(50).expect("it is not 0");
/// A token of 128 bits cannot be guessed. This limit keeps attempts from filling the log and the processor.
const STRANGERS: NonZeroU32 = NonZeroU32::new(10).expect("it is not 0");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_known_without_its_port() {
        for (host, name) in [
            ("localhost:9099", "localhost"),
            ("localhost", "localhost"),
            ("127.0.0.1:9099", "127.0.0.1"),
            ("[::1]:9099", "[::1]"),
            ("[::1]", "[::1]"),
            ("::1", "::1"),
        ] {
            assert_eq!(name_of(host), name);
        }
    }

    #[tokio::test]
    async fn whoever_guesses_is_slowed_down_and_whoever_has_the_token_is_not() {
        const TOKEN: &str = "0123456789abcdef0123456789abcdef";
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), TOKEN).unwrap();
        let config = config::Admin {
            address: ([127, 0, 0, 1], 1).into(),
            token_file: Some(file.path().to_owned()),
            tls: None,
            names: Vec::new(),
        };
        let guard = Guard::of(Some(&config));
        let visitor = Visitor { peer: ([127, 0, 0, 1], 1).into(), by_tls: false, certificate: None };
        let request = |token: Option<&str>| {
            let request = Request::get("/api/v1/status").header("host", "localhost");
            let token = token.map(|token| format!("Bearer {token}"));
            token.into_iter().fold(request, |request, token| request.header("authorization", token)).body(()).unwrap()
        };
        let mut refused = Vec::new();
        for _ in 0..1000 {
            refused.push(guard.admit(&request(None), &visitor).await.unwrap_err());
        }
        assert_eq!(refused[0], ApiRefused::Token);
        assert!(refused.contains(&ApiRefused::TooMany));
        assert!(guard.admit(&request(Some(TOKEN)), &visitor).await.is_ok());
    }

    #[test]
    fn a_token_is_found_whatever_the_case_of_its_scheme() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Basic abc"), None);
        assert_eq!(bearer(b"Bearer"), None);
    }
}
