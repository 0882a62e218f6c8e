//! The gateway in the background: its process id, its files, its end.

use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use super::{CONFIG, Stray, file, until};
use crate::support::{Named, Wire, one_upstream};

#[tokio::test]
async fn a_daemon_writes_its_pid_and_serves() {
    let backend = Named::start().await;
    let keys = "pid_file: \"{dir}/longhaul.pid\"\nerror_log: \"{dir}/error.log\"\n\
                upgrade_sock: \"{dir}/upgrade.sock\"\naccess_log: { to: access.log }\n";
    // An address of the test's own: no other test is given the port when it is free again.
    let yaml = one_upstream(&[backend.address()], "").replacen("127.0.0.1:0", "127.97.3.1:0", 1);
    let (dir, path) = file(&format!("{yaml}{keys}"));
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).ok();
    let started = Command::new(env!("CARGO_BIN_EXE_longhaul"))
        .args(["-d", "-c", &path])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut started = started.unwrap();
    let code = until("the command's end", || started.try_wait().unwrap()).await;
    let daemon = Stray(until("a pid in the file", || read("longhaul.pid")?.trim().parse().ok()).await);
    assert_eq!(code.code(), Some(0));
    assert_ne!(daemon.0, started.id());
    let address: SocketAddr = until("the daemon to listen", || {
        let log = read("error.log")?;
        log.lines().find_map(|line| line.split("listening on ").nth(1)?.parse().ok())
    })
    .await;
    assert_eq!(Wire::connect(address).await.get("/", "").await.address(), backend.address());
    // The path is relative: to the folder that the gateway was started in.
    until("the access log's line", || read("access.log")?.contains(" request ").then_some(())).await;
    daemon.signal("TERM");
    until("the daemon's end", || daemon.is_gone().then_some(())).await;
    assert!(TcpStream::connect(address).is_err());
}

/// Starts a gateway in the background, with this runtime folder, and waits for the command's end.
fn in_background(path: &str, runtime: &std::path::Path) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.args(["-d", "-c", path]).stdin(Stdio::null()).env("RUNTIME_DIRECTORY", runtime);
    command.output().unwrap()
}

#[tokio::test]
async fn a_daemons_pid_lies_beside_its_control_socket_and_a_second_one_does_not_take_its_place() {
    let keys = "error_log: \"{dir}/error.log\"\naccess_log: off\n";
    let (dir, path) = file(&format!("{CONFIG}{keys}"));
    let pid_of = |name: &str| std::fs::read_to_string(dir.path().join(name)).ok()?.trim().parse().ok();
    assert_eq!(in_background(&path, dir.path()).status.code(), Some(0));
    let first = Stray(until("a pid in the file", || pid_of("longhaul.pid")).await);

    // One with the same file would take the place, and is told so.
    let second = in_background(&path, dir.path());
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    let place = dir.path().join("longhaul.pid");
    assert!(said.contains(&format!("another gateway has its process id in {}; name", place.display())), "{said}");
    assert_eq!(pid_of("longhaul.pid"), Some(first.0));

    // One with a control socket of its own has a file of its own.
    let (other, path) = file(&format!("{CONFIG}{keys}control_sock: \"{{dir}}/b.sock\"\n"));
    assert_eq!(in_background(&path, dir.path()).status.code(), Some(0));
    let read = || std::fs::read_to_string(other.path().join("b.sock.pid")).ok()?.trim().parse().ok();
    let third = Stray(until("a pid in the other file", read).await);
    assert_ne!(third.0, first.0);

    first.signal("TERM");
    third.signal("TERM");
    until("their ends", || (first.is_gone() && third.is_gone()).then_some(())).await;
}

#[test]
fn a_daemons_pid_goes_into_no_folder_that_others_may_write_to() {
    let (dir, path) = file(CONFIG);
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let refused = in_background(&path, dir.path());
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("cannot run in the background: the folder ") && said.contains("others may write"), "{said}");
    assert!(!dir.path().join("longhaul.pid").exists());
}

