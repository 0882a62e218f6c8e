//! State of a chain's hooks for a process that takes over.

use serde::{Deserialize, Serialize};

use super::{Chain, Contexts, Failure, FailureKind};
use crate::hook::Phase;

/// Packed context of one hook. Several hooks of one name stand in the order of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// The hook's name.
    pub hook: String,
    /// The context, in a form of the hook's own.
    #[serde(with = "crate::base64_text")]
    pub data: Vec<u8>,
}

impl Chain {
    /// Packs the contexts of a tunnel; `None` where one of the hooks cannot, or packs more than 256 KiB.
    pub fn pack(&self, contexts: &Contexts) -> Option<Vec<Packed>> {
        let mut packed = Vec::with_capacity(self.links.len());
        for (link, context) in self.links.iter().zip(&contexts.0) {
            let context = context.as_ref()?;
            let data = link.guard_sync(Phase::Handover, || Ok(link.hook.pack(&***context))).ok()??;
            if data.len() > MOST_PACKED {
                let why = format!("a context packs to {} bytes, more than {MOST_PACKED}", data.len());
                link.failed(Phase::Handover, FailureKind::Error(why));
                return None;
            }
            packed.push(Packed { hook: link.identity.name.as_ref().to_owned(), data });
        }
        Some(packed)
    }

    /// The contexts of a tunnel that comes from another process, and the first failure of a hook to read its own. That
    /// hook begins with a fresh context, as does one that the tunnel did not have there.
    pub fn unpack(&self, packed: &[Packed]) -> (Contexts, Option<Failure>) {
        let mut first = None;
        let contexts = self.links.iter().enumerate().map(|(index, link)| {
            let unpacked = self.packed_for(index, packed).map(|packed| link.unpacked(&packed.data));
            let made = match unpacked {
                Some(Ok(context)) => Ok(context),
                Some(Err(failure)) => {
                    first.get_or_insert(failure);
                    link.context()
                }
                None => link.context(),
            };
            match made {
                Ok(context) => Some(context),
                Err(failure) => {
                    first.get_or_insert(failure);
                    None
                }
            }
        });
        let contexts = Contexts(contexts.collect());
        (contexts, first)
    }

    /// The states of the hooks that have one of their own.
    pub fn save(&self) -> Vec<Saved> {
        let saved = self.links.iter().enumerate().filter_map(|(index, link)| {
            let data = link.guard_sync(Phase::Handover, || Ok(link.hook.save())).ok()??;
            let nth = self.nth(index);
            Some(Saved { hook: link.identity.name.as_ref().to_owned(), nth, data })
        });
        saved.collect()
    }

    /// Gives the hooks the states that [`save`](Self::save) returned in another process. Failures are logged.
    pub fn restore(&self, saved: &[Saved]) {
        for (index, link) in self.links.iter().enumerate() {
            let nth = self.nth(index);
            if let Some(saved) = saved.iter().find(|saved| *saved.hook == *link.identity.name && saved.nth == nth) {
                // Logged and counted by the guard; the hook goes on with the state it has.
                let _ = link.guard_sync(Phase::Handover, || link.hook.restore(&saved.data));
            }
        }
    }

    fn packed_for<'p>(&self, index: usize, packed: &'p [Packed]) -> Option<&'p Packed> {
        packed.iter().filter(|packed| *packed.hook == *self.links[index].identity.name).nth(self.nth(index))
    }

    /// Number of hooks before this one that have its name.
    fn nth(&self, index: usize) -> usize {
        self.links[..index].iter().filter(|before| before.identity.name == self.links[index].identity.name).count()
    }
}

/// The state of one hook of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The hook's name.
    pub hook: String,
    /// Number of hooks before it in the chain that have the same name.
    pub nth: usize,
    /// The state, in a form of the hook's own.
    #[serde(with = "crate::base64_text")]
    pub data: Vec<u8>,
}

/// Most bytes that a hook packs of a tunnel. A batch of tunnels has to fit one message of the handover. A hook that
/// keeps more should use a store of its own.
const MOST_PACKED: usize = 256 * 1024;
