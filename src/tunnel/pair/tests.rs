//! The rules of a tunnel, between two ends in memory and on a clock that the test turns.

mod crossing;
mod endings;
mod limits;
mod rig;
mod stream;

use rig::{Frame, Rig, binary, close, frame_from, frames};
