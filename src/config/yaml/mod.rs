//! YAML as a tree of values that know their position, the readers of single values, and the problems they report.

pub(crate) mod address;
pub(crate) mod core_schema;
pub(crate) mod near;
pub(crate) mod node;
pub(crate) mod problem;
pub(crate) mod scalar;
pub(crate) mod value;
mod wrong_address;
