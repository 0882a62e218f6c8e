//! A shortage of descriptors in the gateway is the gateway's own: no backend goes down, no tunnel is closed.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

use crate::cast::{Cast, User, addresses, config};
use crate::support::{Gateway, folder, limited, within};
use crate::upgrade::held;

/// Waits until nobody is connected but `users`, who have tunnels: a client who comes before there is room is refused.
async fn left(gateway: &Gateway, users: usize) {
    gateway.metric_becomes("longhaul_tunnels_open{tls=\"none\"}", users as f64).await;
    let open = format!("longhaul_connections_open{{listener=\"{}\"}}", gateway.address());
    gateway.metric_becomes(&open, 0.0).await;
}

/// Opens a tunnel as soon as there is room. Clients of the crowd that the system has connected, and that nobody has
/// accepted yet, come first, although they have left.
async fn newcomer(gateway: &Gateway) -> User {
    let opened = async {
        loop {
            if let Some(user) = User::try_open(Ipv4Addr::new(127, 10, 0, 1), gateway, 1).await {
                return user;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    within("room for a newcomer", opened).await
}

/// Waits until every backend has been checked `times` more often, which needs a descriptor each time.
async fn checked(cast: &[Cast], times: usize) {
    let goals: Vec<usize> = cast.iter().map(|backend| backend.accepted() + times).collect();
    let all = async {
        while cast.iter().zip(&goals).any(|(backend, goal)| backend.accepted() < *goal) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    within("health checks at the limit of descriptors", all).await;
}

#[tokio::test]
async fn a_crowd_that_uses_up_the_descriptors_takes_down_no_backend_and_closes_no_tunnel() {
    let cast = Cast::several(2).await;
    let health = "    drain_window: 0s\n    \
                  health: { check: tcp, interval: 200ms, timeout: 100ms, fall: 2, on_down: close }\n";
    let (_program_dir, program) = limited(110);
    let dir = folder(&config(&addresses(&cast), health));
    let gateway = Gateway::begin_with(&program, dir, &[], &[]).listening().await;
    let mut users = Vec::new();
    for number in 0..20 {
        users.push(User::open(Ipv4Addr::new(127, 9, 0, 1 + number as u8), &gateway, number).await);
    }
    // Silent, and more than there is room for: the kernel completes the handshakes, whether or not they are accepted.
    let mut crowd = Vec::new();
    for number in 0..150 {
        crowd.push(crate::cast::connect(Ipv4Addr::new(127, 66, 0, number), gateway.address()).await);
    }
    checked(&cast, 6).await;
    for backend in addresses(&cast) {
        let up = format!("longhaul_backend_up{{backend=\"{backend}\",upstream=\"u\"}}");
        assert_eq!(gateway.metric(&up).await, 1.0, "{up}");
    }
    for path in ["/live", "/ready"] {
        let url = format!("http://{}{path}", gateway.metrics.unwrap());
        assert_eq!(reqwest::get(url).await.unwrap().status(), 200, "{path} at the limit");
    }
    assert_eq!(held(&gateway).await, Some(20), "the control socket answers at the limit");
    for user in &mut users {
        user.echoes("still here").await;
    }
    assert_eq!(gateway.log.count(&["is down"]), 0, "{:?}", gateway.log.all());
    // Once the crowd has left, there is room again.
    drop(crowd);
    left(&gateway, users.len()).await;
    newcomer(&gateway).await.echoes("welcome").await;
}

/// The handshake itself meets the limit: the socket towards the backend cannot be had.
#[tokio::test]
async fn clients_that_find_no_descriptor_left_are_not_held_against_backends() {
    let cast = Cast::several(2).await;
    let (_program_dir, program) = limited(110);
    let dir = folder(&config(&addresses(&cast), "    health: { check: tcp, interval: 200ms, timeout: 100ms }\n"));
    let gateway = Gateway::begin_with(&program, dir, &[], &[]).listening().await;
    let mut users = Vec::new();
    for number in 0..10 {
        users.push(User::open(Ipv4Addr::new(127, 9, 0, 1 + number as u8), &gateway, number).await);
    }
    let mut crowd = Vec::new();
    for number in 0..60 {
        let mut wire = crate::cast::connect(Ipv4Addr::new(127, 66, 0, number), gateway.address()).await;
        wire.send(crate::cast::upgrade_to(&format!("/?u={number}"))).await;
        crowd.push(wire);
    }
    checked(&cast, 6).await;
    for user in &mut users {
        user.echoes("still here").await;
    }
    assert_eq!(gateway.log.count(&["is down"]), 0, "{:?}", gateway.log.all());
    drop(crowd);
    left(&gateway, users.len()).await;
    newcomer(&gateway).await.echoes("welcome").await;
}

/// Plain requests: Pingora makes their connections to backends.
#[tokio::test]
async fn a_crowd_of_plain_requests_leaves_descriptors_for_checks_and_metrics() {
    let cast = Cast::several(2).await;
    let (_program_dir, program) = limited(110);
    let dir = folder(&config(&addresses(&cast), "    health: { check: tcp, interval: 200ms, timeout: 100ms }\n"));
    let gateway = Gateway::begin_with(&program, dir, &[], &[]).listening().await;
    let mut user = User::open(Ipv4Addr::new(127, 9, 0, 1), &gateway, 1).await;
    let mut crowd = Vec::new();
    for number in 0..60 {
        crowd.push(crate::cast::connect(Ipv4Addr::new(127, 66, 0, number), gateway.address()).await);
    }
    // All ask at once, when clients have taken the descriptors that backends would need.
    let open = format!("longhaul_connections_open{{listener=\"{}\"}}", gateway.address());
    let accepted = async {
        while gateway.metric(&open).await < 40.0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    within("the crowd to be accepted", accepted).await;
    for (number, wire) in crowd.iter_mut().enumerate().take(40) {
        wire.send(format!("GET /never?u={number} HTTP/1.1\r\nHost: lab\r\n\r\n")).await;
    }
    checked(&cast, 6).await;
    let live = format!("http://{}/live", gateway.metrics.unwrap());
    assert_eq!(reqwest::get(live).await.unwrap().status(), 200);
    user.echoes("still here").await;
    assert_eq!(gateway.log.count(&["is down"]), 0, "{:?}", gateway.log.all());
    gateway.metric_counts("longhaul_local_failures_total{kind=\"emfile\"}").await;
}

/// A backend that does not answer SYN: its queue of connections is full. What fills the queue comes along.
fn black_hole() -> (SocketAddr, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 66, 9, 9], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut held = vec![listener];
    for _ in 0..8 {
        let filling = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        filling.set_nonblocking(true).unwrap();
        // Under way, which is all that is asked of it.
        let _ = filling.connect(&address.into());
        held.push(filling);
    }
    (address, held)
}

/// Connects that wait for a SYN's answer hold their descriptors until `timeouts.connect`.
#[tokio::test]
async fn plain_requests_to_a_backend_that_answers_no_syn_leave_descriptors_for_control_metrics_and_checks() {
    let cast = Cast::several(1).await;
    let (hole, _held) = black_hole();
    let (_program_dir, program) = limited(110);
    let yaml = config(&addresses(&cast), "    health: { check: tcp, interval: 200ms, timeout: 100ms }\n")
        .replace("routes:\n", "routes:\n  - { path: /hole, upstream: hole }\n")
        .replace(
            "upstreams:\n",
            &format!("upstreams:\n  hole: {{ health: off, backends: [{hole}], timeouts: {{ connect: 1h }} }}\n"),
        );
    let gateway = Gateway::begin_with(&program, folder(&yaml), &[], &[]).listening().await;
    let mut user = User::open(Ipv4Addr::new(127, 9, 0, 1), &gateway, 1).await;
    let mut crowd = Vec::new();
    for number in 0..60 {
        let mut wire = crate::cast::connect(Ipv4Addr::new(127, 66, 0, number), gateway.address()).await;
        wire.send(format!("GET /hole?u={number} HTTP/1.1\r\nHost: lab\r\n\r\n")).await;
        crowd.push(wire);
    }
    // All that there is room for are under way, and the first that there was none for has its answer: none was left for
    // its connection to the backend or, where all that came before it had theirs, for its own.
    let refused = format!("longhaul_refused_total{{listener=\"{}\",reason=\"descriptors\"}}", gateway.address());
    within("the descriptors to be used up", async {
        while gateway.metric("longhaul_local_failures_total{kind=\"emfile\"}").await + gateway.metric(&refused).await
            == 0.0
        {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    checked(&cast, 6).await;
    for path in ["/live", "/ready", "/metrics"] {
        let url = format!("http://{}{path}", gateway.metrics.unwrap());
        assert_eq!(reqwest::get(url).await.unwrap().status(), 200, "{path} at the limit");
    }
    assert_eq!(held(&gateway).await, Some(1));
    user.echoes("still here").await;
    assert_eq!(gateway.log.count(&["is down"]), 0, "{:?}", gateway.log.all());
}

/// Connections to the metrics listener that say nothing: the oldest ends for a new one.
#[tokio::test]
async fn a_silent_crowd_at_the_metrics_listener_keeps_nobody_from_metrics_and_checks() {
    let cast = Cast::several(2).await;
    let (_program_dir, program) = limited(110);
    let dir = folder(&config(&addresses(&cast), "    health: { check: tcp, interval: 200ms, timeout: 100ms }\n"));
    let gateway = Gateway::begin_with(&program, dir, &[], &[]).listening().await;
    let mut user = User::open(Ipv4Addr::new(127, 9, 0, 1), &gateway, 1).await;
    let metrics = gateway.metrics.unwrap();
    let mut crowd = Vec::new();
    for number in 0..150 {
        crowd.push(crate::cast::connect(Ipv4Addr::new(127, 66, 0, number), metrics).await);
    }
    for path in ["/live", "/ready", "/metrics"] {
        let url = format!("http://{metrics}{path}");
        assert_eq!(reqwest::get(url).await.unwrap().status(), 200, "{path} beside a crowd");
    }
    checked(&cast, 6).await;
    assert_eq!(held(&gateway).await, Some(1));
    user.echoes("still here").await;
    assert_eq!(gateway.log.count(&["is down"]), 0, "{:?}", gateway.log.all());
}
