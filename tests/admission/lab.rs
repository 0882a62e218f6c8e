//! A gateway with a plain and a TLS listener, and ten clients who keep to every limit.

use std::cell::Cell;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::TlsConnector;

use crate::cast::Cast;
use crate::guest::{Guest, connector, tcp};
use crate::support::certificates::Authority;
use crate::support::{Gateway, folder, within};
use crate::wire::Reply;

/// Held by tests that take all of the machine, and by those that a limit of the gateway in time would fail beside them.
pub(crate) static HEAVY: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The listeners: each limit holds for both.
pub(crate) const LISTENERS: [Listener; 2] = [Listener::Plain, Listener::Tls];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    Plain,
    Tls,
}

/// A gateway, and the backend behind it.
pub(crate) struct Lab {
    pub(crate) cast: Cast,
    pub(crate) gateway: Gateway,
    tls: TlsConnector,
    generation: f64,
}

/// A configuration: `limits`, further keys of both listeners, of the routes `/` and `/hooked`, and of the upstream
/// behind `/narrow` (lines indented by four), and further keys at the top. Both upstreams have the same backend.
#[derive(Clone, Copy, Default)]
pub(crate) struct Setup<'s> {
    pub(crate) limits: &'s str,
    pub(crate) listeners: &'s str,
    pub(crate) routes: &'s str,
    pub(crate) narrow: &'s str,
    pub(crate) top: &'s str,
}

impl Setup<'_> {
    fn yaml(&self, cast: &Cast) -> String {
        let Self { limits, listeners, routes, narrow, top } = self;
        let limits = if limits.is_empty() { "{}" } else { *limits };
        let threads = if top.contains("threads:") { "" } else { "threads: 2\n" };
        format!(
            "version: 1\n{threads}upgrade_sock: \"{{dir}}/upgrade.sock\"\ncontrol_sock: \"{{dir}}/control.sock\"\n\
             limits: {limits}\n{top}listeners:\n  - address: 127.0.0.1:0\n{listeners}  - address: 127.0.0.1:0\n    \
             tls: {{ certificates: [ {{ cert: '{{dir}}/a.pem', key: '{{dir}}/a.key' }} ] }}\n{listeners}metrics:\n  \
             address: 127.0.0.1:0\nroutes:\n  - upstream: u\n{routes}  \
             - path: /hooked\n    upstream: u\n{routes}    hooks:\n      \
             - {{ hook: headers, with: {{ request: {{ set: {{ x-hooked: 'yes' }} }} }} }}\n  - path: /inspected\n    \
             upstream: u\n    hooks:\n      - {{ hook: message_filter, with: {{ max_size: 4MiB }} }}\n  \
             - {{ path: /narrow, upstream: narrow }}\nupstreams:\n  u:\n    tunnel: {{ max_message: 4MiB }}\n    \
             health: off\n    backends: [{backend}]\n  narrow:\n    health: off\n    backends: [{backend}]\n{narrow}",
            backend = cast.address()
        )
    }
}

impl Lab {
    pub(crate) async fn start(limits: &str) -> Self {
        Self::set_up(&Setup { limits, ..Setup::default() }).await
    }

    pub(crate) async fn set_up(setup: &Setup<'_>) -> Self {
        let program = std::env::var_os("LONGHAUL").unwrap_or_else(|| env!("CARGO_BIN_EXE_longhaul").into());
        Self::with_program(program.as_ref(), setup).await
    }

    pub(crate) async fn with_program(program: &Path, setup: &Setup<'_>) -> Self {
        let cast = Cast::start().await;
        let dir = folder(&setup.yaml(&cast));
        let authority = Authority::new("Test Authority");
        authority.issue(&["a.test"]).write(dir.path(), "a");
        let gateway = Gateway::begin_with(program, Arc::clone(&dir), &[], &[]).listening().await;
        gateway.log.find(&["successors are awaited at"]).await;
        Self { cast, gateway, tls: connector(&authority.pem), generation: 1.0 }
    }

    /// Puts another configuration in force.
    pub(crate) async fn reload(&mut self, setup: &Setup<'_>) {
        self.write(setup);
        self.gateway.signal("HUP");
        self.generation += 1.0;
        self.gateway.metric_becomes("longhaul_config_generation", self.generation).await;
    }

