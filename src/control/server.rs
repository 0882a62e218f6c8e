//! The server of the control socket: checks the user, reads the request in bounded time, passes replies on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::desk::Desk;
use super::protocol::{CommandFailure, ControlRequest, Reply};
use crate::config;
use crate::unix_socket::UnixSocketListener;

/// The running server. Dropping it closes the socket and every connection.
#[derive(Debug)]
pub struct ControlServer {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl ControlServer {
    /// Starts to pass what is asked on `socket` to `desk`.
    pub fn start(socket: UnixSocketListener, desk: Desk) -> Self {
        let (stop, stopped) = watch::channel(false);
        let handler = Arc::new(Handler { desk, stopped: stopped.clone() });
        Self { stop, task: tokio::spawn(accept(socket, handler, stopped)) }
    }

    /// Takes no more requests, sends the replies that are under way within a second, and removes the socket.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let _ = (&mut self.task).await;
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves one connection.
struct Handler {
    desk: Desk,
    stopped: watch::Receiver<bool>,
}

async fn accept(socket: UnixSocketListener, handler: Arc<Handler>, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = socket.socket().accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let handler = Arc::clone(&handler);
                    connections.spawn(async move {
                        if let Err(error) = handler.serve(stream).await {
                            debug!("a connection to the control socket broke: {error}");
                        }
                    });
                }
                Err(error) => {
                    warn!("the control socket cannot accept: {error}");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = stopped.changed() => break,
        }
    }
    drop(socket);
    let _ = tokio::time::timeout(LAST_WORDS, connections.join_all()).await;
}

impl Handler {
    async fn serve(&self, mut stream: UnixStream) -> io::Result<()> {
        let user = stream.peer_cred()?.uid();
        if user != 0 && user != rustix::process::geteuid().as_raw() {
            warn!("user {user} is refused on the control socket");
            return say(
                &mut stream,
                &Reply::failed(CommandFailure::Refused, "only the gateway's own user and root are heard"),
            )
            .await;
        }
        let mut stopped = self.stopped.clone();
        let read = tokio::select! {
            read = tokio::time::timeout(REQUEST_WAIT, read_line(&mut stream)) => read,
            // A client that has not sent its request by now gets no answer.
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
        };
        let line = match read {
            Ok(Ok(line)) if line.is_empty() => return Ok(()),
            Ok(line) => line?,
            Err(_) => {
                let message = format!("no request came within {}", humantime::format_duration(REQUEST_WAIT));
                return say(&mut stream, &Reply::failed(CommandFailure::BadRequest, message)).await;
            }
        };
        if line.len() > MAX_LINE {
            let message = format!("the request is longer than {MAX_LINE} bytes");
            return say(&mut stream, &Reply::failed(CommandFailure::BadRequest, message)).await;
        }
        let request = match ControlRequest::parse(&line) {
            Ok(request) => request,
            Err(reply) => return say(&mut stream, &reply).await,
        };
        let mut answer = self.desk.ask(request, || format!("user {user}, by the control socket,")).await;
        while let Some(reply) = answer.next().await {
            say(&mut stream, &reply).await?;
        }
        Ok(())
    }
}

/// Reads one line, without its end and the bytes behind it. A line that is too long comes cut off, at more than
/// [`MAX_LINE`].
async fn read_line(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(stream.take(MAX_LINE as u64 + 1)).read_until(b'\n', &mut line).await?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(line)
}

async fn say(stream: &mut UnixStream, reply: &Reply) -> io::Result<()> {
    let line = reply.to_line();
    tokio::time::timeout(REPLY_WAIT, stream.write_all(line.as_bytes())).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// Bound of the connections served at once; more wait in the backlog. Only root and this user can connect.
const CONNECTIONS: usize = 64;
/// Length of the longest request: a configuration file of the greatest size with every byte escaped, and the other
/// fields.
const MAX_LINE: usize = 2 * config::MAX_BYTES + 64 * 1024;
/// Time limit of reading a request.
const REQUEST_WAIT: Duration = Duration::from_secs(5);
/// Time limit of writing one reply.
const REPLY_WAIT: Duration = Duration::from_secs(5);
/// Time limit of the last replies when the gateway ends.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Pause after the system could not accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
