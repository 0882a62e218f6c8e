//! Longhaul and other gateways on the same work, side by side.

pub mod cli;
pub mod curves;
pub mod echo;
pub mod generator;
pub mod histogram;
pub mod load;
pub mod members;
pub mod netns;
pub mod peer;
pub mod proc;
pub mod reattach;
pub mod report;
pub mod restarts;
pub mod run;
pub mod scheduling;
pub mod session;
pub mod soak;
pub mod stop;
pub mod storm;
pub mod tls;
pub mod upgrades;
pub mod work;
pub mod ws;
