//! Presence: who is connected, told by an HTTP endpoint beside the gateway.
//!
//!     cargo run --example echo -- 9001 &
//!     cargo run --example presence -- -c examples/presence.yaml &
//!     cargo run --example ws -- 'ws://127.0.0.1:8080/?user=ada'      # and others, in other terminals
//!     curl http://127.0.0.1:8081/                                    # {"ada":1}

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use longhaul::Gateway;
use longhaul::hook::{Answer, Hook, Next, NoSettings, Result, Setup, SetupError, Upgrade};
use tokio::net::TcpListener;

/// Sockets by user: shared by the endpoint, the hooks of every configuration, and what they keep of each socket.
#[derive(Clone, Default)]
struct Users(Arc<Mutex<BTreeMap<String, usize>>>);

/// A user's socket, counted for as long as this is there.
struct Present {
    user: String,
    users: Users,
}

impl Users {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, user: &str) -> Present {
        *self.lock().entry(user.to_owned()).or_default() += 1;
        Present { user: user.to_owned(), users: self.clone() }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut users = self.users.lock();
        users.entry(self.user.clone()).and_modify(|sockets| *sockets -= 1);
        users.retain(|_, sockets| *sockets > 0);
    }
}

struct Presence(Users);

impl Hook for Presence {
    type Settings = NoSettings;
    /// Dropped with its request or tunnel, whatever ended it, and when the tunnel goes on in another process.
    type Context = Option<Present>;

    fn new(_: NoSettings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        Ok(Self(Users::default()))
    }

    async fn on_upgrade(&self, upgrade: &mut Upgrade<'_>, present: &mut Option<Present>) -> Result<Next> {
        let Some(user) = upgrade.request.query_value("user") else {
            return Ok(Answer::new(400, "say who you are: ?user=NAME").into());
        };
        *present = Some(self.0.enter(&user));
        Ok(Next::Continue)
    }

    /// `longhaul upgrade` moves open tunnels to another process, which counts them in turn.
    fn pack(&self, present: &Option<Present>) -> Option<Vec<u8>> {
        present.as_ref().map(|present| present.user.clone().into_bytes())
    }

    fn unpack(&self, user: &[u8]) -> Result<Option<Present>> {
        Ok(Some(self.0.enter(std::str::from_utf8(user)?)))
    }
}

async fn tell(users: Users) -> std::io::Result<()> {
    let address = std::env::var("API").unwrap_or_else(|_| "127.0.0.1:8081".into());
    let listener = loop {
        match TcpListener::bind(&address).await {
            Ok(listener) => break listener,
            // After `longhaul upgrade`, until the old process has ended.
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    };
    eprintln!("presence on http://{}", listener.local_addr()?);
    let all = move || async move { serde_json::json!(*users.lock()).to_string() };
    axum::serve(listener, Router::new().route("/", get(all))).await
}

fn main() -> ExitCode {
    let counted = Users::default();
    let told = counted.clone();
    Gateway::builder()
        .hook_with::<Presence>("presence", move |_, _| Ok(Presence(counted.clone())))
        .on_start(|_| drop(tokio::spawn(tell(told))))
        .run()
}
