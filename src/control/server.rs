//! The server of the control socket: checks the user, reads the request in bounded time, passes replies on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::protocol::{FailureKind, Reply, Request};
use crate::config;
use crate::drain::Progress;
use crate::status::StatusSource;
use crate::unix_socket::Listener;

/// A command for the operator, who carries out one after the other.
#[derive(Debug)]
pub struct Command {
    /// The request; never [`Request::Status`], which the server answers itself.
    pub request: Request,
    /// Sends the replies.
    pub responder: Responder,
}

/// Sends replies to the client that gave a command. Never waits for the client.
#[derive(Debug)]
pub struct Responder {
    progress: mpsc::Sender<Progress>,
    last: oneshot::Sender<Reply>,
}

impl Responder {
    /// Sends progress. Drops it where the client has not read the last [`STEPS`] yet.
    pub fn progress(&self, progress: Progress) {
        let _ = self.progress.try_send(progress);
    }

    /// Sends the last reply.
    pub fn finish(self, reply: Reply) {
        // A client that is gone needs no reply.
        let _ = self.last.send(reply);
    }

    /// Tells whether the client has closed its connection.
    pub fn is_gone(&self) -> bool {
        self.last.is_closed()
    }
}

/// The running server. Dropping it closes the socket and every connection.
#[derive(Debug)]
pub struct Server {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    /// Starts to answer on `socket`. Every command but `status` goes into `commands`.
    pub fn start(socket: Listener, status: StatusSource, commands: mpsc::Sender<Command>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let handler = Arc::new(Handler { status, commands, stopped: stopped.clone() });
        Self { stop, task: tokio::spawn(accept(socket, handler, stopped)) }
    }

    /// Takes no more requests, sends the replies that are under way within a second, and removes the socket.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves one connection.
struct Handler {
    status: StatusSource,
    commands: mpsc::Sender<Command>,
    stopped: watch::Receiver<bool>,
}

async fn accept(socket: Listener, handler: Arc<Handler>, mut stopped: watch::Receiver<bool>) {
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
                &Reply::failed(FailureKind::Refused, "only the gateway's own user and root are heard"),
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
                return say(&mut stream, &Reply::failed(FailureKind::BadRequest, message)).await;
            }
        };
        if line.len() > MAX_LINE {
            let message = format!("the request is longer than {MAX_LINE} bytes");
            return say(&mut stream, &Reply::failed(FailureKind::BadRequest, message)).await;
        }
        match Request::parse(&line) {
            Ok(Request::Status) => {
                let status = self.status.status().await;
                say(&mut stream, &Reply::Status(Box::new(status))).await
            }
            Ok(request) => self.forward(request, &mut stream).await,
            Err(reply) => say(&mut stream, &reply).await,
        }
    }

    /// Gives a command to the operator, and passes the operator's replies on.
    async fn forward(&self, request: Request, stream: &mut UnixStream) -> io::Result<()> {
        let (progress, mut steps) = mpsc::channel(STEPS);
        let (last, mut finished) = oneshot::channel();
        let command = Command { request, responder: Responder { progress, last } };
        if self.commands.try_send(command).is_err() {
            let reply = Reply::failed(FailureKind::Refused, "too many commands wait, or the gateway ends");
            return say(stream, &reply).await;
        }
        loop {
            tokio::select! {
                biased;
                Some(step) = steps.recv() => say(stream, &Reply::Progress(step)).await?,
                reply = &mut finished => {
                    let ended = || Reply::failed(FailureKind::Failed, "the gateway ended before it was done");
                    let reply = reply.unwrap_or_else(|_| ended());
                    return say(stream, &reply).await;
                }
            }
        }
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

/// Bound of the commands that wait for the operator: more than people and programs give at a time.
pub const QUEUE: usize = 16;
/// Bound of the connections served at once; more wait in the backlog. Only root and this user can connect.
const CONNECTIONS: usize = 64;
/// Length of the longest request: a configuration file of the greatest size with every byte escaped, and the other
/// fields.
const MAX_LINE: usize = 2 * config::MAX_BYTES + 64 * 1024;
/// Progress replies kept for a client that reads late.
const STEPS: usize = 4;
/// Time limit of reading a request.
const REQUEST_WAIT: Duration = Duration::from_secs(5);
/// Time limit of writing one reply.
const REPLY_WAIT: Duration = Duration::from_secs(5);
/// Time limit of the last replies when the gateway ends.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Pause after the system could not accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
