//! Re-attachment: a tunnel whose backend goes is held, another backend is asked, and the conversation goes on.
//!
//! A tunnel that may be re-attached has a [`Kept`]. Its pair tells the worker when its backend is gone and the client
//! is held. The worker has the [`Asker`] ask the next backend, and gives the pair the outcome.

mod asker;
mod heads;
mod holding;
mod kept;
mod outcome;
mod tail;

pub use asker::{Asked, Asker, Asking, Asks, Attached};
pub use heads::{Head, Heads};
pub(super) use holding::Holding;
pub use kept::{Kept, MOST_HEAD};
pub use outcome::Outcome;
pub(super) use outcome::Told;
pub(super) use tail::Tail;
