//! Budgets of a tunnel with hooks: work in a turn, and memory of unfinished messages.

use super::inbound::Inbound;
use super::{Inspector, Step};
use crate::tunnel::reason::Reason;
use crate::ws::deflate::{InflateError, Inflating};
use crate::ws::{Assembled, Side};

/// A compressed message that is being restored, over several turns where it is long.
pub(super) struct Inflation {
    pub(super) message: Assembled,
    pub(super) inflating: Inflating,
}

impl Inspector {
    /// Begins a turn: so much is restored and looked at before other tunnels have theirs.
    pub(in crate::tunnel) fn begin_turn(&mut self) {
        self.left_of_turn = WORK_OF_A_TURN;
    }

    pub(super) fn spend(&mut self, work: usize) {
        self.left_of_turn = self.left_of_turn.saturating_sub(work);
    }

    /// Bytes of unfinished messages that are kept here, and as many as there were when this was last asked.
    pub(in crate::tunnel) fn count_memory(&mut self) -> (usize, usize) {
        let restored = |inflation: &Inflation| inflation.message.payload.len() + inflation.inflating.restored();
        let restored: usize = self.inflations.iter().flatten().map(|inflation| restored(inflation)).sum();
        let now = self.ways.iter().map(Inbound::memory).sum::<usize>() + restored;
        (now, std::mem::replace(&mut self.counted, now))
    }

    /// Bytes of unfinished messages, as they were last counted.
    pub(in crate::tunnel) fn counted_memory(&self) -> usize {
        self.counted
    }

    /// Forgets that unfinished messages were counted: another worker counts them anew.
    pub(in crate::tunnel) fn forget_count(&mut self) -> usize {
        std::mem::take(&mut self.counted)
    }

    /// Gives up the messages from `side`, unfinished ones and those to come.
    pub(in crate::tunnel) fn give_up_messages(&mut self, side: Side) {
        self.inflations[side] = None;
        self.ways[side].give_up_messages();
    }

    /// Goes on restoring a compressed message, as far as this turn allows, and then asks hooks about it.
    pub(super) fn restore(&mut self, side: Side, mut inflation: Inflation, out: &mut Vec<u8>) -> Step {
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
}

/// Bytes that are restored in a turn: about as long as reading and writing one buffer takes.
const WORK_OF_A_TURN: usize = 128 * 1024;
/// Work of a message, in the same unit.
pub(super) const COST_OF_A_MESSAGE: usize = 256;
