//! The way of a message: assembled, restored where it is compressed, shown to the hooks, and passed on as they decide.

use super::budget::COST_OF_A_MESSAGE;
use super::caller::{CallOutcome, CallState};
use super::encoding::{encode, kind, mask};
use super::inbound::Inflation;
use super::{Call, Inspector, Original, Step};
use crate::hook::{Failure, Message, Mode, Verdict};
use crate::tunnel::reason::Reason;
use crate::ws::deflate::InflateError;
use crate::ws::{Assembled, MessageKind, Side, Violation, WholeItem, frame, message};

impl Inspector {
    /// Goes on with what came from `side`, of which `rest` has not been looked at; frames to be passed on are added to
    /// `out`.
    ///
    /// `deaf`: nothing is passed on any more, and no hook is asked; only a Close frame still counts.
    pub(in crate::tunnel) fn step(&mut self, side: Side, rest: &mut &[u8], deaf: bool, out: &mut Vec<u8>) -> Step {
        let way = &mut self.ways[side];
        if deaf {
            way.waiting = None;
            self.inflations[side] = None;
        } else if !self.opened
            || self.left_of_turn == 0
            || matches!(&self.call, Some(Call::Message { from, .. }) if *from == side)
            || self.call.is_some() && self.inflations[side].is_some()
        {
            return Step::Wait;
        } else if let Some(inflation) = self.inflations[side].take() {
            return self.restore(side, *inflation, out);
        } else if let Some(message) = way.waiting.take() {
            return self.meet(side, message, out);
        }
        let Some(assembler) = &mut way.assembler else { return Step::Done };
        match assembler.next(rest) {
            None => Step::Done,
            Some(Ok(WholeItem::Control { opcode, payload })) => {
                frame::control(out, opcode, &payload, mask(side));
                Step::On
            }
            Some(Ok(WholeItem::Message(_))) if deaf => Step::On,
            Some(Ok(WholeItem::Message(message))) => {
                self.spend(COST_OF_A_MESSAGE);
                self.meet(side, message, out)
            }
            Some(Err(violation)) => {
                log::debug!("tunnel {}: {} broke the protocol: {violation}", self.callee.tunnel.id, side.as_str());
                Step::Broken(reason_of(violation))
            }
        }
    }

    /// Deals with a whole message, or has it wait for the hooks to be free.
    fn meet(&mut self, side: Side, message: Assembled, out: &mut Vec<u8>) -> Step {
        if self.call.is_some() {
            self.ways[side].waiting = Some(message);
            return Step::Wait;
        }
        let mode = self.callee.chain.messages().of(side.into());
        if mode == Mode::None {
            frame::message(out, message.kind, &message.payload, message.compressed, mask(side));
            return Step::On;
        }
        if message.compressed {
            let inflating = self.caller.codec(|codec| codec.begin(message.payload.len(), self.max_message));
            return self.restore(side, Inflation { message, inflating }, out);
        }
        self.ask(side, message.kind, message.payload, None, out)
    }

    /// Goes on restoring a compressed message, as far as this turn allows, and then asks hooks about it.
    fn restore(&mut self, side: Side, mut inflation: Inflation, out: &mut Vec<u8>) -> Step {
        let (before, budget) = (inflation.inflating.restored(), self.left_of_turn);
        let Inflation { message, inflating } = &mut inflation;
        match self.caller.codec(|codec| codec.go_on(inflating, &message.payload, budget)) {
            Ok(Some(payload)) => {
                self.spend(payload.len() - before);
                let Assembled { kind, payload: compressed, .. } = inflation.message;
                self.ask(side, kind, payload, Some(compressed), out)
            }
            Ok(None) => {
                self.left_of_turn = 0;
                self.inflations[side] = Some(Box::new(inflation));
                Step::Wait
            }
            Err(InflateError::TooBig) => Step::End(Reason::MessageTooBig),
            Err(_) => Step::End(Reason::InvalidPayload),
        }
    }

