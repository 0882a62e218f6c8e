//! The server's side of TLS on one listener: which certificate, which versions, which tickets, which clients.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use rustls::crypto::CryptoProvider;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, VerifierBuilderError,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{Error, RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::Session;
use super::certificates::{Certificate, CertificateError, Lapsed, roots};
use super::secrets::Capturing;
use super::tickets::{TicketKeys, TicketKeysError, Tickets};

/// Settings of the server's side on one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Files of the certificates and their keys; at least one pair. The first is the default.
    pub certificates: Vec<(PathBuf, PathBuf)>,
    /// TLS 1.2 is spoken beside TLS 1.3.
    pub allows_1_2: bool,
    /// File of the ticket keys; the keys of the process where `None`.
    pub ticket_keys: Option<PathBuf>,
    /// File of the authorities that clients' certificates must lead to, and whether each client needs one. Clients are
    /// asked for none where `None`.
    pub client_auth: Option<(PathBuf, bool)>,
}

/// Reason for which a file of a listener's TLS cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsServerError {
    /// A certificate or its key.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The ticket keys.
    #[error(transparent)]
    TicketKeys(#[from] TicketKeysError),
    /// The authorities of clients' certificates.
    #[error("clients' certificates cannot be verified by {}: {reason}", file.display())]
    Roots {
        /// The file.
        file: PathBuf,
        /// The fault.
        reason: String,
    },
    /// The parts do not go together.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] Error),
}

/// The server's side of TLS on one listener. Files that change are read again without anything being interrupted.
pub struct TlsServer {
    settings: ServerSettings,
    provider: Arc<CryptoProvider>,
    in_force: ArcSwap<InForce>,
    /// Held while files are read again.
    turn: Mutex<()>,
}

/// Contents of the files, and the rustls configuration made of them.
struct InForce {
    certificates: Vec<Certificate>,
    tickets: Arc<TicketKeys>,
    roots: Option<Arc<RootCertStore>>,
    config: Arc<ServerConfig>,
}

/// The outcome of reading files again.
#[derive(Debug, Default)]
pub struct Refreshed {
    /// Files whose content is in force now and was not before.
    pub renewed: Vec<PathBuf>,
    /// Faults of files: what was read from them before stays in force.
    pub failed: Vec<TlsServerError>,
}

impl TlsServer {
    /// Reads the files that the settings name. `own_keys` are the ticket keys of the process, for listeners without a
    /// file of them, and `lapsed` the rule for certificates outside of their time.
    ///
    /// # Errors
    /// Every fault of the files: at least one.
    pub fn new(
        settings: ServerSettings,
        own_keys: Arc<TicketKeys>,
        provider: Arc<CryptoProvider>,
        now: SystemTime,
        lapsed: &Lapsed,
    ) -> Result<Self, Vec<TlsServerError>> {
        let mut errors = Vec::new();
        let mut certificates = Vec::new();
        for (cert, key) in &settings.certificates {
            match Certificate::load(cert, key, &provider, now, lapsed) {
                Ok(certificate) => certificates.push(certificate),
                Err(faults) => errors.extend(faults.into_iter().map(TlsServerError::from)),
            }
        }
        let tickets = match &settings.ticket_keys {
            None => Ok(own_keys),
            Some(file) => TicketKeys::load(file).map(Arc::new),
        };
        let tickets = tickets.map_err(|error| errors.push(error.into())).ok();
        let roots = settings.client_auth.as_ref().map(|(file, _)| roots(file).map(Arc::new)).transpose();
        let roots = roots.map_err(|error| errors.push(error.into())).ok();
        let (Some(tickets), Some(roots), true) = (tickets, roots, errors.is_empty()) else { return Err(errors) };
        let in_force = InForce::new(certificates, tickets, roots, &settings, &provider).map_err(|error| vec![error])?;
        Ok(Self { settings, provider, in_force: ArcSwap::from_pointee(in_force), turn: Mutex::default() })
    }

    /// The settings that it was made from.
    pub fn settings(&self) -> &ServerSettings {
        &self.settings
    }

    /// Begins a session with a client.
    ///
    /// # Errors
    /// The configuration is at odds with itself.
    pub fn session(&self) -> Result<Session, Error> {
        let in_force = self.in_force.load();
        let session = Session::server(Arc::clone(&in_force.config))?;
        Ok(session.with_slow_key(in_force.certificates.iter().any(Certificate::signs_slowly)))
    }

