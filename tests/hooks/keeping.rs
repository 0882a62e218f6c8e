//! A hook that keeps count: of a tunnel's messages, in its context, and of all messages, in a state of its own.

use std::sync::atomic::{AtomicU64, Ordering};

use longhaul::hook::{Closed, Direction, Entry, Hook, Message, Messages, Result, Setup, SetupError, Tunnel, Verdict};
use longhaul::serde::Deserialize;

pub(crate) struct Keeping {
    settings: Settings,
    all: AtomicU64,
}

#[derive(Deserialize)]
#[serde(crate = "longhaul::serde", deny_unknown_fields)]
pub(crate) struct Settings {
    /// Allows tunnels to go on in another process.
    #[serde(default = "yes")]
    packs: bool,
}

fn yes() -> bool {
    true
}

impl Hook for Keeping {
    type Settings = Settings;
    type Context = u64;

    fn new(settings: Settings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        Ok(Self { settings, all: AtomicU64::new(0) })
    }

    fn messages(&self) -> Messages {
        Messages::TO_BACKEND
    }

    async fn on_open(&self, tunnel: &Tunnel, _: &mut u64) -> Result<()> {
        crate::say(format!("kept: {} opened", tunnel.request_id));
        Ok(())
    }

    /// Answers `count` with both counts.
    fn on_message(&self, _: &Tunnel, _: Direction, message: &Message, count: &mut u64) -> Result<Verdict> {
        *count += 1;
        let all = self.all.fetch_add(1, Ordering::Relaxed) + 1;
        let asked = message.as_text() == Some("count");
        Ok(if asked { Verdict::Reply(Message::text(format!("{count} of {all}"))) } else { Verdict::Pass })
    }

    async fn on_close(&self, tunnel: &Tunnel, closed: &Closed, count: &mut u64) {
        crate::say(format!("kept: {} closed, {} after {count}", tunnel.request_id, closed.reason));
    }

    fn on_log(&self, entry: &mut Entry<'_>, count: &mut u64) {
        entry.add("kept", count.to_string());
    }

    fn pack(&self, count: &u64) -> Option<Vec<u8>> {
        self.settings.packs.then(|| count.to_be_bytes().to_vec())
    }

    fn unpack(&self, packed: &[u8]) -> Result<u64> {
        Ok(u64::from_be_bytes(packed.try_into()?))
    }

    fn save(&self) -> Option<Vec<u8>> {
        Some(self.all.load(Ordering::Relaxed).to_be_bytes().to_vec())
    }

    fn restore(&self, saved: &[u8]) -> Result<()> {
        self.all.fetch_add(u64::from_be_bytes(saved.try_into()?), Ordering::Relaxed);
        Ok(())
    }
}
