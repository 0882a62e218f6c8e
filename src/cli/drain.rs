//! `longhaul drain`: ends the running gateway, or empties one of its backends, and shows how far it is.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::control::{AwaitedReply, Instance};
use crate::control::ControlRequest;
use crate::hook::HookRegistry;

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
        /// The backend, by its name or address
        #[arg(value_name = "UPSTREAM/BACKEND", value_parser = backend)]
        backend: (String, String),
        /// The time over which its tunnels are closed; the upstream's drain_window if left out
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, conflicts_with = "undo")]
        over: Option<Duration>,
        /// Give it its share again, and spare the tunnels that are not closed yet
        #[arg(long)]
        undo: bool,
        /// Tell every gateway that has its backends from the same etcd (`discover: etcd`)
        #[arg(long)]
        everywhere: bool,
    },
}

pub(super) fn run(drain: &Drain, hooks: &HookRegistry) -> ExitCode {
    let request = match &drain.what {
        None => ControlRequest::Drain,
        Some(What::Backend { backend: (upstream, backend), over, undo, everywhere }) => ControlRequest::DrainBackend {
            upstream: upstream.clone(),
            backend: backend.clone(),
            over_ms: over.map(|over| u64::try_from(over.as_millis()).unwrap_or(u64::MAX)),
            undo: *undo,
            follow: false,
            everywhere: *everywhere,
        },
    };
    drain.instance.ask_and(
        &request,
        if drain.no_wait { AwaitedReply::ForTheBeginning } else { AwaitedReply::ForTheEnd },
        hooks,
    )
}

fn backend(text: &str) -> Result<(String, String), String> {
    const FORM: &str = "write UPSTREAM/BACKEND, as in chat/127.0.0.1:9001 or chat/shard-0";
    let (upstream, backend) = text.rsplit_once('/').ok_or(FORM)?;
    if backend.is_empty() { Err(FORM.to_owned()) } else { Ok((upstream.to_owned(), backend.to_owned())) }
}
