//! One exchange with one backend: a request without a body goes out, the head of the final answer comes in.

use std::io;
use std::time::{Duration, Instant};

use http::StatusCode;

use super::error::{ExchangeError, TryError};
use super::transport::{Transport, read, write};
use crate::http1::ResponseHead;
use crate::http1::head::{Progress, read_response};

/// Limits in time of one exchange.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
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

/// Waits for the connection to be established and sends what it takes of `request`; the length of that.
///
/// # Errors
/// The connection was not established, or was reset as soon as it was.
pub async fn connect(stream: &mut impl Transport, request: &[u8], limits: &Limits) -> Result<usize, TryError> {
    let until = limits.until.min(Instant::now() + limits.connect);
    write(stream, request, until).await.map_err(|error| match error.kind() {
        // Only an established connection is reset: while it is being established, that is a refusal.
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ExchangeError::write(&error).into(),
        _ => TryError::connect(error),
    })
}

/// Sends the rest of `request`, of which `sent` bytes have gone, and reads the head of the final answer to it, which
/// `judge` is shown: its status is 101, or 200 and above. Interim answers (RFC 9110 §15.2) are skipped: they say
/// nothing that matters to a handshake or a check.
///
/// # Errors
/// The backend gave no final answer, or none within the limits.
pub async fn exchange<T>(
    stream: &mut impl Transport,
    request: &[u8],
    sent: usize,
    limits: &Limits,
    judge: impl FnOnce(&ResponseHead<'_>) -> T,
) -> Result<Answered<T>, TryError> {
    let mut rest = request.get(sent..).unwrap_or_default();
    while !rest.is_empty() {
        let until = limits.until.min(Instant::now() + limits.write);
        let written = write(stream, rest, until).await.map_err(|error| failed(&error, ExchangeError::write))?;
        rest = &rest[written..];
    }
    let (mut bytes, mut progress) = (Vec::new(), Progress::default());
    loop {
        let until = limits.until.min(Instant::now() + limits.read);
        if read(stream, &mut bytes, until).await.map_err(|error| failed(&error, ExchangeError::read))? == 0 {
            return Err(ExchangeError::Closed.into());
        }
        while progress.is_worth_reading(&bytes)
            && let Some(head) = read_response(&bytes).map_err(ExchangeError::from)?
        {
            let length = head.length;
            if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                let judged = judge(&head);
                return Ok(Answered { judged, length, read: bytes });
            }
            bytes.drain(..length);
            progress.restart();
        }
    }
}

fn failed(error: &io::Error, step: impl FnOnce(&io::Error) -> ExchangeError) -> TryError {
    TryError::local(error).unwrap_or_else(|| step(error).into())
}
