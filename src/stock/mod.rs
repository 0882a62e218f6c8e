//! The hooks that ship with Longhaul: each an answer to a common need, usable from the configuration alone.

use crate::hook::Registry;

/// The hooks that the stock binary knows.
pub fn registry() -> Registry {
    Registry::empty()
}
