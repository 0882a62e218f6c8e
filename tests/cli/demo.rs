//! The demo as a program: its page, its tunnels, its end.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use futures_util::StreamExt;
use tokio_tungstenite::connect_async;

use super::{Stray, until};
use crate::support::Lines;

#[tokio::test]
async fn the_demo_serves_its_page_and_ends_on_sigint() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_longhaul"))
        .args(["demo", "--listen", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let words = Lines::of(demo.stdout.take().unwrap());
    let log = Lines::of(demo.stderr.take().unwrap());
    let line = words.find(&["open http://"]).await;
    let demo_process = Stray(demo.id());
    let url = line.strip_prefix("open ").unwrap();
    let page = reqwest::get(url).await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("<html"));
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let (mut socket, _) = connect_async(format!("ws://{address}/ws?client=me")).await.unwrap();
    assert!(socket.next().await.unwrap().is_ok());
    let ports = listening_ports(demo.id());
    assert!(ports.len() >= 5, "gateway, page and three backends: {ports:?}");

    demo_process.signal("INT");
    let code = until("the demo's end", || demo.try_wait().unwrap()).await;
    assert_eq!(code.code(), Some(0), "{:?}", log.all());
    for port in ports {
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "port {port} is open still");
    }
}

#[tokio::test]
async fn a_demo_leaves_no_temporary_files() {
    let temporary = tempfile::tempdir().unwrap();
    let left = || std::fs::read_dir(temporary.path()).unwrap().count();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_longhaul"))
        .args(["demo", "--tls", "--discover", "--listen", "127.0.0.1:0"])
        .env("TMPDIR", temporary.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let demo_process = Stray(demo.id());
    let words = Lines::of(demo.stdout.take().unwrap());
    words.find(&["open https://"]).await;
    assert_eq!(left(), 3, "folders of the certificate, the members and the counters");
    demo_process.signal("INT");
    let code = until("the demo's end", || demo.try_wait().unwrap()).await;
    assert_eq!(code.code(), Some(0));
    assert_eq!(left(), 0);
}

/// The ports that a process listens on, by /proc.
fn listening_ports(pid: u32) -> Vec<u16> {
    let descriptors = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).unwrap();
    let links = descriptors.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let sockets: Vec<PathBuf> = links.collect();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let listening = rows.filter(|row| row[3] == "0A");
    let ours = listening.filter(|row| sockets.contains(&PathBuf::from(format!("socket:[{}]", row[9]))));
    ours.map(|row| u16::from_str_radix(row[1].rsplit(':').next().unwrap(), 16).unwrap()).collect()
}
