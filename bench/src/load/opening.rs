//! A tunnel that is being opened: connect, ask, read the 101.

use std::io::{ErrorKind, Read, Write};

use super::stream::Stream;
use crate::ws;

/// A connection on its way to become a tunnel.
pub(super) struct Opening {
    stream: Stream,
    sent: usize,
    head: Vec<u8>,
}

/// Progress of an opening.
pub(super) enum Progress {
    /// Another event is needed.
    Waiting(Opening),
    /// The 101 is there, and nothing after it was read.
    Open(Stream),
    /// The connection was refused or closed, or the answer was another one.
    Failed,
}

impl Opening {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, sent: 0, head: Vec::new() }
    }

    pub(super) fn drive(mut self, request: &[u8]) -> Progress {
        while self.sent < request.len() {
            match self.stream.write(&request[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Progress::Waiting(self);
                }
                Err(_) => return Progress::Failed,
            }
        }
        let mut chunk = [0; 2048];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Progress::Failed,
                Ok(length) => self.head.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Waiting(self),
                Err(_) => return Progress::Failed,
            }
            // The echo is silent until it is spoken to, so the header ends what was read.
            if self.head.ends_with(b"\r\n\r\n") {
                return if ws::accepts(&self.head) { Progress::Open(self.stream) } else { Progress::Failed };
            }
            if self.head.len() > 16 * 1024 {
                return Progress::Failed;
            }
        }
    }
}
