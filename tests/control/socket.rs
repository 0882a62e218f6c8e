//! The control socket: its peers, requests that are nonsense, and its file.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::lab::{Control, command, config, control_socket, longhaul};
use crate::support::{Echo, Gateway};

/// A configuration with its control socket at a place of the test's.
fn config_at(path: &Path, echo: &Echo) -> String {
    config("{}", &[echo.address()]).replace("{dir}/control.sock", path.to_str().unwrap())
}

#[tokio::test]
async fn only_its_own_user_and_root_are_heard() {
    let echo = Echo::start().await;
    let gateway = Gateway::start(&config("{}", &[echo.address()])).await;
    let socket = control_socket(&gateway);
    let metadata = fs::metadata(&socket).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o600);
    if metadata.uid() != 0 {
        // Only root can take another identity.
        return;
    }
    // Without the file system's protection, the peer's identity still counts.
    fs::set_permissions(gateway.dir.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
    // The gateway may close the connection before the request is sent.
    let script = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\ntry:\n    \
                  s.sendall(b'{\"version\":1,\"command\":\"drain\"}\\n')\nexcept OSError:\n    pass\n\
                  print(s.makefile().readline())";
    let mut stranger = tokio::process::Command::new("python3");
    let output = stranger.args(["-c", script]).arg(&socket).uid(65_534).gid(65_534).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("only the gateway's own user and root are heard"), "{said} {output:?}");
    assert_eq!(longhaul(&gateway, &["status", "--json"]).await.json()["phase"], "serving");
}

#[tokio::test]
async fn nonsense_is_answered_and_changes_nothing() {
    let echo = Echo::start().await;
    let gateway = Gateway::start(&config("{}", &[echo.address()])).await;
    for (request, failure) in [
        ("GET / HTTP/1.1", "bad_request"),
        ("\u{0}\u{1}", "bad_request"),
        ("", "bad_request"),
        (r#"{"version":1,"command":"dance"}"#, "bad_request"),
        (r#"{"version":1,"command":"drain_backend","upstream":"u"}"#, "bad_request"),
        (r#"{"version":9,"command":"status"}"#, "wrong_version"),
    ] {
        let mut control = Control::ask(&gateway, request).await;
        let reply = control.next().await;
        // An empty line is no request.
        if request.is_empty() {
            assert!(reply.is_null());
            continue;
        }
        assert_eq!((&reply["reply"], &reply["failure"]), (&"failed".into(), &failure.into()), "{request}: {reply}");
        assert!(control.next().await.is_null());
    }
    let invalid = b"\xff\xfe{\"version\":1}\n";
    let mut control = Control::connect(&control_socket(&gateway)).await;
    control.send(invalid).await.unwrap();
    assert_eq!(control.next().await["failure"], "bad_request");
    assert_eq!(longhaul(&gateway, &["status"]).await.code, Some(0));
}

#[tokio::test]
async fn a_line_without_end_is_cut_off() {
    let echo = Echo::start().await;
    let gateway = Gateway::start(&config("{}", &[echo.address()])).await;
    let mut control = Control::connect(&control_socket(&gateway)).await;
    let chunk = vec![b'x'; 1 << 20];
    // The gateway stops reading where it has had enough.
    while control.send(&chunk).await.is_ok() {}
    let reply = control.next().await;
    assert!(reply["message"].as_str().unwrap().contains("longer than"), "{reply}");
    assert_eq!(longhaul(&gateway, &["status"]).await.code, Some(0));
}

#[tokio::test]
async fn clients_that_say_nothing_keep_nobody_waiting_and_are_sent_away() {
    let echo = Echo::start().await;
    let gateway = Gateway::start(&config("{}", &[echo.address()])).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut control = Control::connect(&control_socket(&gateway)).await;
        control.send(b"{\"version\":1,").await.unwrap();
        silent.push(control);
    }
    assert_eq!(longhaul(&gateway, &["status"]).await.code, Some(0));
    for mut control in silent {
        let reply = control.next().await;
        assert!(reply["message"].as_str().unwrap().contains("no request came within 5s"), "{reply}");
    }
}

#[tokio::test]
async fn a_gateway_that_is_told_to_end_waits_for_no_silent_client() {
    let echo = Echo::start().await;
    let mut gateway = Gateway::start(&config("{}", &[echo.address()])).await;
    let mut silent = Control::connect(&control_socket(&gateway)).await;
    // The answer shows that the one before was accepted: the system resets one that was not.
    assert_eq!(longhaul(&gateway, &["status"]).await.code, Some(0));
    gateway.signal("INT");
    assert_eq!(gateway.ended().await, Some(0));
    assert!(silent.next().await.is_null());
}

#[tokio::test]
async fn a_socket_left_behind_is_taken_over() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("run").join("control.sock");
    let echo = Echo::start().await;
    let killed = Gateway::start(&config_at(&path, &echo)).await;
    drop(killed);
    assert!(path.exists());
    let gateway = Gateway::start(&config_at(&path, &echo)).await;
    let said = command(&["status", "--json", "--socket", path.to_str().unwrap()], &[]).await;
    assert_eq!(said.json()["pid"], gateway.pid());
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn a_named_socket_that_is_in_use_is_a_start_error() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("control.sock");
    let echo = Echo::start().await;
    let first = Gateway::start(&config_at(&path, &echo)).await;
    let file = home.path().join("second.yaml");
    fs::write(&file, config_at(&path, &echo)).unwrap();
    let said = command(&["-c", file.to_str().unwrap()], &[]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("cannot start: another gateway listens at"), "{said:?}");
    assert!(!said.err.contains("listening on"), "{said:?}");
    let status = command(&["status", "--json", "--socket", path.to_str().unwrap()], &[]).await;
    assert_eq!(status.json()["pid"], first.pid());
}

#[tokio::test]
async fn a_folder_that_others_may_write_to_is_a_start_error() {
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), Permissions::from_mode(0o777)).unwrap();
    let echo = Echo::start().await;
    let file = home.path().join("longhaul.yaml");
    fs::write(&file, config_at(&home.path().join("control.sock"), &echo)).unwrap();
    let said = command(&["-c", file.to_str().unwrap()], &[]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("others may write to it"), "{said:?}");
}

