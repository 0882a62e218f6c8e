//! The demo's backends, over real sockets and without a gateway.

mod control;
mod room;

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message, client::IntoClientRequest};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::room::MAX_TEXT;
use super::{Demo, DemoCertificate, backend, welcome};

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

#[tokio::test]
async fn a_counter_survives_a_reconnect_to_the_same_backend() {
    let demo = started().await;
    let (mut client, hello) = join(demo.backends()[0], "ada").await;
    assert_eq!(hello, json!({"type":"hello","backend":"A","client":"ada","count":0,"visits":1,"history":[]}));
    say(&mut client, &json!({"type":"count"})).await;
    assert_eq!(hear(&mut client).await, json!({"type":"count","count":1}));
    client.close(None).await.expect("an open WebSocket can be closed");

    let (_client, hello) = join(demo.backends()[0], "ada").await;
    assert_eq!((&hello["count"], &hello["visits"]), (&json!(1), &json!(2)));
    let (_other, hello) = join(demo.backends()[1], "ada").await;
    assert_eq!((&hello["backend"], &hello["count"]), (&json!("B"), &json!(0)));
    demo.stop().await;
}

#[tokio::test]
async fn a_stopped_backend_cuts_its_clients_without_a_close_frame_and_refuses_new_ones() {
    let demo = started().await;
    let (mut client, _) = join(demo.backends()[0], "ada").await;
    let mut idle = TcpStream::connect(demo.backends()[0]).await.expect("the backend is up");
    demo.backends[0].stop().await;

    let end = client.next().await;
    assert!(matches!(end, None | Some(Err(Error::Protocol(_) | Error::Io(_)))), "a crash sends no Close: {end:?}");
    let rest = tokio::io::AsyncReadExt::read(&mut idle, &mut [0; 1]).await;
    assert!(matches!(rest, Ok(0) | Err(_)), "connections without a request end as well: {rest:?}");
    let refused = TcpStream::connect(demo.backends()[0]).await.expect_err("the port is closed");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let (_other, hello) = join(demo.backends()[1], "bob").await;
    assert_eq!(hello["backend"], "B", "the other backends go on");
    demo.stop().await;
}

#[tokio::test]
async fn a_backend_started_again_has_its_address_and_an_empty_memory() {
    let demo = started().await;
    let address = demo.backends()[2];
    let (mut client, _) = join(address, "ada").await;
    say(&mut client, &json!({"type":"count"})).await;
    hear(&mut client).await;
    for _ in 0..3 {
        demo.backends[2].stop().await;
        demo.backends[2].start().expect("the address is kept for it");
        demo.backends[2].start().expect("starting what is up does nothing");
        let (_client, hello) = join(address, "ada").await;
        assert_eq!((&hello["backend"], &hello["count"], &hello["visits"]), (&json!("C"), &json!(0), &json!(1)));
    }
    demo.stop().await;
}

#[tokio::test]
async fn a_restarted_backend_says_close_1012_and_its_counters_go_on_at_another_one() {
    let demo = started().await;
    let session = "0123456789abcdef0123456789abcdef";
    let (mut client, _) = join_as(demo.backends()[0], "ada", session).await;
    for count in 1..=2 {
        say(&mut client, &json!({"type":"count"})).await;
        assert_eq!(hear(&mut client).await, json!({"type":"count","count":count}));
    }
    let heard = async {
        let close = client.next().await;
        // The answer is sent with the next read.
        while client.next().await.is_some() {}
        close
    };
    let ((), close) = tokio::join!(demo.backends[0].leave(), heard);
    let Some(Ok(Message::Close(Some(frame)))) = close else { panic!("expected Close: {close:?}") };
    assert_eq!(u16::from(frame.code), 1012);
    let refused = TcpStream::connect(demo.backends()[0]).await.expect_err("the port is closed");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    let (_next, hello) = join_as(demo.backends()[1], "ada", session).await;
    assert_eq!((&hello["backend"], &hello["count"]), (&json!("B"), &json!(2)));
    let (_other, hello) = join_as(demo.backends()[2], "ada", session).await;
    assert_eq!(hello["count"], 0, "a counter is taken once");
    demo.backends[0].start().expect("the address is kept for it");
    demo.stop().await;
}

