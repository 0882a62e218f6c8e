//! The runtimes that Pingora serves clients on.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use pingora::server::configuration::ServerConf;
use tokio::runtime::{Builder, Handle};

/// The runtimes that clients are spread over.
///
/// Without `work_stealing` each has one thread and keeps its own connections to backends, so that everything of a
/// request happens on that thread. Pingora's own runtimes without stealing leave watching over a kept connection to one
/// of their threads at random: two threads are woken for most requests, and some find the connection still watched and
/// open another.
pub struct Runtimes {
    handles: Vec<Handle>,
    turn: AtomicUsize,
}

impl Runtimes {
    /// The runtime that this is called in if its threads take work from each other, else one for each of `threads`;
    /// they live as long as the process.
    ///
    /// # Errors
    /// The system has no thread or no descriptor left.
    pub fn start(pingora: &ServerConf) -> io::Result<Self> {
        let handles = if pingora.work_stealing {
            vec![Handle::current()]
        } else {
            (1..=pingora.threads).map(|number| start_one(pingora, number)).collect::<io::Result<_>>()?
        };
        Ok(Self { handles, turn: AtomicUsize::new(0) })
    }

    /// Each in turn.
    pub(super) fn next(&self) -> &Handle {
        &self.handles[self.turn.fetch_add(1, Relaxed) % self.handles.len()]
    }
}

/// Which of the connections kept to backends are for the thread this is called on (Pingora's `group_key`).
pub(super) fn pool() -> u64 {
    POOL.get()
}

fn start_one(pingora: &ServerConf, number: usize) -> io::Result<Handle> {
    let mut builder = Builder::new_current_thread();
    builder.enable_all();
    if let Some(most) = pingora.max_blocking_threads {
        builder.max_blocking_threads(most);
    }
    if let Some(seconds) = pingora.blocking_threads_ttl_seconds {
        builder.thread_keep_alive(Duration::from_secs(seconds));
    }
    let runtime = builder.build()?;
    let handle = runtime.handle().clone();
    let work = move || {
        POOL.set(number as u64);
        runtime.block_on(std::future::pending::<()>())
    };
    std::thread::Builder::new().name(format!("clients-{number}")).spawn(work)?;
    Ok(handle)
}

thread_local! {
    /// 0 where threads share their connections.
    static POOL: Cell<u64> = const { Cell::new(0) };
}
