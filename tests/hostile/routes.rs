//! One request has one route: another spelling of its path or of its host is no way around a hook.

use std::net::Ipv4Addr;

use crate::cast::{ask, both};
use crate::support::{Gateway, Named, located};

const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 66, 0, 1);

/// `/admin` and the host `admin.example.com` are closed to everybody by a hook; the rest is open, to the same upstream.
async fn start() -> (Named, Gateway) {
    let backend = Named::start().await;
    let closed = "hooks: [{ hook: ip_filter, with: { allow: [192.0.2.1] } }]";
    let gateway = Gateway::start(&format!(
        "version: 1\nlisteners:\n  - address: 127.0.0.1:0\nmetrics:\n  address: 127.0.0.1:0\nroutes:\n  \
         - {{ path: /admin, upstream: u, {closed} }}\n  - {{ host: admin.example.com, upstream: u, {closed} }}\n  \
         - {{ host: open.example.com, path: /admin, upstream: u, {closed} }}\n  - upstream: u\n\
         upstreams:\n  u: {{ backends: [{}], health: off }}\n",
        backend.address()
    ))
    .await;
    (backend, gateway)
}

#[tokio::test]
async fn no_spelling_of_a_path_leads_around_the_hook_of_its_route() {
    let (backend, gateway) = start().await;
    let spellings = [
        "/admin",
        "/admin/",
        "/admin/x",
        "/admin?x",
        "/%61dmin",
        "/%61%64%6D%69%6e",
        "//admin",
        "///admin",
        "/./admin",
        "/%2e/admin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/x/.%2E/admin",
        "/x/y/../../admin/",
        "/x//..//admin",
        "/admin//x",
        "/admin/./x",
        "/admin%2fx",
        "/admin%2Fx",
        "/admin%5cx",
        "/x%2f..%2fadmin",
        "/x/..%2fadmin",
        "/%2fadmin",
        "/../admin",
        "/x/../../admin",
        "/admin/../admin",
        "/admin%00",
        "/admin%00x",
        "/admin%00/../x",
        "/admin%0a",
        "/admin%0D%0A/x",
        "/%09admin",
        "/ad%7fmin",
        "/x/.%01./admin",
        "/admin\u{1}",
        "/admin\u{7f}",
        "/admin\u{0}",
        "http://open.example.com/admin%00",
        "http://open.example.com/admin",
        "http://open.example.com//admin",
    ];
    for target in spellings {
        for request in both(target, "open.example.com") {
            let status = ask(CLIENT, &gateway, &request).await.status();
            assert!([403, 400].contains(&status), "{status}: {request}");
        }
    }
    let reached: Vec<_> = backend.requests().iter().map(|request| request.head.start.clone()).collect();
    assert_eq!(reached, Vec::<String>::new(), "the backend hears of none");
}

#[tokio::test]
async fn no_spelling_of_a_host_leads_around_the_hook_of_its_route() {
    let (backend, gateway) = start().await;
    for host in ["admin.example.com", "ADMIN.example.COM", "admin.example.com:80", "admin.example.com:8080"] {
        for request in both("/", host) {
            assert_eq!(ask(CLIENT, &gateway, &request).await.status(), 403, "{host}");
        }
    }
    let not_hosts = [
        "admin.example.com/",
        "admin.example.com?",
        "admin.example.com#",
        "admin.example.com\\",
        "admin.example.com, x",
        "admin.example.com x",
        "admin.example.com..",
        "x@admin.example.com",
        "admin.example.com:",
        "admin.example.com:x",
        "admin.example.com:99999999",
        "admin.example.com%00",
        "[::1",
        "",
    ];
    for host in not_hosts.into_iter().filter(|host| *host != "admin.example.com:" && !host.is_empty()) {
        for request in both("/", host) {
            assert_eq!(ask(CLIENT, &gateway, &request).await.status(), 400, "{host:?}");
        }
    }
    // RFC 3986 allows an empty port, and an empty host names no virtual host: never the open route's in its stead.
    for request in both("/", "admin.example.com:") {
        let status = ask(CLIENT, &gateway, &request).await.status();
        assert!([403, 400].contains(&status), "{status}: {request}");
    }
    assert!(backend.requests().is_empty(), "the backend hears of none");
}

#[tokio::test]
async fn a_path_with_an_encoded_nul_is_refused_on_every_route_counted_and_logged() {
    let (backend, gateway) = start().await;
    for request in both("/a%00b", "open.example.com") {
        let answer = ask(CLIENT, &gateway, &request).await;
        assert_eq!(answer.status(), 400, "{request}");
        assert!(answer.body.contains("the path has a zero byte in it"), "{answer:?}");
    }
    let listener = gateway.address();
    let refused = format!("longhaul_refused_total{{listener=\"{listener}\",reason=\"target_nul\"}}");
    gateway.metric_becomes(&refused, 2.0).await;
    gateway.access.find_nth(&[" request ", " path=/a%00b ", " status=400 ", " error=target_nul"], 1).await;
    assert!(backend.requests().is_empty());
    let where_to = located(&gateway, &["--ip", "192.0.2.7", "--host", "open.example.com", "--path", "/a%00b"]);
    assert_eq!(where_to["refused"], "the path has a zero byte in it", "{where_to}");
    // These go on as the client wrote them.
    for target in ["/?q=%00", "/a%0Ab", "/a%7F"] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: open.example.com\r\n\r\n");
        assert_eq!(ask(CLIENT, &gateway, &request).await.status(), 200, "{target}");
        assert_eq!(backend.last().head.target(), target);
    }
}

/// RFC 9112 §3.2.2: the target's host is what counts.
#[tokio::test]
async fn the_host_of_an_absolute_target_decides_whatever_the_header_says() {
    let (backend, gateway) = start().await;
    for request in both("http://admin.example.com/", "open.example.com") {
        assert_eq!(ask(CLIENT, &gateway, &request).await.status(), 403, "{request}");
    }
    assert!(backend.requests().is_empty());
    let request = "GET http://open.example.com/ HTTP/1.1\r\nHost: admin.example.com\r\n\r\n";
    assert_eq!(ask(CLIENT, &gateway, request).await.status(), 200);
    assert_eq!(backend.last().head.all("host"), ["open.example.com"]);
}

#[tokio::test]
async fn an_open_route_passes_the_path_on_as_the_client_wrote_it() {
    let (backend, gateway) = start().await;
    for target in ["/a%20b//c/./d", "/x/../y", "/%7Euser/?q=%2F..", "/a%2fb", "/caf%C3%A9", "/<>\"?<>\""] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: open.example.com\r\n\r\n");
        assert_eq!(ask(CLIENT, &gateway, &request).await.status(), 200, "{target}");
        assert_eq!(backend.last().head.target(), target);
    }
}
