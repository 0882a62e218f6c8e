//! Backends under the test's control.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{SinkExt, StreamExt};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

/// A backend that serves each connection as the test says. Its listener and its connections end when it is dropped; its
/// address is kept for whoever starts there again.
pub struct Backend {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Backend {
    /// Serves every connection with `serve`, on a free port of 127.0.0.1.
    pub async fn start<F, T>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> T + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), serve).await
    }

    /// As [`start`](Self::start), on a given address.
    pub async fn start_at<F, T>(address: SocketAddr, serve: F) -> Self
    where
        F: Fn(TcpStream) -> T + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        Self::try_start_at(address, serve).await.unwrap()
    }

    /// As [`start_at`](Self::start_at), where the address may be somebody else's.
    pub async fn try_start_at<F, T>(address: SocketAddr, serve: F) -> io::Result<Self>
    where
        F: Fn(TcpStream) -> T + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&accepted);
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    _ = &mut stopped => return keep_closed(listener),
                    accepted = listener.accept() => {
                        let (stream, _) = accepted.unwrap();
                        stream.set_nodelay(true).unwrap();
                        counter.fetch_add(1, Ordering::SeqCst);
                        connections.spawn(serve(stream));
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self { address, accepted, stop, task })
    }

    /// Stops it; its address refuses connections when this returns.
    pub async fn stop(self) {
        drop(self.stop);
        self.task.await.unwrap();
    }

    /// Number of connections that it has accepted.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// An address on which nobody will listen: bound for as long as the tests run.
    pub fn refusing() -> SocketAddr {
        let (address, socket) = reserved();
        std::mem::forget(socket);
        address
    }
}

/// A free port of 127.0.0.1, which nobody else is given while the socket lives. Whoever is told of it can listen there.
pub fn reserved() -> (SocketAddr, Socket) {
    reserved_at(Ipv4Addr::LOCALHOST)
}

/// As [`reserved`], of another address.
pub fn reserved_at(ip: Ipv4Addr) -> (SocketAddr, Socket) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from((ip, 0)).into()).unwrap();
    (socket.local_addr().unwrap().as_socket().unwrap(), socket)
}

/// Ends listening and keeps the address, for as long as the tests run: the system refuses who connects, and gives the
/// port to nobody but to those who ask for it by its number.
pub fn keep_closed(listener: TcpListener) {
    SockRef::from(&listener).shutdown(Shutdown::Both).unwrap();
    std::mem::forget(listener.into_std().unwrap());
}

/// A WebSocket backend that sends back every message, after one text message that holds its own address.
pub struct Echo {
    pub backend: Backend,
}

impl Echo {
    /// An echo on a free port.
    pub async fn start() -> Self {
        let backend = Backend::start(|stream| async move {
            let address = stream.local_addr().unwrap();
            let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
            if socket.send(address.to_string().into()).await.is_err() {
                return;
            }
            while let Some(Ok(message)) = socket.next().await {
                if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                    return;
                }
            }
        })
        .await;
        Self { backend }
    }

    /// Address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.backend.address
    }
}
