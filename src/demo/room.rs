//! Memory of a demo backend: its clients, their counters and the last chat lines.
//!
//! The memory ends with the backend, as in a real stateful service.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::serve::Changes;

/// Message from a client.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Said {
    /// Add one to the client's counter.
    Count,
    /// Send a line to everyone in the room.
    Chat {
        /// At most [`MAX_TEXT`] characters.
        text: String,
    },
}

/// Message to a client.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Told {
    /// First message: the backend that the client reached, and its memory of the client.
    Hello { backend: &'static str, client: String, count: u64, visits: u64, history: Vec<Line> },
    /// The client's counter has changed.
    Count { count: u64 },
    /// Someone in the room spoke.
    Chat(Line),
    /// A message of the client was refused.
    Refused { reason: &'static str },
}

/// One line of the chat. Both parts come from clients and must be escaped where they are shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Line {
    pub(super) from: String,
    pub(super) text: String,
}

/// Figures of a room for the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Figures {
    /// Open WebSockets.
    pub(super) open: usize,
    /// Clients whose counter is remembered.
    pub(super) remembered: usize,
    /// Messages taken from clients since the backend started.
    pub(super) messages: u64,
}

/// The memory of one backend, from its start to its stop.
#[derive(Debug)]
pub(super) struct Room {
    backend: &'static str,
    memory: Mutex<Memory>,
    news: broadcast::Sender<News>,
    changes: Changes,
}

impl Room {
    pub(super) fn new(backend: &'static str, changes: Changes) -> Arc<Self> {
        Arc::new(Self { backend, memory: Mutex::default(), news: broadcast::Sender::new(MAX_UNREAD), changes })
    }

    /// Admits a client and returns its seat and first message; `None` when [`MAX_OPEN`] are open. `count`: its counter
    /// at the backend before, where that was restarted.
    pub(super) fn join(self: &Arc<Self>, client: String, count: Option<u64>) -> Option<(Seat, Told)> {
        let mut memory = self.memory();
        if memory.open >= MAX_OPEN {
            return None;
        }
        memory.open += 1;
        let (count, visits) = memory.arrive(&client, count.unwrap_or_default());
        let history = memory.history.iter().cloned().collect();
        // Subscribed under the lock: a line is either in the history or in the news, never in both.
        let news = self.news.subscribe();
        drop(memory);
        self.changes.note();
        let hello = Told::Hello { backend: self.backend, client: client.clone(), count, visits, history };
        Some((Seat { room: Arc::clone(self), client, news }, hello))
    }

    pub(super) fn figures(&self) -> Figures {
        let memory = self.memory();
        Figures { open: memory.open, remembered: memory.clients.len(), messages: memory.messages }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // No code under this lock panics between two writes that belong together.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open WebSocket's place in a room; given back on drop.
#[derive(Debug)]
pub(super) struct Seat {
    room: Arc<Room>,
    client: String,
    news: broadcast::Receiver<News>,
}

impl Seat {
    /// Carries out a client's message; the results reach the seats concerned as news.
    ///
    /// # Errors
    /// The message is refused, for the reason returned, which this client alone is told.
    pub(super) fn say(&self, message: &str) -> Result<(), Told> {
        let refused = |reason| Err(Told::Refused { reason });
        match serde_json::from_str(message) {
            Ok(Said::Count) => self.count(),
            Ok(Said::Chat { text }) if text.trim().is_empty() => return refused("the text is empty"),
            Ok(Said::Chat { text }) if text.chars().count() > MAX_TEXT => return refused("the text is too long"),
            Ok(Said::Chat { text }) => self.chat(text),
            Err(_) => return refused(r#"expected {"type":"count"} or {"type":"chat","text":"..."}"#),
        }
        self.room.changes.note();
        Ok(())
    }

    /// Waits for the next news that concerns this seat; `None` when the room is gone.
    pub(super) async fn news(&mut self) -> Option<Told> {
        loop {
            match self.news.recv().await {
                Ok(News { client: Some(client), .. }) if client != self.client => {}
                Ok(News { told, .. }) => return Some(told),
                // A client too slow for the chat misses lines.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// The client's counter.
    pub(super) fn counted(&self) -> u64 {
        self.room.memory().clients.get(&self.client).map_or(0, |client| client.count)
    }

    fn count(&self) {
        let mut memory = self.room.memory();
        memory.messages += 1;
        if let Some(client) = memory.clients.get_mut(&self.client) {
            client.count += 1;
            let told = Told::Count { count: client.count };
            // An error says that nobody listens, and then nobody misses the line.
            let _ = self.room.news.send(News { client: Some(self.client.clone()), told });
        }
    }

    fn chat(&self, text: String) {
        let line = Line { from: self.client.clone(), text };
        let mut memory = self.room.memory();
        memory.messages += 1;
        if memory.history.len() == MAX_HISTORY {
            memory.history.pop_front();
        }
        memory.history.push_back(line.clone());
        let _ = self.room.news.send(News { client: None, told: Told::Chat(line) });
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut memory = self.room.memory();
        memory.open -= 1;
        memory.leave(&self.client);
        drop(memory);
        self.room.changes.note();
    }
}

#[derive(Clone, Debug)]
struct News {
    /// Client that the news concerns; everyone if `None`.
    client: Option<String>,
    told: Told,
}

#[derive(Debug, Default)]
struct Memory {
    clients: HashMap<String, Client>,
    history: VecDeque<Line>,
    open: usize,
    messages: u64,
    /// Number of arrivals, which orders the clients by their last one.
    arrivals: u64,
}

impl Memory {
    /// Records an arrival; returns the client's counter and its number of arrivals.
    fn arrive(&mut self, id: &str, count: u64) -> (u64, u64) {
        if !self.clients.contains_key(id) && self.clients.len() >= MAX_REMEMBERED {
            self.forget_one();
        }
        self.arrivals += 1;
        let client = self.clients.entry(id.to_owned()).or_default();
        client.open += 1;
        client.visits += 1;
        client.arrived = self.arrivals;
        client.count = client.count.max(count);
        (client.count, client.visits)
    }

    fn leave(&mut self, id: &str) {
        if let Some(client) = self.clients.get_mut(id) {
            client.open -= 1;
        }
    }

    /// Forgets the client that arrived longest ago and is gone. There is one, because fewer are open than remembered.
    fn forget_one(&mut self) {
        let gone = self.clients.iter().filter(|(_, client)| client.open == 0);
        if let Some(id) = gone.min_by_key(|(_, client)| client.arrived).map(|(id, _)| id.clone()) {
            self.clients.remove(&id);
        }
    }
}

#[derive(Debug, Default)]
struct Client {
    count: u64,
    /// Open WebSockets of this id; two tabs may share an id.
    open: u32,
    /// WebSockets that were ever opened here under this id.
    visits: u64,
    arrived: u64,
}

/// Most open WebSockets of one backend: more than the page opens, fewer than the sockets a process may have.
pub(super) const MAX_OPEN: usize = 500;

/// Most clients remembered by one backend. More than [`MAX_OPEN`], so that one of them is always gone.
pub(super) const MAX_REMEMBERED: usize = 1_000;

/// Most characters of one chat line.
pub(super) const MAX_TEXT: usize = 500;

/// Chat lines kept for later arrivals: a screen or two.
pub(super) const MAX_HISTORY: usize = 50;

/// News that a slow client may be behind before it misses some.
const MAX_UNREAD: usize = 64;
