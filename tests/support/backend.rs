//! Backends under the test's control.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A backend that serves each connection as the test says. Its listener and its connections end when it is dropped.
pub struct Backend {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
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
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&accepted);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
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
        Self { address, accepted, task }
    }

    /// Stops it; its address is free when this returns.
    pub async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    /// Number of connections that it has accepted.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// An address on which nobody will listen: bound and released, on a loopback address of its own.
    pub fn refusing() -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.99.99.99:0").unwrap();
        listener.local_addr().unwrap()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
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
