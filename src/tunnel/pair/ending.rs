//! Every way a tunnel ends, and what is left to do until it has.

use std::time::{Duration, Instant};

use std::io;

use super::flow::Flow;
use super::{End, Pair, Reason, Side};
use crate::tunnel::reattach::ReattachOutcome;

impl<E: End> Pair<E> {
    /// Ends the flow from `side`, whose stream is at its end.
    pub(super) fn end_of(&mut self, side: Side, now: Instant) {
        if self.is_special && side == Side::Backend && self.backend_ended(now) {
            return;
        }
        let flow = &mut self.flows[side];
        flow.ended = true;
        self.nearer = true;
        if flow.closed().is_some() {
            return;
        }
        let reason = gone(side);
        self.reason.get_or_insert(reason);
        // A client that said goodbye is told nothing: whoever gets a Close frame may just end (RFC 6455 §7.1.1).
        if side == Side::Backend && self.flows[Side::Client].closed().is_none() {
            let close = self.flows[side].cut_now(reason);
            self.keep_close(side, close);
        }
        if self.is_special {
            self.note_client_left(now);
        }
    }

    /// Ends both ways of `side`, from which reading failed.
    pub(super) fn lost(&mut self, side: Side, error: &io::Error, now: Instant) {
        if self.is_special && side == Side::Backend && self.backend_ended(now) {
            return;
        }
        self.note_stall(side, error);
        self.end_of(side, now);
        self.flows[side.other()].abandon();
        self.expire_in(LINGER, now);
    }

    /// Gives up writing to `side`. Bytes that it sent before can still be read.
    pub(super) fn refused(&mut self, side: Side, error: &io::Error, now: Instant) {
        if self.is_special && side == Side::Backend && self.backend_refused(now) {
            return;
        }
        self.note_stall(side, error);
        self.flows[side.other()].abandon();
        self.refused.get_or_insert(side);
        self.ends[side].readable = true;
        self.expire_in(LINGER, now);
    }

    /// Tells a side that the system gave up for taking nothing from one that is gone.
    fn note_stall(&mut self, side: Side, error: &io::Error) {
        if self.ends[side].stream.was_stalled(error) {
            self.reason.get_or_insert(Reason::Stalled { side });
        }
    }

    /// Ends the tunnel after a fault of the gateway's own, as far as that can still be done in order.
    pub(in crate::tunnel) fn fail(&mut self, now: Instant) {
        self.end(Reason::InternalError, now);
    }

    /// A Close frame from `side` has passed; with both seen the tunnel is as good as over (RFC 6455 §7.1.1).
    pub(super) fn close_seen(&mut self, side: Side, now: Instant) {
        let reason = match side {
            Side::Client => Reason::ClientClose,
            Side::Backend => Reason::BackendClose,
        };
        self.reason.get_or_insert(reason);
        if self.flows[side.other()].closed().is_some() {
            self.expire_in(LINGER, now);
        }
    }

    /// Passes the end of the flow from `side` on, once everything before it is written.
    fn finish(&mut self, side: Side) {
        let other = &self.flows[side.other()];
        let answered = other.ended || other.closed().is_some();
        let flow = &self.flows[side];
        let over = flow.ended || (flow.cut_off() && answered);
        if over && self.is_special && side == Side::Client && (self.is_between_backends() || self.is_greeting()) {
            // The end of the client's stream is for the next backend.
            return;
        }
        let flow = &mut self.flows[side];
        if over && !flow.finished && flow.kept().is_empty() {
            let leg = &mut self.ends[side.other()];
            // A connection that is gone already needs no FIN.
            match leg.stream.shutdown_write() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => leg.writable = false,
                _ => flow.finished = true,
            }
        }
    }

    /// Passes the ends of both flows on, as far as they have come; tells whether the tunnel has ended.
    pub(super) fn finish_both(&mut self) -> bool {
        if self.said_goodbye() {
            return true;
        }
        // The end of one way can be what the other waited for.
        self.finish(Side::Client);
        self.finish(Side::Backend);
        self.over()
    }

    /// After both Close frames nothing that matters can follow: the first FIN ends the tunnel.
    fn said_goodbye(&self) -> bool {
        let (client, backend) = (&self.flows[Side::Client], &self.flows[Side::Backend]);
        (client.ended || backend.ended)
            && client.closed().is_some()
            && backend.closed().is_some()
            && client.kept().is_empty()
            && backend.kept().is_empty()
    }

    fn over(&self) -> bool {
        let is_over = |flow: &Flow| flow.finished && (flow.ended || flow.cut_off() && flow.said_goodbye());
        is_over(&self.flows[Side::Client]) && is_over(&self.flows[Side::Backend])
    }

    /// Ends the tunnel from the gateway's side: a Close frame both ways at the next frame boundary, then a short wait
    /// for the answers.
    pub(in crate::tunnel) fn end(&mut self, reason: Reason, now: Instant) {
        if self.is_special {
            self.call_off(ReattachOutcome::Ended, now);
        }
        self.reason.get_or_insert(reason);
        if let Some(rare) = &mut self.rare {
            rare.plans.planned = None;
        }
        for side in Side::ALL {
            let close = self.flows[side].cut(reason);
            self.keep_close(side, close);
        }
        if self.is_special {
            self.follow_closing();
        }
        self.expire_in(CLOSE_WAIT, now);
    }

    /// Puts a Close frame into the flow from `side`, if there is to be one.
    pub(super) fn keep_close(&mut self, side: Side, reason: Option<Reason>) {
        let Some(reason) = reason else { return };
        let words = self.rare.as_ref().and_then(|rare| rare.plans.words.as_deref());
        let text = match (reason, words, &self.inspector) {
            (Reason::OperatorClosed { .. }, Some(words), _) => words,
            (_, _, Some(inspector)) => inspector.last_word(reason),
            _ => reason.as_str(),
        };
        self.flows[side].keep_close(reason, text);
    }

    pub(super) fn expire_in(&mut self, wait: Duration, now: Instant) {
        let deadline = now + wait;
        self.nearer = true;
        let plans = self.plans_mut();
        plans.deadline = Some(plans.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
    }

    /// Notes that the process ends under the tunnel.
    pub(in crate::tunnel) fn stop(&mut self) {
        self.reason.get_or_insert(Reason::Shutdown { code: NO_CLOSE_FRAME });
    }

    /// Why the tunnel ended; known once it has.
    pub(in crate::tunnel) fn reason(&self) -> Reason {
        self.reason.unwrap_or_else(|| gone(self.refused.unwrap_or(Side::Client)))
    }

    /// The status code the tunnel was closed with: the gateway's own, else that of the first Close frame, else 1006.
    pub(in crate::tunnel) fn close_code(&self) -> u16 {
        let [client, backend] = self.flows.each_ref().into_array();
        let seen = match self.reason() {
            Reason::ClientClose => client.closed(),
            Reason::BackendClose => backend.closed(),
            Reason::ClientGone | Reason::BackendGone => None,
            reason => reason.close_code(),
        };
        seen.unwrap_or(NO_CLOSE_FRAME)
    }
}

/// The reason for a side that went without a Close frame.
fn gone(side: Side) -> Reason {
    match side {
        Side::Client => Reason::ClientGone,
        Side::Backend => Reason::BackendGone,
    }
}

/// Time to wait for the answers to the gateway's own Close frames.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// Time that a tunnel may take to end after one side is gone or both Close frames have passed.
const LINGER: Duration = Duration::from_secs(5);
/// Status code that stands for a connection that ended without a Close frame (RFC 6455 §7.1.5).
const NO_CLOSE_FRAME: u16 = 1006;
