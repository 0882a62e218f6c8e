//! Backends that speak TLS, and a gateway that knows their authority.

use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::support::certificates::Authority;
pub use crate::support::server_config;
use crate::support::{Backend, Gateway, Wire, folder, one_upstream};

/// The name that right certificates are for.
pub const NAME: &str = "chat.internal";

/// `tls` of an upstream whose backends are right.
pub const TLS: &str = "    tls: { server_name: chat.internal, ca: '{dir}/ca.pem' }\n";

/// An authority, and a folder for a gateway with its certificate in it.
pub struct Lab {
    pub authority: Authority,
}

/// The end of TLS before a plain backend.
pub struct Front {
    pub backend: Backend,
    /// The names that it was asked for, one for each handshake.
    pub asked: Arc<Mutex<Vec<Option<String>>>>,
}

impl Lab {
    pub fn new() -> Self {
        Self { authority: Authority::new("Backends' Authority") }
    }

    /// A front with a right certificate.
    pub async fn front(&self, inner: SocketAddr) -> Front {
        Front::start(inner, server_config(&self.authority.issue(&[NAME]), None, rustls::ALL_VERSIONS)).await
    }

    /// The folder of a gateway with one upstream `u`; `more` are further keys of it.
    pub fn folder(&self, backends: &[SocketAddr], more: &str) -> Arc<TempDir> {
        let dir = folder(&one_upstream(backends, more));
        fs::write(dir.path().join("ca.pem"), &self.authority.pem).unwrap();
        dir
    }

    /// A gateway with one upstream `u`, whose health is not checked; `more` are further keys of it. Where they name no
    /// limits of time, a backend's TLS handshake may take as long as a busy machine needs.
    pub async fn gateway(&self, backends: &[SocketAddr], more: &str) -> Gateway {
        let patient = if more.contains("timeouts:") { "" } else { "    timeouts: { connect: 60s }\n" };
        let more = format!("    health: off\n{patient}{more}");
        Gateway::begin(self.folder(backends, &more), &[], &[]).listening().await
    }
}

impl Front {
    /// Ends TLS, and passes plaintext on to `inner`.
    pub async fn start(inner: SocketAddr, config: ServerConfig) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let asked: Arc<Mutex<Vec<_>>> = Arc::default();
        let kept = Arc::clone(&asked);
        let backend = Backend::start(move |stream| {
            let (acceptor, kept) = (acceptor.clone(), Arc::clone(&kept));
            async move {
                let Ok(mut sealed) = acceptor.accept(stream).await else { return };
                kept.lock().unwrap().push(sealed.get_ref().1.server_name().map(str::to_owned));
                let Ok(mut plain) = TcpStream::connect(inner).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut sealed, &mut plain).await;
            }
        })
        .await;
        Self { backend, asked }
    }

    pub fn address(&self) -> SocketAddr {
        self.backend.address
    }
}

/// A server that speaks HTTP without TLS, and answers whatever it hears.
pub async fn plain_http() -> Backend {
    Backend::start(|stream| async move {
        let mut wire = Wire::new(stream);
        wire.peek().await;
        wire.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        wire.stream.get_mut().shutdown().await.unwrap();
        wire.rest().await;
    })
    .await
}
