//! A tunnel's change to another backend, as hooks see it.

use http::{HeaderName, HeaderValue};

use super::error::{Error, Result};
use super::{Direction, Message, response};

/// A tunnel's change to another backend. The old one's last message has passed, and the next one has not been asked.
#[derive(Clone, Debug)]
pub struct Reattach {
    times: u32,
    loss: Loss,
    held: u64,
    headers: Vec<(HeaderName, HeaderValue)>,
    messages: Vec<(Direction, Message)>,
    bytes: usize,
    holds_client: bool,
    refused: Option<String>,
}

/// Why a tunnel's backend serves it no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// The gateway took the backend away: it was told by a Close frame, and everything that it said has passed.
    Leaving,
    /// The backend said itself that it goes, by Close 1001 or 1012.
    GoingAway,
    /// The backend ended without a Close frame, or did not answer the gateway's.
    Crash,
}

impl Loss {
    /// The value of `reason` in `Longhaul-Reattach`, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leaving => "leaving",
            Self::GoingAway => "going_away",
            Self::Crash => "crash",
        }
    }
}

impl Reattach {
    /// A tunnel's change for the `times`-th time. `held`: messages of the client's that hooks have let pass and that no
    /// backend has had.
    pub fn new(times: u32, loss: Loss, held: u64) -> Self {
        Self {
            times,
            loss,
            held,
            headers: Vec::new(),
            messages: Vec::new(),
            bytes: 0,
            holds_client: false,
            refused: None,
        }
    }

    /// Number of this change among the tunnel's: 1 for the first.
    pub fn times(&self) -> u32 {
        self.times
    }

    /// Why the backend serves the tunnel no longer.
    pub fn loss(&self) -> Loss {
        self.loss
    }

    /// Number of the client's messages that hooks have let pass and that were not sent to the old backend. The next
    /// backend gets them behind the messages that hooks [send](Self::send).
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Sets a header of the request that the next backend is asked with, in place of all of its name, and of
    /// those that differ from it by `_` in place of `-`.
    ///
    /// # Errors
    /// HTTP does not allow the name or the value, or the header is one of the handshake or one of the gateway's.
    pub fn set_header(&mut self, name: &str, value: impl AsRef<str>) -> Result<()> {
        let (name, value) = response::header(name, value.as_ref())?;
        if is_of_the_handshake(name.as_str()) {
            return Err(Error::new(format!("{name} is not a hook's to change when a tunnel is re-attached")));
        }
        self.headers.retain(|(known, _)| *known != name);
        if self.headers.len() >= MOST_HEADERS {
            return Err(Error::new(format!("more than {MOST_HEADERS} headers are set")));
        }
        self.headers.push((name, value));
        Ok(())
    }

    /// Sends a message of one's own to either side once the next backend serves the tunnel, before anything else. No
    /// hook sees it.
    ///
    /// # Errors
    /// The messages together exceed 1 MiB or 8,192.
    pub fn send(&mut self, direction: Direction, message: Message) -> Result<()> {
        let bytes = self.bytes + message.as_bytes().len();
        if bytes > MOST_BYTES || self.messages.len() >= MOST_MESSAGES {
            return Err(Error::new("more than 1 MiB, or more than 8,192 messages, are sent before all others"));
        }
        self.bytes = bytes;
        self.messages.push((direction, message));
        Ok(())
    }

    /// Holds the client's messages on when the next backend serves the tunnel, until [`Tunnel::go_on`] is called, which
    /// is when the backend has answered a greeting. After `reattach.within` the tunnel ends with Close 1012.
    ///
    /// [`Tunnel::go_on`]: super::Tunnel::go_on
    pub fn hold_client(&mut self) {
        self.holds_client = true;
    }

    /// Returns true where a hook holds the client's messages on.
    pub fn holds_client(&self) -> bool {
        self.holds_client
    }

    /// Refuses the change: no backend is asked, and the tunnel ends with Close 1012. The reason is logged.
    pub fn refuse(&mut self, reason: impl Into<String>) {
        self.refused.get_or_insert(reason.into());
    }

    /// The headers that were set.
    pub fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.headers.iter().map(|(name, value)| (name, value))
    }

    /// The messages that were sent, in order.
    pub fn messages(&self) -> &[(Direction, Message)] {
        &self.messages
    }

    /// The reason of a refusal; `None` where no hook refused.
    pub fn refusal(&self) -> Option<&str> {
        self.refused.as_deref()
    }
}

/// Returns true for a header that the next backend has to get as the first one did, or from the gateway alone.
fn is_of_the_handshake(name: &str) -> bool {
    name.starts_with("sec-websocket-")
        || name.starts_with("longhaul-")
        || matches!(name, "connection" | "host" | "upgrade")
}

/// Bound on messages, which are kept until a backend has answered.
const MOST_BYTES: usize = 1 << 20;
const MOST_MESSAGES: usize = 8_192;
const MOST_HEADERS: usize = 64;
