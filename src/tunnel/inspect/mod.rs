//! Inspection of a tunnel by the hooks of its route.
//!
//! An inspector assembles the messages of a direction that hooks see, and passes the hooks' results on as whole frames.
//! Hooks are called one at a time: a message waits until the hooks are done with the one before, of either direction,
//! and its sender is not read any further. Control frames wait only for what came before them from their sender.

mod budget;
mod caller;
mod farewells;
mod inbound;
mod state;

use std::sync::Arc;

use tokio::task::AbortHandle;

use super::new_tunnel::Hooked;
use super::reason::Reason;
use crate::hook::{self, Closed, Failure, Message, Mode, Packed, TunnelId, Verdict};
use crate::ws::deflate::Agreement;
use crate::ws::{Assembled, Item, Kind, Side, Sides, Violation, frame, message};
use budget::{COST_OF_A_MESSAGE, Inflation};
use caller::Callee;
pub(super) use caller::{Caller, Outcome};
pub(super) use farewells::Farewells;
pub(super) use inbound::Held;
use inbound::Inbound;
pub(super) use state::{State, Travels};

/// The hooks of one tunnel, and where they stand.
pub(super) struct Inspector {
    callee: Arc<Callee>,
    caller: Arc<Caller>,
    agreement: Option<Agreement>,
    /// Bytes of a message, inflated where it was compressed.
    max_message: u64,
    /// Hooks were told that the tunnel is open.
    told: bool,
    /// Every hook knows that the tunnel is open. Until then nothing is looked at.
    opened: bool,
    /// The call that is waited for.
    call: Option<Call>,
    /// Items of the last call that the worker made, for the pair to put in.
    sent: Option<Sent>,
    /// By the side that the bytes come from.
    ways: Sides<Inbound>,
    /// Compressed messages that are being restored, by the side that they come from.
    inflations: Sides<Option<Box<Inflation>>>,
    /// Reason text of a hook's Close frame.
    last_word: Option<Box<str>>,
    /// Contexts packed for another process, while the tunnel is off its worker.
    packed: Vec<Packed>,
    /// The tunnel cannot move to another process.
    stays: bool,
    /// Bytes that may still be restored, or looked at, before other tunnels have their turn.
    left_of_turn: usize,
    /// Bytes of unfinished messages, as the worker last counted them.
    counted: usize,
}

/// A call that waits.
enum Call {
    Open(AbortHandle),
    Message { from: Side, original: Original, task: AbortHandle },
}

/// A message as it came: enough to pass it on unchanged, together with what hooks were shown.
#[derive(Debug)]
struct Original {
    kind: Kind,
    /// Its payload on the wire, where it was compressed.
    compressed: Option<Vec<u8>>,
}

/// Items that hooks sent during a call.
pub(super) struct Sent {
    pub(super) items: Vec<hook::Item>,
    /// Their place among the frames that are to be passed on: those before it came before the call.
    pub(super) at: usize,
}

/// Next step with the bytes of a side.
#[derive(Debug)]
pub(super) enum Step {
    /// Go on: what is to be passed on was added to the frames.
    On,
    /// Nothing is left of the chunk.
    Done,
    /// Hooks are busy: the rest is to be held.
    Wait,
    /// Frames for the side that it came from.
    Reply(Vec<u8>),
    /// Frames for the side that it came from, and then the end.
    ReplyAndEnd(Vec<u8>, Reason),
    /// The tunnel ends.
    End(Reason),
    /// The same, by the fault of the side that it came from, whose bytes make no sense any more.
    Broken(Reason),
}

impl Inspector {
    /// The hooks of a tunnel that opens.
    pub(super) fn new(hooked: Hooked, caller: Arc<Caller>, max_message: Option<u64>) -> Self {
        let Hooked { chain, contexts, tunnel, agreement } = hooked;
        let max_message = max_message.unwrap_or(MOST_OF_A_MESSAGE);
        let messages = chain.messages();
        let ways = Sides::from_fn(|from| {
            let assembled = messages.of(from.into()) != Mode::None;
            Inbound::new(from, assembled, agreement.is_some(), max_message)
        });
        let callee = Arc::new(Callee::new(chain, tunnel, contexts));
        Self {
            callee,
            caller,
            agreement,
            max_message,
            told: false,
            opened: false,
            call: None,
            sent: None,
            ways,
            inflations: Sides::default(),
            last_word: None,
            packed: Vec::new(),
            stays: false,
            left_of_turn: 0,
            counted: 0,
        }
    }

