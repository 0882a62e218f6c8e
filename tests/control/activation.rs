//! Socket activation and notification by systemd.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixDatagram};

use crate::lab::config;
use crate::support::{Echo, Gateway, Lines, within};

#[tokio::test]
async fn a_listener_uses_the_socket_that_was_passed_for_its_address() {
    let home = tempfile::tempdir().unwrap();
    let passed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = passed.local_addr().unwrap();
    // This client has waited in the backlog of the passed socket since before the gateway started.
    let mut early = TcpStream::connect(address).await.unwrap();
    early.write_all(b"GET /none HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n").await.unwrap();

    let file = home.path().join("longhaul.yaml");
    let yaml = config("{}", &["127.0.0.1:9".parse().unwrap()])
        .replacen("address: 127.0.0.1:0", &format!("address: {address}"), 1)
        .replace("routes:\n  - upstream: u", "routes:\n  - host: elsewhere\n    upstream: u")
        .replace("{dir}", home.path().to_str().unwrap());
    std::fs::write(&file, yaml).unwrap();
    // Passes descriptors from 3 on, announced to this process id, as systemd does (sd_listen_fds(3)).
    let script = r#"exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" -c "$1""#;
    let mut gateway = tokio::process::Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_longhaul")])
        .arg(&file)
        .stdin(Stdio::from(OwnedFd::from(passed)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let stderr = gateway.stderr.take().unwrap().into_owned_fd().unwrap();
    Lines::of(std::fs::File::from(stderr)).find(&[&format!("listening on {address}")]).await;
    let mut answer = String::new();
    within("the answer", early.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    gateway.kill().await.unwrap();
}

#[tokio::test]
async fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    let echo = Echo::start().await;
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let mut gateway = Gateway::start_with(&config("{}", &[echo.address()]), &environment).await;
    assert!(heard(&systemd).await.starts_with("READY=1\n"));
    gateway.signal("HUP");
    let reloading = heard(&systemd).await;
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert!(heard(&systemd).await.starts_with("READY=1\n"));
    gateway.signal("TERM");
    assert!(heard(&systemd).await.starts_with("STOPPING=1\n"));
    assert_eq!(gateway.ended().await, Some(0));
}

async fn heard(systemd: &UnixDatagram) -> String {
    let mut message = [0; 1024];
    let length = within("a message to systemd", systemd.recv(&mut message)).await.unwrap();
    String::from_utf8(message[..length].to_vec()).unwrap()
}
