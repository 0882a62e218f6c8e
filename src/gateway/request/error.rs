//! Pingora's errors: whose fault they are, what a client is told of them, and their words in logs.

use pingora::{Error, ErrorSource, ErrorType};

use crate::hook::Answer;
use crate::http1::RequestRefused;
use crate::upstream::{Blame, FailedStep};

/// Error for a case that cannot be: a request without a route has been answered.
pub(super) fn no_destination() -> Box<Error> {
    Error::new(ErrorType::InternalError)
}

/// The refusal of a request behind its head: of its body, or of a client that does not take its answer.
pub(super) fn refusal(error: &Error) -> Option<RequestRefused> {
    if (error.esource(), error.etype()) == (&ErrorSource::Downstream, &ErrorType::ReadTimedout) {
        // `timeouts.read` came before `limits.body`.
        return Some(RequestRefused::BodySlow);
    }
    let cause = error.root_cause().downcast_ref::<std::io::Error>()?;
    cause.get_ref()?.downcast_ref::<RequestRefused>().copied()
}

/// Tells if nobody is left to answer.
pub(super) fn client_is_gone(error: &Error) -> bool {
    refusal(error).is_none_or(|refused| refused.status().is_none())
        && *error.esource() == ErrorSource::Downstream
        && matches!(
            error.etype(),
            ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError | ErrorType::WriteTimedout
        )
}

/// The answer that tells a client of an error.
pub(super) fn answer_to(error: &Error) -> Answer {
    use http::StatusCode;
    if let Some(answer) = refusal(error).and_then(Answer::refused) {
        return answer;
    }
    match (error.esource(), error.etype()) {
        (_, ErrorType::HTTPStatus(code)) => {
            let reason = StatusCode::from_u16(*code).ok().and_then(|status| status.canonical_reason());
            Answer::new(*code, reason.unwrap_or("error"))
        }
        (ErrorSource::Upstream, _) if is_timeout(error) => Answer::too_slow(),
        (ErrorSource::Upstream, _) => Answer::backend_failed(),
        (ErrorSource::Downstream, _) => Answer::new(400, "the request is malformed"),
        _ => Answer::gateway_failed(),
    }
}

/// Tells if a backend took too long.
pub(super) fn is_timeout(error: &Error) -> bool {
    matches!(
        error.etype(),
        ErrorType::ConnectTimedout
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout
            | ErrorType::TLSHandshakeTimedout
    )
}

/// The party that an error at this step is charged to.
pub(super) fn blame(step: FailedStep, error: &Error) -> Blame {
    match error.root_cause().downcast_ref::<std::io::Error>() {
        Some(cause) => Blame::of(step, cause),
        None => Blame::Backend(step),
    }
}

/// An error in a few words: the reason of a refusal, else its type, and what the system said.
pub(super) fn describe(error: &Error) -> String {
    if let Some(refusal) = refusal(error) {
        return refusal.as_str().to_owned();
    }
    match error.root_cause().downcast_ref::<std::io::Error>() {
        Some(cause) => format!("{}: {cause}", error.etype().as_str()),
        None => error.etype().as_str().to_owned(),
    }
}
