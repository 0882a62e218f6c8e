//! A pair of ends in memory that behave as sockets under an edge-triggered poller, and the frames to send through them.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::TunnelLimits;
use crate::metrics::{Metrics, UpstreamMetrics};
use crate::tunnel::pair::end::{End, Read};
use crate::tunnel::pair::{Checked, Driven, Pair, Readiness};
use crate::ws::Side;

/// One end: what arrived and was not read, and what was written and taken.
#[derive(Default)]
pub(super) struct Memory {
    arrived: VecDeque<u8>,
    ended: bool,
    broken: bool,
    /// Bytes it takes before it has no room left.
    room: usize,
    pub(super) taken: Vec<u8>,
    /// The tunnel told it that nothing more comes.
    pub(super) shut: bool,
    /// Its latest bytes wait for others, or for the end.
    waits: bool,
    /// Some did.
    pub(super) waited: bool,
}

impl End for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Read> {
        let count = buffer.len().min(self.arrived.len());
        for (place, byte) in buffer.iter_mut().zip(self.arrived.drain(..count)) {
            *place = byte;
        }
        match count {
            0 if self.broken => Err(io::ErrorKind::ConnectionReset.into()),
            0 if !self.ended => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(Read { count, empties: count < buffer.len() }),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.broken || self.shut {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(self.room);
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.room -= count;
        self.taken.extend_from_slice(&bytes[..count]);
        self.waits = false;
        Ok(count)
    }

    fn write_more(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.write(bytes)?;
        (self.waits, self.waited) = (true, true);
        Ok(count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        (self.shut, self.waits) = (true, false);
        Ok(())
    }

    fn was_stalled(&self, error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::TimedOut
    }
}

impl Memory {
    /// Sets the room that it has, before anybody is told.
    pub(super) fn room_now(&mut self, bytes: usize) {
        self.room = bytes;
    }

    /// Adds bytes that arrived, before anybody is told.
    pub(super) fn arrived_too(&mut self, bytes: &[u8]) {
        self.arrived.extend(bytes);
    }

    /// Ends its stream, before anybody is told.
    pub(super) fn hang_up(&mut self) {
        self.ended = true;
    }
}

/// A pair, its clock, and what a worker would do with both.
pub(super) struct Rig {
    pub(super) pair: Pair<Memory>,
    pub(super) counters: Arc<UpstreamMetrics>,
    pub(super) now: Instant,
    /// Moment from which moments of rates are counted.
    pub(super) begun: Instant,
    pub(super) ended: bool,
    /// Turns that it had.
    pub(super) turns: usize,
    scratch: Vec<u8>,
}

impl Rig {
    /// A tunnel whose ends take everything.
    pub(super) fn new(limits: TunnelLimits) -> Self {
        Self::with(limits, 0.0, 1024)
    }

    /// A tunnel with a jitter of its `max_age`, whose worker reads `scratch` bytes at once.
    pub(super) fn with(limits: TunnelLimits, jitter: f64, scratch: usize) -> Self {
        let now = Instant::now();
        let end = || Memory { room: usize::MAX, ..Memory::default() };
        Self {
            pair: Pair::new(end(), end(), limits, jitter, now),
            counters: Metrics::new().upstream("u"),
            now,
            begun: now,
            ended: false,
            turns: 0,
            scratch: vec![0; scratch],
        }
    }

    pub(super) fn end(&mut self, side: Side) -> &mut Memory {
        self.pair.stream_mut(side)
    }

    /// Bytes come from `side`.
    pub(super) fn send(&mut self, side: Side, bytes: &[u8]) {
        self.end(side).arrived.extend(bytes);
        self.tell(side, Readiness { readable: true, ..Readiness::default() });
    }

    /// `side` ends its stream, and still reads.
    pub(super) fn fin(&mut self, side: Side) {
        self.end(side).ended = true;
        self.tell(side, Readiness { readable: true, hung_up: true, ..Readiness::default() });
    }

    /// `side` resets the connection.
    pub(super) fn reset(&mut self, side: Side) {
        self.end(side).broken = true;
        self.tell(side, Readiness { readable: true, writable: true, hung_up: true });
    }

    /// `side` has room for so many bytes from now on.
    pub(super) fn room(&mut self, side: Side, bytes: usize) {
        let was_full = std::mem::replace(&mut self.end(side).room, bytes) == 0;
        self.tell(side, Readiness { writable: was_full && bytes > 0, ..Readiness::default() });
    }

    /// The tunnel goes on in another process, which is reached after `gap`: its state as text, its ends as they are,
    /// and a poller that says anew what is ready.
    pub(super) fn cross(&mut self, gap: Duration) {
        let text = serde_json::to_string(&self.pair.state(self.now)).unwrap();
        let [client, backend] = Side::ALL.map(|side| std::mem::take(self.end(side)));
        self.now += gap;
        self.pair = Pair::resume(client, backend, serde_json::from_str(&text).unwrap(), Duration::ZERO, self.now);
        self.tell_anew();
    }

    /// A poller that the ends are registered with anew says what is ready.
    pub(super) fn tell_anew(&mut self) {
        for side in Side::ALL {
            let end = self.end(side);
            let (ended, broken) = (end.ended, end.broken);
            let readable = !end.arrived.is_empty() || ended || broken;
            self.pair.note(side, Readiness { readable, writable: true, hung_up: ended || broken });
        }
        self.drive();
    }

    fn tell(&mut self, side: Side, readiness: Readiness) {
        if !self.ended {
            self.pair.note(side, readiness);
            self.drive();
        }
    }

    /// Drives the pair for as long as it has something to do.
    pub(super) fn drive(&mut self) {
        for _ in 0..TURNS {
            self.turns += 1;
            match self.pair.drive(&mut self.scratch, self.now, &self.counters, None) {
                Driven::More => {}
                Driven::PutOff => unreachable!("there is no outbox"),
                Driven::Waiting => return self.assert_nothing_waits(),
                Driven::Asks => panic!("nothing is kept for another backend"),
                Driven::Ended => {
                    self.ended = true;
                    return;
                }
            }
        }
        panic!("the pair always finds something to do: a worker would spin");
    }

    /// Fails when bytes wait for others, or an end, that do not come.
    fn assert_nothing_waits(&mut self) {
        for side in Side::ALL {
            // What is kept behind it takes it along.
            let goes_on =
                self.kept_for(side) > 0 || self.end(side).broken || self.pair.flows[side.other()].is_amid_frame();
            assert!(goes_on || !self.end(side).waits, "bytes for {side:?} wait for nothing");
        }
    }

    /// Time passes, and the worker looks at the clock as often as the pair asks it to.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..TURNS {
            let Some(due) = self.pair.due().filter(|due| *due <= until && !self.ended) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(due);
            match self.pair.check(self.now) {
                Checked::Fine => {}
                Checked::Changed => self.drive(),
                Checked::Expired => self.ended = true,
            }
        }
        panic!("the pair is always due: a worker would spin");
    }

