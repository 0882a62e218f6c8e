//! A hook that breaks, wherever it does, costs the one tunnel or request that it broke in.

use std::net::{Ipv4Addr, SocketAddr};

use crate::cast::{Cast, User, addresses, config, connect, upgrade_to};
use crate::support::{Gateway, within};
use crate::wire::{From, Wire, close, text};

/// Routes `/sync` and `/async` with a hook that breaks as requests and messages say, `/unmakeable` with one whose
/// context cannot be made, and `/` without a hook. Two workers.
fn yaml(backends: &[SocketAddr], more: &str) -> String {
    let hook = |settings: &str| format!("[{{ hook: breaking, with: {{ {settings} }}, timeout: 200ms }}]");
    let routes =
        [("/sync", hook("")), ("/async", hook("awaited: true")), ("/unmakeable", "[{ hook: unmakeable }]".to_owned())];
    let routes = routes.map(|(path, hooks)| format!("  - {{ path: {path}, upstream: u, hooks: {hooks} }}\n")).concat();
    config(backends, &format!("    health: off\n{more}")).replace("routes:\n", &format!("routes:\n{routes}"))
}

async fn start() -> (Vec<Cast>, Gateway) {
    let cast = Cast::several(1).await;
    let gateway = Gateway::start_hooked(&yaml(&addresses(&cast), "")).await;
    (cast, gateway)
}

/// Opens a tunnel on a route with a hook, whose context is told to break.
async fn breaking(gateway: &Gateway, path: &str, verb: &str) -> User {
    let mut wire = connect(Ipv4Addr::new(127, 66, 0, 1), gateway.address()).await;
    wire.send(upgrade_to(path).replace("Host: test\r\n", &format!("Host: test\r\nX-Break: {verb}\r\n"))).await;
    let head = wire.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let home = String::from_utf8(wire.frame().await.payload).unwrap().parse().unwrap();
    User { wire, home }
}

async fn neighbours(gateway: &Gateway) -> Vec<User> {
    let mut users = Vec::new();
    for number in 0..20 {
        users.push(User::open(Ipv4Addr::new(127, 9, 0, 1 + number as u8), gateway, number).await);
    }
    users
}

/// Every neighbour echoes, and as many newcomers as reach each worker get tunnels and answers.
async fn unharmed(gateway: &Gateway, neighbours: &mut [User]) {
    for user in neighbours {
        user.echoes("still here").await;
    }
    for number in 0..20 {
        let source = Ipv4Addr::new(127, 10, 0, 1 + number as u8);
        User::open(source, gateway, number).await.echoes("welcome").await;
        let mut plain = connect(source, gateway.address()).await;
        plain.send("GET / HTTP/1.1\r\nHost: lab\r\n\r\n").await;
        assert_eq!(plain.answer().await.status(), 200);
    }
}

/// No tunnel is counted any more, and an ordinary end is one.
async fn ends_in_order(mut gateway: Gateway, backend: SocketAddr) {
    let open = format!("longhaul_backend_tunnels{{backend=\"{backend}\",upstream=\"u\"}}");
    gateway.metric_becomes(&open, 0.0).await;
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await, Some(0), "{:?}", gateway.log.all());
}

