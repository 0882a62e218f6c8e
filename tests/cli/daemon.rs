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
