//! The demo's backends and control server, over real sockets and without a gateway.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message, client::IntoClientRequest};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::control::MAX_VIEWERS;
use super::room::{MAX_HISTORY, MAX_OPEN, MAX_REMEMBERED, MAX_TEXT, Room, Told};
use super::serve::Changes;
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

#[test]
fn a_full_room_takes_nobody_until_somebody_leaves() {
    let room = Room::new("A", Changes::new());
    let mut seats: Vec<_> = (0..MAX_OPEN).filter_map(|id| room.join(id.to_string())).collect();
    assert_eq!(seats.len(), MAX_OPEN);
    assert!(room.join("late".to_owned()).is_none());
    seats.pop();
    assert!(room.join("late".to_owned()).is_some());
}

#[test]
fn a_room_forgets_the_client_who_arrived_longest_ago_and_is_gone() {
    let room = Room::new("A", Changes::new());
    let (_stays, _) = room.join("stays".to_owned()).expect("there is room");
    for id in 1..MAX_REMEMBERED {
        drop(room.join(format!("gone-{id}")));
    }
    drop(room.join("gone-1".to_owned()));
    drop(room.join("new".to_owned()));
    assert_eq!(room.figures().remembered, MAX_REMEMBERED);
    let visits = |id: &str| match room.join(id.to_owned()).expect("there is room").1 {
        Told::Hello { visits, .. } => visits,
        other => panic!("expected a hello, got {other:?}"),
    };
    assert_eq!((visits("stays"), visits("gone-1")), (2, 3), "present, or back since");
    assert_eq!(visits("gone-2"), 1, "forgotten for the new one");
}

#[test]
fn the_history_keeps_the_last_lines() {
    let room = Room::new("A", Changes::new());
    let (seat, _) = room.join("ada".to_owned()).expect("there is room");
    for number in 0..=MAX_HISTORY {
        seat.say(&json!({"type":"chat","text":number.to_string()}).to_string()).expect("it is a good line");
    }
    let Some((_, Told::Hello { history, .. })) = room.join("bob".to_owned()) else { panic!("expected a hello") };
    assert_eq!(history.len(), MAX_HISTORY);
    assert_eq!((history[0].text.as_str(), history[MAX_HISTORY - 1].text.as_str()), ("1", "50"));
}

#[tokio::test]
async fn the_page_comes_with_a_policy_that_lets_in_no_other_script() {
    let demo = started().await;
    for (path, kind) in [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")] {
        let answer = reqwest::get(format!("http://{}{path}", demo.control())).await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        let header = |name: &str| answer.headers()[name].to_str().expect("text").to_owned();
        assert!(header("content-type").starts_with(kind), "{path}");
        assert!(header("content-security-policy").starts_with("default-src 'none'"), "{path}");
    }
    demo.stop().await;
}

#[tokio::test]
async fn the_buttons_stop_and_start_a_backend_and_events_show_it() {
    let demo = started().await;
    let url = format!("http://{}/demo", demo.control());
    let mut events = reqwest::get(format!("{url}/events")).await.expect("an answer");
    assert!(up(&next_event(&mut events).await, 1));

    let http = reqwest::Client::new();
    let push = |path: &'static str| http.post(format!("{url}/backends/{path}")).header("x-longhaul-demo", "1").send();
    let stopped = push("B/stop").await.expect("an answer");
    assert!(!up(&stopped.json().await.expect("a state"), 1));
    while up(&next_event(&mut events).await, 1) {}
    let started = push("B/start").await.expect("an answer");
    assert!(up(&started.json().await.expect("a state"), 1));
    while !up(&next_event(&mut events).await, 1) {}

    let (_client, _) = join(demo.backends()[1], "ada").await;
    while next_event(&mut events).await["backends"][1]["open"] != 1 {}
    let state: Value = reqwest::get(format!("{url}/state")).await.expect("an answer").json().await.expect("JSON");
    assert_eq!((&state["clients"], &state["backends"][1]["name"]), (&json!(1), &json!("B")));
    assert_eq!(push("D/stop").await.expect("an answer").status(), 404);
    assert_eq!(push("A/burn").await.expect("an answer").status(), 404);
    demo.stop().await;
    assert!(matches!(events.chunk().await, Ok(None) | Err(_)), "event streams end with the demo");
}

#[tokio::test]
async fn a_button_pushed_from_another_site_is_refused() {
    let demo = started().await;
    let http = reqwest::Client::new();
    let forged = http.post(format!("http://{}/demo/backends/A/stop", demo.control())).send().await;
    assert_eq!(forged.expect("an answer").status(), 403);
    assert!(demo.backends[0].status().up);
    demo.stop().await;
}

#[tokio::test]
async fn event_streams_are_bounded() {
    let demo = started().await;
    let url = format!("http://{}/demo/events", demo.control());
    let mut streams = Vec::new();
    for _ in 0..MAX_VIEWERS {
        streams.push(reqwest::get(&url).await.expect("an answer"));
    }
    assert!(streams.iter().all(|stream| stream.status() == 200));
    assert_eq!(reqwest::get(&url).await.expect("an answer").status(), 503);
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
    assert!(welcome(listen, None).starts_with("open http://127.0.0.1:8080/\n"));
    demo.stop().await;
}

async fn started() -> Demo {
    Demo::start().await.expect("loopback has free ports")
}

async fn join(backend: SocketAddr, id: &str) -> (Client, Value) {
    let (mut client, _) =
        connect_async(format!("ws://{backend}/ws?client={id}")).await.expect("the handshake succeeds");
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

async fn next_event(events: &mut reqwest::Response) -> Value {
    let mut text = String::new();
    while !text.ends_with("\n\n") {
        let chunk = events.chunk().await.expect("the stream is open").expect("the stream goes on");
        text.push_str(std::str::from_utf8(&chunk).expect("text"));
    }
    let last = text.trim_end().rsplit("\n\n").next().expect("an event");
    serde_json::from_str(last.strip_prefix("data: ").expect("a data line")).expect("JSON")
}

fn up(state: &Value, backend: usize) -> bool {
    state["backends"][backend]["up"] == true
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
    let text = welcome(listen, Some(&made));
    assert!(text.starts_with("open https://127.0.0.1:8443/\n"), "{text}");
    assert!(text.contains("wss://127.0.0.1:8443/ws") && !text.contains(" ws://"), "{text}");
    assert!(DemoCertificate::make(folder.path(), listen).is_err(), "a folder that is there is not taken");
}
