//! Serves a router until it is told to stop, and tells watchers of changes.

use std::future::IntoFuture;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

/// Serves `router` until `stop` turns true or its sender is gone; the port is closed before this returns.
pub(super) async fn until_stopped(listener: TcpListener, router: Router, stop: watch::Receiver<bool>) {
    let serving = axum::serve(listener, router).with_graceful_shutdown(stopped(stop.clone())).into_future();
    let overdue = async {
        stopped(stop).await;
        tokio::time::sleep(LINGER).await;
    };
    tokio::select! {
        // axum logs errors of accept and tries again.
        _ = serving => {}
        () = overdue => {}
    }
}

/// Returns when `stop` turns true or its sender is gone.
pub(super) async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error says that the sender is gone, which counts as a stop.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Wakes the event streams some time after the demo's state changed.
#[derive(Clone, Debug)]
pub(super) struct Changes(watch::Sender<()>);

impl Changes {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(()))
    }

    /// Reports a change of the state.
    pub(super) fn note(&self) {
        self.0.send_replace(());
    }

    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }
}

/// Waits for a change, and a little longer so that a burst of changes is shown once; returns after `PULSE` at the
/// latest.
pub(super) async fn next_change(changes: &mut watch::Receiver<()>) {
    // A time-out is no failure: the state is sent as it is, which keeps the stream alive.
    if let Ok(Ok(())) = timeout(PULSE, changes.changed()).await {
        tokio::time::sleep(GATHER).await;
        changes.mark_unchanged();
    }
}

/// Longest time that requests under way may take to end after a stop.
const LINGER: Duration = Duration::from_millis(200);

/// Time for which changes are gathered before they are shown.
const GATHER: Duration = Duration::from_millis(100);

/// The longest silence of an event stream: well under the read timeout of any proxy.
const PULSE: Duration = Duration::from_secs(10);
