//! A hook that implements every phase, with nothing but the public interface of `longhaul`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use longhaul::hook::{
    Answer, Backend, Cidr, Closed, Direction, Entry, Error, Hook, Injector, Item, KeyTag, Message, Messages, Mode,
    Next, Period, Pick, Request, Response, Result, Setup, SetupError, Size, To, Tunnel, TunnelId, TunnelLimits,
    Upgrade, Verdict,
};
use longhaul::serde::Deserialize;
use longhaul::{Builder, Gateway};

/// Guards a lobby: admits visitors, seats them at a table, and filters their messages.
pub struct Lobby {
    settings: LobbySettings,
    /// Number of visitors, kept over reloads and handovers.
    visits: Arc<AtomicU64>,
    open: Mutex<Vec<TunnelId>>,
}

/// Settings of the hook, under `with:`.
#[derive(Clone, Debug, Deserialize)]
#[serde(crate = "longhaul::serde")]
pub struct LobbySettings {
    /// Names that are admitted.
    pub allow: Cidr,
    /// The longest visit.
    #[serde(default = "an_hour")]
    pub visit: Period,
    /// The longest message.
    pub message: Option<Size>,
    /// Treatment of messages from the backend.
    #[serde(default)]
    pub ads: Ads,
}

/// Treatment of advertisements.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(crate = "longhaul::serde", rename_all = "snake_case")]
pub enum Ads {
    /// Messages pass.
    #[default]
    Show,
    /// Messages are dropped.
    Hide,
}

/// State of one request or tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visit {
    /// The table's number.
    pub table: Option<u32>,
    /// Messages so far.
    pub said: u32,
    /// Set once a backend was refused for it.
    pub vetoed: bool,
}

fn an_hour() -> Period {
    Period(Duration::from_secs(3_600))
}

impl Hook for Lobby {
    type Settings = LobbySettings;
    type Context = Visit;

    fn new(settings: LobbySettings, setup: &Setup<'_, Self>) -> Result<Self, SetupError> {
        if settings.visit.0.is_zero() {
            return Err(SetupError::at("visit", format!("{} has no time for anybody", setup.name())));
        }
        let visits = setup.previous().map(|previous| Arc::clone(&previous.visits)).unwrap_or_default();
        Ok(Self { settings, visits, open: Mutex::default() })
    }

    fn start(self: &Arc<Self>, injector: &Injector) {
        injector.post(To::All, Item::Message(Direction::ToClient, Message::text("the house has new rules")));
    }

    fn messages(&self) -> Messages {
        Messages { to_backend: Mode::Sync, to_client: Mode::Async }
    }

    async fn on_request(&self, request: &mut Request<'_>, visit: &mut Visit) -> Result<Next> {
        if !self.settings.allow.0.contains(&request.client()) {
            return Ok(Answer::new(403, "members only").header("x-house", "lobby").into());
        }
        visit.table = request.query_value("table").map(|table| table.parse()).transpose()?;
        match visit.table {
            Some(table) => request.set_key(table.to_be_bytes()),
            None => request.set_upstream("bar"),
        }
        let (path, method) = (request.path().to_owned(), request.method().clone());
        request.set_header("x-asked", format!("{method} {path}"))?;
        request.set_target("/lobby")?;
        Ok(Next::Continue)
    }

    async fn on_upgrade(&self, upgrade: &mut Upgrade<'_>, visit: &mut Visit) -> Result<Next> {
        if visit.table.is_none() {
            return Ok(Answer::redirect("/choose-a-table").into());
        }
        let TunnelLimits { max_age, max_message, .. } = &mut upgrade.limits;
        *max_age = Some(self.settings.visit.0);
        *max_message = self.settings.message.map(|size| size.0);
        Ok(Next::Continue)
    }

    async fn on_pick(&self, backend: &Backend<'_>, visit: &mut Visit) -> Result<Pick> {
        let first = backend.tries == 0 && backend.address.port() == 9001;
        visit.vetoed |= first;
        Ok(if first { Pick::Veto } else { Pick::Accept })
    }