    /// Writes another configuration, for whoever reads it next.
    pub(crate) fn write(&self, setup: &Setup<'_>) {
        let dir = self.gateway.dir.path();
        let yaml = setup.yaml(&self.cast).replace("{dir}", dir.to_str().unwrap());
        std::fs::write(dir.join("longhaul.yaml"), yaml).unwrap();
    }

    /// A successor takes the gateway's place, with the file as it is now.
    pub(crate) async fn upgrade(&mut self) {
        let successor = self.gateway.successor().await;
        let mut predecessor = std::mem::replace(&mut self.gateway, successor);
        assert_eq!(predecessor.ended().await, Some(0));
        self.generation = 1.0;
    }

    /// Connects from an address.
    pub(crate) async fn connect(&self, source: Ipv4Addr, listener: Listener) -> io::Result<Guest> {
        let stream = tcp(source, self.gateway.addresses[listener as usize]).await;
        Guest::over(stream, self.tls(listener)).await
    }

    /// Connects from an address, and says nothing.
    pub(crate) async fn silent(&self, source: Ipv4Addr, listener: Listener) -> tokio::net::TcpStream {
        tcp(source, self.gateway.addresses[listener as usize]).await
    }

    /// Connects from an address, is served, and stays: a connection that is counted for certain.
    pub(crate) async fn stays(&self, source: Ipv4Addr, listener: Listener) -> Guest {
        let mut guest = self.connect(source, listener).await.unwrap();
        assert_eq!(guest.get("").await.expect("an answer").status(), 200);
        guest
    }

    pub(crate) fn tls(&self, listener: Listener) -> Option<&TlsConnector> {
        (listener == Listener::Tls).then_some(&self.tls)
    }

    /// Sends a GET on a connection of its own.
    pub(crate) async fn get(&self, source: Ipv4Addr, listener: Listener) -> Reply {
        self.connect(source, listener).await.unwrap().get("").await.expect("an answer")
    }

    /// Shakes hands for a WebSocket on a connection of its own.
    pub(crate) async fn shake(&self, source: Ipv4Addr, listener: Listener, target: &str) -> Reply {
        self.connect(source, listener).await.unwrap().shake(target, "").await.expect("an answer")
    }

    /// Opens a tunnel on a connection of its own.
    pub(crate) async fn open(&self, source: Ipv4Addr, listener: Listener, target: &str) -> Guest {
        let mut guest = self.connect(source, listener).await.unwrap();
        guest.open(target, "").await;
        guest
    }

    /// Waits until a GET on a connection of its own gets an answer with a status. Those before may not be answered, and
    /// where they are served they stay connected.
    pub(crate) async fn answers(&self, source: Ipv4Addr, listener: Listener, status: u16) -> Reply {
        let mut served = Vec::new();
        let answered = async {
            loop {
                if let Ok(mut guest) = self.connect(source, listener).await
                    && let Some(answer) = guest.get("").await
                {
                    if answer.status() == status {
                        return answer;
                    }
                    if answer.status() == 200 {
                        served.push(guest);
                    }
                }
                moment().await;
            }
        };
        within(&format!("an answer {status}"), answered).await
    }

    /// Waits until a client is served, who was refused before.
    pub(crate) async fn served(&self, source: Ipv4Addr, listener: Listener) {
        self.answers(source, listener, 200).await;
    }

    /// Waits until a client can open a tunnel, who was refused before.
    pub(crate) async fn opened(&self, source: Ipv4Addr, listener: Listener) {
        let opened = async {
            loop {
                if let Ok(mut guest) = self.connect(source, listener).await
                    && guest.shake("/", "").await.is_some_and(|answer| answer.status() == 101)
                {
                    return;
                }
                moment().await;
            }
        };
        within("room for a tunnel", opened).await;
    }

    /// Waits until so many were refused with a reason.
    pub(crate) async fn refused_becomes(&self, reason: &str, count: f64) {
        let reached = async {
            while self.refused(reason).await < count {
                moment().await;
            }
        };
        within(&format!("{count} refusals for {reason}"), reached).await;
        assert_eq!(self.refused(reason).await, count);
    }

