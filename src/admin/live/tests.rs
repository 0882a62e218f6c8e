//! The feed: one producer for all viewers, and none while nobody looks.

use std::time::{Instant as StdInstant, SystemTime};

use futures::StreamExt;
use serde_json::Value;

use super::*;
use crate::access_log::AccessLog;
use crate::config;
use crate::discovery::Sources;
use crate::hook::HookRegistry;
use crate::snapshot::{Running, SnapshotOrigin};
use crate::status::History;
use crate::tls::tickets::TicketKeys;
use crate::tunnel::Tunnels;

fn feed() -> Arc<Feed> {
    let text = "listeners: [{ address: 127.0.0.1:0 }]\nroutes: [{ upstream: a }]\n\
                upstreams: { a: { health: off, backends: [127.0.0.1:9001] } }\n";
    let config = config::parse(text, &config::NoHooks).unwrap().config;
    let log = AccessLog::off();
    let tunnels = Arc::new(Tunnels::start(1, &log).unwrap());
    let metrics = Arc::new(Metrics::new());
    let sources = Arc::new(Sources::new(None, &metrics));
    let origin =
        SnapshotOrigin { config: &config, members: Default::default(), hooks: Arc::new(HookRegistry::empty()) };
    let keys = TicketKeys::draw(SystemTime::now());
    let running = Arc::new(Running::new(origin, metrics, tunnels, log, keys, StdInstant::now()).unwrap());
    let history = History::default();
    Feed::new(StatusSource { running, sources, history, listeners: Vec::new(), metrics: None, admin: None })
}

type Events = std::pin::Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>;

fn follow(feed: &Arc<Feed>) -> Option<Events> {
    Some(Box::pin(feed.follow(None)?))
}

/// Name and data of the next event; `None` at the end.
async fn next(events: &mut Events) -> Option<(String, Value)> {
    let bytes = events.next().await?.unwrap().into_data().unwrap();
    let text = String::from_utf8(bytes.into()).unwrap();
    let (name, data) = text.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
    Some((name.to_owned(), serde_json::from_str(data.strip_suffix("\n\n").unwrap()).unwrap()))
}

/// Waits until an update comes, and returns its time.
async fn update(events: &mut Events) -> u64 {
    loop {
        let (name, data) = next(events).await.unwrap();
        if name == "update" {
            return data["at_ms"].as_u64().unwrap();
        }
    }
}

async fn until_nothing_is_made(feed: &Feed) {
    while *feed.is_made() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn while_nobody_looks_nothing_is_made() {
    let feed = feed();
    assert_eq!(feed.metrics().live_updates.get(), 0);
    for made in [3, 6] {
        let mut viewer = follow(&feed).unwrap();
        assert_eq!(feed.metrics().viewers.get(), 1);
        for _ in 0..3 {
            update(&mut viewer).await;
        }
        drop(viewer);
        until_nothing_is_made(&feed).await;
        assert_eq!((feed.metrics().viewers.get(), feed.metrics().live_updates.get()), (0, made));
        // On a clock that jumps where nothing else is to be done.
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(86_400)).await;
        tokio::time::resume();
        assert_eq!(feed.metrics().live_updates.get(), made, "a day later");
    }
}

#[tokio::test]
async fn all_viewers_see_the_same_updates_and_one_more_costs_none() {
    let feed = feed();
    let mut first = follow(&feed).unwrap();
    update(&mut first).await;
    let mut others: Vec<_> = (1..MOST_VIEWERS).map(|_| follow(&feed).unwrap()).collect();
    assert!(follow(&feed).is_none(), "one too many");
    for viewer in &mut others {
        update(viewer).await;
    }
    assert_eq!(feed.metrics().live_updates.get(), 1, "who comes later is shown the latest update");
    let at = update(&mut first).await;
    for viewer in &mut others {
        assert_eq!(update(viewer).await, at);
    }
    assert_eq!(feed.metrics().live_updates.get(), 2);
    drop(others.pop());
    assert!(follow(&feed).is_some(), "a place is free again");
}

#[tokio::test]
async fn histories_come_first_and_when_something_has_happened() {
    let feed = feed();
    let mut viewer = follow(&feed).unwrap();
    for expected in ["history", "update", "update", "update"] {
        assert_eq!(next(&mut viewer).await.unwrap().0, expected);
    }
    feed.source.history.reloaded(true, "generation 2", Some("the plan".to_owned()));
    let (name, history) = next(&mut viewer).await.unwrap();
    assert_eq!((name.as_str(), &history["reloads"][0]["details"]), ("history", &"the plan".into()));
    let (name, data) = next(&mut viewer).await.unwrap();
    assert_eq!((name.as_str(), &data["status"]["history"]), ("update", &Value::Null));
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_after_a_minute_so_that_a_token_is_asked_for_again() {
    let feed = feed();
    let begun = Instant::now();
    let mut viewer = follow(&feed).unwrap();
    let mut last = None;
    while let Some((name, _)) = next(&mut viewer).await {
        last = Some(name);
    }
    assert_eq!((last.as_deref(), begun.elapsed().as_secs()), (Some("end"), 60));
}

#[tokio::test]
async fn a_server_that_stops_ends_its_streams() {
    let feed = feed();
    let (stop, stopped) = watch::channel(false);
    let mut viewer: Events = Box::pin(feed.follow(Some(stopped)).unwrap());
    update(&mut viewer).await;
    stop.send_replace(true);
    assert_eq!(next(&mut viewer).await.unwrap().0, "end");
    assert!(next(&mut viewer).await.is_none());
}
