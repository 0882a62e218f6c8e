//! A hook that sees every message of a tunnel and lets it pass.

use longhaul::hook::{Hook, Messages, NoSettings, Setup, SetupError};

pub(crate) struct Seeing;

impl Hook for Seeing {
    type Settings = NoSettings;
    type Context = ();

    fn new(_: NoSettings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        Ok(Self)
    }

    fn messages(&self) -> Messages {
        Messages::BOTH
    }
}
