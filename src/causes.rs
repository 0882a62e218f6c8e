//! Errors with their causes, as text.

/// The text of an error, and of everything that caused it. reqwest's own text stops at "error sending request".
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
