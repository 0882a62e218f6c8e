//! Hooks on WebSocket upgrades: refuse, change, limit, send elsewhere; and compression on routes with hooks.

use futures_util::{SinkExt, StreamExt};
use longhaul::ws::handshake::accept;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{connect_async, tungstenite};

use crate::lab::{Lab, UPGRADE, hooks, told};
use crate::support::{Backend, Echo, Gateway, Message, Wire, one_upstream};

/// A gateway whose one route has hooks, and a backend that takes every upgrade and answers it as the request's
/// `X-Answer` lines say; what it was sent stands in its answer's `X-Sent-…`.
struct Switching {
    gateway: Gateway,
    _backend: Backend,
}

impl Switching {
    async fn start(route: &str, upstream: &str) -> Self {
        let backend = Backend::start(|stream| async move {
            let mut wire = Wire::new(stream);
            while let Some(request) = wire.request().await {
                let head = &request.head;
                let key = head.get("sec-websocket-key").unwrap_or_default();
                let lines: String = head.all("x-answer").iter().map(|line| format!("{line}\r\n")).collect();
                let sent = ["sec-websocket-extensions", "sec-websocket-protocol", "x-upgrade-seen-by", "upgrade"];
                let sent = sent.map(|name| format!("X-Sent-{name}: {}\r\n", head.get(name).unwrap_or_default()));
                let answer = match head.get("upgrade") {
                    Some(_) => format!(
                        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Accept: {}\r\n{lines}{}\r\n",
                        accept(&key),
                        sent.concat()
                    ),
                    None => format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{}\r\n", sent.concat()),
                };
                wire.send(answer).await;
            }
        })
        .await;
        let route = format!("- {route}\n    upstream");
        let config = one_upstream(&[backend.address], upstream).replace("- upstream", &route);
        Self { gateway: Gateway::start_hooked(&config).await, _backend: backend }
    }

    /// A handshake, and the answer to it.
    async fn shake_hands(&self, headers: &str) -> Message {
        Wire::connect(self.gateway.address()).await.get("/", &format!("{UPGRADE}{headers}")).await
    }
}

fn acting() -> String {
    format!("hooks: {}", hooks("x"))
}

#[tokio::test]
async fn upgrades_are_shown_to_both_phases_and_requests_to_one() {
    let lab = Switching::start(&acting(), "").await;
    let answer = lab.shake_hands("").await;
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.head.get("x-sent-x-upgrade-seen-by").as_deref(), Some("a, b"));
    assert_eq!(answer.head.all("x-answer-seen-by"), ["b", "a"]);
    let answer = Wire::connect(lab.gateway.address()).await.get("/", "").await;
    assert_eq!((answer.status(), answer.head.get("x-sent-x-upgrade-seen-by").unwrap().as_str()), (200, ""));
}

#[tokio::test]
async fn a_refused_upgrade_reaches_no_backend_and_its_connection_goes_on() {
    let lab = Lab::start().await;
    let mut client = Wire::connect(lab.gateway.address()).await;
    let refused = client.get("/", &format!("{UPGRADE}{}", told(&["b upgrade answer 403 members only"]))).await;
    assert_eq!(refused.status(), 403);
    assert!(refused.text().starts_with("403 members only\n"), "{refused:?}");
    assert_eq!(lab.reached(), 0);
    assert_eq!(client.get("/", "").await.status(), 200);
    let counted = "longhaul_hook_verdicts_total{hook=\"acting\",phase=\"upgrade\",verdict=\"answer\"}";
    assert_eq!(lab.gateway.metric(counted).await, 1.0);
}

