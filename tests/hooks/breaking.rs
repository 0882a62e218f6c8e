//! A hook that breaks where its author does not expect it: in destructors, under a lock, by limits out of bounds.
//!
//! `X-Break` of a request has a verb for its context; a message may be a verb, too.

use std::sync::Mutex;
use std::time::Duration;

use longhaul::hook::{Direction, Hook, Message, Messages, Next, Request, Result, Setup, SetupError, Tunnel};
use longhaul::hook::{Upgrade, Verdict};
use longhaul::serde::Deserialize;

/// See the module.
pub(crate) struct Breaking {
    settings: Settings,
    /// Set where the hook is made to look at its settings only.
    checking: bool,
}

#[derive(Deserialize)]
#[serde(crate = "longhaul::serde", deny_unknown_fields)]
pub(crate) struct Settings {
    /// Asks for `on_message_async`.
    #[serde(default)]
    awaited: bool,
    /// Makes the hook itself panic when it is dropped.
    #[serde(default)]
    last_words: bool,
}

/// The verb that a request came with, which decides how its context is dropped.
#[derive(Default)]
pub(crate) struct Fragile {
    verb: String,
    lock: Mutex<u64>,
}

impl Drop for Fragile {
    fn drop(&mut self) {
        // As a context that gives something back would do; after a panic under the lock, it panics in its turn.
        if self.verb == "poison" {
            *self.lock.lock().unwrap() += 1;
        }
        assert!(self.verb != "drop", "the context was told to panic in its destructor");
    }
}

/// A value that panics when it is dropped, as the local variable of a call that is given up.
struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        panic!("the guard was told to panic in its destructor");
    }
}

impl Hook for Breaking {
    type Settings = Settings;
    type Context = Fragile;

    fn new(settings: Settings, setup: &Setup<'_, Self>) -> Result<Self, SetupError> {
        Ok(Self { settings, checking: setup.checking() })
    }

    fn messages(&self) -> Messages {
        if self.settings.awaited { Messages::TO_BACKEND.awaited() } else { Messages::TO_BACKEND }
    }

    async fn on_request(&self, request: &mut Request<'_>, context: &mut Fragile) -> Result<Next> {
        context.verb = request.header("x-break").unwrap_or_default().to_owned();
        Ok(Next::Continue)
    }

    async fn on_upgrade(&self, upgrade: &mut Upgrade<'_>, context: &mut Fragile) -> Result<Next> {
        let forever = Some(Duration::MAX);
        let limits = &mut upgrade.limits;
        match context.verb.as_str() {
            "max_age" => limits.max_age = forever,
            "idle" => limits.idle = forever,
            "ping" => limits.ping = forever,
            "tcp_user_timeout" => limits.tcp_user_timeout = forever,
            "zero" => {
                limits.max_age = Some(Duration::ZERO);
                limits.idle = Some(Duration::ZERO);
                limits.ping = Some(Duration::ZERO);
                limits.tcp_user_timeout = Some(Duration::ZERO);
            }
            "max_message" => limits.max_message = Some(u64::MAX),
            _ => {}
        }
        Ok(Next::Continue)
    }

    fn on_message(&self, tunnel: &Tunnel, _: Direction, message: &Message, context: &mut Fragile) -> Result<Verdict> {
        match message.as_text() {
            Some("poison") => {
                let _held = context.lock.lock().unwrap();
                panic!("as told, under the lock");
            }
            Some("order") => {
                tunnel.send(Direction::ToClient, Message::text("first"));
                Ok(Verdict::Reply(Message::text("second")))
            }
            Some("order and close") => {
                tunnel.send(Direction::ToClient, Message::text("first"));
                Ok(Verdict::close(4000, "second"))
            }
            _ => Ok(Verdict::Pass),
        }
    }

    async fn on_message_async(
        &self,
        tunnel: &Tunnel,
        direction: Direction,
        message: &Message,
        context: &mut Fragile,
    ) -> Result<Verdict> {
        if message.as_text() == Some("guard") {
            let _guard = Guard;
            std::future::pending::<()>().await;
        }
        self.on_message(tunnel, direction, message, context)
    }

    fn pack(&self, context: &Fragile) -> Option<Vec<u8>> {
        Some(context.verb.clone().into_bytes())
    }

    /// The other process's context is a sound one.
    fn unpack(&self, _: &[u8]) -> Result<Fragile> {
        Ok(Fragile::default())
    }
}

impl Drop for Breaking {
    fn drop(&mut self) {
        assert!(!self.settings.last_words || self.checking, "the hook was told to panic in its destructor");
    }
}
