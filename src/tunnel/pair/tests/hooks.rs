//! Hooks of a tunnel: a rig whose hooks do what the test says, when it says so.

mod closing;
mod compressed;
mod crossing;
mod injected;
mod slow;
mod stream;
mod verdicts;
mod violations;

use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, oneshot};

use super::{Frame, Rig, answer, binary, close, frame_from, frames};
use crate::config::{HookEntry, Settings, TunnelLimits};
use crate::hook::{
    self, Chain, Closed, Direction, Entry, Hook, HookRegistry, Injector, Item, Message, Messages, NoSettings, Outlet,
    Result, Setup, SetupError, To, Tunnel, TunnelId, Verdict,
};
use crate::metrics::Metrics;
use crate::tunnel::Hooked;
use crate::tunnel::inspect::{CallOutcome, Caller, Farewells, Inspector};
use crate::ws::Side::{self, Backend, Client};
use crate::ws::deflate::{self, Agreement, Codec};

/// Says what becomes of a message.
type Judge = dyn Fn(Direction, &Message) -> Result<Verdict> + Send + Sync;

/// State that all hooks of a test share.
pub(super) struct Script {
    messages: Messages,
    judge: Box<Judge>,
    /// Calls that wait may go on, one for each permit.
    gate: Semaphore,
    opens_at_once: bool,
    fails_to_open: bool,
    packs: bool,
    /// Calls, in order.
    log: Mutex<Vec<String>>,
}

/// A hook that goes by the script.
struct Scripted(Arc<Script>, &'static str);

impl Script {
    fn new(messages: Messages, judge: impl Fn(Direction, &Message) -> Result<Verdict> + Send + Sync + 'static) -> Self {
        Self {
            messages,
            judge: Box::new(judge),
            gate: Semaphore::new(0),
            opens_at_once: true,
            fails_to_open: false,
            packs: true,
            log: Mutex::default(),
        }
    }

    fn pass(messages: Messages) -> Self {
        Self::new(messages, |_, _| Ok(Verdict::Pass))
    }

    fn log(&self) -> MutexGuard<'_, Vec<String>> {
        self.log.lock().unwrap()
    }

    async fn wait(&self) {
        self.gate.acquire().await.unwrap().forget();
    }
}

impl Hook for Scripted {
    type Settings = NoSettings;
    type Context = Vec<u8>;

    fn new(_: NoSettings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        unreachable!("it is made with its script")
    }

    fn messages(&self) -> Messages {
        self.0.messages
    }

    async fn on_open(&self, tunnel: &Tunnel, _: &mut Vec<u8>) -> Result<()> {
        self.0.log().push(format!("{} open {}", self.1, tunnel.request_id));
        if !self.0.opens_at_once {
            self.0.wait().await;
        }
        if self.0.fails_to_open { Err(hook::Error::new("as told")) } else { Ok(()) }
    }

    fn on_message(&self, _: &Tunnel, direction: Direction, message: &Message, seen: &mut Vec<u8>) -> Result<Verdict> {
        seen.push(message.as_bytes().first().copied().unwrap_or_default());
        self.0.log().push(format!(
            "{} {} {:?}",
            self.1,
            direction.as_str(),
            message.as_bytes().escape_ascii().to_string()
        ));
        (self.0.judge)(direction, message)
    }

    async fn on_message_async(
        &self,
        tunnel: &Tunnel,
        direction: Direction,
        message: &Message,
        seen: &mut Vec<u8>,
    ) -> Result<Verdict> {
        self.0.wait().await;
        self.on_message(tunnel, direction, message, seen)
    }

    async fn on_close(&self, _: &Tunnel, closed: &Closed, _: &mut Vec<u8>) {
        self.0.log().push(format!("{} close {} {}", self.1, closed.reason, closed.code));
    }

    fn on_log(&self, entry: &mut Entry<'_>, seen: &mut Vec<u8>) {
        entry.add("seen", seen.escape_ascii().to_string());
    }

    fn pack(&self, seen: &Vec<u8>) -> Option<Vec<u8>> {
        self.0.packs.then(|| seen.clone())
    }

    fn unpack(&self, packed: &[u8]) -> Result<Vec<u8>> {
        if packed == b"bad" { Err(hook::Error::new("as told")) } else { Ok(packed.to_vec()) }
    }
}

/// Nobody is reached from outside.
struct Nowhere;

impl Outlet for Nowhere {
    fn deliver(&self, _: To, _: Item, _: UnboundedSender<usize>) {}
}

/// A rig with hooks, and what their calls report to.
pub(super) struct HookedRig {
    rig: Rig,
    script: Arc<Script>,
    caller: Arc<Caller>,
    farewells: Farewells,
    heard: mpsc::Receiver<(TunnelId, CallOutcome)>,
    metrics: Metrics,
    /// Dropped last: calls go on there.
    _runtime: Runtime,
}

