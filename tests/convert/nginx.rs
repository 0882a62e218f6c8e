//! Conversions of nginx's configurations beside nginx.

use crate::beside::{Question, ask};
use crate::peer::Pair;

fn clients(count: u8) -> impl Iterator<Item = [u8; 4]> {
    (0..count).map(|number| [127, 3 + number, 7, 1])
}

#[tokio::test]
async fn consistent_hashes_keep_every_client() {
    let http = "upstream u { hash $cookie_sid consistent; server {0}; server {1} weight=2; server {2}; }
        server { listen 127.0.0.1:8080; location / { proxy_pass http://u; proxy_read_timeout 1h; } }";
    let pair = Pair::nginx(0, http, 3).await;
    assert!(pair.summary.contains("  u: yes: "), "{}", pair.summary);
    let with = |number: u32| ask("lab", "/a").with("Cookie", &format!("x=1; sid=client{number}"));
    pair.agree((0..100).map(with)).await;
    pair.agree((0..50).map(|number| with(number).upgrade())).await;
}

#[tokio::test]
async fn a_map_of_a_cookie_or_the_address_keeps_every_client() {
    let http = "map $cookie_sid $key { '' $remote_addr; default $cookie_sid; }
        upstream u { hash $key consistent; server {0}; server {1}; server {2}; }
        server { listen 127.0.0.1:8080; location / { proxy_pass http://u; } }";
    let pair = Pair::nginx(1, http, 3).await;
    assert!(pair.summary.contains("  u: yes: "), "{}", pair.summary);
    pair.agree(clients(60).map(|client| ask("lab", "/").from(client))).await;
    pair.agree((0..60).map(|number| ask("lab", "/").with("Cookie", &format!("sid=c{number}")))).await;
}

#[tokio::test]
async fn ip_hash_is_as_sticky_on_the_ring() {
    let http = "upstream u { ip_hash; server {0}; server {1}; server {2}; }
        server { listen 127.0.0.1:8080; location / { proxy_pass http://u; } }";
    let pair = Pair::nginx(2, http, 3).await;
    assert!(pair.summary.contains("  u: no, they move once: "), "{}", pair.summary);
    pair.are_sticky(clients(60).map(|client| ask("lab", "/socket.io/").from(client))).await;
    pair.are_sticky(clients(60).map(|client| ask("lab", "/").from(client).upgrade())).await;
}

#[tokio::test]
async fn virtual_hosts_and_locations_lead_to_the_same_backends() {
    let http = "server { listen 127.0.0.1:8080 default_server; server_name _; return 404; }
        server { listen 127.0.0.1:8080; server_name chat.example.com *.chat.example.com;
            location / { proxy_pass http://{0}; }
            location /ws/ { proxy_pass http://{1}; proxy_read_timeout 1d; }
            location ~ ^/(api|rpc)/ { proxy_pass http://{2}; } }
        server { listen 127.0.0.1:8080; server_name .rooms.example.com; location /rooms { proxy_pass http://{1}; } }";
    let pair = Pair::nginx(3, http, 3).await;
    let hosts = [
        "chat.example.com",
        "CHAT.example.com:80",
        "a.chat.example.com",
        "a.b.chat.example.com",
        "rooms.example.com",
        "x.rooms.example.com",
        "example.com",
        "other",
    ];
    let paths = ["/", "/ws/", "/ws/a?b=c", "/api/x", "/rpc/", "/index.html"];
    let all = |host: &&'static str| {
        let host = *host;
        paths.iter().map(move |path| ask(host, path))
    };
    let served = hosts.iter().filter(|host| !host.contains("rooms")).flat_map(all);
    pair.agree(served).await;
    pair.agree(hosts.iter().map(|host| ask(host, "/rooms"))).await;
    pair.agree(hosts.iter().map(|host| ask(host, "/rooms/1").upgrade())).await;
}

#[tokio::test]
async fn a_map_of_hosts_leads_to_the_same_backends() {
    let http = "map $host $backend { hostnames; default a; chat.example.com b; .rooms.example c; }
        upstream a { server {0}; } upstream b { server {1}; } upstream c { server {2}; }
        server { listen 127.0.0.1:8080; location / { proxy_pass http://$backend; } }";
    let pair = Pair::nginx(4, http, 3).await;
    let hosts = ["chat.example.com", "rooms.example", "x.rooms.example", "x.y.rooms.example", "other", "example.com"];
    pair.agree(hosts.iter().flat_map(|host| [ask(host, "/a"), ask(host, "/ws").upgrade()])).await;
}

#[tokio::test]
async fn filters_and_limits_answer_alike() {
    let http = "client_max_body_size 1k;
        server { listen 127.0.0.1:8080;
            location / { proxy_pass http://{0}; }
            location /big { client_max_body_size 1m; proxy_pass http://{0}; }
            location /inside { deny 127.9.1.0/24; allow 127.9.0.0/16; deny all; proxy_pass http://{0}; }
            location /shut { deny 127.5.0.0/16; proxy_pass http://{0}; }
            location /closed { return 403; } }";
    let pair = Pair::nginx(5, http, 1).await;
    let addresses = [[127, 9, 1, 1], [127, 9, 2, 1], [127, 5, 0, 1], [127, 0, 0, 1]];
    let paths = ["/", "/inside", "/inside/a", "/shut", "/closed"];
    let asked = paths.iter().flat_map(|path| addresses.iter().map(move |client| ask("lab", path).from(*client)));
    pair.agree(asked.clone()).await;
    pair.agree(asked.map(Question::upgrade)).await;
    let sized = |path: &str, size: usize| {
        // The body is announced, and not sent: a gateway that refuses says so from the head.
        ask("lab", path).with("Content-Length", &size.to_string()).with("Connection", "close")
    };
    for (path, size) in [("/", 1_025), ("/big", (1 << 20) + 1)] {
        let (theirs, ours) = pair.ask(&sized(path, size)).await;
        assert_eq!((theirs.status, ours.status), (413, 413), "{path}");
    }
}

#[tokio::test]
async fn the_way_to_https_is_the_same_but_for_its_number() {
    let http = "server { listen 127.0.0.1:8080; server_name a.example.com b.example.com;
            return 301 https://$host$request_uri; }
        server { listen 127.0.0.1:8099; location / { proxy_pass http://{0}; } }";
    let pair = Pair::nginx(6, http, 1).await;
    for question in [ask("a.example.com", "/x?y=1"), ask("b.example.com", "/")] {
        let (theirs, ours) = pair.ask(&question).await;
        assert_eq!((theirs.status, ours.status), (301, 308));
        assert_eq!(theirs.location, ours.location);
    }
}
