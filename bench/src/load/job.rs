//! A load as data, for a generator in this process or in another one.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A load of messages or handshakes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Kind of the load.
    pub kind: Kind,
    /// Payload of each message, in bytes.
    pub payload: usize,
    /// Tunnels, or handshakes under way at once.
    pub at_once: usize,
    /// Length of the same load before the measured one.
    pub warm_up: Duration,
    /// Length of the measured load.
    pub window: Duration,
    /// Addresses to connect to, in turn.
    pub targets: Vec<SocketAddr>,
    /// Source address of the first client.
    pub sources: Ipv4Addr,
}

/// Kind of a load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Kind {
    /// Closed loop: a message on every tunnel, the next when its answer has come.
    Echo,
    /// Open loop: the number of messages a second over all tunnels.
    Paced(f64),
    /// Connect, handshake, one echo, Close.
    Handshake,
}

/// The source address of client `number`: 250 to a subnet, none twice in 62,500.
pub fn source_from(first: Ipv4Addr, number: usize) -> Ipv4Addr {
    let [a, b, ..] = first.octets();
    let (subnet, host) = (number / 250 % 250, number % 250);
    Ipv4Addr::new(a, b, subnet as u8, 1 + host as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_survives_the_way_to_another_process() {
        let job = Job {
            kind: Kind::Paced(20_000.0),
            payload: 64,
            at_once: 1,
            warm_up: Duration::from_millis(140),
            window: Duration::from_secs(1),
            targets: vec!["127.0.0.1:80".parse().unwrap()],
            sources: Ipv4Addr::new(10, 202, 0, 1),
        };
        let text = serde_json::to_string(&job).unwrap();
        assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), job);
    }

    #[test]
    fn clients_have_source_addresses_of_their_own() {
        let first = Ipv4Addr::new(10, 202, 0, 1);
        assert_eq!(source_from(first, 0), first);
        assert_eq!(source_from(first, 251), Ipv4Addr::new(10, 202, 1, 2));
    }
}