#[tokio::test]
async fn at_the_usual_place_the_second_gateway_goes_without() {
    let home = tempfile::tempdir().unwrap();
    let environment = [("RUNTIME_DIRECTORY", home.path().to_str().unwrap())];
    let echo = Echo::start().await;
    let yaml = config("{}", &[echo.address()]).replace("control_sock: \"{dir}/control.sock\"\n", "");
    let mut first = Gateway::start_with(&yaml, &environment).await;
    let second = Gateway::start_with(&yaml, &environment).await;
    second.log.find(&["no control socket: another gateway listens at"]).await;
    let said = command(&["status", "--json"], &environment).await;
    assert_eq!(said.json()["pid"], first.pid());
    first.signal("INT");
    assert_eq!(first.ended().await, Some(0));
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_reload_and_a_plan_of_the_running_gateway_answer() {
    let echo = Echo::start().await;
    let gateway = Gateway::start(&config("{}", &[echo.address()])).await;
    let file = gateway.dir.path().join("longhaul.yaml");
    for arguments in [&["reload"][..], &["plan", "--running", file.to_str().unwrap()]] {
        let said = longhaul(&gateway, arguments).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.out.contains("nothing"), "{said:?}");
    }
    std::fs::write(&file, "version: 1\nlisteners: 7\n").unwrap();
    let said = longhaul(&gateway, &["reload"]).await;
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("longhaul.yaml:2:12: listeners"), "{said:?}");
    assert_eq!(longhaul(&gateway, &["plan", "--running", "/nowhere.yaml"]).await.code, Some(2));
    assert_eq!(longhaul(&gateway, &["plan", "one.yaml"]).await.code, Some(2));
}