/// Keys that Pingora would panic on in a process that nobody sees, or that name something else than a process id.
fn wrong_for_daemons() -> (tempfile::TempDir, String) {
    let keys = "pid_file: \"{dir}/victim\"\nerror_log: \"{dir}/missing/error.log\"\nworking_directory: \"{dir}/none\"\n\
                user: no-such-user\ngroup: no-such-group\n";
    let (dir, path) = file(&format!("{CONFIG}{keys}"));
    std::fs::create_dir(dir.path().join("victim")).unwrap();
    std::fs::write(dir.path().join("victim/kept"), "kept").unwrap();
    (dir, path)
}

#[test]
fn every_key_that_no_daemon_can_have_is_told_with_its_line_and_nothing_is_renamed() {
    let (dir, path) = wrong_for_daemons();
    let here = dir.path().display();
    let faults = [
        format!("{path}:10:11: pid_file: {here}/victim is a folder"),
        format!("{path}:11:12: error_log: the folder {here}/missing does not exist"),
        format!("{path}:12:20: working_directory: the folder {here}/none does not exist"),
        format!("{path}:13:7: user: there is no user `no-such-user`"),
        format!("{path}:14:8: group: there is no group `no-such-group`"),
    ];
    for arguments in [["check", "-c", &path], ["-d", "-c", &path]] {
        let output = super::longhaul(&arguments);
        let said = super::stderr(&output) + &super::stdout(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        for fault in &faults {
            assert!(said.contains(fault.as_str()), "{arguments:?} says no {fault:?}: {said}");
        }
        assert!(!said.contains("panicked"), "{said}");
    }
    assert_eq!(std::fs::read_to_string(dir.path().join("victim/kept")).unwrap(), "kept");
}

#[test]
fn a_daemon_writes_its_pid_over_no_other_file() {
    let (_dir, path) = file(&format!("{CONFIG}pid_file: \"{{dir}}/longhaul.yaml\"\n"));
    let before = std::fs::read_to_string(&path).unwrap();
    let output = super::longhaul(&["-d", "-c", &path]);
    assert_eq!(output.status.code(), Some(2));
    let said = super::stderr(&output);
    assert!(said.contains(&format!("{path} holds something else than a process id")), "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
}

/// The signal that the gateway serves may come before the command listens for it: then it would end by it.
#[tokio::test]
async fn a_command_that_waits_for_its_daemon_ends_when_that_serves() {
    let keys = "pid_file: \"{dir}/longhaul.pid\"\nerror_log: \"{dir}/error.log\"\naccess_log: off\n\
                daemon_wait_for_ready: true\n";
    let (dir, path) = file(&format!("{CONFIG}{keys}"));
    assert_eq!(in_background(&path, dir.path()).status.code(), Some(0));
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let daemon = Stray(read("longhaul.pid").trim().parse().unwrap());
    let address: SocketAddr = until("the address in the log", || {
        read("error.log").lines().find_map(|line| line.split("listening on ").nth(1)?.parse().ok())
    })
    .await;
    assert!(TcpStream::connect(address).is_ok());
    daemon.signal("TERM");
    until("the daemon's end", || daemon.is_gone().then_some(())).await;
}

#[tokio::test]
async fn a_daemons_files_are_found_from_the_folder_that_it_runs_in() {
    let keys = "working_directory: \"{dir}/runs\"\npid_file: longhaul.pid\nerror_log: error.log\naccess_log: off\n\
                daemon_wait_for_ready: true\n";
    let (dir, path) = file(&format!("{CONFIG}{keys}"));
    std::fs::create_dir(dir.path().join("runs")).unwrap();
    assert_eq!(in_background(&path, dir.path()).status.code(), Some(0));
    let pid = std::fs::read_to_string(dir.path().join("runs/longhaul.pid")).unwrap();
    let daemon = Stray(pid.trim().parse().unwrap());
    assert!(dir.path().join("runs/error.log").exists());
    daemon.signal("TERM");
    until("the daemon's end", || daemon.is_gone().then_some(())).await;
}

#[test]
fn an_empty_pid_file_is_the_place_that_is_chosen() {
    let (_dir, path) = file(&format!("{CONFIG}pid_file: \"\"\nworking_directory: \"{{dir}}\"\n"));
    let output = super::longhaul(&["check", "-c", &path]);
    assert_eq!(output.status.code(), Some(0), "{}", super::stderr(&output));
}
