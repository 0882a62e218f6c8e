//! A hook that tells the next backend of a tunnel where the one before stopped.

use longhaul::hook::{
    Direction, Hook, Message, Messages, NoSettings, Reattach, Result, Setup, SetupError, Tunnel, Verdict,
};
use longhaul::tokio;

pub(crate) struct Bookmarking;

impl Hook for Bookmarking {
    type Settings = NoSettings;
    type Context = u64;

    fn new(_: NoSettings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        Ok(Self)
    }

    fn messages(&self) -> Messages {
        Messages::TO_BACKEND
    }

    fn on_message(&self, _: &Tunnel, _: Direction, _: &Message, seen: &mut u64) -> Result<Verdict> {
        *seen += 1;
        Ok(Verdict::Pass)
    }

    /// Names the messages that backends have had; waits the second time, refuses the third, and fails the fourth.
    async fn on_reattach(&self, _: &Tunnel, reattach: &mut Reattach, seen: &mut u64) -> Result<()> {
        match reattach.times() {
            2 => tokio::task::yield_now().await,
            3 if *seen > 9 => return reattach.set_header("upgrade", "h2c"),
            3 => {
                reattach.refuse("twice is enough");
                return Ok(());
            }
            _ => {}
        }
        let word = format!("{} of {seen}, {}", *seen - reattach.held(), reattach.loss().as_str());
        reattach.set_header("x-bookmark", &word)?;
        reattach.set_header("User-Agent", "bookmark")?;
        reattach.send(Direction::ToClient, Message::text("one moment"))?;
        reattach.send(Direction::ToBackend, Message::text(word))
    }
}
