//! Listening sockets across an upgrade whose configuration names others.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use tokio::net::TcpStream;

use crate::lab::{Lab, get, upgrade};
use crate::support::{Gateway, Wire, within};
use crate::{lab, ws::Tunnel};

/// Addresses that are free now, each another one: all are bound before any is let go. They are on a loopback address of
/// the test's own, so that no other test is given them meanwhile.
fn free<const COUNT: usize>(last: u8) -> [SocketAddr; COUNT] {
    let bound = [(); COUNT].map(|()| TcpListener::bind((Ipv4Addr::new(127, 97, 1, last), 0)).unwrap());
    bound.map(|listener| listener.local_addr().unwrap())
}

/// Puts other listeners into a gateway's file.
fn listen_on(gateway: &Gateway, listeners: &[SocketAddr]) {
    let file = gateway.dir.path().join("longhaul.yaml");
    let yaml = std::fs::read_to_string(&file).unwrap();
    let (head, rest) = yaml.split_once("listeners:\n").unwrap();
    let (_, rest) = rest.split_once("metrics:\n").unwrap();
    std::fs::write(&file, format!("{head}listeners:\n{}metrics:\n{rest}", lines(listeners))).unwrap();
}

fn lines(listeners: &[SocketAddr]) -> String {
    listeners.iter().map(|address| format!("  - address: {address}\n")).collect()
}

/// Waits until connections are refused; those that nobody accepts any more are reset.
async fn refuses(address: SocketAddr) {
    loop {
        match TcpStream::connect(address).await {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => return,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
            Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
        }
    }
}

#[tokio::test]
async fn added_listeners_are_bound_and_removed_ones_refuse() {
    let lab = Lab::start().await;
    let [kept, removed, added] = free(1);
    let yaml =
        lab.config("").replace("  - address: 127.0.0.1:0\nmetrics", &format!("{}metrics", lines(&[removed, kept])));
    let mut gateway = lab::ready(Gateway::start(&yaml).await).await;
    let mut tunnel = Tunnel::open(removed, "/echo").await;
    let mut slow = Wire::connect(removed).await;
    slow.send("GET /slow HTTP/1.1\r\nHost: lab\r\n\r\n").await;
    lab.arrived().await;
    listen_on(&gateway, &[kept, added]);
    let _new = lab::ready(gateway.successor().await).await;
    for address in [kept, added] {
        assert_eq!(get(address).await, lab.address());
    }
    // The address is free even while the old process still has an answer to give.
    within("the removed listener to refuse", refuses(removed)).await;
    tunnel.echoes().await;
    lab.gate.send(true).unwrap();
    assert_eq!(slow.answer().await.text(), "firstother");
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn every_listener_stays_when_the_handover_fails() {
    let lab = Lab::start().await;
    let [kept, removed, taken] = free(2);
    let yaml =
        lab.config("").replace("  - address: 127.0.0.1:0\nmetrics", &format!("{}metrics", lines(&[removed, kept])));
    let gateway = lab::ready(Gateway::start(&yaml).await).await;
    let _other = TcpListener::bind(taken).unwrap();
    listen_on(&gateway, &[kept, taken]);
    let mut failed = Gateway::begin(gateway.dir.clone(), &["-u"], &[]);
    assert_eq!(failed.ended().await, Some(1));
    failed.log.find(&[&format!("cannot listen on {taken}")]).await;
    gateway.log.find(&["the handover failed, this process goes on"]).await;
    for address in [kept, removed] {
        assert_eq!(get(address).await, lab.address());
    }
}

#[tokio::test]
async fn listeners_on_port_0_keep_their_ports_in_their_order() {
    let lab = Lab::start().await;
    let yaml = lab
        .config("")
        .replace("  - address: 127.0.0.1:0\nmetrics", "  - address: 127.0.0.1:0\n  - address: 127.0.0.1:0\nmetrics");
    let mut gateway = lab::ready(Gateway::start(&yaml).await).await;
    let before = (gateway.addresses.clone(), gateway.metrics);
    for _ in 0..2 {
        upgrade(&mut gateway).await;
        assert_eq!((gateway.addresses.clone(), gateway.metrics), before);
        for address in &before.0 {
            assert_eq!(get(*address).await, lab.address());
        }
        assert_eq!(
            gateway.metric("longhaul_backend_up{backend=\"x\",upstream=\"u\"}").await,
            0.0,
            "metrics are served"
        );
    }
}
