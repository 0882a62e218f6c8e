//! The reception: the Unix sockets at which operators ask and successors knock.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use log::{debug, error, info, warn};
use pingora::server::configuration::ServerConf;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::control::{About, Command, History, Place, Server, Socket, SocketError};
use crate::handover::{Failure, Giver};

/// Where the sockets belong, and what is answered at the control socket.
pub(super) struct Reception {
    pub(super) control: Option<Place>,
    pub(super) door: Option<Place>,
    pub(super) about: About,
    pub(super) commands: mpsc::Sender<Command>,
}

/// The open sockets.
#[derive(Default)]
pub(super) struct Desk {
    pub(super) control: Option<Server>,
    pub(super) door: Option<Door>,
}

/// Where a gateway with this configuration waits for its successor: `upgrade_sock`, or `upgrade.sock` beside the control
/// socket. Pingora's own default lies in a folder that everyone may write to, so it stands for none.
pub(super) fn door(pingora: &ServerConf) -> Option<Place> {
    let named = (pingora.upgrade_sock != ServerConf::default().upgrade_sock).then(|| Path::new(&pingora.upgrade_sock));
    Place::find_other(named, "upgrade.sock")
}

impl Reception {
    /// Opens both sockets; `replace` takes the place of a predecessor's. Where there can be none there is a warning.
    ///
    /// # Errors
    /// The configuration names a control socket, and there can be none.
    pub(super) fn open(&self, replace: bool) -> Result<Desk, SocketError> {
        let control = match open("control socket", self.control.as_ref(), replace) {
            Err(error) if matches!(self.control, Some(Place::Named(_))) => return Err(error),
            Err(error) => {
                warn!("no control socket: {error}");
                None
            }
            Ok(socket) => socket,
        };
        if let Some(socket) = &control {
            info!("control socket at {}", socket.path().display());
        }
        let door = open("upgrade socket", self.door.as_ref(), replace).unwrap_or_else(|error| {
            warn!("no upgrade in place is possible: {error}");
            None
        });
        let control = control.map(|socket| Server::start(socket, self.about.clone(), self.commands.clone()));
        Ok(Desk { control, door: door.map(Door::new) })
    }

    /// What operators are told of past reloads and upgrades.
    pub(super) fn history(&self) -> &History {
        &self.about.history
    }
}

fn open(what: &str, place: Option<&Place>, replace: bool) -> Result<Option<Socket>, SocketError> {
    let Some(place) = place else {
        warn!("no {what}: there is no runtime folder for it; name one in the configuration");
        return Ok(None);
    };
    if replace { Socket::replace(place) } else { Socket::bind(place) }.map(Some)
}

impl Desk {
    /// The next process that asks to take over, once it has said so.
    pub(super) async fn successor(&mut self) -> Giver {
        match &mut self.door {
            Some(door) => door.successor().await,
            None => std::future::pending().await,
        }
    }
}

/// The socket that successors knock at, and those who have knocked and said nothing yet.
///
/// Who only looks whether anyone is there (another gateway at its start) says nothing, and keeps nobody from their work.
pub(super) struct Door {
    socket: Socket,
    greetings: JoinSet<Result<Giver, Failure>>,
}

impl Door {
    fn new(socket: Socket) -> Self {
        info!("successors are awaited at {}", socket.path().display());
        Self { socket, greetings: JoinSet::new() }
    }

    async fn successor(&mut self) -> Giver {
        loop {
            tokio::select! {
                stream = self.socket.accept(), if self.greetings.len() < GREETINGS => match stream {
                    Ok(stream) => drop(self.greetings.spawn_blocking(move || Giver::greet(stream))),
                    Err(error) => {
                        error!("a successor was not heard: {error}");
                        // No descriptor may be left; asking again at once would find none either.
                        tokio::time::sleep(LISTEN_AGAIN).await;
                    }
                },
                Some(greeting) = self.greetings.join_next() => match greeting {
                    Ok(Ok(giver)) => {
                        let successor = giver.successor();
                        info!("process {} (longhaul {}) asks to take over", successor.pid, successor.version);
                        return giver;
                    }
                    Ok(Err(Failure::Gone(error))) if error.kind() == ErrorKind::ConnectionAborted => {
                        debug!("a process knocked and left");
                    }
                    Ok(Err(failure)) => error!("the handover failed, this process goes on: {failure}"),
                    Err(error) => error!("a successor was not heard: {error}"),
                },
            }
        }
    }
}

/// How many may stand at the door and say nothing; each is sent away after two seconds.
const GREETINGS: usize = 16;
const LISTEN_AGAIN: Duration = Duration::from_millis(50);
