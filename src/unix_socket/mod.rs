//! Unix sockets that only this gateway's own user and root can reach: the control socket and the handover socket.

mod client;
mod listener;
mod path;

pub use client::connect;
pub use listener::{ListenError, UnixSocketListener, prepare_folder};
pub use path::SocketPath;
