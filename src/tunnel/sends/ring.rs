//! An io_uring that makes many writes in one call, and nothing else.
#![allow(unsafe_code, reason = "the system is given the addresses of the bytes to be sent")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::types::Fd;
use io_uring::{IoUring, opcode, squeue};
use log::error;
use rustix::net::SendFlags;

use super::PutOff;

/// A ring of the thread that started it.
pub(super) struct SendRing(IoUring);

impl SendRing {
    /// A ring for `most` writes at once.
    ///
    /// # Errors
    /// The system gives none: Linux before 6.1, `kernel.io_uring_disabled`, the seccomp profile of a container.
    pub(super) fn start(most: usize) -> io::Result<Self> {
        let entries = u32::try_from(most).map_err(io::Error::other)?;
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun().setup_submit_all();
        builder.build(entries).map(Self)
    }

    /// Makes writes on non-blocking sockets, at most as many as it has room for; `send_of` is the socket and the bytes
    /// of one. Notes in each how many bytes its socket took. False where the ring is of no use any more: then some
    /// writes were not made.
    #[must_use]
    pub(super) fn send<'a>(
        &mut self,
        writes: &mut [PutOff],
        send_of: impl Fn(&PutOff) -> Option<(BorrowedFd<'a>, &'a [u8])>,
    ) -> bool {
        let mut pushed = 0;
        for (number, put_off) in writes.iter_mut().enumerate() {
            let Some((socket, bytes)) = send_of(put_off) else { continue };
            let (fd, length) = (Fd(socket.as_raw_fd()), u32::try_from(bytes.len()).unwrap_or(0));
            let mut flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL | SendFlags::from_bits_retain(MSG_WAITALL);
            flags.set(SendFlags::MORE, put_off.more);
            let entry = opcode::Send::new(fd, bytes.as_ptr(), length).flags(flags.bits().cast_signed()).build();
            let entry = entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(number as u64);
            // SAFETY: sockets and bytes are borrowed for longer than this function runs, and the kernel is done with
            // both when it returns. It carries a request out within the call that submits it unless that would wait,
            // and one with MSG_DONTWAIT never waits: it fails with EAGAIN (`REQ_F_NOWAIT`). Requests that the call
            // below leaves in the ring are never submitted, because the caller drops a ring of no use.
            if unsafe { self.0.submission().push(&entry) }.is_err() {
                break;
            }
            // Only what a socket does not take whole is reported.
            put_off.sent = bytes.len();
            pushed += 1;
        }
        let submitted = self.submit();
        for done in self.0.completion() {
            if let Some(put_off) = usize::try_from(done.user_data()).ok().and_then(|number| writes.get_mut(number)) {
                put_off.sent = usize::try_from(done.result()).unwrap_or(0);
            }
        }
        if submitted < pushed {
            // In order: the last ones are those that the system did not take.
            let mut left = pushed - submitted;
            for put_off in writes.iter_mut().rev().filter(|put_off| put_off.sent > 0) {
                if left == 0 {
                    break;
                }
                put_off.sent = 0;
                left -= 1;
            }
        }
        submitted == pushed
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

/// Counts a send that is cut short as failed, and so has it reported: io_uring_prep_send(3).
const MSG_WAITALL: u32 = 0x100;
