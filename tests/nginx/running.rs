//! Longhaul's answer to a question, by a running gateway before the backends that nginx has.

use std::fmt::Write as _;
use std::net::SocketAddr;

use longhaul::config::{AffinitySource, Backend};
use tokio::runtime::Runtime;

use super::compare::{Asker, Question};
use crate::support::Gateway;

pub(crate) struct Running {
    _gateway: Gateway,
    asker: Asker,
}

impl Running {
    /// A gateway with these backends in its file.
    pub(crate) fn with(backends: &[Backend], source: &AffinitySource) -> Self {
        let source = match source {
            AffinitySource::Cookie(name) => format!("cookie: {name}"),
            AffinitySource::Header(name) => format!("header: {name}"),
            AffinitySource::Query(name) => format!("query: {name}"),
            AffinitySource::ClientIp { ipv4_prefix, .. } => format!("client_ip: {{ ipv4_prefix: {ipv4_prefix} }}"),
            AffinitySource::BackendCookie(_) | AffinitySource::IssueCookie(_) | AffinitySource::ClientCertificate => {
                unreachable!("nginx has nothing like it")
            }
        };
        let mut yaml = format!(
            "version: 1\nlisteners:\n  - address: 127.0.0.1:0\naccess_log: off\nroutes:\n  - upstream: lab\n\
             upstreams:\n  lab:\n    affinity: [{source}]\n    backends:\n"
        );
        for Backend { name, address, weight } in backends {
            let name = name.as_ref().map(|name| format!("name: \"{name}\", ")).unwrap_or_default();
            let _ = writeln!(yaml, "      - {{ {name}address: \"{address}\", weight: {weight} }}");
        }
        let gateway = Runtime::new().unwrap().block_on(Gateway::start(&yaml));
        let asker = Asker::new(gateway.address(), "/");
        Self { _gateway: gateway, asker }
    }

    pub(crate) fn ask(&self, question: &Question) -> SocketAddr {
        self.asker.ask(question)
    }
}
