//! The configuration as its users meet it: golden files of every complaint, and the files that come with Longhaul.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use longhaul::config;
use longhaul::config::*;
use pingora_core::server::configuration::ServerConf;
use proptest::prelude::{any, proptest};
use proptest::sample;
use serde_yaml::Value as Yaml;

#[path = "config/hooks.rs"]
mod hooks;

fn parse(text: &str) -> Result<Loaded, Problems> {
    config::parse(text, &hooks::Program)
}

fn load(path: &Path) -> Result<Loaded, LoadError> {
    config::load(path, &NoHooks)
}

fn golden_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

/// What there is to say about a file named `file`: its problems or warnings, or `ok`.
fn said_of(read: Result<&Loaded, &Problems>, file: &str) -> String {
    let said = match read {
        Err(problems) => problems.in_file(file).to_string(),
        Ok(Loaded { warnings, .. }) if warnings.is_empty() => format!("{file}: ok"),
        Ok(Loaded { warnings, .. }) => {
            let lines: Vec<_> = warnings.iter().map(|warning| warning.in_file(file).to_string()).collect();
            lines.join("\n")
        }
    };
    said + "\n"
}

fn names_with(extension: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(golden_folder()).unwrap().map(|entry| entry.unwrap().path());
    let wanted = entries.filter(|path| path.extension().is_some_and(|found| found == extension));
    wanted.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// `UPDATE_GOLDEN=1 cargo test --test config` writes what is said now beside each file; read the difference before
/// committing it.
#[test]
fn every_golden_file_gets_the_answer_beside_it() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = String::new();
    for name in names_with("yaml") {
        let text = fs::read_to_string(golden_folder().join(format!("{name}.yaml"))).unwrap();
        let said = said_of(parse(&text).as_ref(), &format!("{name}.yaml"));
        let beside = golden_folder().join(format!("{name}.expected"));
        if update {
            fs::write(&beside, &said).unwrap();
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        if said != expected {
            write!(wrong, "--- {name}: expected\n{expected}--- {name}: said\n{said}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn every_golden_answer_has_its_file() {
    let orphans: Vec<_> = names_with("expected").difference(&names_with("yaml")).cloned().collect();
    assert!(orphans.is_empty(), "without a file: {orphans:?}");
}

fn conf(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(name)).unwrap()
}

/// conf/longhaul.yaml with the hooks that stand there as comments: the gateway itself has none.
fn annotated() -> String {
    let mut in_hooks = false;
    let shown = conf("longhaul.yaml").lines().fold(String::new(), |text, line| {
        in_hooks = line == "    # hooks:" || in_hooks && line.starts_with("    #  ");
        text + &if in_hooks { line.replacen("# ", "", 1) } else { line.to_owned() } + "\n"
    });
    assert!(shown.contains("\n    hooks:\n"), "where are the hooks?");
    shown
}

/// One step from a value of a YAML file to one below it.
#[derive(Clone)]
enum Step {
    Key(String),
    Index(usize),
}

/// A key of a file: its path as [`config::keys`] writes it, its path as a problem writes it, and the way to it.
struct Place {
    pattern: String,
    path: String,
    steps: Vec<Step>,
}

/// Every key below `value`, with the paths `pattern` and `path` of `value` itself.
fn places(value: &Yaml, pattern: &str, path: &str, steps: &[Step]) -> Vec<Place> {
    let mut found = Vec::new();
    let below = |step| [steps, &[step]].concat();
    let dotted = |of: &str, key: &str| if of.is_empty() { key.to_owned() } else { format!("{of}.{key}") };
    match value {
        Yaml::Mapping(mapping) => {
            for (key, value) in mapping {
                let key = key.as_str().unwrap();
                let shape = dotted(pattern, if pattern == "upstreams" { "*" } else { key });
                // A route's affinity is an upstream's.
                let shape = shape.replace("routes[].affinity[]", "upstreams.*.affinity[]");
                let (path, steps) = (dotted(path, key), below(Step::Key(key.to_owned())));
                found.extend(places(value, &shape, &path, &steps));
                found.push(Place { pattern: shape, path, steps });
            }
        }
        Yaml::Sequence(items) => {
            for (index, item) in items.iter().enumerate() {
                found.extend(places(
                    item,
                    &format!("{pattern}[]"),
                    &format!("{path}[{index}]"),
                    &below(Step::Index(index)),
                ));
            }
        }
        _ => {}
    }
    found
}

#[test]
fn the_annotated_configuration_shows_every_key_and_is_sound() {
    for text in [conf("longhaul.yaml"), annotated()] {
        assert_eq!(said_of(parse(&text).as_ref(), "longhaul.yaml"), "longhaul.yaml: ok\n");
    }
    let text = annotated();
    let file: Yaml = serde_yaml::from_str(&text).unwrap();
    let shown: BTreeSet<_> = places(&file, "", "", &[]).into_iter().map(|place| place.pattern).collect();
    let missing: Vec<_> = config::keys().into_iter().filter(|key| !shown.contains(key)).collect();
    assert!(missing.is_empty(), "not in conf/longhaul.yaml: {missing:?}");
}

#[test]
fn the_reference_names_every_key() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md")).unwrap();
    let missing: Vec<_> = config::keys().into_iter().filter(|key| !text.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "not in docs/configuration.md: {missing:?}");
}

/// A key that is known but that nothing reads would be a setting silently ignored.
#[test]
fn nonsense_under_any_key_is_refused_there() {
    let file: Yaml = serde_yaml::from_str(&annotated()).unwrap();
    let nonsense: Yaml = serde_yaml::from_str("{ nonsense: 1 }").unwrap();
    for place in places(&file, "", "", &[]).into_iter().filter(|place| place.pattern != "upstreams") {
        let mut wrong = file.clone();
        let target = place.steps.iter().fold(&mut wrong, |value, step| match step {
            Step::Key(key) => &mut value[key.as_str()],
            Step::Index(index) => &mut value[*index],
        });
        *target = nonsense.clone();
        let problems = parse(&serde_yaml::to_string(&wrong).unwrap()).expect_err(&place.path);
        assert!(problems.iter().any(|problem| problem.path.starts_with(&place.path)), "{}: {problems}", place.path);
    }
}

#[test]
fn the_minimal_configuration_has_the_defaults() {
    let Loaded { config, warnings } = parse(&conf("minimal.yaml")).unwrap();
    assert!(warnings.is_empty());
    assert_eq!(config.listeners, [Listener { address: "127.0.0.1:8080".parse().unwrap() }]);
    assert_eq!(config.access_log, Some(AccessLog::default()));
    assert_eq!((config.trusted_proxies, config.metrics), (Vec::new(), None));
    assert_eq!((config.watch, config.control_sock, config.drain), (false, None, Drain::default()));
    let route = Route {
        host: HostPattern::Any,
        path: "/".into(),
        upstream: "chat".into(),
        affinity: None,
        hooks: Vec::new(),
        compression: Compression::Inspect,
    };
    assert_eq!(config.routes, [route]);
    let backends = ["127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"];
    let upstream = Upstream {
        name: "chat".into(),
        affinity: vec![AffinitySource::ClientIp { ipv4_prefix: 32, ipv6_prefix: 64 }],
        backends: backends.map(|address| Backend { address: address.parse().unwrap(), weight: 1 }).into(),
        balance_factor: None,
        health: Some(Health::default()),
        fail_open: false,
        drain_window: Duration::from_secs(30),
        on_change: OnChange::Close,
        rehome: None,
        timeouts: Timeouts::default(),
        tunnel: TunnelLimits::default(),
    };
    assert_eq!(config.upstreams, [upstream]);
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(
        config.pingora,
        ServerConf {
            threads: cores,
            work_stealing: false,
            fast_timeout_to_tokio_threshold_seconds: Some(0),
            ..ServerConf::default()
        }
    );
}

/// But for the keys that its comments say have another value there, the annotated file changes nothing.
#[test]
fn the_values_called_defaults_are_the_defaults() {
    let annotated = parse(&annotated()).unwrap().config;
    let minimal = parse(&conf("minimal.yaml")).unwrap().config;
    let (shown, default) = (&annotated.upstreams[0], &minimal.upstreams[0]);
    let checks = |upstream: &Upstream| upstream.health.clone().map(|health| Health { check: Check::Tcp, ..health });
    assert_eq!(checks(shown), checks(default));
    assert_eq!((shown.timeouts, shown.tunnel), (default.timeouts, default.tunnel));
    assert_eq!((shown.balance_factor, shown.fail_open), (default.balance_factor, default.fail_open));
    assert_eq!((shown.drain_window, &annotated.access_log), (default.drain_window, &minimal.access_log));
    assert_eq!((shown.on_change, shown.rehome), (default.on_change, default.rehome));
    assert_eq!((annotated.watch, annotated.drain), (minimal.watch, minimal.drain));
    assert_eq!(shown.affinity.last(), default.affinity.last());
    let (route, plain) = (&annotated.routes[0], &minimal.routes[0]);
    assert_eq!((route.compression, route.hooks[1].timeout), (plain.compression, route.hooks[0].timeout));
    let plain = parse(&conf("minimal.yaml").replace("client_ip", "issue_cookie")).unwrap().config;
    assert_eq!(annotated.upstreams[1].affinity, plain.upstreams[0].affinity);
    let stated = ServerConf {
        version: 1,
        threads: 2,
        work_stealing: false,
        fast_timeout_to_tokio_threshold_seconds: Some(0),
        daemon_ready_timeout_seconds: NonZeroU64::new(600),
        daemon_notify_timeout_seconds: NonZeroU64::new(60),
        upgrade_sock_connect_accept_max_retries: Some(5),
        grace_period_seconds: Some(300),
        graceful_shutdown_timeout_seconds: Some(5),
        max_blocking_threads: Some(512),
        blocking_threads_ttl_seconds: Some(10),
        ..ServerConf::default()
    };
    assert_eq!(annotated.pingora, stated);
}

#[test]
fn every_shape_a_value_may_have_is_read() {
    let text = fs::read_to_string(golden_folder().join("every_shape.yaml")).unwrap();
    let config = parse(&text).unwrap().config;
    let hosts: Vec<_> = config.routes.iter().map(|route| (route.host.clone(), route.path.as_str())).collect();
    let exact = |name: &str| HostPattern::Exact(name.into());
    let wildcard = |name: &str| HostPattern::Wildcard(name.into());
    assert_eq!(hosts, [(exact("chat.example.com"), "/ws"), (wildcard("example.com"), "/a/b"), (exact("[::1]"), "/")]);
    let none = Some(Vec::new());
    let header = Some(vec![AffinitySource::Header("x-room".into())]);
    assert_eq!(config.routes.iter().map(|route| route.affinity.clone()).collect::<Vec<_>>(), [none, header, None]);
    assert_eq!(
        config.access_log,
        Some(AccessLog { to: LogTarget::File("log/access".into()), format: LogFormat::Json })
    );
    assert_eq!(
        config.trusted_proxies,
        ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::1/128"].map(|net| net.parse().unwrap())
    );

    let [chat, rooms] = config.upstreams.as_slice() else { panic!("two upstreams") };
    let month = Duration::from_secs(30 * 86_400);
    let cookie = IssueCookie { name: "stay".into(), max_age: Some(month), same_site: SameSite::Strict };
    assert_eq!(chat.affinity, [AffinitySource::Query("room".into()), AffinitySource::IssueCookie(cookie)]);
    assert_eq!(chat.backends.iter().map(|backend| backend.weight).collect::<Vec<_>>(), [1, 1, 7, 0]);
    let check = Check::Http { path: "/up?full=1".into(), host: None, expect: vec![(200, 200), (300, 399)] };
    let times = (Duration::from_millis(500), Duration::from_millis(500));
    let health = chat.health.as_ref().unwrap();
    assert_eq!((&health.check, (health.interval, health.timeout), health.on_down), (&check, times, OnDown::Close));
    assert_eq!(chat.balance_factor, Some(1.25));
    assert_eq!(chat.timeouts.read, Duration::from_secs(86_400));
    let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
    let mut tunnel = TunnelLimits::default();
    (tunnel.idle, tunnel.max_age, tunnel.ping) = (None, minutes(90), minutes(2));
    (tunnel.max_message, tunnel.tcp_user_timeout) = (Some(65_536), None);
    assert_eq!(chat.tunnel, tunnel);

    assert_eq!(rooms.affinity, [AffinitySource::ClientIp { ipv4_prefix: 24, ipv6_prefix: 64 }]);
    assert_eq!((&rooms.health, rooms.drain_window), (&None, Duration::ZERO));

    let drain = Drain { grace: Duration::from_secs(5), window: Duration::from_secs(60), code: 1013 };
    assert_eq!((config.watch, config.control_sock, config.drain), (true, Some("run/control".into()), drain));
    assert_eq!((chat.on_change, chat.rehome), (OnChange::Close, None));
    assert_eq!((rooms.on_change, rooms.rehome), (OnChange::Keep, Some(Duration::from_secs(300))));
}

#[test]
fn a_copy_says_the_same_and_differs_in_no_fixed_key() {
    let golden = fs::read_to_string(golden_folder().join("pingora_keys.yaml")).unwrap();
    for text in [golden, conf("longhaul.yaml"), conf("minimal.yaml")] {
        let config = parse(&text).unwrap().config;
        let copy = config.clone();
        assert_eq!(format!("{copy:?}"), format!("{config:?}"));
        assert!(config.fixed_keys_that_differ(&copy).is_empty());
    }
    let [one, other] = ["longhaul.yaml", "minimal.yaml"].map(|file| parse(&conf(file)).unwrap().config);
    let differing = one.fixed_keys_that_differ(&other);
    assert_eq!(differing[..2], ["metrics", "control_sock"], "{differing:?}");
    assert!(differing.contains(&"grace_period_seconds".to_owned()), "{differing:?}");
    let kept = other.clone().with_fixed_keys_of(&one);
    assert!(one.fixed_keys_that_differ(&kept).is_empty());
    assert_eq!(kept.routes, other.routes);
}

/// What a route with the hook `origin` is told by a program with these hooks.
fn said_of_origin(program: &dyn KnownHooks) -> String {
    let text = conf("minimal.yaml").replace("upstream: chat", "upstream: chat\n    hooks: [origin]");
    config::parse(&text, program)
        .unwrap_err()
        .iter()
        .map(|problem| format!("{}: {}", problem.path, problem.message))
        .collect()
}

#[test]
fn a_program_without_hooks_refuses_every_hook() {
    assert_eq!(said_of_origin(&NoHooks), "routes[0].hooks[0]: there is no hook `origin`");
}

#[test]
fn a_hook_that_refuses_its_settings_without_a_word_is_named() {
    struct Mute;
    impl KnownHooks for Mute {
        fn names(&self) -> Vec<&str> {
            vec!["origin"]
        }
        fn check(&self, _: &str, _: &Settings) -> Result<(), Vec<Problem>> {
            Err(Vec::new())
        }
    }
    assert_eq!(said_of_origin(&Mute), "routes[0].hooks[0].with: `origin` refuses its settings");
}

#[test]
fn the_hooks_of_a_route_are_read_in_their_order() {
    let text = fs::read_to_string(golden_folder().join("hooks.yaml")).unwrap();
    let route = parse(&text).unwrap().config.routes.remove(0);
    assert_eq!(route.compression, Compression::Strip);
    let names: Vec<_> = route.hooks.iter().map(|hook| hook.name.as_str()).collect();
    assert_eq!(names[..5], ["origin", "jwt", "rate_limit", "rate_limit", "headers"]);
    let settings = |text: &str| Settings::parse(text).unwrap();
    assert_eq!((&route.hooks[0].settings, route.hooks[0].timeout), (&Settings::empty(), HookEntry::DEFAULT_TIMEOUT));
    assert_eq!(
        (&route.hooks[3].settings, route.hooks[1].timeout),
        (&settings("messages: 5/s"), Duration::from_secs(2))
    );
}

#[test]
fn a_thousand_routes_and_ten_thousand_backends_are_read() {
    let mut text = "listeners: [{ address: 127.0.0.1:0 }]\nroutes:\n".to_owned();
    for route in 0..1_000 {
        writeln!(text, "  - {{ host: h{route}.example.com, path: /ws, upstream: u{} }}", route % 100).unwrap();
    }
    text.push_str("upstreams:\n");
    for upstream in 0..100 {
        writeln!(text, "  u{upstream}:\n    affinity: [issue_cookie]\n    backends:").unwrap();
        for backend in 0..100 {
            writeln!(text, "      - {{ address: 10.{upstream}.{backend}.1:9001, weight: 2 }}").unwrap();
        }
    }
    let Loaded { config, warnings } = parse(&text).unwrap();
    assert_eq!((config.routes.len(), config.upstreams.len(), warnings.len()), (1_000, 100, 0));
    assert_eq!(config.upstreams.iter().map(|upstream| upstream.backends.len()).sum::<usize>(), 10_000);
}

#[test]
fn beyond_a_thousand_problems_the_rest_is_counted() {
    let mut text = conf("minimal.yaml");
    (0..1_500).for_each(|n| writeln!(text, "unknown{n}: 1").unwrap());
    let problems = parse(&text).unwrap_err();
    assert_eq!((problems.iter().count(), problems.left_out()), (1_000, 500));
    assert!(problems.in_file("f").to_string().ends_with("\nf: and 500 more problems"));
}

#[test]
fn a_file_is_read_from_its_path_and_its_problems_name_it() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    assert_eq!(load(&write("good.yaml", conf("minimal.yaml").as_bytes())).unwrap().config.routes.len(), 1);

    let path = write("bad.yaml", b"listners: []\n");
    let said = load(&path).unwrap_err().to_string();
    assert!(said.contains(&format!("{}:1:1: listners: unknown key\n", path.display())), "{said}");

    let path = write("latin1.yaml", b"# ok\nuser: J\xfcrgen\n");
    let said = load(&path).unwrap_err().to_string();
    assert_eq!(said, format!("{}:2:8: not UTF-8\n  save the file as UTF-8", path.display()));

    let path = write("long.yaml", &vec![b'#'; config::MAX_BYTES + 1]);
    assert!(load(&path).unwrap_err().to_string().contains("the file is too long"));

    for path in [folder.path().to_owned(), folder.path().join("none.yaml")] {
        let error = load(&path).unwrap_err();
        assert!(matches!(error, LoadError::Unreadable { .. }));
        assert!(error.to_string().starts_with(&format!("{}: cannot be read: ", path.display())), "{error}");
    }
}

/// A text is read or refused with at least one error, in the order of their positions; it never panics.
fn assert_read_or_refused(text: &str) {
    let problems = match parse(text) {
        Ok(loaded) => {
            assert!(loaded.warnings.iter().all(|warning| warning.severity == Severity::Warning));
            loaded.warnings
        }
        Err(problems) => {
            assert!(problems.iter().any(|problem| problem.severity == Severity::Error) || problems.left_out() > 0);
            problems.iter().cloned().collect()
        }
    };
    assert!(problems.is_sorted_by_key(|problem| (problem.line, problem.column)));
    for problem in &problems {
        let said = problem.in_file("f").to_string();
        assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{said:?}");
    }
}

/// The files of the golden folder and those that come with Longhaul.
fn files() -> Vec<String> {
    let golden = names_with("yaml").into_iter().filter(|name| name != "billion_laughs");
    let golden = golden.map(|name| fs::read_to_string(golden_folder().join(name + ".yaml")).unwrap());
    golden.chain(["longhaul.yaml", "minimal.yaml"].map(conf)).collect()
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        assert_read_or_refused(&text);
    }

    #[test]
    fn any_text_of_yaml_characters_is_read_or_refused(text in "[-a-c0-9:,?*&!|>#'\"%@`{}\\[\\]~. \t\r\n\\\\\u{feff}ü]{0,80}") {
        assert_read_or_refused(&text);
    }

    #[test]
    fn a_changed_file_is_read_or_refused(
        file in sample::select(files()),
        at in any::<sample::Index>(),
        cut in 0..30_usize,
        put in "[-a-z0-9:*&.,'\"{}\\[\\]/ \n\u{1b}ü]{0,6}",
    ) {
        let mut characters: Vec<char> = file.chars().collect();
        let start = at.index(characters.len() + 1);
        let end = (start + cut).min(characters.len());
        characters.splice(start..end, put.chars());
        assert_read_or_refused(&characters.into_iter().collect::<String>());
    }

    #[test]
    fn a_changed_value_is_read_or_refused(file in sample::select(files()), at in any::<sample::Index>(), value in "\\PC{0,12}") {
        let colons: Vec<_> = file.match_indices(": ").map(|(index, _)| index + 2).collect();
        let start = if colons.is_empty() { 0 } else { colons[at.index(colons.len())] };
        let end = file[start..].find(['\n', ',', '}']).map_or(file.len(), |length| start + length);
        assert_read_or_refused(&format!("{}{value}{}", &file[..start], &file[end..]));
        assert_read_or_refused(&format!("{}{value:?}{}", &file[..start], &file[end..]));
    }
}
