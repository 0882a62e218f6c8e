//! Text for the log: how many tunnels of a handover speak TLS, and on which side.

use std::fmt;

use crate::ws::Sides;

/// Number of tunnels that moved and speak TLS, by the sides that do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SpeakTls {
    client: usize,
    backend: usize,
    both: usize,
}

impl SpeakTls {
    /// Counts a tunnel by the sides that speak TLS.
    pub(super) fn count(&mut self, tls: Sides<bool>) {
        match tls.into_array() {
            [false, false] => {}
            [true, false] => self.client += 1,
            [false, true] => self.backend += 1,
            [true, true] => self.both += 1,
        }
    }
}

/// Writes nothing when no tunnel speaks TLS.
impl fmt::Display for SpeakTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, backend, both } = self;
        match client + backend + both {
            0 => Ok(()),
            all => write!(f, ", {all} with TLS ({client} to the client, {backend} to the backend, {both} to both)"),
        }
    }
}
