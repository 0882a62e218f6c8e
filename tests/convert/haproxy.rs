//! Conversions of HAProxy's configurations beside HAProxy.

use crate::beside::{Question, ask};
use crate::peer::Pair;

fn clients(count: u8) -> impl Iterator<Item = [u8; 4]> {
    (0..count).map(|number| [127, 3 + number, 7, 1])
}

#[tokio::test]
async fn a_hash_of_the_address_is_as_sticky() {
    let source = "frontend f\n    bind 127.0.0.1:8080\n    default_backend b\nbackend b\n    balance source\n    \
                  hash-type consistent\n    server a {0}\n    server b {1}\n    server c {2}\n";
    let pair = Pair::haproxy(source, 3).await;
    assert!(pair.summary.contains("  b: no, they move once: "), "{}", pair.summary);
    pair.are_sticky(clients(60).map(|client| ask("lab", "/").from(client))).await;
    pair.are_sticky(clients(60).map(|client| ask("lab", "/ws").from(client).upgrade())).await;
}

#[tokio::test]
async fn a_hash_of_a_header_and_a_table_are_as_sticky() {
    let source = "frontend f\n    bind 127.0.0.1:8080\n    use_backend t if { path_beg /table }\n    \
                  default_backend b\nbackend b\n    balance hdr(X-Room)\n    server a {0}\n    server b {1}\n\
                  backend t\n    stick-table type ip size 10k expire 1h\n    stick on src\n    server a {0}\n    \
                  server b {1}\n";
    let pair = Pair::haproxy(source, 2).await;
    pair.are_sticky((0..60).map(|room| ask("lab", "/").with("X-Room", &format!("room{room}")))).await;
    pair.are_sticky(clients(60).map(|client| ask("lab", "/table/a").from(client))).await;
}

#[tokio::test]
async fn a_cookie_brings_clients_back() {
    let source = "frontend f\n    bind 127.0.0.1:8080\n    default_backend b\nbackend b\n    balance roundrobin\n    \
                  cookie SRV insert indirect nocache\n    server a {0} cookie a\n    server b {1} cookie b\n    \
                  server c {2} cookie c\n";
    let pair = Pair::haproxy(source, 3).await;
    assert!(pair.summary.contains("`longhaul` holds a key"), "{}", pair.summary);
    for _ in 0..20 {
        let first = ask("lab", "/login");
        for address in [pair.peer.address, pair.gateway.address()] {
            let answer = first.ask(address).await;
            let cookie = answer.cookie.expect("a cookie is set");
            for question in [ask("lab", "/a"), ask("lab", "/ws").upgrade()] {
                let again = question.with("Cookie", &cookie).ask(address).await;
                assert_eq!(again.backend, answer.backend);
                assert_eq!(again.cookie, None, "a client that has one gets no second");
            }
        }
    }
}

#[tokio::test]
async fn rules_on_host_and_path_lead_to_the_same_backends() {
    let source = "frontend f\n    bind 127.0.0.1:8080\n    acl chat hdr(host) -i chat.example.com\n    \
                  acl rooms hdr_end(host) -i .rooms.example.com\n    acl api path_beg /api/\n    \
                  use_backend b if api\n    use_backend a if chat\n    use_backend c if rooms { path_beg /ws }\n    \
                  use_backend b if rooms\n    default_backend d\n\
                  backend a\n    server s {0}\nbackend b\n    server s {1}\nbackend c\n    server s {2}\n\
                  backend d\n    server s {3}\n";
    let pair = Pair::haproxy(source, 4).await;
    let hosts = ["chat.example.com", "Chat.Example.com", "a.rooms.example.com", "rooms.example.com", "other"];
    let paths = ["/", "/api/x", "/ws", "/ws/a?b=c", "/apis"];
    let all = hosts.iter().flat_map(|host| paths.iter().map(move |path| ask(host, path)));
    pair.agree(all.clone()).await;
    pair.agree(all.map(Question::upgrade)).await;
}

#[tokio::test]
async fn rules_that_refuse_answer_alike() {
    let source = "frontend f\n    bind 127.0.0.1:8080\n    acl office src 127.9.0.0/16\n    \
                  acl banned src 127.5.0.0/16\n    http-request deny if banned\n    \
                  http-request deny if { path_beg /internal } !office\n    \
                  http-request deny if { path_beg /shut }\n    default_backend b\nbackend b\n    server s {0}\n";
    let pair = Pair::haproxy(source, 1).await;
    let addresses = [[127, 9, 1, 1], [127, 5, 0, 1], [127, 0, 0, 1]];
    let paths = ["/", "/internal", "/internal/a", "/shut/x"];
    let asked = paths.iter().flat_map(|path| addresses.iter().map(move |client| ask("lab", path).from(*client)));
    pair.agree(asked.clone()).await;
    pair.agree(asked.map(Question::upgrade)).await;
}
