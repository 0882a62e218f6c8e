//! Answers that the gateway gives itself.

use crate::support::{Backend, Gateway};

#[tokio::test]
async fn a_request_that_no_route_matches_is_answered_404() {
    let gateway = Gateway::start(&format!(
        "version: 1\nlisteners:\n  - address: 127.0.0.1:0\nroutes:\n  - path: /known\n    upstream: u\nupstreams:\n  u:\n    backends: [{}]\n",
        Backend::refusing()
    ))
    .await;
    let response = reqwest::get(format!("http://{}/other", gateway.address())).await.unwrap();
    assert_eq!(response.status(), 404);
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let body = response.text().await.unwrap();
    assert!(body.starts_with("404 no route matches this host and path\n") && body.contains(&id), "{body}");
}
