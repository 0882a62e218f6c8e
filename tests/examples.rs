//! The examples do what they say: each is run with the configuration beside it, before backends of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod support;

use std::process::{Child, Command, Stdio};

use futures_util::{SinkExt, StreamExt};
use support::{Gateway, Lines, Wire, example, folder, within};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// An example between the tests and its backends, which are the example `echo`.
struct Tried {
    gateway: Gateway,
    backends: Vec<String>,
    echo: Child,
}

impl Tried {
    /// Runs an example on free ports instead of its own.
    async fn start(name: &str) -> Self {
        Self::start_with(name, &[]).await
    }

    /// As [`start`](Self::start), with further addresses in place of those that the example names.
    async fn start_with(name: &str, replaced: &[(&str, &str)]) -> Self {
        let file = format!("{}/examples/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        let mut yaml = std::fs::read_to_string(file).unwrap();
        let named: Vec<String> =
            (9001..9010).map(|port| format!("127.0.0.1:{port}")).filter(|address| yaml.contains(address)).collect();
        let mut echo = Command::new(example("echo"));
        echo.args(named.iter().map(|_| "0")).stdout(Stdio::piped());
        let mut echo = echo.spawn().unwrap();
        let said = Lines::of(echo.stdout.take().unwrap());
        let mut backends = Vec::new();
        for (number, address) in named.iter().enumerate() {
            let line = said.find_nth(&["backend"], number).await;
            let backend = line.strip_suffix(" is there").unwrap();
            yaml = yaml.replace(address, &backend.replace("backend ", "127.0.0.1:"));
            backends.push(backend.to_owned());
        }
        for address in ["127.0.0.1:8080", "127.0.0.1:9100"] {
            yaml = yaml.replace(address, "127.0.0.1:0");
        }
        for (address, by) in replaced {
            yaml = yaml.replace(address, by);
        }
        let gateway = Gateway::begin_with(&example(name), folder(&yaml), &[], &[("API", "127.0.0.1:0")]);
        Self { gateway: gateway.listening().await, backends, echo }
    }

    async fn get(&self, target: &str, headers: &str) -> support::Message {
        Wire::connect(self.gateway.address()).await.get(target, headers).await
    }

    /// Opens a tunnel.
    async fn open(&self, target: &str) -> Socket {
        Socket(connect_async(format!("ws://{}{target}", self.gateway.address())).await.unwrap().0)
    }

    /// Address of the example's own endpoint.
    async fn api(&self, path: &str) -> String {
        let line = self.gateway.log.find(&[" on http://127.0.0.1:"]).await;
        format!("{}{path}", line.split_once(" on ").unwrap().1)
    }
}

impl Drop for Tried {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.echo.kill();
        let _ = self.echo.wait();
    }
}

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    async fn hear(&mut self) -> String {
        match within("a message", self.0.next()).await.unwrap().unwrap() {
            Message::Text(text) => text.to_string(),
            Message::Close(Some(frame)) => format!("{} {}", u16::from(frame.code), frame.reason),
            other => panic!("{other:?}"),
        }
    }

    async fn close(mut self) {
        self.0.close(None).await.unwrap();
        while let Some(message) = self.0.next().await {
            message.unwrap();
        }
    }
}

#[tokio::test]
async fn password_asks_for_it() {
    let tried = Tried::start("password").await;
    assert_eq!(tried.get("/", "").await.status(), 401);
    assert_eq!(tried.get("/", "X-Password: xyzzy\r\n").await.status(), 200);
}

#[tokio::test]
async fn auth_token_tells_the_backend_who_it_is_and_not_the_token() {
    let tried = Tried::start("auth_token").await;
    let refused = tried.get("/", "X-User: ada\r\n").await;
    assert_eq!((refused.status(), refused.head.get("www-authenticate").as_deref()), (401, Some("Bearer")));
    for (target, headers, asked) in [
        ("/a?b=c", "Authorization: Bearer open-sesame\r\nX-User: root\r\n", "GET /a?b=c"),
        ("/a?token=open-sesame&b=c", "", "GET /a?b=c"),
        ("/a?token=open-sesame", "", "GET /a\n"),
    ] {
        let seen = tried.get(target, headers).await.text();
        assert!(seen.contains(asked) && seen.contains("x-user: ada\n"), "{seen}");
        assert!(!seen.contains("open-sesame") && !seen.contains("root"), "{seen}");
    }
    assert_eq!(tried.open("/?token=xyzzy").await.hear().await, tried.backends[0]);
}

