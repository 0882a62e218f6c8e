//! Arguments of a hook's construction.

use std::fmt;
use std::sync::Arc;

/// Name, route and predecessor of a hook that is being made.
pub struct Setup<'s, H> {
    pub(super) name: &'s str,
    pub(super) route: &'s str,
    pub(super) checking: bool,
    pub(super) previous: Option<Arc<H>>,
}

impl<H> Setup<'_, H> {
    /// The name that the hook was registered under.
    pub fn name(&self) -> &str {
        self.name
    }

    /// The route, as `host path`; empty where a hook is made without one (`check`, tests).
    pub fn route(&self) -> &str {
        self.route
    }

    /// Returns true when the hook is made for a check only, and dropped after it.
    pub fn checking(&self) -> bool {
        self.checking
    }

    /// The hook that this one takes the place of at a reload: the one of the same name and route (where a route names a
    /// hook several times, of the same place among them). State that both are to share can be taken from it. It goes on
    /// serving the requests and tunnels that began with it.
    pub fn previous(&self) -> Option<&Arc<H>> {
        self.previous.as_ref()
    }
}

/// Reason for which a hook cannot be made of its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupError {
    pub(super) field: String,
    pub(super) message: String,
}

impl SetupError {
    /// A problem of the settings as a whole.
    pub fn new(message: impl Into<String>) -> Self {
        Self { field: String::new(), message: message.into() }
    }

    /// A problem of one setting, such as `secret_file` or `limits.messages`.
    pub fn at(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for SetupError {}
