//! Members in etcd: listed once, then watched, from the revision of the last answer on.
//!
//! The servers are tried in turn, the last good one first. While a watch is open, its server is asked for the state of
//! the store from time to time: a server that hangs or is cut off from its cluster does not answer. Where a watch
//! cannot go on at the revision at which the last one ended, all keys are listed again. That is so after a compaction,
//! with another cluster, and with a store that was restored.

mod client;
mod messages;
mod registered;

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use self::client::{EndpointFailure, EtcdClient, OpenWatch, end_of};
use self::messages::{ResponseHeader, Watched, in_words};
use self::registered::{MemberKey, Registered, drain_value};
use super::NotTold;
use super::board::SourceReporter;
use crate::config::Etcd;
use crate::upstream::Closing;

/// An order to tell every gateway, by way of etcd, that a backend is drained or is not drained any more.
pub(super) struct Order {
    /// Name of the backend.
    pub(super) backend: String,
    /// The drain that begins; `None` to call one off.
    pub(super) drain: Option<Closing>,
    pub(super) reply: oneshot::Sender<Result<(), NotTold>>,
}

/// Follows the keys, and carries out orders.
pub(super) async fn follow(etcd: Etcd, reporter: SourceReporter, mut orders: mpsc::Receiver<Order>) {
    let mut source = Source { etcd, known: None, open_since: None, reporter };
    let (mut at, mut pause) = (0, FIRST_PAUSE);
    loop {
        let mut failures: Vec<String> = Vec::new();
        while failures.len() < source.etcd.endpoints.len() {
            source.open_since = None;
            let failure = source.serve(at, &mut orders).await;
            if source.open_since.is_some_and(|since| since.elapsed() >= STEADY) {
                // The server worked until now, and is the first to be asked again.
                log::debug!("a watch of etcd begins again: {failure}");
                (failures, pause) = (Vec::new(), FIRST_PAUSE);
            } else {
                failures.push(failure.to_string());
                at = (at + 1) % source.etcd.endpoints.len();
            }
        }
        let reason = failures.join("; ");
        source.reporter.failed(&reason);
        refuse_for(jittered(pause), &mut orders, &reason).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The keys of one configuration, as far as they are known.
struct Source {
    etcd: Etcd,
    known: Option<Known>,
    /// Moment since which a watch is open at the server that is asked.
    open_since: Option<Instant>,
    reporter: SourceReporter,
}

/// Every key, at one revision of one cluster.
struct Known {
    keys: Registered,
    cluster: u64,
    revision: u64,
}

impl Source {
    /// Follows the keys by one server until it fails. The keys known so far stay known.
    async fn serve(&mut self, at: usize, orders: &mut mpsc::Receiver<Order>) -> EndpointFailure {
        let client = match EtcdClient::connect(&self.etcd, &self.etcd.endpoints[at]).await {
            Ok(client) => client,
            Err(failure) => return failure,
        };
        loop {
            let (watch, known) = match self.open(&client).await {
                Ok(opened) => opened,
                Err(failure) => return failure,
            };
            match self.watch(&client, watch, known, orders).await {
                Ended::Compacted => {}
                Ended::Failed(failure) => return failure,
            }
        }
    }

    /// Applies the messages of a watch until it ends.
    async fn watch(
        &mut self,
        client: &EtcdClient,
        mut watch: OpenWatch,
        mut known: Known,
        orders: &mut mpsc::Receiver<Order>,
    ) -> Ended {
        let mut looks = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let failure = loop {
            tokio::select! {
                watched = watch.next() => match watched {
                    Ok(watched) if watched.compact_revision > 0 => return Ended::Compacted,
                    Ok(watched) => match known.take(watched) {
                        Ok(true) => report(&known, &self.reporter),
                        Ok(false) => self.reporter.same(),
                        // The next server begins with a list, because a part of the message may have been applied.
                        Err(reason) => return Ended::Failed(client.failed(reason)),
                    },
                    Err(failure) => break failure,
                },
                _ = looks.tick() => match client.state(self.etcd.prefix.as_bytes()).await {
                    Ok(state) if state.cluster_id == known.cluster => self.reporter.same(),
                    Ok(_) => break client.failed("another cluster answers than before"),
                    Err(failure) => break failure,
                },
                Some(order) = orders.recv() => carry_out(order, client, &known).await,
            }
        };
        self.known = Some(known);
        Ended::Failed(failure)
    }

    /// Opens a watch that goes on at the revision that is known. Where that is not possible, lists the keys anew,
    /// reports the members and watches from there.
    async fn open(&mut self, client: &EtcdClient) -> Result<(OpenWatch, Known), EndpointFailure> {
        let prefix = self.etcd.prefix.as_bytes();
        for _ in 0..TRIES {
            let known = match self.known.take() {
                // A server that is cut off from its cluster opens a watch as well, and tells nothing there.
                Some(known) => match client.state(prefix).await {
                    Ok(_) => known,
                    Err(failure) => {
                        self.known = Some(known);
                        return Err(failure);
                    }
                },
                None => list(client, &self.etcd.prefix).await?,
            };
            let (watch, first) = match client.watch(prefix, known.revision + 1).await {
                Ok(begun) => begun,
                Err(failure) => {
                    self.known = Some(known);
                    return Err(failure);
                }
            };
            if first.canceled && first.compact_revision == 0 {
                self.known = Some(known);
                return Err(client.failed(in_words(&first.cancel_reason)));
            }
            // A server that lags behind is asked for a list, too: it answers when it has caught up.
            let goes_on = first.header.cluster_id == known.cluster && first.header.revision >= known.revision;
            if goes_on && !first.canceled {
                self.open_since.get_or_insert_with(Instant::now);
                report(&known, &self.reporter);
                return Ok((watch, known));
            }
        }
        Err(client.failed("the watch does not begin where the list ends"))
    }
}

/// End of a watch.
enum Ended {
    /// The revision that it began from has been compacted.
    Compacted,
    Failed(EndpointFailure),
}

impl Known {
    /// Takes a message of the watch. Tells whether keys have changed.
    fn take(&mut self, watched: Watched) -> Result<bool, String> {
        if watched.canceled {
            return Err(in_words(&watched.cancel_reason));
        }
        // The header is ahead of the events where a watch that begins in the past gets them in several messages.
        let told = watched.events.iter().map(|event| event.kv.mod_revision).max();
        let has_changed = told.is_some();
        for event in watched.events {
            match &*event.r#type {
                "DELETE" => self.keys.remove(&event.kv.key),
                _ => self.keys.put(event.kv)?,
            }
        }
        self.revision = self.revision.max(told.unwrap_or(watched.header.revision));
        Ok(has_changed)
    }
}

/// Lists every key, at one revision.
async fn list(client: &EtcdClient, prefix: &str) -> Result<Known, EndpointFailure> {
    let end = end_of(prefix.as_bytes());
    let (mut keys, mut from) = (Registered::new(prefix), prefix.as_bytes().to_vec());
    let mut header = None;
    loop {
        let page = client.range(&from, &end, header.map(|header: ResponseHeader| header.revision)).await?;
        let first = *header.get_or_insert(page.header);
        if let Some(last) = page.kvs.last() {
            // The key right behind it.
            from = [last.key.as_slice(), &[0]].concat();
        }
        let is_last = !page.more || page.kvs.is_empty();
        page.kvs.into_iter().try_for_each(|pair| keys.put(pair)).map_err(|reason| client.failed(reason))?;
        if is_last {
            return Ok(Known { keys, cluster: first.cluster_id, revision: first.revision });
        }
    }
}

fn report(known: &Known, reporter: &SourceReporter) {
    let (members, passed_over) = known.keys.members();
    reporter.answer_without(members, passed_over.as_deref());
}

async fn carry_out(order: Order, client: &EtcdClient, known: &Known) {
    let Order { backend, drain, reply } = order;
    // Whoever gave the order may have been told by now that it was too late.
    if reply.is_closed() {
        return;
    }
    let outcome = match drain {
        Some(closing) => drain_everywhere(client, known, backend, closing).await,
        None => {
            let key = known.keys.drain_key(backend.as_bytes());
            match client.remove(&key).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(NotTold::NotDrained(backend)),
                Err(failure) => Err(NotTold::Failed(failure.to_string())),
            }
        }
    };
    let _ = reply.send(outcome);
}

