//! Bodies in chunks (RFC 9112 §7.1): followed as their bytes pass, with what nobody forwards taken out of them.

use super::framing::{FramingError, is_token};

/// A body in chunks, of which a part has passed.
///
/// Chunk extensions and trailers are taken out: a backend gets neither, and what no two programs read alike is no
/// chunk. So whoever reads the chunks that are left, in whichever way, reads the same body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunks {
    place: ChunkPosition,
    /// Bytes of extensions, or of trailers, since data was last seen.
    extra: usize,
    /// Bytes of data that have passed.
    data: u64,
}

/// Place in a body of chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkPosition {
    /// In the digits of a size, of which so many were read.
    Size { size: u64, digits: u8 },
    /// In blanks behind a size.
    Blank { size: u64 },
    /// In an extension of a chunk of this size.
    Extension { size: u64 },
    /// Before the line feed behind a size.
    SizeEnd { size: u64 },
    /// So many bytes before the end of a chunk's data.
    Data { left: u64 },
    /// Before the carriage return behind a chunk's data.
    DataEnd,
    /// Before the line feed behind it.
    DataFeed,
    /// At the beginning of a line behind the last chunk.
    Line,
    /// In the name of a trailer.
    Name,
    /// In its value.
    Value,
    /// Before the line feed behind it.
    ValueEnd,
    /// Before the line feed of the blank line.
    End,
    /// Behind the last byte.
    Over,
}

/// Part of some bytes that belongs to a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyPart {
    /// Bytes that belong to the body.
    pub read: usize,
    /// Bytes of them that are left, at the beginning.
    pub kept: usize,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { place: ChunkPosition::Size { size: 0, digits: 0 }, extra: 0, data: 0 }
    }
}

impl Chunks {
    /// Tells if the last byte has passed.
    pub fn is_over(&self) -> bool {
        self.place == ChunkPosition::Over
    }

    /// Bytes of the body that have passed, the framing of its chunks left out.
    pub fn data(&self) -> u64 {
        self.data
    }

    /// Follows the next bytes, and moves those that are left to the beginning of `bytes`.
    ///
    /// # Errors
    /// The chunks break a rule of RFC 9112 §7.1, or have longer extensions or trailers than anybody needs.
    pub fn follow(&mut self, bytes: &mut [u8]) -> Result<BodyPart, FramingError> {
        let (mut read, mut kept) = (0, 0);
        while read < bytes.len() && !self.is_over() {
            if let ChunkPosition::Data { left } = self.place {
                let count = (bytes.len() - read).min(usize::try_from(left).unwrap_or(usize::MAX));
                bytes.copy_within(read..read + count, kept);
                (read, kept) = (read + count, kept + count);
                self.data += count as u64;
                let left = left - count as u64;
                self.place = if left == 0 { ChunkPosition::DataEnd } else { ChunkPosition::Data { left } };
                self.extra = 0;
                continue;
            }
            let (place, is_kept) = self.place.after(bytes[read]).ok_or(FramingError::Chunk)?;
            if is_kept {
                bytes[kept] = bytes[read];
                kept += 1;
            } else {
                self.extra += 1;
            }
            if self.extra > MAX_EXTRA {
                return Err(FramingError::Chunk);
            }
            self.place = place;
            read += 1;
        }
        Ok(BodyPart { read, kept })
    }
}

impl ChunkPosition {
    /// The place behind one byte that is no data, and whether the byte is kept.
    fn after(self, byte: u8) -> Option<(Self, bool)> {
        Some(match (self, byte) {
            (Self::Size { size, digits }, _) if byte.is_ascii_hexdigit() && digits < MAX_DIGITS => {
                let digit = char::from(byte).to_digit(16)?;
                (Self::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }, true)
            }
            (Self::Size { size, digits: 1.. } | Self::Blank { size } | Self::Extension { size }, b'\r') => {
                (Self::SizeEnd { size }, true)
            }
            (Self::Size { size, digits: 1.. } | Self::Blank { size }, b' ' | b'\t') => (Self::Blank { size }, false),
            (Self::Size { size, digits: 1.. } | Self::Blank { size }, b';') => (Self::Extension { size }, false),
            (Self::Extension { .. }, _) if is_text(byte) => (self, false),
            (Self::SizeEnd { size: 0 }, b'\n') => (Self::Line, true),
            (Self::SizeEnd { size }, b'\n') => (Self::Data { left: size }, true),
            (Self::DataEnd, b'\r') => (Self::DataFeed, true),
            (Self::DataFeed, b'\n') => (Self::Size { size: 0, digits: 0 }, true),
            (Self::Line, b'\r') => (Self::End, true),
            (Self::Line | Self::Name, _) if is_token(byte) => (Self::Name, false),
            (Self::Name, b':') => (Self::Value, false),
            (Self::Value, b'\r') => (Self::ValueEnd, false),
            (Self::Value, _) if is_text(byte) => (self, false),
            (Self::ValueEnd, b'\n') => (Self::Line, false),
            (Self::End, b'\n') => (Self::Over, true),
            _ => return None,
        })
    }
}

