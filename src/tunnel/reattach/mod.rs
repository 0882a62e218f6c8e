//! Re-attachment: a tunnel whose backend goes is held, another backend is asked, and the conversation goes on.
//!
//! A tunnel that may be re-attached has a [`KeptRequest`]. Its pair tells the worker when its backend is gone and the
//! client is held. The worker has the [`Asker`] ask the next backend, and gives the pair the outcome.

mod asker;
mod heads;
mod holding;
mod kept;
mod outcome;
mod tail;

pub use asker::{Asker, Asking, Attached, Search, SearchOutcome};
pub use heads::{Heads, KeptHead};
pub(super) use holding::Holding;
pub use kept::{KeptRequest, MOST_HEAD};
pub use outcome::ReattachOutcome;
pub(super) use outcome::ReattachReport;
pub(super) use tail::Tail;