    async fn on_response(&self, response: &mut Response<'_>, _: &mut Visit) -> Result<()> {
        if response.status() == 204 {
            return Err(Error::new("the kitchen is closed"));
        }
        response.remove_header("server");
        response.set_header("x-house", "lobby")
    }

    async fn on_open(&self, tunnel: &Tunnel, _: &mut Visit) -> Result<()> {
        self.visits.fetch_add(1, Ordering::Relaxed);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(tunnel.id);
        tunnel.send(Direction::ToClient, Message::text("welcome"));
        Ok(())
    }

    fn on_message(&self, _: &Tunnel, _: Direction, message: &Message, visit: &mut Visit) -> Result<Verdict> {
        visit.said += 1;
        Ok(match message.as_text() {
            None => Verdict::close(1003, "no binaries"),
            Some("psst") => Verdict::Drop,
            Some("time?") => Verdict::Reply(Message::text("late")),
            Some(text) if text.chars().any(char::is_uppercase) => Verdict::Replace(Message::text(text.to_lowercase())),
            Some(_) => Verdict::Pass,
        })
    }

    async fn on_message_async(&self, _: &Tunnel, _: Direction, message: &Message, _: &mut Visit) -> Result<Verdict> {
        longhaul::tokio::task::yield_now().await;
        Ok(match (self.settings.ads, message.as_text()) {
            (Ads::Hide, Some(text)) if text.starts_with("ad:") => Verdict::Drop,
            _ => Verdict::Pass,
        })
    }

    async fn on_close(&self, tunnel: &Tunnel, closed: &Closed, _: &mut Visit) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|id| *id != tunnel.id);
        if closed.code == 1000
            && let Some(key) = tunnel.key
        {
            let bye = Item::Message(Direction::ToClient, Message::text("somebody left"));
            tunnel.injector.send(To::Key(key), bye).await;
        }
    }

    fn on_log(&self, entry: &mut Entry<'_>, visit: &mut Visit) {
        entry.add("said", visit.said.to_string());
    }

    fn pack(&self, visit: &Visit) -> Option<Vec<u8>> {
        visit.table.map(|table| [table.to_be_bytes(), visit.said.to_be_bytes()].concat())
    }

    fn unpack(&self, packed: &[u8]) -> Result<Visit> {
        let (table, said) = packed.split_at_checked(4).ok_or_else(|| Error::new("a visit has eight bytes"))?;
        let (table, said) = (u32::from_be_bytes(table.try_into()?), u32::from_be_bytes(said.try_into()?));
        Ok(Visit { table: Some(table), said, vetoed: false })
    }

    fn save(&self) -> Option<Vec<u8>> {
        Some(self.visits.load(Ordering::Relaxed).to_be_bytes().into())
    }

    fn restore(&self, saved: &[u8]) -> Result<()> {
        self.visits.fetch_add(u64::from_be_bytes(saved.try_into()?), Ordering::Relaxed);
        Ok(())
    }
}

impl Lobby {
    /// Number of visitors, in this process and in its predecessors.
    pub fn visits(&self) -> u64 {
        self.visits.load(Ordering::Relaxed)
    }
}

/// Key by which a table's tunnels are found.
pub fn table(number: u32) -> To {
    To::Key(KeyTag::of(&number.to_be_bytes()))
}

/// The gateway with this hook under two names, and a task beside it.
pub fn gateway() -> Builder {
    let visits = Arc::<AtomicU64>::default();
    let shared = Arc::clone(&visits);
    Gateway::builder()
        .hook::<Lobby>("lobby")
        .hook_with::<Lobby>("counted_lobby", move |settings, _| {
            Ok(Lobby { settings, visits: Arc::clone(&shared), open: Mutex::default() })
        })
        .on_start(move |injector| {
            longhaul::tokio::spawn(async move {
                loop {
                    longhaul::tokio::time::sleep(Duration::from_secs(3_600)).await;
                    let hourly = Message::text(format!("{} visits", visits.load(Ordering::Relaxed)));
                    injector.send(To::All, Item::Message(Direction::ToClient, hourly)).await;
                }
            });
        })
}
