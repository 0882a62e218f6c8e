//! Notifications to systemd about the process (sd_notify(3)); none where no `NOTIFY_SOCKET` asks for them.

use log::warn;
use sd_notify::NotifyState;

/// The gateway listens, or serves again after a reload.
pub(super) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// The gateway reads its configuration anew; [`ready`] ends it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!("systemd is not told of the reload: {error}"),
    }
}

/// The gateway drains.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Another process is the main one from now on.
pub(super) fn successor(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("systemd cannot be told: {error}");
    }
}
