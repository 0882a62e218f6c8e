//! Ushers: each gives clients their turns at the backends of one upstream, and sleeps while there is nothing to give.

use std::sync::{Arc, Weak};
use std::time::Instant;

use tokio::sync::Notify;

use crate::upstream::UpstreamAdmission;

/// Attends to an admission, and to those who wait for backends that are away, on the Tokio runtime that this is called
/// on, until nobody uses it any more. What is off or attended to already is left alone.
pub(super) fn attend(admission: &Arc<UpstreamAdmission>) {
    if admission.is_to_be_attended() {
        let turn = |admission: &UpstreamAdmission| admission.turn(Instant::now());
        tokio::spawn(give_turns(Arc::downgrade(admission), Arc::clone(admission.stirred()), turn));
    }
    if admission.absent().is_to_be_attended() {
        let turn = |admission: &UpstreamAdmission| admission.absent().turn(Instant::now());
        tokio::spawn(give_turns(Arc::downgrade(admission), Arc::clone(admission.absent().stirred()), turn));
    }
}

async fn give_turns(
    admission: Weak<UpstreamAdmission>,
    stirred: Arc<Notify>,
    turn: impl Fn(&UpstreamAdmission) -> Option<Instant>,
) {
    loop {
        let Some(admission) = admission.upgrade() else { return };
        let next = turn(&admission);
        drop(admission);
        match next {
            // Whichever comes first.
            Some(next) => drop(tokio::time::timeout_at(next.into(), stirred.notified()).await),
            None => stirred.notified().await,
        }
    }
}
