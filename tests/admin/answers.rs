//! Answers of the API, each checked against the description that it gives of itself.

use futures_util::StreamExt;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::lab::{Lab, config, echoes};
use crate::support::{Gateway, Named, Successor, Wire};

/// The API's description, as it is served.
pub struct Description(Value);

impl Description {
    pub async fn of(lab: &Lab) -> Self {
        let (status, description) = lab.get("/api/v1/openapi.json").await;
        assert_eq!(status, 200);
        assert_eq!(description["openapi"], "3.1.0");
        Self(description)
    }

    /// Checks an answer against the schema that the operation has for its status.
    pub fn check(&self, method: &str, path: &str, (status, answer): &(u16, Value)) {
        let responses = &self.0["paths"][path][method]["responses"];
        assert!(responses.is_object(), "{method} {path} is not described");
        let by_status = &responses[status.to_string()];
        let response = if by_status.is_null() { &responses["default"] } else { by_status };
        let schema = &response["content"]["application/json"]["schema"];
        self.check_by(schema, answer, &format!("{method} {path} {status}"));
    }

    /// Checks a value against one of the schemas.
    pub fn check_schema(&self, name: &str, value: &Value) {
        self.check_by(&json!({ "$ref": format!("#/components/schemas/{name}") }), value, name);
    }

    fn check_by(&self, schema: &Value, value: &Value, what: &str) {
        let root = json!({ "components": self.0["components"], "allOf": [schema] });
        let validator = jsonschema::validator_for(&root).unwrap();
        let faults: Vec<_> = validator.iter_errors(value).map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "{what}: {faults:?}: {value}");
    }
}

#[tokio::test]
async fn every_answer_is_as_described() {
    let lab = Lab::start("").await;
    let description = Description::of(&lab).await;
    let mut socket = lab.open("a").await;
    assert!(echoes(&mut socket).await);
    for path in ["/api/v1/status", "/api/v1/tunnels"] {
        let answer = lab.get(path).await;
        assert_eq!(answer.0, 200, "{answer:?}");
        description.check("get", path, &answer);
    }
    let rated = lab.get("/api/v1/tunnels?sort=rate&rate_ms=100&limit=1").await;
    assert!(rated.1["tunnels"][0]["rates"].is_object(), "{rated:?}");
    description.check("get", "/api/v1/tunnels", &rated);
    let text = std::fs::read_to_string(lab.gateway.dir.path().join("longhaul.yaml")).unwrap();
    let backend = lab.echo.address().to_string();
    for (path, body, status) in [
        ("/api/v1/where", json!({ "ip": "203.0.113.7", "path": "/?key=a" }), 200),
        ("/api/v1/where", json!({ "ip": "203.0.113.7", "host": "a b" }), 200),
        ("/api/v1/where", json!({ "ip": "203.0.113.7", "path": "ws" }), 422),
        ("/api/v1/where", json!({ "ip": "nobody" }), 422),
        ("/api/v1/reload", json!({}), 200),
        ("/api/v1/reload", json!({ "dry_run": true }), 200),
        ("/api/v1/plan", json!({ "text": text }), 200),
        ("/api/v1/plan", json!({ "text": "listeners: 1" }), 422),
        ("/api/v1/tunnels/close", json!({}), 422),
        ("/api/v1/tunnels/close", json!({ "all": true, "code": 1005 }), 422),
        ("/api/v1/tunnels/close", json!({ "filter": { "key": "b" } }), 404),
        ("/api/v1/tunnels/close", json!({ "filter": { "key": "a" }, "dry_run": true }), 200),
        ("/api/v1/backends/drain", json!({ "upstream": "v", "address": backend }), 422),
        ("/api/v1/backends/drain", json!({ "upstream": "u", "address": backend, "over_ms": 86_400_000 }), 202),
        ("/api/v1/backends/drain", json!({ "upstream": "u", "address": backend, "undo": true }), 200),
        ("/api/v1/backends/drain", json!({ "upstream": "u", "address": backend, "everywhere": true }), 422),
        ("/api/v1/members", json!({ "upstream": "u", "action": "set", "members": [] }), 422),
        ("/api/v1/members", json!({ "upstream": "u", "action": "move", "members": [] }), 422),
        ("/api/v1/members", json!({ "upstream": "u", "action": "add", "members": [{ "weihgt": 2 }] }), 422),
        ("/api/v1/upgrade", json!({ "binary": "/bin/true" }), 422),
        ("/api/v1/drain", json!({ "now": true }), 422),
    ] {
        let answer = lab.post(path, body.clone()).await;
        assert_eq!(answer.0, status, "{path} {body}: {answer:?}");
        description.check("post", path, &answer);
    }
    assert!(echoes(&mut socket).await, "nothing was closed");
}

