//! Values of `admin`: the listener of the admin API.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::listener::ListenerTls;

/// `admin`: the listener of the admin API, beside `/metrics`, `/ready` and `/live`.
///
/// A listener on another address than loopback has tokens, or a `client_auth` that asks each client for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// `address`: IP and port that answers.
    pub address: SocketAddr,
    /// `token_file`: a file of tokens, one of which each request needs; none is asked for if left out.
    pub token_file: Option<PathBuf>,
    /// `tls`: as of a listener for clients; plain if left out.
    pub tls: Option<ListenerTls>,
    /// `names`: hosts by which the listener is asked beside addresses and `localhost`, in lower case.
    pub names: Vec<String>,
}
