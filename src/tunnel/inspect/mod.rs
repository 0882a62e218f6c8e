//! Inspection of a tunnel by the hooks of its route.
//!
//! An inspector assembles the messages of a direction that hooks see, and passes the hooks' results on as whole frames.
//! Hooks are called one at a time: a message waits until the hooks are done with the one before, of either direction,
//! and its sender is not read any further. Control frames wait only for what came before them from their sender.

mod budget;
mod caller;
mod encoding;
mod farewells;
mod inbound;
mod messages;
mod state;

use std::sync::Arc;
use std::time::Instant;

use tokio::task::AbortHandle;

use super::new_tunnel::Hooked;
use super::reason::Reason;
use crate::hook::{self, Chain, Closed, Mode, Packed};
use crate::ws::deflate::Agreement;
use crate::ws::{MessageKind, Side, Sides};
use caller::Callee;
pub(super) use caller::{CallOutcome, Caller};
pub(super) use encoding::encode;
pub(super) use farewells::Farewells;
pub(super) use inbound::HeldBytes;
use inbound::{Inbound, Inflation};
pub(super) use state::{InspectorState, Travels};

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
    sent: Option<SentItems>,
    /// Bytes on their way through the hooks, by the side that they come from.
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
    /// Moment since which the tunnel is not read, because memory is short.
    held_back: Option<Instant>,
}

/// A call that waits.
enum Call {
    Open(AbortHandle),
    Change(AbortHandle),
    Message { from: Side, original: Original, task: AbortHandle },
}

/// A message as it came: enough to pass it on unchanged, together with what hooks were shown.
#[derive(Debug)]
struct Original {
    kind: MessageKind,
    /// Its payload on the wire, where it was compressed.
    compressed: Option<Vec<u8>>,
}

/// Items that hooks sent during a call.
pub(super) struct SentItems {
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
            held_back: None,
        }
    }

    /// Tells the hooks that the tunnel is open; what came of it, if that is known at once.
    pub(super) fn open(&mut self) -> Option<CallOutcome> {
        self.told = true;
        let (begun, sent) = self.caller.open(&self.callee);
        self.note_sent(sent, 0);
        match begun {
            caller::CallState::Done(outcome) => Some(outcome),
            caller::CallState::Waits(task) => {
                self.call = Some(Call::Open(task));
                None
            }
        }
    }

    fn note_sent(&mut self, items: Vec<hook::Item>, at: usize) {
        self.sent = (!items.is_empty()).then_some(SentItems { items, at });
    }

    /// Takes the items that hooks sent during the last call. They are put in before what that call decided.
    pub(super) fn take_sent(&mut self) -> Option<SentItems> {
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

    /// The hooks.
    pub(super) fn chain(&self) -> &Arc<Chain> {
        &self.callee.chain
    }

    /// Lets the hooks of an ended tunnel add to its log line, which `log` writes, and tells them how it ended.
    pub(super) fn farewell(mut self, closed: Closed, log: impl FnOnce(&[(&'static str, String)]) + Send + 'static) {
        self.give_up();
        self.caller.farewell(Arc::clone(&self.callee), closed, self.told, log);
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

    /// Tells whether the messages of `side` that are assembled here stand between two of them.
    pub(super) fn is_between(&self, side: Side) -> bool {
        self.ways[side].assembler.as_ref().is_some_and(|assembler| assembler.is_between())
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

    /// Returns true while a message of `side` is on its way through the hooks.
    pub(super) fn is_busy_with(&self, side: Side) -> bool {
        self.has_held(side) || matches!(&self.call, Some(Call::Message { from, .. }) if *from == side)
    }

    /// Forgets the part of a message that the old backend did not end.
    pub(super) fn meet_next_backend(&mut self) {
        self.ways[Side::Backend].meet_next_sender(Side::Backend, self.agreement.is_some(), self.max_message);
    }

    /// See [`Inbound::hold`].
    pub(super) fn hold(&mut self, side: Side, chunk: &[u8]) {
        self.ways[side].hold(chunk);
    }

    /// See [`Inbound::take_held`].
    pub(super) fn take_held(&mut self, side: Side) -> HeldBytes {
        self.ways[side].take_held()
    }

    /// See [`Inbound::put_back`].
    pub(super) fn put_back(&mut self, side: Side, held: HeldBytes, left: usize) {
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
        if let Some(Call::Open(task) | Call::Change(task) | Call::Message { task, .. }) = self.call.take() {
            task.abort();
        }
    }

    /// Tells the hooks that their tunnel changes its backend; what came of it, if that is known at once.
    pub(super) fn change(&mut self, change: hook::Reattach) -> Option<CallOutcome> {
        let (begun, sent) = self.caller.change(&self.callee, change);
        self.note_sent(sent, 0);
        match begun {
            caller::CallState::Done(outcome) => Some(outcome),
            caller::CallState::Waits(task) => {
                self.call = Some(Call::Change(task));
                None
            }
        }
    }

    /// Notes that the call has ended that was waited for.
    pub(super) fn end_call(&mut self) {
        self.call = None;
    }

    /// Returns true while a call waits.
    pub(super) fn is_called(&self) -> bool {
        self.call.is_some()
    }
}

impl Drop for Inspector {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// The longest message that hooks are shown where `tunnel.max_message` is off.
const MOST_OF_A_MESSAGE: u64 = 1024 * 1024;
/// The longest reason in a Close frame (RFC 6455 §5.5).
const MOST_OF_A_REASON: usize = 123;
