//! The claim to a batch: one token that two processes can both reach for, and that only one of them gets.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

/// The claim to one batch, shared by the predecessor and its successor.
///
/// An eventfd that holds 1 (eventfd(2)). Reading it takes the 1 out, which the kernel does for one process only,
/// whatever the other one is at. So neither process has to know whether the other is alive, stopped or slow.
#[derive(Debug)]
pub(super) struct Claim {
    token: OwnedFd,
}

impl Claim {
    /// A claim that nobody has taken.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { token: eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)? })
    }

    /// The claim that came from the predecessor.
    pub(super) fn received(token: OwnedFd) -> Self {
        Self { token }
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.token.as_fd()
    }

    /// Takes the claim. `false`: the other process was first.
    pub(super) fn take(&self) -> bool {
        rustix::io::retry_on_intr(|| rustix::io::read(&self.token, &mut [0; 8])).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_taken_once_by_whoever_comes_first() {
        let ours = Claim::new().unwrap();
        let theirs = Claim::received(ours.as_fd().try_clone_to_owned().unwrap());
        assert!(theirs.take());
        assert!(!ours.take() && !theirs.take());
    }
}
