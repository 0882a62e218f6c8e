//! Headers that the gateway vouches for come from the gateway alone, in any spelling.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

use crate::support::{Gateway, Named, Wire, one_upstream};
use crate::wire::switching;

const SECRET: &str = "a secret of thirty-two characters";

fn token(subject: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({ "sub": subject, "exp": now + 600 });
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

/// A gateway whose one route has `jwt`, which tells the backend the token's subject in `x-user`.
async fn guarded(backend: &Named, more: &str) -> (tempfile::TempDir, Gateway) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("secret"), SECRET).unwrap();
    let with = format!("{{ secret_file: {}, claims: {{ sub: x-user }} }}", dir.path().join("secret").display());
    let hooks = format!("- hooks: [{{ hook: jwt, with: {with} }}]\n    upstream");
    let yaml = one_upstream(&[backend.address()], "    health: off\n").replace("- upstream", &hooks);
    let gateway = Gateway::start(&format!("{more}{yaml}")).await;
    (dir, gateway)
}

/// The lines that reached the backend whose names are `name` where `_` and `-` are one, as CGI, WSGI and PHP have it.
fn folded(backend: &Named, name: &str) -> Vec<String> {
    let headers = backend.last().head.headers;
    let same = |header: &str| header.to_ascii_lowercase().replace('_', "-") == name;
    headers.into_iter().filter(|(header, _)| same(header)).map(|(header, value)| format!("{header}: {value}")).collect()
}

#[tokio::test]
async fn a_claim_cannot_be_forged_by_an_underscore_for_a_hyphen() {
    let backend = Named::start().await;
    let (_dir, gateway) = guarded(&backend, "").await;
    let bearer = format!("Authorization: Bearer {}\r\n", token("mallory"));
    for forged in ["X_User: admin\r\n", "x_user: admin\r\n", "X-User: admin\r\n", "X_User: admin\r\nX-User: admin\r\n"]
    {
        for upgrade in ["", UPGRADE] {
            let headers = format!("{forged}{bearer}{upgrade}");
            Wire::connect(gateway.address()).await.get("/", &headers).await;
            let lines = folded(&backend, "x-user");
            assert!(lines.len() == 1 && lines[0].ends_with(": mallory"), "{forged}: {lines:?}");
        }
    }
}

#[tokio::test]
async fn headers_that_the_gateway_writes_cannot_be_forged_by_an_underscore() {
    let backend = Named::start().await;
    let gateway = Gateway::start(&one_upstream(&[backend.address()], "    health: off\n")).await;
    for name in ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id"] {
        for upgrade in ["", UPGRADE] {
            let forged = format!("{}: forged\r\n{upgrade}", name.replace('-', "_"));
            Wire::connect(gateway.address()).await.get("/", &forged).await;
            let lines = folded(&backend, name);
            assert!(lines.len() == 1 && !lines[0].ends_with(": forged"), "{name}: {lines:?}");
        }
    }
}

#[tokio::test]
async fn underscores_are_kept_where_the_configuration_says_so() {
    let backend = Named::start().await;
    let yaml = one_upstream(&[backend.address()], "    health: off\n");
    let gateway = Gateway::start(&format!("underscores_in_headers: keep\n{yaml}")).await;
    for upgrade in ["", UPGRADE] {
        Wire::connect(gateway.address()).await.get("/", &format!("X_Plain: here\r\n{upgrade}")).await;
        assert_eq!(backend.last().head.all("x_plain"), ["here"]);
    }
}

/// nginx skips empty elements, too.
#[tokio::test]
async fn empty_elements_of_x_forwarded_for_are_no_addresses() {
    let backend = Named::start().await;
    let yaml = one_upstream(&[backend.address()], "    health: off\n");
    let gateway = Gateway::start(&format!("trusted_proxies: [127.0.0.0/8]\n{yaml}")).await;
    let lists = ["203.0.113.7,", "203.0.113.7, ,", " , 203.0.113.7", ",203.0.113.7,,127.0.0.9", "203.0.113.7,\t"];
    for (number, list) in lists.into_iter().enumerate() {
        let headers = format!("X-Forwarded-For: {list}\r\nX-Request-Id: list-{number}\r\n");
        assert_eq!(Wire::connect(gateway.address()).await.get("/", &headers).await.status(), 200);
        let line = gateway.access.find(&[&format!("request_id=list-{number} ")]).await;
        assert!(line.contains(" client=203.0.113.7 "), "{list:?}: {line}");
    }
}

/// The answers to the tests' upgrades: these backends know no WebSockets, and relay nothing.
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// RFC 9112 §5.1: a proxy removes the blank between a name and its colon, however the head is cut.
#[tokio::test]
async fn a_101_with_a_blank_before_a_colon_opens_the_tunnel_without_the_blank() {
    for pieces in [1, 2] {
        let mut backend = crate::wire::Manual::start().await;
        let gateway = crate::wire::gateway(&[backend.address()], "").await;
        let mut client = crate::wire::Wire::connect(gateway.address()).await;
        let upgrade = crate::wire::upgrade("");
        let (first, second) = upgrade.split_at(if pieces == 1 { upgrade.len() } else { 20 });
        client.send(first).await;
        if pieces == 2 {
            // Both workers have served somebody else since the first piece came.
            for _ in 0..4 {
                crate::wire::tunnel(&gateway, &mut backend).await;
            }
            client.send(second).await;
        }
        let mut server = backend.next().await;
        server.head().await;
        server.send(switching("X-Foo : bar\r\n")).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{pieces}: {head}");
        assert_eq!(crate::wire::field(&head, "x-foo"), Some("bar"), "{pieces}: {head}");
    }
}
