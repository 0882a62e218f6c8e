//! `longhaul drain`: ends the running gateway, or empties one of its backends, and shows how far it is.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::control::{Instance, Waits};
use crate::control::Request;
use crate::hook::Registry;

/// Arguments of `longhaul drain`.
#[derive(Debug, Args)]
pub(super) struct Drain {
    #[command(subcommand)]
    what: Option<What>,
    /// Leave as soon as it has begun, instead of waiting for the end
    #[arg(long, global = true)]
    no_wait: bool,
    #[command(flatten)]
    instance: Instance,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Give one backend nothing new, and close its tunnels (Close 1012)
    Backend {
        /// The backend
        #[arg(value_name = "UPSTREAM/ADDRESS", value_parser = backend)]
        backend: (String, SocketAddr),
        /// The time over which its tunnels are closed; the upstream's drain_window if left out
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, conflicts_with = "undo")]
        over: Option<Duration>,
        /// Give it its share again, and spare the tunnels that are not closed yet
        #[arg(long)]
        undo: bool,
    },
}

pub(super) fn run(drain: &Drain, hooks: &Registry) -> ExitCode {
    let request = match &drain.what {
        None => Request::Drain,
        Some(What::Backend { backend: (upstream, address), over, undo }) => Request::DrainBackend {
            upstream: upstream.clone(),
            address: *address,
            over_ms: over.map(|over| u64::try_from(over.as_millis()).unwrap_or(u64::MAX)),
            undo: *undo,
            follow: false,
        },
    };
    drain.instance.ask_and(&request, if drain.no_wait { Waits::ForTheBeginning } else { Waits::ForTheEnd }, hooks)
}

fn backend(text: &str) -> Result<(String, SocketAddr), String> {
    let (upstream, address) = text.rsplit_once('/').ok_or("write UPSTREAM/ADDRESS, as in chat/127.0.0.1:9001")?;
    let address = address.parse().map_err(|_| format!("`{address}` is no IP address with a port"))?;
    Ok((upstream.to_owned(), address))
}
