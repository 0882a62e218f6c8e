//! Reads the head of a request within its limits, on workers and on runtimes alike.

use std::future::Future;
use std::io;
use std::time::{Duration, Instant};

use http::header::{EXPECT, UPGRADE};

use crate::config::{HeadLimits, KeepAlive, Limits};
use crate::dial::{self, Transport};
use crate::http1::framing::{self, Body, Encoded, Framing};
use crate::http1::{HeadBounds, HeadReading, HeaderFields, RequestHead, RequestRefused, reading};
use crate::snapshot::Running;
use crate::tunnel::UnderWay;

/// A connection that heads come from.
pub(super) trait HeadSource {
    /// Adds bytes that have come to `bytes`, and returns their number; 0 is the end of the stream. Where none have
    /// come, waits for them.
    ///
    /// # Errors
    /// `TimedOut` when the moment has come, `Interrupted` when the head is to be read elsewhere, and every error of the
    /// connection.
    fn fill(&mut self, bytes: &mut Vec<u8>, wait: HeadWait) -> impl Future<Output = io::Result<usize>>;
}

/// Wait for bytes of a head.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadWait {
    /// The moment at which it ends.
    pub(super) until: Instant,
    /// The client is between two requests: no byte of the next one has come. Its connection may be closed, which every
    /// client of kept connections is prepared for (RFC 9112 §9.5).
    pub(super) is_between: bool,
}

impl<T: Transport> HeadSource for T {
    async fn fill(&mut self, bytes: &mut Vec<u8>, wait: HeadWait) -> io::Result<usize> {
        dial::read(self, bytes, wait.until).await
    }
}

/// State of reading a head on one connection. It can be taken to another thread with the bytes that were read.
#[derive(Debug)]
pub(super) struct HeadReader {
    reading: HeadReading,
    limits: HeadLimits,
    keep_alive: KeepAlive,
    /// Moment by which the head has to be whole; `None` before its first byte on a kept connection.
    until: Option<Instant>,
    /// This is the first request of the connection.
    is_first: bool,
    /// Counts the request as under way from the first byte that its head waits for more behind.
    under_way: Option<UnderWay>,
}

/// A head that was read, checked, and made unambiguous.
#[derive(Clone, Debug)]
pub(super) struct CheckedHead {
    /// Its length, the blank line included.
    pub(super) length: usize,
    /// The body behind it.
    pub(super) body: Body,
    /// True when it asks to switch protocols: bytes behind it may be no request.
    pub(super) may_switch: bool,
    /// True when the client may wait for a 100 before it sends the body (RFC 9110 §10.1.1).
    pub(super) expects: bool,
    /// The target, where Pingora reads it encoded.
    pub(super) encoded: Option<Box<Encoded>>,
}

impl CheckedHead {
    /// A head that stays as it came.
    pub(super) fn of(head: &RequestHead<'_>, body: Body) -> Self {
        let (may_switch, expects) = (head.lines.has(&UPGRADE), head.lines.has(&EXPECT));
        Self { length: head.length, body, may_switch, expects, encoded: None }
    }
}

/// Why no head was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHead {
    /// The head is refused. The client is answered where that is possible, and counted.
    Refused(RequestRefused),
    /// The client has left, or a kept connection is not used any more.
    Gone,
    /// The head is to be read elsewhere.
    Elsewhere,
}

impl HeadReader {
    /// Reads the first head of a connection that was accepted at `now`.
    pub(super) fn first(limits: Limits, now: Instant) -> Self {
        Self { until: Some(now + limits.head.time), is_first: true, ..Self::next(limits) }
    }

    /// Reads the head of a client that is refused in any case. The head has little time and little room: it is read
    /// only so that the client can be answered.
    pub(super) fn to_be_refused(mut limits: Limits, now: Instant) -> Self {
        let head = &mut limits.head;
        head.time = head.time.min(TO_BE_REFUSED);
        (head.size, head.target) = (head.size.min(ENOUGH), head.target.min(ENOUGH));
        Self::first(limits, now)
    }

