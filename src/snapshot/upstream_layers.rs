//! The layers between TCP and HTTP towards the backends of an upstream, and the files that TLS takes.

use std::sync::Arc;
use std::time::SystemTime;

use log::warn;

use super::Snapshot;
use crate::config::{self, Problem, Problems, Severity};
use crate::dial::Layers;
use crate::tls::certificates::Lapsed;
use crate::tls::client::{ClientSettings, TlsClient, TlsClientError};

/// The layers that an upstream's configuration asks for. Files are not read yet.
pub(super) fn of(upstream: &config::Upstream) -> Layers {
    let tls = upstream.tls.as_ref().map(|tls| {
        Arc::new(TlsClient::new(ClientSettings {
            server_name: tls.server_name.clone(),
            ca: tls.ca.clone(),
            certificate: tls.certificate.as_ref().map(|pair| (pair.cert.clone(), pair.key.clone())),
            verify: tls.verify,
        }))
    });
    Layers { tls, proxy_protocol: upstream.proxy_protocol }
}

impl Snapshot {
    /// Reads the files that upstreams name for TLS, where they were not read yet.
    ///
    /// # Errors
    /// Every problem with the files.
    pub fn load_files_of_upstreams(&self, lapsed: &Lapsed) -> Result<(), Problems> {
        let now = SystemTime::now();
        let mut problems = Vec::new();
        for to in &self.destinations {
            let name = &to.upstream.config().name;
            let Some(tls) = to.layers.tls.as_ref().filter(|tls| !tls.is_loaded()) else { continue };
            if !tls.settings().verify {
                warn!("upstream {name}: certificates of backends are not verified: anybody may pass for one");
            }
            to.metrics.show_tls_failures();
            for error in tls.load(now, lapsed).err().into_iter().flatten() {
                problems.push(problem(name, &error));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.into()) }
    }

    /// Names of the upstreams whose backends' certificates nobody verifies.
    pub fn unverified(&self) -> impl Iterator<Item = &str> {
        let unverified =
            self.destinations.iter().filter(|to| to.layers.tls.as_ref().is_some_and(|tls| !tls.settings().verify));
        unverified.map(|to| to.upstream.config().name.as_str())
    }
}

/// A problem that shows only when an upstream's files are read: its place in the text is not known any more.
fn problem(upstream: &str, error: &TlsClientError) -> Problem {
    Problem {
        severity: Severity::Error,
        line: 1,
        column: 1,
        path: format!("upstreams.{upstream}.tls"),
        message: error.to_string(),
        expected: None,
        remedy: None,
    }
}
