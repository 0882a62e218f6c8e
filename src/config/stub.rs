//! stub
#![allow(missing_docs, reason = "stub")]
use super::Problem;
#[derive(Clone, Debug, PartialEq)]
pub struct HookEntry {
    pub name: String,
    pub settings: Settings,
    pub timeout: std::time::Duration,
}
#[derive(Clone, Debug, PartialEq)]
pub struct Settings;
impl Settings {
    pub fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, Vec<Problem>> {
        unimplemented!()
    }
    pub fn problem(&self, _f: &str, _m: impl Into<String>) -> Problem {
        unimplemented!()
    }
}
pub trait KnownHooks {
    fn names(&self) -> Vec<&str>;
    fn check(&self, name: &str, settings: &Settings) -> Result<(), Vec<Problem>>;
}

impl From<Vec<Problem>> for super::Problems {
    fn from(mut problems: Vec<Problem>) -> Self {
        problems.remove(0).into()
    }
}
pub struct NoHooks;
impl KnownHooks for NoHooks {
    fn names(&self) -> Vec<&str> {
        Vec::new()
    }
    fn check(&self, _: &str, _: &Settings) -> Result<(), Vec<Problem>> {
        Ok(())
    }
}
