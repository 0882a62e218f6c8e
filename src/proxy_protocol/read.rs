//! Reads headers, wherever their bytes are cut.
//!
//! The length of a header is found here, and `proxy-header` decodes the whole ones: its own wish for more bytes does
//! not tell a header that is not complete from bytes that can never be one.

use proxy_header::{ParseConfig, ProxyHeader, Tlv};

use super::{ProxiedConnection, ProxyVersion, ReceivedHeader, Ssl};

/// The outcome of looking at the first bytes of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderRead {
    /// The bytes may become a header, and more are needed to tell.
    NeedsMore,
    /// The bytes are not a header's, whatever follows.
    NotProxy,
    /// A header, and how many bytes it takes. The bytes behind it are the client's.
    Header(usize, Box<ReceivedHeader>),
}

/// Why bytes that begin as a header are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ProxyHeaderError {
    /// Version 1: the line does not end within 107 bytes. Version 2: the header says that it is longer than
    /// [`MOST_BYTES`].
    #[error("the PROXY header is longer than is read")]
    TooLong,
    /// Version 1: the line is not as the protocol writes it.
    #[error("the line of the PROXY header is malformed")]
    Line,
    /// The signature of version 2 is followed by another version's number.
    #[error("the PROXY header has an unknown version")]
    Version,
    /// Version 2: neither `LOCAL` nor `PROXY`.
    #[error("the PROXY header has an unknown command")]
    Command,
    /// Version 2: an address family or a kind of transport that the protocol does not have.
    #[error("the PROXY header has an unknown address family")]
    Family,
    /// Version 2: the header is too short for the addresses of its family.
    #[error("the PROXY header is too short for its addresses")]
    Addresses,
    /// Version 2: the fields after the addresses do not fill the header, or one of them is malformed.
    #[error("a field of the PROXY header is malformed")]
    Field,
    /// Version 2: the header has a checksum (`PP2_TYPE_CRC32C`), and its bytes have another one.
    #[error("the checksum of the PROXY header is wrong")]
    Checksum,
}

impl ProxyHeaderError {
    /// Every value, in the order of the variants.
    pub const ALL: [Self; 8] = [
        Self::TooLong,
        Self::Line,
        Self::Version,
        Self::Command,
        Self::Family,
        Self::Addresses,
        Self::Field,
        Self::Checksum,
    ];

    /// A word for labels of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Line => "line",
            Self::Version => "version",
            Self::Command => "command",
            Self::Family => "family",
            Self::Addresses => "addresses",
            Self::Field => "field",
            Self::Checksum => "checksum",
        }
    }
}

/// Looks at the first bytes of a connection. Called again with more bytes, it begins anew: a header is short.
///
/// # Errors
/// The bytes begin as a header and are none.
pub fn read(bytes: &[u8]) -> Result<HeaderRead, ProxyHeaderError> {
    if begins(bytes, SIGNATURE) {
        return if bytes.len() < PREAMBLE { Ok(HeaderRead::NeedsMore) } else { read_v2(bytes) };
    }
    if begins(bytes, WORD) {
        return if bytes.len() < WORD.len() { Ok(HeaderRead::NeedsMore) } else { read_v1(bytes) };
    }
    Ok(HeaderRead::NotProxy)
}

/// Tells if the first bytes of a connection are those of a header of either version, whole or not.
pub fn is_header(bytes: &[u8]) -> bool {
    bytes.starts_with(WORD) || bytes.starts_with(SIGNATURE)
}

/// True when one of the two is the beginning of the other.
fn begins(bytes: &[u8], prefix: &[u8]) -> bool {
    let common = bytes.len().min(prefix.len());
    bytes[..common] == prefix[..common]
}

fn read_v1(bytes: &[u8]) -> Result<HeaderRead, ProxyHeaderError> {
    let line = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
        return if line.len() < LONGEST_LINE { Ok(HeaderRead::NeedsMore) } else { Err(ProxyHeaderError::TooLong) };
    };
    let line = &bytes[..=end];
    let text = line[WORD.len()..].strip_suffix(b"\r\n").ok_or(ProxyHeaderError::Line)?;
    // `UNKNOWN` may be followed by anything, which is to be ignored.
    if text.strip_prefix(b"UNKNOWN").is_some_and(|rest| rest.is_empty() || rest[0] == b' ') {
        return Ok(found(ProxyVersion::V1, line.len(), ProxiedConnection::Unknown));
    }
    // Rust reads a port with a sign, and with zeros before it; the protocol has neither.
    let ports = text.split(|byte| *byte == b' ').skip(3);
    if ports.into_iter().any(|port| port.starts_with(b"+") || (port.len() > 1 && port.starts_with(b"0"))) {
        return Err(ProxyHeaderError::Line);
    }
    let (header, length) = ProxyHeader::parse(line, ParseConfig::default()).map_err(|_| ProxyHeaderError::Line)?;
    match header.proxied_address() {
        Some(address) if length == line.len() => {
            let origin = ProxiedConnection::Proxied { source: address.source, destination: address.destination };
            Ok(found(ProxyVersion::V1, length, origin))
        }
        _ => Err(ProxyHeaderError::Line),
    }
}

fn found(version: ProxyVersion, length: usize, origin: ProxiedConnection) -> HeaderRead {
    HeaderRead::Header(
        length,
        Box::new(ReceivedHeader { version, origin, authority: None, unique_id: None, ssl: None }),
    )
}

