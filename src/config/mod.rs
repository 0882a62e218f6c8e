//! The configuration file: read strictly, explained when wrong, and handed on as plain values.

mod model;

pub use model::*;
