//! A session together with the bytes that its socket has yet to take.

use rustls::Error;

use super::Session;

/// A session, and the sealed bytes that its socket has yet to take. Does no I/O.
pub struct Sealed {
    session: Session,
    unsent: Vec<u8>,
    /// Bytes of `unsent` that the socket took.
    sent: usize,
}

impl Sealed {
    /// A session of which nothing waits to be sent. Of a client's session the first flight does.
    pub fn new(mut session: Session) -> Self {
        let mut unsent = Vec::new();
        session.flush(&mut unsent);
        Self { session, unsent, sent: 0 }
    }

    /// Takes bytes that came, and appends the plaintext in them to `plain`. There may be something to be sent
    /// afterwards, after an error as well.
    ///
    /// # Errors
    /// Errors of [`Session::read_tls`].
    pub fn open(&mut self, cipher: &[u8], plain: &mut Vec<u8>) -> Result<(), Error> {
        let opened = self.session.read_tls(cipher, plain);
        self.session.flush(&mut self.unsent);
        opened
    }

    /// Seals `plain` behind everything else that is to be sent.
    pub fn seal(&mut self, plain: &[u8]) {
        self.session.write(plain, &mut self.unsent);
    }

    /// Ends the sending direction by a `close_notify`, behind everything else that is to be sent.
    pub fn close(&mut self) {
        self.session.close(&mut self.unsent);
    }

    /// The bytes to be sent next.
    pub fn unsent(&self) -> &[u8] {
        &self.unsent[self.sent..]
    }

    /// Notes that the socket took `count` of the [`unsent`](Self::unsent) bytes.
    pub fn sent(&mut self, count: usize) {
        self.sent += count;
        if self.sent >= self.unsent.len() {
            // A connection may be silent for long.
            self.unsent = Vec::new();
            self.sent = 0;
        }
    }

    /// The session.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// The session, and the bytes that its socket has yet to take.
    pub fn into_parts(mut self) -> (Session, Vec<u8>) {
        self.unsent.drain(..self.sent);
        (self.session, self.unsent)
    }
}
