//! Plans compared with the effects of the reloads themselves, on tunnels made by hand.

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::*;
use crate::access_log::AccessLog;
use crate::affinity::KeySource;
use crate::config::TunnelLimits;
use crate::hook::{Hook, HookRegistry, Setup, SetupError, TunnelId};
use crate::metrics::Metrics;
use crate::snapshot::SnapshotOrigin;
use crate::tls::tickets::TicketKeys;
use crate::tunnel::{Addresses, KeyMark, NewTunnel, Record, Tunnels};
use crate::upstream::Ring;

/// One upstream `a` with these backends and further keys, behind the route `/`.
fn config(backends: &[&str], more: &str) -> Config {
    let text = format!(
        "listeners: [{{ address: 127.0.0.1:0 }}]\nroutes: [{{ upstream: a }}]\nupstreams:\n  \
         a: {{ health: off, backends: [{}]{more} }}\n",
        backends.join(", ")
    );
    config::parse(&text, &config::NoHooks).unwrap().config
}

const ONE: &str = "127.0.0.1:9001";
const TWO: &str = "127.0.0.1:9002";
const THREE: &str = "127.0.0.1:9003";

/// A gateway without listeners, and the far ends of the tunnels that it has open.
struct Subject {
    running: Arc<Running>,
    far_ends: Vec<TcpStream>,
}

impl Subject {
    fn new(config: &Config) -> Self {
        Self::with_hooks(config, HookRegistry::empty())
    }

    fn with_hooks(config: &Config, hooks: HookRegistry) -> Self {
        let log = AccessLog::off();
        let tunnels = Arc::new(Tunnels::start(2, &log).unwrap());
        let (keys, metrics) = (TicketKeys::draw(SystemTime::now()), Arc::new(Metrics::new()));
        let running = Running::new(
            SnapshotOrigin { config, members: MemberLists::default(), hooks: Arc::new(hooks) },
            metrics,
            tunnels,
            log,
            keys,
            Instant::now(),
        )
        .unwrap();
        Self { running: Arc::new(running), far_ends: Vec::new() }
    }

    /// Opens a tunnel by the route `/`: to the backend that the ring gives for `key`, or without a key to the first
    /// one.
    fn open(&mut self, key: Option<&str>) {
        let snapshot = self.running.snapshot();
        let to = snapshot.destination("a").unwrap();
        let index = key.map_or(0, |key| to.upstream.order(key.as_bytes())[0]);
        let mut guard = to.upstream.states()[index].occupy();
        guard.mark_tunnel();
        let record = Record {
            id: TunnelId::random(),
            generation: 1,
            request_id: "test".into(),
            addresses: Addresses::new([127, 0, 0, 1].into(), ([127, 0, 0, 1], 1).into()),
            rare: None,
            route: "* /".into(),
            key_source: Some(KeySource::Header),
            by_hook: false,
            key: KeyMark::new(None, key.map(|key| Ring::hash(key.as_bytes()))),
            guard,
            admitted: None,
            metrics: Arc::clone(&to.metrics),
        };
        let [client, backend] = [self.end(), self.end()];
        let limits = TunnelLimits::default();
        self.running.tunnels.open(NewTunnel {
            client: client.into(),
            backend: backend.into(),
            early: Default::default(),
            limits,
            record,
            kept: None,
            hooks: None,
        });
    }

    fn end(&mut self) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        near.set_nonblocking(true).unwrap();
        self.far_ends.push(listener.accept().unwrap().0);
        near
    }

    async fn planned(&self, new: Config) -> TunnelsPlanned {
        plan_running(&self.running, new, MemberLists::default()).await.unwrap().tunnels.unwrap()
    }

    async fn reload(&self, new: Config) -> Reloaded {
        reload(&self.running, new).await.unwrap()
    }
}

fn keys() -> Vec<String> {
    (0..100).map(|number| format!("room {number}")).collect()
}

#[tokio::test]
async fn what_is_planned_for_open_tunnels_is_what_a_reload_does() {
    for on_change in ["close", "keep"] {
        let more = format!(", on_change: {on_change}, drain_window: 1d");
        let mut subject = Subject::new(&config(&[ONE, TWO], &more));
        keys().iter().for_each(|key| subject.open(Some(key)));
        let on_one = subject.running.snapshot().destination("a").unwrap().upstream.states()[0].tunnels();
        assert!(0 < on_one && on_one < 100);

        let planned = subject.planned(config(&[TWO, THREE], &more)).await;
        let closed = if on_change == "close" { on_one } else { 0 };
        let fate = Fate {
            upstream: "a".into(),
            cause: ImpactCause::BackendGone,
            closed: on_change == "close",
            over_ms: 86_400_000,
            tunnels: on_one,
        };
        assert_eq!((planned.open, planned.closed, &planned.touched), (100, closed, &vec![fate]));
        assert_eq!(subject.running.snapshot().generation, 1, "a plan changes nothing");
        assert_eq!(subject.reload(config(&[TWO, THREE], &more)).await.closing, closed);
    }
}