#[tokio::test]
async fn the_api_says_what_the_command_line_does() {
    let lab = Lab::start("").await;
    let _socket = lab.open("a").await;
    let (_, status) = lab.get("/api/v1/status").await;
    assert_eq!((&status["pid"], &status["tunnels"]), (&json!(lab.gateway.pid()), &json!(1)));
    assert_eq!(status["admin"], lab.address().to_string());
    let (_, list) = lab.get("/api/v1/tunnels?key=a&older_ms=0&client=127.0.0.0%2F8&upstream=u").await;
    assert_eq!((&list["open"], &list["matched"], &list["shown"]), (&json!(1), &json!(1), &json!(1)));
    let id = list["tunnels"][0]["id"].as_str().unwrap();
    lab.gateway.access.find(&["tunnel_open", &format!("tunnel={id}")]).await;
    assert_eq!(lab.get(&format!("/api/v1/tunnels?id={id}&id=0123456789abcdef")).await.1["matched"], 1);
    assert_eq!(lab.get("/api/v1/tunnels?key=b").await.1["tunnels"], json!([]));
    let (_, located) = lab.post("/api/v1/where", json!({ "ip": "203.0.113.7", "path": "/?key=a" })).await;
    assert_eq!(
        (&located["backend"], &located["live"]["picked"]),
        (&json!(lab.echo.address().to_string()), &json!("ring"))
    );
}

#[tokio::test]
async fn a_tunnel_is_closed_and_the_log_says_who_asked() {
    let lab = Lab::start("").await;
    let mut socket = lab.open("secret-key").await;
    let client = tokio::spawn(async move {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(frame))) => {
                    return frame.map(|frame| (u16::from(frame.code), frame.reason.to_string()));
                }
                Some(Ok(_)) => {}
                other => panic!("no Close frame, but {other:?}"),
            }
        }
    });
    let body = json!({ "filter": { "key": "secret-key" }, "code": 4001, "reason": "bye" });
    let (status, closed) = lab.post("/api/v1/tunnels/close", body).await;
    assert_eq!((status, &closed["details"]["closing"]), (200, &json!(1)), "{closed}");
    assert_eq!(client.await.unwrap(), Some((4001, "bye".into())));
    let line = lab.gateway.log.find(&["by the admin API without a token, asked for"]).await;
    assert!(line.contains("\"command\":\"close\"") && line.contains("closing 1 tunnel"), "{line}");
    assert!(!line.contains("secret-key"), "{line}");
}

