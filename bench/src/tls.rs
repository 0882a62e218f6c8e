//! The certificate of all gateways, and clients that speak TLS with them in one way only: TLS 1.3, AES-128-GCM, X25519.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use rcgen::CertifiedKey;
use rustls::client::{
    ClientConnection, ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, NamedGroup, RootCertStore};

/// The name that the certificate is for.
const NAME: &str = "bench.example.com";
/// The longest stock of tickets: more than there are clients at once.
const TICKETS: usize = 256;

/// A certificate that signs itself, with its key: ECDSA, P-256. All gateways of a run have the same.
pub struct Certificate {
    pem: String,
    der: CertificateDer<'static>,
}

/// Settings that clients of one gateway share. They know its certificate and trust no other.
#[derive(Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
    /// Each client takes up the session of an earlier one.
    pub is_resuming: bool,
    tickets: Option<Arc<Tickets>>,
}

impl Certificate {
    /// A new one.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn new() -> Result<Self> {
        // rcgen's own choice is a key on P-256.
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed([NAME.to_owned()]).context("no certificate")?;
        Ok(Self { pem: cert.pem() + &signing_key.serialize_pem(), der: cert.into() })
    }

    /// The certificate and its key, in one text.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificate in a PEM file, for a generator in another process.
    ///
    /// # Errors
    /// When there is none in the file.
    pub fn from_file(path: &Path) -> Result<Self> {
        let pem = std::fs::read_to_string(path).context("the certificate cannot be read")?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).context("there is no certificate in the file")?;
        Ok(Self { pem, der })
    }

    /// Clients that resume sessions, or never do.
    ///
    /// # Errors
    /// When TLS does not take this certificate.
    pub fn client(&self, is_resuming: bool) -> Result<Client> {
        self.client_with(is_resuming.then_some(TICKETS))
    }

    /// Clients that resume sessions, with a stock of so many tickets.
    ///
    /// # Errors
    /// When TLS does not take this certificate.
    pub fn crowd(&self, tickets: usize) -> Result<Client> {
        self.client_with(Some(tickets))
    }

    fn client_with(&self, tickets: Option<usize>) -> Result<Client> {
        let provider = CryptoProvider {
            cipher_suites: vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![ring::kx_group::X25519],
            ..ring::default_provider()
        };
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).context("the certificate cannot be trusted")?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .context("no TLS 1.3")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tickets =
            tickets.map(|most| Arc::new(Tickets { most, is_filling: AtomicBool::default(), stock: Mutex::default() }));
        config.resumption = match &tickets {
            Some(tickets) => Resumption::store(Arc::clone(tickets) as Arc<dyn ClientSessionStore>),
            None => Resumption::disabled(),
        };
        Ok(Client { config: Arc::new(config), is_resuming: tickets.is_some(), tickets })
    }
}

impl Client {
    /// Begins or ends a time in which tickets are gathered and none is used.
    pub fn fill(&self, filling: bool) {
        if let Some(tickets) = &self.tickets {
            tickets.is_filling.store(filling, Ordering::Relaxed);
        }
    }

    /// Tickets in stock.
    pub fn tickets(&self) -> usize {
        self.tickets.as_ref().map_or(0, |tickets| tickets.stock().len())
    }

    /// A connection that has not begun.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn connection(&self) -> Result<ClientConnection> {
        let name = ServerName::try_from(NAME).context("a name is a name")?;
        ClientConnection::new(self.config.clone(), name).context("no TLS connection")
    }
}

/// Tickets of sessions, each used once. rustls keeps eight for a name, fewer than there are clients at once here.
#[derive(Debug)]
struct Tickets {
    most: usize,
    /// No ticket is given out: whoever resumes a session is given fewer new ones than it uses up.
    is_filling: AtomicBool,
    stock: Mutex<VecDeque<Tls13ClientSessionValue>>,
}

impl Tickets {
    fn stock(&self) -> MutexGuard<'_, VecDeque<Tls13ClientSessionValue>> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut stock = self.stock();
        stock.truncate(self.most.saturating_sub(1));
        stock.push_front(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        if self.is_filling.load(Ordering::Relaxed) { None } else { self.stock().pop_front() }
    }
}
