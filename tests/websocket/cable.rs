//! A pulled cable: no FIN and no RST comes, and the kernel's own limit ends the tunnel.
//!
//! Needs root and iproute2 (`tests/install.sh test` installs it): a network namespace stands for the other machine.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use crate::support::{Gateway, within};
use crate::wire::{Frame, From, Manual, Wire, all_ended, configuration, has, switching, text, upgrade};

/// Another machine: a network namespace with one cable to this one.
struct Machine {
    name: String,
    /// This machine's end of the cable.
    here: Ipv4Addr,
    /// The other machine's end.
    there: Ipv4Addr,
}

impl Machine {
    /// `number` sets the machines of tests that run at once apart. Addresses are of the range for tests between
    /// networks (RFC 2544), which is nobody's own.
    fn new(number: u8) -> Self {
        let id = std::process::id();
        let net = id.to_le_bytes()[0];
        let machine = Self {
            name: format!("longhaul-{id}-{number}"),
            here: Ipv4Addr::new(198, 18, net, 4 * number + 1),
            there: Ipv4Addr::new(198, 18, net, 4 * number + 2),
        };
        let Self { name, here, there } = &machine;
        let plug = format!("lh{id}n{number}");
        ip(&format!("netns add {name}"));
        ip(&format!("link add {plug} type veth peer name cable netns {name}"));
        ip(&format!("address add {here}/30 dev {plug}"));
        ip(&format!("link set {plug} up"));
        ip(&format!("-n {name} address add {there}/30 dev cable"));
        ip(&format!("-n {name} link set cable up"));
        machine
    }

    /// Runs something on that machine; the sockets it makes stay there.
    fn run<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        let space = std::fs::File::open(format!("/run/netns/{}", self.name)).unwrap();
        let on_it = || {
            nix::sched::setns(space, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            run()
        };
        std::thread::scope(|scope| scope.spawn(on_it).join().unwrap())
    }

    fn pull_the_cable(&self) {
        ip(&format!("-n {} link set cable down", self.name));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The cable goes with it.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output =
        output.unwrap_or_else(|error| panic!("ip cannot be run ({error}): `tests/install.sh test` installs it"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`ip {arguments}` failed, this test must run as root: {said}");
}

const SOON: &str = "    tunnel: { tcp_user_timeout: 5s }\n";

fn wire(stream: TcpStream) -> Wire {
    stream.set_nonblocking(true).unwrap();
    Wire::of(tokio::net::TcpStream::from_std(stream).unwrap())
}

/// A tunnel from the other machine through the gateway on this one.
async fn from(machine: &Machine) -> (Gateway, Manual, Wire, Wire) {
    let mut backend = Manual::start().await;
    let yaml = configuration(&[backend.address()], SOON).replacen("127.0.0.1:0", &format!("{}:0", machine.here), 1);
    let gateway = Gateway::start(&yaml).await;
    let mut client = wire(machine.run(|| TcpStream::connect(gateway.address()).unwrap()));
    client.send(upgrade("")).await;
    let mut server = backend.next().await;
    server.head().await;
    server.send(switching("")).await;
    client.head().await;
    (gateway, backend, client, server)
}

#[tokio::test]
async fn a_silent_client_whose_cable_is_pulled_is_noticed() {
    let machine = Machine::new(0);
    let (gateway, backend, _client, mut server) = from(&machine).await;
    machine.pull_the_cable();
    assert_eq!(server.rest().await, b"");
    drop(server);
    has(&all_ended(&gateway, backend.address(), 1).await, &["by=client", "reason=client_gone", "close_code=1006"]);
}

#[tokio::test]
async fn a_client_whose_cable_is_pulled_under_a_message_is_noticed() {
    let machine = Machine::new(1);
    let (gateway, backend, _client, mut server) = from(&machine).await;
    machine.pull_the_cable();
    server.send(text(From::Backend, "into the dark")).await;
    assert_eq!(server.rest().await, b"");
    drop(server);
    has(&all_ended(&gateway, backend.address(), 1).await, &["by=client", "reason=client_gone", "close_code=1006"]);
}

#[tokio::test]
async fn a_backend_whose_cable_is_pulled_is_noticed_and_its_client_told() {
    let machine = Machine::new(2);
    let listener = machine.run(|| TcpListener::bind((machine.there, 0)).unwrap());
    let address: SocketAddr = listener.local_addr().unwrap();
    let gateway = Gateway::start(&configuration(&[address], SOON)).await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send(upgrade("")).await;
    let accepting = tokio::task::spawn_blocking(move || listener.accept().unwrap().0);
    let mut server = wire(within("the backend's connection", accepting).await.unwrap());
    server.head().await;
    server.send(switching("")).await;
    client.head().await;
    machine.pull_the_cable();
    assert_eq!(client.frame().await, Frame::close_to_client(1014, "backend_gone"));
    assert_eq!(client.rest().await, b"");
    drop(client);
    has(&all_ended(&gateway, address, 1).await, &["by=backend", "reason=backend_gone", "close_code=1006"]);
}