impl HookedRig {
    fn new(script: Script) -> Self {
        Self::with(script, TunnelLimits::default(), None, &["hook"])
    }

    fn with(script: Script, limits: TunnelLimits, agreement: Option<Agreement>, names: &[&'static str]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        let (report, heard) = mpsc::channel();
        let report = Box::new(move |id, outcome| {
            // A rig that is gone wants to hear nothing more.
            let _ = report.send((id, outcome));
        });
        let farewells = Farewells::new();
        let caller = Arc::new(Caller::new(runtime.handle().clone(), farewells.clone(), report));
        let (script, metrics) = (Arc::new(script), Metrics::new());
        let mut this = Self { rig: Rig::new(limits), script, caller, farewells, heard, metrics, _runtime: runtime };
        let chain = this.chain(names);
        let hooked = Hooked { contexts: chain.contexts().unwrap(), chain, tunnel: tunnel(), agreement };
        let inspector = Inspector::new(hooked, Arc::clone(&this.caller), limits.max_message);
        this.rig.pair.watch(Box::new(inspector));
        let counters = Arc::clone(&this.rig.counters);
        this.rig.pair.open_hooks(this.rig.now, &counters);
        this.rig.drive();
        this
    }

    /// Hooks of these names, which all go by the script.
    fn chain(&self, names: &[&'static str]) -> Arc<Chain> {
        let mut registry = HookRegistry::empty();
        for name in names.iter().copied() {
            let script = Arc::clone(&self.script);
            registry
                .add_with(name, move |_: NoSettings, _: &Setup<'_, Scripted>| Ok(Scripted(Arc::clone(&script), name)));
        }
        let entry = |name: &&str| HookEntry {
            name: (*name).to_owned(),
            settings: Settings::empty(),
            timeout: Duration::from_secs(3600),
        };
        let entries: Vec<_> = names.iter().map(entry).collect();
        Arc::new(Chain::build(&entries, "* /", &registry, None, |name| self.metrics.hook(name)).unwrap())
    }

    /// One call that waits goes on to its end.
    fn let_go(&mut self) {
        self.script.gate.add_permits(1);
        let (id, outcome) = self.heard.recv_timeout(PATIENCE).expect("a call was waited for");
        assert_eq!(id, self.rig.pair.inspector().unwrap().tunnel().id);
        let counters = Arc::clone(&self.rig.counters);
        self.rig.pair.heard(outcome, self.rig.now, &counters);
        self.rig.drive();
    }

    fn inject(&mut self, item: &Item) -> bool {
        let done = self.rig.pair.inject(item, self.rig.now);
        self.rig.drive();
        done
    }

    /// The worker has taken the tunnel off, and its hooks know; what they added to its log line.
    fn part(&mut self) -> Vec<(&'static str, String)> {
        let (reason, code) = self.rig.outcome();
        let inspector = self.rig.pair.take_inspector().unwrap();
        let (said, log) = oneshot::channel();
        let closed = Closed::new(reason, code, Duration::from_secs(1), [0; 2], [0; 2]);
        inspector.farewell(closed, move |added| said.send(added.to_vec()).unwrap());
        self._runtime.block_on(async {
            let log = tokio::time::timeout(PATIENCE, log).await.unwrap().unwrap();
            assert_eq!(self.farewells.said(PATIENCE).await, 0);
            log
        })
    }

    fn metric(&self, line: &str) -> bool {
        String::from_utf8(self.metrics.render(std::iter::empty())).unwrap().lines().any(|have| have == line)
    }
}

impl std::ops::Deref for HookedRig {
    type Target = Rig;

    fn deref(&self) -> &Rig {
        &self.rig
    }
}

impl std::ops::DerefMut for HookedRig {
    fn deref_mut(&mut self) -> &mut Rig {
        &mut self.rig
    }
}

fn tunnel() -> Tunnel {
    Tunnel {
        id: TunnelId::random(),
        request_id: "r1".into(),
        client: [192, 0, 2, 1].into(),
        route: "* /".into(),
        upstream: "u".into(),
        backend: ([127, 0, 0, 1], 9001).into(),
        key: None,
        injector: Injector::new(Arc::new(Nowhere)),
        outbox: crate::hook::Outbox::default(),
    }
}

/// A whole text message as `side` sends it.
fn text(side: Side, text: &str) -> Vec<u8> {
    frame_from(side, 0x81, text.as_bytes())
}

/// A text message as it comes to `side`.
fn text_to(side: Side, text: &str) -> Frame {
    Frame { first: 0x81, masked: side == Backend, payload: text.into() }
}

/// A way's sender, and who gets what it sends.
const WAYS: [(Side, Side); 2] = [(Client, Backend), (Backend, Client)];
/// Longer than any call of a test takes.
const PATIENCE: Duration = Duration::from_secs(30);