/// The hook's failures that were counted, in whatever phase.
async fn failures(gateway: &Gateway, hook: &str) -> f64 {
    let text = gateway.scrape().await;
    let lines = text.lines().filter(|line| line.starts_with("longhaul_hook_failures_total{"));
    let lines = lines.filter(|line| line.contains(&format!("hook=\"{hook}\"")));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Waits until so many were counted.
async fn failed(gateway: &Gateway, hook: &str, least: f64) {
    let counted = async { while failures(gateway, hook).await < least {} };
    within(&format!("{least} failures of {hook}"), counted).await;
}

async fn say_goodbye(user: &mut User) {
    user.wire.send(close(From::Client, 1000)).await;
    user.wire.gone().await;
}

/// A limit that no clock can hold is refused with its request, or bounded; nobody else notices.
#[tokio::test]
async fn limits_without_end_or_of_nothing_that_a_hook_sets_cost_nobody_else_a_tunnel() {
    let (cast, gateway) = start().await;
    let mut neighbours = neighbours(&gateway).await;
    for verb in ["max_age", "idle", "ping", "tcp_user_timeout", "max_message", "zero"] {
        for path in ["/sync", "/async"] {
            let mut wire = connect(Ipv4Addr::new(127, 66, 0, 1), gateway.address()).await;
            wire.send(upgrade_to(path).replace("Host: test\r\n", &format!("Host: test\r\nX-Break: {verb}\r\n"))).await;
            let head = wire.head().await;
            assert!(head.starts_with("HTTP/1.1 101 ") || head.starts_with("HTTP/1.1 500 "), "{verb}: {head}");
            unharmed(&gateway, &mut neighbours).await;
        }
    }
    drop(neighbours);
    ends_in_order(gateway, cast[0].address()).await;
}

#[tokio::test]
async fn a_context_that_panics_in_its_destructor_costs_its_own_tunnel_alone() {
    for path in ["/sync", "/async"] {
        let (cast, gateway) = start().await;
        let mut neighbours = neighbours(&gateway).await;
        let mut others = Vec::new();
        for _ in 0..6 {
            others.push(breaking(&gateway, path, "drop").await);
        }
        let mut one = breaking(&gateway, path, "drop").await;
        one.echoes("hello").await;
        say_goodbye(&mut one).await;
        for other in &mut others {
            other.echoes("still here").await;
        }
        unharmed(&gateway, &mut neighbours).await;
        failed(&gateway, "breaking", 1.0).await;
        for other in &mut others {
            say_goodbye(other).await;
        }
        drop(neighbours);
        ends_in_order(gateway, cast[0].address()).await;
    }
}

/// The lock that a panic left poisoned makes the destructor panic, too.
#[tokio::test]
async fn a_destructor_that_finds_a_poisoned_lock_costs_its_own_tunnel_alone() {
    for path in ["/sync", "/async"] {
        let (cast, gateway) = start().await;
        let mut neighbours = neighbours(&gateway).await;
        let mut one = breaking(&gateway, path, "poison").await;
        one.wire.send(text(From::Client, "poison")).await;
        assert_eq!(code(&mut one.wire).await, 1011);
        drop(one);
        unharmed(&gateway, &mut neighbours).await;
        drop(neighbours);
        ends_in_order(gateway, cast[0].address()).await;
    }
}

/// Plain requests and refused upgrades have contexts, too.
#[tokio::test]
async fn a_context_that_panics_in_its_destructor_after_a_request_costs_nobody_else() {
    let (cast, gateway) = start().await;
    let mut neighbours = neighbours(&gateway).await;
    for _ in 0..8 {
        let mut wire = connect(Ipv4Addr::new(127, 66, 0, 1), gateway.address()).await;
        wire.send("GET /sync HTTP/1.1\r\nHost: lab\r\nX-Break: drop\r\n\r\n").await;
        assert_eq!(wire.answer().await.status(), 200);
        let mut wire = connect(Ipv4Addr::new(127, 66, 0, 1), gateway.address()).await;
        wire.send(upgrade_to("/sync").replace("Sec-WebSocket-Version: 13", "X-Break: drop")).await;
        assert!([400, 426].contains(&wire.answer().await.status()));
    }
    unharmed(&gateway, &mut neighbours).await;
    drop(neighbours);
    ends_in_order(gateway, cast[0].address()).await;
}

#[tokio::test]
async fn contexts_that_panic_in_their_destructors_let_an_upgrade_and_a_drain_end() {
    let (_cast, mut gateway) = start().await;
    gateway.log.find(&["successors are awaited at"]).await;
    let mut users = Vec::new();
    for number in 0..6 {
        let path = if number % 2 == 0 { "/sync" } else { "/async" };
        users.push(breaking(&gateway, path, "drop").await);
    }
    let mut successor = gateway.successor().await;
    assert_eq!(gateway.ended().await, Some(0), "{:?}", gateway.log.all());
    for user in &mut users {
        user.echoes("still here").await;
    }
    // Contexts of the old kind again, which a drain ends.
    for path in ["/sync", "/async"] {
        users.push(breaking(&successor, path, "drop").await);
    }
    successor.signal("INT");
    assert_eq!(successor.ended().await, Some(0), "{:?}", successor.log.all());
}

#[tokio::test]
async fn a_context_that_cannot_be_made_costs_its_request_a_500_with_a_name() {
    let (cast, gateway) = start().await;
    let mut neighbours = neighbours(&gateway).await;
    for request in ["GET /unmakeable HTTP/1.1\r\nHost: lab\r\n\r\n".to_owned(), upgrade_to("/unmakeable")] {
        let mut wire = connect(Ipv4Addr::new(127, 66, 0, 1), gateway.address()).await;
        wire.send(request).await;
        assert_eq!(wire.answer().await.status(), 500);
    }
    gateway.log.find(&["hook unmakeable failed"]).await;
    failed(&gateway, "unmakeable", 2.0).await;
    unharmed(&gateway, &mut neighbours).await;
    drop(neighbours);
    ends_in_order(gateway, cast[0].address()).await;
}

/// The call holds something that panics when the call is given up at its time limit.
#[tokio::test]
async fn a_call_that_panics_when_it_is_given_up_ends_its_tunnel_with_1011_and_is_counted() {
    let (cast, gateway) = start().await;
    let mut neighbours = neighbours(&gateway).await;
    let mut one = breaking(&gateway, "/async", "").await;
    one.wire.send(text(From::Client, "guard")).await;
    assert_eq!(code(&mut one.wire).await, 1011);
    gateway.access.find(&["tunnel_end", "close_code=1011 by=gateway reason=hook_failed"]).await;
    let timeout = "longhaul_hook_failures_total{cause=\"timeout\",hook=\"breaking\",phase=\"message\"}";
    gateway.metric_becomes(timeout, 1.0).await;
    let dropped = "longhaul_hook_failures_total{cause=\"panic\",hook=\"breaking\",phase=\"drop\"}";
    gateway.metric_becomes(dropped, 1.0).await;
    gateway
        .log
        .find(&["hook breaking failed in its phase message: no answer within", "panicked when it was dropped"])
        .await;
    assert_eq!(gateway.log.count(&["hook breaking failed"]), 1, "one line: {:?}", gateway.log.all());
    drop(one);
    unharmed(&gateway, &mut neighbours).await;
    drop(neighbours);
    ends_in_order(gateway, cast[0].address()).await;
}

/// The hook of an old configuration is dropped with its last tunnel, and the one that `check` builds at once.
#[tokio::test]
async fn a_hook_that_panics_in_its_own_destructor_costs_nobody_a_tunnel() {
    let cast = Cast::several(1).await;
    let yaml = yaml(&addresses(&cast), "").replace("with: {  }", "with: { last_words: true }");
    assert!(yaml.contains("last_words"));
    let gateway = Gateway::start_hooked(&yaml).await;
    let mut neighbours = neighbours(&gateway).await;
    let mut one = breaking(&gateway, "/sync", "").await;
    let file = gateway.dir.path().join("longhaul.yaml");
    let text = std::fs::read_to_string(&file).unwrap().replace("last_words: true", "last_words: false");
    std::fs::write(&file, text).unwrap();
    gateway.signal("HUP");
    gateway.metric_becomes("longhaul_config_generation", 2.0).await;
    one.echoes("before the end").await;
    say_goodbye(&mut one).await;
    unharmed(&gateway, &mut neighbours).await;
    drop(neighbours);
    ends_in_order(gateway, cast[0].address()).await;
}

/// Messages that a hook sends stand in the order in which it sent them, its verdict last.
#[tokio::test]
async fn a_reply_and_a_close_come_after_what_the_hook_sent_before_them() {
    let (_cast, gateway) = start().await;
    for path in ["/sync", "/async"] {
        let mut one = breaking(&gateway, path, "").await;
        one.wire.send(text(From::Client, "order")).await;
        for word in ["first", "second"] {
            assert_eq!(one.wire.frame().await.payload, word.as_bytes(), "{path}");
        }
        one.wire.send(text(From::Client, "order and close")).await;
        assert_eq!(one.wire.frame().await.payload, b"first", "{path}");
        assert_eq!(code(&mut one.wire).await, 4000, "{path}");
    }
}

/// The code of the next frame, which is a Close frame.
async fn code(wire: &mut Wire) -> u16 {
    let frame = within("a Close frame", wire.frame()).await;
    assert_eq!(frame.first, 0x88, "{frame:?}");
    u16::from_be_bytes([frame.payload[0], frame.payload[1]])
}
