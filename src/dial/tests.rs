//! Connections and exchanges: over sockets, and over a script that cuts bytes anywhere.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::executor::block_on;
use proptest::prelude::*;

use super::*;
use crate::http1::HeadError;
use crate::metrics::LocalFailure;
use crate::socket::tcp_info::packets_in;

const PATIENT: Duration = Duration::from_secs(30);

fn limits() -> ExchangeLimits {
    ExchangeLimits { until: Instant::now() + PATIENT, connect: PATIENT, read: PATIENT, write: PATIENT }
}

/// A backend that says its pieces one after the other, and takes a request in pieces too.
struct Script {
    says: VecDeque<Vec<u8>>,
    /// Most bytes of the writes to come; all of one when the list is over.
    takes: VecDeque<usize>,
    heard: Vec<u8>,
}

impl Transport for Script {
    fn poll_read(&mut self, _: &mut Context<'_>, bytes: &mut Vec<u8>, _: Instant) -> Poll<io::Result<usize>> {
        let piece = self.says.pop_front().unwrap_or_default();
        bytes.extend_from_slice(&piece);
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8], _: Instant) -> Poll<io::Result<usize>> {
        let count = self.takes.pop_front().unwrap_or(bytes.len()).clamp(1, bytes.len());
        self.heard.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn detach(self) -> io::Result<TcpStream> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The bytes in pieces, none of them empty.
fn cut(bytes: &[u8], cuts: &[prop::sample::Index]) -> VecDeque<Vec<u8>> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
    places.sort_unstable();
    places.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).filter(|piece| !piece.is_empty()).collect()
}

/// Status, bytes and length of the head of an answer.
type Outcome = Result<(u16, Vec<u8>, usize), TryError>;

/// The outcome of an exchange, and the request as it was heard.
fn outcome(says: VecDeque<Vec<u8>>, takes: VecDeque<usize>) -> (Outcome, Vec<u8>) {
    let mut script = Script { says, takes, heard: Vec::new() };
    let answered = block_on(async {
        let mut exchange = HeadExchange::new(REQUEST);
        exchange.connect(&mut script, &limits()).await?;
        let answered = exchange.answer(&mut script, &limits(), &|head| head.status.as_u16()).await?;
        Ok((answered.judged, answered.read, answered.length))
    });
    (answered, script.heard)
}

const REQUEST: &[u8] = b"GET /chat HTTP/1.1\r\nHost: example.com\r\n\r\n";

