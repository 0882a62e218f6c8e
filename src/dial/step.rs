//! Steps of TLS handshakes: those that take milliseconds are carried out beside the worker that polls.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::secured::SecuringError;
use super::transport::Transport;
use crate::tls::{HandshakeStep, StepOutcome, ToOpen};

/// Gives a session bytes that came to open, and waits for the outcome until the moment `until`.
///
/// # Errors
/// The moment has come, the other side has left, or the step panicked.
pub(super) async fn open(
    raw: &mut impl Transport,
    mut to_open: ToOpen,
    until: Instant,
) -> Result<StepOutcome, SecuringError> {
    let waker = if to_open.sealed.session().signs_slowly() { raw.waker() } else { None };
    let Some(waker) = waker else { return Ok(to_open.open()) };
    let mut step = match HandshakeStep::begin(Box::new(to_open), waker) {
        Ok(step) => step,
        Err(to_open) => return Ok(to_open.open()),
    };
    let mut look = Instant::now() + PATIENCE;
    poll_fn(|_| {
        if let Poll::Ready(done) = step.poll() {
            return Poll::Ready(done.map_err(SecuringError::Io));
        }
        if raw.has_left() {
            return Poll::Ready(Err(SecuringError::Closed));
        }
        while raw.poll_until(look.min(until)).is_ready() {
            if look >= until {
                return Poll::Ready(Err(SecuringError::Io(io::ErrorKind::TimedOut.into())));
            }
            // The cores are full, and handshakes must not stand still for that.
            if let Some(to_open) = step.take_back_if_stuck() {
                return Poll::Ready(Ok(to_open.open()));
            }
            look = Instant::now() + PATIENCE;
        }
        Poll::Pending
    })
    .await
}

/// Longest time without any step begun: several times that of the longest one, a signature with RSA of 4,096 bits.
const PATIENCE: Duration = Duration::from_millis(50);
