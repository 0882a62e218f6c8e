//! Reloads while tunnels with hooks are open.

use crate::talk::{Ends, Talk, yaml};
use crate::wire::{self, From};

/// Label of the hook that answers in a tunnel.
async fn label(ends: &mut Ends) -> String {
    ends.say(From::Client, "who").await;
    String::from_utf8(ends.0.frame().await.payload).unwrap()
}

async fn reload(talk: &Talk, label: &str, nth: usize) {
    talk.gateway.reload(&yaml(&talk.backend, label, ""));
    talk.gateway.log.find_nth(&["reloaded: generation"], nth - 1).await;
}

async fn end(talk: &Talk, mut ends: Ends, nth: usize) {
    ends.send(From::Client, wire::close(From::Client, 1000)).await;
    ends.send(From::Backend, wire::close(From::Backend, 1000)).await;
    talk.gateway.access.find_nth(&["tunnel_end"], nth - 1).await;
}

#[tokio::test]
async fn open_tunnels_keep_their_hook_over_a_reload_and_the_last_one_lets_go_of_it() {
    let mut talk = Talk::start_with("old", "").await;
    let mut old = Vec::new();
    for path in ["/sync", "/async"] {
        let (client, server) = talk.open(path, "").await;
        old.push(Ends(client, server));
    }
    reload(&talk, "new", 1).await;
    let (client, server) = talk.open("/sync", "").await;
    let mut new = Ends(client, server);
    assert_eq!(label(&mut new).await, "new");
    for ends in &mut old {
        assert_eq!(label(ends).await, "old");
    }
    // The hooks of five routes had no tunnel and are gone; those of `/sync` and `/async` have one.
    let gone = ["the hook labelled \"old\" is gone"];
    talk.gateway.log.find_nth(&gone, UNUSED - 1).await;
    assert_eq!(talk.gateway.log.count(&gone), UNUSED);
    end(&talk, old.remove(0), 1).await;
    talk.gateway.log.find_nth(&gone, UNUSED).await;
    assert_eq!(label(&mut old[0]).await, "old");
    assert_eq!(talk.gateway.log.count(&gone), UNUSED + 1);
    end(&talk, old.remove(0), 2).await;
    talk.gateway.log.find_nth(&gone, UNUSED + 1).await;
    assert_eq!(label(&mut new).await, "new");
    assert_eq!(talk.gateway.log.count(&["the hook labelled \"new\" is gone"]), 0);
}

#[tokio::test]
async fn a_call_that_waits_goes_on_to_its_end_over_a_reload_with_what_both_hooks_share() {
    let mut talk = Talk::start_with("old", "").await;
    let (client, server) = talk.open("/async", "").await;
    let mut ends = Ends(client, server);
    ends.say(From::Client, "wait here").await;
    talk.gateway.log.find(&["old waits"]).await;
    reload(&talk, "new", 1).await;
    // A tunnel of the new hook's lets the call of the old one's go on.
    talk.release("/async").await;
    ends.expect(From::Backend, 0x81, "wait here").await;
    assert_eq!(label(&mut ends).await, "old");
}

/// Hooks labelled as the file says, on routes other than `/sync` and `/async`.
const UNUSED: usize = 5;
