//! The command line as its users meet it: exit codes, words, signals.

#[path = "support/mod.rs"]
mod support;

use support::Gateway;

const CONFIG: &str = "version: 1\nlisteners:\n  - address: 127.0.0.1:0\nroutes:\n  - upstream: u\nupstreams:\n  u:\n    backends: [127.0.0.1:9]\n    health: off\n";

#[tokio::test]
async fn signals_that_a_gateway_takes_do_not_end_it_from_its_first_word_on() {
    for _ in 0..20 {
        let mut gateway = Gateway::start(CONFIG).await;
        gateway.signal("HUP");
        gateway.signal("USR1");
        gateway.log.find(&["SIGHUP: this version reads its configuration at the start only"]).await;
        gateway.signal("INT");
        assert_eq!(gateway.ended().await, Some(0));
    }
}

#[tokio::test]
async fn a_gateway_told_to_end_at_once_ends_in_order() {
    for signal in ["INT", "TERM"].into_iter().cycle().take(40) {
        let mut gateway = Gateway::start(CONFIG).await;
        gateway.signal(signal);
        assert_eq!(gateway.ended().await, Some(0), "{signal}");
    }
}
