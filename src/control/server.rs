//! The control socket's server: who may ask, how long they may take, and who answers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::protocol::{Failure, Reply, Request};
use super::socket::Socket;
use super::status::About;
use crate::config;
use crate::drain::Progress;

/// A command for the operator, who executes one after the other.
#[derive(Debug)]
pub struct Command {
    /// What is asked for; never [`Request::Status`], which waits for nobody.
    pub request: Request,
    /// Who asks.
    pub asker: Asker,
}

/// Whoever waits for an answer. Neither word waits for them.
#[derive(Debug)]
pub struct Asker {
    progress: mpsc::Sender<Progress>,
    last: oneshot::Sender<Reply>,
}

impl Asker {
    /// Says how far the command is; what a slow reader has no room for is left out.
    pub fn progress(&self, progress: Progress) {
        let _ = self.progress.try_send(progress);
    }

    /// Says the last word.
    pub fn finish(self, reply: Reply) {
        // Who went away does not want to know.
        let _ = self.last.send(reply);
    }

    /// Whether they went away.
    pub fn is_gone(&self) -> bool {
        self.last.is_closed()
    }
}

/// The server. Dropped, it answers no one any more.
#[derive(Debug)]
pub struct Server {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    /// Answers on `socket`; commands that change something are queued in `commands`.
    pub fn start(socket: Socket, about: About, commands: mpsc::Sender<Command>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let office = Arc::new(Office { about, commands, stopped: stopped.clone() });
        Self { stop, task: tokio::spawn(accept(socket, office, stopped)) }
    }

    /// Takes no more requests, sends what has been answered, within a second, and removes the socket.
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

/// What serving a connection takes.
struct Office {
    about: About,
    commands: mpsc::Sender<Command>,
    stopped: watch::Receiver<bool>,
}

async fn accept(socket: Socket, office: Arc<Office>, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = socket.listener().accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let office = Arc::clone(&office);
                    connections.spawn(async move {
                        if let Err(error) = office.serve(stream).await {
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

impl Office {
    async fn serve(&self, mut stream: UnixStream) -> io::Result<()> {
        let user = stream.peer_cred()?.uid();
        if user != 0 && user != rustix::process::geteuid().as_raw() {
            warn!("user {user} is refused on the control socket");
            return say(
                &mut stream,
                &Reply::failed(Failure::Refused, "only the gateway's own user and root are heard"),
            )
            .await;
        }
        let mut stopped = self.stopped.clone();
        let read = tokio::select! {
            read = tokio::time::timeout(REQUEST_WAIT, read_line(&mut stream)) => read,
            // Who has not asked yet gets no answer.
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
        };
        let line = match read {
            Ok(Ok(line)) if line.is_empty() => return Ok(()),
            Ok(line) => line?,
            Err(_) => {
                let message = format!("no request came within {}", humantime::format_duration(REQUEST_WAIT));
                return say(&mut stream, &Reply::failed(Failure::BadRequest, message)).await;
            }
        };
        if line.len() > MAX_LINE {
            let message = format!("the request is longer than {MAX_LINE} bytes");
            return say(&mut stream, &Reply::failed(Failure::BadRequest, message)).await;
        }
        match Request::parse(&line) {
            Ok(Request::Status) => {
                let status = self.about.status().await;
                say(&mut stream, &Reply::Status(Box::new(status))).await
            }
            Ok(request) => self.hand_on(request, &mut stream).await,
            Err(reply) => say(&mut stream, &reply).await,
        }
    }

    /// Has the operator execute a command, and passes on what they say of it.
    async fn hand_on(&self, request: Request, stream: &mut UnixStream) -> io::Result<()> {
        let (progress, mut steps) = mpsc::channel(STEPS);
        let (last, mut finished) = oneshot::channel();
        let command = Command { request, asker: Asker { progress, last } };
        if self.commands.try_send(command).is_err() {
            let reply = Reply::failed(Failure::Refused, "too many commands wait, or the gateway ends");
            return say(stream, &reply).await;
        }
        loop {
            tokio::select! {
                biased;
                Some(step) = steps.recv() => say(stream, &Reply::Progress(step)).await?,
                reply = &mut finished => {
                    let reply = reply.unwrap_or_else(|_| Reply::failed(Failure::Failed, "the gateway ended before it was done"));
                    return say(stream, &reply).await;
                }
            }
        }
    }
}

/// One line, without its end and without the bytes behind it; longer than [`MAX_LINE`] where it was cut off.
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

/// Commands that may wait for the operator: more than people and programs give at a time.
pub const QUEUE: usize = 16;
/// Connections served at once; more wait in the backlog. Root and our own user alone get so far.
const CONNECTIONS: usize = 64;
/// The longest request: a configuration file of the greatest size, with every byte of it escaped, and a little around it.
const MAX_LINE: usize = 2 * config::MAX_BYTES + 64 * 1024;
/// Steps kept for a reader that is a little late.
const STEPS: usize = 4;
/// How long a request may take to come.
const REQUEST_WAIT: Duration = Duration::from_secs(5);
/// How long a line of the answer may take to be taken.
const REPLY_WAIT: Duration = Duration::from_secs(5);
/// How long the last answers may take when the gateway ends.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// When to accept again after the system would not.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
