//! `longhaul members`: tells the running gateway the members of an upstream.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::control::{Instance, wrong};
use crate::config;
use crate::control::ControlRequest;
use crate::discovery::{MembersAction, PushedMember};
use crate::hook::HookRegistry;

/// Arguments of `longhaul members`.
#[derive(Debug, Args)]
pub(super) struct Members {
    /// The upstream, which has `discover: push`
    #[arg(value_name = "UPSTREAM")]
    upstream: String,
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    instance: Instance,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Put these members in the place of all that there are
    Set {
        /// The members, as [NAME=]ADDRESS[,WEIGHT]
        #[arg(value_name = "MEMBER", value_parser = member, required_unless_present = "file", conflicts_with = "file")]
        members: Vec<PushedMember>,
        /// A file that lists them, as for `discover.file`; `-` for standard input
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Add members; those of the same names are replaced
    Add {
        /// The members, as [NAME=]ADDRESS[,WEIGHT]
        #[arg(value_name = "MEMBER", value_parser = member, required = true)]
        members: Vec<PushedMember>,
    },
    /// Take members away; their tunnels follow on_change
    Remove {
        /// Their names; their addresses where they have none
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
    /// Have members leave: nothing new goes to them, and their tunnels are closed over drain_window
    Leave {
        /// Their names; their addresses where they have none
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
}

pub(super) fn run(members: &Members, hooks: &HookRegistry) -> ExitCode {
    let by_name = |names: &[String]| names.iter().map(|name| named(name)).collect();
    let (action, told) = match &members.action {
        Action::Set { members, file: None } => (MembersAction::Set, members.clone()),
        Action::Set { file: Some(file), .. } => match listed(file) {
            Ok(listed) => (MembersAction::Set, listed),
            Err(problem) => return wrong(problem),
        },
        Action::Add { members } => (MembersAction::Add, members.clone()),
        Action::Remove { names } => (MembersAction::Remove, by_name(names)),
        Action::Leave { names } => (MembersAction::Leave, by_name(names)),
    };
    let request = ControlRequest::Members { upstream: members.upstream.clone(), action, members: told };
    members.instance.ask(&request, hooks)
}

fn listed(file: &Path) -> Result<Vec<PushedMember>, String> {
    let mut text = String::new();
    let name = file.display();
    let read = match file.to_str() {
        Some("-") => std::io::stdin().read_to_string(&mut text).map(drop),
        _ => fs::read_to_string(file).map(|read| text = read),
    };
    read.map_err(|error| format!("{name}: cannot be read: {error}"))?;
    let listed = config::read_members(&text).map_err(|problems| problems.in_file(&name.to_string()).to_string())?;
    Ok(listed.into_iter().map(PushedMember::from).collect())
}

fn named(name: &str) -> PushedMember {
    PushedMember { name: Some(name.to_owned()), address: None, weight: None, leaving: false }
}

fn member(text: &str) -> Result<PushedMember, String> {
    const FORM: &str = "write [NAME=]ADDRESS[,WEIGHT], as in shard-0=10.0.0.11:9001,2";
    let (name, rest) = text.split_once('=').map_or((None, text), |(name, rest)| (Some(name.to_owned()), rest));
    let (address, weight) = rest.split_once(',').map_or((rest, None), |(address, weight)| (address, Some(weight)));
    let address = address.parse().map_err(|_| FORM)?;
    let weight = weight.map(|weight| weight.parse().map_err(|_| FORM)).transpose()?;
    Ok(PushedMember { name, address: Some(address), weight, leaving: false })
}