fn answer() -> impl Strategy<Value = Vec<u8>> {
    let interim =
        prop::sample::select(vec!["", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"]);
    let last = prop::sample::select(vec![
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade : websocket\r\n\r\n\x01\x02",
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
        "HTTP/1.0 200 OK\n\nbody",
        "HTTP/1.1 101 Switching Protocols\r\nUpgra",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "",
    ]);
    (prop::collection::vec(interim, 0..3), last).prop_map(|(interim, last)| (interim.concat() + last).into_bytes())
}

proptest! {
    #[test]
    fn an_exchange_is_the_same_wherever_its_bytes_are_cut(
        answer in answer(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        takes in prop::collection::vec(1_usize..REQUEST.len(), 0..4),
    ) {
        let (whole, heard) = outcome(cut(&answer, &[]), VecDeque::new());
        let (pieces, heard_in_pieces) = outcome(cut(&answer, &cuts), takes.into());
        prop_assert_eq!(heard, REQUEST);
        prop_assert_eq!(heard_in_pieces, REQUEST);
        match (whole, pieces) {
            // How much was read behind a head depends on the cuts; nothing of it is lost.
            (Ok((status, read, length)), Ok((in_pieces, read_in_pieces, length_in_pieces))) => {
                prop_assert_eq!((status, length), (in_pieces, length_in_pieces));
                prop_assert!(read_in_pieces.len() >= length && read.starts_with(&read_in_pieces));
            }
            (whole, pieces) => prop_assert_eq!(whole, pieces),
        }
    }
}

#[test]
fn a_head_without_end_is_given_up() {
    let says = std::iter::once(b"HTTP/1.1 200 OK\r\nX: ".to_vec()).chain(std::iter::repeat_n(vec![b'x'; 4096], 300));
    let (answered, _) = outcome(says.collect(), VecDeque::new());
    assert_eq!(answered, Err(ExchangeError::Head(HeadError::TooLong).into()));
}

async fn whole(stream: &mut Tcp) -> Result<(), TryError> {
    let mut exchange = HeadExchange::new(REQUEST);
    exchange.connect(stream, &limits()).await?;
    exchange.answer(stream, &limits(), &|_| ()).await.map(drop)
}

#[tokio::test]
async fn a_refused_connection_is_told_from_one_that_ends() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut stream = OnTokio.stream(Dialer::default().begin(address).unwrap()).unwrap();
    drop(listener.accept().unwrap());
    let ended = whole(&mut stream).await;
    assert!(matches!(ended, Err(TryError::Exchange(_))), "{ended:?}");

    // It listens no more, and its port is given to no other test.
    socket2::SockRef::from(&listener).shutdown(std::net::Shutdown::Both).unwrap();
    let refused = match Dialer::default().begin(address).and_then(|socket| OnTokio.stream(socket)) {
        Ok(mut stream) => whole(&mut stream).await,
        Err(error) => Err(TryError::connect(error)),
    };
    assert!(matches!(refused, Err(TryError::Connect(ConnectError::Refused(_)))), "{refused:?}");
}

#[tokio::test]
async fn an_answer_that_comes_after_the_limit_can_be_waited_for_again() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = OnTokio.stream(Dialer::default().begin(listener.local_addr().unwrap()).unwrap()).unwrap();
    let mut backend = listener.accept().unwrap().0;
    let brief = ExchangeLimits { read: Duration::from_millis(20), ..limits() };
    let mut exchange = HeadExchange::new(REQUEST);
    exchange.connect(&mut stream, &brief).await.unwrap();
    backend.write_all(b"HTTP/1.1 200").unwrap();
    let late = exchange.answer(&mut stream, &brief, &|_| ()).await.map(drop).unwrap_err();
    assert!(late == ExchangeError::ReadTimedOut.into() && late.is_timeout());
    backend.write_all(b" OK\r\n\r\n").unwrap();
    let answered = exchange.answer(&mut stream, &limits(), &|head| head.status.as_u16()).await.unwrap();
    assert_eq!((answered.judged, answered.length), (200, 19));
}

#[test]
fn a_source_address_is_used_and_its_port_serves_many_destinations() {
    let dialer = Dialer::from_addresses(&["127.0.0.77".to_owned(), "none".to_owned()], &[]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = dialer.begin(listener.local_addr().unwrap()).unwrap();
    let (_, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip().to_string(), "127.0.0.77");
    assert!(nix::sys::socket::getsockopt(&socket, IpBindAddressNoPort).unwrap());
    assert!(socket.nodelay().unwrap());
}

#[test]
fn what_is_said_first_acknowledges_the_connection() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Not each time, where the test stands still for longer than the system puts the acknowledgement off.
    let in_one_packet = (0..50).any(|_| {
        let mut stream = Dialer::default().begin(address).unwrap();
        stream.write_all(b"hello").unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.read_exact(&mut [0; 5]).unwrap();
        // That which opened the connection, and that of the first bytes.
        packets_in(&accepted) == 2
    });
    assert!(in_one_packet, "an empty packet came before the first bytes");
}

#[test]
fn a_source_address_without_a_port_is_passed_over() {
    // Nobody here has the address that documentation has (RFC 5737).
    let sources = ["198.51.100.1", "127.0.0.77", "198.51.100.2"].map(str::to_owned);
    let dialer = Dialer::from_addresses(&sources, &[]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for _ in 0..20 {
        let socket = dialer.begin(listener.local_addr().unwrap()).unwrap();
        assert_eq!(socket.local_addr().unwrap().ip().to_string(), "127.0.0.77");
    }
    let nowhere = Dialer::from_addresses(&sources[..1], &[]).begin(listener.local_addr().unwrap()).unwrap_err();
    assert!(matches!(TryError::connect(nowhere), TryError::Local(LocalFailure::SourcePorts, _)));
}

#[test]
fn a_shortage_of_the_gateways_own_is_not_the_backends() {
    let shortage = io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error());
    assert!(matches!(TryError::connect(shortage), TryError::Local(LocalFailure::ProcessDescriptors, _)));
}
