//! Looks at all tunnels in slices, and ends that are announced by place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::plain::{Far, plain};
use crate::access_log::AccessLog;
use crate::config::TunnelLimits;
use crate::tunnel::{Look, NextSlice, Seen, Spot, Tunnels};

/// Tunnels on two workers, named by their number, and their far ends.
fn opened(count: usize) -> (Tunnels, Vec<Far>) {
    let tunnels = Tunnels::start(2, &AccessLog::off()).unwrap();
    let open = |number: usize| {
        let (tunnel, far) = plain(&number.to_string(), TunnelLimits::default());
        tunnels.open(tunnel);
        far
    };
    let far = (0..count).map(open).collect();
    (tunnels, far)
}

/// Notes the place of each tunnel, and how often it was shown.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<HashMap<String, (Spot, usize)>>>);

impl Notes {
    /// A look that takes so long.
    fn look(&self, work: Duration) -> Arc<Look> {
        let notes = Arc::clone(&self.0);
        Arc::new(move |seen: &Seen<'_>| {
            let begun = Instant::now();
            while begun.elapsed() < work {
                std::hint::spin_loop();
            }
            let (name, spot) = (seen.record().request_id.to_string(), seen.spot());
            notes.lock().unwrap().entry(name).or_insert((spot, 0)).1 += 1;
        })
    }
}

#[tokio::test]
async fn tunnels_that_stay_are_shown_once_while_others_come_and_go_between_two_slices() {
    let (tunnels, mut far) = opened(100);
    let notes = Notes::default();
    // A look takes as long as a slice: every sixteenth tunnel begins another one.
    let look = notes.look(Duration::from_micros(250));
    let (mut next, mut slices) = (Some(NextSlice::default()), 0);
    while let Some(from) = next {
        next = tunnels.visit_slice(&look, from).await;
        slices += 1;
        // One leaves that is even, and one comes in its place.
        let leaving = (slices * 2) % 100;
        let (tunnel, newcomer) = plain("newcomer", TunnelLimits::default());
        tunnels.open(tunnel);
        far[leaving] = newcomer;
    }
    assert!(slices > 4, "{slices}");
    let notes = notes.0.lock().unwrap();
    for stayed in (1..100).step_by(2) {
        assert_eq!(notes.get(&stayed.to_string()).map(|(_, times)| *times), Some(1), "{stayed}");
    }
}

#[tokio::test]
async fn messages_pass_between_two_slices() {
    let (tunnels, mut far) = opened(40);
    let tunnels = Arc::new(tunnels);
    let notes = Notes::default();
    let look = notes.look(Duration::from_millis(1));
    let looking = tokio::spawn({
        let tunnels = Arc::clone(&tunnels);
        async move { tunnels.visit(look).await }
    });
    // A worker that showed all of its tunnels at once would have shown them before the first message came.
    far[0].exchange();
    far[1].exchange();
    looking.await.unwrap();
    assert_eq!(notes.0.lock().unwrap().len(), 40);
}

#[tokio::test]
async fn a_place_that_another_tunnel_has_taken_is_not_closed() {
    let (tunnels, mut far) = opened(2);
    let notes = Notes::default();
    tunnels.visit(notes.look(Duration::ZERO)).await;
    let [gone, stays] = ["0", "1"].map(|name| notes.0.lock().unwrap()[name].0);
    far.remove(0);
    while tunnels.count() > 1 {
        tokio::task::yield_now().await;
    }
    let (tunnel, mut newcomer) = plain("newcomer", TunnelLimits::default());
    tunnels.open(tunnel);
    newcomer.exchange();
    let now = Instant::now();
    let words = Some(Arc::from("bye"));
    assert_eq!(tunnels.close(&[(gone, now), (stays, now)], 4000, words.as_ref()).await, 1);
    assert_eq!(far[0].close_frame(), (4000, "bye".into()));
    newcomer.exchange();
    assert_eq!(tunnels.close(&[(stays, now)], 4000, None).await, 0, "it is ending already");
}
