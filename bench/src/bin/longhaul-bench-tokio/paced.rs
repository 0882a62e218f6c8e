//! Open loop: messages at a fixed rate, whether answers come or not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use longhaul_bench::load::{Outcome, Pace};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::{Client, PATIENCE};

/// Due moments of messages without an answer. Bounded by the length of the load.
type Awaited = Arc<Mutex<VecDeque<Instant>>>;

/// Sends `rate` messages a second, one tunnel after the other. Latency counts from the moment a message was due. The
/// tunnels stay open.
///
/// # Errors
/// When the timer fails.
pub(crate) async fn paced(
    client: &Arc<Client>,
    tunnels: Vec<TcpStream>,
    rate: f64,
    window: Duration,
) -> Result<Outcome> {
    let received: Arc<Mutex<Outcome>> = Arc::default();
    let mut writers: Vec<(OwnedWriteHalf, Awaited)> = Vec::new();
    for stream in tunnels {
        let (reader, writer) = stream.into_split();
        let awaited = Awaited::default();
        tokio::spawn(receive(Arc::clone(client), reader, Arc::clone(&awaited), Arc::clone(&received)));
        writers.push((writer, awaited));
    }
    let begun = Instant::now();
    let end = begun + window;
    let mut sent = 0_u64;
    #[expect(
        deprecated,
        reason = "its successor is unsafe; a pace keeps its descriptor for life, which is the condition"
    )]
    let mut timer = AsyncFd::with_interest(Pace::new(rate)?, Interest::READABLE).context("no timer")?;
    while Instant::now() < end {
        while let Some(due) = timer.get_mut().due(Instant::now(), end) {
            let (writer, awaited) = &mut writers[sent as usize % client.job.at_once];
            lock(awaited).push_back(due);
            // A message on a lost tunnel stays without an answer, and is counted as an error.
            let _ = writer.write_all(&client.message.frame).await;
            sent += 1;
        }
        timer.get_ref().arm(end)?;
        // A timer that is set after the end stays silent.
        let Ok(ready) = tokio::time::timeout_at(end.into(), timer.readable()).await else { break };
        ready.context("the timer failed")?.clear_ready();
    }
    while lock(&received).done < sent && Instant::now() < end + PATIENCE {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut total = std::mem::take(&mut *lock(&received));
    total.errors = sent - total.done;
    total.elapsed = begun.elapsed();
    Ok(total)
}

/// Reads answers until the tunnel ends.
async fn receive(client: Arc<Client>, mut reader: OwnedReadHalf, awaited: Awaited, received: Arc<Mutex<Outcome>>) {
    let mut answer = vec![0; client.message.answer.len()];
    while reader.read_exact(&mut answer).await.is_ok() && answer == client.message.answer {
        let Some(due) = lock(&awaited).pop_front() else { return };
        let mut received = lock(&received);
        received.latency.record(due.elapsed());
        received.done += 1;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
