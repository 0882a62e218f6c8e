//! Shortages of the gateway itself: failures of system calls that no backend and no client is charged with.

use std::io;

use rustix::io::Errno;

/// A system call failed because this host or this process was short of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LocalFailure {
    /// EMFILE: the process has no file descriptor left.
    ProcessDescriptors,
    /// ENFILE: the system has no file descriptor left.
    SystemDescriptors,
    /// ENOBUFS: the kernel has no buffer space left.
    Buffers,
    /// ENOMEM: the kernel has no memory left.
    Memory,
    /// EADDRNOTAVAIL: no source port is left towards that address.
    SourcePorts,
}

impl LocalFailure {
    /// Every value, in the order of the variants.
    pub const ALL: [Self; 5] =
        [Self::ProcessDescriptors, Self::SystemDescriptors, Self::Buffers, Self::Memory, Self::SourcePorts];

    /// The shortage that an error tells of; `None` for every other error.
    pub fn of(error: &io::Error) -> Option<Self> {
        let code = error.raw_os_error()?;
        Self::ALL.into_iter().find(|shortage| shortage.errno().raw_os_error() == code)
    }

    /// The `kind` label: the error's name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProcessDescriptors => "emfile",
            Self::SystemDescriptors => "enfile",
            Self::Buffers => "enobufs",
            Self::Memory => "enomem",
            Self::SourcePorts => "eaddrnotavail",
        }
    }

    fn errno(self) -> Errno {
        match self {
            Self::ProcessDescriptors => Errno::MFILE,
            Self::SystemDescriptors => Errno::NFILE,
            Self::Buffers => Errno::NOBUFS,
            Self::Memory => Errno::NOMEM,
            Self::SourcePorts => Errno::ADDRNOTAVAIL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_known_by_the_systems_error_and_nothing_else_is_one() {
        for shortage in LocalFailure::ALL {
            let error = io::Error::from_raw_os_error(shortage.errno().raw_os_error());
            assert_eq!(LocalFailure::of(&error), Some(shortage));
        }
        for errno in [Errno::CONNREFUSED, Errno::TIMEDOUT, Errno::NETUNREACH, Errno::CONNRESET, Errno::PERM] {
            assert_eq!(LocalFailure::of(&io::Error::from_raw_os_error(errno.raw_os_error())), None);
        }
        assert_eq!(LocalFailure::of(&io::Error::other("too many open files")), None);
    }
}
