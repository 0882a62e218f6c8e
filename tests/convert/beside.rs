//! The same requests to a program and to the gateway with its converted configuration.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use crate::peer::Pair;
use crate::support::Wire;

/// A request: the parts that routes, filters and affinity look at.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) client: Ipv4Addr,
    pub(crate) host: String,
    pub(crate) target: String,
    /// Header lines, each ended by CRLF.
    pub(crate) headers: String,
}

/// Answer to a question: the status, and the backend where one was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: u16,
    pub(crate) backend: Option<String>,
    /// The cookie that was set, as `NAME=VALUE`.
    pub(crate) cookie: Option<String>,
    pub(crate) location: Option<String>,
}

/// A request from 127.0.0.1 without further headers.
pub(crate) fn ask(host: &str, target: &str) -> Question {
    Question { client: Ipv4Addr::LOCALHOST, host: host.to_owned(), target: target.to_owned(), headers: String::new() }
}

impl Question {
    pub(crate) fn from(mut self, client: [u8; 4]) -> Self {
        self.client = client.into();
        self
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers += &format!("{name}: {value}\r\n");
        self
    }

    /// The same as a WebSocket handshake.
    pub(crate) fn upgrade(self) -> Self {
        self.with("Connection", "Upgrade")
            .with("Upgrade", "websocket")
            .with("Sec-WebSocket-Version", "13")
            .with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
    }

    /// Asks over a connection of its own.
    pub(crate) async fn ask(&self, address: SocketAddr) -> Outcome {
        let mut wire = Wire::connect_from(self.client, address).await;
        let Self { host, target, headers, .. } = self;
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n")).await;
        let head = wire.answer().await.head;
        let cookie = head.get("set-cookie").map(|cookie| cookie.split(';').next().unwrap().to_owned());
        Outcome { status: head.status(), backend: head.get("x-backend"), cookie, location: head.get("location") }
    }
}

impl Pair {
    /// Both outcomes: the program's and the gateway's.
    pub(crate) async fn ask(&self, question: &Question) -> (Outcome, Outcome) {
        (question.ask(self.peer.address).await, question.ask(self.gateway.address()).await)
    }

    /// Both answer with the same status, from the same backend.
    pub(crate) async fn agree(&self, questions: impl IntoIterator<Item = Question>) {
        let mut asked = 0;
        for question in questions {
            let (theirs, ours) = self.ask(&question).await;
            assert_eq!(ours.status, theirs.status, "{question:?}");
            assert_eq!(ours.backend, theirs.backend, "{question:?}");
            asked += 1;
        }
        assert!(asked > 0);
    }

    /// Both answer with the same status, each from one backend per client; the clients spread over all backends.
    pub(crate) async fn are_sticky(&self, clients: impl IntoIterator<Item = Question>) {
        let (mut theirs, mut ours) = (BTreeSet::new(), BTreeSet::new());
        for question in clients {
            let first = self.ask(&question).await;
            for _ in 0..2 {
                let again = self.ask(&question).await;
                assert_eq!((&again.0.backend, &again.1.backend), (&first.0.backend, &first.1.backend), "{question:?}");
                assert_eq!(again.0.status, again.1.status, "{question:?}");
            }
            theirs.insert(first.0.backend);
            ours.insert(first.1.backend);
        }
        let backends: BTreeSet<_> = self.backends.iter().map(|backend| Some(backend.address.to_string())).collect();
        assert_eq!((&theirs, &ours), (&backends, &backends));
    }
}
