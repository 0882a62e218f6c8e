//! Requests whose backend is away wait for it, where the upstream has `absent`.
//!
//! Handshakes and plain requests wait, with a body or without. A request waits before it is sent: no byte of it has
//! reached a backend, and its body stays in the client's socket.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::Gateway;
use super::held::NotHeld;
use super::request::Ctx;
use super::waits::Waits;
use crate::snapshot::{Destination, Running};
use crate::upstream::{Held, HeldEnd, PlaceInLine};

impl Gateway {
    /// Waits while the backend that the request belongs to is away. Afterwards `to` is the upstream as it is in force
    /// then.
    ///
    /// # Errors
    /// [`NotHeld`]: the request ends here.
    pub(super) async fn hold<D: Waits>(
        &self,
        dial: &mut D,
        ctx: &mut Ctx,
        to: &mut Arc<Destination>,
    ) -> Result<(), NotHeld> {
        let Some(absent) = to.upstream.config().absent.filter(|_| dial.waits_for_its_own()) else { return Ok(()) };
        if ctx.failure.is_some() {
            // A backend may have moved, which is why it could not be connected to.
            ctx.renew(to, &self.running);
        }
        loop {
            let now = Instant::now();
            let Some(index) = to.upstream.awaited(ctx.key(), &ctx.tried, now) else { return Ok(()) };
            let holds = ctx.holds.get_or_insert_default();
            let arrival = *holds.arrival.get_or_insert_with(|| to.upstream.admission().arrive(now));
            let left = absent.hold.saturating_sub(holds.waited);
            let end = wait(dial, to, index, arrival, now + left).await;
            holds.waited += now.elapsed();
            to.metrics.hold_seconds.observe(now.elapsed().as_secs_f64());
            to.metrics.held(end.map_or("left", HeldEnd::as_str));
            match end {
                Some(HeldEnd::Returned) => {}
                Some(HeldEnd::Over | HeldEnd::Full) => ctx.pass_over(index),
                // An upstream that has left the configuration is not renewed, and would be asked for ever.
                Some(HeldEnd::Elsewhere) if !ctx.renew(to, &self.running) => ctx.pass_over(index),
                Some(HeldEnd::Elsewhere) => {}
                Some(HeldEnd::Draining) => return Err(NotHeld::Draining),
                None => return Err(NotHeld::Left),
            }
            ctx.renew(to, &self.running);
        }
    }
}

/// Waits for the backend with this index; `None` where the client left.
async fn wait<D: Waits>(
    dial: &mut D,
    to: &Destination,
    index: usize,
    arrival: PlaceInLine,
    deadline: Instant,
) -> Option<HeldEnd> {
    let (admission, backend) = (to.upstream.admission(), &to.upstream.states()[index]);
    let mut place: Option<Held> = None;
    poll_fn(|cx| {
        if dial.poll_left(cx).is_ready() {
            return Poll::Ready(None);
        }
        let Some(held) = &mut place else {
            return match admission.hold(backend, arrival, deadline, || dial.waker(cx)) {
                Err(end) => Poll::Ready(Some(end)),
                Ok(held) => {
                    place = Some(held);
                    Poll::Pending
                }
            };
        };
        held.poll(|| dial.waker(cx)).map(Some)
    })
    .await
}

impl Ctx {
    /// Time that the request spent waiting for backends that were away.
    pub(super) fn held_for(&self) -> Duration {
        self.holds.as_ref().map_or(Duration::ZERO, |holds| holds.waited)
    }

    /// Lets the request wait for the backend whose connect has just failed, instead of giving it up, where that is the
    /// one that its key leads to.
    pub(super) fn wait_for_the_last_tried(&mut self, to: &Destination) {
        let Some((&last, before)) = self.tried.split_last() else { return };
        if to.upstream.config().absent.is_none() || self.key().is_none() {
            return;
        }
        let refusals = self.holds.as_ref().map_or(0, |holds| holds.refusals);
        if refusals < MOST_REFUSALS && to.upstream.awaited(self.key(), before, Instant::now()) == Some(last) {
            self.tried.pop();
            self.holds.get_or_insert_default().refusals += 1;
        }
    }

    /// Goes on with the upstream as it is in force now: a backend that was away may have another address. No backend
    /// may be at work. An upstream that has left the configuration stays as it was.
    /// True where it is another one than before.
    pub(super) fn renew(&mut self, to: &mut Arc<Destination>, running: &Running) -> bool {
        let snapshot = running.snapshot_now();
        let Some(now) = snapshot.destination(&to.upstream.config().name).filter(|now| !Arc::ptr_eq(now, to)) else {
            return false;
        };
        let members = to.upstream.members();
        let moved = |index: &usize| now.upstream.index_of(&members[*index].name);
        self.tried = self.tried.iter().filter_map(moved).collect();
        self.passed_over = self.passed_over.min(self.tried.len());
        *to = Arc::clone(now);
        self.holds.get_or_insert_default().renewed = Some(Arc::clone(now));
        true
    }

    /// Goes on without a backend that was not asked.
    fn pass_over(&mut self, index: usize) {
        self.tried.push(index);
        self.passed_over += 1;
    }
}

/// Times that a request waits for a backend which checks find and it does not. It then goes on to another one, as
/// without `absent`.
const MOST_REFUSALS: usize = 3;
