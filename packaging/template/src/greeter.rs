//! A hook to begin with: asks who comes, tells the backend, greets the client, and watches what it says.

use longhaul::hook::{
    Answer, Direction, Hook, Message, Messages, Next, Result, Setup, SetupError, Tunnel, Upgrade, Verdict,
};

/// Settings of the hook, under `with:`. Unknown keys are refused, with their line.
#[derive(serde::Deserialize)]
pub struct Settings {
    greeting: String,
    #[serde(default)]
    forbidden: Vec<String>,
}

pub struct Greeter(Settings);

impl Hook for Greeter {
    type Settings = Settings;
    /// What is kept of each request, and of the tunnel that it becomes: the user's name.
    type Context = String;

    fn new(settings: Settings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        match settings.greeting.is_empty() {
            true => Err(SetupError::at("greeting", "it is empty")),
            false => Ok(Self(settings)),
        }
    }

    async fn on_upgrade(&self, upgrade: &mut Upgrade<'_>, user: &mut String) -> Result<Next> {
        let Some(name) = upgrade.request.query_value("user") else {
            return Ok(Answer::new(401, "who is it? ?user=NAME").into());
        };
        upgrade.request.set_header("x-user", &name)?;
        *user = name;
        Ok(Next::Continue)
    }

    async fn on_open(&self, tunnel: &Tunnel, user: &mut String) -> Result<()> {
        tunnel.send(Direction::ToClient, Message::text(format!("{}, {user}", self.0.greeting)));
        Ok(())
    }

    fn messages(&self) -> Messages {
        Messages::TO_BACKEND
    }

    fn on_message(&self, _: &Tunnel, _: Direction, message: &Message, _: &mut String) -> Result<Verdict> {
        let text = message.as_text().unwrap_or_default();
        match self.0.forbidden.iter().any(|word| text.contains(word)) {
            true => Ok(Verdict::reply_and_close(Message::text("not here"), 1008, "mind your language")),
            false => Ok(Verdict::Pass),
        }
    }

    /// The context in a process that takes over (`upgrade`); a tunnel whose context is not packed stays behind.
    fn pack(&self, user: &String) -> Option<Vec<u8>> {
        Some(user.clone().into_bytes())
    }

    fn unpack(&self, packed: &[u8]) -> Result<String> {
        Ok(String::from_utf8(packed.to_vec())?)
    }
}

#[cfg(test)]
mod tests {
    use longhaul::hook::testing::{Harness, TestRequest};

    use super::*;

    #[longhaul::tokio::test(crate = "longhaul::tokio")]
    async fn who_is_known_is_greeted_and_may_not_swear() {
        let harness = Harness::new::<Greeter>("{ greeting: welcome, forbidden: [bother] }").unwrap();
        assert_eq!(harness.upgrade(TestRequest::get("/")).await.answer().unwrap().status(), 401);

        let exchange = harness.upgrade(TestRequest::get("/?user=ada")).await;
        assert_eq!(exchange.header("x-user"), Some("ada"));
        let mut tunnel = exchange.open().await.unwrap();
        for (said, expected) in [
            ("hello", Verdict::Pass),
            ("oh bother", Verdict::reply_and_close(Message::text("not here"), 1008, "mind your language")),
        ] {
            assert_eq!(tunnel.message(Direction::ToBackend, Message::text(said)).await, Ok(expected), "{said}");
        }
    }

    #[test]
    fn an_empty_greeting_is_refused() {
        assert!(Harness::new::<Greeter>("{ greeting: '' }").is_err());
    }
}
