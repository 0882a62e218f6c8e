//! Whatever is refused leaves a trace: an answer of ours with a request id, a line in the access log, a count.

use std::net::Ipv4Addr;
use std::process::Command;

use crate::cast::connect;
use crate::support::{Gateway, Named, one_upstream};
use crate::wire::Wire;

const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 66, 0, 1);

/// The gateway can be told apart from one that hangs: a request that is good is served by the same worker.
#[tokio::test]
async fn heads_that_are_never_finished_hold_up_nobody() {
    let backend = Named::start().await;
    let gateway = Gateway::start(&one_upstream(&[backend.address()], "    health: off\n")).await;
    let mut slow: Vec<Wire> = Vec::new();
    for number in 0..200 {
        let mut client = connect(Ipv4Addr::new(127, 66, 1, number), gateway.address()).await;
        client.send(format!("GET / HTTP/1.1\r\nHost: lab\r\nX-Filler: {}", "x".repeat(4_000))).await;
        slow.push(client);
    }
    for _ in 0..20 {
        let mut client = connect(CLIENT, gateway.address()).await;
        client.send("GET / HTTP/1.1\r\nHost: lab\r\n\r\n").await;
        assert_eq!(client.answer().await.status(), 200);
    }
}

#[test]
fn check_blames_the_port_where_the_port_is_wrong() {
    for address in ["127.0.0.1:notaport", "127.0.0.1:", "127.0.0.1:99999", "[::1]:x"] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("longhaul.yaml");
        let yaml = format!(
            "version: 1\nlisteners: [{{ address: 127.0.0.1:0 }}]\nroutes: [{{ upstream: u }}]\n\
             upstreams:\n  u:\n    backends: [\"{address}\"]\n"
        );
        std::fs::write(&file, yaml).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_longhaul")).arg("check").arg("-c").arg(&file).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("port"), "{address}: {said}");
        assert!(!said.contains("is not an IP address"), "{address}: {said}");
    }
}
