//! The client's messages that its backend has not been sent whole.

use crate::ws::Cursor;

/// Copy of what a client sent from the beginning of the first message on that was not written whole. Empty while
/// messages come whole and the backend takes them, as nearly always.
#[derive(Debug, Default)]
pub(in crate::tunnel) struct Tail {
    bytes: Vec<u8>,
    /// The messages were too long to be kept.
    is_lost: bool,
    /// Kept messages stand before the one under way, and may have been written since.
    has_more: bool,
}

impl Tail {
    /// A tail that another process kept; `None` where that was lost.
    pub(in crate::tunnel) fn of(bytes: Option<Vec<u8>>) -> Self {
        let is_lost = bytes.is_none();
        Self { bytes: bytes.unwrap_or_default(), is_lost, has_more: !is_lost }
    }

    /// Notes a chunk that was passed on from where `before` stood to where `after` stands. `most` bytes are kept.
    /// `all_written`: the backend's socket has taken all of it.
    pub(in crate::tunnel) fn note(
        &mut self,
        chunk: &[u8],
        before: Cursor,
        after: &Cursor,
        all_written: bool,
        most: usize,
    ) {
        if all_written && is_between(after) {
            return self.clear();
        }
        match last_between(before, chunk) {
            Some(at) if all_written => {
                self.clear();
                self.keep(&chunk[at..], most);
            }
            _ => {
                self.keep(chunk, most);
                self.has_more |= !all_written;
            }
        }
    }

    /// Forgets the messages that the backend's socket has taken whole. The stream stands at `cursor`.
    pub(in crate::tunnel) fn forget_written(&mut self, cursor: &Cursor, from: Cursor) {
        if is_between(cursor) {
            self.clear();
        } else if std::mem::take(&mut self.has_more)
            && let Some(at) = last_between(from, &self.bytes)
        {
            self.bytes.drain(..at);
        }
    }

    fn clear(&mut self) {
        if self.is_lost || !self.bytes.is_empty() {
            *self = Self::default();
        }
    }

    fn keep(&mut self, chunk: &[u8], most: usize) {
        if self.is_lost || self.bytes.len() + chunk.len() > most {
            (self.bytes, self.is_lost) = (Vec::new(), true);
        } else {
            self.bytes.extend_from_slice(chunk);
        }
    }

    /// Tells whether nothing is kept, and nothing was lost.
    pub(in crate::tunnel) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.is_lost
    }

    /// Number of bytes that are kept.
    pub(in crate::tunnel) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes that are kept; `None` where they were too many.
    pub(in crate::tunnel) fn bytes(&self) -> Option<&[u8]> {
        (!self.is_lost).then_some(&self.bytes)
    }

    /// Takes the bytes; `None` where they were too many.
    pub(in crate::tunnel) fn take(&mut self) -> Option<Vec<u8>> {
        let Self { bytes, is_lost, .. } = std::mem::take(self);
        (!is_lost).then_some(bytes)
    }
}

/// Tells whether a stream stands between two messages.
fn is_between(cursor: &Cursor) -> bool {
    cursor.at_boundary() && !cursor.in_message()
}

/// The last place between two messages in a chunk whose stream stands at `cursor` before it; `None` where there is
/// none.
fn last_between(mut cursor: Cursor, chunk: &[u8]) -> Option<usize> {
    let (mut last, mut passed) = (None, 0);
    loop {
        if is_between(&cursor) {
            last = Some(passed);
        }
        if passed == chunk.len() {
            return last;
        }
        passed += cursor.next_boundary(&chunk[passed..], &mut |_| {});
    }
}
