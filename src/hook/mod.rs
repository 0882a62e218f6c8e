//! Hooks: user code called at the phases of a request and of a tunnel.
//!
//! Implement [`Hook`], register it under a name with the gateway's builder, and name it in the `hooks` of a route.
//! docs/hooks.md draws the life of a request and of a tunnel with every phase in it.

mod answer;
mod chain;
mod direction;
mod erased;
mod error;
mod injector;
mod message;
mod outbox;
mod reattach;
mod registry;
mod request;
mod response;
mod setup;
pub mod testing;
mod tunnel;

use std::future::{Future, ready};
use std::sync::Arc;

use serde::de::DeserializeOwned;

pub use answer::Answer;
pub use chain::{Failure, FailureKind};
pub use direction::Direction;
pub use erased::Phase;
pub use error::{Error, Result};
pub use injector::{Injector, Item, To};
pub(crate) use message::sendable;
pub use message::{Message, Messages, Mode, Verdict};
pub use reattach::{Loss, Reattach};
pub(crate) use request::Chosen;
pub use request::{Backend, Next, Pick, Request, Upgrade};
pub use response::{Entry, Response};
pub use setup::{Setup, SetupError};
pub use tunnel::{Closed, KeyTag, Tunnel, TunnelId};

pub use crate::config::{Cidr, Period, Size, TunnelLimits};
pub use crate::tls::ClientCertificate;

// What the gateway calls hooks with: not public interface.
#[doc(hidden)]
pub use {
    chain::{Chain, Contexts, Packed, Saved},
    injector::Outlet,
    outbox::Outbox,
    registry::HookRegistry,
    request::Facts,
};

