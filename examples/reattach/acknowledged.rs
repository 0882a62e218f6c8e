//! Messages that are stored before they are acknowledged, and once however often they come: acknowledged PORT FILE
//!
//! A client numbers its messages (`7 hello`), and sends one again whose `stored 7` does not come.

use std::collections::HashMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Lines `SESSION NUMBER TEXT`, and the last number of each session.
struct Journal {
    file: File,
    last: HashMap<String, u64>,
}

impl Journal {
    fn open(path: &str) -> std::io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        let mut last = HashMap::new();
        for line in fs::read_to_string(path)?.lines() {
            let mut words = line.splitn(3, ' ');
            if let (Some(session), Some(Ok(number))) = (words.next(), words.next().map(str::parse)) {
                last.insert(session.to_owned(), number);
            }
        }
        Ok(Self { file, last })
    }

    /// Stores a message, unless it was stored before.
    fn store(&mut self, session: &str, number: u64, text: &str) -> std::io::Result<()> {
        if self.last.get(session).is_some_and(|last| number <= *last) {
            return Ok(());
        }
        writeln!(self.file, "{session} {number} {text}")?;
        self.file.sync_data()?;
        self.last.insert(session.to_owned(), number);
        Ok(())
    }
}

type Shared = (Arc<Mutex<Journal>>, watch::Receiver<bool>);

async fn open(State(shared): State<Shared>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    let session = headers.get("longhaul-session").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    upgrade.on_upgrade(|socket| talk(socket, session, shared))
}

async fn talk(mut socket: WebSocket, session: String, (journal, mut stopping): Shared) {
    let mut is_closing = false;
    loop {
        let message = tokio::select! {
            message = socket.recv() => message,
            _ = stopping.changed(), if !is_closing => {
                // What comes before the answer to this is still stored. Then the gateway leads the client on.
                is_closing = true;
                let close = CloseFrame { code: 1012, reason: "restart".into() };
                let _ = socket.send(Message::Close(Some(close))).await;
                continue;
            }
        };
        let Some(Ok(message)) = message else { return };
        let Message::Text(line) = message else { continue };
        let Some((number, text)) = line.split_once(' ') else { continue };
        let Ok(number) = number.parse() else { continue };
        let stored = journal.lock().expect("nobody panics with it").store(&session, number, text);
        if stored.is_err() || socket.send(Message::text(format!("stored {number}"))).await.is_err() {
            return;
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (Some(port), Some(path)) = (std::env::args().nth(1), std::env::args().nth(2)) else {
        return Err("usage: acknowledged PORT FILE".into());
    };
    let (stop, stopping) = watch::channel(false);
    let shared: Shared = (Arc::new(Mutex::new(Journal::open(&path)?)), stopping);
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("{}", listener.local_addr()?.port());
    let mut term = signal(SignalKind::terminate())?;
    let teller = stop.clone();
    let ended = async move {
        term.recv().await;
        teller.send_replace(true);
    };
    let app = axum::Router::new().route("/", get(open)).with_state(shared);
    axum::serve(listener, app).with_graceful_shutdown(ended).await?;
    // Each client has a receiver until it has answered the Close frame.
    stop.closed().await;
    Ok(())
}
