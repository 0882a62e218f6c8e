//! The client's side of TLS: connections to the backends of one upstream, by the files that its settings name.

mod failure;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::Session;
use super::certificates::{Certificate, CertificateError, Lapsed, roots};
use super::files::read;
use super::secrets::Capturing;
pub use failure::{TlsFailure, TlsFailureKind};

/// Settings of the connections to the backends of one upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// Name that backends' certificates must be for, and that they are asked for by SNI. `None`: the backend's IP
    /// address, for which there is no SNI (RFC 6066 §3).
    pub server_name: Option<ServerName<'static>>,
    /// File with the authorities that backends' certificates must lead to; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// Files of the certificate and the key that the gateway presents; none is presented where left out.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Verify backends' certificates. Where `false`, whoever answers is taken for the backend.
    pub verify: bool,
}

/// Fault that keeps the files of a client from being used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsClientError {
    /// A file is missing or not as it should be.
    #[error(transparent)]
    File(#[from] CertificateError),
    /// The system has no certificate of an authority that could be read.
    #[error("the system's certificates of authorities cannot be read: {0}")]
    NoSystemRoots(String),
    /// The TLS library refuses the settings.
    #[error("TLS cannot be set up: {0}")]
    Refused(Error),
}

/// The client's side of TLS of one upstream.
pub struct TlsClient {
    settings: ClientSettings,
    /// `None` until the files were read.
    in_force: ArcSwapOption<InForce>,
}

/// The files as they were read.
struct InForce {
    config: Arc<ClientConfig>,
    /// The gateway's own certificate.
    presented: Option<Certificate>,
    /// Digest of what the files held.
    contents: Vec<u8>,
    /// Drawn at random: connections by other files are other connections.
    identity: u64,
}

impl TlsClient {
    /// A client that has not read its files yet.
    pub fn new(settings: ClientSettings) -> Self {
        Self { settings, in_force: ArcSwapOption::empty() }
    }

    /// The settings that it was made from.
    pub fn settings(&self) -> &ClientSettings {
        &self.settings
    }

    /// Every file that the settings name.
    pub fn files(&self) -> Vec<PathBuf> {
        let pair = self.settings.certificate.iter().flat_map(|(cert, key)| [cert, key]);
        pair.chain(&self.settings.ca).cloned().collect()
    }

    /// Reads the files. They take force together for connections that begin from now on. `lapsed` is the rule for a
    /// certificate of the gateway's own that is outside of its time.
    ///
    /// # Errors
    /// Every fault of the files. What was in force stays so.
    pub fn load(&self, now: SystemTime, lapsed: &Lapsed) -> Result<(), Vec<TlsClientError>> {
        let contents = self.contents();
        let (config, presented) = config(&self.settings, now, lapsed)?;
        let (config, identity) = (Arc::new(config), rand::random());
        self.in_force.store(Some(Arc::new(InForce { config, presented, contents, identity })));
        Ok(())
    }

    /// Reads the files again where one of them `changed`. If one has another content now, all take force together for
    /// connections that begin from now on. Returns those that changed, where they took force.
    ///
    /// # Errors
    /// Every fault of the files. What was in force stays so.
    pub fn refresh(
        &self,
        changed: &dyn Fn(&Path) -> bool,
        now: SystemTime,
    ) -> Result<Vec<PathBuf>, Vec<TlsClientError>> {
        let changed: Vec<_> = self.files().into_iter().filter(|file| changed(file)).collect();
        let same = self.in_force.load().as_ref().is_some_and(|in_force| in_force.contents == self.contents());
        if changed.is_empty() || same {
            return Ok(Vec::new());
        }
        self.load(now, &Lapsed::kept_of(&self.certificate())).map(|()| changed)
    }

    /// The gateway's own certificate, where it presents one and has read its files.
    pub fn certificate(&self) -> Option<Certificate> {
        self.in_force.load().as_ref().and_then(|in_force| in_force.presented.clone())
    }

    /// Digest of what the files hold now.
    fn contents(&self) -> Vec<u8> {
        let of =
            |file: &PathBuf| read(file).map_or_else(|_| Vec::new(), |text| digest(&SHA256, &text).as_ref().to_vec());
        self.files().iter().flat_map(of).collect()
    }

    /// True once the files were read.
    pub fn is_loaded(&self) -> bool {
        self.in_force.load().is_some()
    }

    /// A number that is another one each time that the files are read.
    pub fn identity(&self) -> u64 {
        self.in_force.load().as_ref().map_or(0, |in_force| in_force.identity)
    }

    /// Begins a session with the backend at this address.
    ///
    /// # Errors
    /// The files were never read.
    pub fn session(&self, backend: IpAddr) -> Result<Session, TlsFailure> {
        let in_force = self.in_force.load();
        let Some(in_force) = &*in_force else { return Err(TlsFailure::not_set_up("its files were not read")) };
        let name = self.settings.server_name.clone();
        let name = name.unwrap_or_else(|| ServerName::IpAddress(backend.to_canonical().into()));
        let session = Session::client(Arc::clone(&in_force.config), name);
        let session = session.map_err(|error| TlsFailure::not_set_up(&error.to_string()))?;
        Ok(session.with_slow_key(in_force.presented.as_ref().is_some_and(Certificate::signs_slowly)))
    }
}

/// The settings.
impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsClient").field(&self.settings).finish()
    }
}

/// The configuration, and the gateway's own certificate.
fn config(
    settings: &ClientSettings,
    now: SystemTime,
    lapsed: &Lapsed,
) -> Result<(ClientConfig, Option<Certificate>), Vec<TlsClientError>> {
    let provider = super::provider();
    let mut errors = Vec::new();
    let roots = match (&settings.ca, settings.verify) {
        (_, false) => None,
        (Some(file), true) => roots(file).map_err(|error| errors.push(error.into())).ok(),
        (None, true) => system_roots().map_err(|error| errors.push(error)).ok(),
    };
    let presented = settings.certificate.as_ref().and_then(|(cert, key)| {
        let loaded = Certificate::load(cert, key, &provider, now, lapsed);
        loaded.map_err(|faults| errors.extend(faults.into_iter().map(TlsClientError::from))).ok()
    });
    if !errors.is_empty() {
        return Err(errors);
    }
    let refused = |error: Error| vec![TlsClientError::Refused(error)];
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(refused)?;
    let builder = match roots {
        Some(roots) => builder.with_root_certificates(roots),
        None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody { provider })),
    };
    let mut config = match &presented {
        None => builder.with_no_client_auth(),
        Some(own) => builder.with_client_cert_resolver(Arc::new(Presented(Arc::clone(&own.certified)))),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.capture_secrets();
    Ok((config, presented))
}

/// The authorities that the system trusts, by `SSL_CERT_FILE` and `SSL_CERT_DIR` or where the distribution keeps them.
fn system_roots() -> Result<RootCertStore, TlsClientError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    let (usable, _) = store.add_parsable_certificates(found.certs);
    match usable {
        0 => {
            let reason = found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
            Err(TlsClientError::NoSystemRoots(reason))
        }
        _ => Ok(store),
    }
}

/// The one certificate that the gateway presents to whoever asks.
#[derive(Debug)]
struct Presented(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Presented {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        self.0.key.choose_scheme(schemes).is_some().then(|| Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Takes every certificate (`verify: false`). Signatures of the handshake are verified all the same.
#[derive(Debug)]
struct Anybody {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
