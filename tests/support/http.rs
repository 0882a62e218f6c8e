//! HTTP/1.1 by hand: what arrives, byte for byte, on either side of the gateway.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use super::{Backend, Gateway, within};

/// A request's or an answer's first line and headers.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub start: String,
    pub headers: Vec<(String, String)>,
}

/// A head with the body that followed.
#[derive(Clone, Debug, Default)]
pub struct Message {
    pub head: Head,
    pub body: Vec<u8>,
    /// Trailers of a chunked body.
    pub trailers: Vec<(String, String)>,
}

/// One end of a connection that speaks HTTP/1.
pub struct Wire {
    pub stream: BufReader<TcpStream>,
}

impl Head {
    /// The header's values joined by a comma, if it is there.
    pub fn get(&self, name: &str) -> Option<String> {
        let all = self.all(name);
        (!all.is_empty()).then(|| all.join(", "))
    }

    /// Every line of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// An answer's status.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{self:?}"))
    }

    /// A request's target.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_else(|| panic!("{self:?}"))
    }
}

impl Message {
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The body as an address, for backends that answer with their own.
    pub fn address(&self) -> SocketAddr {
        self.text().parse().unwrap_or_else(|_| panic!("no backend's address: {self:?}"))
    }
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// Connects from 127.0.0.1.
    pub async fn connect(to: SocketAddr) -> Self {
        Self::connect_from(Ipv4Addr::LOCALHOST, to).await
    }

    /// Connects from an address of 127.0.0.0/8.
    pub async fn connect_from(source: Ipv4Addr, to: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        let stream = socket.connect(to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::new(stream)
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// A GET with `headers`, each ended by CRLF, and its answer.
    pub async fn get(&mut self, target: &str, headers: &str) -> Message {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: lab\r\n{headers}\r\n")).await;
        self.answer().await
    }

    /// The next head; `None` where the connection ends before one.
    pub async fn head(&mut self) -> io::Result<Option<Head>> {
        let mut head = Head::default();
        loop {
            let mut line = Vec::new();
            if self.stream.read_until(b'\n', &mut line).await? == 0 {
                return if head.start.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            if head.start.is_empty() {
                head.start = line.to_owned();
            } else if line.is_empty() {
                return Ok(Some(head));
            } else {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                head.headers.push((name.to_owned(), value.trim().to_owned()));
            }
        }
    }

    /// The next request with its body; `None` when the connection has ended.
    pub async fn request(&mut self) -> Option<Message> {
        let head = self.head().await.ok()??;
        self.body(head, false).await.ok()
    }

    /// The next answer (to anything but HEAD) with its body, interim answers (1xx but for 101) left out.
    pub async fn answer(&mut self) -> Message {
        self.try_answer().await.unwrap_or_else(|error| panic!("no whole answer: {error}"))
    }

    /// As [`answer`](Self::answer); an error where it does not come whole.
    pub async fn try_answer(&mut self) -> io::Result<Message> {
        let answer = async {
            loop {
                let head = self.head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
                if !matches!(head.status(), 100 | 102..=199) {
                    return self.body(head, true).await;
                }
            }
        };
        within("an answer", answer).await
    }

    async fn body(&mut self, head: Head, to_the_end: bool) -> io::Result<Message> {
        let mut message = Message { head, ..Message::default() };
        let head = &message.head;
        if to_the_end && matches!(head.status(), 101 | 204 | 304) {
            return Ok(message);
        }
        if head.get("transfer-encoding").is_some_and(|coding| coding.ends_with("chunked")) {
            while let Some(mut chunk) = self.chunk().await? {
                message.body.append(&mut chunk);
            }
            message.trailers = self.trailers().await?;
        } else if let Some(length) = head.get("content-length") {
            message.body = vec![0; length.parse().unwrap()];
            self.stream.read_exact(&mut message.body).await?;
        } else if to_the_end {
            self.stream.read_to_end(&mut message.body).await?;
        }
        Ok(message)
    }

    /// The next chunk of a chunked body; `None` at the last, empty one, after which [`trailers`](Self::trailers) come.
    pub async fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let size = line.split(';').next().unwrap().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| io::Error::other(format!("chunk size {line:?}")))?;
        if size == 0 {
            return Ok(None);
        }
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk).await?;
        assert_eq!(chunk.split_off(size), b"\r\n");
        Ok(Some(chunk))
    }

