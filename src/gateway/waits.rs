//! The way in which a request waits: for its turn at a backend, or for one that is away.

use std::io;
use std::task::{Context, Poll, Waker};

use tokio::net::TcpStream;

use crate::dial::{Dial, OnTokio, Tcp};
use crate::socket::peer;

/// The way in which a driver waits.
pub(super) trait Waits: Dial {
    /// Wakes the request that is being polled.
    fn waker(&self, cx: &Context<'_>) -> Waker;

    /// True where the request waits for its own backend while that is away (`absent`).
    fn waits_for_its_own(&self) -> bool {
        true
    }

    /// Ready once the client has closed its side: it waits no longer.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// A request on a Tokio runtime, of a client behind Pingora's session.
pub(super) struct Behind<'s> {
    /// The client's connection, whose end is noticed while it waits; `None` where no worker accepted it.
    pub(super) client: Option<&'s TcpStream>,
}

impl Dial for Behind<'_> {
    type Stream = Tcp;

    fn stream(&self, socket: std::net::TcpStream) -> io::Result<Tcp> {
        OnTokio.stream(socket)
    }
}

impl Waits for Behind<'_> {
    fn waker(&self, cx: &Context<'_>) -> Waker {
        cx.waker().clone()
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.client {
            // Bytes that it sent ahead stay unread, and keep the connection ready: only its end counts.
            Some(client) if client.poll_read_ready(cx).is_ready() && peer::has_closed(client) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }
}
