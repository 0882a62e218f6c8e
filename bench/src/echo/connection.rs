//! One connection of the backend: reads requests and frames, writes answers.

use std::io::{ErrorKind, Read, Write};
use std::time::Instant;

use mio::net::TcpStream;

use super::door::Door;
use crate::ws;

/// Shared by all connections: a buffer to read into, one to write from, and the answers.
pub(super) struct Scratch {
    input: Vec<u8>,
    output: Vec<u8>,
    answer: Vec<u8>,
    switching: Vec<u8>,
    /// Place of the connection at work.
    at: usize,
    /// Handshakes wait here for their turn; `None`: they are taken at once.
    door: Option<Door>,
}

impl Scratch {
    pub(super) fn door(&mut self) -> Option<&mut Door> {
        self.door.as_mut()
    }

    pub(super) fn new(name: &str, door: Option<Door>) -> Self {
        let body = format!("backend {name} {:.<80}\n", "");
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Backend: {name}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let switching = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Backend: {name}\r\n\
             Sec-WebSocket-Accept: "
        );
        let (answer, switching) = (answer.into_bytes(), switching.into_bytes());
        let (input, output) = (vec![0; 256 * 1024], Vec::with_capacity(512 * 1024));
        Self { input, output, answer, switching, at: 0, door }
    }
}

pub(super) struct Connection {
    stream: TcpStream,
    serial: u64,
    stage: Stage,
    /// Bytes that the peer has not taken yet. Nothing is read until they are gone, so one read bounds them.
    kept: Vec<u8>,
    /// True when nothing more is read and the connection ends as soon as `kept` is empty.
    ending: bool,
}

enum Stage {
    /// The bytes of a request's header so far.
    Http(Vec<u8>),
    /// The answer, for when it is this handshake's turn.
    Waiting(Vec<u8>),
    /// The bytes of a frame's header so far.
    Header {
        bytes: [u8; 14],
        length: usize,
    },
    Payload {
        left: u64,
        mask: [u8; 4],
        is_close: bool,
    },
}

const NEXT_FRAME: Stage = Stage::Header { bytes: [0; 14], length: 0 };
/// The answer of a backend at whose door too many wait.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
/// The longest request header of the generator.
const MAX_HEAD: usize = 16 * 1024;

impl Connection {
    pub(super) fn new(stream: TcpStream, serial: u64) -> Self {
        Self { stream, serial, stage: Stage::Http(Vec::new()), kept: Vec::new(), ending: false }
    }

    /// Number of the connection among all.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    /// Answers the handshake, whose turn it is. False when the connection has ended.
    pub(super) fn let_in(&mut self, scratch: &mut Scratch) -> bool {
        let Stage::Waiting(answer) = std::mem::replace(&mut self.stage, NEXT_FRAME) else { return true };
        self.write(&answer) && self.drive(scratch.at, scratch)
    }

    /// Reads and answers everything that has come. False when the connection, which is the one at `at`, has ended.
    pub(super) fn drive(&mut self, at: usize, scratch: &mut Scratch) -> bool {
        scratch.at = at;
        loop {
            if !self.kept.is_empty() {
                let kept = std::mem::take(&mut self.kept);
                if !self.write(&kept) {
                    return false;
                }
                if !self.kept.is_empty() {
                    return true;
                }
            }
            if self.ending {
                return false;
            }
            let length = match self.stream.read(&mut scratch.input) {
                Ok(0) => return false,
                Ok(length) => length,
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            };
            let mut input = std::mem::take(&mut scratch.input);
            scratch.output.clear();
            let sane = self.take(&mut input[..length], scratch);
            let is_empty = length < input.len();
            scratch.input = input;
            if !sane || !self.write(&scratch.output) {
                return false;
            }
            // A short read: the socket is empty, and more (or its end) raises another event.
            if is_empty && self.kept.is_empty() && !self.ending {
                return true;
            }
        }
    }

    /// Parses and answers `input`. False when it is malformed.
    fn take(&mut self, mut input: &mut [u8], scratch: &mut Scratch) -> bool {
        while !input.is_empty() && !self.ending {
            let taken = match &mut self.stage {
                Stage::Http(_) => match self.request(input, scratch) {
                    Some(taken) => taken,
                    None => return false,
                },
                // Nobody speaks before the 101.
                Stage::Waiting(_) => return false,
                Stage::Header { .. } => self.header(input, &mut scratch.output),
                Stage::Payload { .. } => self.payload(input, &mut scratch.output),
            };
            input = &mut input[taken..];
        }
        true
    }

