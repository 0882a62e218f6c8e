//! The layers between TCP and HTTP on connections to the backends of an upstream: a PROXY header, then TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::error::{ConnectError, TryError};
use super::secured::{Secured, SecuringError};
use super::transport::{Transport, write_all};
use crate::proxy_protocol::{self, ProxyVersion};
use crate::tls::client::{TlsClient, TlsFailure};

/// The layers of one upstream.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// `tls`: backends are spoken to by TLS.
    pub tls: Option<Arc<TlsClient>>,
    /// `proxy_protocol`: the version of the header that begins each connection.
    pub proxy_protocol: Option<ProxyVersion>,
}

/// The client's connection, as a PROXY header passes it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassedOn {
    /// The client's address.
    pub source: SocketAddr,
    /// The address that the client connected to.
    pub destination: SocketAddr,
}

impl Layers {
    /// True where HTTP is spoken on TCP itself.
    pub fn are_none(&self) -> bool {
        self.tls.is_none() && self.proxy_protocol.is_none()
    }

    /// Makes the layers on a connection that was begun to the backend at this address; without any the connection may
    /// still be under way afterwards. `client` is passed on; `None` stands for the gateway itself.
    ///
    /// # Errors
    /// The connection or a layer was not established by the moment `until`. Nothing of a request was sent.
    pub async fn establish<T: Transport>(
        &self,
        transport: T,
        backend: SocketAddr,
        client: Option<PassedOn>,
        until: Instant,
    ) -> Result<Secured<T>, TryError> {
        let mut secured = Secured::plain(transport);
        if let Some(version) = self.proxy_protocol {
            let mut header = Vec::new();
            match client {
                Some(PassedOn { source, destination }) => {
                    proxy_protocol::write(version, source, destination, &mut header);
                }
                None => proxy_protocol::write_local(version, &mut header),
            }
            write_all(&mut secured, &header, until).await.map_err(TryError::connect)?;
        }
        if let Some(tls) = &self.tls {
            let session = tls.session(backend.ip()).map_err(ConnectError::Tls)?;
            // A server says nothing before it is asked.
            let shaken = secured.shake_hands(session, &[], &mut Vec::new(), until).await;
            shaken.map_err(TryError::from)?;
        }
        Ok(secured)
    }
}

/// The same layers: not only of the same settings, but by the same files as they were read.
impl PartialEq for Layers {
    fn eq(&self, other: &Self) -> bool {
        let same_tls = match (&self.tls, &other.tls) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        same_tls && self.proxy_protocol == other.proxy_protocol
    }
}

impl Eq for Layers {}

impl From<SecuringError> for TryError {
    fn from(broken: SecuringError) -> Self {
        match broken {
            // Only a connection that is established breaks so: the backend does not like what it hears.
            SecuringError::Io(error)
                if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) =>
            {
                ConnectError::Tls(TlsFailure::closed(Some(&error))).into()
            }
            SecuringError::Io(error) => Self::connect(error),
            SecuringError::Closed => ConnectError::Tls(TlsFailure::closed(None)).into(),
            SecuringError::TooLong => ConnectError::Tls(TlsFailure::too_long()).into(),
            SecuringError::Tls(error) => ConnectError::Tls((&error).into()).into(),
        }
    }
}