#[tokio::test]
async fn keys_that_are_planned_to_move_are_away_from_home_after_the_reload() {
    let mut subject = Subject::new(&config(&[ONE, TWO], ""));
    keys().iter().for_each(|key| subject.open(Some(key)));
    subject.open(None);
    assert_eq!(subject.running.away_from_home().await, BTreeMap::from([("a".to_owned(), 0)]));

    let grown = || config(&[THREE, ONE, TWO], "");
    let planned = subject.planned(grown()).await;
    let [moves] = planned.keys.as_slice() else { panic!("one upstream changes: {planned:?}") };
    assert!(moves.of == 100 && 0 < moves.moved && moves.moved < 100, "{moves:?}");
    assert_eq!((planned.closed, planned.touched), (0, Vec::new()), "rehome is off");
    assert_eq!(subject.reload(grown()).await.rehoming, 0);
    assert_eq!(subject.running.away_from_home().await["a"], moves.moved);

    // Turned on without a change of the ring it moves nobody; with one it moves who is away then.
    let rehome = ", rehome: { over: 1d }";
    assert_eq!(subject.reload(config(&[ONE, TWO, THREE], rehome)).await.rehoming, 0);
    let back = || config(&[ONE, TWO, "{ address: 127.0.0.1:9003, weight: 2 }"], rehome);
    let planned = subject.planned(back()).await;
    let away = planned.touched.iter().map(|fate| (fate.cause, fate.tunnels)).collect::<Vec<_>>();
    let reloaded = subject.reload(back()).await;
    assert_eq!(away, [(ImpactCause::AwayFromHome, reloaded.rehoming)]);
    assert!(reloaded.rehoming > moves.moved);
    // An announced end stays announced over reloads that have nothing to do with it, and is called off at home.
    let unrelated =
        || config(&[ONE, TWO, "{ address: 127.0.0.1:9003, weight: 2 }"], ", fail_open: true, rehome: { over: 1d }");
    assert_eq!(subject.reload(unrelated()).await.rehoming, reloaded.rehoming);
    let home = subject.reload(config(&[ONE, TWO], rehome)).await;
    assert_eq!((home.rehoming, home.called_off), (0, reloaded.rehoming));
}

#[tokio::test]
async fn a_named_backend_at_another_address_keeps_its_keys_and_its_old_tunnels_follow_on_change() {
    let named = |address: &str| format!("{{ name: shard-0, address: {address} }}");
    for on_change in ["close", "keep"] {
        let more = format!(", on_change: {on_change}, drain_window: 1d, rehome: {{ over: 1d }}");
        let with = |address: &str| config(&[&named(address), TWO], &more);
        let mut subject = Subject::new(&with(ONE));
        keys().iter().for_each(|key| subject.open(Some(key)));
        let before = subject.running.snapshot();
        let states = before.destination("a").unwrap().upstream.states();
        let (carried, by_name) = (states[0].tunnels(), Arc::clone(&states[0]));
        // Asked behind the tunnels: one that a worker has yet to open ends at once when its backend is drained.
        assert_eq!(subject.running.away_from_home().await["a"], 0);
        by_name.set_draining(true);

        let planned = plan_running(&subject.running, with(THREE), MemberLists::default()).await.unwrap();
        assert_eq!(planned.keys, [], "names and weights are the same");
        assert_eq!(
            planned.changes.to_string(),
            format!("~ upstream a\n    ~ backend shard-0: address from {ONE} to {THREE}")
        );
        let [fate] = planned.tunnels.as_ref().unwrap().touched.as_slice() else { panic!("{planned:?}") };
        assert_eq!((fate.cause, fate.tunnels), (ImpactCause::BackendMoved, carried));

        let reloaded = subject.reload(with(THREE)).await;
        let closing = if on_change == "close" { carried } else { 0 };
        assert_eq!((reloaded.closing, reloaded.rehoming), (closing, 0));
        assert_eq!(subject.running.away_from_home().await["a"], carried, "home is drained");
        let after = subject.running.snapshot();
        let state = &after.destination("a").unwrap().upstream.states()[0];
        assert_eq!(
            (state.tunnels(), state.is_draining(), state.address().to_string()),
            (carried, true, THREE.to_owned())
        );
        state.set_draining(false);
        assert_eq!(subject.running.away_from_home().await["a"], 0, "{on_change}");
        // Back at the old address, its tunnels are where they belong.
        assert_eq!(subject.reload(with(ONE)).await.called_off, closing);
    }
}

/// A hook that takes any settings and does nothing.
struct Idle;

impl Hook for Idle {
    type Settings = serde_json::Value;
    type Context = ();

    fn new(_: serde_json::Value, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        Ok(Self)
    }
}