/// Tells if a byte may stand in a field's value, or, broadly, in an extension.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7F
}

/// Digits of the longest size: it cannot overflow, as a signed number neither.
const MAX_DIGITS: u8 = 15;
/// Most bytes of the extensions of a chunk, and most of all trailers.
const MAX_EXTRA: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// The chunks that are left of a body, and its length, with the bytes in pieces of `size`.
    fn left(bytes: &[u8], size: usize) -> Result<(String, usize), FramingError> {
        let (mut chunks, mut left, mut length) = (Chunks::default(), Vec::new(), 0);
        for piece in bytes.chunks(size) {
            let mut piece = piece.to_vec();
            let taken = chunks.follow(&mut piece)?;
            left.extend_from_slice(&piece[..taken.kept]);
            length += taken.read;
        }
        if chunks.is_over() { Ok((String::from_utf8(left).unwrap(), length)) } else { Ok(("open".into(), length)) }
    }

    #[test]
    fn chunks_pass_without_their_extensions_and_trailers() {
        for (body, expected) in [
            ("0\r\n\r\n", "0\r\n\r\n"),
            ("5\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            ("A;x=\"y\"\r\n0123456789\r\n000\r\n\r\n", "A\r\n0123456789\r\n000\r\n\r\n"),
            ("1 \t; a\r\n\r\r\n0;\r\nT: u\r\nV:\r\n\r\n", "1\r\n\r\r\n0\r\n\r\n"),
        ] {
            let bytes = format!("{body}GET / HTTP/1.1\r\n\r\n");
            for size in 1..=bytes.len() {
                assert_eq!(left(bytes.as_bytes(), size), Ok((expected.to_owned(), body.len())), "{body:?} by {size}");
            }
        }
    }

    #[test]
    fn what_two_programs_could_read_in_two_ways_is_no_chunk() {
        for body in [
            "\r\n3\r\nabc\r\n",
            "\n",
            ";ext\r\nabc\r\n",
            "-3\r\n",
            "+3\r\n",
            "0x3\r\n",
            " 3\r\n",
            "3 3\r\n",
            "g\r\n",
            "3\nabc\r\n",
            "3\rabc\r\n",
            "3\r\r\n",
            "3;a\nabc\r\n",
            "3;a\0\r\n",
            "3;a\rb\r\n",
            "3\r\nabcdef\r\n",
            "3\r\nabc0\r\n\r\n",
            "3\r\nabc\n0\r\n",
            "3\r\nabc\r0\r\n",
            "1000000000000000\r\n",
            "ffffffffffffffff3\r\n",
            "0000000000000003\r\n",
            "0\r\n\n",
            "0\n\n",
            "0\r\nGET / HTTP/1.1\r\n",
            "0\r\n: x\r\n\r\n",
            "0\r\n a: x\r\n\r\n",
            "0\r\na : x\r\n\r\n",
            "0\r\na: x\n\r\n",
            "0\r\na: x\r\n b\r\n\r\n",
            "3_0\r\n",
            "3,\r\n",
            "3\u{b}\r\n",
            "\u{b}3\r\n",
            "3\0\r\n",
        ] {
            for size in [1, 2, 3, body.len()] {
                assert_eq!(left(body.as_bytes(), size), Err(FramingError::Chunk), "{body:?} by {size}");
            }
        }
    }

    #[test]
    fn extensions_and_trailers_have_a_bound() {
        let long = "x".repeat(MAX_EXTRA + 1);
        assert_eq!(left(format!("1;{long}").as_bytes(), 1000), Err(FramingError::Chunk));
        assert_eq!(left(format!("0\r\na: {long}").as_bytes(), 1000), Err(FramingError::Chunk));
        let many = format!("1;{}\r\nx\r\n", "e".repeat(1000)).repeat(20);
        assert!(left(many.as_bytes(), 4096).is_ok());
    }
}
