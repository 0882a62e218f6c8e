//! The dashboard's parts without a browser: its files, its stream of events, and the histories that it shows.

use std::collections::BTreeSet;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::answers::Description;
use crate::guard::with_token;
use crate::lab::{Lab, TOKEN, echoes};
use crate::support::{Backend, Gateway, within};

/// Events of a stream.
struct Events {
    answer: Response,
    text: String,
}

impl Events {
    async fn of(lab: &Lab) -> Self {
        let answer = lab.ask(Method::GET, "/api/v1/live").send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (200, &"text/event-stream".parse().unwrap())
        );
        Self { answer, text: String::new() }
    }

    /// Name and data of the next event.
    async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (name, data) = event.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
                let event = (name.to_owned(), serde_json::from_str(data).unwrap());
                self.text = rest.to_owned();
                return event;
            }
            let chunk = within("an event", self.answer.chunk()).await.unwrap().expect("the stream goes on");
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The first event of a name that is as wanted.
    async fn find(&mut self, name: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            loop {
                let (named, data) = self.next().await;
                if named == name && is_wanted(&data) {
                    return data;
                }
            }
        };
        within(name, found).await
    }
}

#[tokio::test]
async fn events_are_as_described_and_show_tunnels_keys_and_talkers() {
    let lab = Lab::start("").await;
    let description = Description::of(&lab).await;
    let mut events = Events::of(&lab).await;
    let history = events.find("history", |_| true).await;
    description.check_schema("History", &history);
    let mut socket = lab.open("a").await;
    let talking = tokio::spawn(async move { while echoes(&mut socket).await {} });
    // One that was made when only the greeting had passed shows a talker whose client is silent still.
    let talks = |update: &Value| update["talkers"][0]["rates"]["from_client"].as_u64().is_some_and(|rate| rate > 0);
    let update = events.find("update", talks).await;
    description.check_schema("Update", &update);
    let backend = lab.echo.address().to_string();
    let generations = json!([{ "upstream": "u", "backend": backend, "generation": 1, "tunnels": 1 }]);
    assert_eq!(update["generations"], generations);
    assert_eq!((&update["keys"][0]["tunnels"], &update["keys"][0]["key_source"]), (&json!(1), &json!("query")));
    let talker = &update["talkers"][0];
    assert_eq!((&talker["key"], &talker["client"]), (&update["keys"][0]["key"], &json!("127.0.0.1")));
    assert_eq!((&update["totals"]["opened"], &update["overview"]["backends"]), (&json!(1), &json!(1)));
    talking.abort();
    // The end and its code are counted one after the other.
    let ended = |totals: &Value| totals["ended"]["client_gone"] == 1 && totals["close_codes"][0].is_object();
    let update = events.find("update", |update| ended(&update["totals"])).await;
    assert_eq!(update["totals"]["close_codes"], json!([{ "by": "client", "code": "1006", "tunnels": 1 }]));
}

#[tokio::test]
async fn nobody_follows_nothing_is_made() {
    let lab = Lab::start("").await;
    assert_eq!(lab.get("/api/v1/status").await.0, 200);
    assert_eq!(lab.gateway.metric("longhaul_live_updates_total").await, 0.0);
    let mut viewers = [Events::of(&lab).await, Events::of(&lab).await];
    for viewer in &mut viewers {
        viewer.find("update", |_| true).await;
    }
    assert_eq!(lab.gateway.metric("longhaul_live_viewers").await, 2.0);
    drop(viewers);
    lab.gateway.metric_becomes("longhaul_live_viewers", 0.0).await;
    assert!(lab.gateway.metric("longhaul_live_updates_total").await >= 1.0);
}

