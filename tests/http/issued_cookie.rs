//! The cookie that Longhaul issues: on answers of every kind, with its attributes, and only where it is due.

use std::net::{Ipv4Addr, SocketAddr};

use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use crate::support::{Backend, Gateway, Message, Named, Wire, one_upstream, within};

const ISSUE: &str = "    affinity: [issue_cookie: {}]\n";

fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// The `NAME=VALUE` and the attributes of the one cookie of this name.
fn cookie_of(answer: &Message, name: &str) -> (String, Vec<String>) {
    let all = answer.head.all("set-cookie");
    let mut ours = all.iter().filter(|cookie| cookie.starts_with(&format!("{name}=")));
    let cookie = ours.next().unwrap_or_else(|| panic!("no {name} in {all:?}"));
    assert!(ours.next().is_none(), "{all:?}");
    let mut parts = cookie.split("; ").map(str::to_owned);
    let pair = parts.next().unwrap();
    let mut attributes: Vec<String> = parts.collect();
    attributes.sort();
    (pair, attributes)
}

#[tokio::test]
async fn it_is_set_beside_the_backends_own_cookies_and_brings_the_client_back() {
    let mut backends = Vec::new();
    for _ in 0..4 {
        backends.push(
            Named::answering(any(), |_| "Set-Cookie: app=1; Path=/\r\nSet-Cookie: theme=dark\r\n".to_owned()).await,
        );
    }
    let addresses: Vec<_> = backends.iter().map(Named::address).collect();
    let gateway = Gateway::start(&one_upstream(&addresses, ISSUE)).await;
    let mut values = std::collections::BTreeSet::new();
    let mut homes = std::collections::BTreeSet::new();
    for _ in 0..24 {
        let mut client = Wire::connect(gateway.address()).await;
        let first = client.get("/", "").await;
        let all = first.head.all("set-cookie");
        assert_eq!((all[0], all[1], all.len()), ("app=1; Path=/", "theme=dark", 3));
        let (pair, attributes) = cookie_of(&first, "longhaul");
        assert_eq!(attributes, ["HttpOnly", "Path=/", "SameSite=Lax"]);
        let value = pair.strip_prefix("longhaul=").unwrap();
        assert!(value.len() == 32 && value.bytes().all(|byte| byte.is_ascii_hexdigit()), "{value}");

        let mut again = Wire::connect(gateway.address()).await;
        let second = again.get("/", &format!("Cookie: app=1; {pair}\r\n")).await;
        assert_eq!(second.address(), first.address(), "{pair}");
        assert_eq!(second.head.all("set-cookie").len(), 2, "a cookie that was brought is not issued again");
        values.insert(value.to_owned());
        homes.insert(first.address());
    }
    assert_eq!(values.len(), 24);
    assert!(homes.len() > 1);
}

#[tokio::test]
async fn its_attributes_are_those_of_the_file() {
    let backend = Named::start().await;
    let strict = "name: lh, max_age: 30d, same_site: strict";
    let embedded = "name: lh, same_site: none, secure: always, partitioned: true, path: /app, domain: example.com";
    for (settings, expected) in [
        (strict, &["HttpOnly", "Max-Age=2592000", "Path=/", "SameSite=Strict"][..]),
        (embedded, &["Domain=example.com", "HttpOnly", "Partitioned", "Path=/app", "SameSite=None", "Secure"]),
    ] {
        let cookie = format!("    affinity: [issue_cookie: {{ {settings} }}]\n");
        let gateway = Gateway::start(&one_upstream(&[backend.address()], &cookie)).await;
        let answer = Wire::connect(gateway.address()).await.get("/", "").await;
        assert_eq!(cookie_of(&answer, "lh").1, expected);
    }
}

#[tokio::test]
async fn a_gateway_behind_another_one_takes_its_cookie_and_issues_none() {
    let backends = Named::several(3).await;
    let addresses: Vec<_> = backends.iter().map(Named::address).collect();
    let inner = Gateway::start(&one_upstream(&addresses, ISSUE)).await;
    let outer = Gateway::start(&one_upstream(&[inner.address()], ISSUE)).await;
    for _ in 0..12 {
        let first = Wire::connect(outer.address()).await.get("/", "Cookie: a=b\r\n").await;
        let (pair, _) = cookie_of(&first, "longhaul");
        let seen: Vec<_> =
            backends.iter().flat_map(Named::requests).filter_map(|request| request.head.get("cookie")).collect();
        assert!(seen.contains(&format!("a=b; {pair}")), "{pair}: {seen:?}");
        let again = Wire::connect(outer.address()).await.get("/", &format!("Cookie: {pair}\r\n")).await;
        assert_eq!((again.address(), again.head.all("set-cookie").len()), (first.address(), 0));
    }
}

