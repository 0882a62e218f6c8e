//! Reasons for which a request is refused by its head alone, before anybody looks for its route.

use http::StatusCode;

use super::framing::FramingError;

/// Why a head, or a connection that sent none, is refused. The client's fault in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum RequestRefused {
    /// Nothing came in time. The connection is closed without an answer.
    #[error("no request came in time")]
    Silent,
    /// The head was not complete in time.
    #[error("the request's header took too long")]
    Slow,
    /// The client ended its side within the head.
    #[error("the request's header is not complete")]
    Incomplete,
    /// The connection begins with a record of TLS, and the listener speaks HTTP.
    #[error("this port speaks HTTP, not HTTPS")]
    Tls,
    /// RFC 9112 §2, §3 or §5 is broken.
    #[error("the request is malformed")]
    Malformed,
    /// Another version than HTTP/1.0 and HTTP/1.1.
    #[error("this version of HTTP is not supported")]
    Version,
    /// The method is longer than any that is known (RFC 9110 §15.6.2).
    #[error("the method is not known")]
    Method,
    /// The request target is longer than `limits.head.target`.
    #[error("the request's target is too long")]
    Target,
    /// The head is longer than `limits.head.size`.
    #[error("the request's header is too long")]
    Size,
    /// The head has more lines than `limits.head.lines`.
    #[error("the request's header has too many lines")]
    Lines,
    /// The body came more slowly than `limits.body` asks for.
    #[error("the request's body took too long")]
    BodySlow,
    /// The body is longer than the route takes.
    #[error("the request's body is too long")]
    BodySize,
    /// The client took its answer more slowly than `limits.answer` asks for: nothing can be said to it any more.
    #[error("the answer was not taken in time")]
    AnswerSlow,
    /// A rule by which a request has one meaning is broken.
    #[error(transparent)]
    Rule(#[from] FramingError),
}

impl RequestRefused {
    /// The reason's name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Slow => "slow",
            Self::Incomplete => "incomplete",
            Self::Tls => "tls",
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::Method => "method",
            Self::Target => "target",
            Self::Size => "size",
            Self::Lines => "lines",
            Self::BodySlow => "body_slow",
            Self::BodySize => "body_size",
            Self::AnswerSlow => "answer_slow",
            Self::Rule(rule) => rule.as_str(),
        }
    }

    /// The status of the answer; `None` where the connection is closed without one.
    pub fn status(self) -> Option<StatusCode> {
        Some(match self {
            // Browsers connect ahead of need, and would take an answer for that of their next request.
            Self::Silent | Self::AnswerSlow => return None,
            Self::BodySize => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow | Self::BodySlow => StatusCode::REQUEST_TIMEOUT,
            Self::Incomplete | Self::Tls | Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Method => StatusCode::NOT_IMPLEMENTED,
            Self::Target => StatusCode::URI_TOO_LONG,
            Self::Size | Self::Lines => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Rule(rule) => rule.status(),
        })
    }
}
