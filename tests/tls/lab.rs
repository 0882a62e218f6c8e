//! A gateway with certificates of the test's own.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::SignatureAlgorithm;
use tempfile::TempDir;

use crate::support::certificates::{Authority, Issued};
use crate::support::{Gateway, folder};

/// A gateway, and the authority of its certificates.
pub struct Lab {
    pub gateway: Gateway,
    pub authority: Authority,
    pub dir: Arc<TempDir>,
}

impl Lab {
    /// A gateway whose first listener speaks TLS for `a.test`, `*.wild.test`, and `127.0.0.1`, before these backends.
    pub async fn start(backends: &[SocketAddr]) -> Self {
        Self::start_with(backends, "", "").await
    }

    /// With further keys of `tls` and of the upstream: lines indented by six and by four.
    pub async fn start_with(backends: &[SocketAddr], tls: &str, upstream: &str) -> Self {
        Self::start_yaml(&yaml(backends, tls, upstream)).await
    }

    /// With a whole configuration, in which `{dir}` stands for the folder of `a.pem`, `a.key` and `ca.pem`.
    pub async fn start_yaml(yaml: &str) -> Self {
        let authority = Authority::new("Test Authority");
        let issued = authority.issue(&NAMES);
        Self::start_by(yaml, authority, &issued).await
    }

    /// With a key of this kind.
    pub async fn start_by_key(kind: &'static SignatureAlgorithm, yaml: &str) -> Self {
        let authority = Authority::new("Test Authority");
        let issued = authority.issue_by(kind, &NAMES);
        Self::start_by(yaml, authority, &issued).await
    }

    async fn start_by(yaml: &str, authority: Authority, issued: &Issued) -> Self {
        let dir = folder(yaml);
        issued.write(dir.path(), "a");
        fs::write(dir.path().join("ca.pem"), &authority.pem).unwrap();
        let gateway = Gateway::begin(Arc::clone(&dir), &[], &[]).listening().await;
        Self { gateway, authority, dir }
    }

    pub fn address(&self) -> SocketAddr {
        self.gateway.address()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Names that the certificate of a lab's gateway is for.
const NAMES: [&str; 3] = ["a.test", "*.wild.test", "127.0.0.1"];

/// A configuration with a TLS listener, a plain one, metrics, and one upstream `u`.
pub fn yaml(backends: &[SocketAddr], tls: &str, upstream: &str) -> String {
    let backends: Vec<String> = backends.iter().map(ToString::to_string).collect();
    format!(
        "version: 1\nlisteners:\n  - address: 127.0.0.1:0\n    tls:\n      certificates: [{{ cert: '{{dir}}/a.pem', \
         key: '{{dir}}/a.key' }}]\n{tls}  - address: 127.0.0.1:0\nmetrics:\n  address: 127.0.0.1:0\nroutes:\n  \
         - upstream: u\nupstreams:\n  u:\n    backends: [{}]\n{upstream}",
        backends.join(", ")
    )
}
