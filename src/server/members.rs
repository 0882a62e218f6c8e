//! Members that change: puts them in force, also while the operator is busy with the end of the process.

use std::sync::Arc;

use log::error;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::discovery::Sources;
use crate::reload;
use crate::snapshot::Running;
use crate::status::History;

/// Puts the members in force that the sources name by now.
pub(super) async fn put_in_force(running: &Arc<Running>, sources: &Sources, history: &History) {
    let members = sources.known(&running.snapshot().config).await;
    match reload::put_members_in_force(running, members).await {
        Ok(Some(changed)) => history.members_changed(true, changed.to_string()),
        Ok(None) => {}
        Err(error) => {
            error!("the members stay as they are: {error}");
            history.members_changed(false, error.to_string());
        }
    }
}

/// A task that puts members in force in the operator's place, until it is stopped.
pub(super) struct Meanwhile {
    stop: oneshot::Sender<()>,
    /// Tells whether members were put in force.
    task: JoinHandle<bool>,
}

impl Meanwhile {
    pub(super) fn begin(running: &Arc<Running>, sources: &Arc<Sources>, history: &History) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let (running, sources, history) = (Arc::clone(running), Arc::clone(sources), history.clone());
        let task = tokio::spawn(async move {
            let mut was_due = false;
            loop {
                tokio::select! {
                    _ = &mut stopped => return was_due,
                    () = sources.due() => {
                        was_due = true;
                        put_in_force(&running, &sources, &history).await;
                    }
                }
            }
        });
        Self { stop, task }
    }

    /// Stops, between two changes. Tells whether there were any.
    pub(super) async fn end(self) -> bool {
        // A task that panicked has stopped; what it had done by then is not known.
        let _ = self.stop.send(());
        self.task.await.unwrap_or(true)
    }
}
