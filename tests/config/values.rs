//! Values as they are read: those of every shape, and those that keys have when nobody gives them one.

use std::num::NonZeroU64;

use pingora_core::server::configuration::ServerConf;

use super::*;

#[test]
fn the_minimal_configuration_has_the_defaults() {
    let Loaded { config, warnings } = parse(&conf("minimal.yaml")).unwrap();
    assert!(warnings.is_empty());
    assert_eq!(config.listeners, [Listener::plain("127.0.0.1:8080".parse().unwrap())]);
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
        handshake: Handshake::Strict,
        body_size: None,
        limits: Default::default(),
        reattach: None,
    };
    assert_eq!(config.routes, [route]);
    let backends = ["127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"];
    let upstream = Upstream {
        name: "chat".into(),
        affinity: vec![AffinitySource::ClientIp { ipv4_prefix: 32, ipv6_prefix: 64 }],
        backends: backends.map(|address| Backend { name: None, address: address.parse().unwrap(), weight: 1 }).into(),
        discover: None,
        balance_factor: None,
        health: Some(Health::default()),
        fail_open: false,
        tries: 2,
        drain_window: Duration::from_secs(30),
        on_change: OnChange::Close,
        rehome: None,
        timeouts: Timeouts::default(),
        tunnel: TunnelLimits::default(),
        rates: TunnelRates::default(),
        tls: None,
        limits: BackendLimits::default(),
        admission: None,
        absent: None,
        proxy_protocol: None,
    };
    assert_eq!(config.upstreams, [upstream]);
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(
        config.pingora,
        ServerConf {
            threads: cores,
            work_stealing: false,
            fast_timeout_to_tokio_threshold_seconds: Some(0),
            pid_file: String::new(),
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
    assert_eq!((shown.tries, shown.timeouts, shown.tunnel), (default.tries, default.timeouts, default.tunnel));
    assert_eq!((shown.balance_factor, shown.fail_open), (default.balance_factor, default.fail_open));
    assert_eq!((shown.drain_window, &annotated.access_log), (default.drain_window, &minimal.access_log));
    assert_eq!((shown.on_change, shown.rehome), (default.on_change, default.rehome));
    assert_eq!((annotated.watch, annotated.drain), (minimal.watch, minimal.drain));
    assert_eq!((annotated.forwarding, annotated.limits), (minimal.forwarding, minimal.limits));
    let forwarding = fs::read_to_string(golden_folder().join("forwarding.yaml")).unwrap();
    let changed = parse(&forwarding).unwrap().config;
    assert_eq!(changed.forwarding, Forwarding { forwarded: Forwarded::Write, strangers: Strangers::Drop });
    assert_eq!(changed.routes[0].handshake, Handshake::Lenient);
    assert_eq!(shown.affinity.last(), default.affinity.last());
    let (route, plain) = (&annotated.routes[0], &minimal.routes[0]);
    assert_eq!((route.compression, route.hooks[1].timeout), (plain.compression, route.hooks[0].timeout));
    assert_eq!(route.handshake, plain.handshake);
    let plain = parse(&conf("minimal.yaml").replace("client_ip", "issue_cookie")).unwrap().config;
    let [AffinitySource::IssueCookie(shown)] = annotated.upstreams[1].affinity.as_slice() else { panic!("a cookie") };
    let shown = AffinitySource::IssueCookie(IssueCookie { domain: None, ..shown.clone() });
    assert_eq!([shown].as_slice(), plain.upstreams[0].affinity);
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
        // The default in the runtime folder of root.
        pid_file: "/run/longhaul/longhaul.pid".to_owned(),
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
    let cookie = IssueCookie {
        name: "stay".into(),
        max_age: Some(month),
        same_site: SameSite::Strict,
        path: "/app".into(),
        domain: Some("example.com".into()),
        secure: Secure::Always,
        partitioned: true,
    };
    assert_eq!(chat.affinity, [AffinitySource::Query("room".into()), AffinitySource::IssueCookie(cookie)]);
    assert_eq!(chat.backends.iter().map(|backend| backend.weight).collect::<Vec<_>>(), [1, 1, 7, 0]);
    let request = CheckRequest { path: "/up?full=1".into(), host: None, headers: Vec::new() };
    let check = Check::Http { request, expect: vec![(200, 200), (300, 399)] };
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
    assert_eq!(differing[..2], ["metrics", "admin"], "{differing:?}");
    assert!(differing.contains(&"grace_period_seconds".to_owned()), "{differing:?}");
    let kept = other.clone().with_fixed_keys_of(&one);
    assert!(one.fixed_keys_that_differ(&kept).is_empty());
    assert_eq!(kept.routes, other.routes);
}

#[test]
fn reattach_is_read_with_its_bounds_and_defaults() {
    let golden = fs::read_to_string(golden_folder().join("reattach.yaml")).unwrap();
    let routes = parse(&golden).unwrap().config.routes;
    let all = Occasions { leaving: true, going_away: true, crash: true };
    let leaving = Occasions { leaving: true, going_away: false, crash: false };
    let of = |milliseconds, buffer, on, code| {
        Some(Reattach { within: Duration::from_millis(milliseconds), buffer, on, code })
    };
    let read: Vec<_> = routes.iter().map(|route| route.reattach).collect();
    let [default, least, most] =
        [of(30_000, 256 << 10, all, 1012), of(100, 64 << 20, leaving, 4999), of(3_600_000, 1 << 10, all, 1001)];
    assert_eq!(read, [default, None, least, most]);
}
