//! Compiled listeners: what becomes of a connection before its first request is read.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderValue;

use crate::admission::{NetworkRule, Networks};
use crate::config::{self, ListenerTls, Problem, ProxyProtocol, Severity, TlsVersion};
use crate::tls;
use crate::tls::certificates::Lapsed;
use crate::tls::server::{ServerSettings, TlsServer};
use crate::tls::tickets::TicketKeys;

/// A compiled listener.
#[derive(Debug)]
pub struct ListenerPolicy {
    /// Configuration of the listener.
    pub config: config::Listener,
    /// The server's side of TLS; `None` of a plain listener.
    pub tls: Option<TlsServer>,
    /// `Strict-Transport-Security` of answers to clients that came by TLS.
    pub hsts: Option<HeaderValue>,
    /// Networks that may connect, and those that may not.
    networks: Networks,
}

impl ListenerPolicy {
    /// Compiles the listener that stands at place `number` of the configuration, and reads its files.
    pub(super) fn compile(
        config: &config::Listener,
        number: usize,
        keys: &Arc<TicketKeys>,
        lapsed: &Lapsed,
    ) -> Result<Self, Vec<Problem>> {
        let made = |tls| server(tls, &format!("listeners[{number}].tls"), keys, lapsed);
        let tls = config.tls.as_ref().map(made).transpose()?;
        let hsts = config.hsts.map(|hsts| {
            HeaderValue::try_from(hsts.header_value()).expect("words and digits are the value of a header")
        });
        let mut networks = Networks::default();
        config.allow.iter().for_each(|network| networks.add(*network, NetworkRule::Allow));
        config.deny.iter().for_each(|network| networks.add(*network, NetworkRule::Deny));
        Ok(Self { config: config.clone(), tls, hsts, networks })
    }

    /// Tells if a client of this address may connect.
    pub fn lets_in(&self, address: IpAddr) -> bool {
        let otherwise = if self.config.allow.is_empty() { NetworkRule::Allow } else { NetworkRule::Deny };
        self.networks.rule(address).unwrap_or(otherwise) == NetworkRule::Allow
    }

    /// True when a request is the first that comes of a connection.
    pub fn is_plain(&self) -> bool {
        self.tls.is_none() && self.config.proxy_protocol == ProxyProtocol::Off
    }
}

/// Reads the files of `tls`, which stands at this path of the configuration.
pub(super) fn server(
    tls: &ListenerTls,
    path: &str,
    keys: &Arc<TicketKeys>,
    lapsed: &Lapsed,
) -> Result<TlsServer, Vec<Problem>> {
    let server = TlsServer::new(settings(tls), Arc::clone(keys), tls::provider(), SystemTime::now(), lapsed);
    server.map_err(|errors| errors.iter().map(|error| problem(path, error.to_string())).collect())
}

fn settings(tls: &ListenerTls) -> ServerSettings {
    ServerSettings {
        certificates: tls.certificates.iter().map(|pair| (pair.cert.clone(), pair.key.clone())).collect(),
        allows_1_2: tls.min_version == TlsVersion::V1_2,
        ticket_keys: tls.ticket_keys.clone(),
        client_auth: tls.client_auth.as_ref().map(|auth| (auth.ca.clone(), auth.required)),
    }
}

/// A problem that shows only when a listener is compiled: its place in the text is not known any more.
fn problem(path: &str, message: String) -> Problem {
    Problem {
        severity: Severity::Error,
        line: 1,
        column: 1,
        path: path.to_owned(),
        message,
        expected: None,
        remedy: None,
    }
}
