//! YAML as a tree of values that know their position, the readers of single values, and the problems they report.

pub(in crate::config) mod address;
pub(in crate::config) mod core_schema;
pub(in crate::config) mod keys;
pub(in crate::config) mod node;
pub(in crate::config) mod problem;
pub(in crate::config) mod scalar;
pub(in crate::config) mod value;
