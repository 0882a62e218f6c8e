//! Members by DNS: addresses of a name, SRV records, host names in `backends`, and servers that fail in every way.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use hickory_proto::op::ResponseCode;

use crate::lab::{
    Load, Tunnel, backend, backends_on_one_port, config, get, in_folder, leads_to, longhaul, mounted, of_source,
};
use crate::name_server::{Mode, NameServer};
use crate::support::{Backend, Gateway, folder, within};

/// `discover` by the addresses of `chat.internal`.
fn by_addresses(server: &NameServer, port: u16, more: &str) -> String {
    let servers = server.address;
    format!("{{ dns: {{ name: chat.internal, port: {port}, servers: [\"{servers}\"]{more} }}, settle: 0s, wait: 10s }}")
}

fn ips(backends: &[&Backend]) -> Vec<IpAddr> {
    backends.iter().map(|backend| backend.address.ip()).collect()
}

#[tokio::test]
async fn addresses_of_a_name_come_and_go_while_clients_go_on() {
    let [one, two, three] = backends_on_one_port().await;
    let server = NameServer::start().await;
    server.addresses("chat.internal", &ips(&[&one, &two]));
    let gateway =
        Gateway::start(&config(&by_addresses(&server, one.address.port(), ""), "    drain_window: 0s\n")).await;
    leads_to(&gateway, &[one.address, two.address]).await;
    let load = Load::on(gateway.address());
    let mut tunnels = Vec::new();
    for key in 0..12 {
        tunnels.push(Tunnel::open(gateway.address(), &key.to_string()).await);
    }
    server.addresses("chat.internal", &ips(&[&one, &two, &three]));
    leads_to(&gateway, &[one.address, two.address, three.address]).await;
    server.addresses("chat.internal", &ips(&[&two, &three]));
    leads_to(&gateway, &[two.address, three.address]).await;
    load.goes_on(50).await;
    assert_eq!(load.failures().await, [""; 0]);
    for tunnel in &mut tunnels {
        if tunnel.backend == one.address {
            assert_eq!(tunnel.closed().await, 1012);
        } else {
            tunnel.echo("still here").await;
        }
    }
    assert_eq!(gateway.metric(&of_source("members", "dns")).await, 2.0);
    assert_eq!(gateway.metric(&of_source("errors_total", "dns")).await, 0.0);
}

#[tokio::test]
async fn a_server_that_fails_is_silent_or_away_costs_no_request_and_no_tunnel() {
    let [one, two] = backends_on_one_port().await;
    let server = NameServer::start().await;
    server.addresses("chat.internal", &ips(&[&one]));
    let gateway = Gateway::start(&config(&by_addresses(&server, one.address.port(), ""), "")).await;
    leads_to(&gateway, &[one.address]).await;
    let load = Load::on(gateway.address());
    let mut tunnel = Tunnel::open(gateway.address(), "k").await;
    for (mode, part) in [
        (Mode::Code(ResponseCode::ServFail), "cannot be resolved"),
        (Mode::Code(ResponseCode::NXDomain), "there is no name chat.internal (NXDOMAIN)"),
        (Mode::Silent, "chat.internal cannot be resolved"),
    ] {
        let told = gateway.log.count(&["the members of a stay as they are", part]);
        server.mode(mode);
        gateway.log.find_nth(&["the members of a stay as they are", part], told).await;
        load.goes_on(20).await;
        let answers = gateway.log.count(&["answers again"]);
        server.mode(Mode::Right);
        gateway.log.find_nth(&["the source of the members of a (dns) answers again"], answers).await;
    }
    let told = gateway.log.count(&["the members of a stay as they are"]);
    let stopped = server.stop().await;
    gateway.log.find_nth(&["the members of a stay as they are"], told).await;
    let (_, status) = longhaul(&gateway, &["status"]).await;
    assert!(status.contains("1 member by dns, answered ") && status.contains("chat.internal"), "{status}");
    load.goes_on(20).await;
    let server = stopped.start().await;
    server.addresses("chat.internal", &ips(&[&one, &two]));
    leads_to(&gateway, &[one.address, two.address]).await;
    tunnel.echo("still here").await;
    assert_eq!(load.failures().await, [""; 0]);
    assert_eq!(gateway.access.count(&["tunnel_end"]), 0);
    assert!(gateway.metric(&of_source("errors_total", "dns")).await >= 4.0);
    assert!(gateway.metric(&of_source("age_seconds", "dns")).await < 60.0);
}

