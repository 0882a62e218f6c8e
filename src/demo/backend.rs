//! A demo backend: a stateful WebSocket server that can be stopped like a crash and started again.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use cookie::Cookie;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::kept::{Kept, Session};
use super::room::{Figures, Room, Seat, Told};
use super::serve::{self, Changes};

/// A backend with a name and an address for the demo's life, up or down.
#[derive(Debug)]
pub(super) struct Backend {
    name: &'static str,
    address: SocketAddr,
    /// Socket that is bound and never listens: while the backend is down its port refuses, and no other program gets
    /// it.
    _reserved: TcpSocket,
    /// State of the server's task; a stop waits on it until the port is closed.
    phase: watch::Sender<Phase>,
    run: Mutex<Option<Run>>,
    changes: Changes,
    /// Counters that outlive a restart.
    kept: Arc<Kept>,
}

/// State of a backend, as seen from outside.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Status {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    pub(super) up: bool,
    #[serde(flatten)]
    pub(super) figures: Figures,
}

impl Backend {
    /// Takes a free port and starts on it.
    ///
    /// # Errors
    /// No port is free, by the system's error.
    pub(super) fn start_new(name: &'static str, changes: Changes, kept: Arc<Kept>) -> io::Result<Self> {
        let reserved = bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = reserved.local_addr()?;
        let phase = watch::Sender::new(Phase::Down);
        let backend = Self { name, address, _reserved: reserved, phase, run: Mutex::default(), changes, kept };
        backend.start()?;
        Ok(backend)
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn status(&self) -> Status {
        let figures = self.run().as_ref().map(|run| run.room.figures());
        Status { name: self.name, address: self.address, up: figures.is_some(), figures: figures.unwrap_or_default() }
    }

    /// Starts with an empty memory on the same address as before; does nothing when already up.
    ///
    /// # Errors
    /// The port cannot be listened on, by the system's error; `AddrInUse` while a stop is still under way.
    pub(super) fn start(&self) -> io::Result<()> {
        let mut run = self.run();
        if run.is_some() {
            return Ok(());
        }
        if *self.phase.borrow() != Phase::Down {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let listener = bind(self.address)?.listen(BACKLOG)?;
        let room = Room::new(self.name, self.changes.clone());
        let (stop, stopped) = watch::channel(false);
        let (end, ended) = watch::channel(End::NotYet);
        self.phase.send_replace(Phase::Open);
        let service = Service { room: Arc::clone(&room), end: ended, kept: Arc::clone(&self.kept) };
        tokio::spawn(serve_room(listener, service, stopped, self.phase.clone()));
        *run = Some(Run { room, stop, end });
        drop(run);
        self.changes.note();
        Ok(())
    }

    /// Stops like a crash: closes the port, ends connections without a Close frame, and forgets everything.
    ///
    /// Returns when the port is closed; does nothing when already down.
    pub(super) async fn stop(&self) {
        if let Some(run) = self.run().take() {
            run.end.send_replace(End::Crash);
            run.stop.send_replace(true);
            self.changes.note();
        }
        self.down().await;
    }

    /// Stops as a service does that is restarted: closes the port, keeps the counters, and then says Close 1012.
    ///
    /// Returns when every client has answered, or after [`LEAVING`]; does nothing when already down.
    pub(super) async fn leave(&self) {
        let Some(run) = self.run().take() else { return };
        run.stop.send_replace(true);
        self.changes.note();
        // From here on no client is led back here.
        self.down().await;
        run.end.send_replace(End::Restart);
        // Each conversation has a receiver until its end.
        let _ = timeout(LEAVING, run.end.closed()).await;
        // Its clients are asked for elsewhere at this moment. One that was back at once would be asked again.
        sleep(STARTING).await;
    }

    async fn down(&self) {
        // The sender is a field of `self`, so the wait cannot fail.
        let _ = self.phase.subscribe().wait_for(|phase| *phase == Phase::Down).await;
    }

    fn run(&self) -> MutexGuard<'_, Option<Run>> {
        // The value is replaced as a whole: a panic cannot leave half of it.
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One life of a backend, from a start to a stop.
#[derive(Debug)]
struct Run {
    room: Arc<Room>,
    stop: watch::Sender<bool>,
    end: watch::Sender<End>,
}

/// End of a backend's conversations.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    NotYet,
    Crash,
    Restart,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// The port is open, or about to close.
    Open,
    /// The port is closed.
    Down,
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Lets the next start bind the address beside the reserved socket and the remains of old connections.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn serve_room(listener: TcpListener, service: Service, stop: watch::Receiver<bool>, phase: watch::Sender<Phase>) {
    let router = Router::new().route("/ws", get(open_chat)).route("/health", get(check_health)).with_state(service);
    serve::until_stopped(listener, router, stop).await;
    phase.send_replace(Phase::Down);
}

#[derive(Clone)]
struct Service {
    room: Arc<Room>,
    end: watch::Receiver<End>,
    kept: Arc<Kept>,
}

impl Service {
    /// Returns when the backend's conversations end; a sender that is gone counts as a crash.
    async fn ended(&mut self) -> End {
        self.end.wait_for(|end| *end != End::NotYet).await.map_or(End::Crash, |end| *end)
    }
}

#[derive(Deserialize)]
struct Asked {
    client: Option<String>,
}

async fn open_chat(
    State(mut service): State<Service>,
    asked: Result<Query<Asked>, QueryRejection>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let named = match asked {
        Ok(Query(asked)) => asked.client.or_else(|| issued_cookie(&headers)),
        Err(rejection) => return rejection.into_response(),
    };
    let client = named.unwrap_or_else(|| format!("guest-{:08x}", rand::random::<u32>()));
    if !is_client_id(&client) {
        return (StatusCode::BAD_REQUEST, "client: expected 1 to 64 of A-Z a-z 0-9 - _\n").into_response();
    }
    let session = Session::of(&headers);
    let count = session.as_ref().and_then(|session| service.kept.take(session));
    let Some((mut seat, hello)) = service.room.join(client, count) else {
        return (StatusCode::SERVICE_UNAVAILABLE, "this backend is full\n").into_response();
    };
    small(upgrade).on_upgrade(move |mut socket| async move {
        let end = tokio::select! {
            _ = converse(&mut socket, &mut seat, hello) => return,
            end = service.ended() => end,
        };
        // After a crash the socket is dropped as it is, without a Close frame.
        if end == End::Restart {
            part(&mut socket, &seat, session.as_ref(), &service.kept).await;
        }
    })
}

/// Keeps the counter for the next backend, says Close 1012 and waits for the answer.
async fn part(socket: &mut WebSocket, seat: &Seat, session: Option<&Session>, kept: &Kept) {
    // The gateway asks the next backend as soon as it has seen the frame.
    if let Some(session) = session {
        kept.put(session, seat.counted());
    }
    let close = CloseFrame { code: SERVICE_RESTART, reason: "restart".into() };
    if socket.send(Message::Close(Some(close))).await.is_err() {
        return;
    }
    // A click that crosses the frame is not counted: this is a demo of what a store is for.
    while let Some(Ok(_)) = socket.recv().await {}
}

/// Talks with one client until it leaves; `None` says that it did.
async fn converse(socket: &mut WebSocket, seat: &mut Seat, hello: Told) -> Option<()> {
    tell(socket, &hello).await?;
    loop {
        tokio::select! {
            message = socket.recv() => match message?.ok()? {
                Message::Text(text) => {
                    if let Err(refused) = seat.say(&text) {
                        tell(socket, &refused).await?;
                    }
                }
                Message::Binary(_) => tell(socket, &Told::Refused { reason: "expected text" }).await?,
                // axum answers Pings and Close; after a Close the next `recv` returns `None`.
                Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
            },
            told = seat.news() => tell(socket, &told?).await?,
        }
    }
}

async fn tell(socket: &mut WebSocket, told: &Told) -> Option<()> {
    let text = serde_json::to_string(told).ok()?;
    socket.send(Message::text(text)).await.ok()
}

/// Answers health checks: plain HTTP with 200, and a handshake with 101; neither counts as a client.
async fn check_health(
    State(mut service): State<Service>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else { return "ok\n".into_response() };
    small(upgrade).on_upgrade(|mut socket| async move {
        let closed = async { while let Some(Ok(_)) = socket.recv().await {} };
        tokio::select! {
            () = closed => {}
            _ = service.ended() => {}
        }
    })
}

/// Small buffers for one WebSocket: the messages of the demo are short.
fn small(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
        .read_buffer_size(MAX_MESSAGE_BYTES)
        .write_buffer_size(0)
}

fn issued_cookie(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = values.flat_map(Cookie::split_parse).filter_map(Result::ok);
    cookies.find(|cookie| cookie.name() == COOKIE).map(|cookie| cookie.value().to_owned())
}

fn is_client_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// Cookie that the gateway issues by the demo's configuration. It names a client that gave no id.
const COOKIE: &str = "longhaul";

/// Most bytes of one message: the longest chat line with every character escaped in JSON, and some room.
pub(super) const MAX_MESSAGE_BYTES: usize = 8 * 1024;

/// Close code of a service that restarts (IANA, WebSocket Close Code Number Registry).
const SERVICE_RESTART: u16 = 1012;

/// The longest time that clients of a restarted backend have for their answers.
const LEAVING: Duration = Duration::from_secs(2);
/// Time for which a restarted backend is away, as a program that starts is.
const STARTING: Duration = Duration::from_secs(1);

/// Backlog of the listener: a page that reopens all its connections at once must not be refused.
const BACKLOG: u32 = 512;
