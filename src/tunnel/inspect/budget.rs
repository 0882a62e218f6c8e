//! Budgets of a tunnel with hooks: work in a turn, and memory of unfinished messages.

use std::time::Instant;

use super::Inspector;
use super::inbound::{Inbound, Inflation};
use crate::ws::Side;

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

    /// Notes since when the tunnel is not read, because memory is short; `None` where it is.
    pub(in crate::tunnel) fn hold_back(&mut self, since: Option<Instant>) {
        self.held_back = since;
    }

    /// Moment since which the tunnel is not read, because memory is short.
    pub(in crate::tunnel) fn held_back(&self) -> Option<Instant> {
        self.held_back
    }

    /// Returns true while the tunnel is not read, because memory is short.
    pub(in crate::tunnel) fn is_held_back(&self) -> bool {
        self.held_back.is_some()
    }

    /// Gives up the messages from `side`, unfinished ones and those to come.
    pub(in crate::tunnel) fn give_up_messages(&mut self, side: Side) {
        self.inflations[side] = None;
        self.ways[side].give_up_messages();
    }
}

/// Bytes that are restored in a turn: about as long as reading and writing one buffer takes.
const WORK_OF_A_TURN: usize = 128 * 1024;
/// Work of a message, in the same unit.
pub(super) const COST_OF_A_MESSAGE: usize = 256;