#[tokio::test]
async fn a_counter_is_shown_in_every_tab_of_its_client_and_in_no_other() {
    let demo = started().await;
    let (mut tab, _) = join(demo.backends()[0], "ada").await;
    let (mut same, _) = join(demo.backends()[0], "ada").await;
    let (mut other, _) = join(demo.backends()[0], "bob").await;
    say(&mut tab, &json!({"type":"count"})).await;
    say(&mut tab, &json!({"type":"chat","text":"done"})).await;
    assert_eq!(hear(&mut same).await, json!({"type":"count","count":1}));
    assert_eq!(hear(&mut other).await["type"], "chat");
    demo.stop().await;
}

#[tokio::test]
async fn chat_reaches_the_clients_of_the_same_backend_as_it_was_written() {
    let demo = started().await;
    let (mut ada, _) = join(demo.backends()[0], "ada").await;
    let (mut bob, _) = join(demo.backends()[0], "bob").await;
    let text = "<img src=x onerror=alert(1)> \u{202e}\"'&\u{0}";
    say(&mut ada, &json!({"type":"chat","text":text})).await;
    let line = json!({"type":"chat","from":"ada","text":text});
    assert_eq!(hear(&mut ada).await, line);
    assert_eq!(hear(&mut bob).await, line);
    let (_eve, hello) = join(demo.backends()[0], "eve").await;
    assert_eq!(hello["history"], json!([{"from":"ada","text":text}]));
    let (_fay, hello) = join(demo.backends()[1], "fay").await;
    assert_eq!(hello["history"], json!([]), "another backend has another chat");
    demo.stop().await;
}