#[tokio::test]
async fn no_upgrade_header_leads_around_the_hooks() {
    let lab = Lab::start().await;
    let deny = told(&["a request answer 401 who are you"]);
    for (line, headers) in [
        ("GET / HTTP/1.1", "Upgrade: x\r\n"),
        ("GET / HTTP/1.1", "Connection: Upgrade\r\nUpgrade: x\r\n"),
        ("GET / HTTP/1.1", "Upgrade: websocket\r\n"),
        ("GET / HTTP/1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        ("GET / HTTP/1.1", "Connection: Upgrade\r\nUpgrade: h2c, websocket\r\nSec-WebSocket-Version: 8\r\n"),
        ("GET / HTTP/1.1", "Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"),
        ("GET / HTTP/1.0", UPGRADE),
        ("POST / HTTP/1.1", UPGRADE),
        ("GET / HTTP/1.1", UPGRADE),
    ] {
        let mut client = Wire::connect(lab.gateway.address()).await;
        client.send(format!("{line}\r\nHost: lab\r\n{headers}{deny}\r\n")).await;
        assert_eq!(client.answer().await.status(), 401, "{line} {headers}");
    }
    assert_eq!(lab.reached(), 0);
}

#[tokio::test]
async fn a_backend_is_held_to_the_offer_as_hooks_left_it() {
    let lab = Switching::start(&acting(), "    health: off\n").await;
    let chosen = "Sec-WebSocket-Protocol: token.abc, chat\r\nX-Answer: Sec-WebSocket-Protocol: chat\r\n";
    let act = |act: &str| format!("{chosen}{}", told(&[act]));
    let answer = lab.shake_hands(&act("a upgrade set sec-websocket-protocol chat")).await;
    assert_eq!((answer.status(), answer.head.get("x-sent-sec-websocket-protocol").as_deref()), (101, Some("chat")));
    let answer = lab.shake_hands(&act("b request set sec-websocket-protocol other")).await;
    assert_eq!(answer.status(), 502);
    let answer = lab.shake_hands(&told(&["a request remove upgrade"])).await;
    assert_eq!((answer.status(), answer.head.get("x-sent-upgrade").as_deref()), (200, Some("")), "a plain request");
    let answer = lab.shake_hands(&told(&["a request set sec-websocket-version 8"])).await;
    assert_eq!(answer.status(), 426);
}

#[tokio::test]
async fn hooks_change_a_101_but_not_what_makes_it_one() {
    let lab = Switching::start(&acting(), "").await;
    let acts = ["a response set x-one 1", "a response remove upgrade", "a response set connection close"];
    let answer = lab.shake_hands(&told(&acts)).await;
    assert_eq!((answer.status(), answer.head.get("x-one").as_deref()), (101, Some("1")));
    assert_eq!(answer.head.get("upgrade").as_deref(), Some("websocket"));
    assert_eq!(answer.head.get("connection").as_deref(), Some("Upgrade"));
    for act in ["a response error", "a response status 200"] {
        let answer = lab.shake_hands(&told(&[act])).await;
        assert_eq!(answer.status(), 500, "{act}");
    }
    lab.gateway.metric_becomes("longhaul_tunnels_opened_total{upstream=\"u\"}", 1.0).await;
}

#[tokio::test]
async fn a_tunnel_lives_under_the_limits_that_a_hook_gave_it() {
    let echo = Echo::start().await;
    let config = one_upstream(&[echo.address()], "").replace("- upstream", &format!("- {}\n    upstream", acting()));
    let gateway = Gateway::start_hooked(&config).await;
    let mut request = format!("ws://{}/", gateway.address()).into_client_request().unwrap();
    request.headers_mut().insert("x-act", HeaderValue::from_static("b upgrade limit 40"));
    let (mut socket, _) = connect_async(request).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().is_text());
    socket.send("x".repeat(40).into()).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().is_text());
    socket.send("x".repeat(41).into()).await.unwrap();
    match socket.next().await.unwrap().unwrap() {
        tungstenite::Message::Close(Some(CloseFrame { code, .. })) => assert_eq!(u16::from(code), 1009),
        other => panic!("{other:?}"),
    }
    gateway.access.find(&["tunnel_end", "reason=message_too_big"]).await;
    assert_eq!(gateway.access.count(&[" request "]), 0, "a request that became a tunnel is logged as one");
}

