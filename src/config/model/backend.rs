//! Values of `backends`: addresses with a weight.

use std::borrow::Cow;
use std::net::SocketAddr;

/// One entry of `backends`: written `ADDRESS`, or `{ name: NAME, address: ADDRESS, weight: N }`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Backend {
    /// `name`: identity of the backend, unique within the upstream; its address where left out.
    pub name: Option<Box<str>>,
    /// `address`: IP and port.
    pub address: SocketAddr,
    /// `weight`: 0 to 65 535, default 1; a backend of weight 0 is draining and gets nothing new.
    pub weight: u16,
}

impl Backend {
    /// The text that the backend is known by: its name, else its address.
    pub fn identity(&self) -> Cow<'_, str> {
        self.name.as_deref().map_or_else(|| self.address.to_string().into(), Cow::Borrowed)
    }
}
