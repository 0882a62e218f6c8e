//! Destructors of hooks' values that panic: one tunnel or request is lost, and nothing else.

use crate::support::{Gateway, Lines, folder, hooked};
use crate::talk::Ends;
use crate::wire::{self, From, Manual, Wire, configuration, switching, upgrade};

/// A gateway with one worker. `/fall` has two hooks that fall as they are told, `/drop` one that falls with its
/// configuration, `/never` one whose context cannot be made.
struct Lab {
    gateway: Gateway,
    backend: Manual,
}

impl Lab {
    async fn start() -> Self {
        let backend = Manual::start().await;
        let gateway = Gateway::start_hooked(&yaml(&backend)).await;
        Self { gateway, backend }
    }

    async fn open(&mut self, path: &str, headers: &str) -> Ends {
        let mut client = Wire::connect(self.gateway.address()).await;
        client.send(upgrade(headers).replace("GET / ", &format!("GET {path} "))).await;
        let mut server = self.backend.next().await;
        server.head().await;
        server.send(switching("")).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Ends(client, server)
    }

    /// The head of the answer to an upgrade that opens no tunnel.
    async fn refused(&self, path: &str, headers: &str) -> String {
        let mut client = Wire::connect(self.gateway.address()).await;
        client.send(upgrade(headers).replace("GET / ", &format!("GET {path} "))).await;
        client.head().await
    }

    /// Asserts that failures were logged, and counted so many times.
    async fn assert_told(&self, hook: &str, phase: &str, cause: &str, says: &str, times: usize) {
        let line = format!("hook {hook} failed in its phase {phase}: {says}");
        self.gateway.log.find_nth(&[&line], times - 1).await;
        let counted = format!("longhaul_hook_failures_total{{cause=\"{cause}\",hook=\"{hook}\",phase=\"{phase}\"}}");
        self.gateway.metric_becomes(&counted, times as f64).await;
    }

    /// Asserts that these are the tunnels that are open, and that messages pass through them.
    async fn assert_lives(&self, tunnels: &mut [Ends]) {
        for ends in tunnels.iter_mut() {
            ends.say(From::Client, "still here").await;
            ends.expect(From::Backend, 0x81, "still here").await;
        }
        let open = format!("longhaul_backend_tunnels{{backend=\"{}\",upstream=\"u\"}}", self.backend.address());
        self.gateway.metric_becomes(&open, tunnels.len() as f64).await;
    }
}

fn yaml(backend: &Manual) -> String {
    let hooks = [
        ("/fall", "[{ hook: falling, timeout: 200ms }, { hook: falling, timeout: 200ms }]"),
        ("/drop", "[{ hook: falling, with: { falls: running } }]"),
        ("/never", "[{ hook: unmakeable }]"),
    ];
    let routes = hooks.map(|(path, hooks)| format!("  - {{ path: {path}, upstream: u, hooks: {hooks} }}\n")).concat();
    configuration(&[backend.address()], "    health: off\n")
        .replace("threads: 2", "threads: 1")
        .replace("  - upstream: u\n", &format!("{routes}  - {{ path: /plain, upstream: u }}\n"))
}

async fn close(mut ends: Ends) {
    ends.send(From::Client, wire::close(From::Client, 1000)).await;
    ends.expect(From::Backend, 0x88, 1000_u16.to_be_bytes()).await;
    ends.send(From::Backend, wire::close(From::Backend, 1000)).await;
    ends.expect(From::Client, 0x88, 1000_u16.to_be_bytes()).await;
}

#[tokio::test]
async fn a_context_that_panics_when_dropped_costs_its_own_tunnel_and_no_other() {
    let mut lab = Lab::start().await;
    let mut others = Vec::new();
    for path in ["/fall", "/fall", "/fall", "/plain", "/plain", "/plain"] {
        others.push(lab.open(path, "").await);
    }
    for times in 1..=2 {
        // The contexts of both hooks panic, one after the other.
        close(lab.open("/fall", "X-Fall: context\r\n").await).await;
        lab.assert_told("falling", "drop", "panic", "it panicked: as told", 2 * times).await;
        lab.assert_lives(&mut others).await;
    }
    lab.gateway.access.find_nth(&["tunnel_end"], 1).await;
    assert_eq!(lab.gateway.access.count(&["tunnel_end"]), 2);
    // Contexts that panic while the process ends do not keep it from that.
    others.push(lab.open("/fall", "X-Fall: context\r\n").await);
    lab.gateway.signal("INT");
    assert_eq!(lab.gateway.ended().await, Some(0));
}

#[tokio::test]
async fn a_request_whose_context_panics_when_dropped_is_answered_all_the_same() {
    let lab = Lab::start().await;
    // The upgrade is refused by the limit, so that no tunnel takes the contexts on.
    let head = lab.refused("/fall", "X-Fall: context\r\nX-Max-Age: 18446744073709551615\r\n").await;
    assert!(head.starts_with("HTTP/1.1 500 "), "{head}");
    lab.assert_told("falling", "drop", "panic", "it panicked: as told", 2).await;
}

