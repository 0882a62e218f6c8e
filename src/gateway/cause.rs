//! Causes of refusals before a route is looked for.

use crate::admission::RefusalReason;
use crate::hook::Answer;
use crate::http1::{FramingError, RequestRefused};

/// Why a request, or a connection without one, is refused before a route is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RefusalCause {
    /// The head of the request is refused.
    #[error(transparent)]
    Head(#[from] RequestRefused),
    /// Admission refuses it. That was counted when it was decided.
    #[error(transparent)]
    Admission(#[from] RefusalReason),
}

impl RefusalCause {
    /// The reason's name in metrics and logs.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Head(refused) => refused.as_str(),
            Self::Admission(reason) => reason.as_str(),
        }
    }

    /// The answer to give; `None` where the connection is closed without one.
    pub(super) fn answer(self) -> Option<Answer> {
        match self {
            Self::Head(refused) => {
                let answer = Answer::new(refused.status()?.as_u16(), refused.to_string());
                let is_connect = refused == RequestRefused::Rule(FramingError::Connect);
                Some(if is_connect { answer.header("allow", METHODS) } else { answer })
            }
            Self::Admission(reason) => Some(Answer::not_admitted(reason)),
        }
    }
}

/// Value of `Allow` (RFC 9110 §15.5.6).
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
