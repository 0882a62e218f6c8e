//! Successors that are killed with SIGKILL at random moments.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::lab::{Lab, get, ready, upgrade};
use crate::raw::Raw;
use crate::support::{Gateway, within};
use crate::tls::{Secure, with_tls};
use crate::ws::{Tunnel, all_echo, open_several};

/// Number of rounds by outcome.
#[derive(Debug, Default)]
struct Rounds {
    /// The old process went on with every tunnel.
    survived: usize,
    /// The new process had taken over, and lived.
    taken_over: usize,
    /// The new process died when tunnels were its own: its own death.
    own_death: usize,
}

#[tokio::test]
async fn a_successor_killed_at_any_moment_takes_only_what_was_its_own() {
    let lab = Lab::start().await;
    let (mut gateway, mut tunnels, mut secure) = start(&lab).await;
    let begun = Instant::now();
    upgrade(&mut gateway).await;
    // More of them early: from before the new process's first step to behind its last one, however fast this machine
    // is.
    let longest = begun.elapsed().max(Duration::from_millis(60));
    let seed = rand::random();
    println!("seed {seed}, moments up to {longest:?}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut rounds = Rounds::default();
    for round in 0..ROUNDS {
        all_echo(&mut tunnels).await;
        let mut successor = Gateway::begin(Arc::clone(&gateway.dir), &["-u"], &[]);
        tokio::time::sleep(longest.mul_f64(random.random::<f64>().powi(2))).await;
        if successor.log.count(&["took over "]) > 0 {
            let successor = ready(successor.listening().await).await;
            assert_eq!(gateway.ended().await, Some(0));
            gateway = successor;
            rounds.taken_over += 1;
        } else {
            successor.signal("KILL");
            assert_eq!(successor.ended().await, None);
            settled(&mut gateway, round).await;
            if gateway.status().is_some() {
                gateway.log.to_the_end().await;
            }
            // Also where it had taken them and was killed before it could say so.
            let died_with_it = gateway.log.count(&["tunnels had moved"]) > gateway.log.count(&[" 0 tunnels had moved"]);
            if gateway.log.count(&["tunnels moved"]) == 0 && !died_with_it {
                rounds.survived += 1;
                assert!(gateway.status().is_none(), "{:?}", gateway.log.all());
            } else {
                // The tunnels had gone with it, and the old process may have ended by then.
                rounds.own_death += 1;
                (gateway, tunnels, secure) = start(&lab).await;
            }
        }
        all_echo(&mut tunnels).await;
        secure.echo().await;
        assert_eq!(get(gateway.address()).await, lab.address());
        Tunnel::open(gateway.address(), "/echo").await.echoes().await;
    }
    println!("{rounds:?}");
    assert_eq!(rounds.survived + rounds.taken_over + rounds.own_death, ROUNDS);
    upgrade(&mut gateway).await;
    all_echo(&mut tunnels).await;
    secure.echo().await;
}

/// Waits until a gateway has noticed a successor's death, whether or not that successor had connected.
async fn settled(gateway: &mut Gateway, round: usize) {
    // Connections are heard one after the other.
    let version = format!("round-{round}");
    let door = gateway.dir.path().join("upgrade.sock");
    let knock = json!({ "say": "hello", "oldest": 9, "newest": 9, "version": version, "pid": 1 });
    let settled = async {
        let mut knocked = None;
        while gateway.status().is_none() && gateway.log.count(&["no common protocol", &version]) == 0 {
            // A successor that had taken the door along leaves one that nobody opens, until the gateway has ended.
            if knocked.is_none()
                && let Ok(stream) = UnixStream::connect(&door)
            {
                let mut raw = Raw::of(stream);
                knocked = raw.try_say(&knock, &[]).is_ok().then_some(raw);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("the old process to go on or to end", settled).await;
}

/// A gateway with one worker, so that all of its tunnels, plain ones and some by wss, are one batch.
async fn start(lab: &Lab) -> (Gateway, Vec<Tunnel>, Secure) {
    let yaml = lab.config("").replace("threads: 2", "threads: 1");
    let (gateway, ends) = with_tls(lab, &yaml).await;
    let tunnels = open_several(gateway.address(), TUNNELS).await;
    let secure = Secure::open(gateway.addresses[1], ends).await;
    (gateway, tunnels, secure)
}

const TUNNELS: usize = 12;
const ROUNDS: usize = 30;
