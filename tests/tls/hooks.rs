//! The client's TLS as hooks see it.

use std::fs;
use std::sync::Arc;

use crate::client::{Client, VERSIONS, config};
use crate::lab::yaml;
use crate::support::certificates::Authority;
use crate::support::{Gateway, Named, Wire, folder, hooked};

/// The header by which the hook `acting` tells all that it sees, of a request or of an upgrade.
const TELL: &str = "X-Act: a request tell\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn hooks_know_that_a_client_came_by_tls_and_with_which_certificate() {
    let backend = Named::start().await;
    let tls = "      client_auth: { ca: '{dir}/clients.pem', mode: optional }\n";
    let text =
        yaml(&[backend.address()], tls, "").replace("  - upstream: u\n", "  - { upstream: u, hooks: [acting] }\n");
    let dir = folder(&text.replace("version: 1\n", "version: 1\ntrusted_proxies: [127.0.0.2]\n"));
    let (authority, clients) = (Authority::new("Test Authority"), Authority::new("Clients"));
    authority.issue(&["a.test"]).write(dir.path(), "a");
    fs::write(dir.path().join("clients.pem"), &clients.pem).unwrap();
    let gateway = Gateway::begin_with(&hooked(), Arc::clone(&dir), &[], &[]).listening().await;

    let alice = clients.issue(&["alice.test"]);
    for version in VERSIONS {
        for (own, certificate) in [(None, false), (Some(&alice), true)] {
            let config = config(&authority.pem, &[version], own);
            // The second session is resumed, and has the certificate of the first.
            for _ in 0..2 {
                let mut client = Client::connect(gateway.address(), "a.test", &config).unwrap();
                let (_, told) = client.get("/", TELL);
                assert!(told.contains(" secure=true "), "{told}");
                assert_eq!(told.contains("\"alice.test\""), certificate, "{told}");
                assert_eq!(told.contains("certificate=None"), !certificate, "{told}");
            }
            let mut client = Client::connect(gateway.address(), "a.test", &config).unwrap();
            client.send(format!(
                "GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{}\r\n",
                TELL.replace("request", "upgrade")
            ));
            let head = client.head().to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
            let told = String::from_utf8(client.exactly(length)).unwrap();
            assert!(told.contains(" upgrade=true ") && told.contains(" secure=true "), "{told}");
            assert_eq!(told.contains("\"alice.test\""), certificate, "{told}");
        }
    }

    // A plain client cannot say so itself, and a trusted proxy may say it of its client.
    let claimed = format!("X-Forwarded-Proto: https\r\n{TELL}");
    for (from, secure) in [([127, 0, 0, 1], "secure=false"), ([127, 0, 0, 2], "secure=true")] {
        let mut plain = Wire::connect_from(from.into(), gateway.addresses[1]).await;
        let told = plain.get("/", &claimed).await.text();
        assert!(told.contains(secure) && told.contains("certificate=None"), "{told}");
    }
}
