//! Output of the commands: a reader that goes away, and a place that takes nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

use std::fs::File;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::lab::{config, control_socket, longhaul, open};
use crate::support::{Echo, Gateway, within};

/// The command line with the gateway's control socket.
fn command(gateway: &Gateway, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.args(arguments).arg("--socket").arg(control_socket(gateway));
    command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

#[tokio::test]
async fn a_watch_ends_quietly_once_nobody_reads_it() {
    let echo = Echo::start().await;
    let gateway = Gateway::start(&config("{}", &[echo.address()])).await;
    let _tunnel = open(&gateway, "a").await;
    for arguments in [&["tunnels", "--watch"][..], &["tunnels", "--watch", "--json"]] {
        let mut child = command(&gateway, arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(within("a line", lines.next_line()).await.unwrap().is_some());
        drop(lines);
        let ended = within("the end of a watch", child.wait_with_output()).await.unwrap();
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(said.lines().all(|line| line == "1 of 1 open tunnel"), "{said}");
    }
}

#[tokio::test]
async fn a_watch_with_a_wrong_filter_ends_with_its_fault() {
    let echo = Echo::start().await;
    let gateway = Gateway::start(&config("{}", &[echo.address()])).await;
    let said = longhaul(&gateway, &["tunnels", "--watch", "--client", "nobody"]).await;
    assert_eq!((said.code, said.err.lines().count()), (Some(2), 1), "{said:?}");
}

#[tokio::test]
async fn a_broken_file_still_names_the_socket_and_a_lost_one_the_way_on() {
    let echo = Echo::start().await;
    let gateway = Gateway::start(&config("{}", &[echo.address()])).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("broken.yaml");
    let path = file.to_str().unwrap();
    let socket = control_socket(&gateway);
    std::fs::write(&file, format!("control_sock: \"{}\"  # here\nnonsense: [\n", socket.display())).unwrap();
    for arguments in [&["status"][..], &["tunnels"], &["close", "--all", "--dry-run"]] {
        let said = crate::lab::command(&[arguments, &["-c", path]].concat(), &[]).await;
        assert_eq!(said.code, Some(if arguments[0] == "close" { 1 } else { 0 }), "{arguments:?}: {said:?}");
        assert!(said.err.starts_with(&format!("warning: {path} has problems")), "{arguments:?}: {said:?}");
    }
    for text in [Some("nonsense: [\n"), Some("control_sock: relative.sock\nnonsense: 1\n"), None] {
        match text {
            Some(text) => std::fs::write(&file, text).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let said = crate::lab::command(&["status", "-c", path], &[]).await;
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.lines().last().unwrap().contains("`--socket PATH`"), "{said:?}");
    }
}

#[tokio::test]
async fn an_output_that_cannot_be_written_is_a_failure_with_one_line() {
    let echo = Echo::start().await;
    let gateway = Gateway::start(&config("{}", &[echo.address()])).await;
    let _tunnel = open(&gateway, "a").await;
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["tunnels"],
        &["tunnels", "--watch"],
        &["close", "--all", "--dry-run"],
        &["where", "--running", "--ip", "127.0.0.1"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let child = command(&gateway, arguments).stdout(full).spawn().unwrap();
        let ended = within("the end of a command", child.wait_with_output()).await.unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.starts_with("longhaul: standard output cannot be written: "), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
    }
}
