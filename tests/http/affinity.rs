//! Sources of a request's key, and the backend that a key leads to.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use crate::support::{Gateway, Named, Wire, one_upstream};

fn addresses(backends: &[Named]) -> Vec<SocketAddr> {
    backends.iter().map(Named::address).collect()
}

/// The key source and the key's hash in the line of the request with this id.
async fn key_of(gateway: &Gateway, id: &str) -> (String, Option<String>) {
    let line = gateway.access.find(&[&format!(" request_id={id} ")]).await;
    let field = |name: &str| line.split(' ').find_map(|field| field.strip_prefix(name)).map(str::to_owned);
    (field("key_source=").unwrap(), field("key="))
}

#[tokio::test]
async fn the_first_source_that_has_a_value_gives_the_key() {
    let backends = Named::several(3).await;
    let chain = "    affinity: [cookie: sid, header: x-room, query: room, client_ip: {}]\n";
    let gateway = Gateway::start(&one_upstream(&addresses(&backends), chain)).await;
    let mut client = Wire::connect(gateway.address()).await;
    for (number, (target, headers, source)) in [
        ("/?room=r", "Cookie: sid=c\r\nX-Room: h\r\n", "cookie"),
        ("/?room=r", "Cookie: other=c\r\nX-Room: h\r\n", "header"),
        ("/?room=r", "", "query"),
        ("/", "", "client_ip"),
        // Empty values are no values.
        ("/?room=r", "Cookie: sid=\r\nX-Room: h\r\n", "header"),
        ("/?room=r", "Cookie: sid=; a=b\r\nX-Room:\r\n", "query"),
        ("/?room=", "X-Room:  \r\n", "client_ip"),
        ("/?room", "Cookie: \r\n", "client_ip"),
        ("/?room=&room=second", "", "query"),
    ]
    .into_iter()
    .enumerate()
    {
        client.get(target, &format!("{headers}X-Request-Id: n{number}\r\n")).await;
        assert_eq!(key_of(&gateway, &format!("n{number}")).await.0, source, "{target} {headers:?}");
    }
}

#[tokio::test]
async fn the_same_value_leads_to_the_same_backend_from_everywhere() {
    for (source, target, header) in [
        ("cookie: sid", "/", "Cookie: a=b; sid={}\r\n"),
        ("header: x-room", "/", "X-Room: {}\r\n"),
        ("query: room", "/?a=b&room={}", ""),
    ] {
        let backends = Named::several(3).await;
        let more = format!("    affinity: [{source}]\n");
        let gateway = Gateway::start(&one_upstream(&addresses(&backends), &more)).await;
        let mut homes = BTreeMap::new();
        for round in 0..3 {
            let mut client = Wire::connect_from(Ipv4Addr::new(127, 3, 3, round + 1), gateway.address()).await;
            for value in 0..60 {
                let value = format!("value-{value}");
                let answer = client.get(&target.replace("{}", &value), &header.replace("{}", &value)).await;
                assert_eq!(*homes.entry(value).or_insert(answer.address()), answer.address(), "{source}");
            }
        }
        let used: std::collections::BTreeSet<_> = homes.values().collect();
        assert_eq!(used.len(), 3, "{source}: all backends have their share");
    }
}

#[tokio::test]
async fn clients_of_one_prefix_share_a_backend() {
    let backends = Named::several(4).await;
    let more = "    affinity: [client_ip: { ipv4_prefix: 24 }]\n";
    let gateway = Gateway::start(&one_upstream(&addresses(&backends), more)).await;
    let mut homes = BTreeMap::new();
    for network in 0..12 {
        for host in [1, 77, 254] {
            let mut client = Wire::connect_from(Ipv4Addr::new(127, 4, network, host), gateway.address()).await;
            let home = client.get("/", "").await.address();
            assert_eq!(*homes.entry(network).or_insert(home), home, "127.4.{network}.{host}");
        }
    }
    assert!(homes.values().any(|home| *home != homes[&0]), "networks differ");
}

#[tokio::test]
async fn the_client_behind_a_trusted_proxy_counts_and_not_the_proxy() {
    let backends = Named::several(4).await;
    let config = one_upstream(&addresses(&backends), "    affinity: [client_ip: {}]\n");
    let gateway = Gateway::start(&format!("{config}trusted_proxies: [127.8.0.0/16]\n")).await;
    let mut homes = BTreeMap::new();
    for proxy in [1, 2] {
        let mut client = Wire::connect_from(Ipv4Addr::new(127, 8, 0, proxy), gateway.address()).await;
        for n in 0..12 {
            let home = client.get("/", &format!("X-Forwarded-For: 203.0.113.{n}\r\n")).await.address();
            assert_eq!(*homes.entry(n).or_insert(home), home);
        }
    }
    assert!(homes.values().any(|home| *home != homes[&0]));
}

#[tokio::test]
async fn a_routes_own_affinity_replaces_its_upstreams() {
    let backends = Named::several(3).await;
    let config = one_upstream(&addresses(&backends), "    affinity: [header: x-room]\n").replace(
        "routes:\n",
        "routes:\n  - { path: /ws, upstream: u, affinity: [query: room] }\n  \
         - { path: /free, upstream: u, affinity: [] }\n",
    );
    let gateway = Gateway::start(&config).await;
    let mut client = Wire::connect(gateway.address()).await;
    for (path, source) in [("/ws?room=r", "query"), ("/?room=r", "header"), ("/free?room=r", "none")] {
        client.get(path, &format!("X-Room: h\r\nX-Request-Id: {source}\r\n")).await;
        assert_eq!(key_of(&gateway, source).await.0, source, "{path}");
    }
}

#[tokio::test]
async fn requests_without_a_key_spread_over_all_backends() {
    let backends = Named::several(3).await;
    let gateway = Gateway::start(&one_upstream(&addresses(&backends), "    affinity: [cookie: sid]\n")).await;
    let mut client = Wire::connect(gateway.address()).await;
    for n in 0..60 {
        // An empty value, hashed, would put all of these on one backend.
        client.get("/", if n % 2 == 0 { "" } else { "Cookie: sid=\r\n" }).await;
    }
    for backend in &backends {
        let share = backend.requests().len();
        assert!((15..=25).contains(&share), "{share} of 60");
    }
    assert_eq!(gateway.metric("longhaul_picks_total{source=\"none\",upstream=\"u\"}").await, 60.0);
}

#[tokio::test]
async fn a_backend_of_weight_0_gets_nothing_new() {
    let backends = Named::several(3).await;
    let addresses = addresses(&backends);
    let draining = addresses[1].to_string();
    let config = one_upstream(&addresses, "    affinity: [query: room]\n")
        .replace(&draining, &format!("{{ address: {draining}, weight: 0 }}"));
    let gateway = Gateway::start(&config).await;
    let mut client = Wire::connect(gateway.address()).await;
    for n in 0..100 {
        client.get(&format!("/?room={n}"), "").await;
        client.get("/", "").await;
    }
    let shares: Vec<usize> = backends.iter().map(|backend| backend.requests().len()).collect();
    assert_eq!(shares[1], 0, "{shares:?}");
    assert!(shares[0] > 40 && shares[2] > 40, "{shares:?}");
}
