//! An open tunnel of the generator. It sends messages, and awaits their echoes in order.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::time::Instant;

use super::stream::Stream;
use crate::ws::Message;

/// A tunnel, and what is under way on it.
pub(super) struct Tunnel {
    stream: Stream,
    /// The moment at which each unanswered message was sent, or should have been sent. Its length is bounded by the
    /// caller of `offer`.
    awaited: VecDeque<Instant>,
    /// Number of messages that are not written completely; of the first one, `sent` bytes are.
    unsent: usize,
    sent: usize,
    /// Bytes of the current answer that came.
    received: usize,
}

/// The tunnel is of no use any more: closed, failed, or its answers are wrong.
#[derive(Debug)]
pub(super) struct Lost;

impl Tunnel {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, awaited: VecDeque::new(), unsent: 0, sent: 0, received: 0 }
    }

    pub(super) fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Messages without an answer.
    pub(super) fn under_way(&self) -> usize {
        self.awaited.len()
    }

    /// Sends a message, now or as soon as the socket takes it; `at` is the moment its latency counts from.
    pub(super) fn offer(&mut self, message: &Message, at: Instant) -> Result<(), Lost> {
        self.awaited.push_back(at);
        self.unsent += 1;
        if self.unsent == 1 { self.flush(message) } else { Ok(()) }
    }

    pub(super) fn flush(&mut self, message: &Message) -> Result<(), Lost> {
        while self.unsent > 0 {
            match self.stream.write(&message.frame[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Lost),
            }
            if self.sent == message.frame.len() {
                self.sent = 0;
                self.unsent -= 1;
            }
        }
        Ok(())
    }

    /// Reads the bytes that have come. Calls `answered` for every complete answer, with the moment from which the
    /// latency of its message counts.
    pub(super) fn receive(
        &mut self,
        message: &Message,
        scratch: &mut [u8],
        mut answered: impl FnMut(Instant),
    ) -> Result<(), Lost> {
        loop {
            let length = match self.stream.read(scratch) {
                Ok(0) => return Err(Lost),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Lost),
            };
            let mut input = &scratch[..length];
            while !input.is_empty() {
                let part = input.len().min(message.answer.len() - self.received);
                if self.awaited.is_empty() || input[..part] != message.answer[self.received..self.received + part] {
                    return Err(Lost);
                }
                self.received += part;
                input = &input[part..];
                if self.received == message.answer.len() {
                    self.received = 0;
                    if let Some(at) = self.awaited.pop_front() {
                        answered(at);
                    }
                }
            }
            // A short read: the socket is empty, and more (or its end) raises another event.
            if length < scratch.len() {
                return Ok(());
            }
        }
    }
}