#[tokio::test]
async fn an_answer_that_is_too_long_for_udp_is_asked_for_by_tcp() {
    let [one, two, three] = backends_on_one_port().await;
    let server = NameServer::start().await;
    server.mode(Mode::Truncated);
    server.addresses("chat.internal", &ips(&[&one, &two, &three]));
    let gateway = Gateway::start(&config(&by_addresses(&server, one.address.port(), ""), "")).await;
    leads_to(&gateway, &[one.address, two.address, three.address]).await;
    assert_eq!(gateway.metric(&of_source("errors_total", "dns")).await, 0.0);
}

/// Needs root, for the port of DNS and to have files of the system's own.
#[tokio::test]
async fn without_servers_the_systems_one_is_asked_and_its_hosts_and_search_list_hold() {
    let [one, two, three] = backends_on_one_port().await;
    // At an address that nobody else has.
    let [a, b] = rand::random::<[u8; 2]>();
    let server = NameServer::start_at(SocketAddr::from(([127, 128 | (a >> 1), b, 53], 53))).await;
    server.addresses("chat.internal", &ips(&[&one]));
    let port = one.address.port();
    let backends = format!("backends: [chat:{port}, listed.example:{port}]");
    let dir = folder(&config("push", "").replace("discover: push", &backends));
    let files = [
        ("resolv.conf", format!("nameserver {}\nsearch internal\n", server.address.ip())),
        ("hosts", format!("{} listed.example\n", two.address.ip())),
    ];
    let mut commands = Vec::new();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
        commands.push(format!("mount --bind {} /etc/{name}", dir.path().join(name).display()));
    }
    let gateway = mounted(dir, &commands.join(" && "), &[]).await;
    leads_to(&gateway, &[one.address, two.address]).await;
    server.addresses("chat.internal", &ips(&[&three]));
    leads_to(&gateway, &[three.address, two.address]).await;
}

#[tokio::test]
async fn a_name_without_addresses_takes_nobody_away_before_its_time() {
    let one = backend().await;
    let server = NameServer::start().await;
    server.addresses("chat.internal", &ips(&[&one]));
    let gateway = Gateway::start(&config(&by_addresses(&server, one.address.port(), ""), "")).await;
    leads_to(&gateway, &[one.address]).await;
    server.addresses("chat.internal", &[]);
    gateway.log.find(&["the source of the members of a names none: they are kept for 5m"]).await;
    assert_eq!(get(gateway.address(), "/").await.0, 200);
}

#[tokio::test]
async fn records_of_services_name_targets_ports_and_weights() {
    let (one, two, three, last) = (backend().await, backend().await, backend().await, backend().await);
    let server = NameServer::start().await;
    let port = |backend: &Backend| backend.address.port();
    for target in ["a.internal", "b.internal", "c.internal"] {
        server.addresses(target, &[IpAddr::from([127, 0, 0, 1])]);
    }
    let service = "_ws._tcp.chat.internal";
    server.services(
        service,
        &[
            (1, 3, port(&one), "a.internal"),
            (1, 1, port(&two), "b.internal"),
            (2, 1, port(&last), "c.internal"),
            (1, 1, 9, "gone.internal"),
        ],
    );
    let discover = format!("{{ srv: {{ name: {service}, servers: [\"{}\"] }}, settle: 0s }}", server.address);
    let gateway = Gateway::start(&config(&discover, "")).await;
    leads_to(&gateway, &[one.address, two.address]).await;
    let (_, status) = longhaul(&gateway, &["status"]).await;
    let line = |name: String| status.lines().find(|line| line.contains(&name)).unwrap_or_else(|| panic!("{status}"));
    assert!(line(format!("a.internal:{}", port(&one))).contains("weight 3"), "{status}");
    assert!(line(format!("b.internal:{}", port(&two))).contains("weight 1"), "{status}");
    assert!(status.contains("2 members by srv"), "{status}");

    // Weights that are all the same say nothing; and the target is the identity, whatever its address.
    let named = format!("a.internal:{}", port(&three));
    server.services(service, &[(1, 50, port(&three), "a.internal")]);
    leads_to(&gateway, &[three.address]).await;
    server.addresses("a.internal", &[IpAddr::from([127, 0, 0, 9])]);
    let moved = format!("~ backend {named}: address from {} to 127.0.0.9:{}", three.address, port(&three));
    gateway.log.find(&["members changed; a: ", &moved]).await;
    let (_, status) = longhaul(&gateway, &["status"]).await;
    assert!(status.contains(&named) && status.contains("weight 1"), "{status}");
}