    fn request(&mut self, input: &[u8], scratch: &mut Scratch) -> Option<usize> {
        let Stage::Http(begun) = &mut self.stage else { return None };
        let before = begun.len();
        // A request usually comes in one piece. Only an incomplete one is kept.
        let mut whole = std::mem::take(begun);
        let head: &[u8] = if before == 0 {
            input
        } else {
            whole.extend_from_slice(input);
            &whole
        };
        let mut headers = [httparse::EMPTY_HEADER; 48];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(head) {
            Ok(httparse::Status::Complete(length)) => {
                let key = request.headers.iter().find(|h| h.name.eq_ignore_ascii_case("sec-websocket-key"));
                if let Some(key) = key {
                    let begun = scratch.output.len();
                    scratch.output.extend_from_slice(&scratch.switching);
                    if key.value == ws::KEY.as_bytes() {
                        scratch.output.extend_from_slice(ws::ACCEPT.as_bytes());
                    } else {
                        scratch.output.extend_from_slice(ws::accept(key.value).as_bytes());
                    }
                    scratch.output.extend_from_slice(b"\r\n\r\n");
                    self.stage = NEXT_FRAME;
                    if let Some(door) = &mut scratch.door {
                        let answer = scratch.output.split_off(begun);
                        if door.come((scratch.at, self.serial), Instant::now()) {
                            self.stage = Stage::Waiting(answer);
                        } else {
                            scratch.output.extend_from_slice(FULL);
                            self.ending = true;
                        }
                    }
                } else {
                    scratch.output.extend_from_slice(&scratch.answer);
                    self.stage = Stage::Http(Vec::new());
                }
                Some(length - before)
            }
            Ok(httparse::Status::Partial) if head.len() < MAX_HEAD => {
                self.stage = Stage::Http(head.to_vec());
                Some(input.len())
            }
            _ => None,
        }
    }

    fn header(&mut self, input: &[u8], output: &mut Vec<u8>) -> usize {
        let Stage::Header { bytes, length } = &mut self.stage else { return 0 };
        let mut taken = 0;
        // Two bytes give the length of the header: 2, 4 or 10, and 4 of mask (clients always mask).
        while taken < input.len() {
            bytes[*length] = input[taken];
            *length += 1;
            taken += 1;
            let extended = match bytes[1] & 0x7f {
                126 => 2,
                127 => 8,
                _ => 0,
            };
            if *length < 2 || *length < 6 + extended {
                continue;
            }
            let left = match extended {
                0 => u64::from(bytes[1] & 0x7f),
                _ => bytes[2..2 + extended].iter().fold(0, |left, byte| left << 8 | u64::from(*byte)),
            };
            let opcode = bytes[0] & 0x0f;
            let is_close = opcode == 8;
            // A Ping is answered with a Pong, everything else with itself.
            output.push(if opcode == 9 { bytes[0] + 1 } else { bytes[0] });
            output.push(bytes[1] & 0x7f);
            output.extend_from_slice(&bytes[2..2 + extended]);
            let mask = [bytes[2 + extended], bytes[3 + extended], bytes[4 + extended], bytes[5 + extended]];
            self.stage = if left > 0 { Stage::Payload { left, mask, is_close } } else { NEXT_FRAME };
            self.ending |= is_close && left == 0;
            break;
        }
        taken
    }

    fn payload(&mut self, input: &mut [u8], output: &mut Vec<u8>) -> usize {
        let Stage::Payload { left, mask, is_close } = &mut self.stage else { return 0 };
        let taken = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        let part = &mut input[..taken];
        let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
        let mut chunks = part.chunks_exact_mut(8);
        for chunk in &mut chunks {
            let word = u64::from_ne_bytes(chunk.try_into().expect("a chunk of eight has eight bytes"));
            chunk.copy_from_slice(&(word ^ wide).to_ne_bytes());
        }
        for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        output.extend_from_slice(part);
        mask.rotate_left(taken % 4);
        *left -= taken as u64;
        if *left == 0 {
            self.ending |= *is_close;
            self.stage = NEXT_FRAME;
        }
        taken
    }

    /// Writes as much as the socket takes, and keeps the rest. False when the connection has failed.
    fn write(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.kept = bytes.to_vec();
                    return true;
                }
                Err(_) => return false,
            }
        }
        true
    }
}
