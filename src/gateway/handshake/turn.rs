//! The turn of a client at a backend. Where the upstream has `admission`, the client waits for it in the backend's
//! queue.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::{Gateway, HandshakeEnding};
use crate::dial::TryError;
use crate::gateway::held::NotHeld;
use crate::gateway::request::Ctx;
use crate::gateway::waits::Waits;
use crate::hook::Answer;
use crate::metrics::UpstreamRefusal;
use crate::snapshot::Destination;
use crate::upstream::{Demand, Entered, NotAdmitted, PlaceInLine, TimedHandshake, TurnVerdict, Waiting};

/// The turns of one handshake: it takes one at each backend that it is offered to, and keeps its place in the order of
/// arrival.
#[derive(Default)]
pub(super) struct HandshakeTurns {
    arrival: Option<PlaceInLine>,
    /// Time spent waiting for turns, which no backend is charged with.
    waited: Duration,
}

impl HandshakeTurns {
    /// Time spent waiting, for turns and for backends that were away.
    pub(super) fn waited(&self, ctx: &Ctx) -> Duration {
        self.waited + ctx.held_for()
    }
}

impl Gateway {
    /// Chooses a backend and waits for the client's turn there. Before that, waits for a backend that is away until it
    /// is back. `until` is the end of the handshake, time spent waiting left out.
    pub(super) async fn turn<D: Waits>(
        &self,
        dial: &mut D,
        ctx: &mut Ctx,
        to: &mut Arc<Destination>,
        turns: &mut HandshakeTurns,
        until: Instant,
    ) -> Result<SocketAddr, HandshakeEnding> {
        loop {
            match self.hold(dial, ctx, to).await {
                Ok(()) => {}
                Err(NotHeld::Draining) => return Err(refused(ctx, to, NotAdmitted::Draining)),
                Err(NotHeld::Left) => return Err(left(ctx, to)),
            }
            let end = until + turns.waited(ctx);
            let address = ctx.choose(to, Demand::Tunnel, Some(end)).await.map_err(HandshakeEnding::Answer)?;
            if !to.upstream.admission().is_on() {
                return Ok(address);
            }
            let asked = Instant::now();
            let verdict = wait(dial, ctx, to, turns, asked).await;
            turns.waited += asked.elapsed();
            match verdict {
                Some(TurnVerdict::Admitted) => {
                    to.metrics.admitted.inc();
                    to.metrics.wait_seconds.observe(turns.waited.as_secs_f64());
                    return Ok(address);
                }
                Some(TurnVerdict::Again) => ctx.pick = None,
                Some(TurnVerdict::Gone) if to.upstream.config().absent.is_some() => {
                    ctx.pick = None;
                    ctx.renew(to, &self.running);
                }
                Some(TurnVerdict::Gone) => {
                    ctx.give_up_on_pick();
                    ctx.passed_over += 1;
                }
                Some(TurnVerdict::Refused(why)) => {
                    ctx.pick = None;
                    return Err(refused(ctx, to, why));
                }
                None => {
                    ctx.pick = None;
                    return Err(left(ctx, to));
                }
            }
        }
    }
}

/// End of a handshake that is not admitted.
fn refused(ctx: &mut Ctx, to: &Destination, why: NotAdmitted) -> HandshakeEnding {
    let refusal = match why {
        NotAdmitted::QueueFull => UpstreamRefusal::QueueFull,
        NotAdmitted::Deadline => UpstreamRefusal::Deadline,
        NotAdmitted::Draining => UpstreamRefusal::Draining,
    };
    ctx.not_admitted(to, refusal);
    HandshakeEnding::Answer(Answer::no_turn(why, longest_wait(to)))
}

/// End of a handshake whose client left while it waited.
fn left(ctx: &mut Ctx, to: &Destination) -> HandshakeEnding {
    ctx.not_admitted(to, UpstreamRefusal::Left);
    HandshakeEnding::Gone(io::ErrorKind::ConnectionAborted.into())
}

/// Waits for the turn at the backend that was picked; `None` where the client left.
async fn wait<D: Waits>(
    dial: &mut D,
    ctx: &Ctx,
    to: &Destination,
    turns: &mut HandshakeTurns,
    now: Instant,
) -> Option<TurnVerdict> {
    let admission = to.upstream.admission();
    // A client that waited for a backend that was away came then.
    let came = ctx.holds.as_ref().and_then(|holds| holds.arrival);
    let arrival = *turns.arrival.get_or_insert_with(|| came.unwrap_or_else(|| admission.arrive(now)));
    let backend = &ctx.pick.as_ref()?.state;
    let mut place: Option<Waiting> = None;
    poll_fn(|cx| {
        if place.is_some() && dial.poll_left(cx).is_ready() {
            return Poll::Ready(None);
        }
        let Some(waiting) = &mut place else {
            return match admission.enter(backend, arrival, || dial.waker(cx), now) {
                Entered::Told(verdict) => Poll::Ready(Some(verdict)),
                Entered::Waits(waiting) => {
                    place = Some(waiting);
                    // From here on a client that leaves is noticed.
                    dial.poll_left(cx).map(|()| None)
                }
            };
        };
        waiting.poll(|| dial.waker(cx)).map(Some)
    })
    .await
}

/// Reports the time and outcome of a handshake at its backend, for `handshakes: auto`. `outcome` has the status of the
/// backend's answer.
pub(super) fn note(ctx: &Ctx, to: &Destination, begun: Instant, outcome: Result<u16, &TryError>) {
    let admission = to.upstream.admission();
    if !admission.is_auto() {
        return;
    }
    let failed = match outcome {
        Ok(status) => matches!(status, 429 | 502 | 503 | 504),
        // A shortage of the gateway's own says nothing of the backend.
        Err(TryError::Local(..)) => return,
        Err(_) => true,
    };
    if let Some(pick) = &ctx.pick {
        admission.told(pick.state.name(), TimedHandshake { begun, ended: Instant::now(), failed });
    }
}

/// Longest `Retry-After` of clients that are not admitted.
fn longest_wait(to: &Destination) -> Duration {
    to.upstream.config().admission.unwrap_or_default().wait
}
