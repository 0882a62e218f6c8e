//! File descriptors: the numbers that clients' connections may have, and those kept for the gateway's own work.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Resource, getrlimit};

/// The mark that parts the file descriptors of this process.
///
/// The system gives out the lowest number that is free (POSIX, open(2)). So as long as no connection that serves
/// clients keeps a number at or above the mark, the numbers from there to the limit are free for control, metrics and
/// checks: at most 64 of them, and at least 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    mark: RawFd,
    /// Number of the first that the process may not have.
    limit: RawFd,
}

impl Descriptors {
    /// The descriptors of this process, by its limit now (`RLIMIT_NOFILE`).
    pub fn of_process() -> Self {
        Self::up_to(limit_of_process())
    }

    /// Number of descriptors that this process keeps for its own work.
    pub fn kept_by_process() -> usize {
        usize::try_from(kept(limit_of_process())).unwrap_or_default()
    }

    fn up_to(limit: RawFd) -> Self {
        Self { mark: limit - kept(limit), limit }
    }

    /// True when a connection that is opened now would have a number that clients may have. `latest` is the number of
    /// one that was opened a moment ago, if any: far below the mark nothing is asked of the system. `any` is any open
    /// descriptor.
    pub fn has_room(&self, latest: Option<RawFd>, any: impl AsFd) -> bool {
        if latest.is_some_and(|latest| latest < self.mark - NEAR) {
            return true;
        }
        match fcntl_dupfd_cloexec(any, 0) {
            Ok(lowest_free) => lowest_free.as_raw_fd() < self.mark,
            Err(error) => !matches!(error, Errno::MFILE | Errno::NFILE),
        }
    }

    /// Lets a connection that serves clients pass, and closes it where its number is one of those that are kept.
    ///
    /// # Errors
    /// EMFILE, as if the system had none left.
    pub fn admit<S: AsFd>(&self, connection: S) -> io::Result<S> {
        if self.are_for_clients(connection.as_fd().as_raw_fd()) { Ok(connection) } else { Err(Errno::MFILE.into()) }
    }

    /// True when a client that has this number is to be told that there is no room, with what is left for its answer:
    /// from as many descriptors below the mark as are kept above it. A share would waste thousands of a high limit.
    pub fn is_scarce(&self, number: RawFd) -> bool {
        number >= self.scarce()
    }

    /// Number of descriptors for clients that are told so.
    pub fn for_refusals(&self) -> usize {
        usize::try_from(self.mark - self.scarce()).unwrap_or_default()
    }

    fn scarce(&self) -> RawFd {
        self.mark - (self.limit - self.mark)
    }

    /// True when a connection that serves clients may have this number.
    pub fn are_for_clients(&self, number: RawFd) -> bool {
        number < self.mark
    }
}

/// Makes the system find room for all descriptors that this process may have, at 8 bytes each, instead of for twice as
/// many whenever they run out. Each time it would, every thread that opens a connection waits for 5 to 15 ms: the table
/// of a process with threads is replaced behind an RCU grace period (Linux, `expand_fdtable`).
pub fn make_room(any: impl AsFd) {
    let last = limit_of_process().min(MOST_AT_ONCE) - 1;
    // Where the system refuses, room grows as it is needed.
    drop(fcntl_dupfd_cloexec(any, last));
}

fn limit_of_process() -> RawFd {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    RawFd::try_from(limit).unwrap_or(RawFd::MAX)
}

fn kept(limit: RawFd) -> RawFd {
    (limit / 16).clamp(LEAST_RESERVED, MOST_RESERVED)
}

/// Descriptors for which there is room from the start: a MiB of the system's memory. Few processes reach them.
const MOST_AT_ONCE: RawFd = 131_072;
const LEAST_RESERVED: RawFd = 4;
const MOST_RESERVED: RawFd = 64;
/// Numbers below the mark among which each connection is asked for: others may have been opened since the latest.
const NEAR: RawFd = 256;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    fn marked(mark: RawFd) -> Descriptors {
        Descriptors { mark, limit: mark }
    }

    #[test]
    fn clients_are_told_while_descriptors_are_left_to_tell_them() {
        let told = |limit| (Descriptors::up_to(limit).scarce(), Descriptors::up_to(limit).for_refusals());
        let of = [32, 110, 200, 1_024, 20_000, 65_536].map(told);
        assert_eq!(of, [(24, 4), (98, 6), (176, 12), (896, 64), (19_872, 64), (65_408, 64)]);
        assert!(Descriptors::up_to(200).is_scarce(176) && !Descriptors::up_to(200).is_scarce(175));
        assert!(!Descriptors::up_to(RawFd::MAX).is_scarce(1_000_000));
    }

    #[test]
    fn a_sixteenth_is_kept_and_between_4_and_64() {
        let kept = |limit| limit - Descriptors::up_to(limit).mark;
        assert_eq!([32, 110, 256, 1_024, 65_536, RawFd::MAX].map(kept), [4, 6, 16, 64, 64, 64]);
    }

    #[test]
    fn a_connection_above_the_mark_is_refused_as_the_system_would() {
        let (low, high) = (listener(), listener());
        let mark = high.as_raw_fd().max(low.as_raw_fd());
        let descriptors = Descriptors { mark, limit: mark };
        let [low, high] = if low.as_raw_fd() < high.as_raw_fd() { [low, high] } else { [high, low] };
        assert!(descriptors.admit(&low).is_ok());
        let error = descriptors.admit(&high).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::MFILE.raw_os_error()));
    }

    #[test]
    fn room_for_all_descriptors_is_made_at_once() {
        make_room(listener());
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        let size: RawFd = size.trim().parse().unwrap();
        assert!(size >= limit_of_process().min(MOST_AT_ONCE), "{size}");
    }

    #[test]
    fn there_is_room_while_the_lowest_free_number_is_below_the_mark() {
        let any = listener();
        assert!(marked(100_000).has_room(None, &any));
        assert!(!marked(3).has_room(None, &any));
        assert!(marked(1_000).has_room(Some(700), &any));
    }
}
