//! Alerts of TLS (RFC 8446 §6), as far as a record layer sends them.

/// Alert that ends a connection; each variant is a fault of the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Alert {
    /// A message that has no place here.
    UnexpectedMessage,
    /// A record that the keys do not open.
    BadRecordMac,
    /// A record that is longer than the version allows.
    RecordOverflow,
    /// A field with a value that it cannot have.
    IllegalParameter,
    /// Bytes that are no message, or no record.
    DecodeError,
}

impl Alert {
    /// Its number in the registry of alerts.
    pub fn code(self) -> u8 {
        match self {
            Self::UnexpectedMessage => 10,
            Self::BadRecordMac => 20,
            Self::RecordOverflow => 22,
            Self::IllegalParameter => 47,
            Self::DecodeError => 50,
        }
    }
}

/// Levels of alerts.
pub(super) const WARNING: u8 = 1;
pub(super) const FATAL: u8 = 2;
/// Descriptions of alerts that are no faults.
pub(super) const CLOSE_NOTIFY: u8 = 0;
pub(super) const USER_CANCELED: u8 = 90;
pub(super) const NO_RENEGOTIATION: u8 = 100;