    /// Number of refusals with a reason, of both listeners and of the upstream `narrow`.
    pub(crate) async fn refused(&self, reason: &str) -> f64 {
        let upstream = format!("longhaul_upstream_refused_total{{reason=\"{reason}\",upstream=\"narrow\"}}");
        let mut sum = self.gateway.metric(&upstream).await;
        for address in &self.gateway.addresses {
            let name = format!("longhaul_refused_total{{listener=\"{address}\",reason=\"{reason}\"}}");
            sum += self.gateway.metric(&name).await;
        }
        sum
    }

    /// Ten clients with a connection each: plain and by TLS, HTTP and WebSocket.
    pub(crate) async fn company(&self) -> Company {
        self.company_with(|number| number % 4 < 2).await
    }

    /// Ten clients with a connection each, plain and by TLS: a tunnel where `has_tunnel` says so of the number.
    pub(crate) async fn company_with(&self, has_tunnel: fn(usize) -> bool) -> Company {
        let mut members = Vec::new();
        for number in 0..10 {
            let mut guest = self.connect(member(number), LISTENERS[number % 2]).await.unwrap();
            if has_tunnel(number) {
                guest.open("/", "").await;
            }
            members.push((has_tunnel(number), guest));
        }
        let mut company = Company { members };
        company.is_served().await;
        company
    }

    /// Serves the company all the while that others do something, and once more; the log has no failure of theirs.
    pub(crate) async fn beside<T>(&self, company: &mut Company, others: impl Future<Output = T>) -> T {
        let over = Cell::new(false);
        let others = async {
            let done = others.await;
            over.set(true);
            done
        };
        let served = async {
            while !over.get() {
                company.is_served().await;
                moment().await;
            }
            company.is_served().await;
        };
        let (done, ()) = tokio::join!(others, served);
        assert_eq!(self.gateway.access.count(&[" client=127.20.0.", " error="]), 0);
        done
    }
}

/// Ten clients who keep to every limit, each with or without a tunnel.
pub(crate) struct Company {
    members: Vec<(bool, Guest)>,
}

impl Company {
    /// Each is served on the connection that it has.
    pub(crate) async fn is_served(&mut self) {
        self.talks().await;
        assert!(self.asks().await.iter().all(|answer| answer.status() == 200));
    }

    /// Each that has a tunnel is served.
    pub(crate) async fn talks(&mut self) {
        for (_, guest) in self.members.iter_mut().filter(|(has_tunnel, _)| *has_tunnel) {
            guest.echoes().await;
        }
    }

    /// Each that has none asks; their answers.
    pub(crate) async fn asks(&mut self) -> Vec<Reply> {
        let mut answers = Vec::new();
        for (_, guest) in self.members.iter_mut().filter(|(has_tunnel, _)| !has_tunnel) {
            answers.push(guest.get("").await.expect("an answer"));
        }
        answers
    }

    /// Each is served on the connection that it has, and on another one.
    pub(crate) async fn is_served_anew(&mut self, lab: &Lab) {
        self.is_served().await;
        for number in 0..self.members.len() {
            for listener in LISTENERS {
                assert_eq!(lab.get(member(number), listener).await.status(), 200, "of client {number}");
                lab.open(member(number), listener, "/").await.echoes().await;
            }
        }
    }
}

/// A moment between two looks at something that is waited for.
pub(crate) async fn moment() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

fn member(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 20, 0, 1 + number as u8)
}

/// Asserts that an answer refuses with a status and asks to wait, in the gateway's own form.
pub(crate) fn assert_refused(answer: &Reply, status: u16) {
    assert_refused_for(answer, status, 8);
}

/// As [`assert_refused`], for so many seconds at the most.
pub(crate) fn assert_refused_for(answer: &Reply, status: u16, longest: u64) {
    assert_eq!(answer.status(), status, "{answer:?}");
    let after: u64 = answer.field("retry-after").unwrap_or_else(|| panic!("{answer:?}")).parse().unwrap();
    assert!((1..=longest).contains(&after), "{answer:?}");
    let id = answer.field("x-request-id").unwrap_or_else(|| panic!("{answer:?}"));
    assert!(answer.body.contains(id), "{answer:?}");
}

/// Another address with each number, none of them one of the company's.
pub(crate) fn stranger(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 66, (number >> 8) as u8, (number & 0xff) as u8)
}
