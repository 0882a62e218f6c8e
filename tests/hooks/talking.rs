//! A hook that does what messages tell it to, and at a tunnel's opening and end what the request told it to.
//!
//! A message reads `VERB ARGUMENTS`; one whose first word is no verb passes. `X-Open` and `X-Close` have a verb each.

use std::io::Write;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use longhaul::hook::{
    Closed, Direction, Entry, Error, Hook, Item, KeyTag, Message, Messages, Next, Request, Result, Setup, SetupError,
    To, Tunnel, Verdict,
};
use longhaul::serde::Deserialize;
use longhaul::tokio::sync::Semaphore;

/// See the module.
pub(crate) struct Talking {
    settings: Settings,
    /// Permits for waiting calls, one each. A hook shares them with its predecessors over reloads.
    gate: Arc<Semaphore>,
    /// Messages seen by this hook and by its predecessors over reloads.
    seen: Arc<AtomicU64>,
    quiet: bool,
}

#[derive(Deserialize)]
#[serde(crate = "longhaul::serde", deny_unknown_fields)]
pub(crate) struct Settings {
    /// Text that the hook signs messages with and logs when it is dropped.
    #[serde(default)]
    label: String,
    /// Asks for calls of `on_message_async`.
    #[serde(default)]
    awaited: bool,
    /// Directions that the hook sees: `both`, `to_backend`, `to_client` or `none`.
    #[serde(default = "both")]
    sees: String,
}

fn both() -> String {
    "both".to_owned()
}

/// The verbs of the request, and the number of messages seen.
#[derive(Default)]
pub(crate) struct Told {
    open: String,
    close: String,
    messages: u64,
}

impl Talking {
    fn say(&self, what: &str, tunnel: &Tunnel) {
        // One write, so that no other line comes in between.
        let line = format!("{} {what} {}\n", self.settings.label, tunnel.request_id);
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }

    /// Waits as the verb says, in a call that may.
    async fn wait(&self, verb: &str, tunnel: &Tunnel) {
        match verb {
            "wait" => {
                self.say("waits", tunnel);
                self.gate.acquire().await.unwrap().forget();
            }
            "hang" => std::future::pending().await,
            _ => {}
        }
    }

    /// Sends an item to the tunnels that `whom` and `which` name, and returns their number.
    async fn push(tunnel: &Tunnel, whom: &str, which: &str, what: &str) -> Result<usize> {
        let to = match whom {
            "id" => To::Tunnel(which.parse()?),
            "key" => To::Key(KeyTag::of(which.as_bytes())),
            "route" => To::Route(format!("* {which}").into()),
            "all" => To::All,
            _ => return Err(Error::new("nobody is called that")),
        };
        let item = match what.split_once(' ') {
            Some(("kick", code)) => Item::Close { code: u16::from_str(code)?, reason: "kicked".to_owned() },
            Some(("up", text)) => Item::Message(Direction::ToBackend, Message::text(text)),
            _ => Item::Message(Direction::ToClient, Message::text(what)),
        };
        Ok(tunnel.injector.send(to, item).await)
    }

    fn judge(&self, tunnel: &Tunnel, message: &Message) -> Result<Verdict> {
        let Ok(words) = str::from_utf8(message.as_bytes()) else { return Ok(Verdict::Pass) };
        let (verb, rest) = words.split_once(' ').unwrap_or((words, ""));
        let same = |text: String| if message.is_text() { Message::text(text) } else { Message::binary(text) };
        Ok(match verb {
            "replace" => Verdict::Replace(same(rest.to_owned())),
            "other" if message.is_text() => Verdict::Replace(Message::binary(rest.as_bytes().to_vec())),
            "other" => Verdict::Replace(Message::text(rest)),
            "sign" => Verdict::Replace(same(format!("{words} {}", self.settings.label))),
            "drop" => Verdict::Drop,
            "reply" => Verdict::Reply(same(rest.to_owned())),
            "who" => Verdict::Reply(Message::text(self.settings.label.clone())),
            "id" => Verdict::Reply(Message::text(tunnel.id.to_string())),
            "close" => {
                let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
                Verdict::close(code.parse()?, reason)
            }
            "end" => {
                tunnel.close(4002, "by the tunnel");
                Verdict::Drop
            }
            "farewell" => {
                let (code, text) = rest.split_once(' ').unwrap_or((rest, ""));
                Verdict::reply_and_close(Message::text(text), code.parse()?, "farewell")
            }
            // Sends a word both ways, and goes on with the rest.
            "tell" => {
                let (told, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                tunnel.send(Direction::ToClient, Message::text(told));
                tunnel.send(Direction::ToBackend, Message::text(told));
                return self.judge(tunnel, &Message::text(rest));
            }
            "release" => {
                self.gate.add_permits(1);
                Verdict::Drop
            }
            "error" => return Err(Error::new("as told")),
            "panic" => panic!("as told"),
            _ => Verdict::Pass,
        })
    }
}

impl Hook for Talking {
    type Settings = Settings;
    type Context = Told;

