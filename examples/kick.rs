//! Kicking a user by an HTTP request: one hook bans and ends sockets, another one refuses who is banned.
//!
//!     cargo run --example echo -- 9001 &
//!     cargo run --example kick -- -c examples/kick.yaml &
//!     cargo run --example ws -- 'ws://127.0.0.1:8080/?user=ada'                # in another terminal
//!     curl -X POST -H 'X-Password: xyzzy' 'http://127.0.0.1:8080/kick?user=ada'   # ends it: "1 socket"

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use longhaul::Gateway;
use longhaul::hook::{
    Answer, Direction, Hook, Item, KeyTag, Message, Next, NoSettings, Request, Result, Setup, SetupError, To, Upgrade,
};

/// Users that are not let in: shared by both hooks, and by those of every later configuration.
type Banned = Arc<Mutex<BTreeSet<String>>>;

/// Stands before the chat.
struct Door(Banned);

impl Hook for Door {
    type Settings = NoSettings;
    type Context = ();

    fn new(_: NoSettings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        Err(SetupError::new("it is made by `main`"))
    }

    async fn on_upgrade(&self, upgrade: &mut Upgrade<'_>, _: &mut ()) -> Result<Next> {
        let user = upgrade.request.query_value("user").unwrap_or_default();
        let is_banned = self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&user);
        Ok(if is_banned { Answer::new(403, "you were shown out").into() } else { Next::Continue })
    }
}

/// Answers every request of its route, which therefore has no upstream.
struct Kick(Banned, Settings);

#[derive(serde::Deserialize)]
struct Settings {
    password: String,
}

impl Hook for Kick {
    type Settings = Settings;
    type Context = ();

    fn new(_: Settings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        Err(SetupError::new("it is made by `main`"))
    }

    async fn on_request(&self, request: &mut Request<'_>, _: &mut ()) -> Result<Next> {
        if request.header("x-password") != Some(&self.1.password) {
            return Ok(Answer::new(401, "a password is needed").into());
        }
        let Some(user) = request.query_value("user").filter(|_| request.method() == "POST") else {
            return Ok(Answer::new(400, "POST /kick?user=NAME").into());
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(user.clone());
        // The configuration takes the affinity key from `?user=`, so that the key is the user's name.
        let sockets = To::Key(KeyTag::of(user.as_bytes()));
        let goodbye = Item::Message(Direction::ToClient, Message::text("goodbye"));
        request.injector().send(sockets.clone(), goodbye).await;
        let close = Item::Close { code: 4000, reason: "shown out".into() };
        let ended = request.injector().send(sockets, close).await;
        let told = format!("{ended} socket{}\n", if ended == 1 { "" } else { "s" });
        Ok(Answer::new(200, "").body("text/plain", told).into())
    }
}

fn main() -> ExitCode {
    let banned = Banned::default();
    let shared = Arc::clone(&banned);
    Gateway::builder()
        .hook_with::<Door>("door", move |_, _| Ok(Door(Arc::clone(&banned))))
        .hook_with::<Kick>("kick", move |settings, _| Ok(Kick(Arc::clone(&shared), settings)))
        .run()
}