#[tokio::test]
async fn what_there_is_not_is_refused_with_the_reason() {
    let lab = Lab::start("").await;
    for (method, path, status, part) in [
        (Method::GET, "/api/v1/statistics", 404, "openapi.json"),
        (Method::GET, "/api/v2/status", 404, "openapi.json"),
        (Method::GET, "/api/v1/reload", 405, "another method"),
        (Method::GET, "/api/v1/tunnels?upstrem=u", 422, "unknown field `upstrem`"),
        (Method::GET, "/api/v1/tunnels?older_ms=soon", 422, "soon"),
        (Method::GET, "/api/v1/tunnels?key=a&key=b", 422, "twice"),
        (Method::GET, "/api/v1/tunnels?sort=name", 422, "unknown variant"),
        (Method::GET, "/api/v1/tunnels?id=1", 422, "16 hexadecimal digits"),
        (Method::GET, "/api/v1/tunnels?sort=age&limit=10001", 422, "at most 10000"),
        (Method::GET, "/api/v1/tunnels?rate_ms=60001", 422, "1m at most"),
        (Method::GET, "/nothing", 404, "/api/v1"),
    ] {
        let (answered, body) = lab.get(path).await;
        assert_eq!(answered, status, "{method} {path}: {body}");
        assert!(body.to_string().contains(part), "{path}: {body}");
    }
    let (status, body) = lab.post("/api/v1/status", json!({})).await;
    assert_eq!(status, 405, "{body}");
    let misspelt = lab.post("/api/v1/tunnels/close", json!({ "all": true, "dryrun": true })).await;
    assert_eq!(misspelt.0, 422, "{misspelt:?}");
    let broken = lab.ask(Method::POST, "/api/v1/reload").header("X-Longhaul-Admin", "1");
    let broken = crate::lab::answer(broken.header("Content-Type", "application/json").body("{")).await;
    assert_eq!(broken.0, 422, "{broken:?}");
}

#[tokio::test]
async fn a_drain_by_the_api_ends_the_gateway() {
    let lab = Lab::start("").await;
    let Lab { mut gateway, client, echo: _echo } = lab;
    let url = format!("http://{}/api/v1/drain", gateway.admin.unwrap());
    let answer = client.post(url).header("X-Longhaul-Admin", "1").json(&json!({})).send().await.unwrap();
    assert!([200, 202].contains(&answer.status().as_u16()), "{answer:?}");
    assert_eq!(gateway.ended().await, Some(0));
}

/// However long the old process still has requests: whoever asked waits for its end.
#[tokio::test]
async fn whoever_asks_for_an_upgrade_is_answered_by_the_process_that_ends() {
    let named = Named::start().await;
    let yaml = config(named.address(), "") + "upgrade_sock: \"{dir}/upgrade.sock\"\n";
    let mut gateway = Gateway::start(&yaml).await;
    gateway.log.find(&["successors are awaited at"]).await;
    let [mut between, mut begun] = [Wire::connect(gateway.address()).await, Wire::connect(gateway.address()).await];
    assert_eq!(between.get("/", "").await.status(), 200);
    begun.send("GET / HTTP/1.1\r\nHo").await;
    assert_eq!(Wire::connect(gateway.address()).await.get("/", "").await.status(), 200);

    let client = Client::builder().no_proxy().build().unwrap();
    let asked = client.post(format!("http://{}/api/v1/upgrade", gateway.admin.unwrap()));
    let asked = tokio::spawn(crate::lab::answer(asked.header("X-Longhaul-Admin", "1").json(&json!({}))));
    // The old process closes it half a second after it has stopped accepting.
    assert!(between.head().await.unwrap().is_none());
    begun.send("st: lab\r\n\r\n").await;
    assert_eq!(begun.answer().await.status(), 200);
    let (status, answer) = asked.await.unwrap();
    let message = answer["message"].as_str().unwrap();
    let _successor = Successor::of(message);
    assert_eq!(status, 200, "{answer}");
    assert!(message.contains(" has taken over: 0 tunnels moved, 0 stayed, "), "{message}");
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn metrics_readiness_and_liveness_are_beside_it_and_where_they_were() {
    let lab = Lab::start("").await;
    for path in ["/live", "/ready", "/metrics"] {
        for address in [lab.address(), lab.gateway.metrics.unwrap()] {
            let answer = lab.client.get(format!("http://{address}{path}")).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{address}{path}");
        }
    }
    let there = lab.client.get(format!("http://{}/api/v1/status", lab.gateway.metrics.unwrap())).send().await.unwrap();
    assert_eq!(there.status(), 404, "the metrics listener has no API");
}
