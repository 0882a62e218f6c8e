//! The second generator, on Tokio: does the job of its argument and prints the outcome as JSON.
//!
//! The program says `ready` when the tunnels are open and the warm-up is done, begins at the first line of its input,
//! and ends when it is killed, so that the end of its tunnels is not part of the measurement.

mod paced;

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use longhaul_bench::load::{Job, Kind, Outcome, READY, source_from};
use longhaul_bench::ws::{self, Message};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout_at;

/// The longest time for the last answers of a load.
const PATIENCE: Duration = Duration::from_secs(10);
/// Close 1000 from a server (RFC 6455 §5.5.1).
const CLOSE_ANSWER: [u8; 4] = [0x88, 2, 0x03, 0xe8];

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("longhaul-bench-tokio: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<()> {
    let argument = std::env::args().nth(1).context("usage: longhaul-bench-tokio JOB")?;
    let job: Job = serde_json::from_str(&argument).context("the job makes no sense")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(run(Arc::new(Client::new(job))))
}

/// The job, and everything that all clients share.
struct Client {
    job: Job,
    /// Clients so far; each has a source address of its own.
    number: AtomicUsize,
    message: Message,
    request: Vec<u8>,
    close: Vec<u8>,
}

async fn run(client: Arc<Client>) -> Result<()> {
    let (warm_up, window) = (client.job.warm_up, client.job.window);
    let outcome = match client.job.kind {
        Kind::Handshake => {
            client.handshakes(warm_up).await;
            ready()?;
            client.handshakes(window).await
        }
        Kind::Echo => {
            let mut tunnels = client.open_all().await?;
            client.echo(&mut tunnels, warm_up).await;
            ready()?;
            let outcome = client.echo(&mut tunnels, window).await;
            report(&outcome)?;
            // The tunnels stay open until the harness has read the gateway's account.
            return std::future::pending().await;
        }
        Kind::Paced(rate) => {
            let mut tunnels = client.open_all().await?;
            client.echo(&mut tunnels, warm_up).await;
            ensure!(tunnels.len() == client.job.at_once, "a tunnel was lost in the warm-up");
            ready()?;
            paced::paced(&client, tunnels, rate, window).await?
        }
    };
    report(&outcome)?;
    std::future::pending().await
}

/// Says that the load can begin, and waits for the word to begin.
fn ready() -> Result<()> {
    let mut output = std::io::stdout();
    writeln!(output, "{READY}").and_then(|()| output.flush()).context("nobody listens")?;
    let length = std::io::stdin().read_line(&mut String::new())?;
    ensure!(length > 0, "the harness has ended");
    Ok(())
}

fn report(outcome: &Outcome) -> Result<()> {
    let mut output = std::io::stdout();
    writeln!(output, "{}", serde_json::to_string(outcome)?).and_then(|()| output.flush()).context("nobody listens")
}

impl Client {
    fn new(job: Job) -> Self {
        let (request, close) = (ws::upgrade_request("/ws"), ws::close_frame());
        Self { number: AtomicUsize::new(0), message: Message::new(job.payload), request, close, job }
    }

    async fn open_all(&self) -> Result<Vec<TcpStream>> {
        let mut tunnels = Vec::new();
        for _ in 0..self.job.at_once {
            tunnels.push(self.open().await.with_context(|| format!("only {} tunnels opened", tunnels.len()))?);
        }
        Ok(tunnels)
    }

    /// A tunnel from the source address of the next client.
    async fn open(&self) -> Result<TcpStream> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let socket = TcpSocket::new_v4()?;
        socket.set_nodelay(true)?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((source_from(self.job.sources, number), 0)))?;
        let mut stream = socket.connect(self.job.targets[number % self.job.targets.len()]).await?;
        stream.write_all(&self.request).await?;
        let mut head = Vec::with_capacity(1024);
        while !head.ends_with(b"\r\n\r\n") {
            ensure!(stream.read_buf(&mut head).await? > 0 && head.len() < 16 * 1024, "no answer to the handshake");
        }
        ensure!(ws::accepts(&head), "the handshake was refused");
        Ok(stream)
    }

    /// Sends the message, and reads its answer.
    async fn exchange(&self, stream: &mut TcpStream, answer: &mut [u8]) -> Result<()> {
        let (mut reader, mut writer) = stream.split();
        tokio::try_join!(writer.write_all(&self.message.frame), reader.read_exact(answer))?;
        ensure!(answer == self.message.answer, "a wrong answer");
        Ok(())
    }

    /// Exchanges messages on every tunnel for the time of `window`: the next one is sent when the last one was
    /// answered. Tunnels that fail are taken out.
    async fn echo(self: &Arc<Self>, tunnels: &mut Vec<TcpStream>, window: Duration) -> Outcome {
        let begun = Instant::now();
        let end = begun + window;
        let mut tasks = JoinSet::new();
        for mut stream in tunnels.drain(..) {
            let client = Arc::clone(self);
            tasks.spawn(async move {
                let mut outcome = Outcome::default();
                let mut answer = vec![0; client.message.answer.len()];
                while Instant::now() < end {
                    let since = Instant::now();
                    if client.exchange(&mut stream, &mut answer).await.is_err() {
                        outcome.errors += 1;
                        return (None, outcome);
                    }
                    outcome.latency.record(since.elapsed());
                    outcome.done += 1;
                }
                (Some(stream), outcome)
            });
        }
        let mut total = Outcome::default();
        let last = tokio::time::Instant::from_std(end + PATIENCE);
        while let Ok(Some(Ok((stream, outcome)))) = timeout_at(last, tasks.join_next()).await {
            total.add(&outcome);
            tunnels.extend(stream);
        }
        // Tunnels whose last answer has not come.
        total.errors += tasks.len() as u64;
        total.elapsed = begun.elapsed();
        total
    }

    /// Tunnels that live for one message, so many at a time.
    async fn handshakes(self: &Arc<Self>, window: Duration) -> Outcome {
        let begun = Instant::now();
        let end = begun + window;
        let mut tasks = JoinSet::new();
        for _ in 0..self.job.at_once {
            let client = Arc::clone(self);
            tasks.spawn(async move {
                let mut outcome = Outcome::default();
                while Instant::now() < end {
                    let since = Instant::now();
                    match client.live().await {
                        Ok(()) => {
                            outcome.latency.record(since.elapsed());
                            outcome.done += 1;
                        }
                        Err(_) => outcome.errors += 1,
                    }
                }
                outcome
            });
        }
        let mut total = Outcome::default();
        let last = tokio::time::Instant::from_std(end + PATIENCE);
        while let Ok(Some(Ok(outcome))) = timeout_at(last, tasks.join_next()).await {
            total.add(&outcome);
        }
        total.errors += tasks.len() as u64;
        total.elapsed = begun.elapsed();
        total
    }

    /// Connect, handshake, one echo, Close both ways, end.
    async fn live(&self) -> Result<()> {
        let mut stream = self.open().await?;
        let mut answer = vec![0; self.message.answer.len()];
        self.exchange(&mut stream, &mut answer).await?;
        stream.write_all(&self.close).await?;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await?;
        ensure!(rest == CLOSE_ANSWER, "a wrong end");
        Ok(())
    }
}
