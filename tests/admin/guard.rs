//! The guard of the API: tokens and certificates, and what a browser that was led astray cannot do.

use reqwest::{Certificate, Client, ClientBuilder, Identity, Method};
use serde_json::json;

use crate::lab::{Lab, TOKEN, answer, config};
use crate::support::certificates::Authority;
use crate::support::{Echo, Gateway};

/// A gateway whose API asks for a token.
pub async fn with_token() -> Lab {
    // The file has to be there when the gateway starts: the test's own folder is made by then.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.keep().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    Lab::start(&format!("  token_file: {}\n", file.display())).await
}

#[tokio::test]
async fn a_token_is_needed_for_everything_but_life_and_readiness() {
    let lab = with_token().await;
    for (token, status) in
        [(None, 401), (Some("0123456789abcdef0123456789abcdeX"), 401), (Some(""), 401), (Some(TOKEN), 200)]
    {
        // Strangers are answered ten times a second.
        for path in ["/api/v1/status", "/metrics"] {
            let request = lab.ask(Method::GET, path);
            let request = token.map_or(request.try_clone().unwrap(), |token| request.bearer_auth(token));
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), status, "{token:?} {path}");
            assert_eq!(answer.headers().contains_key("www-authenticate"), status == 401);
        }
    }
    for path in ["/live", "/ready"] {
        assert_eq!(lab.get(path).await.0, 200);
    }
    let reload = || lab.ask(Method::POST, "/api/v1/reload").json(&json!({}));
    assert_eq!(answer(reload()).await.0, 401);
    assert_eq!(answer(reload().header("X-Longhaul-Admin", "1")).await.0, 401, "the header is no token");
    assert_eq!(answer(reload().bearer_auth(TOKEN)).await.0, 200);
    let line = lab.gateway.log.find(&["by the admin API with a token, asked for {\"command\":\"reload\"}"]).await;
    assert!(!line.contains(TOKEN), "{line}");
    lab.gateway.log.find(&["a wrong token came to the admin API from 127.0.0.1:"]).await;
}

#[tokio::test]
async fn a_change_without_a_token_has_a_form_that_no_page_can_send() {
    let lab = Lab::start("").await;
    let post = || lab.ask(Method::POST, "/api/v1/reload");
    let with_header = || post().header("X-Longhaul-Admin", "1");
    let json = "application/json";
    for (request, status, kind) in [
        // A form of a page.
        (post().header("Content-Type", "application/x-www-form-urlencoded").body("{}"), 403, "header_missing"),
        (post().header("Content-Type", "text/plain").body("{}"), 403, "header_missing"),
        (post().header("Content-Type", json).body("{}"), 403, "header_missing"),
        (with_header().header("Content-Type", "text/plain").body("{}"), 415, "content_type"),
        (with_header().body("{}"), 415, "content_type"),
        // A script of a page of another origin, or of another port of this machine.
        (with_header().json(&json!({})).header("Origin", "http://evil.example"), 403, "origin"),
        (with_header().json(&json!({})).header("Origin", "http://127.0.0.1:1"), 403, "origin"),
        (with_header().json(&json!({})).header("Origin", "null"), 403, "origin"),
        (with_header().json(&json!({})).header("Sec-Fetch-Site", "cross-site"), 403, "origin"),
        (with_header().json(&json!({})).header("Sec-Fetch-Site", "same-site"), 403, "origin"),
    ] {
        let (answered, body) = answer(request).await;
        assert_eq!((answered, &body["failure"]), (status, &json!(kind)), "{body}");
    }
    let own = format!("http://{}", lab.address());
    let request = with_header().json(&json!({})).header("Origin", own).header("Sec-Fetch-Site", "same-origin");
    assert_eq!(answer(request).await.0, 200);
}

#[tokio::test]
async fn a_page_is_never_allowed_to_read() {
    let lab = Lab::start("").await;
    let preflight = lab.ask(Method::OPTIONS, "/api/v1/status").header("Origin", "http://evil.example");
    let refused = preflight.header("Access-Control-Request-Method", "GET").send().await.unwrap();
    assert_eq!(refused.status(), 403);
    let read = lab.ask(Method::GET, "/api/v1/status").send().await.unwrap();
    for answer in [refused, read] {
        assert!(!answer.headers().keys().any(|name| name.as_str().starts_with("access-control-")));
        assert_eq!(answer.headers()["cross-origin-resource-policy"], "same-origin");
        assert_eq!(answer.headers()["cache-control"], "no-store");
    }
}

#[tokio::test]
async fn a_name_that_is_not_the_listeners_is_not_answered() {
    let lab = Lab::start("  names: [Gateway.example.com]\n").await;
    let port = lab.address().port();
    for (host, status) in [
        (format!("127.0.0.1:{port}"), 200),
        (format!("localhost:{port}"), 200),
        ("[::1]".to_owned(), 200),
        ("gateway.example.com".to_owned(), 200),
        (format!("GATEWAY.example.com:{port}"), 200),
        (format!("evil.example:{port}"), 421),
        ("gateway.example.com.evil.example".to_owned(), 421),
        (format!("127.0.0.1.evil.example:{port}"), 421),
    ] {
        let (answered, body) = answer(lab.ask(Method::GET, "/api/v1/status").header("Host", &host)).await;
        assert_eq!(answered, status, "{host}: {body}");
    }
}

#[tokio::test]
async fn beyond_loopback_a_certificate_of_the_operators_is_enough_and_one_is_needed() {
    let authority = Authority::new("operators");
    let folder = tempfile::tempdir().unwrap().keep();
    let (cert, key) = authority.issue(&["localhost"]).write(&folder, "admin");
    std::fs::write(folder.join("ca.pem"), &authority.pem).unwrap();
    let echo = Echo::start().await;
    let more = format!(
        "  tls:\n    certificates: [{{ cert: {}, key: {} }}]\n    client_auth: {{ ca: {} }}\n",
        cert.display(),
        key.display(),
        folder.join("ca.pem").display()
    );
    // Beyond loopback; it is asked on loopback all the same.
    let yaml = config(echo.address(), &more).replace("admin:\n  address: 127.0.0.1:0", "admin:\n  address: 0.0.0.0:0");
    let gateway = Gateway::start(&yaml).await;
    let url = format!("https://localhost:{}/api/v1/status", gateway.admin.unwrap().port());
    let client = |pem: Option<String>| {
        let roots = [Certificate::from_pem(authority.pem.as_bytes()).unwrap()];
        let builder = Client::builder().no_proxy().tls_certs_only(roots);
        let identity = pem.map(|pem| Identity::from_pem(pem.as_bytes()).unwrap());
        identity.into_iter().fold(builder, ClientBuilder::identity).build().unwrap()
    };
    let issued = |authority: &Authority| {
        let issued = authority.issue(&["alice"]);
        Some(issued.cert + &issued.key)
    };
    assert!(client(None).get(&url).send().await.is_err());
    assert!(client(issued(&Authority::new("strangers"))).get(&url).send().await.is_err());
    let operator = client(issued(&authority));
    assert_eq!(operator.get(&url).send().await.unwrap().status(), 200);
    let reload = url.replace("status", "reload");
    let reloaded = operator.post(reload).header("X-Longhaul-Admin", "1").json(&json!({})).send().await.unwrap();
    assert_eq!(reloaded.status(), 200);
    gateway.log.find(&["by the admin API with certificate ", "asked for {\"command\":\"reload\"}"]).await;
}
