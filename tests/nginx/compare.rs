//! The same questions to two balancers, over HTTP or otherwise, and how often they agree.

use std::cell::RefCell;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

/// The parts of a request that affinity looks at.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Question {
    /// The address it is sent from.
    pub(crate) client: Ipv4Addr,
    pub(crate) header: Option<(String, String)>,
    /// Query, without the `?`.
    pub(crate) query: Option<String>,
}

impl Default for Question {
    fn default() -> Self {
        Self { client: Ipv4Addr::LOCALHOST, header: None, query: None }
    }
}

impl Question {
    pub(crate) fn with_header(name: &str, value: &str) -> Self {
        Self { header: Some((name.to_owned(), value.to_owned())), ..Self::default() }
    }
}

/// The outcome of a comparison.
pub(crate) struct Agreement {
    pub(crate) compared: usize,
    pub(crate) left_out: usize,
    /// Number of questions that each backend got, in the order of their addresses.
    pub(crate) shares: Vec<usize>,
    /// Question, nginx's choice, Longhaul's.
    pub(crate) disagreements: Vec<(Question, SocketAddr, SocketAddr)>,
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { compared, left_out, shares, disagreements } = self;
        write!(f, "{compared} compared, {left_out} left out, {} disagreed, shares {shares:?}", disagreements.len())
    }
}

/// Asks nginx at `nginx` for `path` and Longhaul by `ask_longhaul`, which leaves a question out by answering `None`.
///
/// For a running gateway `ask_longhaul` is an [`Asker`] of its own, its backends answering with their address too.
pub(crate) fn compare(
    nginx: SocketAddr,
    path: &str,
    questions: &[Question],
    ask_longhaul: impl Fn(&Question) -> Option<SocketAddr>,
) -> Agreement {
    let nginx = Asker::new(nginx, path);
    let mut agreement = Agreement { compared: 0, left_out: 0, shares: Vec::new(), disagreements: Vec::new() };
    let mut counts = std::collections::BTreeMap::new();
    for question in questions {
        let Some(by_longhaul) = ask_longhaul(question) else {
            agreement.left_out += 1;
            continue;
        };
        let by_nginx = nginx.ask(question);
        agreement.compared += 1;
        *counts.entry(by_nginx).or_default() += 1;
        if by_nginx != by_longhaul {
            agreement.disagreements.push((question.clone(), by_nginx, by_longhaul));
        }
    }
    agreement.shares = counts.into_values().collect();
    agreement
}

/// Asks a balancer over HTTP/1.1 whose backends answer with their own address; keeps the connection while it can.
pub(crate) struct Asker {
    balancer: SocketAddr,
    path: String,
    connection: RefCell<Option<(Ipv4Addr, BufReader<TcpStream>)>>,
}

impl Asker {
    pub(crate) fn new(balancer: SocketAddr, path: &str) -> Self {
        Self { balancer, path: path.to_owned(), connection: RefCell::new(None) }
    }

    pub(crate) fn ask(&self, question: &Question) -> SocketAddr {
        let mut connection = self.connection.borrow_mut();
        if connection.as_ref().is_none_or(|(client, _)| *client != question.client) {
            *connection = Some((question.client, self.connect(question.client)));
        }
        let (_, stream) = connection.as_mut().expect("made above");
        stream.get_mut().write_all(self.request(question).as_bytes()).unwrap();
        let answer = read_answer(stream);
        answer.parse().unwrap_or_else(|_| panic!("{question:?} got {answer:?}"))
    }

    fn connect(&self, client: Ipv4Addr) -> BufReader<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((IpAddr::V4(client), 0)).into()).unwrap();
        socket.connect(&self.balancer.into()).unwrap();
        socket.set_tcp_nodelay(true).unwrap();
        BufReader::new(socket.into())
    }

    fn request(&self, question: &Question) -> String {
        let query = question.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let header = question.header.as_ref().map(|(name, value)| format!("{name}: {value}\r\n")).unwrap_or_default();
        format!("GET {}{query} HTTP/1.1\r\nHost: lab\r\n{header}\r\n", self.path)
    }
}

/// The body of an answer that has a `Content-Length` and status 200, or all of its head.
fn read_answer(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).unwrap(), 0, "the answer ended early: {head:?}");
    }
    let lower = head.to_ascii_lowercase();
    let length =
        lower.lines().find_map(|line| line.strip_prefix("content-length:")).map(|length| length.trim().parse());
    match length {
        Some(Ok(length)) if lower.starts_with("http/1.1 200") => {
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            String::from_utf8(body).unwrap()
        }
        _ => head,
    }
}
