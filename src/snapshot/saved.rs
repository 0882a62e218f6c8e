//! The states that hooks have of their own, on their way to a process that takes over.

use serde::{Deserialize, Serialize};

use super::Snapshot;
use crate::hook::Saved;

/// The states of the hooks of one route.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedHooks {
    /// The route, as `host path`.
    pub route: String,
    /// States of its hooks, of those that have one.
    pub hooks: Vec<Saved>,
}

impl Snapshot {
    /// Asks the hooks of all routes for the states they have of their own, as far as they fit the handover.
    pub fn save_hooks(&self) -> Vec<SavedHooks> {
        let mut all = Vec::new();
        let mut room = MOST_SAVED;
        for target in self.targets.iter().filter(|target| !target.hooks.is_empty()) {
            let hooks = target.hooks.save();
            let bytes: usize = hooks.iter().map(|saved| saved.data.len()).sum();
            if bytes > room {
                log::error!(
                    "the states of the hooks of {} are too large to be handed over: {bytes} bytes",
                    target.route
                );
            } else if !hooks.is_empty() {
                room -= bytes;
                all.push(SavedHooks { route: target.route.as_ref().to_owned(), hooks });
            }
        }
        all
    }

    /// Gives hooks the states that [`save_hooks`](Self::save_hooks) took in another process. States of routes that are
    /// gone are forgotten.
    pub fn restore_hooks(&self, saved: &[SavedHooks]) {
        for SavedHooks { route, hooks } in saved {
            if let Some(target) = self.route_named(route) {
                target.hooks.restore(hooks);
            }
        }
    }
}

/// Bytes of all states together: in base64 they fit one message of the handover.
const MOST_SAVED: usize = 32 << 20;