#[tokio::test]
async fn a_host_name_in_backends_is_a_backend_whose_address_may_be_another() {
    let [one, two, three] = backends_on_one_port().await;
    let listed = backend().await;
    let server = NameServer::start().await;
    let port = one.address.port();
    server.addresses("chat.internal", &ips(&[&one]));
    let whole = config("push", "").replace(
        "discover: push",
        &format!(
            "backends: [{}, chat.internal:{port}]\n    resolve: {{ servers: [\"{}\"] }}",
            listed.address, server.address
        ),
    );
    let gateway = Gateway::start(&whole).await;
    leads_to(&gateway, &[listed.address, one.address]).await;
    let mut at_home = Vec::new();
    for key in 0..30 {
        let path = format!("/?k={key}");
        let backend: SocketAddr = get(gateway.address(), &path).await.1.parse().unwrap();
        at_home.push((path, backend));
    }
    let stays = async |instead: &[SocketAddr]| {
        for (path, backend) in &at_home {
            let now = get(gateway.address(), path).await.1.parse().unwrap();
            let right = if *backend == listed.address { now == *backend } else { instead.contains(&now) };
            assert!(right, "{path} was at {backend} and is at {now}");
        }
    };
    server.addresses("chat.internal", &ips(&[&two]));
    leads_to(&gateway, &[listed.address, two.address]).await;
    stays(&[two.address]).await;
    // Several addresses share what belongs to the name.
    server.addresses("chat.internal", &ips(&[&two, &three]));
    leads_to(&gateway, &[listed.address, two.address, three.address]).await;
    stays(&[two.address, three.address]).await;

    // The file goes on without the name when it cannot be resolved.
    server.mode(Mode::Silent);
    gateway.log.find(&["some members of a stay as they are", "chat.internal cannot be resolved"]).await;
    stays(&[two.address, three.address]).await;
    assert_eq!(longhaul(&gateway, &["reload"]).await.0, Some(0));
    stays(&[two.address, three.address]).await;
}

#[tokio::test]
async fn addresses_of_the_family_that_is_asked_for_are_taken() {
    let four = backend().await;
    let port = four.address.port();
    let server = NameServer::start().await;
    server.addresses("chat.internal", &[four.address.ip(), "::1".parse().unwrap()]);
    for (ipv6, v4, v6) in [("fallback", true, false), ("off", true, false), ("only", false, true), ("both", true, true)]
    {
        let gateway = Gateway::start(&config(&by_addresses(&server, port, &format!(", ipv6: {ipv6}")), "")).await;
        let (_, status) = longhaul(&gateway, &["status"]).await;
        let has = |address: &str| status.contains(&format!("  {address}:{port} "));
        assert_eq!((has("127.0.0.1"), has("[::1]")), (v4, v6), "{ipv6}: {status}");
    }
    server.addresses("chat.internal", &["::1".parse().unwrap()]);
    let gateway = Gateway::start(&config(&by_addresses(&server, port, ""), "")).await;
    assert!(longhaul(&gateway, &["status"]).await.1.contains(&format!("[::1]:{port} ")));
}

#[tokio::test]
async fn an_answer_is_believed_for_its_time_and_a_start_without_one_has_the_members_of_before() {
    let one = backend().await;
    let server = NameServer::start().await;
    server.addresses("chat.internal", &ips(&[&one]));
    let discover = by_addresses(&server, one.address.port(), "").replace("wait: 10s", "wait: 100ms");
    let gateway = Gateway::start(&config(&discover, "")).await;
    leads_to(&gateway, &[one.address]).await;
    let asked = server.asked();
    let wait = async {
        while server.asked() < asked + 2 {
            tokio::task::yield_now().await;
        }
    };
    within("the name to be asked for again", wait).await;
    let dir = gateway.dir.clone();
    assert!(in_folder(&gateway, "state/members-a.json").exists());
    drop(gateway);
    server.mode(Mode::Silent);
    let gateway = Gateway::begin(dir, &[], &[]).listening().await;
    gateway.log.find(&["has not answered within 100ms: it keeps the 1 member that it had before"]).await;
    leads_to(&gateway, &[one.address]).await;
}