    /// Tells the hooks that the tunnel is open; what came of it, if that is known at once.
    pub(super) fn open(&mut self) -> Option<Outcome> {
        self.told = true;
        let (begun, sent) = self.caller.open(&self.callee);
        self.note_sent(sent, 0);
        match begun {
            caller::Begun::Done(outcome) => Some(outcome),
            caller::Begun::Waits(task) => {
                self.call = Some(Call::Open(task));
                None
            }
        }
    }

    fn note_sent(&mut self, items: Vec<hook::Item>, at: usize) {
        self.sent = (!items.is_empty()).then_some(Sent { items, at });
    }

    /// Takes the items that hooks sent during the last call. They are put in before what that call decided.
    pub(super) fn take_sent(&mut self) -> Option<Sent> {
        self.sent.take()
    }

    /// Returns true once hooks were told that the tunnel is open.
    pub(super) fn knows(&self) -> bool {
        self.told
    }

    /// The tunnel as hooks see it.
    pub(super) fn tunnel(&self) -> &hook::Tunnel {
        &self.callee.tunnel
    }

    /// Lets the hooks of an ended tunnel add to its log line, which `log` writes, and tells them how it ended.
    pub(super) fn farewell(
        mut self,
        closed: Closed,
        log: impl FnOnce(TunnelId, &[(&'static str, String)]) + Send + 'static,
    ) {
        self.give_up();
        let id = self.callee.tunnel.id;
        self.caller.farewell(Arc::clone(&self.callee), closed, self.told, move |added| log(id, added));
    }

    /// Hands calls to another worker's caller from now on.
    pub(super) fn move_to(&mut self, caller: &Arc<Caller>) {
        self.caller = Arc::clone(caller);
        self.packed = Vec::new();
    }

    /// Returns true when messages from `side` are assembled here.
    pub(super) fn assembles(&self, side: Side) -> bool {
        self.ways[side].assembler.is_some()
    }

    /// Returns true while hooks keep the bytes of `side` waiting.
    pub(super) fn holds_up(&self, side: Side) -> bool {
        let is_asked = matches!(&self.call, Some(Call::Message { from, .. }) if *from == side);
        !self.opened || is_asked || self.call.is_some() && self.has_message(side)
    }

    /// Tells whether a whole message of `side` is at hand that hooks have not been asked about.
    fn has_message(&self, side: Side) -> bool {
        self.ways[side].waiting.is_some() || self.inflations[side].is_some()
    }

    /// Returns true while bytes or a message of `side` are held.
    pub(super) fn has_held(&self, side: Side) -> bool {
        let way = &self.ways[side];
        way.has_held() || self.has_message(side)
    }

    /// See [`Inbound::hold`].
    pub(super) fn hold(&mut self, side: Side, chunk: &[u8]) {
        self.ways[side].hold(chunk);
    }

    /// See [`Inbound::take_held`].
    pub(super) fn take_held(&mut self, side: Side) -> Held {
        self.ways[side].take_held()
    }

    /// See [`Inbound::put_back`].
    pub(super) fn put_back(&mut self, side: Side, held: Held, left: usize) {
        self.ways[side].put_back(held, left);
    }

    /// Notes whether `side` is not read for the sake of hooks; says whether it was not until now, and is again.
    pub(super) fn note_held_up(&mut self, side: Side, held_up: bool) -> bool {
        std::mem::replace(&mut self.ways[side].was_held_up, held_up) && !held_up
    }

    /// Frames that wait for a place between two messages from `side`.
    pub(super) fn queue(&mut self, side: Side) -> &mut Vec<u8> {
        &mut self.ways[side].queue
    }

    pub(super) fn queued(&self, side: Side) -> usize {
        self.ways[side].queue.len()
    }

    /// Bytes of replies for `side` since it had taken all that there was for it.
    pub(super) fn replied(&self, side: Side) -> usize {
        self.ways[side].replied
    }

    pub(super) fn note_replied(&mut self, side: Side, bytes: usize) {
        self.ways[side].replied = bytes;
    }

    /// Reason text of the Close frames for `reason`.
    pub(super) fn last_word(&self, reason: Reason) -> &str {
        match (reason, &self.last_word) {
            (Reason::HookClosed { .. }, Some(text)) => text,
            _ => reason.as_str(),
        }
    }

    /// Sets what a hook's Close frames say; the first one's words stay.
    pub(super) fn set_last_word(&mut self, text: &str) {
        // As much as a Close frame takes.
        self.last_word.get_or_insert_with(|| text[..text.floor_char_boundary(MOST_OF_A_REASON)].into());
    }

    /// Bytes that are kept of what comes, and that another process would have to be given.
    pub(super) fn weight(&self) -> usize {
        self.ways.iter().map(Inbound::weight).sum::<usize>()
            + self.packed.iter().map(|packed| packed.data.len()).sum::<usize>()
    }

    /// Gives the call up that is waited for, if there is one.
    pub(super) fn give_up(&mut self) {
        if let Some(Call::Open(task) | Call::Message { task, .. }) = self.call.take() {
            task.abort();
        }
    }

    /// Goes on with what came from `side`, of which `rest` has not been looked at; frames to be passed on are added to
    /// `out`.
    ///
    /// `deaf`: nothing is passed on any more, and no hook is asked; only a Close frame still counts.
    pub(super) fn step(&mut self, side: Side, rest: &mut &[u8], deaf: bool, out: &mut Vec<u8>) -> Step {
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
            Some(Ok(Item::Control { opcode, payload })) => {
                frame::control(out, opcode, &payload, mask(side));
                Step::On
            }
            Some(Ok(Item::Message(_))) if deaf => Step::On,
            Some(Ok(Item::Message(message))) => {
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

    /// Asks hooks about a message; `compressed` is its payload on the wire, where that is another.
    fn ask(
        &mut self,
        side: Side,
        kind: Kind,
        payload: Vec<u8>,
        compressed: Option<Vec<u8>>,
        out: &mut Vec<u8>,
    ) -> Step {
        let message = match kind {
            Kind::Binary => Ok(Message::binary(payload)),
            Kind::Text => message::into_text(payload).map(Message::text),
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
            caller::Begun::Done(Outcome::Judged(verdict, message)) => {
                self.carry_out(side, &original, verdict, &message, out)
            }
            caller::Begun::Done(Outcome::Opened(_) | Outcome::Lost) => Step::On,
            caller::Begun::Waits(task) => {
                self.call = Some(Call::Message { from: side, original, task });
                Step::Wait
            }
        }
    }

    /// Acts on the outcome of a call that waited. Adds frames to be passed on, from the side that is returned, to
    /// `out`.
    pub(super) fn heard(&mut self, outcome: Outcome, deaf: impl Fn(Side) -> bool, out: &mut Vec<u8>) -> (Side, Step) {
        match (outcome, self.call.take()) {
            (Outcome::Opened(Ok(())), _) => {
                self.opened = true;
                (Side::Client, Step::On)
            }
            (Outcome::Opened(Err(_)) | Outcome::Lost, _) => (Side::Client, Step::End(Reason::HookFailed)),
            (Outcome::Judged(verdict, message), Some(Call::Message { from, original, .. })) if !deaf(from) => {
                (from, self.carry_out(from, &original, verdict, &message, out))
            }
            // Nobody is left to whom it could matter.
            (Outcome::Judged(..), _) => (Side::Client, Step::On),
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

impl Drop for Inspector {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// A message as one frame, not compressed, in the stream from `from`.
pub(super) fn encode(from: Side, message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    frame::message(&mut out, kind(message), message.as_bytes(), false, mask(from));
    out
}

fn kind(message: &Message) -> Kind {
    if message.is_text() { Kind::Text } else { Kind::Binary }
}

/// Frames towards a backend are masked, with a key that nobody can guess (RFC 6455 §5.3).
fn mask(from: Side) -> Option<[u8; 4]> {
    (from == Side::Client).then(rand::random)
}

fn reason_of(violation: Violation) -> Reason {
    match violation.code() {
        1007 => Reason::InvalidPayload,
        1009 => Reason::MessageTooBig,
        _ => Reason::ProtocolError,
    }
}

/// The longest message that hooks are shown where `tunnel.max_message` is off.
const MOST_OF_A_MESSAGE: u64 = 1024 * 1024;
/// The window that our codec compresses with (RFC 7692 §7.1.2).
const OUR_WINDOW_BITS: u8 = 15;
/// The longest reason in a Close frame (RFC 6455 §5.5).
const MOST_OF_A_REASON: usize = 123;
