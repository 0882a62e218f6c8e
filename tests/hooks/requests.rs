//! Hooks on requests and answers: continue, answer, change, choose, veto, log.

use crate::lab::{Lab, UPGRADE, config, told};
use crate::support::{Gateway, Named, Wire, hooked};

#[tokio::test]
async fn hooks_see_a_request_in_order_and_its_answer_in_the_reverse_order() {
    let lab = Lab::start().await;
    let answer = lab.get("/", &[], "").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(lab.seen().head.all("x-seen-by"), ["a", "b"]);
    assert_eq!(answer.head.all("x-answer-seen-by"), ["b", "a"]);
}

#[tokio::test]
async fn a_backend_gets_the_request_as_hooks_left_it() {
    let lab = Lab::start().await;
    let acts = [
        "a request set X-One 1",
        "a request add x-two 2",
        "b request set x-one 3",
        "b request remove x-gone",
        "b request target /other?q=1",
        "a request set host inner.test",
    ];
    lab.get("/path?room=r", &acts, "X-Gone: here\r\nX-Two: 0\r\n").await;
    let seen = lab.seen().head;
    assert_eq!(seen.target(), "/other?q=1");
    assert_eq!(seen.all("x-one"), ["3"]);
    assert_eq!(seen.all("x-two"), ["0", "2"]);
    assert_eq!(seen.get("x-gone"), None);
    assert_eq!(seen.all("host"), ["inner.test"]);
    assert_eq!(seen.all("x-forwarded-host"), ["lab"], "what the client asked for");
}

#[tokio::test]
async fn a_client_cannot_have_removed_what_a_hook_sets() {
    let lab = Lab::start().await;
    let listed = "Connection: keep-alive, X-User, X-Gone\r\nX-User: forged\r\nX-Gone: here\r\n";
    lab.get("/", &["a request set x-user anna"], listed).await;
    let seen = lab.seen().head;
    assert_eq!((seen.all("x-user"), seen.get("x-gone")), (vec!["anna"], None));
}

#[tokio::test]
async fn hooks_know_who_asks_for_what() {
    let lab = Lab::start_with("trusted_proxies: [127.0.0.1]\n").await;
    let headers = "X-Forwarded-For: 203.0.113.7\r\nCookie: b=1; c=2\r\nX-Request-Id: me\r\n";
    let told = lab.get("/path?room=a%20b", &["a request target /new?room=c+d", "b request tell"], headers).await.text();
    assert!(
        told.starts_with(
            "200 client=203.0.113.7 host=lab route=* / upstream=u upgrade=false method=GET path=/new \
             room=Some(\"c d\") cookie=Some(\"2\") id=me secure=false certificate=None\n"
        ),
        "{told}"
    );
    let told = lab.get("/", &["a request upstream v", "b request tell"], "").await.text();
    assert!(told.contains("upstream=v"), "{told}");
}

