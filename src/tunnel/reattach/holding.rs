//! Bytes of a client that wait for its next backend.

use crate::ws::{Cursor, FrameEvent, Side, frame};

/// Frames of a client in their order, from the beginning of a message on. Pings are taken out, to be answered by the
/// gateway, and Pongs are dropped.
#[derive(Debug)]
pub(in crate::tunnel) struct Holding {
    cursor: Cursor,
    bytes: Vec<u8>,
    /// The part of a control frame that has come.
    control: Vec<u8>,
    in_control: bool,
    /// The rest of the message under way is dropped, because its beginning is lost.
    skips: bool,
}

impl Holding {
    /// Holds bytes from where `cursor` stands on, behind those of `before`. `None` drops the message under way, because
    /// its beginning is lost.
    pub(in crate::tunnel) fn new(cursor: Cursor, before: Option<Vec<u8>>) -> Self {
        let skips = before.is_none() && (cursor.in_message() || !cursor.at_boundary());
        Self { cursor, bytes: before.unwrap_or_default(), control: Vec::new(), in_control: false, skips }
    }

    /// Puts bytes in front of those that are held.
    pub(in crate::tunnel) fn put_before(&mut self, mut bytes: Vec<u8>) {
        bytes.append(&mut self.bytes);
        self.bytes = bytes;
    }

    /// Holds a chunk; returns the payload of the last Ping that ended in it.
    pub(in crate::tunnel) fn take(&mut self, chunk: &[u8]) -> Option<Vec<u8>> {
        let mut pinged = None;
        let mut rest = chunk;
        while let Some(first) = rest.first() {
            if self.cursor.at_boundary() {
                self.in_control = Cursor::is_control(*first) && !self.cursor.is_lost();
            }
            let mut ended = None;
            let step = self.cursor.next_boundary(rest, &mut |event| ended = Some(event));
            let (part, after) = rest.split_at(step);
            rest = after;
            if self.in_control {
                self.control.extend_from_slice(part);
                if self.cursor.at_boundary() || self.cursor.is_lost() {
                    pinged = self.end_control(ended).or(pinged);
                }
            } else if !self.skips {
                self.bytes.extend_from_slice(part);
            } else if self.cursor.at_boundary() && !self.cursor.in_message() {
                self.skips = false;
            }
        }
        pinged
    }

    /// Deals with a control frame that has come whole; returns the payload of a Ping.
    fn end_control(&mut self, ended: Option<FrameEvent>) -> Option<Vec<u8>> {
        self.in_control = false;
        let control = std::mem::take(&mut self.control);
        match ended {
            Some(FrameEvent::Ping) => return frame::control_payload(&control).ok().flatten(),
            Some(FrameEvent::Pong) => {}
            // The next backend is to see a Close frame, and a control frame that is malformed.
            _ => self.bytes.extend_from_slice(&control),
        }
        None
    }

    /// Tells whether the rest of a message is yet to come that is dropped.
    pub(in crate::tunnel) fn skips(&self) -> bool {
        self.skips
    }

    /// Number of messages that are held; one under way counts.
    pub(in crate::tunnel) fn messages(&self) -> u64 {
        let (mut cursor, mut ended) = (Cursor::new(Side::Client), 0);
        cursor.advance(&self.bytes, &mut |event| ended += u64::from(matches!(event, FrameEvent::MessageEnded { .. })));
        ended + u64::from(cursor.in_message() || !cursor.at_boundary())
    }

    /// Bytes that are held.
    pub(in crate::tunnel) fn len(&self) -> usize {
        self.bytes.len() + self.control.len()
    }

    /// Place of the client's stream.
    pub(in crate::tunnel) fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// The bytes for the next backend. A message may still be under way.
    pub(in crate::tunnel) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.append(&mut self.control);
        self.bytes
    }
}

#[cfg(test)]
mod tests;