    /// Reads a head behind the first one.
    pub(super) fn next(limits: Limits) -> Self {
        let Limits { head, keep_alive, .. } = limits;
        let reading = HeadReading::default();
        Self { reading, limits: head, keep_alive, until: None, is_first: false, under_way: None }
    }

    /// Bounds of the head.
    pub(super) fn bounds(&self) -> HeadBounds {
        let head = &self.limits;
        HeadBounds { bytes: head.size, lines: head.lines, target: head.target }
    }

    /// Reads until `bytes` begin with a whole head.
    ///
    /// Where there is a gateway to count them, bytes of a head that is not whole are counted as kept, and its request
    /// as under way: a process that ends waits for it.
    pub(super) async fn read(
        &mut self,
        source: &mut impl HeadSource,
        bytes: &mut Vec<u8>,
        counts: Option<&Running>,
    ) -> Result<(), NoHead> {
        let bounds = self.bounds();
        let mut kept = None;
        while !self.reading.is_complete(bytes, &bounds).map_err(NoHead::Refused)? {
            let has_begun = self.reading.has_begun(bytes);
            let until = self.wait_until(has_begun);
            if let Some(running) = counts.filter(|_| has_begun) {
                kept.get_or_insert_with(|| running.admission.keep()).set(bytes.capacity());
                self.under_way.get_or_insert_with(|| running.request());
            }
            match source.fill(bytes, HeadWait { until, is_between: !has_begun && !self.is_first }).await {
                Ok(0) if has_begun => return Err(NoHead::Refused(RequestRefused::Incomplete)),
                Ok(0) => return Err(NoHead::Gone),
                Ok(_) => {}
                Err(error) => return Err(self.failed(error.kind(), has_begun)),
            }
        }
        Ok(())
    }

    /// The moment until which more bytes are waited for.
    fn wait_until(&mut self, has_begun: bool) -> Instant {
        match self.until {
            Some(until) => until,
            None if has_begun => *self.until.insert(Instant::now() + self.limits.time),
            None => Instant::now() + self.keep_alive.idle.unwrap_or(FOREVER),
        }
    }

    /// Takes the guard that counts the request as under way, for whoever goes on with it.
    pub(super) fn take_under_way(&mut self) -> Option<UnderWay> {
        self.under_way.take()
    }

    fn failed(&self, kind: io::ErrorKind, has_begun: bool) -> NoHead {
        match kind {
            io::ErrorKind::Interrupted => NoHead::Elsewhere,
            io::ErrorKind::TimedOut if has_begun => NoHead::Refused(RequestRefused::Slow),
            io::ErrorKind::TimedOut if self.is_first => NoHead::Refused(RequestRefused::Silent),
            _ => NoHead::Gone,
        }
    }
}

/// Reads the whole head that `bytes` begin with, and decides what it means.
///
/// # Errors
/// The head is out of bounds, or could be read in two ways.
pub(super) fn examine<'b>(bytes: &'b [u8], bounds: &HeadBounds) -> Result<(RequestHead<'b>, Framing), RequestRefused> {
    let head = reading::read(bytes, bounds)?;
    let framing = framing::check(&head)?;
    Ok((head, framing))
}

/// Does what [`examine`] does, and replaces an ambiguous head by one with the same meaning.
///
/// # Errors
/// Errors of `examine`.
pub(super) fn settle(bytes: &mut Vec<u8>, bounds: &HeadBounds) -> Result<CheckedHead, RequestRefused> {
    let (head, Framing { body, rewritten, encoded }) = examine(bytes, bounds)?;
    let mut head = CheckedHead { encoded: encoded.map(Box::new), ..CheckedHead::of(&head, body) };
    if let Some(rewritten) = rewritten {
        let length = std::mem::replace(&mut head.length, rewritten.len());
        bytes.splice(..length, rewritten);
    }
    Ok(head)
}

/// Longest time for the head of a client that is refused.
pub(super) const TO_BE_REFUSED: Duration = Duration::from_secs(2);
/// Most bytes of such a head, enough for a browser with its cookies. A longer one is answered before all of it has
/// come.
const ENOUGH: usize = 4 << 10;
/// Time that stands for no limit: longer than any process runs, and short enough to be added to every moment.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);
