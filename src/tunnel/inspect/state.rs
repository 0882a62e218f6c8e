//! State of an inspector, for another process.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::inbound::Inbound;
use super::{Callee, Caller, Inspector, MOST_OF_A_MESSAGE};
use crate::hook::{self, Chain, KeyTag, Packed, TunnelId};
use crate::ws::deflate::Agreement;
use crate::ws::{Side, Sides};

/// An inspector between two calls.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::tunnel) struct InspectorState {
    pub(in crate::tunnel) id: TunnelId,
    pub(in crate::tunnel) key: Option<KeyTag>,
    contexts: Vec<Packed>,
    agreement: Option<Agreement>,
    ways: Sides<Inbound>,
    last_word: Option<Box<str>>,
}

/// Readiness of a tunnel for another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tunnel) enum Travels {
    /// The tunnel can move now.
    Now,
    /// Hooks are busy with the tunnel.
    Later,
    /// The tunnel cannot move: a hook does not pack its context, or an unfinished message is too long.
    Never,
}

impl InspectorState {
    /// Tells whether an inspector can go on in this state.
    pub(in crate::tunnel) fn is_sound(&self) -> bool {
        Side::ALL.into_iter().all(|side| self.ways[side].is_sound(side))
    }
}

impl Inspector {
    /// Packs what hooks keep of the tunnel, for [`state`](Self::state); `room` is how many bytes may travel.
    pub(in crate::tunnel) fn pack(&mut self, room: usize) -> Travels {
        if self.stays {
            return Travels::Never;
        }
        let is_busy = self.call.is_some() || !self.opened || Side::ALL.into_iter().any(|side| self.has_message(side));
        if is_busy {
            return Travels::Later;
        }
        match self.callee.pack() {
            Some(packed) => self.packed = packed,
            None => self.stays = true,
        }
        self.stays |= self.weight() > room;
        if self.stays { Travels::Never } else { Travels::Now }
    }

    /// Returns true once [`pack`](Self::pack) has found that the tunnel cannot move.
    pub(in crate::tunnel) fn stays(&self) -> bool {
        self.stays
    }

    /// The state of a tunnel whose hooks were [packed](Self::pack).
    pub(in crate::tunnel) fn state(&self) -> InspectorState {
        InspectorState {
            id: self.callee.tunnel.id,
            key: self.callee.tunnel.key,
            contexts: self.packed.clone(),
            agreement: self.agreement,
            ways: self.ways.clone(),
            last_word: self.last_word.clone(),
        }
    }

    /// The inspector of a tunnel that comes from another process; `false` if one of its hooks cannot go on.
    ///
    /// Messages of a direction are assembled here if they were assembled there: the stream may be in the middle of one.
    pub(in crate::tunnel) fn resume(
        state: InspectorState,
        chain: Arc<Chain>,
        tunnel: hook::Tunnel,
        caller: Arc<Caller>,
        max_message: Option<u64>,
    ) -> (Self, bool) {
        let (contexts, failure) = chain.unpack(&state.contexts);
        let inspector = Self {
            callee: Arc::new(Callee::new(chain, tunnel, contexts)),
            caller,
            agreement: state.agreement,
            max_message: max_message.unwrap_or(MOST_OF_A_MESSAGE),
            told: true,
            opened: true,
            call: None,
            sent: None,
            ways: state.ways,
            inflations: Sides::default(),
            last_word: state.last_word,
            packed: Vec::new(),
            stays: false,
            left_of_turn: 0,
            counted: 0,
            held_back: None,
        };
        (inspector, failure.is_none())
    }
}
