//! The hooks that ship with Longhaul: each an answer to a common need, usable from the configuration alone.

pub mod headers;
pub mod ip_filter;
pub mod jwt;
pub mod origin;
mod outgoing;
pub mod rate_limit;

use crate::hook::Registry;

pub use headers::Headers;
pub use ip_filter::IpFilter;
pub use origin::Origin;
pub use rate_limit::RateLimit;

/// The hooks that the stock binary knows.
pub fn registry() -> Registry {
    let mut registry = Registry::empty();
    registry.add::<Headers>("headers");
    registry.add::<IpFilter>("ip_filter");
    registry.add::<Origin>("origin");
    registry.add::<RateLimit>("rate_limit");
    registry.add::<jwt::Jwt>("jwt");
    registry
}