    /// Bytes that `side` was sent since this was last asked.
    pub(super) fn taken(&mut self, side: Side) -> Vec<u8> {
        std::mem::take(&mut self.end(side).taken)
    }

    /// The same as whole frames.
    pub(super) fn frames(&mut self, side: Side) -> Vec<Frame> {
        frames(&self.taken(side))
    }

    /// The bytes that wait for `side` to take them.
    pub(super) fn kept_for(&self, side: Side) -> usize {
        self.pair.flows[side.other()].kept().len()
    }

    /// Why it ended, and with which code.
    pub(super) fn outcome(&self) -> (&'static str, u16) {
        assert!(self.ended, "the tunnel is still open");
        (self.pair.reason().as_str(), self.pair.close_code())
    }
}

/// A frame as its receiver sees it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) first: u8,
    pub(super) masked: bool,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// The frame that bytes begin with, and what follows it.
    fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let [first, second, rest @ ..] = bytes else { return None };
        let (length, rest) = match second & 0x7F {
            126 => rest.split_first_chunk().map(|(length, rest)| (u64::from(u16::from_be_bytes(*length)), rest))?,
            127 => rest.split_first_chunk().map(|(length, rest)| (u64::from_be_bytes(*length), rest))?,
            short => (u64::from(short), rest),
        };
        let masked = second & 0x80 != 0;
        let (key, rest) = if masked { rest.split_first_chunk()? } else { (&[0; 4], rest) };
        let (payload, rest) = rest.split_at_checked(usize::try_from(length).unwrap())?;
        let payload = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        Some((Self { first: *first, masked, payload }, rest))
    }

    /// A Close frame: masked towards a backend, and with nothing but a code and a word.
    pub(super) fn close_to(side: Side, code: u16, word: &str) -> Self {
        let payload = [&code.to_be_bytes(), word.as_bytes()].concat();
        Self { first: 0x88, masked: side == Side::Backend, payload }
    }

    /// The gateway's Ping.
    pub(super) fn ping_to(side: Side) -> Self {
        Self { first: 0x89, masked: side == Side::Backend, payload: b"longhaul".to_vec() }
    }
}

/// Takes bytes apart into frames; they must be whole.
pub(super) fn frames(bytes: &[u8]) -> Vec<Frame> {
    let (frames, rest) = begun_frames(bytes);
    assert!(rest.is_empty(), "the stream ends inside a frame");
    frames
}

/// Takes bytes apart into frames and the beginning of one more.
pub(super) fn begun_frames(mut bytes: &[u8]) -> (Vec<Frame>, &[u8]) {
    let mut frames = Vec::new();
    while let Some((frame, rest)) = Frame::parse(bytes) {
        frames.push(frame);
        bytes = rest;
    }
    (frames, bytes)
}

/// A frame as `side` sends it.
pub(super) fn frame_from(side: Side, first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    let bit = if side == Side::Client { 0x80 } else { 0 };
    match payload.len() {
        length @ 0..=125 => frame.push(bit | u8::try_from(length).unwrap()),
        length @ 126..=65_535 => {
            frame.push(bit | 126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            frame.push(bit | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    if side == Side::Client {
        frame.extend([1, 2, 3, 4]);
        frame.extend(payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        frame.extend(payload);
    }
    frame
}

/// A whole binary message as `side` sends it.
pub(super) fn binary(side: Side, payload: &[u8]) -> Vec<u8> {
    frame_from(side, 0x82, payload)
}

/// A Close frame as `side` sends it.
pub(super) fn close(side: Side, code: u16) -> Vec<u8> {
    frame_from(side, 0x88, &code.to_be_bytes())
}

/// Both sides answer the gateway's Close frame.
pub(super) fn answer(rig: &mut Rig, code: u16) {
    for side in Side::ALL {
        rig.send(side, &close(side, code));
    }
}

/// Limits that are all off.
pub(super) fn none() -> TunnelLimits {
    TunnelLimits { idle: None, max_age: None, ping: None, max_message: None, tcp_user_timeout: None, stall: None }
}

pub(super) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// More turns than any test needs: whoever takes as many never rests.
const TURNS: usize = 100_000;
