//! Sealing: data and messages of this side as records.

use aws_lc_rs::aead::Aad;

use super::alert::{CLOSE_NOTIFY, FATAL, NO_RENEGOTIATION, WARNING};
use super::keys::used;
use super::{ALERT, Alert, DATA, EXPLICIT, HANDSHAKE, HEADER, MOST_CONTENT, Owed, RecordVersion, Records};

/// Result of sealing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SealedRecords {
    /// Bytes of data that were sealed.
    pub taken: usize,
    /// Bytes of records that came of them.
    pub written: usize,
}

/// The keys protect nothing more, and the version has no way to change them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the keys of the connection are worn out")]
pub struct WornOut;

impl Records {
    /// Seals the beginning of `data` into `out`, in records that are as long as can be: all of it, when `out` has room.
    /// A KeyUpdate that is due goes before it.
    ///
    /// # Errors
    /// The keys are worn out. Nothing was sealed.
    pub fn seal(&mut self, mut data: &[u8], out: &mut [u8]) -> Result<SealedRecords, WornOut> {
        let mut sealed = SealedRecords::default();
        loop {
            let rest = &mut out[sealed.written..];
            let room = rest.len().saturating_sub(HEADER + self.overhead() + ROOM_FOR_UPDATE);
            let length = data.len().min(MOST_CONTENT).min(room);
            if length == 0 {
                return Ok(sealed);
            }
            let mut written = match self.update(rest) {
                Ok(written) => written,
                Err(WornOut) if sealed.written > 0 => return Ok(sealed),
                Err(WornOut) => return Err(WornOut),
            };
            written += self.seal_record(DATA, &data[..length], &mut rest[written..]).ok_or(WornOut)?;
            data = &data[length..];
            sealed.taken += length;
            sealed.written += written;
        }
    }

    /// Changes the keys if that is due, and seals the message that says so.
    fn update(&mut self, out: &mut [u8]) -> Result<usize, WornOut> {
        let asks = match (self.version, self.owed, self.sealing.are_worn_out()) {
            (_, Owed::Nothing, false) => return Ok(0),
            (RecordVersion::Tls12, ..) => return Err(WornOut),
            (_, Owed::Update, false) => 0,
            (_, Owed::Request, _) | (_, _, true) => 1,
        };
        let written = self.seal_record(HANDSHAKE, &[24, 0, 0, 1, asks], out).ok_or(WornOut)?;
        self.sealing = self.sealing.next().ok_or(WornOut)?;
        self.owed = Owed::Nothing;
        Ok(written)
    }

    /// Seals the alert that ends the connection by a fault of the other side. Returns its length; 0 where the keys
    /// protect nothing more.
    pub fn seal_alert(&mut self, alert: Alert, out: &mut [u8]) -> usize {
        self.seal_record(ALERT, &[FATAL, alert.code()], out).unwrap_or(0)
    }

    /// Seals the `close_notify` behind which this side sends nothing more. Returns its length.
    pub fn seal_close(&mut self, out: &mut [u8]) -> usize {
        self.seal_record(ALERT, &[WARNING, CLOSE_NOTIFY], out).unwrap_or(0)
    }

    /// Seals the warning that declines another handshake, if one was asked for. Returns its length.
    pub fn seal_refusal(&mut self, out: &mut [u8]) -> usize {
        if !std::mem::take(&mut self.declines) {
            return 0;
        }
        self.seal_record(ALERT, &[WARNING, NO_RENEGOTIATION], out).unwrap_or(0)
    }

    /// Seals a handshake message of a test.
    #[cfg(test)]
    pub(in crate::tls) fn seal_message(&mut self, message: &[u8], out: &mut [u8]) -> usize {
        self.seal_record(HANDSHAKE, message, out).unwrap_or(0)
    }

    /// Seals one record into the beginning of `out`, which has the room. Returns its length.
    pub(super) fn seal_record(&mut self, kind: u8, content: &[u8], out: &mut [u8]) -> Option<usize> {
        match self.version {
            RecordVersion::Tls13 => self.seal_tls13(kind, content, out),
            RecordVersion::Tls12 => self.seal_tls12(kind, content, out),
        }
    }

    fn seal_tls13(&mut self, kind: u8, content: &[u8], out: &mut [u8]) -> Option<usize> {
        let length = content.len() + self.overhead();
        let header = header(DATA, length)?;
        let (place, sealed) = out.get_mut(..HEADER + length)?.split_at_mut(HEADER);
        place.copy_from_slice(&header);
        let (cipher, end) = sealed.split_at_mut(content.len());
        let nonce = used(self.sealing.nonce()?);
        self.sealing.key.seal_out_of_place_scatter(nonce, Aad::from(header), content, cipher, &[kind], end).ok()?;
        Some(HEADER + length)
    }

    fn seal_tls12(&mut self, kind: u8, content: &[u8], out: &mut [u8]) -> Option<usize> {
        let length = content.len() + self.overhead();
        let header = header(kind, length)?;
        let aad = additional(self.sealing.sequence, header, content.len())?;
        let (place, sealed) = out.get_mut(..HEADER + length)?.split_at_mut(HEADER);
        place.copy_from_slice(&header);
        let nonce = self.sealing.nonce()?;
        let explicit = if self.overhead() > super::TAG { EXPLICIT } else { 0 };
        let (stated, sealed) = sealed.split_at_mut(explicit);
        stated.copy_from_slice(&nonce[nonce.len() - explicit..]);
        let (cipher, tag) = sealed.split_at_mut(content.len());
        self.sealing.key.seal_out_of_place_scatter(used(nonce), Aad::from(aad), content, cipher, &[], tag).ok()?;
        Some(HEADER + length)
    }
}

/// Header of a record.
fn header(kind: u8, length: usize) -> Option<[u8; HEADER]> {
    let [high, low] = u16::try_from(length).ok()?.to_be_bytes();
    Some([kind, 3, 3, high, low])
}

/// Additional data of a record of TLS 1.2 (RFC 5246 §6.2.3.3): its number, and its header with the length of its
/// content.
pub(super) fn additional(sequence: u64, header: [u8; HEADER], length: usize) -> Option<[u8; 13]> {
    let mut aad = [0; 13];
    aad[..8].copy_from_slice(&sequence.to_be_bytes());
    aad[8..11].copy_from_slice(&header[..3]);
    aad[11..].copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
    Some(aad)
}

/// A record with a KeyUpdate.
const ROOM_FOR_UPDATE: usize = HEADER + 5 + 17;