    async fn trailers(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut trailers = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end().split_once(':') {
                Some((name, value)) => trailers.push((name.to_owned(), value.trim().to_owned())),
                None => return Ok(trailers),
            }
        }
    }

    /// Waits for bytes, and returns their number; 0 at the connection's end.
    pub async fn peek(&mut self) -> usize {
        within("bytes", self.stream.fill_buf()).await.map_or(0, <[u8]>::len)
    }

    /// Everything up to the connection's end, abrupt or not.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset ends it as well.
        let _ = within("the connection's end", self.stream.read_to_end(&mut rest)).await;
        rest
    }
}

/// A backend that answers every request with status 200 and its own address, and keeps the requests.
pub struct Named {
    pub backend: Backend,
    requests: Arc<Mutex<Vec<Message>>>,
}

impl Named {
    /// Starts on an address of its own, so that its port stays free while it is stopped.
    pub async fn start() -> Self {
        static STARTED: AtomicU16 = AtomicU16::new(1);
        let [high, low] = STARTED.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let run = 64 + (std::process::id() % 64) as u8;
        Self::start_at(SocketAddr::from(([127, run, high, low], 0))).await
    }

    pub async fn start_at(address: SocketAddr) -> Self {
        Self::answering(address, |_| String::new()).await
    }

    /// Adds the headers that `headers` gives, each ended by CRLF.
    pub async fn answering(address: SocketAddr, headers: fn(&Message) -> String) -> Self {
        let requests: Arc<Mutex<Vec<Message>>> = Arc::default();
        let kept = Arc::clone(&requests);
        let backend = Backend::start_at(address, move |stream| {
            let kept = Arc::clone(&kept);
            async move {
                let name = stream.local_addr().unwrap().to_string();
                let mut wire = Wire::new(stream);
                while let Some(request) = wire.request().await {
                    let headers = headers(&request);
                    let body = if request.head.start.starts_with("HEAD ") { "" } else { name.as_str() };
                    kept.lock().unwrap().push(request);
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{headers}\r\n{body}", name.len());
                    if wire.stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await;
        Self { backend, requests }
    }

    /// Stops it; its address is free when this returns.
    pub async fn stop(self) {
        self.backend.stop().await;
    }

    /// Starts `count` of them.
    pub async fn several(count: usize) -> Vec<Self> {
        let mut backends = Vec::new();
        for _ in 0..count {
            backends.push(Self::start().await);
        }
        backends
    }

    pub fn address(&self) -> SocketAddr {
        self.backend.address
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Message> {
        self.requests.lock().unwrap().clone()
    }

    /// The latest request.
    pub fn last(&self) -> Message {
        self.requests().pop().expect("a request came")
    }
}

/// A configuration with metrics and one upstream `u`, which every request goes to; `more` are further keys of it, each
/// line indented by four.
pub fn one_upstream(backends: &[SocketAddr], more: &str) -> String {
    let backends: Vec<String> = backends.iter().map(ToString::to_string).collect();
    format!(
        "version: 1\nlisteners:\n  - address: 127.0.0.1:0\nmetrics:\n  address: 127.0.0.1:0\nroutes:\n  \
         - upstream: u\nupstreams:\n  u:\n    backends: [{}]\n{more}",
        backends.join(", ")
    )
}

/// Answer of `longhaul where --json` about a request, by a gateway's own file.
pub fn located(gateway: &Gateway, arguments: &[&str]) -> serde_json::Value {
    let output = ask_where(gateway, arguments, &["--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

/// The output of `longhaul where`.
pub fn ask_where(gateway: &Gateway, arguments: &[&str], format: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.arg("where").arg("-c").arg(gateway.dir.path().join("longhaul.yaml"));
    command.args(arguments).args(format).output().unwrap()
}

/// The backends that a key would try, in that order.
pub fn order(located: &serde_json::Value) -> Vec<SocketAddr> {
    let address = |value: &serde_json::Value| value.as_str().unwrap().parse().unwrap();
    std::iter::once(&located["backend"]).chain(located["then"].as_array().unwrap()).map(address).collect()
}
