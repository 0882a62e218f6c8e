//! A session cookie that a backend makes keeps its visitor on that backend, and the application never notices.

use std::net::{Ipv4Addr, SocketAddr};

use crate::support::{Backend, Gateway, Wire};

const VISITORS: u8 = 30;

/// An application that gives a session to whoever has none, keeps it in its own memory, and answers 440 to a session of
/// somebody else's making. `/leave` deletes the cookie.
async fn application() -> Backend {
    let address_of = |stream: &tokio::net::TcpStream| stream.local_addr().unwrap();
    Backend::start(move |stream| {
        let address: SocketAddr = address_of(&stream);
        async move {
            let mut wire = Wire::new(stream);
            let mut next = 0_u64;
            while let Some(request) = wire.request().await {
                let cookies = request.head.get("cookie").unwrap_or_default();
                let session = cookies.split("; ").find_map(|cookie| cookie.strip_prefix("JSESSIONID="));
                let port = address.port();
                next += 1;
                let (status, set) = match session {
                    _ if request.head.target() == "/leave" => {
                        ("200 OK", "Set-Cookie: JSESSIONID=; Max-Age=0; Path=/\r\n".to_owned())
                    }
                    None => ("200 OK", format!("Set-Cookie: JSESSIONID={port}-{next}; Path=/; HttpOnly\r\n")),
                    // A session is the maker's port and a number, to the letter.
                    Some(own) if own.starts_with(&format!("{port}-")) => ("200 OK", String::new()),
                    Some(_) => ("440 Login Time-out", String::new()),
                };
                let body = address.to_string();
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{set}\r\n", body.len());
                wire.send(head + &body).await;
            }
        }
    })
    .await
}

async fn gateway(backends: &[Backend]) -> Gateway {
    let list: Vec<_> = backends.iter().map(|backend| backend.address.to_string()).collect();
    let affinity = "[{ cookie: { name: JSESSIONID, born_on: backend } }, client_ip]";
    Gateway::start(&format!(
        "version: 1\nlisteners:\n  - address: 127.0.0.1:0\nroutes:\n  - upstream: u\nupstreams:\n  u:\n    \
         affinity: {affinity}\n    health: off\n    backends: [{}]\n",
        list.join(", ")
    ))
    .await
}

/// The value of the one cookie that an answer sets.
fn given(answer: &crate::support::Message) -> String {
    let lines = answer.head.all("set-cookie");
    assert_eq!(lines.len(), 1, "{answer:?}");
    lines[0].split(';').next().unwrap().strip_prefix("JSESSIONID=").unwrap().to_owned()
}

#[tokio::test]
async fn of_thirty_visitors_none_loses_the_session_that_a_backend_gave() {
    let backends = [application().await, application().await, application().await];
    let gateway = gateway(&backends).await;
    let mut homes = Vec::new();
    for visitor in 0..VISITORS {
        // Behind one address, and then from another: the cookie is what counts.
        let mut wire = Wire::connect_from(Ipv4Addr::new(127, 9, 0, 1 + visitor), gateway.address()).await;
        let first = wire.get("/", "").await;
        let cookie = given(&first);
        assert!(first.head.all("set-cookie")[0].ends_with("; Path=/; HttpOnly"), "{first:?}");
        for hop in 0..2 {
            let source = Ipv4Addr::new(127, 10, hop, 1 + visitor);
            let mut wire = Wire::connect_from(source, gateway.address()).await;
            let again = wire.get("/", &format!("Cookie: a=b; JSESSIONID={cookie}; c=d\r\n")).await;
            assert_eq!((again.status(), again.address()), (200, first.address()), "visitor {visitor}");
        }
        homes.push(first.address());
    }
    homes.sort();
    homes.dedup();
    assert_eq!(homes.len(), 3, "visitors are spread");
}

/// Another gateway with the same file, and the same gateway after a restart, read the same home out of the cookie.
#[tokio::test]
async fn a_session_is_at_home_in_another_gateway_with_the_same_file() {
    let backends = [application().await, application().await, application().await];
    let (one, other) = (gateway(&backends).await, gateway(&backends).await);
    for visitor in 0..VISITORS {
        let source = Ipv4Addr::new(127, 9, 0, 1 + visitor);
        let first = Wire::connect_from(source, one.address()).await.get("/", "").await;
        let cookie = format!("Cookie: JSESSIONID={}\r\n", given(&first));
        let again = Wire::connect_from(Ipv4Addr::new(127, 10, 0, 1), other.address()).await.get("/", &cookie).await;
        assert_eq!((again.status(), again.address()), (200, first.address()), "visitor {visitor}");
    }
}

#[tokio::test]
async fn a_deletion_passes_untouched_and_a_foreign_value_falls_to_the_next_source() {
    let backends = [application().await, application().await, application().await];
    let gateway = gateway(&backends).await;
    let source = Ipv4Addr::new(127, 9, 0, 1);
    let mut wire = Wire::connect_from(source, gateway.address()).await;
    let by_address = wire.get("/", "").await.address();
    let left = wire.get("/leave", "").await;
    assert_eq!(left.head.all("set-cookie"), ["JSESSIONID=; Max-Age=0; Path=/"]);
    // SockJS sends `dummy` by itself; old cookies have no key in front. Each goes where the address leads.
    for foreign in ["dummy", "0123456789ABCDEF.node1", "", "a.b.c", "~"] {
        let answer = wire.get("/", &format!("Cookie: JSESSIONID={foreign}\r\n")).await;
        assert_eq!(answer.address(), by_address, "{foreign:?}");
    }
}
