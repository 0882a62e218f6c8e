//! Tunnels with hooks over a handover: what hooks keep goes along, and a tunnel whose hook cannot say it is ended.

use tokio::net::TcpStream;

use crate::lab::{Lab, ready, upgrade};
use crate::support::Gateway;
use crate::ws::{CLOSE, Frame, Tunnel, all_echo, frame, open_several};

const TEXT: u8 = 0x81;

async fn gateway(lab: &Lab, hook: &str, more: &str) -> Gateway {
    let yaml = lab.config("").replace("- upstream", &format!("- hooks: [{hook}]\n    upstream")) + more;
    ready(Gateway::start_hooked(&yaml).await).await
}

async fn counts(tunnel: &mut Tunnel) -> String {
    tunnel.send(&frame(TEXT, b"count", true)).await;
    String::from_utf8(tunnel.receive().await.payload).unwrap()
}

#[tokio::test]
async fn what_hooks_keep_of_tunnels_and_of_their_own_goes_along() {
    let lab = Lab::start().await;
    let mut gateway = gateway(&lab, "keeping", "").await;
    let mut tunnels = open_several(gateway.address(), 40).await;
    all_echo(&mut tunnels).await;
    assert_eq!(counts(&mut tunnels[0]).await, "2 of 41");
    let opened = gateway.access.find(&[" tunnel_open "]).await;
    let id = opened.split(" tunnel=").nth(1).expect("its id is logged").trim().to_owned();
    let old = upgrade(&mut gateway).await;
    assert!(!old.log.all().iter().any(|line| line.contains("kept: ") && line.contains("closed")), "nothing has ended");
    assert_eq!(counts(&mut tunnels[0]).await, "3 of 42");
    assert_eq!(counts(&mut tunnels[39]).await, "2 of 43");
    all_echo(&mut tunnels).await;
    assert!(!gateway.log.all().iter().any(|line| line.contains("kept: ") && line.contains("opened")), "nor begun");
    for tunnel in tunnels {
        tunnel.close().await;
    }
    let end = gateway.access.find(&[" tunnel_end ", &format!("tunnel={id}")]).await;
    assert!(end.contains("reason=client_close") && end.contains(" kept="), "{end}");
    gateway.log.find(&["kept: ", "closed, client_close after 4"]).await;
}

#[tokio::test]
async fn a_message_goes_on_where_it_stood() {
    let lab = Lab::start().await;
    let mut gateway = gateway(&lab, "keeping", "").await;
    let mut tunnels = open_several(gateway.address(), 2).await;
    all_echo(&mut tunnels).await;
    let [first, second] = [frame(0x01, &[b'a'; 70_000], true), frame(0x80, b"b", true)];
    tunnels[0].send(&first[..50_000]).await;
    upgrade(&mut gateway).await;
    tunnels[0].send(&[&first[50_000..], &second].concat()).await;
    let whole = [&[b'a'; 70_000][..], b"b"].concat();
    assert_eq!(tunnels[0].receive().await, Frame { first: TEXT, payload: whole });
    all_echo(&mut tunnels).await;
}

#[tokio::test]
async fn a_tunnel_whose_hook_cannot_pack_is_ended_within_the_window_and_counted_as_one_that_stayed() {
    let lab = Lab::start().await;
    let hook = "{ hook: keeping, with: { packs: false } }";
    let mut old = gateway(&lab, hook, "drain: { window: 100ms, code: 1012 }\n").await;
    let mut tunnels = open_several(old.address(), 5).await;
    all_echo(&mut tunnels).await;
    let new = ready(old.successor().await).await;
    for mut tunnel in tunnels {
        let closed = tunnel.receive().await;
        assert_eq!((closed.first, closed.code()), (CLOSE, 1012));
        tunnel.close().await;
    }
    assert_eq!(old.ended().await, Some(0));
    old.log.find(&["5 tunnels cannot move: the end comes within 100ms"]).await;
    old.log.find(&["handed over: 0 tunnels moved, 5 stayed"]).await;
    for _ in 0..5 {
        old.log.find(&["kept: ", "closed, shutdown after 1"]).await;
    }
    assert_eq!(old.access.to_the_end().await.iter().filter(|line| line.contains(" reason=shutdown")).count(), 5);
    TcpStream::connect(new.address()).await.unwrap();
}
