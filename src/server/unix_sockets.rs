//! The gateway's Unix sockets: the control socket for operators and the handover socket for successors.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use log::{debug, error, info, warn};
use pingora::server::configuration::ServerConf;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::control::{ControlServer, Desk};
use crate::handover::{HandoverError, ToSuccessor};
use crate::status::History;
use crate::unix_socket::{ListenError, SocketPath, UnixSocketListener};

/// Paths of both sockets, and everything that the control socket's server needs.
pub(super) struct UnixSocketConfig {
    pub(super) control: Option<SocketPath>,
    pub(super) handover: Option<SocketPath>,
    pub(super) desk: Desk,
}

/// The sockets that are open.
#[derive(Default)]
pub(super) struct UnixSockets {
    pub(super) control: Option<ControlServer>,
    pub(super) handover: Option<HandoverSocket>,
}

/// Path of a gateway's handover socket: `upgrade_sock`, else a path beside the control socket. Pingora's default
/// for `upgrade_sock` lies in a folder that every user may write to, so it counts as left out.
pub(super) fn handover_path(config: &Config) -> Option<SocketPath> {
    let pingora = &config.pingora;
    let named = (pingora.upgrade_sock != ServerConf::default().upgrade_sock).then(|| Path::new(&pingora.upgrade_sock));
    SocketPath::of_handover(named, config.control_sock.as_deref())
}

impl UnixSocketConfig {
    /// Opens both sockets; with `replace`, in the place of a predecessor's. Logs a warning for a socket that cannot be
    /// opened.
    ///
    /// # Errors
    /// The control socket cannot be opened, and the configuration names it.
    pub(super) fn open(&self, replace: bool) -> Result<UnixSockets, ListenError> {
        let control = match open("control socket", self.control.as_ref(), replace) {
            Err(error) if matches!(self.control, Some(SocketPath::Named(_))) => return Err(error),
            Err(error) => {
                warn!("no control socket: {error}");
                None
            }
            Ok(socket) => socket,
        };
        if let Some(socket) = &control {
            info!("control socket at {}", socket.path().display());
        }
        let handover = open("upgrade socket", self.handover.as_ref(), replace).unwrap_or_else(|error| {
            warn!("no upgrade in place is possible: {error}");
            None
        });
        let control = control.map(|socket| ControlServer::start(socket, self.desk.clone()));
        Ok(UnixSockets { control, handover: handover.map(HandoverSocket::new) })
    }

    /// The record of reloads and upgrades that `status` shows.
    pub(super) fn history(&self) -> &History {
        &self.desk.status().history
    }
}

fn open(what: &str, path: Option<&SocketPath>, replace: bool) -> Result<Option<UnixSocketListener>, ListenError> {
    let Some(path) = path else {
        warn!("no {what}: there is no runtime folder for it; name one in the configuration");
        return Ok(None);
    };
    if replace { UnixSocketListener::replace(path) } else { UnixSocketListener::bind(path) }.map(Some)
}

impl UnixSockets {
    /// Waits for the next successor; see [`HandoverSocket::successor`].
    pub(super) async fn successor(&mut self) -> ToSuccessor {
        match &mut self.handover {
            Some(handover) => handover.successor().await,
            None => std::future::pending().await,
        }
    }
}

/// The listening handover socket, and the connections whose `hello` has not come yet.
///
/// A process that only looks whether anybody listens (another gateway at its start) sends no `hello`, and delays
/// nobody.
pub(super) struct HandoverSocket {
    socket: UnixSocketListener,
    hellos: JoinSet<Result<ToSuccessor, HandoverError>>,
}

impl HandoverSocket {
    fn new(socket: UnixSocketListener) -> Self {
        info!("successors are awaited at {}", socket.path().display());
        Self { socket, hellos: JoinSet::new() }
    }

    /// Waits for the next process that asks to take over, and speaks a protocol that this one speaks too.
    async fn successor(&mut self) -> ToSuccessor {
        loop {
            tokio::select! {
                stream = self.socket.accept(), if self.hellos.len() < HELLOS => match stream {
                    Ok(stream) => drop(self.hellos.spawn_blocking(move || ToSuccessor::greet(stream))),
                    Err(error) => {
                        error!("a successor was not heard: {error}");
                        // The process may be out of descriptors, and would be out of them at once again.
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                    }
                },
                Some(hello) = self.hellos.join_next() => match hello {
                    Ok(Ok(connection)) => {
                        let successor = connection.successor();
                        info!("process {} (longhaul {}) asks to take over", successor.pid, successor.version);
                        return connection;
                    }
                    Ok(Err(HandoverError::Gone(error))) if error.kind() == ErrorKind::ConnectionAborted => {
                        debug!("a process connected to the upgrade socket and left");
                    }
                    Ok(Err(failure)) => error!("the handover failed, this process goes on: {failure}"),
                    Err(error) => error!("a successor was not heard: {error}"),
                },
            }
        }
    }
}

/// Bound of the connections whose `hello` is awaited; each is closed after two seconds.
const HELLOS: usize = 16;
/// Pause after the system could not accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
