//! Many open tunnels, and the loads that are put on them.

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::opening::{Opening, Progress};
use super::tunnel::{Lost, Tunnel};
use super::{Outcome, Targets};
use crate::stop::Stop;
use crate::ws::{self, Message};

/// Open tunnels, each from a source address of its own.
pub struct Fleet<'a> {
    poll: Poll,
    events: Events,
    scratch: Vec<u8>,
    /// The tunnels; `None` for one that was lost.
    tunnels: Vec<Option<Tunnel>>,
    targets: Targets,
    /// Clients that have no tunnel yet; each has a source address of its own.
    clients: Box<dyn Iterator<Item = usize> + Send>,
    lost: u64,
    stop: &'a Stop,
}

/// Most connections that are being opened at the same time. No listener's backlog is shorter.
const OPENING_AT_ONCE: usize = 64;
/// The longest wait for a handshake, or for the last answers of a load.
const PATIENCE: Duration = Duration::from_secs(30);

impl<'a> Fleet<'a> {
    /// Opens `count` tunnels, to the targets in turn.
    ///
    /// # Errors
    /// A tunnel does not open, and none has made progress for 30 s. Figures of fewer tunnels could not be compared.
    pub fn open(targets: &Targets, count: usize, stop: &'a Stop) -> Result<Self> {
        Self::open_for(targets, count, Box::new(0..), stop)
    }

    /// Opens a tunnel for each of these clients. None of them can be replaced.
    ///
    /// # Errors
    /// As for [`Fleet::open`].
    pub fn open_as(targets: &Targets, clients: Vec<usize>, stop: &'a Stop) -> Result<Self> {
        Self::open_for(targets, clients.len(), Box::new(clients.into_iter()), stop)
    }

    fn open_for(
        targets: &Targets,
        count: usize,
        clients: Box<dyn Iterator<Item = usize> + Send>,
        stop: &'a Stop,
    ) -> Result<Self> {
        let mut fleet = Self {
            poll: Poll::new().context("no epoll")?,
            events: Events::with_capacity(1024),
            scratch: vec![0; 256 * 1024],
            tunnels: Vec::new(),
            targets: targets.clone(),
            clients,
            lost: 0,
            stop,
        };
        fleet.tunnels.resize_with(count, || None);
        fleet.open_missing()?;
        Ok(fleet)
    }

    /// Closes `count` tunnels without a Close frame, and opens as many from other addresses. `from` is the place of the
    /// first one.
    ///
    /// # Errors
    /// As for [`Fleet::open`].
    pub fn replace(&mut self, from: usize, count: usize) -> Result<()> {
        let all = self.tunnels.len();
        for at in from..from + count {
            self.tunnels[at % all] = None;
        }
        self.open_missing()
    }

    fn open_missing(&mut self) -> Result<()> {
        let request = ws::upgrade_request(self.targets.path);
        let missing: Vec<usize> = (0..self.tunnels.len()).filter(|at| self.tunnels[*at].is_none()).collect();
        let count = missing.len();
        let mut places = missing.into_iter();
        let mut openings: HashMap<usize, Opening> = HashMap::new();
        let (mut open, mut progress) = (0, Instant::now());
        while open < count {
            self.stop.check()?;
            for at in places.by_ref().take(OPENING_AT_ONCE - openings.len()) {
                let client = self.clients.next().context("there is no client left")?;
                let mut stream = self.targets.connect(client)?;
                self.poll.registry().register(stream.socket(), Token(at), Interest::READABLE | Interest::WRITABLE)?;
                openings.insert(at, Opening::new(stream));
            }
            self.wait(Duration::from_millis(100))?;
            for event in &self.events {
                let Token(at) = event.token();
                let Some(opening) = openings.remove(&at) else { continue };
                match opening.drive(&request) {
                    Progress::Waiting(opening) => drop(openings.insert(at, opening)),
                    Progress::Open(stream) => {
                        self.tunnels[at] = Some(Tunnel::new(stream));
                        (open, progress) = (open + 1, Instant::now());
                    }
                    Progress::Failed => bail!("a tunnel was refused when {open} of {count} had opened"),
                }
            }
            if progress.elapsed() > PATIENCE {
                bail!("only {open} of {count} tunnels opened");
            }
        }
        Ok(())
    }

    /// Number of tunnels, lost ones included.
    pub fn size(&self) -> usize {
        self.tunnels.len()
    }

