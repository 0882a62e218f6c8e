//! A successor that stops in the middle of a handover: every tunnel lives on, in the one process or the other.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::cast::{Cast, User, addresses, config};
use crate::support::{Gateway, within};

const TUNNELS: usize = 1_500;
/// Tunnels that a handover moves at once.
const BATCH: usize = 32;

/// A signal for a process that may not be the test's own child. It is killed when this is dropped.
struct Process(String);

impl Process {
    fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(&self.0).status().unwrap();
        assert!(status.success(), "process {} has ended before {name}", self.0);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = Command::new("kill").arg("-KILL").arg(&self.0).stderr(Stdio::null()).status();
    }
}

async fn start() -> (Vec<Cast>, Gateway, Vec<User>) {
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let cast = Cast::several(1).await;
    let yaml = config(&addresses(&cast), "    health: off\n").replace("routes:", "drain: { window: 1d }\nroutes:");
    let gateway = Gateway::start(&yaml).await;
    gateway.log.find(&["successors are awaited at"]).await;
    gateway.log.find(&["control socket at"]).await;
    let mut users = Vec::new();
    for number in 0..TUNNELS {
        let source = Ipv4Addr::new(127, 9, (number >> 7) as u8, 1 + (number & 0x7F) as u8);
        users.push(User::open(source, &gateway, number).await);
    }
    (cast, gateway, users)
}

/// Waits until the successor has said that it took the first batch, or the gateway is not at its socket any more. A
/// gateway lets go of a second batch only when the first was taken.
async fn some_have_moved(gateway: &Gateway) {
    let only_one_batch = (TUNNELS - BATCH) as u64;
    let moved = async { while held(gateway).await.is_some_and(|held| held >= only_one_batch) {} };
    within("the first batches", moved).await;
}

/// The number of tunnels that the gateway says it holds; `None` where it is not at the control socket any more.
pub(crate) async fn held(gateway: &Gateway) -> Option<u64> {
    let mut stream = BufReader::new(UnixStream::connect(gateway.dir.path().join("control.sock")).await.ok()?);
    stream.get_mut().write_all(b"{\"version\":1,\"command\":\"status\"}\n").await.ok()?;
    let mut line = String::new();
    within("the status", stream.read_line(&mut line)).await.ok()?;
    let reply: serde_json::Value = serde_json::from_str(&line).ok()?;
    if reply["pid"] != gateway.pid() {
        return None;
    }
    Some(reply["tunnels"].as_u64().unwrap_or_else(|| panic!("{line}")))
}

/// The case itself: a machine that swaps, a debugger, a cgroup that was frozen.
async fn stop_for_a_while(successor: &Process) {
    successor.signal("STOP");
    tokio::time::sleep(Duration::from_secs(3)).await;
    successor.signal("CONT");
}

/// Asserts that every tunnel still echoes, and that a newcomer gets one.
async fn all_echo(gateway: &Gateway, users: &mut [User]) {
    for user in users {
        user.echoes("still here").await;
    }
    User::open(Ipv4Addr::new(127, 10, 0, 1), gateway, 1).await.echoes("welcome").await;
}

#[tokio::test]
async fn a_successor_that_stops_for_a_while_in_the_middle_costs_no_tunnel() {
    let (_cast, gateway, mut users) = start().await;
    let successor = Gateway::begin(Arc::clone(&gateway.dir), &["-u"], &[]);
    let process = Process(successor.pid().to_string());
    some_have_moved(&gateway).await;
    stop_for_a_while(&process).await;
    all_echo(&gateway, &mut users).await;
}

/// By the command, which starts the successor itself and may end it.
#[tokio::test]
async fn an_upgrade_whose_successor_stops_for_a_while_costs_no_tunnel_and_is_reported_as_it_was() {
    let (_cast, gateway, mut users) = start().await;
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.arg("upgrade").arg("--socket").arg(gateway.dir.path().join("control.sock"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let upgrade = command.spawn().unwrap();
    let line = gateway.log.find(&["started process ", " to take over"]).await;
    let pid = line.split("started process ").nth(1).unwrap().split(' ').next().unwrap();
    let successor = Process(pid.to_owned());
    some_have_moved(&gateway).await;
    stop_for_a_while(&successor).await;
    all_echo(&gateway, &mut users).await;
    let output = within("the end of the upgrade", upgrade.wait_with_output()).await.unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // Some had moved by then, so an answer without a number would be none.
    assert!(said.contains(" moved"), "{said}");
}

/// The number of tunnels that a gateway holds whose successor is stopped; `None` where that has all of them.
async fn left_over(gateway: &Gateway) -> Option<u64> {
    let is_told = async {
        loop {
            if let Some(held) = held(gateway).await {
                return held;
            }
        }
    };
    tokio::select! {
        _ = gateway.log.to_the_end() => None,
        held = is_told => Some(held),
    }
}

/// A successor that dies takes along only what it had said was its own.
#[tokio::test]
async fn a_successor_that_dies_in_the_middle_costs_no_tunnel_that_it_had_not_taken() {
    // On a busy machine all may have moved before the successor is stopped. Then it is no case of this.
    let (_cast, _gateway, mut users, kept) = loop {
        let (cast, gateway, users) = start().await;
        let successor = Gateway::begin(Arc::clone(&gateway.dir), &["-u"], &[]);
        let process = Process(successor.pid().to_string());
        some_have_moved(&gateway).await;
        process.signal("STOP");
        let kept = left_over(&gateway).await;
        process.signal("KILL");
        if let Some(kept) = kept {
            break (cast, gateway, users, kept);
        }
    };
    let mut alive = 0;
    for user in &mut users {
        user.wire.send(crate::wire::text(crate::wire::From::Client, "there?")).await;
        alive += u64::from(within("an echo or the end", user.wire.next_frame()).await.is_some());
    }
    assert!(alive >= kept, "{alive} live on, where the old process held {kept}");
}
