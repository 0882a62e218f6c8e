//! Refused successors, and the reason that each is told.

use std::fs::Permissions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use crate::fixture::word;
use crate::lab::{Lab, blocking, get, ready, upgrade};
use crate::raw::Raw;
use crate::stand_in::{StandIn, Step, itself};
use crate::support::Gateway;
use crate::ws::{CLOSE, Tunnel, frame};

/// Newest protocol of the handover that this release speaks.
const NEWEST: u32 = 3;

#[tokio::test]
async fn a_successor_that_is_given_up_while_it_starts_is_told() {
    let lab = Lab::start().await;
    let gateway = lab.gateway("").await;
    let door = door(&gateway);
    let told = blocking(move || {
        let (mut raw, _) = Raw::welcomed(&door);
        raw.say(json!({ "say": "ready" }));
        raw.hear().unwrap().value
    })
    .await;
    assert_eq!(told["say"], "abort", "{told}");
    gateway.log.find(&["the handover failed", "`serving` was expected"]).await;
}
#[tokio::test]
async fn a_successor_that_speaks_other_protocols_is_refused_with_both_ranges() {
    let lab = Lab::start().await;
    let mut gateway = lab.gateway("").await;
    let door = door(&gateway);
    let said = blocking(move || {
        let mut raw = Raw::connect(&door);
        raw.say(json!({ "say": "hello", "oldest": 8, "newest": 9, "version": "9.9.9", "pid": 1 }));
        raw.hear().unwrap().value
    })
    .await;
    let reason = said["reason"].as_str().unwrap();
    assert_eq!(said["say"], "refused");
    assert!(reason.contains("longhaul 9.9.9 speaks 8 to 9"), "{reason}");
    assert!(reason.contains(&format!("speaks 1 to {NEWEST}")), "{reason}");
    gateway.log.find(&["the handover failed, this process goes on: no common protocol"]).await;
    get(gateway.address()).await;
    upgrade(&mut gateway).await;
}

#[tokio::test]
async fn a_successor_that_is_refused_says_why_and_ends() {
    let lab = Lab::start().await;
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let yaml = lab.config("").replace("{dir}", dir.path().to_str().unwrap());
    std::fs::write(dir.path().join("longhaul.yaml"), yaml).unwrap();
    let knocked = UnixListener::bind(dir.path().join("upgrade.sock")).unwrap();
    let mut new = Gateway::begin(dir, &["-u"], &[]);
    blocking(move || {
        let mut raw = Raw::of(knocked.accept().unwrap().0);
        assert_eq!(raw.hear().unwrap().value["newest"], NEWEST);
        raw.say(word("refused"));
    })
    .await;
    assert_eq!(new.ended().await, Some(1));
    let line = new.log.find(&["longhaul: cannot take over from the gateway at "]).await;
    assert!(
        line.ends_with("upgrade.sock: no common protocol: longhaul 0.2.0 speaks 2 to 2, longhaul 0.1.0 speaks 1 to 1"),
        "{line}"
    );
}

