//! The control server: the page, its buttons, and the events that show what they did.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{join, started};
use crate::demo::Demo;
use crate::demo::control::MAX_VIEWERS;

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
async fn the_page_puts_backends_on_the_file_of_members_and_takes_them_off() {
    let parent = tempfile::tempdir().expect("a folder");
    let demo = Demo::start_discovered(parent.path()).await.expect("free ports, and a folder to write to");
    let [a, _, _, d, _] = demo.backends()[..] else { panic!("five backends") };
    let text = demo.config(SocketAddr::from(([127, 0, 0, 1], 0)), None);
    let config = crate::config::parse(&text, &crate::config::NoHooks).expect("the demo's configuration").config;
    let discover = config.upstreams[0].discover.as_ref().expect("a source");
    let crate::config::DiscoverFrom::File(file) = &discover.from else { panic!("{discover:?}") };
    let written = || std::fs::read_to_string(file).expect("the file of members");
    assert!(written().contains(&format!("name: A, address: {a}")) && !written().contains("name: D"), "{}", written());

    let http = reqwest::Client::new();
    let push = |action: &str| {
        let url = format!("http://{}/demo/backends/{action}", demo.control());
        http.post(url).header("x-longhaul-demo", "1").send()
    };
    let state: Value = push("D/add").await.expect("an answer").json().await.expect("JSON");
    assert_eq!(state["members"], json!(["A", "B", "C", "D"]));
    assert!(written().contains(&format!("name: D, address: {d}")), "{}", written());
    for name in ["A", "B", "C"] {
        assert_eq!(push(&format!("{name}/remove")).await.expect("an answer").status(), 200);
    }
    let last = push("D/remove").await.expect("an answer");
    assert_eq!((last.status().as_u16(), last.text().await.expect("text")), (409, "the last member stays\n".to_owned()));
    assert_eq!(written().lines().count(), 1);
    demo.stop().await;
    assert!(!file.exists(), "the file goes with the demo");
}

#[tokio::test]
async fn without_a_file_of_members_there_is_nothing_to_add() {
    let demo = started().await;
    let url = format!("http://{}/demo/backends/A/remove", demo.control());
    let answer = reqwest::Client::new().post(url).header("x-longhaul-demo", "1").send().await.expect("an answer");
    assert_eq!(answer.status(), 404);
    let state: Value = reqwest::get(format!("http://{}/demo/state", demo.control()))
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    assert!(state.get("members").is_none(), "{state}");
    demo.stop().await;
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
