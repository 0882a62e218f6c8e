//! Connections of rustls with both ends in one test.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection,
    SupportedCipherSuite,
};

use super::record::Role;
use super::secrets::Capturing;
use super::{Session, provider};

/// The side that a test has of a connection whose other one is a [`Session`].
pub(crate) struct Peer(pub(crate) Connection);

impl Peer {
    /// Takes records; returns the data in them.
    pub(crate) fn read(&mut self, mut records: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let mut data = Vec::new();
        while !records.is_empty() {
            if self.0.read_tls(&mut records).unwrap() == 0 {
                break;
            }
            self.0.process_new_packets()?;
            // At the end of what has come there is nothing but `WouldBlock`.
            let _ = std::io::Read::read_to_end(&mut self.0.reader(), &mut data);
        }
        Ok(data)
    }

    /// Seals data; returns the records, and whatever else is to be sent.
    pub(crate) fn write(&mut self, data: &[u8]) -> Vec<u8> {
        std::io::Write::write_all(&mut self.0.writer(), data).unwrap();
        let mut records = Vec::new();
        while self.0.wants_write() {
            self.0.write_tls(&mut records).unwrap();
        }
        records
    }

    /// Tells whether the other side's `close_notify` has come.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.0.process_new_packets().is_ok_and(|state| state.peer_has_closed())
    }
}

/// A session in this role whose handshake with a peer is done. The suite says which version it is.
pub(crate) fn connected(suite: CipherSuite, role: Role, captures: bool) -> (Session, Peer) {
    let (mut server, mut client) = (server_config(suite), client_config(suite));
    if captures {
        server.capture_secrets();
        client.capture_secrets();
    }
    let (server, client) = (Arc::new(server), Arc::new(client));
    let name = ServerName::try_from("localhost").unwrap();
    let (mut session, mut peer) = match role {
        Role::Server => {
            let peer = ClientConnection::new(client, name).unwrap();
            (Session::server(server).unwrap(), Peer(peer.into()))
        }
        Role::Client => {
            let peer = ServerConnection::new(server).unwrap();
            (Session::client(client, name).unwrap(), Peer(peer.into()))
        }
    };
    peer.0.set_buffer_limit(None);
    let (mut plain, mut to_peer) = (Vec::new(), Vec::new());
    while session.is_handshaking() || peer.0.is_handshaking() {
        session.flush(&mut to_peer);
        peer.read(&std::mem::take(&mut to_peer)).unwrap();
        session.read_tls(&peer.write(&[]), &mut plain).unwrap();
    }
    session.flush(&mut to_peer);
    peer.read(&to_peer).unwrap();
    (session, peer)
}

fn server_config(suite: CipherSuite) -> ServerConfig {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).unwrap();
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    ServerConfig::builder_with_provider(provider_of(suite))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap()
}

fn client_config(suite: CipherSuite) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CERTIFICATE).unwrap()).unwrap();
    ClientConfig::builder_with_provider(provider_of(suite))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// The provider with one suite.
fn provider_of(suite: CipherSuite) -> Arc<rustls::crypto::CryptoProvider> {
    let mut provider = Arc::unwrap_or_clone(provider());
    provider.cipher_suites.retain(|known: &SupportedCipherSuite| known.suite() == suite);
    Arc::new(provider)
}

/// Every suite that the provider has for an ECDSA certificate.
pub(crate) const SUITES: [CipherSuite; 6] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// A certificate of `localhost` that is its own root, and is good for a hundred years.
const CERTIFICATE: &[u8] = include_bytes!("testing/localhost.pem");
const KEY: &[u8] = include_bytes!("testing/localhost.key");
