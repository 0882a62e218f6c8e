//! Connections to backends for Pingora's own path: begun by the gateway's dialer, with the layers of the upstream.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use log::{debug, warn};
use pingora::protocols::l4::socket::SocketAddr as Peer;
use pingora::protocols::l4::stream::Stream;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_core::connectors::L4Connect;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::rewind::ClientWire;
use super::runtimes;
use crate::config::Timeouts;
use crate::dial::{ConnectError, Dial, Dialer, Layers, OnTokio, PassedOn, Secured, Tcp, TryError};
use crate::metrics::LocalFailure;

/// Connects to one backend for one request.
#[derive(Debug)]
struct Connector {
    dialer: Arc<Dialer>,
    layers: Layers,
    backend: SocketAddr,
    client: Option<PassedOn>,
    timeouts: Timeouts,
}

/// A backend as Pingora connects to it. A PROXY header, where the upstream has one, names `client`.
///
/// Pingora uses a kept connection again for the same backend, on the same runtime, and with TLS for the same files. A
/// connection with a PROXY header is not kept, because it belongs to one client.
pub(super) fn peer(
    dialer: &Arc<Dialer>,
    layers: &Layers,
    backend: SocketAddr,
    client: Option<PassedOn>,
    timeouts: Timeouts,
) -> HttpPeer {
    let sets_apart = match &layers.tls {
        Some(tls) => format!("{backend} {:x}", tls.identity()),
        None => String::new(),
    };
    // Pingora compares the address with that of a kept socket, unless it is this one. The socket that it keeps of a
    // connection by TLS is not the backend's.
    let address = if layers.tls.is_some() { (Ipv4Addr::UNSPECIFIED, backend.port()).into() } else { backend };
    let mut peer = HttpPeer::new(address, false, sets_apart);
    peer.group_key = runtimes::pool();
    // A backend that closes what it keeps after a time would do so under a request sooner or later.
    peer.options.idle_timeout = timeouts.idle;
    if layers.proxy_protocol.is_some() {
        peer.group_key = rand::random();
        peer.options.idle_timeout = Some(Duration::ZERO);
    }
    peer.options.read_timeout = Some(timeouts.read);
    peer.options.write_timeout = Some(timeouts.write);
    let (dialer, layers) = (Arc::clone(dialer), layers.clone());
    peer.options.custom_l4 = Some(Arc::new(Connector { dialer, layers, backend, client, timeouts }));
    peer
}

#[async_trait]
impl L4Connect for Connector {
    async fn connect(&self, _: &Peer) -> Result<Stream> {
        self.establish().await.map_err(|error| {
            let kind = match &error {
                TryError::Connect(ConnectError::Refused(_)) => ErrorType::ConnectRefused,
                TryError::Connect(ConnectError::TimedOut) => ErrorType::ConnectTimedout,
                TryError::Connect(ConnectError::Unreachable(_)) => ErrorType::ConnectNoRoute,
                TryError::Connect(ConnectError::Tls(_)) => ErrorType::TLSHandshakeFailure,
                _ => ErrorType::ConnectError,
            };
            Error::because(kind, "", error)
        })
    }
}

impl Connector {
    async fn establish(&self) -> Result<Stream, TryError> {
        let until = Instant::now() + self.timeouts.connect;
        let socket = self.dialer.begin(self.backend).and_then(|socket| OnTokio.stream(socket));
        let socket = socket.map_err(TryError::connect)?;
        if self.layers.are_none() {
            let established = tokio::time::timeout_at(until.into(), socket.established()).await;
            established.map_err(|_| ConnectError::TimedOut)?.map_err(TryError::connect)?;
            return Ok(socket.into_stream().into());
        }
        let secured: Secured<Tcp> = self.layers.establish(socket, self.backend, self.client, until).await?;
        let (socket, sealed) = secured.into_parts();
        let socket = socket.into_stream();
        match sealed {
            None => Ok(socket.into()),
            Some(sealed) => self.carry_plaintext(ClientWire::new(socket, Some(sealed))),
        }
    }

    /// The near end of a pair of sockets. A task carries its plaintext to the backend and back. The pair is needed
    /// because Pingora's pool knows connections by their descriptors, which a TLS stream of ours has not.
    fn carry_plaintext(&self, backend: ClientWire) -> Result<Stream, TryError> {
        let (near, far) = UnixStream::pair().map_err(TryError::connect)?;
        if !self.dialer.admits(near.as_raw_fd()) || !self.dialer.admits(far.as_raw_fd()) {
            let text = "no descriptor is left for clients".to_owned();
            return Err(TryError::Local(LocalFailure::ProcessDescriptors, text));
        }
        tokio::spawn(carry(backend, far, self.backend, self.timeouts.write));
        Ok(near.into())
    }
}

/// Carries plaintext between Pingora and a backend, until Pingora closes its end or the backend fails. `patience` is
/// the longest time of one write to the backend, so that the task ends where a backend takes nothing.
async fn carry(backend: ClientWire, pingora: UnixStream, address: SocketAddr, patience: Duration) {
    let (mut from_backend, mut to_backend) = tokio::io::split(backend);
    let (mut from_pingora, mut to_pingora) = pingora.into_split();
    let up = async {
        let mut bytes = Vec::with_capacity(CHUNK);
        loop {
            bytes.clear();
            if from_pingora.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                // Whether it is told so changes nothing for a connection that is over.
                let _ = timeout(patience, to_backend.shutdown()).await;
                return;
            }
            match timeout(patience, to_backend.write_all(&bytes)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return debug!("backend {address} took no more: {error}"),
                Err(_) => return debug!("backend {address} took nothing for a while"),
            }
        }
    };
    let down = async {
        match tokio::io::copy(&mut from_backend, &mut to_pingora).await {
            Ok(_) => {
                let _ = to_pingora.shutdown().await;
                // The backend may still listen.
                std::future::pending().await
            }
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                warn!("TLS with backend {address} failed: {error}");
            }
            Err(error) => debug!("backend {address} is gone: {error}"),
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

/// Bytes that are carried at once: one record (RFC 8446 §5.1).
const CHUNK: usize = 16 * 1024;
