//! The hooks that ship with Longhaul: each an answer to a common need, usable from the configuration alone.

pub mod headers;
pub mod ip_filter;
pub mod jwt;
pub mod message_filter;
pub mod origin;
mod outgoing;
pub mod rate_limit;
pub mod replay;
pub mod webhook;

use crate::hook::HookRegistry;

pub use headers::Headers;
pub use ip_filter::IpFilter;
pub use jwt::Jwt;
pub use message_filter::MessageFilter;
pub use origin::Origin;
pub use rate_limit::RateLimit;
pub use replay::Replay;
pub use webhook::Webhook;

/// The hooks that the stock binary knows.
pub fn registry() -> HookRegistry {
    let mut registry = HookRegistry::empty();
    registry.add::<Headers>("headers");
    registry.add::<IpFilter>("ip_filter");
    registry.add::<Jwt>("jwt");
    registry.add::<MessageFilter>("message_filter");
    registry.add::<Origin>("origin");
    registry.add::<RateLimit>("rate_limit");
    registry.add::<Replay>("replay");
    registry.add::<Webhook>("webhook");
    registry
}