#[tokio::test]
async fn what_makes_no_sense_at_the_door_hurts_nobody() {
    let lab = Lab::start().await;
    let mut gateway = lab.gateway("").await;
    let mut tunnel = Tunnel::open(gateway.address(), "/echo").await;
    let too_long = [&u32::MAX.to_be_bytes()[..], b"{}"].concat();
    let truncated = [&100u32.to_be_bytes()[..], b"{\"say\":"].concat();
    let not_json = [&7u32.to_be_bytes()[..], b"garbage"].concat();
    let other_word = [&17u32.to_be_bytes()[..], br#"{"say":"serving"}"#].concat();
    for (number, bytes) in
        [b"GET / HTTP/1.1\r\n\r\n".to_vec(), too_long, truncated, not_json, other_word].iter().enumerate()
    {
        let mut stream = UnixStream::connect(door(&gateway)).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        gateway.log.find_nth(&["the handover failed, this process goes on"], number).await;
        tunnel.echoes().await;
        get(gateway.address()).await;
    }
    // The gateway waits for a silent one, and serves everything meanwhile.
    let _silent = UnixStream::connect(door(&gateway)).unwrap();
    tunnel.echoes().await;
    get(gateway.address()).await;
    upgrade(&mut gateway).await;
    tunnel.echoes().await;
}

#[tokio::test]
async fn a_process_of_another_user_is_turned_away() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let lab = Lab::start().await;
    let mut gateway = lab.gateway("").await;
    // Opens the socket to everybody: the peer's identity still counts.
    std::fs::set_permissions(gateway.dir.path(), Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(door(&gateway), Permissions::from_mode(0o666)).unwrap();
    let stranger = itself("refusals::stranger").env(DOOR, door(&gateway)).uid(NOBODY).gid(NOBODY).output();
    let output = match stranger {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return,
        output => output.unwrap(),
    };
    assert!(output.status.success(), "{output:?}");
    gateway.log.find(&["is refused at"]).await;
    upgrade(&mut gateway).await;
}

#[test]
#[ignore = "the process of another user, started by another test"]
fn stranger() {
    let Some(door) = std::env::var_os(DOOR) else { return };
    let mut raw = Raw::connect(Path::new(&door));
    // Turned away, it may find the connection closed already.
    let _ = raw.try_say(&json!({ "say": "hello", "oldest": 1, "newest": 1, "version": "0", "pid": 1 }), &[]);
    assert!(raw.hear().is_err(), "it is told nothing");
}

#[tokio::test]
async fn no_door_opens_in_a_folder_that_others_may_write_to() {
    let lab = Lab::start().await;
    let open = tempfile::tempdir().unwrap();
    std::fs::set_permissions(open.path(), Permissions::from_mode(0o777)).unwrap();
    let door = open.path().join("upgrade.sock");
    let gateway = Gateway::start(&lab.config("").replace("{dir}/upgrade.sock", door.to_str().unwrap())).await;
    let line = gateway.log.find(&["no upgrade in place is possible"]).await;
    assert!(line.contains("others may write to it"), "{line}");
    assert!(!door.exists());
    get(gateway.address()).await;
}

#[tokio::test]
async fn a_door_never_takes_the_place_of_a_file() {
    let lab = Lab::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("precious");
    std::fs::write(&file, "kept").unwrap();
    let gateway = Gateway::start(&lab.config("").replace("{dir}/upgrade.sock", file.to_str().unwrap())).await;
    let line = gateway.log.find(&["no upgrade in place is possible"]).await;
    assert!(line.contains("is no socket"), "{line}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
}

#[tokio::test]
async fn a_second_gateway_leaves_the_first_ones_door_alone() {
    let lab = Lab::start().await;
    let mut first = lab.gateway("").await;
    let mut tunnel = Tunnel::open(first.address(), "/echo").await;
    let yaml = lab.config("").replace("{dir}/upgrade.sock", door(&first).to_str().unwrap());
    let second = Gateway::start(&yaml).await;
    let line = second.log.find(&["no upgrade in place is possible"]).await;
    assert!(line.contains("another gateway listens at"), "{line}");
    get(second.address()).await;
    upgrade(&mut first).await;
    tunnel.echoes().await;
}

#[tokio::test]
async fn a_door_that_nobody_listens_at_any_more_is_taken() {
    let lab = Lab::start().await;
    let gateway = lab.gateway("").await;
    gateway.signal("KILL");
    gateway.log.find(&["successors are awaited"]).await;
    let dir = Arc::clone(&gateway.dir);
    drop(gateway);
    let mut again = ready(Gateway::begin(dir, &[], &[]).listening().await).await;
    upgrade(&mut again).await;
}

#[tokio::test]
async fn without_a_gateway_there_is_nothing_to_take_over() {
    let lab = Lab::start().await;
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let yaml = lab.config("").replace("{dir}", dir.path().to_str().unwrap());
    std::fs::write(dir.path().join("longhaul.yaml"), yaml).unwrap();
    let mut new = Gateway::begin(dir, &["-u"], &[]);
    assert_eq!(new.ended().await, Some(1));
    let line = new.log.find(&["longhaul: cannot take over from the gateway at "]).await;
    assert!(line.contains("upgrade.sock: "), "{line}");
    assert!(line.contains("No such file"), "{line}");
}

#[tokio::test]
async fn a_successor_with_a_bad_file_does_not_even_knock() {
    let lab = Lab::start().await;
    let mut gateway = lab.gateway("").await;
    let mut tunnel = Tunnel::open(gateway.address(), "/echo").await;
    let file = gateway.dir.path().join("longhaul.yaml");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{good}    balance: 3\n")).unwrap();
    let mut new = Gateway::begin(Arc::clone(&gateway.dir), &["-u"], &[]);
    assert_eq!(new.ended().await, Some(2));
    tunnel.echoes().await;
    assert_eq!(gateway.log.count(&["asks to take over"]), 0);
    std::fs::write(&file, good).unwrap();
    upgrade(&mut gateway).await;
    tunnel.echoes().await;
}

#[tokio::test]
async fn sigquit_without_a_successor_is_refused() {
    let lab = Lab::start().await;
    let gateway = lab.gateway("").await;
    let mut tunnel = Tunnel::open(gateway.address(), "/echo").await;
    for number in 0..2 {
        gateway.signal("QUIT");
        gateway.log.find_nth(&["SIGQUIT is refused: no successor waits"], number).await;
        tunnel.echoes().await;
        get(gateway.address()).await;
    }
}

#[tokio::test]
async fn a_gateway_that_is_told_to_end_while_a_successor_starts_drains() {
    let lab = Lab::start().await;
    let mut gateway = ready(Gateway::start(&format!("{}grace_period_seconds: 1\n", lab.config(""))).await).await;
    let mut tunnel = Tunnel::open(gateway.address(), "/echo").await;
    let successor = StandIn::at(&gateway, Step::Welcome).await;
    gateway.log.find(&["asks to take over"]).await;
    gateway.signal("TERM");
    assert_eq!(tunnel.receive().await.code(), 1001);
    tunnel.send(&frame(CLOSE, &1001u16.to_be_bytes(), true)).await;
    assert_eq!(gateway.ended().await, Some(0));
    gateway.access.find(&[" tunnel_end ", "reason=shutdown"]).await;
    drop(successor);
}

#[tokio::test]
async fn a_second_successor_waits_for_the_first_ones_failure() {
    let lab = Lab::start().await;
    let mut gateway = lab.gateway("").await;
    let first = StandIn::at(&gateway, Step::Welcome).await;
    let second = Gateway::begin(Arc::clone(&gateway.dir), &["-u"], &[]);
    drop(first);
    let second = ready(second.listening().await).await;
    assert_eq!(gateway.ended().await, Some(0));
    get(second.address()).await;
}

/// Path of the socket at which a gateway waits for its successors.
fn door(gateway: &Gateway) -> PathBuf {
    gateway.dir.path().join("upgrade.sock")
}

const NOBODY: u32 = 65_534;
const DOOR: &str = "STRANGER_AT";
