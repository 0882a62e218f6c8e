//! Standard output, standard error or a file, written without the locks of the standard library.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};

/// An open target.
///
/// Standard output and error are duplicated descriptors: a write that blocks holds no lock that `println!`, a panic
/// message or the end of the process would wait for.
#[derive(Debug)]
pub struct Output {
    file: File,
}

impl Output {
    /// Standard output of the process as it is now.
    ///
    /// # Errors
    /// The descriptor cannot be duplicated.
    pub fn stdout() -> io::Result<Self> {
        Ok(Self { file: File::from(io::stdout().as_fd().try_clone_to_owned()?) })
    }

    /// Standard error of the process as it is now.
    ///
    /// # Errors
    /// The descriptor cannot be duplicated.
    pub fn stderr() -> io::Result<Self> {
        Ok(Self { file: File::from(io::stderr().as_fd().try_clone_to_owned()?) })
    }

    /// A file, made where it is missing, and appended to.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn file(path: &Path) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().create(true).append(true).open(path)? })
    }

    /// Writes all of `bytes`. Waits where the target is full, even if its descriptor is set to non-blocking by another
    /// process that shares it.
    ///
    /// # Errors
    /// The target refused the bytes, or a part of them.
    pub fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let writable = PollFd::new(&self.file, PollFlags::OUT);
                    // Woken early by a signal, the next write says again that it would block.
                    let _ = poll(&mut [writable], None);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
