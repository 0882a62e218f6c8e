//! A hook whose values panic when they are dropped, as requests, messages and settings say.

use std::fmt;
use std::panic::panic_any;
use std::time::Duration;

use longhaul::hook::{
    Direction, Error, Hook, Message, Messages, Next, NoSettings, Request, Result, Setup, SetupError, Tunnel, Upgrade,
    Verdict,
};
use longhaul::serde::Deserialize;

/// Panics when it is dropped, where it is armed.
#[derive(Default)]
struct Bomb {
    armed: bool,
}

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.armed, "as told");
    }
}

/// An error that panics when it is asked for its text.
#[derive(Debug)]
struct Speechless;

impl fmt::Display for Speechless {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("as told")
    }
}

impl std::error::Error for Speechless {}

/// See the module.
pub(crate) struct Falling {
    /// Dropped with the hook.
    _bomb: Bomb,
}

#[derive(Deserialize)]
#[serde(crate = "longhaul::serde", deny_unknown_fields)]
pub(crate) struct Settings {
    /// The hook itself panics when it is dropped: `running` or `checking` says which one.
    #[serde(default)]
    falls: String,
}

/// Two values, one of which may panic when it is dropped.
#[derive(Default)]
pub(crate) struct Kept {
    bomb: Bomb,
}

impl Hook for Falling {
    type Settings = Settings;
    type Context = Kept;

    fn new(settings: Settings, setup: &Setup<'_, Self>) -> Result<Self, SetupError> {
        let which = if setup.checking() { "checking" } else { "running" };
        Ok(Self { _bomb: Bomb { armed: settings.falls == which } })
    }

    fn messages(&self) -> Messages {
        Messages::TO_BACKEND.awaited()
    }

    async fn on_request(&self, request: &mut Request<'_>, kept: &mut Kept) -> Result<Next> {
        match request.header("x-fall") {
            Some("context") => kept.bomb.armed = true,
            Some("payload") => panic_any(Bomb { armed: true }),
            Some("error") => return Err(Error::from(Speechless)),
            _ => {}
        }
        Ok(Next::Continue)
    }

    async fn on_upgrade(&self, upgrade: &mut Upgrade<'_>, _: &mut Kept) -> Result<Next> {
        let request = &upgrade.request;
        let limit = request.header("x-max-age").map(str::parse).transpose()?;
        if let Some(seconds) = limit {
            upgrade.limits.max_age = Some(Duration::from_secs(seconds));
        }
        Ok(Next::Continue)
    }

    async fn on_message_async(&self, _: &Tunnel, _: Direction, message: &Message, _: &mut Kept) -> Result<Verdict> {
        if message.as_text() == Some("hold") {
            let _held = Bomb { armed: true };
            std::future::pending::<()>().await;
        }
        Ok(Verdict::Pass)
    }
}

/// A hook whose context cannot be made.
pub(crate) struct Unmakeable;

/// Panics when it is made.
pub(crate) struct Never;

impl Default for Never {
    fn default() -> Self {
        panic!("as told")
    }
}

impl Hook for Unmakeable {
    type Settings = NoSettings;
    type Context = Never;

    fn new(_: NoSettings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        Ok(Self)
    }
}
