//! Tunnels with hooks on real workers and sockets: how they are reached from outside, and who is told at the end.

mod faults;
mod held_back;
mod memory;
mod passports;
pub(in crate::tunnel) mod plain;
mod seen;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::access_log::AccessLog;
use crate::config::{HookEntry, Settings, TunnelLimits};
use crate::hook::{
    Chain, Closed, Direction, Hook, HookRegistry, Injector, Item, KeyTag, Message, Messages, NoSettings, Outlet,
    Result, Setup, SetupError, To, Tunnel, TunnelId, Verdict,
};
use crate::metrics::Metrics;
use crate::tunnel::{
    Addresses, Batch, Hooked, KeyMark, NewTunnel, Passport, Reason, Record, Scope, Surroundings, Tunnels,
};
use crate::upstream;

/// Waits at the gate for messages, and to be told of ends; notes what it is told.
#[derive(Clone, Default)]
struct Noting(Arc<Notes>);

struct Notes {
    gate: Semaphore,
    ends: Semaphore,
    said: Mutex<Vec<String>>,
}

impl Default for Notes {
    fn default() -> Self {
        Self { gate: Semaphore::new(0), ends: Semaphore::new(1000), said: Mutex::default() }
    }
}

impl Noting {
    fn said(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.said.lock().unwrap()
    }
}

impl Hook for Noting {
    type Settings = NoSettings;
    type Context = ();

    fn new(_: NoSettings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        Ok(Self::default())
    }

    fn messages(&self) -> Messages {
        Messages::TO_BACKEND.awaited()
    }

    async fn on_open(&self, tunnel: &Tunnel, (): &mut ()) -> Result<()> {
        tunnel.send(Direction::ToClient, Message::text("welcome"));
        Ok(())
    }

    async fn on_message_async(&self, _: &Tunnel, _: Direction, _: &Message, (): &mut ()) -> Result<Verdict> {
        self.0.gate.acquire().await?.forget();
        Ok(Verdict::Pass)
    }

    async fn on_close(&self, tunnel: &Tunnel, closed: &Closed, (): &mut ()) {
        self.0.ends.acquire().await.unwrap().forget();
        self.said().push(format!("{} {}", tunnel.request_id, closed.reason));
    }
}

struct Lab {
    tunnels: Arc<Tunnels>,
    injector: Injector,
    hook: Noting,
    chain: Arc<Chain>,
    listener: TcpListener,
    backend: Arc<upstream::BackendState>,
    metrics: Metrics,
}

/// A client's end and the backend's, and the tunnel's id.
struct Ends {
    client: TcpStream,
    backend: TcpStream,
    id: TunnelId,
}

impl Lab {
    /// To be called on a runtime.
    fn start() -> Self {
        Self::with(2)
    }

