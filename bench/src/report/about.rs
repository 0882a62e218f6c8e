//! Circumstances of a run: date, machine, versions, method.

use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::peer::{Peer, find};

/// The circumstances of a run.
#[derive(Serialize)]
pub struct About {
    /// UTC, to the minute.
    pub date: String,
    /// The processor, as it names itself.
    pub processor: String,
    /// Cores that may be used.
    pub cores: usize,
    /// Memory of the machine.
    pub memory_gib: u64,
    /// The kernel's release.
    pub kernel: String,
    /// Versions of the peers, in the order of the table, and of the programs that measure.
    pub versions: Vec<(&'static str, String)>,
    /// The method, in a few sentences.
    pub method: String,
}

impl About {
    /// Asks the machine and the peers.
    pub fn here(peers: &[Peer], longhaul: &Path, method: String) -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let processor =
            cpuinfo.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
        let total = read("/proc/meminfo").split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
        Self {
            date: say("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            processor: processor.map_or("unknown", |(_, name)| name).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: total.unwrap_or(0).div_ceil(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            versions: peers
                .iter()
                .filter_map(|peer| Some((peer.title(), version(*peer, longhaul)?)))
                .chain(wrk().map(|version| ("wrk", version)))
                .chain([("generator", concat!("longhaul-bench ", env!("CARGO_PKG_VERSION")).to_owned())])
                .collect(),
            method,
        }
    }

    /// In a few lines of Markdown.
    pub fn markdown(&self) -> String {
        let versions: Vec<String> =
            self.versions.iter().map(|(title, version)| format!("{title}: {version}")).collect();
        format!(
            "{}; {} × {}, {} GiB, Linux {}.\n{}\n\n{}.\n",
            self.date,
            self.cores,
            self.processor,
            self.memory_gib,
            self.kernel,
            self.method,
            versions.join("; ")
        )
    }
}

/// wrk prints its version with its usage, and fails.
fn wrk() -> Option<String> {
    let output = Command::new(find("wrk")?).arg("-v").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.lines().next()?.trim_start_matches("wrk ").split(" [").next()?.to_owned())
}

/// Longhaul's version with the commit of this folder, where it is a repository.
fn version(peer: Peer, longhaul: &Path) -> Option<String> {
    let version = peer.version(&peer.program(longhaul)?);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    match peer {
        Peer::Longhaul => {
            Some(format!("{version} ({})", say("git", &["-C", folder, "describe", "--always", "--dirty"])))
        }
        _ => Some(version),
    }
}

fn say(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
    output.map_or_else(|| "unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