async fn drain_everywhere(
    client: &EtcdClient,
    known: &Known,
    backend: String,
    closing: Closing,
) -> Result<(), NotTold> {
    let Some(MemberKey { key, created, lease }) = known.keys.place(&backend) else {
        return Err(NotTold::Gone(backend));
    };
    let (at, value) = (known.keys.drain_key(backend.as_bytes()), drain_value(created, closing));
    match client.put_beside(key, created, (&at, &value, lease)).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(NotTold::Gone(backend)),
        Err(failure) => Err(NotTold::Failed(failure.to_string())),
    }
}

/// Waits for a time, and refuses the orders that come in it.
async fn refuse_for(time: Duration, orders: &mut mpsc::Receiver<Order>, reason: &str) {
    let wait = sleep(time);
    tokio::pin!(wait);
    loop {
        tokio::select! {
            () = &mut wait => return,
            Some(Order { reply, .. }) = orders.recv() => {
                let _ = reply.send(Err(NotTold::Failed(reason.to_owned())));
            }
        }
    }
}

/// Varies a pause at random, so that gateways whose servers went away at the same moment do not come back at the same
/// moment.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.75 + rand::random::<f64>() / 2.0)
}

/// Interval at which the state of the store is asked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Time after which a server counts as steady: when it fails after that, it is asked again without a pause.
const STEADY: Duration = Duration::from_secs(2);
/// Pause after all servers have failed; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// Most lists in a row. A list is repeated when no watch can begin at its revision.
const TRIES: usize = 3;