    /// The same with so many workers.
    fn with(workers: usize) -> Self {
        let tunnels = Arc::new(Tunnels::start(workers, &AccessLog::off()).unwrap());
        let (hook, metrics) = (Noting::default(), Metrics::new());
        let mut registry = HookRegistry::empty();
        let made = hook.clone();
        registry.add_with("noting", move |_: NoSettings, _: &Setup<'_, Noting>| Ok(made.clone()));
        let entry =
            HookEntry { name: "noting".into(), settings: Settings::empty(), timeout: Duration::from_secs(3600) };
        let chain = Chain::build(&[entry], "* /", &registry, None, |name| metrics.hook(name)).unwrap();
        Self {
            injector: Injector::new(Arc::clone(&tunnels) as Arc<dyn Outlet>),
            tunnels,
            hook,
            chain: Arc::new(chain),
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            backend: upstream::Registry::default().backend("u", "127.0.0.1:9", ([127, 0, 0, 1], 9).into()),
            metrics,
        }
    }

    /// Both ends of a connection: the test's, and the tunnel's.
    fn connection(&self) -> (TcpStream, TcpStream) {
        let ours = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        let (theirs, _) = self.listener.accept().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        theirs.set_nonblocking(true).unwrap();
        (ours, theirs)
    }

    /// A tunnel to be opened, and its far ends.
    fn tunnel(&self, name: &str, route: &str, key: &[u8]) -> (NewTunnel, Ends) {
        let ((client, near), (backend, far)) = (self.connection(), self.connection());
        let record = Record {
            id: TunnelId::random(),
            generation: 1,
            request_id: name.into(),
            addresses: Addresses::new([127, 0, 0, 1].into(), ([127, 0, 0, 1], 1).into()),
            rare: None,
            route: route.into(),
            key_source: None,
            by_hook: false,
            key: KeyMark::default(),
            guard: self.backend.occupy(),
            admitted: None,
            metrics: self.metrics.upstream("u"),
        };
        let tunnel = Tunnel {
            id: record.id,
            request_id: name.into(),
            client: record.client(),
            route: Arc::clone(&record.route),
            upstream: "u".into(),
            backend: self.backend.address(),
            key: Some(KeyTag::of(key)),
            injector: self.injector.clone(),
            outbox: crate::hook::Outbox::default(),
        };
        let ends = Ends { client, backend, id: tunnel.id };
        let contexts = self.chain.contexts().unwrap();
        let hooks = Hooked { chain: Arc::clone(&self.chain), contexts, tunnel, agreement: None };
        let (early, limits) = (Default::default(), TunnelLimits::default());
        (
            NewTunnel {
                client: near.into(),
                backend: far.into(),
                early,
                limits,
                record,
                kept: None,
                hooks: Some(hooks),
            },
            ends,
        )
    }

    /// A tunnel whose client has been welcomed by the hook.
    fn open(&self, name: &str, route: &str, key: &[u8]) -> Ends {
        let (tunnel, mut ends) = self.tunnel(name, route, key);
        self.tunnels.open(tunnel);
        assert_eq!(frame(&mut ends.client), (0x81, b"welcome".to_vec()));
        ends
    }

    async fn push(&self, to: impl Into<To>, words: &str) -> usize {
        self.injector.send(to.into(), Item::Message(Direction::ToClient, Message::text(words))).await
    }
}

/// The next frame that comes to a client; a short one.
fn frame(client: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    client.read_exact(&mut head).unwrap();
    let mut payload = vec![0; head[1].into()];
    client.read_exact(&mut payload).unwrap();
    (head[0], payload)
}

/// A masked text frame, with a key of zeros.
fn text(words: &str) -> Vec<u8> {
    [&[0x81, 0x80 | u8::try_from(words.len()).unwrap(), 0, 0, 0, 0], words.as_bytes()].concat()
}

fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_are_reached_by_id_key_and_route() {
    let lab = Lab::start();
    let mut ends = [("a", "* /x", b"1"), ("b", "* /x", b"2"), ("c", "* /y", b"2"), ("d", "* /y", b"3")]
        .map(|(name, route, key)| lab.open(name, route, key));
    let to_b = To::Tunnel(ends[1].id);
    let cases: [(To, &[usize]); 6] = [
        (to_b, &[1]),
        (To::Tunnel(TunnelId::random()), &[]),
        (To::Key(KeyTag::of(b"2")), &[1, 2]),
        (To::Key(KeyTag::of(b"4")), &[]),
        (To::Route("* /y".into()), &[2, 3]),
        (To::All, &[0, 1, 2, 3]),
    ];
    for (number, (to, reached)) in cases.into_iter().enumerate() {
        let words = format!("news {number}");
        assert_eq!(lab.push(to, &words).await, reached.len());
        for index in reached {
            assert_eq!(frame(&mut ends[*index].client), (0x81, words.clone().into_bytes()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_has_ended_is_reached_no_more_and_its_hooks_know() {
    let lab = Lab::start();
    let mut ends = lab.open("kicked", "* /", b"");
    let id = ends.id;
    assert_eq!(lab.injector.send(To::Tunnel(id), Item::Close { code: 4000, reason: "go".into() }).await, 1);
    assert_eq!(frame(&mut ends.client), (0x88, b"\x0f\xa0go".to_vec()));
    assert_eq!(lab.push(id, "too late").await, 0);
    drop(ends);
    while lab.tunnels.count() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(lab.push(id, "too late").await, 0);
    lab.tunnels.hooks_told().await;
    assert_eq!(*lab.hook.said(), ["kicked hook_closed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_is_finished_elsewhere_and_its_message_passes() {
    let lab = Lab::start();
    let mut ends = lab.open("slow", "* /", b"");
    ends.client.write_all(&text("a")).unwrap();
    lab.hook.0.gate.add_permits(1);
    assert_eq!(read(&mut ends.backend, 7)[..2], [0x81, 0x81]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_process_waits_for_hooks_that_are_told_of_it() {
    let lab = Lab::start();
    let _ends = ["a", "b"].map(|name| lab.open(name, "* /", b""));
    lab.hook.0.ends.forget_permits(1000);
    lab.tunnels.stop();
    assert!(lab.hook.said().is_empty());
    let told = tokio::spawn({
        let tunnels = Arc::clone(&lab.tunnels);
        async move { tunnels.hooks_told().await }
    });
    lab.hook.0.ends.add_permits(2);
    told.await.unwrap();
    let mut said = lab.hook.said().clone();
    said.sort();
    assert_eq!(said, ["a shutdown", "b shutdown"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_goes_on_among_other_tunnels_and_is_reached_there() {
    let (here, there) = (Lab::start(), Lab::start());
    let mut ends = here.open("moves", "* /", b"key");
    ends.client.write_all(&text("busy")).unwrap();
    // Until the worker has read it, and has asked the hook about it, the tunnel comes off.
    loop {
        let batch = here.tunnels.freeze(10, true);
        if batch.busy == 1 {
            break;
        }
        batch.frozen.into_iter().for_each(|frozen| here.tunnels.thaw(frozen));
    }
    here.hook.0.gate.add_permits(1);
    read(&mut ends.backend, 10);
    let Batch { mut frozen, busy: 0, staying: 0 } = here.tunnels.freeze(10, true) else { panic!("it can travel") };
    let frozen = frozen.pop().unwrap();
    let written = serde_json::to_string(&frozen.passport(std::time::Instant::now())).unwrap();
    let passport: Passport = serde_json::from_str(&written).unwrap();
    let sockets = frozen.sockets().map(|socket| socket.try_clone_to_owned().unwrap());
    let place = Surroundings {
        route: "* /".into(),
        guard: there.backend.occupy(),
        admitted: None,
        metrics: there.metrics.upstream("u"),
        hooks: Arc::clone(&there.chain),
        injector: there.injector.clone(),
    };
    there.tunnels.thaw(there.tunnels.adopt(passport, sockets, place, std::time::Instant::now()));
    frozen.give_up();
    assert_eq!(here.push(To::Key(KeyTag::of(b"key")), "gone").await, 0);
    assert_eq!(there.push(To::Key(KeyTag::of(b"key")), "here").await, 1);
    assert_eq!(frame(&mut ends.client), (0x81, b"here".to_vec()), "and no second welcome");
    there.tunnels.end(&Scope::All, Reason::Shutdown { code: 1001 }, Duration::ZERO);
    assert_eq!(frame(&mut ends.client).0, 0x88);
    drop(ends);
    while there.tunnels.count() > 0 {
        tokio::task::yield_now().await;
    }
    there.tunnels.hooks_told().await;
    assert_eq!((here.hook.said().len(), &there.hook.said()[..]), (0, &["moves shutdown".to_owned()][..]));
}

#[test]
fn a_tunnel_with_hooks_is_refused_where_nobody_could_call_them() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let entered = runtime.enter();
    let mut lab = Lab::start();
    drop(entered);
    lab.tunnels = Arc::new(Tunnels::start(1, &AccessLog::off()).unwrap());
    let (tunnel, mut ends) = lab.tunnel("refused", "* /", b"");
    lab.tunnels.open(tunnel);
    assert_eq!(ends.client.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(lab.tunnels.count(), 0);
}

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
