//! `longhaul plan OLD NEW` against what a reload then does.

use std::process::Command;

use serde_json::Value;

use crate::client::Client;
use crate::subject::{Subject, upstreams, whole};
use crate::support::Echo;

fn plan(old: &str, new: &str, json: bool) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let paths = [("old.yaml", old), ("new.yaml", new)].map(|(name, text)| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.arg("plan").args(paths);
    if json {
        command.arg("--json");
    }
    let output = command.output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn it_names_every_difference_and_what_needs_an_upgrade() {
    let old = whole(&upstreams(&[
        ("chat", "backends: [127.0.0.1:9001, 127.0.0.1:9002], affinity: [client_ip]"),
        ("old", "backends: [127.0.0.1:9009]"),
    ]));
    let new = whole(&upstreams(&[
        ("chat", "backends: [{ address: 127.0.0.1:9002, weight: 2 }, 127.0.0.1:9003], affinity: [header: x-room]"),
        ("new", "backends: [127.0.0.1:9009]"),
    ]))
    .replace("threads: 2", "threads: 4\ntrusted_proxies: [10.0.0.0/8]");
    let expected = "\
+ route * /new to new
- route * /old to old
~ upstream chat
    ~ backend 127.0.0.1:9002: weight from 1 to 2
    + backend 127.0.0.1:9003, weight 1
    - backend 127.0.0.1:9001
    ~ affinity
+ upstream new, 1 backend
- upstream old, 1 backend
~ trusted_proxies
needs an upgrade, a reload leaves it as it is: threads
keys of chat that move to another backend: ";
    let (code, text) = plan(&old, &new, false);
    assert!(code == 0 && text.starts_with(expected), "{code} {text}");
    assert_eq!(plan(&old, &old, false), (0, "nothing changes\n".to_owned()));
    assert_eq!(plan(&old, "listeners: []", false).0, 2);
}

#[tokio::test]
async fn the_share_of_keys_that_move_is_the_share_of_tunnels_that_do() {
    const KEYS: usize = 400;
    let echoes = [Echo::start().await, Echo::start().await, Echo::start().await, Echo::start().await];
    let with = |number: usize| {
        let backends: Vec<_> = echoes[..number].iter().map(|echo| echo.address().to_string()).collect();
        upstreams(&[("a", &format!("affinity: [header: x-room], backends: [{}]", backends.join(", ")))])
    };
    let (code, text) = plan(&whole(&with(3)), &whole(&with(4)), true);
    assert_eq!(code, 0);
    let plan: Value = serde_json::from_str(&text).unwrap();
    let keys = &plan["keys"][0];
    let share = keys["moved"].as_f64().unwrap() / keys["of"].as_f64().unwrap();
    assert_eq!((keys["upstream"].as_str(), &plan["tunnels"]), (Some("a"), &Value::Null));

    let mut subject = Subject::start(&with(3)).await;
    let mut backends = [Vec::new(), Vec::new()];
    for (round, seen) in backends.iter_mut().enumerate() {
        if round == 1 {
            subject.reload(&with(4)).await;
        }
        for key in 0..KEYS {
            seen.push(Client::open(subject.gateway.address(), "/a", &format!("room {key}")).await.backend);
        }
    }
    let [before, after] = backends;
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    // Four standard deviations of a sample of so many keys.
    let slack = 4.0 * (KEYS as f64 * share * (1.0 - share)).sqrt();
    assert!((moved as f64 - KEYS as f64 * share).abs() <= slack, "{moved} of {KEYS} moved, {share} was planned");
}
