//! Opening: records of the other side as data, and judgement of everything else in them.

use aws_lc_rs::aead::Aad;

use super::alert::{CLOSE_NOTIFY, FATAL, USER_CANCELED};
use super::keys::used;
use super::messages::MessageDemand;
use super::seal::additional;
use super::{
    ALERT, Alert, CHANGE_CIPHER_SPEC, Cipher, DATA, EXPLICIT, HANDSHAKE, HEADER, MOST_CONTENT, Owed, RecordVersion,
    Records, TAG,
};

/// Result of opening.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenedRecords {
    /// Bytes of whole records that were read.
    pub consumed: usize,
    /// Bytes of data that came of them.
    pub produced: usize,
    /// End of the stream, if it came; nothing is to be opened behind it.
    pub end: Option<StreamEnd>,
}

/// End of the stream of the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum StreamEnd {
    /// Its `close_notify`.
    Closed,
    /// Its alert, with this description.
    Alerted(u8),
    /// A fault of its, for which it is to be sent this alert.
    Refused(Alert),
}

/// A record that stands whole at the beginning of some bytes.
struct Record<'a> {
    kind: u8,
    header: [u8; HEADER],
    payload: &'a [u8],
}

impl Records {
    /// Opens the whole records that `records` begins with, and puts their data into the beginning of `data`, which must
    /// be as long as `records` at least. The bytes that are left begin a record.
    pub fn open(&mut self, records: &[u8], data: &mut [u8]) -> OpenedRecords {
        let mut opened = OpenedRecords::default();
        while opened.end.is_none() {
            match self.open_record(&records[opened.consumed..], &mut data[opened.produced..]) {
                Ok(None) => break,
                Ok(Some((consumed, produced))) => {
                    opened.consumed += consumed;
                    opened.produced += produced;
                }
                Err(end) => opened.end = Some(end),
            }
        }
        opened
    }

    /// Opens one record. Returns its length and that of its data; `None` when it is not whole.
    fn open_record(&mut self, records: &[u8], data: &mut [u8]) -> Result<Option<(usize, usize)>, StreamEnd> {
        let Some(record) = self.next_record(records)? else { return Ok(None) };
        let consumed = HEADER + record.payload.len();
        let (kind, length) = match self.version {
            RecordVersion::Tls13 => self.open_tls13(&record, data)?,
            RecordVersion::Tls12 => self.open_tls12(&record, data)?,
        };
        if self.messages.under_way() && kind != HANDSHAKE {
            return Err(StreamEnd::Refused(Alert::UnexpectedMessage));
        }
        let content = &data[..length];
        match kind {
            DATA if length > 0 => {
                self.fruitless = 0;
                if self.version == RecordVersion::Tls13 && self.opening.have_just_worn_out() {
                    self.owed = Owed::Request;
                }
                return Ok(Some((consumed, length)));
            }
            DATA => self.count_fruitless()?,
            HANDSHAKE => self.read_messages(content)?,
            ALERT => self.read_alert(content)?,
            _ => return Err(StreamEnd::Refused(Alert::UnexpectedMessage)),
        }
        Ok(Some((consumed, 0)))
    }

