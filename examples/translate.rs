//! Translation: what a client says is sent to an HTTP service, and its answer to the backend.
//!
//!     cargo run --example echo -- 9001 &
//!     cargo run --example translate -- -c examples/translate.yaml &
//!     cargo run --example ws -- ws://127.0.0.1:8080/            # needs a service that takes text by POST on 9503
//!
//! While a call waits for the service, its tunnel alone waits: the client is read no further.

use std::process::ExitCode;

use longhaul::hook::{Direction, Hook, Message, Messages, Result, Setup, SetupError, Tunnel, Verdict};

#[derive(serde::Deserialize)]
struct Settings {
    service: String,
}

struct Translate(Settings, reqwest::Client);

impl Hook for Translate {
    type Settings = Settings;
    type Context = ();

    fn new(settings: Settings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        let client = reqwest::Client::builder().no_proxy().build();
        Ok(Self(settings, client.map_err(|error| SetupError::new(error.to_string()))?))
    }

    /// `awaited()`: by `on_message_async`, which may wait, in place of `on_message`.
    fn messages(&self) -> Messages {
        Messages::TO_BACKEND.awaited()
    }

    async fn on_message_async(&self, _: &Tunnel, _: Direction, message: &Message, _: &mut ()) -> Result<Verdict> {
        let Some(text) = message.as_text() else { return Ok(Verdict::Pass) };
        let answer = self.1.post(&self.0.service).body(text.to_owned()).send().await?;
        match answer.status().is_success() {
            true => Ok(Verdict::Replace(Message::text(answer.text().await?))),
            false => Ok(Verdict::Reply(Message::text(format!("not translated: {}", answer.status())))),
        }
    }
}

fn main() -> ExitCode {
    longhaul::Gateway::builder().hook::<Translate>("translate").run()
}