#[tokio::test]
async fn an_answer_of_a_hooks_ends_the_request_and_not_the_connection() {
    let lab = Lab::start().await;
    let mut client = Wire::connect(lab.gateway.address()).await;
    let told = "X-Act: a request answer 403 not for you\r\nX-Act: b request panic\r\n";
    let answer = client.get("/", &format!("X-Request-Id: me\r\n{told}")).await;
    assert_eq!((answer.status(), answer.text().as_str()), (403, "403 not for you\nrequest id: me\n"));
    assert_eq!(answer.head.get("x-request-id").as_deref(), Some("me"));
    assert_eq!(answer.head.get("x-answer-seen-by"), None, "no backend's answer");
    let json = client.get("/", &format!("X-Request-Id: me\r\nAccept: application/json\r\n{told}")).await.text();
    assert_eq!(json, r#"{"error":"not for you","request_id":"me","status":403}"#);
    assert_eq!(lab.reached(), 0);
    assert_eq!(client.get("/", "").await.status(), 200);
    // The gateway reads the unwanted body, so that the answer is not lost in a reset.
    client.send(format!("POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: 5\r\n{told}\r\nGET /")).await;
    assert_eq!(client.answer().await.status(), 403);
    assert_eq!(lab.reached(), 1);
    let counted = "longhaul_hook_verdicts_total{hook=\"acting\",phase=\"request\",verdict=\"answer\"}";
    assert_eq!(lab.gateway.metric(counted).await, 3.0);
    let line = lab.gateway.access.find(&[" request ", "request_id=me "]).await;
    assert!(line.contains(" status=403 scheme=http route=\"* /\" upstream=u key_source=none tries=0 "), "{line}");
}

#[tokio::test]
async fn an_answer_has_the_body_and_headers_that_the_hook_gave() {
    let lab = Lab::start().await;
    let page = lab.get("/", &["a request page x <p>hi</p>"], "Accept: application/json\r\n").await;
    assert_eq!((page.status(), page.text().as_str()), (200, "<p>hi</p>"));
    assert_eq!(page.head.all("content-type"), ["text/html"]);
    assert_eq!(page.head.all("x-page"), ["yes"]);
    assert_eq!(page.head.all("cache-control"), ["max-age=60"], "the hook's, not the gateway's");
    assert_eq!(page.head.all("content-length"), ["9"], "the gateway's, not the hook's");
    let elsewhere = lab.get("/", &["a request redirect https://id.test/"], "").await;
    assert_eq!((elsewhere.status(), elsewhere.head.get("location").unwrap().as_str()), (302, "https://id.test/"));

    let mut client = Wire::connect(lab.gateway.address()).await;
    client.send("HEAD / HTTP/1.1\r\nHost: lab\r\nX-Act: a request page x <p>hi</p>\r\n\r\n").await;
    let head = client.head().await.unwrap().unwrap();
    assert_eq!(head.all("content-length"), ["9"]);
    let empty = client.get("/", "X-Act: a request answer 204 nothing\r\n").await;
    assert_eq!((empty.status(), empty.head.get("content-length")), (204, None));
    assert_eq!(client.get("/", "").await.status(), 200, "and neither had a body");
}

#[tokio::test]
async fn the_key_is_taken_from_the_request_as_hooks_left_it() {
    let lab = Lab::start().await;
    for n in 0..8 {
        let room = format!("X-Room: {n}\r\nX-Request-Id: {n}.\r\n");
        let home = lab.get("/plain", &[], &room).await.address();
        assert_eq!(lab.get("/", &[], &room).await.address(), home);
        let set = lab.get("/", &[&format!("a request set x-room {n}")], "X-Request-Id: set.\r\n").await;
        assert_eq!(set.address(), home, "a header that a hook set");
        let given = [format!("b request key {n}"), "a request key other".into()];
        let given = lab.get("/", &[&given[0], &given[1]], "X-Room: x\r\nX-Request-Id: given.\r\n").await;
        assert_eq!(given.address(), home, "a key that the last hook gave");
        let back = lab.get("/", &["a request key other", "b request key "], &room).await;
        assert_eq!(back.address(), home, "a key that was taken back");
    }
    lab.gateway.access.find(&["request_id=0. ", " key_source=header ", " key=b6589fc6 "]).await;
    lab.gateway.access.find(&["request_id=set. ", " key_source=header ", " key=b6589fc6 "]).await;
    lab.gateway.access.find(&["request_id=given. ", " key_source=hook ", " key=b6589fc6 "]).await;
    assert_eq!(lab.gateway.metric("longhaul_picks_total{source=\"hook\",upstream=\"u\"}").await, 8.0);
}

#[tokio::test]
async fn a_hook_sends_a_request_to_another_upstream_whose_affinity_counts_there() {
    let lab = Lab::start().await;
    let far = lab.get("/?room=1", &["a request upstream v"], "X-Room: 2\r\n").await;
    assert_eq!(far.address(), lab.far.address());
    lab.gateway.access.find(&["route=\"* /\" upstream=v ", " key_source=query ", " key=356a192b "]).await;
    let requests = |upstream: &str| format!("longhaul_requests_total{{code=\"2xx\",upstream=\"{upstream}\"}}");
    lab.gateway.metric_becomes(&requests("v"), 1.0).await;
    assert_eq!(lab.gateway.metric(&requests("u")).await, 0.0);
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_the_hooks_failure() {
    let lab = Lab::start().await;
    assert_eq!(lab.get("/", &["b request upstream nowhere"], "").await.status(), 500);
    lab.gateway.log.find(&["hook acting failed in its phase request", "route * /", "`nowhere`"]).await;
    let counted = "longhaul_hook_failures_total{cause=\"error\",hook=\"acting\",phase=\"request\"}";
    assert_eq!(lab.gateway.metric(counted).await, 1.0);
    assert_eq!(lab.reached(), 0);
}

#[tokio::test]
async fn a_veto_leads_to_the_next_backend_and_is_no_failure() {
    let lab = Lab::start().await;
    let home = lab.get("/plain", &[], "X-Room: 1\r\n").await.address();
    let next = lab.get("/", &[&format!("a pick veto {home}")], "X-Room: 1\r\nX-Request-Id: me.\r\n").await;
    assert_eq!(next.status(), 200);
    let next = next.address();
    assert_ne!(next, home);
    // The second hook is not asked about a backend that the first has vetoed.
    let asked = format!("picks=\"u/{home}#0,u/{next}#1\"");
    let line = lab.gateway.access.find(&["request_id=me. ", " tries=1 "]).await;
    assert!(line.contains(&format!("picks=u/{home}#0,u/{next}#1 ")) || line.contains(&asked), "{line}");
    assert!(line.contains(&format!("picks=u/{next}#1")), "{line}");
    assert_eq!(lab.gateway.metric("longhaul_failovers_total{upstream=\"u\"}").await, 0.0);

    let nobody = lab.get("/", &["b pick veto all"], "X-Request-Id: none.\r\n").await;
    assert_eq!((nobody.status(), nobody.head.get("retry-after").is_some()), (503, true));
    lab.gateway.access.find(&["request_id=none. ", " status=503 ", " tries=0 "]).await;
    let counted = "longhaul_hook_verdicts_total{hook=\"acting\",phase=\"pick\",verdict=\"veto\"}";
    assert_eq!(lab.gateway.metric(counted).await, 4.0);
    for near in &lab.near {
        let up = format!("longhaul_backend_up{{backend=\"{}\",upstream=\"u\"}}", near.address());
        assert_eq!(lab.gateway.metric(&up).await, 1.0);
    }
    assert!(!lab.gateway.scrape().await.contains("longhaul_backend_failures_total{"));
}

#[tokio::test]
async fn hooks_change_a_backends_answer() {
    let lab = Lab::start().await;
    let acts =
        ["b response set x-one 1", "a response set x-one 2", "a response status 418", "a response remove x-label"];
    let answer = lab.get("/", &acts, "X-Request-Id: me\r\n").await;
    assert_eq!(answer.status(), 418);
    assert_eq!(answer.head.all("x-one"), ["2"], "the first hook has the last word");
    assert_eq!(answer.head.get("x-request-id").as_deref(), Some("me"));
    assert_eq!(answer.body.len(), lab.far.address().to_string().len(), "the body is the backend's");
}

#[tokio::test]
async fn what_frames_a_body_is_not_a_hooks_to_change() {
    let lab = Lab::start().await;
    for act in [
        "a request set content-length 1",
        "a request add Transfer-Encoding chunked",
        "a response set Content-Length 1",
        "a response status 204",
        "a response status 101",
    ] {
        assert_eq!(lab.get("/", &[act], "").await.status(), 500, "{act}");
    }
    let mut client = Wire::connect(lab.gateway.address()).await;
    client
        .send(
            "POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: 5\r\nX-Act: a request remove content-length\r\n\r\nhello",
        )
        .await;
    assert_eq!(client.answer().await.status(), 200);
    assert_eq!(lab.seen().body, b"hello");
    let answer = lab.get("/", &["a response remove content-length"], "").await;
    assert_eq!(answer.head.get("content-length").unwrap(), answer.body.len().to_string());
}

#[tokio::test]
async fn hooks_add_fields_to_the_log_line_whoever_answered() {
    let lab = Lab::start().await;
    let note = "b log note it's=mine";
    lab.get("/", &[note], "X-Request-Id: one.\r\n").await;
    lab.get("/", &[note, "a request answer 401 no"], "X-Request-Id: two.\r\n").await;
    lab.get("/", &[note, "a pick veto all"], "X-Request-Id: three.\r\n").await;
    lab.gateway
        .access
        .find(&["request_id=one. ", " status=200 ", " noted=it's=mine ", "seen=\"request * / 200\""])
        .await;
    lab.gateway.access.find(&["request_id=three. ", " status=503 ", " noted=it's=mine "]).await;
    let line = lab.gateway.access.find(&["request_id=two. ", " status=401 "]).await;
    assert!(!line.contains("noted"), "the hook that was not asked has no script: {line}");
}

#[tokio::test]
async fn a_route_without_an_upstream_is_its_hooks_to_answer() {
    let (near, far) = (Named::several(1).await, Named::start().await);
    let yaml = config("x", &[near[0].address()], far.address())
        .replace("routes:\n", "control_sock: '{dir}/control'\nroutes:\n  - { path: /nowhere, hooks: [acting] }\n");
    let gateway = Gateway::start_hooked(&yaml).await;
    for (acts, headers, status) in [
        (vec!["a request answer 201 made"], "", 201),
        (vec![], "", 404),
        (vec![], UPGRADE, 404),
        (vec!["a request upstream v"], "", 200),
        (vec!["a request upstream w"], "", 500),
        (vec!["a request error"], "", 500),
    ] {
        let mut client = Wire::connect(gateway.address()).await;
        let answer = client.get("/nowhere/a", &format!("{}{headers}", told(&acts))).await;
        assert_eq!(answer.status(), status, "{acts:?} {headers}");
    }
    assert_eq!((near[0].requests().len(), far.requests().len()), (0, 1));
    let line = gateway.access.find(&["request ", " status=201 ", "route=\"* /nowhere\""]).await;
    assert!(!line.contains(" upstream="), "{line}");
    gateway.metric_becomes("longhaul_requests_total{code=\"4xx\",upstream=\"-\"}", 2.0).await;
    let mut status = std::process::Command::new(hooked());
    status.arg("status").arg("-c").arg(gateway.dir.path().join("longhaul.yaml")).arg("--json");
    let status: serde_json::Value = serde_json::from_slice(&status.output().unwrap().stdout).unwrap();
    let names: Vec<_> = status["upstreams"].as_array().unwrap().iter().map(|upstream| &upstream["name"]).collect();
    assert_eq!(names, ["u", "v"]);
}
