//! The desk: takes requests for a gateway, whichever way they came, answers some, and gives the others to the operator.

use std::sync::Arc;

use log::info;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::protocol::{CommandFailure, ControlRequest, Reply};
use crate::drain::Progress;
use crate::status::{CloseRefused, Listing, LocateAsked, LocateError, Located, StatusSource};

/// A command for the operator, who carries out one after the other.
#[derive(Debug)]
pub struct Command {
    /// The request; never one that the desk answers itself.
    pub request: ControlRequest,
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

/// Takes requests, from the control socket and from the admin API. Clones share it.
#[derive(Clone)]
pub struct Desk {
    status: StatusSource,
    commands: mpsc::Sender<Command>,
    /// Turns of listings.
    turns: Arc<Semaphore>,
}

/// Replies to one request, as they come.
pub struct ReplyStream {
    replies: Replies,
    audit: Option<Audit>,
}

enum Replies {
    Listing { listing: Box<Listing>, turns: Arc<Semaphore> },
    Operator { steps: mpsc::Receiver<Progress>, last: oneshot::Receiver<Reply> },
    Last(Box<Reply>),
    None,
}

/// A change that somebody asked for, for the log.
struct Audit {
    from: String,
    change: String,
}

impl Desk {
    /// A desk of the gateway that `status` tells of. The operator reads `commands`.
    pub fn new(status: StatusSource, commands: mpsc::Sender<Command>) -> Self {
        Self { status, commands, turns: Arc::new(Semaphore::new(LISTINGS)) }
    }

    /// The gateway.
    pub fn status(&self) -> &StatusSource {
        &self.status
    }

    /// Takes a request. One that changes something is logged together with its outcome and `from`, which names who
    /// asked.
    pub async fn ask(&self, request: ControlRequest, from: impl FnOnce() -> String) -> ReplyStream {
        let audit = request.change().map(|change| Audit { from: from(), change });
        let replies = match request {
            ControlRequest::Status => Replies::last(Reply::Status(Box::new(self.status.status().await))),
            ControlRequest::Tunnels(asked) => match Listing::begin(&self.status.running, &asked) {
                Ok(listing) => Replies::Listing { listing: Box::new(listing), turns: Arc::clone(&self.turns) },
                Err(error) => Replies::last(Reply::failed(CommandFailure::WrongArgument, error.to_string())),
            },
            ControlRequest::Close(asked) => Replies::last(match asked.carry_out(&self.status.running).await {
                Ok(closed) => Reply::done_with(closed.to_string(), &closed),
                Err(refused @ CloseRefused::Nothing(_)) => Reply::failed(CommandFailure::NotFound, refused.to_string()),
                Err(refused) => Reply::failed(CommandFailure::WrongArgument, refused.to_string()),
            }),
            ControlRequest::Where(asked) => Replies::last(match self.located(&asked) {
                Ok(located) => Reply::Located(Box::new(located)),
                Err(error) => Reply::failed(CommandFailure::WrongArgument, error.to_string()),
            }),
            request => self.forward(request),
        };
        ReplyStream { replies, audit }
    }

    fn located(&self, asked: &LocateAsked) -> Result<Located, LocateError> {
        let running = &self.status.running;
        asked.now(&running.snapshot(), running.phases.now())
    }

    /// Gives a command to the operator.
    fn forward(&self, request: ControlRequest) -> Replies {
        let (progress, steps) = mpsc::channel(STEPS);
        let (last, finished) = oneshot::channel();
        let command = Command { request, responder: Responder { progress, last } };
        match self.commands.try_send(command) {
            Ok(()) => Replies::Operator { steps, last: finished },
            Err(_) => {
                Replies::last(Reply::failed(CommandFailure::Refused, "too many commands wait, or the gateway ends"))
            }
        }
    }
}

impl Replies {
    fn last(reply: Reply) -> Self {
        Self::Last(Box::new(reply))
    }
}

impl ReplyStream {
    /// The next reply; `None` behind the last.
    pub async fn next(&mut self) -> Option<Reply> {
        let reply = match &mut self.replies {
            Replies::Listing { listing, turns } => {
                listing.prepare().await;
                // Held while tunnels are looked at, not while a client that reads slowly takes them.
                let _turn = turns.acquire().await;
                match listing.next().await {
                    Some(tunnels) => return Some(Reply::Tunnels { tunnels }),
                    None => Reply::Listed(listing.listed()),
                }
            }
            Replies::Operator { steps, last } => tokio::select! {
                biased;
                Some(step) = steps.recv() => return Some(Reply::Progress(step)),
                reply = last => reply.unwrap_or_else(|_| {
                    let message = "the gateway ended, or panicked, before it was done: its log says so";
                    Reply::failed(CommandFailure::Failed, message)
                }),
            },
            Replies::Last(_) => match std::mem::replace(&mut self.replies, Replies::None) {
                Replies::Last(reply) => *reply,
                _ => return None,
            },
            Replies::None => return None,
        };
        self.replies = Replies::None;
        if let Some(audit) = self.audit.take() {
            audit.log(&reply);
        }
        Some(reply)
    }
}

impl Drop for ReplyStream {
    fn drop(&mut self) {
        if let Some(Audit { from, change }) = self.audit.take() {
            info!("{from} asked for {change}, and did not wait for the outcome");
        }
    }
}

impl Audit {
    fn log(self, reply: &Reply) {
        let Self { from, change } = self;
        match reply {
            // One line, whatever a file or a name has in it.
            Reply::Failed(failed) => info!("{from} asked for {change}, which failed: {:?}", failed.message),
            Reply::Done(done) => info!("{from} asked for {change}, which was done: {:?}", done.message),
            _ => info!("{from} asked for {change}, which was done"),
        }
    }
}

/// Bound of the commands that wait for the operator: more than people and programs give at a time.
pub const QUEUE: usize = 16;
/// Progress replies kept for a client that reads late.
const STEPS: usize = 4;
/// Listings that look at tunnels at the same time: each takes a fraction of a millisecond of a worker's turns.
const LISTINGS: usize = 2;