fn read_v2(bytes: &[u8]) -> Result<HeaderRead, ProxyHeaderError> {
    let [command, family, high, low] = [bytes[12], bytes[13], bytes[14], bytes[15]];
    if command >> 4 != 2 {
        return Err(ProxyHeaderError::Version);
    }
    let length = PREAMBLE + usize::from(u16::from_be_bytes([high, low]));
    if length > MOST_BYTES {
        return Err(ProxyHeaderError::TooLong);
    }
    let Some(header) = bytes.get(..length) else { return Ok(HeaderRead::NeedsMore) };
    match command & 0x0f {
        // All of the rest is to be discarded, the family too.
        LOCAL => return Ok(found(ProxyVersion::V2, length, ProxiedConnection::Local)),
        PROXY => {}
        _ => return Err(ProxyHeaderError::Command),
    }
    let addresses = match (family >> 4, family & 0x0f) {
        (UNSPEC, 0..=DATAGRAM) | (_, UNSPEC) if family >> 4 <= UNIX => {
            // Of an unknown connection neither addresses nor fields can be found.
            return Ok(found(ProxyVersion::V2, length, ProxiedConnection::Unknown));
        }
        (INET, STREAM | DATAGRAM) => 12,
        (INET6, STREAM | DATAGRAM) => 36,
        (UNIX, STREAM | DATAGRAM) => 216,
        _ => return Err(ProxyHeaderError::Family),
    };
    if length - PREAMBLE < addresses {
        return Err(ProxyHeaderError::Addresses);
    }
    let (parsed, _) = ProxyHeader::parse(header, ParseConfig::default()).map_err(|_| ProxyHeaderError::Field)?;
    verify_checksum(header, PREAMBLE + addresses)?;
    let origin = match parsed.proxied_address() {
        Some(address) if family & 0x0f == STREAM => {
            ProxiedConnection::Proxied { source: address.source, destination: address.destination }
        }
        _ => ProxiedConnection::Unknown,
    };
    let mut header = ReceivedHeader { version: ProxyVersion::V2, origin, authority: None, unique_id: None, ssl: None };
    read_fields(&parsed, &mut header)?;
    Ok(HeaderRead::Header(length, Box::new(header)))
}

/// Compares the checksum of a header whose fields begin at `fields` with that of its bytes, in which zeros stand for
/// the checksum itself (§2.2.3 of the protocol). A header without one is right.
fn verify_checksum(header: &[u8], fields: usize) -> Result<(), ProxyHeaderError> {
    let mut at = fields;
    while let Some([kind, high, low]) = header.get(at..at + FIELD_HEAD) {
        let value = at + FIELD_HEAD;
        let end = value + usize::from(u16::from_be_bytes([*high, *low]));
        if *kind == CRC32C {
            let said = header.get(value..end).and_then(|said| <[u8; 4]>::try_from(said).ok());
            let said = said.ok_or(ProxyHeaderError::Field)?;
            let before = crc32c::crc32c_append(crc32c::crc32c(&header[..value]), &[0; 4]);
            let found = crc32c::crc32c_append(before, &header[end..]);
            return if found == u32::from_be_bytes(said) { Ok(()) } else { Err(ProxyHeaderError::Checksum) };
        }
        at = end;
    }
    Ok(())
}

/// Reads the fields that are understood, and skips the others. Of two of a kind the first counts.
fn read_fields(parsed: &ProxyHeader<'_>, header: &mut ReceivedHeader) -> Result<(), ProxyHeaderError> {
    for field in parsed.tlvs() {
        match field.map_err(|_| ProxyHeaderError::Field)? {
            Tlv::Authority(name) => _ = header.authority.get_or_insert_with(|| name.into_owned()),
            Tlv::UniqueId(id) if id.len() > LONGEST_UNIQUE_ID => return Err(ProxyHeaderError::Field),
            Tlv::UniqueId(id) => _ = header.unique_id.get_or_insert_with(|| id.into_owned()),
            Tlv::Ssl(info) if header.ssl.is_none() => {
                let certificate = info.client_cert_conn() || info.client_cert_sess();
                let mut ssl = Ssl {
                    tls: info.client_ssl(),
                    certificate,
                    verified: certificate && info.verify() == 0,
                    ..Ssl::default()
                };
                for field in info.tlvs() {
                    match field.map_err(|_| ProxyHeaderError::Field)? {
                        Tlv::SslVersion(version) => ssl.version = Some(version.into_owned()),
                        Tlv::SslCn(name) => ssl.common_name = Some(name.into_owned()),
                        _ => {}
                    }
                }
                header.ssl = Some(ssl);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Longest header of version 2 that is read: nginx's bound (`NGX_PROXY_PROTOCOL_MAX_HEADER`). Addresses and the fields
/// that senders are known for take a few hundred bytes, and a client's certificate two or three KiB.
pub const MOST_BYTES: usize = 4096;

/// Longest line of version 1, by the protocol.
const LONGEST_LINE: usize = 107;
const WORD: &[u8] = b"PROXY ";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length of the rest.
const PREAMBLE: usize = SIGNATURE.len() + 4;
/// Type of a field, and length of its value.
const FIELD_HEAD: usize = 3;
/// `PP2_TYPE_CRC32C`.
const CRC32C: u8 = 3;
/// By the protocol.
const LONGEST_UNIQUE_ID: usize = 128;

const LOCAL: u8 = 0;
const PROXY: u8 = 1;
const UNSPEC: u8 = 0;
const INET: u8 = 1;
const INET6: u8 = 2;
const UNIX: u8 = 3;
const STREAM: u8 = 1;
const DATAGRAM: u8 = 2;