#[tokio::test]
async fn the_status_has_the_last_events_and_a_successor_has_them_too() {
    let dead = Backend::refusing();
    let echo = crate::support::Echo::start().await;
    let yaml = crate::lab::config(echo.address(), "")
        .replace("health: off", "health: { check: tcp, interval: 1h, timeout: 30s, fall: 1, rise: 1 }");
    let yaml = yaml.replace(&format!("[{}]", echo.address()), &format!("[{}, {dead}]", echo.address()));
    let gateway = Gateway::start(&format!("{yaml}upgrade_sock: \"{{dir}}/upgrade.sock\"\n")).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut lab = Lab { gateway, echo, client };
    assert_eq!(lab.post("/api/v1/reload", json!({})).await.0, 200);
    let drain = |undo: bool| json!({ "upstream": "u", "address": dead.to_string(), "undo": undo });
    assert!([200, 202].contains(&lab.post("/api/v1/backends/drain", drain(false)).await.0));
    assert_eq!(lab.post("/api/v1/backends/drain", drain(true)).await.0, 200);
    let check = |history: &Value| {
        let health = &history["health"][0];
        assert_eq!((&health["to"], &health["backend"]), (&json!("down"), &json!(dead.to_string())));
        assert!(health["reason"].as_str().unwrap().starts_with("check failed: "), "{health}");
        assert_eq!((&history["reloads"][0]["ok"], history["drains"].as_array().unwrap().len()), (&json!(true), 2));
        assert!(history["drains"][0]["message"].as_str().unwrap().ends_with("is no longer drained"), "{history}");
    };
    let description = Description::of(&lab).await;
    let status = lab.get("/api/v1/status").await;
    description.check("get", "/api/v1/status", &status);
    check(&status.1["history"]);

    let successor = lab.gateway.successor().await;
    successor.log.find(&["took over 0 tunnels from process "]).await;
    let mut before = std::mem::replace(&mut lab.gateway, successor);
    assert_eq!(before.ended().await, Some(0));
    let status = within("the end of the handover", async {
        loop {
            let (_, status) = lab.get("/api/v1/status").await;
            if status["history"]["upgrades"][0].is_object() {
                return status;
            }
        }
    });
    check(&status.await["history"]);
}

#[tokio::test]
async fn the_page_needs_no_secret_and_its_stream_does() {
    let lab = with_token().await;
    let page = lab.ask(Method::GET, "/").send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert_eq!((page.status().as_u16(), page.headers()["x-frame-options"].to_str().unwrap()), (200, "DENY"));
    for part in ["default-src 'none'", "script-src 'self';", "form-action 'none'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part) && !policy.contains("unsafe"), "{policy}");
    }
    for (token, status) in [(None, 401), (Some("0123456789abcdef0123456789abcdeX"), 401), (Some(TOKEN), 200)] {
        let request = lab.ask(Method::GET, "/api/v1/live");
        let answer = token.into_iter().fold(request, |request, token| request.bearer_auth(token)).send().await.unwrap();
        assert_eq!(answer.status(), status);
        // A token in a URL is none.
        let in_url = lab.get(&format!("/api/v1/live?token={}", token.unwrap_or_default())).await;
        assert_eq!(in_url.0, 401);
    }
    let foreign = lab.ask(Method::GET, "/").header("Host", "evil.example").send().await.unwrap();
    assert_eq!(foreign.status(), 421);
    assert_eq!(lab.ask(Method::POST, "/").send().await.unwrap().status(), 405);
    let metrics = format!("http://{}/", lab.gateway.metrics.unwrap());
    assert_eq!(lab.client.get(metrics).send().await.unwrap().status(), 404, "the metrics listener has no page");
}

#[tokio::test]
async fn the_page_loads_its_own_files_and_nothing_else() {
    let lab = Lab::start("").await;
    let (mut waiting, mut loaded) = (vec!["/".to_owned()], BTreeSet::new());
    while let Some(path) = waiting.pop() {
        if !loaded.insert(path.clone()) {
            continue;
        }
        let answer = lab.ask(Method::GET, &path).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let text = answer.text().await.unwrap();
        for (begin, prefix) in [("href=\"/", "/"), ("src=\"/", "/"), ("from \"./", "/dashboard/")] {
            for (at, _) in text.match_indices(begin) {
                let name = text[at + begin.len()..].split('"').next().unwrap();
                waiting.push(format!("{prefix}{name}"));
            }
        }
        let elsewhere = text.match_indices("://").filter(|(at, _)| !text[at + 3..].starts_with("www.w3.org/2000/svg"));
        assert_eq!(elsewhere.count(), 0, "{path} names another place");
        for way in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", " onclick=\"", " style=\""]
        {
            assert!(!text.contains(way), "{path}: {way}");
        }
    }
    assert_eq!(loaded.len(), 11, "{loaded:?}");
}
