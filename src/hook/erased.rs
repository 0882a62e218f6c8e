//! Hooks without their types, so that a route can hold several.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};

use super::{
    Backend, Closed, Direction, Entry, Hook, Injector, Message, Messages, Next, Pick, Reattach, Request, Response,
    Result, Tunnel, Upgrade, Verdict,
};

/// A point at which hooks are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// [`Hook::start`]
    Start,
    /// `Default` of [`Hook::Context`]
    Context,
    /// [`Hook::on_request`]
    Request,
    /// [`Hook::on_upgrade`]
    Upgrade,
    /// [`Hook::on_pick`]
    Pick,
    /// [`Hook::on_response`]
    Response,
    /// [`Hook::on_open`]
    Open,
    /// [`Hook::on_message`] and [`Hook::on_message_async`]
    Message,
    /// [`Hook::on_reattach`]
    Reattach,
    /// [`Hook::on_close`]
    Close,
    /// [`Hook::on_log`]
    Log,
    /// [`Hook::pack`], [`Hook::unpack`], [`Hook::save`] and [`Hook::restore`]
    Handover,
    /// The destructors of the hook, of its contexts, and of calls that were given up
    Drop,
}

impl Phase {
    /// The `phase` label in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Context => "context",
            Self::Request => "request",
            Self::Upgrade => "upgrade",
            Self::Pick => "pick",
            Self::Response => "response",
            Self::Open => "open",
            Self::Message => "message",
            Self::Reattach => "reattach",
            Self::Close => "close",
            Self::Log => "log",
            Self::Handover => "handover",
            Self::Drop => "drop",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A hook's context without its type.
pub(super) type Context = dyn Any + Send;

/// [`Hook`] as a trait object. Callers pass contexts that [`context`](Self::context) of the same hook made.
pub(super) trait Erased: Send + Sync {
    fn context(&self) -> Box<Context>;
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    fn start(self: Arc<Self>, injector: &Injector);
    fn messages(&self) -> Messages;
    fn on_request<'a>(&'a self, request: &'a mut Request<'_>, context: &'a mut Context) -> BoxFuture<'a, Result<Next>>;
    fn on_upgrade<'a>(&'a self, upgrade: &'a mut Upgrade<'_>, context: &'a mut Context) -> BoxFuture<'a, Result<Next>>;
    fn on_pick<'a>(&'a self, backend: &'a Backend<'_>, context: &'a mut Context) -> BoxFuture<'a, Result<Pick>>;
    fn on_response<'a>(&'a self, response: &'a mut Response<'_>, context: &'a mut Context)
    -> BoxFuture<'a, Result<()>>;
    fn on_open<'a>(&'a self, tunnel: &'a Tunnel, context: &'a mut Context) -> BoxFuture<'a, Result<()>>;
    fn on_message(
        &self,
        tunnel: &Tunnel,
        direction: Direction,
        message: &Message,
        context: &mut Context,
    ) -> Result<Verdict>;
    fn on_message_async<'a>(
        &'a self,
        tunnel: &'a Tunnel,
        direction: Direction,
        message: &'a Message,
        context: &'a mut Context,
    ) -> BoxFuture<'a, Result<Verdict>>;
    fn on_reattach<'a>(
        &'a self,
        tunnel: &'a Tunnel,
        reattach: &'a mut Reattach,
        context: &'a mut Context,
    ) -> BoxFuture<'a, Result<()>>;
    fn on_close<'a>(&'a self, tunnel: &'a Tunnel, closed: &'a Closed, context: &'a mut Context) -> BoxFuture<'a, ()>;
    fn on_log(&self, entry: &mut Entry<'_>, context: &mut Context);
    fn pack(&self, context: &Context) -> Option<Vec<u8>>;
    fn unpack(&self, packed: &[u8]) -> Result<Box<Context>>;
    fn save(&self) -> Option<Vec<u8>>;
    fn restore(&self, saved: &[u8]) -> Result<()>;
}

/// The context with its type.
fn typed<H: Hook>(context: &mut Context) -> &mut H::Context {
    context.downcast_mut().expect("a hook is given the contexts that it made")
}

impl<H: Hook> Erased for H {
    fn context(&self) -> Box<Context> {
        Box::new(H::Context::default())
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn start(self: Arc<Self>, injector: &Injector) {
        Hook::start(&self, injector);
    }

    fn messages(&self) -> Messages {
        Hook::messages(self)
    }

    fn on_request<'a>(&'a self, request: &'a mut Request<'_>, context: &'a mut Context) -> BoxFuture<'a, Result<Next>> {
        Hook::on_request(self, request, typed::<H>(context)).boxed()
    }

    fn on_upgrade<'a>(&'a self, upgrade: &'a mut Upgrade<'_>, context: &'a mut Context) -> BoxFuture<'a, Result<Next>> {
        Hook::on_upgrade(self, upgrade, typed::<H>(context)).boxed()
    }

    fn on_pick<'a>(&'a self, backend: &'a Backend<'_>, context: &'a mut Context) -> BoxFuture<'a, Result<Pick>> {
        Hook::on_pick(self, backend, typed::<H>(context)).boxed()
    }

    fn on_response<'a>(
        &'a self,
        response: &'a mut Response<'_>,
        context: &'a mut Context,
    ) -> BoxFuture<'a, Result<()>> {
        Hook::on_response(self, response, typed::<H>(context)).boxed()
    }

    fn on_open<'a>(&'a self, tunnel: &'a Tunnel, context: &'a mut Context) -> BoxFuture<'a, Result<()>> {
        Hook::on_open(self, tunnel, typed::<H>(context)).boxed()
    }

    fn on_message(
        &self,
        tunnel: &Tunnel,
        direction: Direction,
        message: &Message,
        context: &mut Context,
    ) -> Result<Verdict> {
        Hook::on_message(self, tunnel, direction, message, typed::<H>(context))
    }

    fn on_message_async<'a>(
        &'a self,
        tunnel: &'a Tunnel,
        direction: Direction,
        message: &'a Message,
        context: &'a mut Context,
    ) -> BoxFuture<'a, Result<Verdict>> {
        Hook::on_message_async(self, tunnel, direction, message, typed::<H>(context)).boxed()
    }

    fn on_reattach<'a>(
        &'a self,
        tunnel: &'a Tunnel,
        reattach: &'a mut Reattach,
        context: &'a mut Context,
    ) -> BoxFuture<'a, Result<()>> {
        Hook::on_reattach(self, tunnel, reattach, typed::<H>(context)).boxed()
    }

    fn on_close<'a>(&'a self, tunnel: &'a Tunnel, closed: &'a Closed, context: &'a mut Context) -> BoxFuture<'a, ()> {
        Hook::on_close(self, tunnel, closed, typed::<H>(context)).boxed()
    }

    fn on_log(&self, entry: &mut Entry<'_>, context: &mut Context) {
        Hook::on_log(self, entry, typed::<H>(context));
    }

    fn pack(&self, context: &Context) -> Option<Vec<u8>> {
        Hook::pack(self, context.downcast_ref().expect("a hook is given the contexts that it made"))
    }

    fn unpack(&self, packed: &[u8]) -> Result<Box<Context>> {
        Ok(Box::new(Hook::unpack(self, packed)?))
    }

    fn save(&self) -> Option<Vec<u8>> {
        Hook::save(self)
    }

    fn restore(&self, saved: &[u8]) -> Result<()> {
        Hook::restore(self, saved)
    }
}