    fn new(settings: Settings, setup: &Setup<'_, Self>) -> Result<Self, SetupError> {
        let gate = setup.previous().map_or_else(|| Arc::new(Semaphore::new(0)), |before| Arc::clone(&before.gate));
        let seen = setup.previous().map(|before| Arc::clone(&before.seen)).unwrap_or_default();
        Ok(Self { settings, gate, seen, quiet: setup.checking() })
    }

    fn messages(&self) -> Messages {
        let messages = match self.settings.sees.as_str() {
            "both" => Messages::BOTH,
            "to_backend" => Messages::TO_BACKEND,
            "to_client" => Messages::TO_CLIENT,
            _ => Messages::NONE,
        };
        if self.settings.awaited { messages.awaited() } else { messages }
    }

    async fn on_request(&self, request: &mut Request<'_>, told: &mut Told) -> Result<Next> {
        told.open = request.header("x-open").unwrap_or_default().to_owned();
        told.close = request.header("x-close").unwrap_or_default().to_owned();
        Ok(Next::Continue)
    }

    async fn on_open(&self, tunnel: &Tunnel, told: &mut Told) -> Result<()> {
        self.say("opens", tunnel);
        let (verb, rest) = told.open.split_once(' ').unwrap_or((&told.open, ""));
        self.wait(verb, tunnel).await;
        match verb {
            "welcome" | "wait" => {
                tunnel.send(Direction::ToClient, Message::text(rest));
                tunnel.send(Direction::ToBackend, Message::text(rest));
            }
            "close" => tunnel.close(4003, rest),
            "error" => return Err(Error::new("as told")),
            "panic" => panic!("as told"),
            _ => {}
        }
        Ok(())
    }

    fn on_message(&self, tunnel: &Tunnel, _: Direction, message: &Message, told: &mut Told) -> Result<Verdict> {
        told.messages += 1;
        self.seen.fetch_add(1, Ordering::Relaxed);
        self.judge(tunnel, message)
    }

    async fn on_message_async(
        &self,
        tunnel: &Tunnel,
        direction: Direction,
        message: &Message,
        told: &mut Told,
    ) -> Result<Verdict> {
        if let Ok(text) = str::from_utf8(message.as_bytes()) {
            if text == "hint" {
                tunnel.send(Direction::ToClient, Message::text("a hint"));
                self.wait("wait", tunnel).await;
                tunnel.send(Direction::ToClient, Message::text("another"));
                return Ok(Verdict::Reply(Message::text("done")));
            }
            self.wait(text.split(' ').next().unwrap_or_default(), tunnel).await;
            if let Some((whom, rest)) = text.strip_prefix("push ").and_then(|rest| rest.split_once(' ')) {
                let (which, what) = rest.split_once(' ').unwrap_or((rest, ""));
                let count = Self::push(tunnel, whom, which, what).await?;
                return Ok(Verdict::Reply(Message::text(format!("pushed to {count}"))));
            }
        }
        self.on_message(tunnel, direction, message, told)
    }

    async fn on_close(&self, tunnel: &Tunnel, closed: &Closed, told: &mut Told) {
        let Closed { reason, code, messages: [up, down], .. } = closed;
        self.say(&format!("was closed: {reason} {code}, {up} up, {down} down, seen {}, of", told.messages), tunnel);
        self.wait(&told.close, tunnel).await;
        assert!(told.close != "panic", "as told");
    }

    fn on_log(&self, entry: &mut Entry<'_>, told: &mut Told) {
        entry.add("seen", told.messages.to_string());
        assert!(told.close != "panic_log", "as told");
    }
}

impl Drop for Talking {
    fn drop(&mut self) {
        if !self.quiet {
            let seen = self.seen.load(Ordering::Relaxed);
            crate::say(format!("the hook labelled {:?} is gone, {seen} seen", self.settings.label));
        }
    }
}
