//! The entry: permission of a successor to accept on the listening sockets, which its predecessor may revoke unused.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, OnceLock};

use super::claim::Claim;

/// Permission to accept, given with the listening sockets. Clones share it.
///
/// A successor takes it before it accepts for the first time. So its predecessor can tell one that cannot have a client
/// from one that may, whatever the successor has said.
#[derive(Clone, Debug)]
pub struct EntryClaim(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    claim: Claim,
    /// Set once it is known: true where it was revoked, false where it was used.
    revoked: OnceLock<bool>,
}

impl EntryClaim {
    /// An entry that nobody has used.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(Inner { claim: Claim::new()?, revoked: OnceLock::new() })))
    }

    /// The claim that stands for it, to be given to the successor.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.claim.as_fd()
    }

    /// Revokes it. `true`: the successor has accepted nobody, and never will; `false`: it may have. Every further call
    /// returns the same.
    pub fn revoke(&self) -> bool {
        *self.0.revoked.get_or_init(|| self.0.claim.take())
    }

    /// Notes that a successor uses it which knows of no entries (protocol 1).
    pub(super) fn note_used(&self) {
        self.0.revoked.get_or_init(|| false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_either_used_or_revoked_for_good() {
        let revoked = EntryClaim::new().unwrap();
        let successors = Claim::received(revoked.as_fd().try_clone_to_owned().unwrap());
        assert!(revoked.revoke() && !successors.take() && revoked.clone().revoke());
        let used = EntryClaim::new().unwrap();
        let successors = Claim::received(used.as_fd().try_clone_to_owned().unwrap());
        assert!(successors.take() && !used.revoke() && !used.clone().revoke());
        let noted = EntryClaim::new().unwrap();
        noted.note_used();
        assert!(!noted.revoke());
    }
}
