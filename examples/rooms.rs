//! Rooms: whoever enters `/rooms/NAME` lands on the one backend that has that room.
//!
//!     cargo run --example echo -- 9001 9002 9003 &
//!     cargo run --example rooms -- -c examples/rooms.yaml &
//!     cargo run --example ws -- ws://127.0.0.1:8080/rooms/tea      # twice, in two terminals: the same backend
//!     cargo run --example ws -- ws://127.0.0.1:8080/rooms/coffee   # may be another one
//!     curl -i http://127.0.0.1:8080/rooms/                         # 404
//!
//! The choice of the backend depends on the room's name and the list of backends alone: a second gateway, or this one
//! after a restart, sends the room to the same. `balance_factor` must stay off: it would send members elsewhere when a
//! backend is full.

use std::process::ExitCode;

use longhaul::Gateway;
use longhaul::hook::{Answer, Hook, Next, Request, Result, Setup, SetupError};
use serde::Deserialize;

struct Rooms {
    under: String,
}

#[derive(Deserialize)]
struct Settings {
    /// Prefix of the path, before the room's name.
    under: String,
}

impl Hook for Rooms {
    type Settings = Settings;
    type Context = ();

    fn new(Settings { under }: Settings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        match under.starts_with('/') && under.ends_with('/') {
            true => Ok(Self { under }),
            false => Err(SetupError::at("under", "begins and ends with `/`")),
        }
    }

    async fn on_request(&self, request: &mut Request<'_>, _: &mut ()) -> Result<Next> {
        let room = request.path().strip_prefix(&self.under).and_then(|rest| rest.split('/').next());
        let Some(room) = room.filter(|room| !room.is_empty()) else {
            return Ok(Answer::new(404, format!("the path of a room is {}NAME", self.under)).into());
        };
        // The application's own page and requests about the room go where its tunnels go.
        request.set_key(room.to_owned());
        Ok(Next::Continue)
    }
}

fn main() -> ExitCode {
    Gateway::builder().hook::<Rooms>("rooms").run()
}
