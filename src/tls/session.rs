//! A TLS connection of rustls that does no I/O: bytes go in, and come out.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, Connection, ConnectionTrafficSecrets, HandshakeKind, ProtocolVersion,
    ServerConfig, ServerConnection,
};

use super::old_hello;
use super::record::{Cipher, Extracted, LONGEST_RECORD, Records, Role};
use super::secrets::{self, TrafficSecrets};

/// A connection of rustls, of either side.
///
/// Every call is synchronous and does no I/O: the caller reads and writes the socket.
pub struct Session {
    connection: Connection,
    secrets: TrafficSecrets,
    /// Beginning of a record whose rest has yet to come. rustls is given whole records only, so that nothing of one
    /// waits in there when the record layer takes its place.
    partial: Vec<u8>,
    signs_slowly: bool,
    /// The client is too old for the gateway's versions.
    is_too_old: bool,
    /// Alert that is sent in place of what rustls would send.
    alert: Option<&'static [u8]>,
}

/// Facts that a handshake settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeFacts {
    /// Version of TLS; `None` before it is settled.
    pub version: Option<ProtocolVersion>,
    /// Cipher suite; `None` before it is settled.
    pub suite: Option<CipherSuite>,
    /// Protocol agreed on by ALPN, `http/1.1` for example.
    pub alpn: Option<Vec<u8>>,
    /// Name that a client asked for by SNI; `None` on the client's side.
    pub server_name: Option<String>,
    /// The other side's certificate and those that it sent along, in that order; empty when it sent none.
    pub peer_certificates: Vec<CertificateDer<'static>>,
    /// The handshake was cut short by a ticket of an earlier one.
    pub resumed: bool,
}