    /// Finds the next record, and judges its header as soon as it is there.
    fn next_record<'a>(&self, records: &'a [u8]) -> Result<Option<Record<'a>>, StreamEnd> {
        let Some((&header, rest)) = records.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [kind, major, _, high, low] = header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (is_right, most) = match self.version {
            // Whatever is protected says that it is data; a ChangeCipherSpec comes before Finished only.
            RecordVersion::Tls13 => (kind == DATA, MOST_CONTENT + 256),
            RecordVersion::Tls12 => (matches!(kind, ALERT | HANDSHAKE | DATA), MOST_CONTENT + 2048),
        };
        if major != 3 || !(CHANGE_CIPHER_SPEC..=DATA).contains(&kind) {
            return Err(StreamEnd::Refused(Alert::DecodeError));
        }
        if !is_right {
            return Err(StreamEnd::Refused(Alert::UnexpectedMessage));
        }
        if length > most {
            return Err(StreamEnd::Refused(Alert::RecordOverflow));
        }
        Ok(rest.get(..length).map(|payload| Record { kind, header, payload }))
    }

    /// Opens a record of TLS 1.3. Returns the type and the length of its content.
    fn open_tls13(&mut self, record: &Record<'_>, data: &mut [u8]) -> Result<(u8, usize), StreamEnd> {
        let nonce = self.opening.nonce();
        let length = self.decrypt(nonce, Aad::from(record.header), record.payload, data)?;
        if length > MOST_CONTENT + 1 {
            return Err(StreamEnd::Refused(Alert::RecordOverflow));
        }
        // The type is the last byte that is not padding.
        match data[..length].iter().rposition(|byte| *byte != 0) {
            Some(at) => Ok((data[at], at)),
            None => Err(StreamEnd::Refused(Alert::UnexpectedMessage)),
        }
    }

    /// Opens a record of TLS 1.2. Returns the type and the length of its content.
    fn open_tls12(&mut self, record: &Record<'_>, data: &mut [u8]) -> Result<(u8, usize), StreamEnd> {
        let sequence = self.opening.sequence;
        let (nonce, sealed) = match (self.opening.cipher, record.payload.split_first_chunk::<EXPLICIT>()) {
            (Cipher::Chacha20Poly1305, _) => (self.opening.nonce(), record.payload),
            (_, Some((explicit, sealed))) => (self.opening.nonce_with(*explicit), sealed),
            (_, None) => return Err(BAD_RECORD),
        };
        let content = sealed.len().checked_sub(TAG).ok_or(BAD_RECORD)?;
        let aad = additional(sequence, record.header, content).ok_or(BAD_RECORD)?;
        let length = self.decrypt(nonce, Aad::from(aad), sealed, data)?;
        if length > MOST_CONTENT {
            return Err(StreamEnd::Refused(Alert::RecordOverflow));
        }
        Ok((record.kind, length))
    }

    /// Decrypts what `sealed` holds before its tag. Returns the length of that.
    fn decrypt<A: AsRef<[u8]>>(
        &self,
        nonce: Option<[u8; 12]>,
        aad: Aad<A>,
        sealed: &[u8],
        data: &mut [u8],
    ) -> Result<usize, StreamEnd> {
        let length = sealed.len().checked_sub(TAG).ok_or(BAD_RECORD)?;
        let (cipher, tag) = sealed.split_at(length);
        let nonce = used(nonce.ok_or(BAD_RECORD)?);
        let data = data.get_mut(..length).ok_or(BAD_RECORD)?;
        self.opening.key.open_separate_gather(nonce, aad, cipher, tag, data).map_err(|_| BAD_RECORD)?;
        Ok(length)
    }

    fn read_messages(&mut self, content: &[u8]) -> Result<(), StreamEnd> {
        if content.is_empty() {
            return Err(StreamEnd::Refused(Alert::UnexpectedMessage));
        }
        match self.messages.read(content, self.role, self.version).map_err(StreamEnd::Refused)? {
            MessageDemand::Nothing => {}
            MessageDemand::NewKeys { answer } => {
                self.count_fruitless()?;
                self.opening = self.opening.next().ok_or(BAD_RECORD)?;
                if answer && self.owed == Owed::Nothing {
                    self.owed = Owed::Update;
                }
            }
            MessageDemand::Renegotiation => {
                self.count_fruitless()?;
                self.declines = true;
            }
        }
        Ok(())
    }

    /// Reads the content of an alert's record, which is one alert (RFC 8446 §5.1).
    fn read_alert(&mut self, content: &[u8]) -> Result<(), StreamEnd> {
        match *content {
            [] => Err(StreamEnd::Refused(Alert::UnexpectedMessage)),
            [_, CLOSE_NOTIFY] => Err(StreamEnd::Closed),
            // Every other alert of TLS 1.3 is fatal, whatever its level says, but for this one.
            [level, USER_CANCELED] if level != FATAL => self.count_fruitless(),
            [level, _] if level != FATAL && self.version == RecordVersion::Tls12 => self.count_fruitless(),
            [_, description] => Err(StreamEnd::Alerted(description)),
            _ => Err(StreamEnd::Refused(Alert::DecodeError)),
        }
    }

    /// Counts a record that brought no data. Few in a row are normal; a flood of them costs more than it brings.
    fn count_fruitless(&mut self) -> Result<(), StreamEnd> {
        self.fruitless += 1;
        if self.fruitless > MOST_FRUITLESS { Err(StreamEnd::Refused(Alert::UnexpectedMessage)) } else { Ok(()) }
    }
}

/// End by a record that the keys do not open.
const BAD_RECORD: StreamEnd = StreamEnd::Refused(Alert::BadRecordMac);
/// Records without data that may come one after the other, as rustls has it.
const MOST_FRUITLESS: u8 = 32;