    /// Tunnels lost since they were opened.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Closed loop: keeps `depth` messages under way on every tunnel, for `window`.
    ///
    /// # Errors
    /// When epoll fails or the user wants an end.
    pub fn echo(&mut self, message: &Message, depth: usize, window: Duration) -> Result<Outcome> {
        let begun = Instant::now();
        let end = begun + window;
        let mut outcome = Outcome::default();
        for tunnel in &mut self.tunnels {
            for _ in 0..depth {
                offer(tunnel, message, Instant::now(), &mut outcome);
            }
        }
        let mut under_way = self.under_way();
        while under_way > 0 && Instant::now() < end + PATIENCE {
            self.stop.check()?;
            self.wait(Duration::from_millis(100))?;
            for event in &self.events {
                let slot = &mut self.tunnels[event.token().0];
                let (again, gone) = turn(slot, message, &mut self.scratch, &mut self.lost, &mut outcome);
                under_way -= gone;
                let now = Instant::now();
                for _ in 0..if now < end { again } else { 0 } {
                    under_way += offer(slot, message, now, &mut outcome);
                }
            }
        }
        outcome.elapsed = begun.elapsed();
        outcome.errors += under_way as u64;
        Ok(outcome)
    }

    /// Open loop: sends `rate` messages a second, evenly spread, on one tunnel after the other, and does not wait for
    /// answers. Latency counts from the moment at which a message was due, so that a stall counts for every message
    /// that it delays.
    ///
    /// # Errors
    /// When epoll or the timer fails, or the user wants an end.
    pub fn paced(&mut self, message: &Message, rate: f64, window: Duration) -> Result<Outcome> {
        let mut pace = super::Pace::new(rate)?;
        let timer = pace.as_raw_fd();
        self.poll.registry().register(&mut SourceFd(&timer), super::pace::TIMER, Interest::READABLE)?;
        let mut outcome = Outcome::default();
        let begun = Instant::now();
        let end = begun + window;
        let mut under_way = self.under_way();
        let mut next = 0;
        loop {
            let now = Instant::now();
            while let Some(due) = pace.due(now, end) {
                under_way += offer(&mut self.tunnels[next], message, due, &mut outcome);
                next = (next + 1) % self.tunnels.len();
            }
            if (now >= end && under_way == 0) || now >= end + PATIENCE {
                break;
            }
            self.stop.check()?;
            pace.arm(end)?;
            self.wait(Duration::from_millis(100))?;
            for event in &self.events {
                if event.token() == super::pace::TIMER {
                    continue;
                }
                let slot = &mut self.tunnels[event.token().0];
                under_way -= turn(slot, message, &mut self.scratch, &mut self.lost, &mut outcome).1;
            }
        }
        self.poll.registry().deregister(&mut SourceFd(&timer)).context("epoll failed")?;
        outcome.elapsed = begun.elapsed();
        outcome.errors += under_way as u64;
        Ok(outcome)
    }

    /// Watches the tunnels for the time of `window`, and notes those that the other side closes.
    ///
    /// # Errors
    /// When epoll fails or the user wants an end.
    pub fn watch(&mut self, window: Duration) -> Result<()> {
        let message = Message::new(0);
        let end = Instant::now() + window;
        loop {
            self.stop.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.wait(left.min(Duration::from_millis(100)))?;
            for event in &self.events {
                let slot = &mut self.tunnels[event.token().0];
                turn(slot, &message, &mut self.scratch, &mut self.lost, &mut Outcome::default());
            }
        }
    }

    fn under_way(&self) -> usize {
        self.tunnels.iter().flatten().map(Tunnel::under_way).sum()
    }

    fn wait(&mut self, timeout: Duration) -> Result<()> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => self.events.clear(),
            other => other.context("epoll failed")?,
        }
        Ok(())
    }
}

/// Sends a message on a tunnel, unless it is lost. Returns the number of further messages under way.
fn offer(slot: &mut Option<Tunnel>, message: &Message, at: Instant, outcome: &mut Outcome) -> usize {
    let Some(tunnel) = slot else {
        outcome.errors += 1;
        return 0;
    };
    if let Err(Lost) = tunnel.offer(message, at) {
        // The shutdown raises an event, at which the loss is counted.
        let _ = tunnel.stream().socket().shutdown(std::net::Shutdown::Both);
    }
    1
}

/// Reads and writes as far as the tunnel is ready. Returns the number of answers, and the number of messages that are
/// no longer under way.
fn turn(
    slot: &mut Option<Tunnel>,
    message: &Message,
    scratch: &mut [u8],
    lost: &mut u64,
    outcome: &mut Outcome,
) -> (usize, usize) {
    let Some(tunnel) = slot else { return (0, 0) };
    let mut answers = 0;
    let result = tunnel
        .receive(message, scratch, |since| {
            outcome.latency.record(since.elapsed());
            answers += 1;
        })
        .and_then(|()| tunnel.flush(message));
    outcome.done += answers as u64;
    if let Err(Lost) = result {
        let missing = tunnel.under_way();
        outcome.errors += missing as u64;
        *lost += 1;
        *slot = None;
        return (0, answers + missing);
    }
    (answers, answers)
}