#[tokio::test]
async fn a_cookie_of_that_name_from_the_backend_stays_the_only_one() {
    let backend = Named::answering(any(), |_| "Set-Cookie: longhaul=theirs; Path=/\r\n".to_owned()).await;
    let gateway = Gateway::start(&one_upstream(&[backend.address()], ISSUE)).await;
    let answer = Wire::connect(gateway.address()).await.get("/", "").await;
    assert_eq!(answer.head.all("set-cookie"), ["longhaul=theirs; Path=/"]);
}

#[tokio::test]
async fn an_answer_that_shared_caches_might_keep_becomes_private_with_it() {
    let backend = Named::answering(any(), |request| {
        let control = request.head.target().trim_start_matches('/').replace('_', ", ");
        if control.is_empty() { String::new() } else { format!("Cache-Control: {control}\r\n") }
    })
    .await;
    let gateway = Gateway::start(&one_upstream(&[backend.address()], ISSUE)).await;
    for (path, expected) in [
        ("/", Some("private")),
        ("/public_max-age=60", Some("private, max-age=60")),
        ("/no-store", Some("no-store")),
        ("/private_max-age=60", Some("private, max-age=60")),
    ] {
        let answer = Wire::connect(gateway.address()).await.get(path, "").await;
        assert_eq!(answer.head.get("cache-control").as_deref(), expected, "{path}");
        let (pair, _) = cookie_of(&answer, "longhaul");
        let answer = Wire::connect(gateway.address()).await.get(path, &format!("Cookie: {pair}\r\n")).await;
        assert_ne!(
            answer.head.get("cache-control").as_deref(),
            Some("private"),
            "a cookie that was brought changes nothing"
        );
    }
}

#[tokio::test]
async fn it_is_secure_when_a_trusted_proxy_says_that_the_client_came_by_tls() {
    let backend = Named::start().await;
    let config = format!("{}trusted_proxies: [127.8.0.0/16]\n", one_upstream(&[backend.address()], ISSUE));
    let gateway = Gateway::start(&config).await;
    for (source, proto, secure) in
        [([127, 8, 0, 1], "https", true), ([127, 8, 0, 1], "http", false), ([127, 0, 0, 1], "https", false)]
    {
        let mut client = Wire::connect_from(Ipv4Addr::from(source), gateway.address()).await;
        let answer = client.get("/", &format!("X-Forwarded-Proto: {proto}\r\n")).await;
        let (_, attributes) = cookie_of(&answer, "longhaul");
        assert_eq!(attributes.contains(&"Secure".to_owned()), secure, "{source:?} {proto}");
    }
}

#[tokio::test]
async fn it_is_set_on_the_final_answer_and_not_on_those_before_it() {
    let backend = Backend::start(|stream| async move {
        let mut wire = Wire::new(stream);
        while wire.request().await.is_some() {
            wire.send("HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n").await;
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    let gateway = Gateway::start(&one_upstream(&[backend.address], ISSUE)).await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send("GET / HTTP/1.1\r\nHost: lab\r\n\r\n").await;
    let early = within("103", client.head()).await.unwrap().unwrap();
    assert_eq!((early.status(), early.get("link").as_deref()), (103, Some("</style.css>")));
    assert_eq!(early.all("set-cookie"), Vec::<&str>::new());
    cookie_of(&client.answer().await, "longhaul");
}

#[tokio::test]
async fn it_is_set_on_the_101_beside_the_backends_own_and_brings_the_tunnel_back() {
    let mut backends = Vec::new();
    for _ in 0..3 {
        backends.push(Backend::start(|stream| async move { greet(stream).await }).await);
    }
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let gateway = Gateway::start(&one_upstream(&addresses, ISSUE)).await;
    for _ in 0..6 {
        let (_socket, response) = connect_async(format!("ws://{}/ws", gateway.address())).await.unwrap();
        let all: Vec<_> = response.headers().get_all("set-cookie").iter().map(|v| v.to_str().unwrap()).collect();
        assert_eq!((all[0], all.len()), ("app=1", 2), "{all:?}");
        let (pair, attributes) = all[1].split_once("; ").unwrap();
        assert!(attributes.contains("HttpOnly") && attributes.contains("SameSite=Lax"), "{attributes}");
        let home = response.headers()["x-backend"].clone();

        let mut request = format!("ws://{}/ws", gateway.address()).into_client_request().unwrap();
        request.headers_mut().insert("cookie", pair.parse().unwrap());
        let (_socket, response) = connect_async(request).await.unwrap();
        assert_eq!(response.headers()["x-backend"], home);
        assert_eq!(response.headers().get_all("set-cookie").iter().count(), 1);
    }
}

/// Opens a WebSocket with a cookie of the application's and the backend's name in the 101.
async fn greet(stream: tokio::net::TcpStream) {
    let name = stream.local_addr().unwrap().to_string();
    #[expect(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
    let decorate = |_: &Request, mut response: Response| {
        response.headers_mut().insert("set-cookie", "app=1".parse().unwrap());
        response.headers_mut().insert("x-backend", name.parse().unwrap());
        Ok(response)
    };
    if let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, decorate).await {
        while let Some(Ok(_)) = futures_util::StreamExt::next(&mut socket).await {}
    }
}