#[tokio::test]
async fn what_is_no_message_of_ours_is_refused_and_the_socket_stays_open() {
    let demo = started().await;
    let (mut client, _) = join(demo.backends()[0], "ada").await;
    let long = "x".repeat(MAX_TEXT + 1);
    for (sent, reason) in [
        (json!({"type":"chat","text":" "}), "the text is empty"),
        (json!({"type":"chat","text":long}), "the text is too long"),
        (json!({"type":"dance"}), r#"expected {"type":"count"} or {"type":"chat","text":"..."}"#),
        (json!([[[]]]), r#"expected {"type":"count"} or {"type":"chat","text":"..."}"#),
    ] {
        say(&mut client, &sent).await;
        assert_eq!(hear(&mut client).await, json!({"type":"refused","reason":reason}));
    }
    client.send(Message::binary(vec![0; 9])).await.expect("the socket is open");
    assert_eq!(hear(&mut client).await["reason"], "expected text");
    demo.stop().await;
}

#[tokio::test]
async fn a_message_above_the_limit_ends_the_socket() {
    let demo = started().await;
    let (mut client, _) = join(demo.backends()[0], "ada").await;
    client.send(Message::text("x".repeat(backend::MAX_MESSAGE_BYTES + 1))).await.expect("the socket is open");
    let end = client.next().await;
    assert!(!matches!(end, Some(Ok(Message::Text(_)))), "nothing is answered: {end:?}");
    demo.stop().await;
}

#[tokio::test]
async fn a_client_without_an_id_goes_by_the_cookie_the_gateway_issued() {
    let demo = started().await;
    let mut request = format!("ws://{}/ws", demo.backends()[0]).into_client_request().expect("a URL");
    request.headers_mut().insert("cookie", "a=b; longhaul=0123abcd".parse().expect("a header value"));
    let (mut client, _) = connect_async(request).await.expect("the handshake succeeds");
    assert_eq!(hear(&mut client).await["client"], "0123abcd");
    let (mut guest, _) = connect_async(format!("ws://{}/ws", demo.backends()[0])).await.expect("it succeeds");
    let hello = hear(&mut guest).await;
    assert!(hello["client"].as_str().is_some_and(|id| id.starts_with("guest-")), "{hello}");
    demo.stop().await;
}

#[tokio::test]
async fn an_id_that_could_be_anything_but_a_word_is_refused() {
    let demo = started().await;
    for id in ["", "a%20b", "%3Cscript%3E", "%F0%9F%A6%80", &"x".repeat(65)] {
        let refused = connect_async(format!("ws://{}/ws?client={id}", demo.backends()[0])).await;
        match refused {
            Err(Error::Http(response)) => assert_eq!(response.status(), 400, "{id}"),
            other => panic!("{id}: expected a refusal, got {other:?}"),
        }
    }
    demo.stop().await;
}

#[tokio::test]
async fn health_checks_pass_with_and_without_a_handshake_and_are_no_clients() {
    let demo = started().await;
    let address = demo.backends()[0];
    let plain = reqwest::get(format!("http://{address}/health")).await.expect("an answer");
    assert_eq!(plain.status(), 200);
    let (mut check, _) = connect_async(format!("ws://{address}/health")).await.expect("the handshake succeeds");
    assert_eq!(demo.backends[0].status().figures.open, 0);
    check.close(None).await.expect("an open WebSocket can be closed");
    assert!(matches!(check.next().await, Some(Ok(Message::Close(_)))), "the Close is answered");
    demo.stop().await;
}

#[tokio::test]
async fn the_configuration_names_every_address_and_is_yaml() {
    let demo = started().await;
    let listen: SocketAddr = "127.0.0.1:8080".parse().expect("an address");
    let file: Value = serde_yaml::from_str(&demo.config(listen, None)).expect("YAML");
    assert_eq!(file["listeners"], json!([{"address":"127.0.0.1:8080"}]));
    let backends: Vec<String> = demo.backends().iter().map(SocketAddr::to_string).collect();
    assert_eq!(file["upstreams"]["chat"]["backends"], json!(backends));
    assert_eq!(file["upstreams"]["page"]["backends"], json!([demo.control().to_string()]));
    assert!(welcome(listen, None, None).starts_with("open http://127.0.0.1:8080/\n"));
    let with_dashboard = welcome(listen, Some(([127, 0, 0, 1], 9099).into()), None);
    assert!(with_dashboard.starts_with("open http://127.0.0.1:8080/\ndashboard http://127.0.0.1:9099/\n"));
    assert_eq!(file["admin"], json!({"address":"127.0.0.1:0"}));
    demo.stop().await;
}

async fn started() -> Demo {
    Demo::start().await.expect("loopback has free ports")
}

async fn join(backend: SocketAddr, id: &str) -> (Client, Value) {
    join_as(backend, id, "").await
}

/// Joins in a session, as the gateway names it.
async fn join_as(backend: SocketAddr, id: &str, session: &str) -> (Client, Value) {
    let mut request = format!("ws://{backend}/ws?client={id}").into_client_request().expect("it is a request");
    request.headers_mut().insert("longhaul-session", session.parse().expect("it is a value"));
    let (mut client, _) = connect_async(request).await.expect("the handshake succeeds");
    let hello = hear(&mut client).await;
    (client, hello)
}

async fn say(client: &mut Client, message: &Value) {
    client.send(Message::text(message.to_string())).await.expect("the socket is open");
}

async fn hear(client: &mut Client) -> Value {
    match client.next().await {
        Some(Ok(Message::Text(text))) => serde_json::from_str(&text).expect("JSON"),
        other => panic!("expected a text message, got {other:?}"),
    }
}

#[tokio::test]
async fn with_tls_everything_is_by_https_and_wss_and_the_certificate_can_be_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let listen = SocketAddr::from(([127, 0, 0, 1], 8443));
    let made = DemoCertificate::make(folder.path(), listen).expect("a certificate");
    let demo = Demo::start().await.expect("free ports");
    let file = folder.path().join("demo.yaml");
    std::fs::write(&file, demo.config(listen, Some(&made))).expect("the file is written");
    let loaded = crate::config::load(&file, &crate::config::NoHooks).expect("the configuration is right");
    assert!(loaded.config.listeners[0].tls.is_some() && loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let text = welcome(listen, None, Some(&made));
    assert!(text.starts_with("open https://127.0.0.1:8443/\n"), "{text}");
    assert!(text.contains("wss://127.0.0.1:8443/ws") && !text.contains(" ws://"), "{text}");
    assert!(DemoCertificate::make(folder.path(), listen).is_err(), "a folder that is there is not taken");
}