#[tokio::test]
async fn rooms_has_all_members_of_a_room_on_one_backend() {
    let tried = Tried::start("rooms").await;
    assert_eq!(tried.get("/rooms/", "").await.status(), 404);
    let mut seen = std::collections::BTreeSet::new();
    for room in ["tea", "coffee", "milk", "water", "juice", "wine", "beer", "soup"] {
        let target = format!("/rooms/{room}");
        let (mut one, mut other) = (tried.open(&target).await, tried.open(&target).await);
        let backend = one.hear().await;
        assert_eq!(other.hear().await, backend);
        assert!(tried.get(&format!("{target}/members"), "").await.text().starts_with(&backend));
        seen.insert(backend);
    }
    assert!(seen.len() > 1, "{seen:?}");
}

#[tokio::test]
async fn canary_goes_by_the_cookie_and_gives_one() {
    let tried = Tried::start("canary").await;
    for (release, backend) in [("stable", &tried.backends[0]), ("canary", &tried.backends[1])] {
        let answer = tried.get("/", &format!("Cookie: release={release}\r\n")).await;
        assert!(answer.text().starts_with(backend.as_str()), "{}", answer.text());
        assert_eq!(answer.head.get("set-cookie"), None);
        tried.gateway.access.find(&[&format!("release={release}")]).await;
    }
    let given = tried.get("/", "").await.head.get("set-cookie").unwrap();
    assert!(given.starts_with("release="), "{given}");
}

#[tokio::test]
async fn profanity_hides_words_and_closes_at_the_third() {
    let tried = Tried::start("profanity").await;
    let mut socket = tried.open("/").await;
    socket.hear().await;
    for (said, heard) in [("good day", "good day"), ("oh, Bother", "oh, ******"), ("dash it", "**** it")] {
        socket.say(said).await;
        assert_eq!(socket.hear().await, heard);
    }
    socket.say("bother").await;
    assert_eq!(socket.hear().await, "1008 mind your language");
}

#[tokio::test]
async fn metrics_shows_numbers_of_its_own() {
    let tried = Tried::start("metrics").await;
    let mut socket = tried.open("/").await;
    for said in ["hello", "/quit"] {
        socket.hear().await;
        socket.say(said).await;
    }
    socket.close().await;
    for metric in ["app_messages_total{kind=\"text\"}", "app_messages_total{kind=\"command\"}"] {
        tried.gateway.metric_becomes(metric, 1.0).await;
    }
    tried.gateway.metric_becomes("app_session_seconds_count{how=\"other\"}", 1.0).await;
    let page = tried.gateway.scrape().await;
    assert_eq!(page.matches("# TYPE process_open_fds ").count(), 1, "{page}");
}

#[tokio::test]
async fn presence_tells_who_is_connected() {
    let tried = Tried::start("presence").await;
    let all = tried.api("").await;
    assert_eq!(tried.get("/", "").await.status(), 200);
    let (ada, again) = (tried.open("/?user=ada").await, tried.open("/?user=ada").await);
    let grace = tried.open("/?user=grace").await;
    let tells = async |expected: &str| {
        let told = async { while reqwest::get(&all).await.unwrap().text().await.unwrap() != expected {} };
        within(expected, told).await;
    };
    // Who has the 101 is there a moment later, and who has closed is gone a moment later.
    tells("{\"ada\":2,\"grace\":1}").await;
    ada.close().await;
    grace.close().await;
    tells("{\"ada\":1}").await;
    again.close().await;
}

