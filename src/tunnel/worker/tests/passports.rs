//! Passports that no predecessor writes: they are refused where they are read.

use serde_json::{Value, json};

use crate::tunnel::Passport;

/// A recorded passport, with other values at some of its places.
fn with(changes: &[(&str, Value)]) -> Result<Passport, serde_json::Error> {
    let batch: Value = serde_json::from_str(include_str!("../../../../tests/handover/v2/tunnels.json")).unwrap();
    let mut passport = batch["passports"][0].clone();
    for (place, value) in changes {
        *passport.pointer_mut(place).unwrap_or_else(|| panic!("there is no {place}")) = value.clone();
    }
    serde_json::from_value(passport)
}

#[test]
fn a_passport_is_read_as_it_was_written() {
    let passport = with(&[]).unwrap();
    let written = serde_json::to_value(&passport).unwrap();
    let again: Passport = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(serde_json::to_value(&again).unwrap(), written);
}

#[test]
fn a_state_that_no_tunnel_can_be_in_is_refused() {
    let cursor = |field: &str| format!("/pair/flows/1/cursor/{field}");
    let wrong = [
        vec![(cursor("have"), json!(14))],
        vec![(cursor("sender"), json!("client"))],
        vec![(cursor("at"), json!("payload")), (cursor("first"), json!(0x88)), (cursor("have"), json!(3))],
        vec![("/pair/flows/0/from".to_owned(), json!("backend"))],
        vec![("/pair/flows/0/bytes".to_owned(), json!(u64::MAX))],
        vec![("/pair/flows/0/messages".to_owned(), json!(u64::MAX))],
    ];
    for changes in wrong {
        let changes: Vec<_> = changes.iter().map(|(place, value)| (place.as_str(), value.clone())).collect();
        let refused = with(&changes).expect_err("a state that no tunnel can be in");
        assert!(refused.to_string().contains("no tunnel can be in"), "{changes:?}: {refused}");
    }
}
