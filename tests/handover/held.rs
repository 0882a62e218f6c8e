//! Tunnels that an operator holds, across a handover: the id stays, and so does the end that was announced.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::lab::{Lab, blocking, upgrade};
use crate::support::Gateway;
use crate::ws::{CLOSE, Tunnel};

async fn longhaul(gateway: &Gateway, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.args(arguments).arg("--socket").arg(gateway.dir.path().join("control.sock"));
    blocking(move || command.stdin(Stdio::null()).output().unwrap()).await
}

/// The only open tunnel.
async fn row(gateway: &Gateway) -> Value {
    let output = longhaul(gateway, &["tunnels", "--json"]).await;
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[tokio::test]
async fn a_tunnel_keeps_its_id_and_the_end_that_an_operator_announced() {
    let lab = Lab::start().await;
    let mut gateway = lab.gateway("").await;
    gateway.log.find(&["control socket at"]).await;
    let mut tunnel = Tunnel::open(gateway.address(), "/echo").await;
    tunnel.echoes().await;
    let before = row(&gateway).await;
    let id = before["id"].as_str().unwrap().to_owned();
    assert_eq!(before["generation"], 1);
    let said = longhaul(&gateway, &["close", &id, "--over", "1d", "--code", "4001", "--reason", "bye"]).await;
    assert!(said.status.success(), "{said:?}");

    upgrade(&mut gateway).await;
    gateway.log.find(&["control socket at"]).await;
    let after = row(&gateway).await;
    assert_eq!((&after["id"], &after["generation"]), (&before["id"], &Value::Null));
    assert_eq!((&after["ends"]["reason"], &after["peer"]), (&"operator_closed".into(), &before["peer"]));
    tunnel.echoes().await;

    // Where it is planned is seen by bringing it nearer: without words of its own the first command's do not stay.
    let said = longhaul(&gateway, &["close", &id, "--code", "4002", "--reason", "now"]).await;
    assert!(said.status.success(), "{said:?}");
    let close = tunnel.receive().await;
    assert_eq!((close.first, &*close.payload), (CLOSE, &[&4002_u16.to_be_bytes()[..], b"now"].concat()[..]));
    tunnel.send(&crate::ws::frame(CLOSE, &4002_u16.to_be_bytes(), true)).await;
    gateway.access.find(&["tunnel_end", &format!("tunnel={id}"), "reason=operator_closed", "close_code=4002"]).await;
}
