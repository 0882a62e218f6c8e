//! One request has one meaning: spellings of paths, hosts and header names that lead past a route's hooks elsewhere.

use crate::support::{Gateway, Named, Wire, located};

/// A gateway that refuses every request for `/admin`, and every one for the host `admin.example.com`.
async fn guarded(backend: &Named, more: &str) -> Gateway {
    let hooks = "hooks: [{ hook: ip_filter, with: { deny: [127.0.0.0/8] } }]";
    let header = "hooks: [{ hook: headers, with: { request: { set: { x-user: ours } } } }]";
    Gateway::start(&format!(
        "version: 1\nlisteners:\n  - address: 127.0.0.1:0\nmetrics:\n  address: 127.0.0.1:0\nroutes:\n\
         \x20 - {{ path: /admin, upstream: u, {hooks} }}\n\
         \x20 - {{ host: admin.example.com, upstream: u, {hooks} }}\n\
         \x20 - {{ path: /tls, upstream: u, {header} }}\n\
         \x20 - {{ upstream: u }}\n\
         upstreams:\n  u: {{ backends: [{}] }}\n{more}",
        backend.address()
    ))
    .await
}

/// The status of a request on a connection of its own.
async fn status(gateway: &Gateway, head: &str) -> u16 {
    let mut client = Wire::connect(gateway.address()).await;
    client.send(format!("{head}\r\n\r\n")).await;
    client.answer().await.status()
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

#[tokio::test]
async fn hooks_see_every_spelling_of_their_path() {
    let backend = Named::start().await;
    let gateway = guarded(&backend, "").await;
    for path in [
        "/admin",
        "/%61dmin",
        "/%61%64%6D%69%6e/x",
        "//admin",
        "/x/../admin",
        "/./admin",
        "/%2e%2e/admin/../admin",
        "/admin/",
    ] {
        for more in ["", UPGRADE] {
            let head = format!("GET {path} HTTP/1.1\r\nHost: h\r\n{more}");
            let refused = status(&gateway, head.trim_end()).await;
            assert!([400, 403].contains(&refused), "{path}: {refused}");
        }
    }
    assert_eq!(backend.requests().len(), 0);
}

#[tokio::test]
async fn a_path_that_a_backend_may_read_as_a_guarded_one_is_400() {
    let backend = Named::start().await;
    let gateway = guarded(&backend, "").await;
    for path in ["/admin%2fx", "/x%2F..%2Fadmin", "/admin%5cx", "/../admin", "/admin;v=1", "/x/..;/admin"] {
        for more in ["", UPGRADE] {
            let head = format!("GET {path} HTTP/1.1\r\nHost: h\r\n{more}");
            assert_eq!(status(&gateway, head.trim_end()).await, 400, "{path}");
        }
    }
    assert_eq!(backend.requests().len(), 0);
    let count = format!("longhaul_refused_total{{listener=\"{}\",reason=\"target_unclear\"}}", gateway.address());
    gateway.metric_becomes(&count, 12.0).await;
    gateway.access.find(&[" path=/admin%2fx ", " status=400 ", " error=target_unclear"]).await;
    for path in ["/a%2fb", "/a/../b", "/../b", "/a;v=1", "/%61//b?x=/../admin"] {
        assert_eq!(status(&gateway, &format!("GET {path} HTTP/1.1\r\nHost: h")).await, 200, "{path}");
        assert_eq!(backend.last().head.target(), path, "the backend gets what the client wrote");
    }
}

#[tokio::test]
async fn where_says_of_such_a_request_that_it_is_refused() {
    let backend = Named::start().await;
    let gateway = guarded(&backend, "").await;
    let ask = |path, host| located(&gateway, &["--ip", "203.0.113.7", "--path", path, "--host", host]);
    assert_eq!(ask("/admin%2fx", "h")["refused"], "the path can be read in more than one way");
    assert_eq!(ask("/", "h/")["refused"], "the Host header does not name a host");
    assert_eq!(ask("/%61dmin", "h")["route"], "* /admin");
}

#[tokio::test]
async fn a_host_that_could_be_read_as_another_is_400() {
    let backend = Named::start().await;
    let gateway = guarded(&backend, "").await;
    for suffix in ["/", "?", "#", "\\", ", x", "..", "/../x", "@h", ":80:80", "%2f", " x"] {
        for more in ["", UPGRADE] {
            let head = format!("GET / HTTP/1.1\r\nHost: admin.example.com{suffix}\r\n{more}");
            assert_eq!(status(&gateway, head.trim_end()).await, 400, "{suffix}");
        }
    }
    assert_eq!(backend.requests().len(), 0);
    for (host, expected) in
        [("admin.example.com.", 403), ("ADMIN.example.com:8080", 403), ("h:80", 200), ("[::1]:80", 200)]
    {
        assert_eq!(status(&gateway, &format!("GET / HTTP/1.1\r\nHost: {host}")).await, expected, "{host}");
    }
}

#[tokio::test]
async fn a_header_with_an_underscore_does_not_pass_for_one_that_a_hook_sets() {
    let backend = Named::start().await;
    let forged = "X_User: admin\r\nx_forwarded_for: 6.6.6.6\r\nX-Request_Id: 1\r\nX-Other: 2\r\nx_room: 3\r\n";
    for (more, kept) in
        [("", false), ("underscores_in_headers: drop\n", false), ("underscores_in_headers: keep\n", true)]
    {
        let gateway = guarded(&backend, more).await;
        for path in ["/tls", "/"] {
            Wire::connect(gateway.address()).await.get(path, forged).await;
            let head = backend.last().head;
            assert_eq!(head.get("x-other").as_deref(), Some("2"));
            // Only one that passes for a field of a hook's, or of the gateway's own, goes nowhere.
            for (name, kept) in
                [("x_room", kept), ("x_user", kept && path == "/"), ("x_forwarded_for", false), ("x-request_id", false)]
            {
                assert_eq!(head.get(name).is_some(), kept, "{path} {more} {name}");
            }
        }
        assert_eq!(Wire::connect(gateway.address()).await.get("/tls", forged).await.status(), 200);
        assert_eq!(backend.last().head.get("x-user").as_deref(), Some("ours"));
    }
}

#[tokio::test]
async fn a_handshake_goes_on_without_underscores_too() {
    let backend = Named::start().await;
    let gateway = guarded(&backend, "").await;
    for path in ["/tls", "/"] {
        let mut client = Wire::connect(gateway.address()).await;
        client
            .send(format!("GET {path} HTTP/1.1\r\nHost: h\r\nX_User: admin\r\nX-Other: 2\r\n{UPGRADE}\r\n\r\n"))
            .await;
        // The backend answers 200, which is relayed.
        assert_eq!(client.answer().await.status(), 200);
        let head = backend.last().head;
        assert_eq!((head.get("x_user"), head.get("x-other").as_deref()), (None, Some("2")), "{path}");
    }
}