#[tokio::test]
async fn translate_sends_what_the_service_makes_of_a_message() {
    let service = axum::Router::new().route(
        "/",
        axum::routing::post(async |text: String| match text.as_str() {
            "oops" => Err(axum::http::StatusCode::BAD_GATEWAY),
            _ => Ok(text.to_uppercase()),
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(async { axum::serve(listener, service).await.unwrap() });
    let tried = Tried::start_with("translate", &[("127.0.0.1:9503", &address)]).await;
    let mut socket = tried.open("/").await;
    socket.hear().await;
    for (said, heard) in [("hello", "HELLO"), ("oops", "not translated: 502 Bad Gateway"), ("you", "YOU")] {
        socket.say(said).await;
        assert_eq!(socket.hear().await, heard);
    }
    serving.abort();
}

#[tokio::test]
async fn tenants_have_sockets_and_messages_that_reloads_and_upgrades_do_not_forget() {
    let mut tried = Tried::start("tenants").await;
    let handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    assert_eq!(tried.get("/?tenant=other", handshake).await.status(), 403);
    let mut first = tried.open("/?tenant=small").await;
    let second = tried.open("/?tenant=small").await;
    assert_eq!(tried.get("/?tenant=small", handshake).await.status(), 429);
    first.hear().await;
    first.say("one").await;
    assert_eq!(first.hear().await, "one");

    tried.gateway.signal("HUP");
    assert_eq!(first.hear().await, "the limits may have changed");
    assert_eq!(tried.get("/?tenant=small", handshake).await.status(), 429, "sockets are known to the new hook");
    first.say("two").await;
    assert_eq!(first.hear().await, "two");

    let successor = tried.gateway.successor().await;
    assert_eq!(tried.gateway.ended().await, Some(0));
    tried.gateway = successor;
    assert_eq!(tried.get("/?tenant=small", handshake).await.status(), 429, "they came along");
    // The quota came along, too: one of three is left.
    first.say("three").await;
    assert_eq!(first.hear().await, "three");
    first.say("four").await;
    assert_eq!(first.hear().await, "1008 the quota is used up");
    second.close().await;
    let taken = async { while tried.get("/?tenant=small", handshake).await.status() != 101 {} };
    within("a socket to be free", taken).await;
}

#[tokio::test]
async fn kick_ends_a_users_sockets_and_keeps_them_out() {
    let tried = Tried::start("kick").await;
    let (mut ada, mut grace) = (tried.open("/?user=ada").await, tried.open("/?user=grace").await);
    ada.hear().await;
    grace.hear().await;
    let post = async |target: &str, headers: &str| {
        let mut client = Wire::connect(tried.gateway.address()).await;
        client.send(format!("POST {target} HTTP/1.1\r\nHost: lab\r\nContent-Length: 0\r\n{headers}\r\n")).await;
        client.answer().await
    };
    let password = "X-Password: xyzzy\r\n";
    assert_eq!(post("/kick?user=ada", "").await.status(), 401);
    assert_eq!(post("/kick", password).await.status(), 400);
    assert_eq!(post("/kick?user=ada", password).await.text(), "1 socket\n");
    assert_eq!(ada.hear().await, "goodbye");
    assert_eq!(ada.hear().await, "4000 shown out");
    assert!(connect_async(format!("ws://{}/?user=ada", tried.gateway.address())).await.is_err());
    assert_eq!(post("/kick?user=ada", password).await.text(), "0 sockets\n");
    grace.say("still here").await;
    assert_eq!(grace.hear().await, "still here");
}

#[tokio::test]
async fn axum_pushes_messages_into_tunnels_and_ends_them() {
    let tried = Tried::start("axum").await;
    let mut ada = tried.open("/?user=ada").await;
    let mut grace = tried.open("/?user=grace").await;
    let mut id = String::new();
    for socket in [&mut grace, &mut ada] {
        let first = [socket.hear().await, socket.hear().await];
        id = first.iter().find_map(|text| text.strip_prefix("you are tunnel ")).unwrap().to_owned();
    }
    let client = reqwest::Client::new();
    let post = async |path: &str, text: &'static str| {
        let answer = client.post(tried.api(path).await).body(text).send().await.unwrap();
        answer.text().await.unwrap()
    };
    assert_eq!(post("/users/ada", "dinner is ready").await, "1");
    assert_eq!(ada.hear().await, "dinner is ready");
    assert_eq!(post("/users/nobody", "hello?").await, "0");
    assert_eq!(post("/users", "closing soon").await, "2");
    assert_eq!((ada.hear().await, grace.hear().await), ("closing soon".into(), "closing soon".into()));

    let tunnel = tried.api(&format!("/tunnels/{id}")).await;
    assert_eq!(client.delete(&tunnel).send().await.unwrap().status(), 204);
    assert_eq!(ada.hear().await, "4000 shown out");
    grace.say("still here").await;
    assert_eq!(grace.hear().await, "still here");
}
