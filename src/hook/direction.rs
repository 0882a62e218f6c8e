//! Directions as hooks name them: by where the bytes go.

use crate::ws::Side;

/// A direction in which bytes pass through a tunnel. As an index, 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    ToBackend,
    /// From the backend.
    ToClient,
}

impl Direction {
    /// Both directions, in the order that [`Closed`](super::Closed) counts them in.
    pub const ALL: [Self; 2] = [Self::ToBackend, Self::ToClient];

    /// Name of the direction in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ToBackend => "to_backend",
            Self::ToClient => "to_client",
        }
    }
}

impl From<Side> for Direction {
    /// The direction of the bytes that `sender` sends.
    fn from(sender: Side) -> Self {
        match sender {
            Side::Client => Self::ToBackend,
            Side::Backend => Self::ToClient,
        }
    }
}

impl From<Direction> for Side {
    /// The side that sends the bytes of `direction`.
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::ToBackend => Self::Client,
            Direction::ToClient => Self::Backend,
        }
    }
}
