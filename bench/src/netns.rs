//! A network namespace for the generator, joined to this one by a pair of virtual Ethernet devices.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A network namespace. Removed on drop, with its devices and routes.
pub struct Namespace {
    name: String,
}

/// Address of gateways and backends, as the generator sees them.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 201, 0, 1);
/// Source address of the generator's first client.
pub const SOURCES: Ipv4Addr = Ipv4Addr::new(10, 202, 0, 1);

impl Namespace {
    /// Makes a namespace with 65,000 source addresses and a route to [`OUTSIDE`].
    ///
    /// # Errors
    /// Without the rights of root, without iproute2, or when another run has these addresses.
    pub fn new() -> Result<Self> {
        let id = std::process::id();
        let namespace = Self { name: format!("longhaul-bench-{id}") };
        let (name, outside, inside) = (namespace.name(), format!("lhb{id}o"), format!("lhb{id}i"));
        let commands = [
            format!("netns add {name}"),
            format!("link add {outside} type veth peer name {inside} netns {name}"),
            format!("addr add {OUTSIDE}/30 dev {outside}"),
            format!("link set {outside} up"),
            format!("-n {name} addr add 10.201.0.2/30 dev {inside}"),
            format!("-n {name} link set {inside} up"),
            format!("-n {name} link set lo up"),
            // Every address of the range is local there, so that each client can have one.
            format!("-n {name} route add local 10.202.0.0/16 dev lo"),
            format!("route add 10.202.0.0/16 via 10.201.0.2 dev {outside}"),
        ];
        for command in &commands {
            ip(command)?;
        }
        Ok(namespace)
    }

    /// Its name, for `ip netns exec`.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its devices and the route go with it. It is missing when it could not be made.
        let _ = ip(&format!("netns del {}", self.name));
    }
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output().context("ip (iproute2) is not installed")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {}", error.trim());
    Ok(())
}