#[tokio::test]
async fn a_call_that_panics_when_it_is_given_up_ends_its_tunnel_with_1011() {
    let mut lab = Lab::start().await;
    let mut others = vec![lab.open("/fall", "").await, lab.open("/plain", "").await];
    let mut ends = lab.open("/fall", "").await;
    ends.say(From::Client, "hold").await;
    ends.expect_close(1011, "hook_failed").await;
    let says = "no answer within 200ms, and the call panicked when it was dropped: as told";
    lab.assert_told("falling", "message", "timeout", says, 1).await;
    let dropped = "longhaul_hook_failures_total{cause=\"panic\",hook=\"falling\",phase=\"drop\"}";
    lab.gateway.metric_becomes(dropped, 1.0).await;
    lab.gateway.access.find(&["tunnel_end", "close_code=1011 by=gateway reason=hook_failed"]).await;
    lab.assert_lives(&mut others).await;
}

#[tokio::test]
async fn a_call_that_panics_when_its_client_leaves_keeps_no_tunnel_open() {
    let mut lab = Lab::start().await;
    let mut others = vec![lab.open("/fall", "").await];
    let Ends(mut client, _server) = lab.open("/fall", "").await;
    client.send(wire::text(From::Client, "hold")).await;
    client.reset();
    // Whether the client or the time limit comes first, the panic is told once and counted.
    lab.gateway.log.find(&["hook falling failed in its phase ", " panicked", ": as told"]).await;
    let dropped = "longhaul_hook_failures_total{cause=\"panic\",hook=\"falling\",phase=\"drop\"}";
    lab.gateway.metric_becomes(dropped, 1.0).await;
    lab.gateway.access.find(&["tunnel_end"]).await;
    lab.assert_lives(&mut others).await;
}

#[tokio::test]
async fn a_context_that_cannot_be_made_is_a_500_that_names_its_hook() {
    let mut lab = Lab::start().await;
    let mut others = vec![lab.open("/fall", "").await];
    for times in 1..=2 {
        let head = lab.refused("/never", "").await;
        assert!(head.starts_with("HTTP/1.1 500 "), "{head}");
        lab.assert_told("unmakeable", "context", "panic", "it panicked: as told", times).await;
    }
    lab.assert_lives(&mut others).await;
}

#[tokio::test]
async fn a_panics_payload_and_an_errors_text_that_panic_are_a_500() {
    let mut lab = Lab::start().await;
    let mut others = vec![lab.open("/fall", "").await];
    for (fall, says, times) in
        [("payload", "it panicked: something that is no text", 1), ("error", "it panicked: as told", 2)]
    {
        let head = lab.refused("/fall", &format!("X-Fall: {fall}\r\n")).await;
        assert!(head.starts_with("HTTP/1.1 500 "), "{head}");
        let line = format!("hook falling failed in its phase request: {says}");
        lab.gateway.log.find(&[&line]).await;
        let counted = "longhaul_hook_failures_total{cause=\"panic\",hook=\"falling\",phase=\"request\"}";
        lab.gateway.metric_becomes(counted, f64::from(times)).await;
    }
    lab.assert_lives(&mut others).await;
}

#[tokio::test]
async fn a_hook_that_panics_when_it_goes_with_its_last_tunnel_costs_no_other_tunnel() {
    let mut lab = Lab::start().await;
    let mut others = vec![lab.open("/fall", "").await, lab.open("/plain", "").await];
    let last = lab.open("/drop", "").await;
    let file = lab.gateway.dir.path().join("longhaul.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("falls: running", "falls: never")).unwrap();
    lab.gateway.signal("HUP");
    lab.gateway.metric_becomes("longhaul_config_generation", 2.0).await;
    close(last).await;
    lab.assert_told("falling", "drop", "panic", "it panicked: as told", 1).await;
    lab.assert_lives(&mut others).await;
}

#[tokio::test]
async fn check_names_a_hook_that_panics_when_it_is_dropped() {
    let backend = Manual::start().await;
    let mut checked =
        Gateway::begin_with(&hooked(), folder(&yaml(&backend).replace("running", "checking")), &["-t"], &[]);
    let log: Lines = checked.log.clone();
    log.find(&["the hook `falling` panicked when it was dropped: as told"]).await;
    assert_eq!(checked.ended().await, Some(2));
}

#[tokio::test]
async fn a_limit_that_no_tunnel_can_have_is_a_500_that_names_its_hook_and_hurts_nobody() {
    let mut lab = Lab::start().await;
    let mut others = vec![lab.open("/fall", "").await, lab.open("/plain", "").await];
    for (number, seconds) in ["18446744073709551615", "31536001", "0"].into_iter().enumerate() {
        let head = lab.refused("/fall", &format!("X-Max-Age: {seconds}\r\n")).await;
        assert!(head.starts_with("HTTP/1.1 500 "), "{head}");
        let says = "it set a limit that no tunnel can have: `max_age` is ";
        lab.assert_told("falling", "upgrade", "error", says, number + 1).await;
    }
    others.push(lab.open("/fall", "X-Max-Age: 31536000\r\n").await);
    lab.assert_lives(&mut others).await;
}
