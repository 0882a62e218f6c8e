//! The rules of a tunnel, between two ends in memory and on a clock that the test turns.

mod crossing;
mod endings;
mod faults;
mod hooks;
mod limits;
mod pings;
mod rates;
mod rig;
mod room;
mod stream;
mod tls;

use rig::{Frame, Rig, answer, begun_frames, binary, close, frame_from, frames, none, seconds};
