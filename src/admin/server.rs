//! The server of the HTTP listeners for operators, on hyper: connections and heads are bounded, and the newest
//! connection is served whoever holds the others.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use log::{debug, warn};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::{Admin, Visitor};
use crate::tls::presented::fingerprint;
use crate::tunnel::{Activity, UnderWay};

/// Bounds of a server.
pub struct ServerBounds {
    /// Most connections; the oldest one ends for one more. Whoever opens connections and says nothing is the first to
    /// go.
    pub connections: usize,
    /// Ends when the server accepts nothing and its last connection is closed, half a second later at the latest: who
    /// has no answer by then waits for one that comes with the end of the process.
    pub under_way: UnderWay,
    /// Counts the connections that were asked something: each until it is closed.
    pub asked: Arc<Activity>,
}

/// Answers on `listener` until it is told to stop. Requests that have come by then are answered.
///
/// To be called on a Tokio runtime.
///
/// # Errors
/// The socket cannot be watched.
pub fn serve(
    listener: &std::net::TcpListener,
    admin: Admin,
    bounds: ServerBounds,
    stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = listener.try_clone()?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let admin = Admin { stopped: Some(stopped.clone()), ..admin };
    tokio::spawn(accept(listener, Arc::new(admin), bounds, stopped));
    Ok(())
}

async fn accept(listener: TcpListener, admin: Arc<Admin>, bounds: ServerBounds, mut stopped: watch::Receiver<bool>) {
    let ServerBounds { connections: most, under_way, asked } = bounds;
    let mut connections = JoinSet::new();
    // Connections, the oldest first. A dropped sender ends its connection.
    let mut open: VecDeque<(u64, oneshot::Sender<()>)> = VecDeque::new();
    let (mut number, switch) = (0, stopped.clone());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let (end, ended) = oneshot::channel();
                    number += 1;
                    open.push_back((number, end));
                    if open.len() > most.max(1) {
                        open.pop_front();
                    }
                    let (admin, asked) = (Arc::clone(&admin), Arc::clone(&asked));
                    let serve = connection(stream, peer, admin, asked, switch.clone());
                    connections.spawn(async move {
                        tokio::select! {
                            () = serve => {}
                            _ = ended => {}
                        }
                        number
                    });
                }
                Err(error) => {
                    warn!("a listener for operators cannot accept: {error}");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            },
            Some(ended) = connections.join_next() => {
                let Ok(ended) = ended else { continue };
                open.retain(|(other, _)| *other != ended);
            }
            () = told(&mut stopped) => break,
        }
    }
    drop(listener);
    let mut all = pin!(connections.join_all());
    if tokio::time::timeout(LAST_REQUESTS, &mut all).await.is_err() {
        drop(under_way);
        // The end of the process ends those that are never answered.
        all.await;
    }
}

/// Serves a connection until it ends.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    admin: Arc<Admin>,
    asked: Arc<Activity>,
    stopped: watch::Receiver<bool>,
) {
    let Some(config) = admin.tls() else {
        let visitor = Visitor { peer, by_tls: false, certificate: None };
        return http(stream, admin, visitor, &asked, stopped).await;
    };
    match tokio::time::timeout(HEAD_WITHIN, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => {
            let presented = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let certificate = presented.map(|certificate| fingerprint(certificate).into());
            http(stream, admin, Visitor { peer, by_tls: true, certificate }, &asked, stopped).await;
        }
        Ok(Err(error)) => debug!("{peer} cannot speak TLS to the admin listener: {error}"),
        Err(_) => debug!("{peer} did not speak TLS to the admin listener in time"),
    }
}

async fn http<S>(
    stream: S,
    admin: Arc<Admin>,
    visitor: Visitor,
    asked: &Arc<Activity>,
    mut stopped: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let has_asked: OnceLock<UnderWay> = OnceLock::new();
    let service = service_fn(|request| {
        has_asked.get_or_init(|| asked.begin());
        let (admin, visitor) = (Arc::clone(&admin), visitor.clone());
        async move { Ok::<_, Infallible>(admin.answer(request, &visitor).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(MOST_OF_A_HEAD)
        .max_headers(MOST_FIELDS)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let end = tokio::select! {
        end = connection.as_mut() => end,
        () = told(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = end {
        debug!("a connection of an operator broke: {error}");
    }
}

/// Waits until the server is told to stop, or its owner is gone.
async fn told(stopped: &mut watch::Receiver<bool>) {
    drop(stopped.wait_for(|stopped| *stopped).await);
}

/// Time limit of a head, of the silence between two requests, and of a handshake of TLS.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
const MOST_OF_A_HEAD: usize = 32 * 1024;
const MOST_FIELDS: usize = 64;
/// Pause after the system could not accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Time that the requests under way get when the server stops.
const LAST_REQUESTS: Duration = Duration::from_millis(500);
