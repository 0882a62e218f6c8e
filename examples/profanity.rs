//! A filter of text messages: certain words become asterisks, and who will not stop is shown out.
//!
//!     cargo run --example echo -- 9001 &
//!     cargo run --example profanity -- -c examples/profanity.yaml &
//!     cargo run --example ws -- ws://127.0.0.1:8080/       # "oh, Bother" comes back as "oh, ******"
//!
//! The hook sees whole messages, fragmented or compressed ones too. The stock hook `message_filter` has patterns, and
//! rules on size and shape.

use std::process::ExitCode;

use longhaul::Gateway;
use longhaul::hook::{Direction, Hook, Message, Messages, Result, Setup, SetupError, Tunnel, Verdict};
use serde::Deserialize;

struct Profanity {
    words: Vec<String>,
    strikes: u8,
}

#[derive(Deserialize)]
struct Settings {
    words: Vec<String>,
    /// After so many messages with such words the tunnel is closed with code 1008.
    strikes: u8,
}

impl Hook for Profanity {
    type Settings = Settings;
    /// Messages with such words so far.
    type Context = u8;

    fn new(settings: Settings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        if let Some(place) = settings.words.iter().position(|word| !word.chars().all(char::is_alphanumeric)) {
            return Err(SetupError::at(format!("words[{place}]"), "is not one word"));
        }
        let words = settings.words.iter().map(|word| word.to_lowercase()).collect();
        Ok(Self { words, strikes: settings.strikes })
    }

    fn messages(&self) -> Messages {
        Messages::TO_BACKEND
    }

    /// Called on a thread that carries many tunnels: looking through a message is fine here, waiting for anything is
    /// not (`Messages::TO_BACKEND.awaited()` and `on_message_async` are for that).
    fn on_message(&self, _: &Tunnel, _: Direction, message: &Message, strikes: &mut u8) -> Result<Verdict> {
        let Some(text) = message.as_text() else { return Ok(Verdict::Pass) };
        let Some(clean) = self.cleaned(text) else { return Ok(Verdict::Pass) };
        *strikes = strikes.saturating_add(1);
        Ok(match *strikes >= self.strikes {
            true => Verdict::close(1008, "mind your language"),
            false => Verdict::Replace(Message::text(clean)),
        })
    }

    fn pack(&self, strikes: &u8) -> Option<Vec<u8>> {
        Some(vec![*strikes])
    }

    fn unpack(&self, packed: &[u8]) -> Result<u8> {
        Ok(packed.first().copied().unwrap_or_default())
    }
}

impl Profanity {
    /// The text without the words, if any is in it.
    fn cleaned(&self, text: &str) -> Option<String> {
        let mut clean = String::with_capacity(text.len());
        let mut found = false;
        for part in text.split_inclusive(|c: char| !c.is_alphanumeric()) {
            let word = part.trim_end_matches(|c: char| !c.is_alphanumeric());
            if self.words.contains(&word.to_lowercase()) {
                found = true;
                clean.extend(word.chars().map(|_| '*'));
                clean.push_str(&part[word.len()..]);
            } else {
                clean.push_str(part);
            }
        }
        found.then_some(clean)
    }
}

fn main() -> ExitCode {
    Gateway::builder().hook::<Profanity>("profanity").run()
}
