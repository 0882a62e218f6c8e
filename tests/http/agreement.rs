//! The same file gives the same backend: in another gateway, in a restarted one, and in `longhaul where`.

use std::net::{Ipv4Addr, SocketAddr};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::support::{Gateway, Named, Wire, ask_where};

/// Every source on one route or another, weights, a route's own affinity.
fn configuration(backends: &[Named]) -> String {
    let backend = |n: usize| backends[n].address();
    format!(
        "version: 1
listeners:
  - address: 127.0.0.1:0
access_log: {{ format: json }}
trusted_proxies: [127.8.0.0/16]
routes:
  - {{ host: a.test, upstream: one }}
  - {{ host: a.test, path: /ws, upstream: one, affinity: [query: room, client_ip: {{ ipv4_prefix: 24 }}] }}
  - {{ host: \"*.b.test\", upstream: two }}
  - {{ path: /api, upstream: two, affinity: [issue_cookie: {{ name: lh }}] }}
upstreams:
  one:
    affinity: [cookie: sid, header: x-room, query: room, client_ip: {{}}]
    backends:
      - {{ address: {}, weight: 3 }}
      - {}
      - {}
      - {{ address: {}, weight: 0 }}
  two:
    affinity: [header: x-room, cookie: sid]
    backends: [{}, {}, {}]
",
        backend(0),
        backend(1),
        backend(2),
        backend(3),
        backend(1),
        backend(2),
        backend(3),
    )
}

/// The parts of a request that affinity and routes look at.
struct Question {
    source: Ipv4Addr,
    host: &'static str,
    target: String,
    headers: Vec<(&'static str, String)>,
}

impl Question {
    fn random(random: &mut StdRng) -> Self {
        let word = |random: &mut StdRng| {
            let length = random.random_range(0..9);
            (0..length).map(|_| *b"abcXYZ019.-_:/=%\"'(~".choose(random).unwrap() as char).collect::<String>()
        };
        let mut headers = Vec::new();
        if random.random_bool(0.4) {
            let cookies = [format!("sid={}", word(random)), format!("a=b; sid={}", word(random)), "other=1".to_owned()];
            headers.push(("Cookie", cookies.choose(random).unwrap().clone()));
        }
        if random.random_bool(0.2) {
            headers.push(("Cookie", format!("lh={}", word(random))));
        }
        if random.random_bool(0.4) {
            headers.push(("X-Room", word(random)));
        }
        if random.random_bool(0.3) {
            let third = random.random::<u8>();
            headers.push(("X-Forwarded-For", format!("6.6.6.6, 203.0.{third}.9, 127.8.1.1")));
        }
        let mut target = ["/", "/ws", "/ws/a%20b", "/wsx", "/api/v1"].choose(random).unwrap().to_string();
        if random.random_bool(0.5) {
            target += &format!("?x=1&room={}", word(random).replace('"', ""));
        }
        Self {
            source: Ipv4Addr::new(127, *[0, 8].choose(random).unwrap(), random.random(), random.random_range(1..255)),
            host: ["a.test", "A.test:8443", "x.b.test", "b.test"].choose(random).unwrap(),
            target,
            headers,
        }
    }

    /// Asks a running gateway: the backend that answered (none for 404), and the line it logged.
    async fn ask(&self, gateway: &Gateway, number: usize) -> (Option<SocketAddr>, Value) {
        let mut client = Wire::connect_from(self.source, gateway.address()).await;
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let (host, target) = (self.host, &self.target);
        client
            .send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{headers}X-Request-Id: q{number}.\r\n\r\n"))
            .await;
        let answer = client.answer().await;
        let line = gateway.access.find(&[&format!("\"q{number}.\"")]).await;
        ((answer.status() == 200).then(|| answer.address()), serde_json::from_str(&line).unwrap())
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![format!("--ip={}", self.source), format!("--host={}", self.host)];
        arguments.push(format!("--path={}", self.target));
        for (name, value) in &self.headers {
            arguments.push(match *name {
                "Cookie" => format!("--cookie={value}"),
                name => format!("--header={name}={value}"),
            });
        }
        arguments
    }
}

#[tokio::test]
async fn where_says_what_the_running_gateway_does() {
    let backends = Named::several(4).await;
    let gateway = Gateway::start(&configuration(&backends)).await;
    let mut random = StdRng::seed_from_u64(7);
    let (mut decided, mut unrouted) = (0, 0);
    for number in 0..360 {
        let question = Question::random(&mut random);
        let arguments = question.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (backend, line) = question.ask(&gateway, number).await;

        let json = ask_where(&gateway, &arguments, &["--json"]);
        let said: Value = serde_json::from_slice(&json.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {json:?}"));
        assert_eq!(json.status.code(), Some(i32::from(backend.is_none())), "{arguments:?}");
        let same = |key: &str| assert_eq!(said[key], *line.get(key).unwrap_or(&Value::Null), "{key}: {arguments:?}");
        ["client", "route", "upstream"].into_iter().for_each(same);
        if backend.is_some() {
            same("key_source");
        } else {
            unrouted += 1;
        }
        // Without a key, or with a newly issued one, the pick is random.
        if said["key"].is_string() {
            assert_eq!(said["backend"], backend.unwrap().to_string(), "{arguments:?}");
            decided += 1;
        }

        let text = String::from_utf8(ask_where(&gateway, &arguments, &[]).stdout).unwrap();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        assert_eq!(field("client "), said["client"].as_str(), "{text}");
        assert_eq!(field("upstream "), said["upstream"].as_str(), "{text}");
        assert_eq!(field("backend "), said["backend"].as_str(), "{text}");
        if let (Some(source), true) = (said["key_source"].as_str(), said["key"].is_string()) {
            assert!(field("key ").unwrap().ends_with(&format!(" from {source}")), "{text}");
        }
    }
    println!("360 requests: {decided} with a key, {unrouted} without a route");
    assert!(decided >= 200 && unrouted >= 5, "{decided} {unrouted}");
}

#[tokio::test]
async fn two_gateways_and_a_restarted_one_agree_on_every_key() {
    let backends = Named::several(4).await;
    let config = configuration(&backends);
    let first = Gateway::start(&config).await;
    let second = Gateway::start(&config).await;
    let mut random = StdRng::seed_from_u64(11);
    let mut asked = Vec::new();
    let mut disagreements = 0;
    for number in 0.. {
        if asked.len() == 500 {
            break;
        }
        let question = Question::random(&mut random);
        let (by_first, line) = question.ask(&first, number).await;
        let source = line["key_source"].as_str().unwrap();
        let minted =
            source == "issue_cookie" && !question.headers.iter().any(|(_, v)| v.len() > 3 && v.starts_with("lh="));
        if by_first.is_none() || source == "none" || minted {
            continue;
        }
        let (by_second, _) = question.ask(&second, number).await;
        disagreements += usize::from(by_first != by_second);
        asked.push((question, by_first));
    }
    assert_eq!(disagreements, 0);

    drop((first, second));
    let restarted = Gateway::start(&config).await;
    for (number, (question, before)) in asked.iter().enumerate() {
        assert_eq!(question.ask(&restarted, number).await.0, *before, "{:?}", question.arguments());
    }
}