    /// The configuration of connections that begin now.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.in_force.load().config)
    }

    /// The certificates in force, in the order of the settings.
    pub fn certificates(&self) -> Vec<Certificate> {
        self.in_force.load().certificates.clone()
    }

    /// Every file that the settings name.
    pub fn files(&self) -> Vec<PathBuf> {
        let pairs = self.settings.certificates.iter().flat_map(|(cert, key)| [cert, key]);
        let roots = self.settings.client_auth.iter().map(|(file, _)| file);
        pairs.chain(&self.settings.ticket_keys).chain(roots).cloned().collect()
    }

    /// Reads those of the files again that `changed`. Each that can be used takes force for connections that begin
    /// from now on; each other one leaves what was read before in force.
    pub fn refresh(&self, changed: &dyn Fn(&Path) -> bool, now: SystemTime) -> Refreshed {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.in_force.load_full();
        let mut refreshed = Refreshed::default();
        let mut certificates = before.certificates.clone();
        // One that expired in use is not a fault of a file that was only touched, or of a key beside it.
        let lapsed = Lapsed::kept_of(&certificates);
        for ((cert, key), in_force) in self.settings.certificates.iter().zip(&mut certificates) {
            if !changed(cert) && !changed(key) {
                continue;
            }
            match Certificate::load(cert, key, &self.provider, now, &lapsed) {
                Ok(new) if new.certified.cert == in_force.certified.cert && !changed(key) => {}
                Ok(new) => {
                    if new.certified.cert != in_force.certified.cert {
                        refreshed.renewed.push(cert.clone());
                    }
                    *in_force = new;
                }
                Err(faults) => refreshed.failed.extend(faults.into_iter().map(TlsServerError::from)),
            }
        }
        let mut tickets = Arc::clone(&before.tickets);
        if let Some(file) = self.settings.ticket_keys.as_ref().filter(|file| changed(file)) {
            match TicketKeys::load(file) {
                Ok(new) if new == *tickets => {}
                Ok(new) => {
                    tickets = Arc::new(new);
                    refreshed.renewed.push(file.clone());
                }
                Err(error) => refreshed.failed.push(error.into()),
            }
        }
        let mut authorities = before.roots.clone();
        if let Some((file, _)) = self.settings.client_auth.as_ref().filter(|(file, _)| changed(file)) {
            match roots(file) {
                Ok(new) if authorities.as_ref().is_some_and(|before| before.roots == new.roots) => {}
                Ok(new) => {
                    authorities = Some(Arc::new(new));
                    refreshed.renewed.push(file.clone());
                }
                Err(error) => refreshed.failed.push(error.into()),
            }
        }
        match InForce::new(certificates, tickets, authorities, &self.settings, &self.provider) {
            Ok(new) => self.in_force.store(Arc::new(new)),
            Err(error) => refreshed.failed.push(error),
        }
        refreshed
    }
}

impl InForce {
    fn new(
        certificates: Vec<Certificate>,
        tickets: Arc<TicketKeys>,
        roots: Option<Arc<RootCertStore>>,
        settings: &ServerSettings,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsServerError> {
        let versions: &[&SupportedProtocolVersion] = if settings.allows_1_2 { &[&TLS13, &TLS12] } else { &[&TLS13] };
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider)).with_protocol_versions(versions)?;
        let builder = match (&roots, &settings.client_auth) {
            (Some(roots), Some((file, required))) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider));
                let verifier = if *required { verifier } else { verifier.allow_unauthenticated() };
                let failed = |error: VerifierBuilderError| TlsServerError::Roots {
                    file: file.clone(),
                    reason: error.to_string(),
                };
                builder.with_client_cert_verifier(verifier.build().map_err(failed)?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(ByName::new(&certificates)));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ticketer =
            Arc::new(Tickets::new(Arc::clone(&tickets), rules(settings, roots.as_deref()))) as Arc<dyn ProducesTickets>;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // A client that comes back is given the next one; each costs an AEAD and a record.
        config.send_tls13_tickets = 1;
        config.capture_secrets();
        // 0-RTT stays off: what it carries can be replayed (RFC 8446 §8).
        config.max_early_data_size = 0;
        Ok(Self { certificates, tickets, roots, config: Arc::new(config) })
    }
}

/// Digest of a listener's rules for clients, which a ticket is bound to.
fn rules(settings: &ServerSettings, roots: Option<&RootCertStore>) -> Vec<u8> {
    let (Some(roots), Some((_, required))) = (roots, &settings.client_auth) else { return vec![0] };
    let mut authorities = Vec::new();
    for root in &roots.roots {
        for part in [root.subject.as_ref(), root.subject_public_key_info.as_ref()] {
            authorities.extend((part.len() as u64).to_be_bytes());
            authorities.extend(part);
        }
    }
    let mut rules = vec![1 + u8::from(*required)];
    rules.extend(digest(&SHA256, &authorities).as_ref());
    rules
}

/// Chooses a certificate by the name that the client asks for: exact, then wildcard, else the first certificate.
struct ByName {
    /// Certificates of each name, in the order of the configuration.
    named: HashMap<String, Vec<Arc<CertifiedKey>>>,
    default: Vec<Arc<CertifiedKey>>,
}

impl ByName {
    fn new(certificates: &[Certificate]) -> Self {
        let mut named: HashMap<_, Vec<_>> = HashMap::new();
        for certificate in certificates {
            for name in &certificate.names {
                named.entry(name.clone()).or_default().push(Arc::clone(&certificate.certified));
            }
        }
        let default = certificates.iter().take(1).map(|first| Arc::clone(&first.certified)).collect();
        Self { named, default }
    }

    fn candidates(&self, asked: Option<&str>) -> &[Arc<CertifiedKey>] {
        let Some(asked) = asked else { return &self.default };
        let asked = asked.to_ascii_lowercase();
        // The dot of an absolute name stands in URLs and in SNI, and in no certificate (RFC 6066 §3 forbids it).
        let asked = asked.strip_suffix('.').unwrap_or(&asked);
        let wildcard = || self.named.get(&format!("*.{}", asked.split_once('.')?.1));
        self.named.get(asked).or_else(wildcard).unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for ByName {
    /// Of several certificates for a name the first whose key the client can verify, as with RSA beside ECDSA.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = self.candidates(hello.server_name());
        let fits = |of: &&Arc<CertifiedKey>| of.key.choose_scheme(hello.signature_schemes()).is_some();
        candidates.iter().find(fits).or_else(|| candidates.first()).cloned()
    }
}

/// The names.
impl fmt::Debug for ByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.named.keys()).finish()
    }
}

/// The settings.
impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsServer").field(&self.settings).finish()
    }
}
