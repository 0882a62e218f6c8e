//! Who may not take over, and what they are told.

use crate::lab::{Lab, blocking};
use crate::raw::Raw;

#[tokio::test]
async fn a_successor_that_is_given_up_while_it_starts_is_told() {
    let lab = Lab::start().await;
    let gateway = lab.gateway("").await;
    let door = gateway.dir.path().join("upgrade.sock");
    let told = blocking(move || {
        let (mut raw, _) = Raw::welcomed(&door);
        raw.say(serde_json::json!({ "say": "ready" }));
        raw.hear().unwrap().value
    })
    .await;
    assert_eq!(told["say"], "abort", "{told}");
    gateway.log.find(&["the handover failed", "`serving` was expected"]).await;
}
