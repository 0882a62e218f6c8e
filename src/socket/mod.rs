//! Options of TCP sockets, their descriptors, and addresses as text.

pub(crate) mod address;
pub mod descriptors;
pub mod keepalive;
pub mod peer;
pub(crate) mod tcp_info;
