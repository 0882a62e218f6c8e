//! Clients that arrive while one process takes over from another, and clients whose answers are under way.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;

use crate::lab::{Lab, get, ready, upgrade};
use crate::support::{Gateway, Wire, within};
use crate::ws::{Tunnel, ask, finish_handshake};

#[tokio::test]
async fn a_client_that_connects_and_asks_over_and_over_sees_not_one_failure() {
    let lab = Lab::start().await;
    let mut gateway = lab.gateway("").await;
    let (address, backend) = (gateway.address(), lab.address());
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            tokio::spawn(async move {
                while !stop.load(SeqCst) {
                    let mut client = Wire::connect(address).await;
                    client.send("GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n").await;
                    assert_eq!(client.answer().await.address(), backend);
                    answered.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    for number in 0..10 {
        upgrade(&mut gateway).await;
        assert!(clients.iter().all(|client| !client.is_finished()), "a request failed during upgrade {number}");
    }
    stop.store(true, SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    assert!(answered.load(SeqCst) > 40, "{}", answered.load(SeqCst));
}

#[tokio::test]
async fn a_client_in_the_middle_of_a_head_finishes_it_at_the_old_process_which_then_ends() {
    let lab = Lab::start().await;
    let mut old = lab.gateway("").await;
    let [mut between, mut kept] = [Wire::connect(old.address()).await, Wire::connect(old.address()).await];
    for wire in [&mut between, &mut kept] {
        assert_eq!(wire.get("/", "").await.address(), lab.address());
    }
    kept.send("GET / HTTP/1.1\r\nHo").await;
    let mut first = Wire::connect(old.address()).await;
    first.send("G").await;
    let silent = Wire::connect(old.address()).await;
    let mut handshake = Wire::connect(old.address()).await;
    handshake.send("GET /echo HTTP/1.1\r\nHost: lab\r\nUpgrade: websocket\r\nConn").await;
    // The answer shows that the others were accepted before it.
    get(old.address()).await;

    let new = ready(old.successor().await).await;
    // It closes when the old process has waited for a last request for as long as it does.
    assert!(between.head().await.unwrap().is_none());
    assert!(old.status().is_none(), "clients are in the middle of a head");
    let rests =
        [(kept, "st: lab\r\n"), (first, "ET / HTTP/1.1\r\nHost: lab\r\n"), (silent, "GET / HTTP/1.1\r\nHost: lab\r\n")];
    for (mut wire, rest) in rests {
        wire.send(format!("{rest}\r\n")).await;
        let answer = wire.answer().await;
        assert_eq!((answer.address(), answer.head.get("connection").as_deref()), (lab.address(), Some("close")));
    }
    assert!(old.status().is_none(), "a handshake is left");
    handshake
        .send("ection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        .await;
    let mut stream = handshake.stream.into_inner();
    finish_handshake(&mut stream).await;
    assert_eq!(old.ended().await, Some(0));
    Tunnel::of(stream).echoes().await;
    new.metric_becomes("longhaul_tunnels_adopted_total{upstream=\"u\"}", 1.0).await;
}

#[tokio::test]
async fn the_old_process_waits_for_a_head_as_long_as_any_head_may_take() {
    let lab = Lab::start().await;
    let limits = "limits: { head: { time: 1s } }\n";
    let mut old = ready(Gateway::start(&format!("{}{limits}", lab.config(""))).await).await;
    let mut client = Wire::connect(old.address()).await;
    client.send("GET / HTTP/1.1\r\nHo").await;
    get(old.address()).await;
    let _new = ready(old.successor().await).await;
    assert_eq!(client.answer().await.status(), 408);
    drop(client);
    assert_eq!(old.ended().await, Some(0));
}

#[tokio::test]
async fn answers_under_way_end_in_the_old_process_which_then_ends() {
    let lab = Lab::start().await;
    let mut old = lab.gateway("").await;
    let mut slow = Wire::connect(old.address()).await;
    slow.send("GET /slow HTTP/1.1\r\nHost: lab\r\n\r\n").await;
    assert_eq!(lab.arrived().await.path, "/slow");
    let mut events = Wire::connect(old.address()).await;
    events.send("GET /events HTTP/1.1\r\nHost: lab\r\n\r\n").await;
    let mut source = lab.puppet().await;
    events.head().await.unwrap().unwrap();
    source.write_all(b"7\r\ndata: 1\r\n").await.unwrap();
    assert_eq!(events.chunk().await.unwrap().unwrap(), b"data: 1");

    let new = ready(old.successor().await).await;
    assert!(old.status().is_none(), "two answers are under way");
    get(new.address()).await;
    source.write_all(b"7\r\ndata: 2\r\n").await.unwrap();
    assert_eq!(events.chunk().await.unwrap().unwrap(), b"data: 2");
    lab.gate.send(true).unwrap();
    assert_eq!(slow.answer().await.text(), "firstother");
    assert!(old.status().is_none(), "events still come");
    source.write_all(b"7\r\ndata: 3\r\n0\r\n\r\n").await.unwrap();
    assert_eq!(events.chunk().await.unwrap().unwrap(), b"data: 3");
    assert_eq!(events.chunk().await.unwrap(), None);
    assert_eq!(old.ended().await, Some(0));
    old.access.find_nth(&[" request ", " status=200 "], 1).await;
}

#[tokio::test]
async fn a_handshake_under_way_becomes_a_tunnel_that_moves() {
    let lab = Lab::start().await;
    let mut old = lab.gateway("").await;
    let mut stream = ask(old.address(), "/late", None).await;
    assert_eq!(lab.arrived().await.path, "/late");
    let new = ready(old.successor().await).await;
    let mut others = Tunnel::open(new.address(), "/echo").await;
    assert!(old.status().is_none(), "a handshake is under way");
    lab.gate.send(true).unwrap();
    finish_handshake(&mut stream).await;
    let mut tunnel = Tunnel::of(stream);
    tunnel.echoes().await;
    assert_eq!(old.ended().await, Some(0));
    tunnel.echoes().await;
    others.echoes().await;
    new.metric_becomes("longhaul_tunnels_adopted_total{upstream=\"u\"}", 1.0).await;
    old.log.find(&["handed over: 1 tunnel moved, 0 stayed"]).await;
}

#[tokio::test]
async fn a_successor_may_go_into_the_background() {
    let lab = Lab::start().await;
    let yaml = lab.config("").replace("version: 1\n", "version: 1\npid_file: {dir}/pid\nerror_log: {dir}/error.log\n");
    let mut old = ready(Gateway::start(&yaml).await).await;
    let mut tunnel = Tunnel::open(old.address(), "/echo").await;
    tunnel.echoes().await;
    let dir = Arc::clone(&old.dir);
    let mut foreground = Gateway::begin(Arc::clone(&dir), &["-u", "-d"], &[]);
    assert_eq!(foreground.ended().await, Some(0), "{:?}", foreground.log.all());
    // The process in the background writes its number when the one in the foreground has gone.
    let pid_file = dir.path().join("pid");
    within("the pid file", async {
        while !std::fs::read_to_string(&pid_file).is_ok_and(|text| text.trim().parse::<i32>().is_ok()) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let background = Background::of(&pid_file);
    assert_eq!(old.ended().await, Some(0), "{:?}", old.log.all());
    tunnel.echoes().await;
    assert_eq!(get(old.address()).await, lab.address());
    drop(background);
}

/// A process in the background. It is killed when dropped.
struct Background(Pid);

impl Background {
    fn of(file: &Path) -> Self {
        let number = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        Self(Pid::from_raw(number).unwrap())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = kill_process(self.0, Signal::KILL);
    }
}