#[tokio::test]
async fn other_hooks_are_a_change_of_the_route_that_touches_no_tunnel() {
    let with = |compression, hooks: &[(&str, &str)]| {
        let mut config = config(&[ONE], "");
        let entry = |(name, settings): &(&str, &str)| config::HookEntry {
            name: (*name).to_owned(),
            settings: config::Settings::parse(settings).unwrap(),
            timeout: config::HookEntry::DEFAULT_TIMEOUT,
        };
        config.routes[0].hooks = hooks.iter().map(entry).collect();
        config.routes[0].compression = compression;
        config
    };
    let (inspect, strip) = (config::Compression::Inspect, config::Compression::Strip);
    let limits = [("limit", "{ rate: 1, burst: 2 }"), ("log", "")];
    let mut known = HookRegistry::empty();
    known.add::<Idle>("limit");
    known.add::<Idle>("log");
    let mut subject = Subject::with_hooks(&with(inspect, &limits), known);
    subject.open(None);

    let same = with(inspect, &[("limit", "{ burst: 2, rate: 1 } # as before"), ("log", "{}")]);
    assert!(Changes::between(&subject.running.snapshot().config, &same).is_empty());
    let others = [
        with(inspect, &[("log", ""), ("limit", "{ rate: 1, burst: 2 }")]),
        with(inspect, &[("limit", "{ rate: 1, burst: 3 }"), ("log", "")]),
        with(inspect, &[]),
    ];
    for other in others {
        let reloaded = subject.reload(other).await;
        assert_eq!(reloaded.changes.routes, [RouteChange::Hooks { route: "* /".into() }]);
        assert_eq!((reloaded.closing, reloaded.rehoming), (0, 0));
    }
    let changes = subject.reload(with(strip, &limits)).await.changes;
    assert_eq!(changes.summary(), "1 route changed");
    assert_eq!(changes.to_string(), "~ route * /: hooks\n~ route * /: compression");
}

#[tokio::test]
async fn a_tunnel_that_came_by_another_way_is_judged_by_what_is_in_force() {
    let mut subject = Subject::new(&config(&[ONE], ", drain_window: 1d"));
    subject.open(None);
    assert_eq!(enforce(&subject.running).await, Judged::default());
    let elsewhere = "listeners: [{ address: 127.0.0.1:0 }]\nroutes: [{ path: /other, upstream: a }]\n\
                     upstreams: { a: { backends: [127.0.0.1:9001], drain_window: 1d } }";
    let reloaded = subject.reload(config::parse(elsewhere, &config::NoHooks).unwrap().config).await;
    assert_eq!(reloaded.closing, 1);
    assert_eq!(enforce(&subject.running).await, Judged { changed: 1, ..Judged::default() });
}

#[tokio::test]
async fn a_configuration_without_a_file_cannot_be_read_again() {
    let subject = Subject::new(&config(&[ONE], ""));
    assert_eq!(from_file(&subject.running, &Sources::new(None, &Metrics::new())).await, Err(ReloadError::NoFile));
    let counted = String::from_utf8(subject.running.metrics.render(std::iter::empty())).unwrap();
    assert!(counted.contains(r#"longhaul_reloads_total{outcome="failed"} 1"#), "{counted}");
}

#[tokio::test]
async fn policies_of_upstreams_that_left_are_kept_only_while_they_are_in_use() {
    let with = |name: &str| {
        let text = format!(
            "listeners: [{{ address: 127.0.0.1:0 }}]\nroutes: [{{ upstream: {name} }}]\n\
             upstreams: {{ {name}: {{ backends: [{ONE}] }} }}"
        );
        config::parse(&text, &config::NoHooks).unwrap().config
    };
    let subject = Subject::new(&config(&[ONE], ""));
    for number in 0..50 {
        subject.reload(with(&format!("u{number}"))).await;
    }
    // The checkers of a backend that left may hold on to it for a moment.
    let until = Instant::now() + Duration::from_secs(60);
    for number in 50.. {
        subject.reload(with(&format!("u{number}"))).await;
        let kept = subject.running.turn().await.former_policies.len();
        if kept <= 2 {
            break;
        }
        assert!(Instant::now() < until, "{kept} are still kept");
    }
}

#[test]
fn every_key_of_the_top_level_that_a_reload_applies_is_a_difference() {
    let with = |more: &str| config::parse(&format!("{PLAIN}{more}\n"), &config::NoHooks).unwrap().config;
    for (key, value) in [
        ("trusted_proxies", "[10.0.0.0/8]"),
        ("underscores_in_headers", "keep"),
        ("forwarding", "{ strangers: drop }"),
        ("watch", "true"),
        ("drain", "{ window: 1s }"),
        ("hook_memory", "32MiB"),
        ("limits", "{ head: { time: 5s } }"),
    ] {
        let changes = Changes::between(&with(""), &with(&format!("{key}: {value}")));
        assert_eq!((changes.settings.as_slice(), changes.is_empty()), (&[key][..], false), "{key}");
    }
    assert!(Changes::between(&with(""), &with("")).is_empty());
}

const PLAIN: &str = "listeners: [{ address: 127.0.0.1:0 }]\nroutes: [{ upstream: a }]\n\
                     upstreams: { a: { backends: [127.0.0.1:9001] } }\n";