#[tokio::test]
async fn hooks_choose_key_and_upstream_of_a_tunnel_and_veto_its_backends() {
    let lab = Lab::start().await;
    let sent = told(&["a upgrade upstream v", "b upgrade key 0"]);
    // These backends answer 200 to an upgrade, which is relayed.
    let answer = lab.get("/", &[], &format!("{UPGRADE}{sent}X-Request-Id: far.\r\n")).await;
    assert_eq!(answer.address(), lab.far.address());
    lab.gateway.access.find(&["request_id=far. ", " upstream=v ", " key_source=hook key=b6589fc6 "]).await;
    let home = lab.get("/plain", &[], "X-Room: 1\r\n").await.address();
    let next = lab.get("/", &[&format!("a pick veto {home}")], &format!("{UPGRADE}X-Room: 1\r\n")).await;
    assert_eq!(next.status(), 200);
    assert_ne!(next.address(), home);
    let nobody = lab.get("/", &["a pick veto all"], UPGRADE).await;
    assert_eq!((nobody.status(), nobody.head.get("retry-after").is_some()), (503, true));
}

#[tokio::test]
async fn time_that_hooks_take_over_a_pick_is_not_held_against_the_backend() {
    // The hooks have far longer than the handshake, so that it is the handshake's time that ends.
    let hooks = acting().replace("200ms", "60s");
    let lab = Switching::start(&hooks, "    timeouts: { handshake: 100ms }\n").await;
    assert_eq!(lab.shake_hands(&told(&["a pick hang"])).await.status(), 504);
    assert!(!lab.gateway.scrape().await.contains("longhaul_backend_failures_total{"));
}

/// The offer of compression that a backend got, and what the client was told.
async fn negotiated(lab: &Switching, offer: &str, answer: &str) -> (u16, String, Option<String>) {
    let offer = format!("Sec-WebSocket-Extensions: {offer}\r\nX-Answer: {answer}\r\n");
    let Message { head, .. } = lab.shake_hands(&offer).await;
    let sent = head.get("x-sent-sec-websocket-extensions").unwrap_or_default();
    (head.status(), sent, head.get("sec-websocket-extensions"))
}

#[tokio::test]
async fn compression_is_left_to_client_and_backend_where_no_hook_sees_messages() {
    let lab = Switching::start(&acting(), "").await;
    let offer = "permessage-deflate; client_max_window_bits, x-other";
    let answer = "permessage-deflate; server_max_window_bits=10";
    let seen = negotiated(&lab, offer, &format!("Sec-WebSocket-Extensions: {answer}")).await;
    assert_eq!(seen, (101, offer.to_owned(), Some(answer.to_owned())));
}

#[tokio::test]
async fn compression_is_taken_out_of_the_offer_where_a_route_strips_it() {
    let lab = Switching::start("{ compression: strip, hooks: [seeing], upstream: u }\n  - path: /never", "").await;
    let offer = "permessage-deflate; client_max_window_bits";
    assert_eq!(negotiated(&lab, offer, "X-No: thing").await, (101, String::new(), None));
    // The gateway refuses an extension that it did not offer.
    for _ in 0..5 {
        let seen = negotiated(&lab, offer, "Sec-WebSocket-Extensions: permessage-deflate").await;
        assert_eq!(seen.0, 502);
    }
    // The refusal is this client's alone: the backend goes on.
    assert_eq!(negotiated(&lab, offer, "X-No: thing").await, (101, String::new(), None));
}

#[tokio::test]
async fn compression_is_negotiated_by_the_gateway_where_a_hook_sees_messages() {
    let lab = Switching::start("hooks: [seeing]", "    health: off\n").await;
    let offer = "x-other, permessage-deflate; client_max_window_bits";
    let none = "server_no_context_takeover; client_no_context_takeover";
    let (status, sent, told) =
        negotiated(&lab, offer, &format!("Sec-WebSocket-Extensions: permessage-deflate; {none}")).await;
    assert_eq!((status, sent), (101, format!("permessage-deflate; {none}; client_max_window_bits")));
    assert_eq!(told, Some(format!("permessage-deflate; {none}")));
    assert_eq!(negotiated(&lab, offer, "X-No: thing").await.2, None, "the backend declined");
    for wrong in ["permessage-deflate", "x-other", "permessage-deflate; server_max_window_bits=7"] {
        let seen = negotiated(&lab, offer, &format!("Sec-WebSocket-Extensions: {wrong}")).await;
        assert_eq!(seen.0, 502, "{wrong}");
    }
    assert_eq!(negotiated(&lab, "x-other", "X-No: thing").await, (101, String::new(), None));
}
