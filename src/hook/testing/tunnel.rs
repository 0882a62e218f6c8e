//! Tunnels that a test opens, sends messages through and closes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::recorder::Recorder;
use super::request::REQUEST_ID;
use super::{Harness, Stopped, context};
use crate::hook::{
    Chain, Closed, Contexts, Direction, Entry, Failure, Hook, Injector, KeyTag, Message, Mode, Reattach, Tunnel,
    TunnelId, Verdict,
};

/// An open tunnel. It leaves [`Injector::send`]'s count when it ends or is dropped.
pub struct TestTunnel {
    chain: Arc<Chain>,
    recorder: Arc<Recorder>,
    contexts: Contexts,
    tunnel: Tunnel,
    bytes: [u64; 2],
    messages: [u64; 2],
    ended: bool,
}

/// Parts of a new tunnel.
pub(super) struct Begin {
    pub(super) chain: Arc<Chain>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) injector: Injector,
    pub(super) route: Arc<str>,
    pub(super) upstream: Arc<str>,
    pub(super) client: IpAddr,
    pub(super) backend: SocketAddr,
    pub(super) key: Option<Vec<u8>>,
}

impl Begin {
    pub(super) async fn open(self, contexts: Contexts) -> Result<TestTunnel, Stopped> {
        let tunnel = Tunnel {
            id: TunnelId::random(),
            request_id: REQUEST_ID.into(),
            client: self.client,
            route: self.route,
            upstream: self.upstream,
            backend: self.backend,
            key: self.key.as_deref().map(KeyTag::of),
            injector: self.injector,
            outbox: crate::hook::Outbox::default(),
        };
        let mut opened = TestTunnel::new(self.chain, self.recorder, contexts, tunnel);
        opened.chain.on_open(&opened.tunnel, &mut opened.contexts).await?;
        Ok(opened)
    }
}

impl TestTunnel {
    fn new(chain: Arc<Chain>, recorder: Arc<Recorder>, contexts: Contexts, tunnel: Tunnel) -> Self {
        recorder.opened(&tunnel);
        Self { chain, recorder, contexts, tunnel, bytes: [0; 2], messages: [0; 2], ended: false }
    }

    /// The tunnel as hooks see it.
    pub fn tunnel(&self) -> &Tunnel {
        &self.tunnel
    }

    /// Context that the first hook of a type keeps of the tunnel.
    ///
    /// # Panics
    /// There is no hook of that type.
    pub fn context<H: Hook>(&self) -> &H::Context {
        context::<H>(&self.chain, &self.contexts)
    }

    /// Sends a message through [`Hook::on_message`] and [`Hook::on_message_async`], from the client in the order of the
    /// hooks, from the backend in the reverse order. After [`Verdict::Close`] or a failure the tunnel has ended; its
    /// close is for the test to send.
    ///
    /// # Errors
    /// [`Stopped`]: no hook asked for messages of this direction, one failed, or the tunnel has ended.
    pub async fn message(&mut self, direction: Direction, message: Message) -> Result<Verdict, Stopped> {
        if self.ended {
            return Err(Stopped::Ended);
        }
        if self.chain.messages().of(direction) == Mode::None {
            return Err(Stopped::Unseen(direction));
        }
        let judged = self.chain.on_message_async(&self.tunnel, direction, &message, &mut self.contexts).await;
        match &judged {
            Ok(Verdict::Pass) => self.passed(direction, &message),
            Ok(Verdict::Replace(message)) => self.passed(direction, message),
            Ok(Verdict::Close { .. } | Verdict::ReplyAndClose { .. }) | Err(_) => self.end(),
            Ok(_) => {}
        }
        Ok(judged?)
    }

    /// Leads the tunnel to another backend, by [`Hook::on_reattach`]. Returns what the hooks made of it: headers of the
    /// request, messages to either side, a refusal, with which the tunnel has ended.
    ///
    /// # Errors
    /// [`Stopped`]: a hook failed, or the tunnel has ended.
    pub async fn reattach(&mut self, mut reattach: Reattach) -> Result<Reattach, Stopped> {
        if self.ended {
            return Err(Stopped::Ended);
        }
        let told = self.chain.on_reattach(&self.tunnel, &mut reattach, &mut self.contexts).await;
        if told.is_err() || reattach.refusal().is_some() {
            self.end();
        }
        told?;
        Ok(reattach)
    }

    /// Closes the tunnel with a Close frame of the client's with this code, and tells [`Hook::on_close`].
    ///
    /// # Errors
    /// The first failure of a hook; the others were told all the same.
    pub async fn close(&mut self, code: u16) -> Result<(), Failure> {
        let closed = Closed::new("client_close", code, Duration::from_secs(1), self.bytes, self.messages);
        self.close_as(&closed).await
    }

    /// As [`close`](Self::close), told as it is to be.
    ///
    /// # Errors
    /// As for [`close`](Self::close).
    pub async fn close_as(&mut self, closed: &Closed) -> Result<(), Failure> {
        self.end();
        let failures = self.chain.on_close(&self.tunnel, closed, &mut self.contexts).await;
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    /// Logs the tunnel's end, and returns the fields that [`Hook::on_log`] added.
    ///
    /// # Errors
    /// The first failure of a hook; the others were asked all the same.
    pub fn log(&mut self) -> Result<Vec<(&'static str, String)>, Failure> {
        let mut entry = Entry::new("tunnel_end", REQUEST_ID, &self.tunnel.route, 101, Duration::from_secs(1));
        let failures = self.chain.on_log(&mut entry, &mut self.contexts);
        failures.into_iter().next().map_or_else(|| Ok(entry.added().to_vec()), Err)
    }

    /// Hands the tunnel over to the hooks of another process, which `successor` stands for ([`Hook::pack`],
    /// [`Hook::unpack`]): it keeps its id, and goes on there.
    ///
    /// # Errors
    /// [`Stopped`]: a hook cannot pack or unpack its context, or the tunnel has ended.
    pub fn hand_over(mut self, successor: &Harness) -> Result<Self, Stopped> {
        if self.ended {
            return Err(Stopped::Ended);
        }
        let packed = self.chain.pack(&self.contexts).ok_or(Stopped::Unpacked)?;
        let (contexts, failed) = successor.chain.unpack(&packed);
        failed.map_or(Ok(()), Err)?;
        self.end();
        let tunnel = Tunnel { injector: successor.injector(), ..self.tunnel.clone() };
        let mut adopted = Self::new(Arc::clone(&successor.chain), Arc::clone(&successor.recorder), contexts, tunnel);
        (adopted.bytes, adopted.messages) = (self.bytes, self.messages);
        Ok(adopted)
    }

    fn passed(&mut self, direction: Direction, message: &Message) {
        self.bytes[direction as usize] += message.as_bytes().len() as u64;
        self.messages[direction as usize] += 1;
    }

    fn end(&mut self) {
        self.ended = true;
        self.recorder.ended(self.tunnel.id);
    }
}

impl Drop for TestTunnel {
    fn drop(&mut self) {
        self.recorder.ended(self.tunnel.id);
    }
}
