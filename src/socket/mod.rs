//! Options of TCP sockets, and addresses as text.

pub(crate) mod address;
pub mod keepalive;
