//! One exchange with one backend: a request without a body goes out, the head of the final answer comes in.

use std::io;
use std::time::{Duration, Instant};

use http::StatusCode;

use super::error::{ExchangeError, TryError};
use super::transport::{Transport, read, write};
use crate::http1::ResponseHead;
use crate::http1::head::{HeadProgress, read_response};

/// Limits in time of one exchange.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeLimits {
    /// The moment by which all must be done.
    pub until: Instant,
    /// Longest time until the connection is established.
    pub connect: Duration,
    /// Longest time between two reads.
    pub read: Duration,
    /// Longest time of one write.
    pub write: Duration,
}

/// A backend's final answer, as far as it was read.
#[derive(Debug)]
pub struct Answered<T> {
    /// The judgement of its head.
    pub judged: T,
    /// Length of its head.
    pub length: usize,
    /// Bytes that were read, the head first.
    pub read: Vec<u8>,
}

/// One exchange. Where a time limit ends a step, the step may be taken again and goes on where it was.
#[derive(Debug)]
pub struct HeadExchange<'r> {
    /// The rest of the request that has not gone yet.
    rest: &'r [u8],
    read: Vec<u8>,
    progress: HeadProgress,
}

impl<'r> HeadExchange<'r> {
    /// An exchange that begins with `request`, which has no body.
    pub fn new(request: &'r [u8]) -> Self {
        Self { rest: request, read: Vec::new(), progress: HeadProgress::default() }
    }

    /// Waits for the connection to be established and sends what it takes of the request at once.
    ///
    /// # Errors
    /// The connection was not established, or was reset as soon as it was.
    pub async fn connect(&mut self, stream: &mut impl Transport, limits: &ExchangeLimits) -> Result<(), TryError> {
        let until = limits.until.min(Instant::now() + limits.connect);
        let sent = write(stream, self.rest, until).await.map_err(|error| match error.kind() {
            // Only an established connection is reset: while it is being established, that is a refusal.
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ExchangeError::write(&error).into(),
            _ => TryError::connect(error),
        })?;
        self.rest = &self.rest[sent..];
        Ok(())
    }

    /// Sends the rest of the request, and reads the head of the final answer, which `judge` is shown: its status is
    /// 101, or 200 and above. Interim answers (RFC 9110 §15.2) are skipped: they say nothing that matters to a
    /// handshake or a check.
    ///
    /// # Errors
    /// The backend gave no final answer, or none within the limits.
    pub async fn answer<T>(
        &mut self,
        stream: &mut impl Transport,
        limits: &ExchangeLimits,
        judge: &impl Fn(&ResponseHead<'_>) -> T,
    ) -> Result<Answered<T>, TryError> {
        while !self.rest.is_empty() {
            let until = limits.until.min(Instant::now() + limits.write);
            let sent = write(stream, self.rest, until).await.map_err(|error| failed(&error, ExchangeError::write))?;
            self.rest = &self.rest[sent..];
        }
        loop {
            let until = limits.until.min(Instant::now() + limits.read);
            let count = read(stream, &mut self.read, until).await;
            if count.map_err(|error| failed(&error, ExchangeError::read))? == 0 {
                return Err(ExchangeError::Closed.into());
            }
            while self.progress.is_worth_reading(&self.read)
                && let Some(head) = read_response(&self.read).map_err(ExchangeError::from)?
            {
                let length = head.length;
                if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                    let judged = judge(&head);
                    return Ok(Answered { judged, length, read: std::mem::take(&mut self.read) });
                }
                self.read.drain(..length);
                self.progress.restart();
            }
        }
    }
}

fn failed(error: &io::Error, step: impl FnOnce(&io::Error) -> ExchangeError) -> TryError {
    TryError::below(error).unwrap_or_else(|| step(error).into())
}
