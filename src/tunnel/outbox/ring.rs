//! An io_uring that makes many sends in one call, and nothing else.
#![allow(unsafe_code, reason = "the system is given the addresses of the bytes to be sent")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::types::Fd;
use io_uring::{IoUring, opcode, squeue};
use log::error;
use rustix::net::SendFlags;

/// A ring of the thread that started it.
pub(super) struct Ring(IoUring);

impl Ring {
    /// A ring for `most` sends at once.
    ///
    /// # Errors
    /// The system gives none: Linux before 6.1, `kernel.io_uring_disabled`, the seccomp profile of a container.
    pub(super) fn start(most: usize) -> io::Result<Self> {
        let entries = u32::try_from(most).map_err(io::Error::other)?;
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun().setup_submit_all();
        builder.build(entries).map(Self)
    }

    /// Makes sends on non-blocking sockets, at most as many as it has room for; sets the number of bytes that each
    /// socket took. False where the ring is of no use any more: then some were not made.
    #[must_use]
    pub(super) fn send(&mut self, mut sends: Vec<Send<'_>>) -> bool {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL | SendFlags::from_bits_retain(MSG_WAITALL);
        for (number, send) in sends.iter().enumerate() {
            let (socket, length) = (Fd(send.socket.as_raw_fd()), u32::try_from(send.bytes.len()).unwrap_or(0));
            let entry =
                opcode::Send::new(socket, send.bytes.as_ptr(), length).flags(flags.bits().cast_signed()).build();
            let entry = entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(number as u64);
            // SAFETY: sockets and bytes are borrowed until this function returns, and the kernel is done with both by
            // then. It carries a request out within the call that submits it unless that would wait, and one with
            // MSG_DONTWAIT never waits: it fails with EAGAIN (`REQ_F_NOWAIT`). Requests that the call below leaves in
            // the ring are never submitted, because the caller drops a ring of no use.
            if unsafe { self.0.submission().push(&entry) }.is_err() {
                break;
            }
        }
        let submitted = self.submit();
        for send in sends.iter_mut().take(submitted) {
            // Only what a socket did not take whole is reported.
            *send.sent = send.bytes.len();
        }
        for done in self.0.completion() {
            if let Some(send) = usize::try_from(done.user_data()).ok().and_then(|number| sends.get_mut(number)) {
                *send.sent = usize::try_from(done.result()).unwrap_or(0);
            }
        }
        submitted == sends.len()
    }

    /// Submits what is in the ring; returns how many requests the system took.
    fn submit(&self) -> usize {
        loop {
            match self.0.submit() {
                Ok(count) => return count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    error!("io_uring failed ({error}): from now on each message is sent by a call of its own");
                    return 0;
                }
            }
        }
    }
}

/// A send to be made.
pub(super) struct Send<'a> {
    pub(super) socket: BorrowedFd<'a>,
    pub(super) bytes: &'a [u8],
    /// Set to the number of bytes that the socket took.
    pub(super) sent: &'a mut usize,
}

/// Counts a send that is cut short as failed, and so has it reported: io_uring_prep_send(3).
const MSG_WAITALL: u32 = 0x100;