impl Session {
    /// The server's side of a connection.
    ///
    /// # Errors
    /// The configuration is at odds with itself.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self::new(ServerConnection::new(config)?.into()))
    }

    /// The client's side of a connection to `name`.
    ///
    /// # Errors
    /// The configuration is at odds with itself.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, rustls::Error> {
        Ok(Self::new(ClientConnection::new(config, name)?.into()))
    }

    fn new(mut connection: Connection) -> Self {
        // Whoever writes bounds what is written: bytes are sealed at once, or handed in before the handshake's end.
        connection.set_buffer_limit(None);
        let (secrets, partial) = (TrafficSecrets::default(), Vec::new());
        Self { connection, secrets, partial, signs_slowly: false, is_too_old: false, alert: None }
    }

    /// Notes whether a signature by this side's key [takes long](super::certificates::Certificate::signs_slowly).
    #[must_use]
    pub fn with_slow_key(self, signs_slowly: bool) -> Self {
        Self { signs_slowly, ..self }
    }

    /// Tells whether a step of the handshake may take milliseconds, for a signature by this side's key.
    pub fn signs_slowly(&self) -> bool {
        self.signs_slowly
    }

    /// Takes bytes that came from the other side, all of them, and appends the plaintext in them to `plain`.
    ///
    /// There may be something to be [written](Self::flush) afterwards, after an error as well: the alert that tells
    /// the other side of it. Bytes that follow a `close_notify` are ignored (RFC 8446 §6.1).
    ///
    /// # Errors
    /// The other side broke the protocol, was not trusted, or sent a fatal alert. The session is over, and every
    /// further call returns the same error.
    pub fn read_tls(&mut self, cipher: &[u8], plain: &mut Vec<u8>) -> Result<(), rustls::Error> {
        if self.partial.is_empty() {
            let whole = whole_records(cipher);
            self.process(&cipher[..whole], plain)?;
            self.partial.extend_from_slice(&cipher[whole..]);
            return Ok(());
        }
        let mut bytes = std::mem::take(&mut self.partial);
        bytes.extend_from_slice(cipher);
        let whole = whole_records(&bytes);
        self.process(&bytes[..whole], plain)?;
        bytes.drain(..whole);
        if !bytes.is_empty() {
            self.partial = bytes;
        }
        Ok(())
    }

    /// Gives whole records to rustls, and takes the plaintext and the secrets that come of them.
    fn process(&mut self, mut records: &[u8], plain: &mut Vec<u8>) -> Result<(), rustls::Error> {
        if self.is_too_old {
            return Err(old_hello::refusal());
        }
        secrets::forget_captured();
        let (all, mut done) = (records, Ok(()));
        while !records.is_empty() && done.is_ok() {
            match self.connection.read_tls(&mut records) {
                // After a `close_notify`.
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => done = Err(rustls::Error::General(error.to_string())),
            }
            done = done.and_then(|()| self.connection.process_new_packets().map(drop));
            take_plaintext(&mut self.connection, plain);
        }
        self.secrets.take_captured();
        match done {
            Err(error) if old_hello::is_hidden_by(&error, all) => {
                self.refuse_old();
                Err(old_hello::refusal())
            }
            done => done,
        }
    }

    /// Puts the alert for old clients in the place of the one that rustls has made.
    fn refuse_old(&mut self) {
        while self.connection.wants_write() && self.connection.write_tls(&mut io::sink()).is_ok() {}
        (self.is_too_old, self.alert) = (true, Some(&old_hello::ALERT[..]));
    }

    /// Seals `plain`, and appends the records to `cipher`, behind everything else that is to be sent. Before the end
    /// of the handshake the bytes wait for it, without a bound.
    pub fn write(&mut self, plain: &[u8], cipher: &mut Vec<u8>) {
        let mut rest = plain;
        while !rest.is_empty() {
            match self.connection.writer().write(rest) {
                Ok(0) | Err(_) => break,
                Ok(count) => rest = &rest[count..],
            }
        }
        self.flush(cipher);
    }

    /// Appends everything that is to be sent to `cipher`.
    pub fn flush(&mut self, cipher: &mut Vec<u8>) {
        cipher.extend(self.alert.take().unwrap_or_default());
        while self.connection.wants_write() {
            // A vector takes everything.
            if self.connection.write_tls(cipher).is_err() {
                break;
            }
        }
    }

    /// Ends the sending direction: appends a `close_notify` to `cipher`, behind everything else that is to be sent.
    pub fn close(&mut self, cipher: &mut Vec<u8>) {
        self.connection.send_close_notify();
        self.flush(cipher);
    }

    /// Tells whether the handshake is still under way. Bytes that are to be sent may be left when it no longer is.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Tells whether there is something to be sent.
    pub fn wants_write(&self) -> bool {
        self.alert.is_some() || self.connection.wants_write()
    }

    /// Tells whether the other side has sent its `close_notify`: nothing more is to come.
    pub fn peer_has_closed(&mut self) -> bool {
        self.connection.process_new_packets().is_ok_and(|state| state.peer_has_closed())
    }

    /// Facts that the handshake has settled so far.
    pub fn facts(&self) -> HandshakeFacts {
        let connection = &self.connection;
        let server_name = match connection {
            Connection::Server(server) => server.server_name().map(str::to_owned),
            Connection::Client(_) => None,
        };
        HandshakeFacts {
            version: connection.protocol_version(),
            suite: connection.negotiated_cipher_suite().map(|suite| suite.suite()),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            server_name,
            peer_certificates: connection.peer_certificates().map(<[_]>::to_vec).unwrap_or_default(),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

impl Session {
    /// Bytes of a record whose rest has yet to come.
    pub(super) fn partial(&self) -> &[u8] {
        &self.partial
    }

    /// Tells whether a record layer can take the place of this session.
    pub(super) fn can_be_carried(&self) -> bool {
        let TrafficSecrets { client, server, told } = &self.secrets;
        let is_known = match self.connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => client.is_some() && server.is_some(),
            Some(ProtocolVersion::TLSv1_2) => true,
            _ => false,
        };
        *told && is_known && !self.is_handshaking()
    }

    /// The record layer that takes the place of this session, and the beginning of a record whose rest has yet to come.
    /// Bytes that the session has yet to send are appended to `unsent`. `None`: the session is over.
    pub(super) fn carry(mut self, unsent: &mut Vec<u8>) -> Option<(Records, Vec<u8>)> {
        // An answer to a KeyUpdate waits in there for the next write, of nothing as well.
        let _ = self.connection.writer().write(&[]);
        self.flush(unsent);
        let Self { connection, secrets, partial, .. } = self;
        let role = if matches!(connection, Connection::Client(_)) { Role::Client } else { Role::Server };
        let is_tls13 = connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        let extracted = connection.dangerous_extract_secrets().ok()?;
        let both = [extract(&extracted.tx)?, extract(&extracted.rx)?];
        let records = if is_tls13 { Records::tls13(role, both, &secrets) } else { Records::tls12(role, both) }?;
        Some((records, partial))
    }
}

fn extract((sequence, secrets): &(u64, ConnectionTrafficSecrets)) -> Option<Extracted<'_>> {
    let (cipher, key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Cipher::Aes128Gcm, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Cipher::Aes256Gcm, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Cipher::Chacha20Poly1305, key, iv),
        _ => return None,
    };
    Some(Extracted { cipher, key: key.as_ref(), iv: iv.as_ref().try_into().ok()?, sequence: *sequence })
}

/// Moves the plaintext that a connection has opened to the end of `plain`.
fn take_plaintext(connection: &mut Connection, plain: &mut Vec<u8>) {
    let mut reader = connection.reader();
    let mut chunk = [0; 4096];
    loop {
        match reader.read(&mut chunk) {
            Ok(0) => return,
            Ok(count) => plain.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Length of the whole records that `bytes` begin with. Bytes that no record begins with count as whole, for rustls to
/// refuse them.
fn whole_records(bytes: &[u8]) -> usize {
    let mut whole = 0;
    while let [kind, major, _, high, low, ..] = bytes[whole..] {
        let length = usize::from(u16::from_be_bytes([high, low]));
        if !(20..=24).contains(&kind) || major != 3 || HEADER + length > LONGEST_RECORD {
            return bytes.len();
        }
        match bytes.get(whole + HEADER + length..) {
            Some(_) => whole += HEADER + length,
            None => return whole,
        }
    }
    match bytes.get(whole) {
        Some(kind) if !(20..=24).contains(kind) => bytes.len(),
        _ => whole,
    }
}

/// Bytes of a record's header (RFC 8446 §5.1).
const HEADER: usize = 5;