/// A hook: one value of the implementing type for each entry of a route's `hooks`, for as long as a request or tunnel
/// that began under that configuration is there.
///
/// Every phase has a default that does nothing. Phases of one request, and those of one tunnel, are called one after
/// the other, never at the same time; different requests and tunnels call at the same time. What comes from the client
/// passes the hooks of a route in the order written, what comes from the backend in the reverse order.
///
/// An error, a panic or a call that exceeds the entry's `timeout` ends that request (500) or tunnel (Close 1011), is
/// logged once with the hook's name and counted in `longhaul_hook_failures_total`. A panic in the destructor of the
/// hook, of a context or of a call that is given up is caught, logged and counted too (phase `drop`). A call may be
/// given up at any `.await`: leave nothing half-done across one.
///
/// A hook's own settings are read strictly: keys that are unknown, missing or of the wrong type are reported with line
/// and path.
///
/// ```
/// use longhaul::hook::{Answer, Hook, Next, Request, Result, Setup, SetupError};
///
/// /// Lets nobody in without the password.
/// struct Password(String);
///
/// #[derive(serde::Deserialize)]
/// struct Settings {
///     password: String,
/// }
///
/// impl Hook for Password {
///     type Settings = Settings;
///     type Context = ();
///
///     fn new(settings: Settings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
///         Ok(Self(settings.password))
///     }
///
///     async fn on_request(&self, request: &mut Request<'_>, _: &mut ()) -> Result<Next> {
///         match request.header("x-password") {
///             Some(given) if given == self.0 => Ok(Next::Continue),
///             _ => Ok(Answer::new(401, "a password is needed").into()),
///         }
///     }
/// }
/// ```
pub trait Hook: Sized + Send + Sync + 'static {
    /// Type of the settings under `with:`; [`NoSettings`] for a hook that has none.
    type Settings: DeserializeOwned;

    /// State that the hook keeps of one request, and then of the tunnel that it becomes. Made by `Default` before the
    /// first phase.
    type Context: Default + Send + 'static;

    /// Makes the hook of its settings, at the start and at every reload; `longhaul check` makes it too, and drops it.
    ///
    /// `new` may read files. Tasks are begun by [`start`](Self::start).
    ///
    /// # Errors
    /// [`SetupError`]: shown with the position of the setting that it names. The gateway does not start, or keeps the
    /// configuration it has.
    fn new(settings: Self::Settings, setup: &Setup<'_, Self>) -> Result<Self, SetupError>;

    /// Called once when the configuration is put in force, on a Tokio runtime that lives as long as the process.
    ///
    /// A task that is spawned here should hold a [`Weak`](std::sync::Weak) reference, lest the hook outlive its last
    /// user.
    fn start(self: &Arc<Self>, injector: &Injector) {
        let _ = injector;
    }

    /// The messages that the hook sees, of every tunnel on its route. Asked once, when the hook has been made. None by
    /// default, which costs a tunnel nothing.
    fn messages(&self) -> Messages {
        Messages::NONE
    }

    /// Called with a request, upgrades too. Its route is known, its key and backend are not.
    ///
    /// # Errors
    /// The request is answered 500.
    fn on_request(
        &self,
        request: &mut Request<'_>,
        context: &mut Self::Context,
    ) -> impl Future<Output = Result<Next>> + Send {
        let _ = (request, context);
        ready(Ok(Next::Continue))
    }

    /// Called with a WebSocket upgrade that passed every hook's [`on_request`](Self::on_request).
    ///
    /// # Errors
    /// The request is answered 500.
    fn on_upgrade(
        &self,
        upgrade: &mut Upgrade<'_>,
        context: &mut Self::Context,
    ) -> impl Future<Output = Result<Next>> + Send {
        let _ = (upgrade, context);
        ready(Ok(Next::Continue))
    }

    /// Called with a backend that was picked and is not connected yet. Called again for each further try.
    ///
    /// # Errors
    /// The request is answered 500.
    fn on_pick(&self, backend: &Backend<'_>, context: &mut Self::Context) -> impl Future<Output = Result<Pick>> + Send {
        let _ = (backend, context);
        ready(Ok(Pick::Accept))
    }

    /// Called with the head of the backend's answer: to a plain request, a 101, or a refused upgrade. Not called for
    /// answers of the gateway's own or of hooks.
    ///
    /// # Errors
    /// The request is answered 500, if nothing was sent yet.
    fn on_response(
        &self,
        response: &mut Response<'_>,
        context: &mut Self::Context,
    ) -> impl Future<Output = Result<()>> + Send {
        let _ = (response, context);
        ready(Ok(()))
    }

    /// Called when the tunnel is open. Nothing passes through it until the call has returned.
    ///
    /// Like every phase of a tunnel that may wait, the call begins on the worker, a thread that carries many tunnels.
    /// From its first `.await` that waits, the call goes on elsewhere. Blocking work belongs behind such an `.await`,
    /// or on a thread of its own.
    ///
    /// # Errors
    /// The tunnel is ended with Close 1011.
    fn on_open(&self, tunnel: &Tunnel, context: &mut Self::Context) -> impl Future<Output = Result<()>> + Send {
        let _ = (tunnel, context);
        ready(Ok(()))
    }

    /// Called with a message of a direction for which [`messages`](Self::messages) says [`Mode::Sync`]. Runs on a
    /// thread that carries many tunnels: the call must not block, and its `timeout` cannot interrupt it.
    ///
    /// # Errors
    /// The tunnel is ended with Close 1011.
    fn on_message(
        &self,
        tunnel: &Tunnel,
        direction: Direction,
        message: &Message,
        context: &mut Self::Context,
    ) -> Result<Verdict> {
        let _ = (tunnel, direction, message, context);
        Ok(Verdict::Pass)
    }

    /// Called with a message of a direction for which [`messages`](Self::messages) says [`Mode::Async`]. The call may
    /// wait: only its own tunnel waits with it, and the message's sender is read no further.
    ///
    /// # Errors
    /// The tunnel is ended with Close 1011.
    fn on_message_async(
        &self,
        tunnel: &Tunnel,
        direction: Direction,
        message: &Message,
        context: &mut Self::Context,
    ) -> impl Future<Output = Result<Verdict>> + Send {
        let _ = (tunnel, direction, message, context);
        ready(Ok(Verdict::Pass))
    }

    /// Called on a route with `reattach` when the tunnel's backend leaves or is gone, before another one is asked. The
    /// old backend's last message has passed. `on_open` is not called again.
    ///
    /// Messages for the next backend are sent by [`Reattach::send`]: [`Tunnel::send`] has no backend to send to.
    ///
    /// # Errors
    /// The tunnel is ended with Close 1011.
    fn on_reattach(
        &self,
        tunnel: &Tunnel,
        reattach: &mut Reattach,
        context: &mut Self::Context,
    ) -> impl Future<Output = Result<()>> + Send {
        let _ = (tunnel, reattach, context);
        ready(Ok(()))
    }

    /// Called when the tunnel has ended, whoever ended it: once for each tunnel whose [`on_open`](Self::on_open) was
    /// called, as the last call of all. The end of the process waits for it, for 5 s at the most.
    ///
    /// A tunnel that goes on in another process has not ended.
    fn on_close(
        &self,
        tunnel: &Tunnel,
        closed: &Closed,
        context: &mut Self::Context,
    ) -> impl Future<Output = ()> + Send {
        let _ = (tunnel, closed, context);
        ready(())
    }

    /// Called before a request that was answered, or a tunnel that has ended, is logged. A tunnel's
    /// [`on_close`](Self::on_close) comes after it. The call must not block.
    fn on_log(&self, entry: &mut Entry<'_>, context: &mut Self::Context) {
        let _ = (entry, context);
    }

    /// Packs a tunnel's context for another process. With `None` the tunnel stays and is ended within `drain.window`.
    /// By default only a context without a size (`()`) is packed.
    fn pack(&self, context: &Self::Context) -> Option<Vec<u8>> {
        (size_of_val(context) == 0).then(Vec::new)
    }

    /// Unpacks what [`pack`](Self::pack) packed in another process, which may have been of another release.
    ///
    /// # Errors
    /// The tunnel is ended with Close 1011.
    fn unpack(&self, packed: &[u8]) -> Result<Self::Context> {
        let _ = packed;
        Ok(Self::Context::default())
    }

    /// State of the hook for a process that takes over; `None` if there is none. Called when that process serves.
    ///
    /// Over a reload nothing needs to be packed: see [`Setup::previous`].
    fn save(&self) -> Option<Vec<u8>> {
        None
    }

    /// Takes the state that [`save`](Self::save) gave in the process before. Called while this process serves already.
    ///
    /// # Errors
    /// Logged; the hook goes on with the state it has.
    fn restore(&self, saved: &[u8]) -> Result<()> {
        let _ = saved;
        Ok(())
    }
}

/// The settings of a hook that has none: anything under `with:` is an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub struct NoSettings {}

#[cfg(test)]
mod tests;
