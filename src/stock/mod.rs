//! The hooks that ship with Longhaul: each an answer to a common need, usable from the configuration alone.

pub mod jwt;
mod outgoing;
pub mod webhook;

use crate::hook::Registry;

/// The hooks that the stock binary knows.
pub fn registry() -> Registry {
    let mut registry = Registry::empty();
    registry.add::<jwt::Jwt>("jwt");
    registry.add::<webhook::Webhook>("webhook");
    registry
}
