//! A DNS server that says what a test wants, and fails as it wants.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{JoinHandle, JoinSet};

use crate::support::within;

/// The way in which the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Right,
    /// By UDP no more than one record, and the word that there are more.
    Truncated,
    Silent,
    Code(ResponseCode),
}

#[derive(Default)]
struct Zone {
    records: HashMap<(String, RecordType), Vec<RData>>,
    mode: Option<Mode>,
    asked: usize,
}

/// A name server. It ends when it is dropped; what it knew can be taken on by another at the same address.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    task: JoinHandle<()>,
}

impl NameServer {
    pub(crate) async fn start() -> Self {
        loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            // Another process may have the port of TCP.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                return Self::serve(udp, tcp, Arc::default());
            }
        }
    }

    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let (udp, tcp) = (UdpSocket::bind(address).await.unwrap(), TcpListener::bind(address).await.unwrap());
        Self::serve(udp, tcp, Arc::default())
    }

    /// Ends the server; another one begins at the same address when the result is used.
    pub(crate) async fn stop(self) -> Stopped {
        self.task.abort();
        let (address, zone) = (self.address, Arc::clone(&self.zone));
        let mut task = self;
        let _ = (&mut task.task).await;
        Stopped { address, zone }
    }

    fn serve(udp: UdpSocket, tcp: TcpListener, zone: Arc<Mutex<Zone>>) -> Self {
        let address = udp.local_addr().unwrap();
        let served = Arc::clone(&zone);
        let task = tokio::spawn(async move {
            let (mut bytes, mut connections) = ([0; 4096], JoinSet::new());
            loop {
                tokio::select! {
                    received = udp.recv_from(&mut bytes) => {
                        let (length, peer) = received.unwrap();
                        let answer = served.lock().unwrap().answer(&bytes[..length], Way::Udp);
                        if let Some(answer) = answer {
                            // A client that is gone wants no answer.
                            let _ = udp.send_to(&answer, peer).await;
                        }
                    }
                    accepted = tcp.accept() => {
                        connections.spawn(by_tcp(accepted.unwrap().0, Arc::clone(&served)));
                    }
                }
            }
        });
        Self { address, zone, task }
    }

    /// Sets the addresses of a name, of one family each.
    pub(crate) fn addresses(&self, name: &str, addresses: &[IpAddr]) {
        let record = |address: &IpAddr| match address {
            IpAddr::V4(address) => RData::A(A(*address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(*address)),
        };
        let of = |v4: bool| addresses.iter().filter(|address| address.is_ipv4() == v4).map(record).collect();
        let mut zone = self.zone.lock().unwrap();
        zone.records.insert((name.to_owned(), RecordType::A), of(true));
        zone.records.insert((name.to_owned(), RecordType::AAAA), of(false));
    }

    /// Sets the SRV records of a name: priority, weight, port, target.
    pub(crate) fn services(&self, name: &str, services: &[(u16, u16, u16, &str)]) {
        let record = |&(priority, weight, port, target): &(u16, u16, u16, &str)| {
            RData::SRV(SRV::new(priority, weight, port, Name::from_ascii(format!("{target}.")).unwrap()))
        };
        let records = services.iter().map(record).collect();
        self.zone.lock().unwrap().records.insert((name.to_owned(), RecordType::SRV), records);
    }

    pub(crate) fn mode(&self, mode: Mode) {
        self.zone.lock().unwrap().mode = Some(mode);
    }

    /// Number of questions so far.
    pub(crate) fn asked(&self) -> usize {
        self.zone.lock().unwrap().asked
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A server that has ended, with its address and what it knew.
pub(crate) struct Stopped {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

impl Stopped {
    pub(crate) async fn start(self) -> NameServer {
        let again = async {
            loop {
                // A client may have the port for a moment.
                let bound = (UdpSocket::bind(self.address).await, TcpListener::bind(self.address).await);
                if let (Ok(udp), Ok(tcp)) = bound {
                    return (udp, tcp);
                }
                tokio::task::yield_now().await;
            }
        };
        let (udp, tcp) = within("the port of before", again).await;
        NameServer::serve(udp, tcp, self.zone)
    }
}

/// The way by which a question comes.
#[derive(PartialEq, Eq)]
enum Way {
    Udp,
    Tcp,
}

/// Answers what is asked on a connection (RFC 1035 §4.2.2), until it ends.
async fn by_tcp(mut stream: TcpStream, zone: Arc<Mutex<Zone>>) {
    while let Ok(length) = stream.read_u16().await {
        let mut question = vec![0; usize::from(length)];
        if stream.read_exact(&mut question).await.is_err() {
            return;
        }
        let answer = zone.lock().unwrap().answer(&question, Way::Tcp);
        let Some(answer) = answer else { continue };
        let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
        if stream.write_all(&[&length[..], &answer].concat()).await.is_err() {
            return;
        }
    }
}

impl Zone {
    fn answer(&mut self, question: &[u8], way: Way) -> Option<Vec<u8>> {
        self.asked += 1;
        let question = Message::from_vec(question).unwrap();
        let query = question.queries[0].clone();
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.metadata.recursion_desired = true;
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        let mode = self.mode.unwrap_or(Mode::Right);
        match mode {
            Mode::Silent => return None,
            Mode::Code(code) => answer.metadata.response_code = code,
            Mode::Right | Mode::Truncated => {
                let name = query.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
                let is_there = self.records.keys().any(|(known, _)| *known == name);
                if !is_there {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                }
                let records = self.records.get(&(name, query.query_type())).map(Vec::as_slice).unwrap_or_default();
                let is_cut = mode == Mode::Truncated && way == Way::Udp && records.len() > 1;
                answer.metadata.truncation = is_cut;
                for data in if is_cut { &records[..1] } else { records } {
                    answer.add_answer(Record::from_rdata(query.name().clone(), TTL, data.clone()));
                }
            }
        }
        Some(answer.to_vec().unwrap())
    }
}

/// Seconds for which answers may be believed.
const TTL: u32 = 1;
