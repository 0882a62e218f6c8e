//! What a backend learns of the client, and what it may believe.

use std::net::Ipv4Addr;

use crate::support::{Gateway, Message, Named, Wire, one_upstream};

/// What the backend received when a client at `source` sent `headers`; proxies at 127.8.0.0/16 are trusted.
async fn received(source: [u8; 4], headers: &str) -> (Message, Message) {
    let backend = Named::start().await;
    let gateway =
        Gateway::start(&format!("{}trusted_proxies: [127.8.0.0/16]\n", one_upstream(&[backend.address()], ""))).await;
    let mut client = Wire::connect_from(Ipv4Addr::from(source), gateway.address()).await;
    let answer = client.get("/", headers).await;
    assert_eq!(answer.status(), 200);
    let line = gateway.access.find(&[" request "]).await;
    let seen = backend.last();
    let chain = seen.head.get("x-forwarded-for").unwrap();
    assert!(chain.ends_with(&Ipv4Addr::from(source).to_string()), "{chain}");
    assert!(line.contains(&format!(" peer={}:", Ipv4Addr::from(source))), "{line}");
    let client = line.split(" client=").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    (Message { body: client.into_bytes(), ..seen }, answer)
}

#[tokio::test]
async fn a_direct_client_is_named_and_cannot_name_itself() {
    let (seen, _) = received(
        [127, 0, 9, 1],
        "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: bank.test\r\n",
    )
    .await;
    assert_eq!(seen.head.get("x-forwarded-for").unwrap(), "203.0.113.7, 127.0.9.1");
    assert_eq!(seen.head.all("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.head.all("x-forwarded-host"), ["lab"]);
    assert_eq!(seen.head.all("host"), ["lab"]);
    assert_eq!(seen.text(), "127.0.9.1", "the log's client");
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_up_to_the_right_most_address_that_is_not() {
    let (seen, _) = received(
        [127, 8, 0, 1],
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.7, 127.8.4.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.test\r\n",
    )
    .await;
    assert_eq!(seen.head.all("x-forwarded-for"), ["6.6.6.6, 203.0.113.7, 127.8.4.4, 127.8.0.1"]);
    assert_eq!(seen.head.all("x-forwarded-proto"), ["https"]);
    assert_eq!(seen.head.all("x-forwarded-host"), ["shop.test"]);
    assert_eq!(seen.text(), "203.0.113.7", "the log's client");
}

#[tokio::test]
async fn a_trusted_proxy_that_names_nobody_is_the_client() {
    let (seen, _) = received([127, 8, 0, 2], "").await;
    assert_eq!(seen.head.all("x-forwarded-for"), ["127.8.0.2"]);
    assert_eq!(seen.head.all("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.head.all("x-forwarded-host"), ["lab"]);
    assert_eq!(seen.text(), "127.8.0.2");
}

#[tokio::test]
async fn a_request_id_is_made_passed_on_or_replaced() {
    let fresh = |id: &str| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    for (headers, expected) in [
        ("", None),
        ("X-Request-Id: abc-123/+=\r\n", Some("abc-123/+=")),
        ("X-Request-Id: two words\r\n", None),
        ("X-Request-Id:\r\n", None),
    ] {
        let (seen, answer) = received([127, 0, 9, 2], headers).await;
        let id = seen.head.get("x-request-id").unwrap();
        assert_eq!(seen.head.all("x-request-id").len(), 1);
        assert_eq!(answer.head.all("x-request-id"), [&id], "the client's answer has it too");
        match expected {
            Some(expected) => assert_eq!(id, expected),
            None => assert!(fresh(&id), "{headers:?} became {id}"),
        }
    }
    let long = "x".repeat(129);
    let (seen, _) = received([127, 0, 9, 2], &format!("X-Request-Id: {long}\r\n")).await;
    assert!(fresh(&seen.head.get("x-request-id").unwrap()));
}

#[tokio::test]
async fn connection_headers_stay_on_their_connection() {
    let (seen, _) =
        received([127, 0, 9, 3], "Connection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nX-Kept: 1\r\n")
            .await;
    for gone in ["x-hop", "keep-alive", "upgrade"] {
        assert_eq!(seen.head.get(gone), None, "{gone}");
    }
    assert_eq!(seen.head.get("x-kept").unwrap(), "1");
}
