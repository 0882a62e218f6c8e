//! The demo as a program: its page, its tunnels, its end.

use std::collections::BTreeSet;
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
    let ours = sockets_of(demo.id());
    let listening: Vec<_> = listening().intersection(&ours).cloned().collect();
    assert!(listening.len() >= 5, "gateway, page and three backends: {listening:?}");

    demo_process.signal("INT");
    let code = until("the demo's end", || demo.try_wait().unwrap()).await;
    assert_eq!(code.code(), Some(0), "{:?}", log.all());
    // By socket: another test may have been given the port of one since.
    let open: Vec<_> = self::listening().intersection(&ours).cloned().collect();
    assert!(open.is_empty(), "{open:?} are open still");
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

/// The sockets of a process, by /proc.
fn sockets_of(pid: u32) -> BTreeSet<PathBuf> {
    let descriptors = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).unwrap();
    descriptors.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok()).collect()
}

/// The sockets that listen, whosever they are.
fn listening() -> BTreeSet<PathBuf> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[3] == "0A").map(|row| format!("socket:[{}]", row[9]).into()).collect()
}