    /// Asks hooks about a message; `compressed` is its payload on the wire, where that is another.
    fn ask(
        &mut self,
        side: Side,
        kind: MessageKind,
        payload: Vec<u8>,
        compressed: Option<Vec<u8>>,
        out: &mut Vec<u8>,
    ) -> Step {
        let message = match kind {
            MessageKind::Binary => Ok(Message::binary(payload)),
            MessageKind::Text => message::into_text(payload).map(Message::text),
        };
        let message = match message {
            Ok(message) => message,
            Err(violation) => return Step::End(reason_of(violation)),
        };
        let (mode, original) = (self.callee.chain.messages().of(side.into()), Original { kind, compressed });
        if mode == Mode::Sync {
            let (verdict, sent) = self.callee.judge(side.into(), &message);
            self.note_sent(sent, out.len());
            return self.carry_out(side, &original, verdict, &message, out);
        }
        let (begun, sent) = self.caller.judge(&self.callee, side.into(), message);
        self.note_sent(sent, out.len());
        match begun {
            CallState::Done(CallOutcome::Judged(verdict, message)) => {
                self.carry_out(side, &original, verdict, &message, out)
            }
            CallState::Done(CallOutcome::Opened(_) | CallOutcome::Changed(..) | CallOutcome::Lost) => Step::On,
            CallState::Waits(task) => {
                self.call = Some(Call::Message { from: side, original, task });
                Step::Wait
            }
        }
    }

    /// Acts on the outcome of a call that waited. Adds frames to be passed on, from the side that is returned, to
    /// `out`.
    pub(in crate::tunnel) fn heard(
        &mut self,
        outcome: CallOutcome,
        deaf: impl Fn(Side) -> bool,
        out: &mut Vec<u8>,
    ) -> (Side, Step) {
        match (outcome, self.call.take()) {
            (CallOutcome::Opened(Ok(())), _) => {
                self.opened = true;
                (Side::Client, Step::On)
            }
            (CallOutcome::Opened(Err(_)) | CallOutcome::Lost, _) => (Side::Client, Step::End(Reason::HookFailed)),
            (CallOutcome::Judged(verdict, message), Some(Call::Message { from, original, .. })) if !deaf(from) => {
                (from, self.carry_out(from, &original, verdict, &message, out))
            }
            // Nobody is left to whom it could matter. The pair has heard of a change itself.
            (CallOutcome::Judged(..) | CallOutcome::Changed(..), _) => (Side::Client, Step::On),
        }
    }

    fn carry_out(
        &mut self,
        from: Side,
        original: &Original,
        verdict: Result<Verdict, Failure>,
        shown: &Message,
        out: &mut Vec<u8>,
    ) -> Step {
        match verdict {
            Ok(Verdict::Pass) => {
                let (payload, compressed) = match &original.compressed {
                    Some(payload) => (payload.as_slice(), true),
                    None => (shown.as_bytes(), false),
                };
                frame::message(out, original.kind, payload, compressed, mask(from));
                Step::On
            }
            Ok(Verdict::Replace(message)) => {
                self.encode_changed(from, original, &message, out);
                Step::On
            }
            Ok(Verdict::Drop) => Step::On,
            Ok(Verdict::Reply(message)) => Step::Reply(encode(from.other(), &message)),
            Ok(Verdict::ReplyAndClose { message, code, reason }) => {
                self.set_last_word(&reason);
                Step::ReplyAndEnd(encode(from.other(), &message), Reason::HookClosed { code })
            }
            Ok(Verdict::Close { code, reason }) => {
                self.set_last_word(&reason);
                Step::End(Reason::HookClosed { code })
            }
            Err(_) => Step::End(Reason::HookFailed),
        }
    }

    /// Adds a changed message to `out`. A message that came compressed is compressed again, if its receiver can take
    /// the output of our codec.
    fn encode_changed(&self, from: Side, original: &Original, message: &Message, out: &mut Vec<u8>) {
        let deflates = self.agreement.filter(|agreement| agreement.window_bits(from) == OUR_WINDOW_BITS);
        if original.compressed.is_some() && deflates.is_some() {
            let payload = self.caller.codec(|codec| codec.deflate(message.as_bytes()));
            frame::message(out, kind(message), &payload, true, mask(from));
        } else {
            frame::message(out, kind(message), message.as_bytes(), false, mask(from));
        }
    }
}

fn reason_of(violation: Violation) -> Reason {
    match violation.code() {
        1007 => Reason::InvalidPayload,
        1009 => Reason::MessageTooBig,
        _ => Reason::ProtocolError,
    }
}

/// The window that our codec compresses with (RFC 7692 §7.1.2).
const OUR_WINDOW_BITS: u8 = 15;
