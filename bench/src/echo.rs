//! The backend: one thread that answers HTTP requests and echoes WebSocket messages, as cheaply as it can.

mod connection;
mod door;

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use socket2::{Domain, Socket, Type};

use connection::{Connection, Scratch};
use door::Door;

/// A backend that takes one handshake at a time.
#[derive(Clone, Copy, Debug)]
pub struct Slow {
    /// Time that a handshake takes. Open tunnels are not held up by it.
    pub each: Duration,
    /// Handshakes that may wait for theirs; one more is answered 503.
    pub queue: usize,
}

/// Serves on `listen` until the process is ended, after one line on standard output that names the address.
///
/// # Errors
/// When the address cannot be bound, or epoll fails.
pub fn serve(listen: SocketAddr, name: &str, slow: Option<Slow>) -> Result<()> {
    let mut poll = Poll::new().context("no epoll")?;
    let mut listener = bind(listen).with_context(|| format!("{listen} cannot be bound"))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;

    let mut connections: Slab<Connection> = Slab::new();
    let mut events = Events::with_capacity(1024);
    let door = slow.map(|slow| Door::new(slow.each, slow.queue, Instant::now()));
    let mut scratch = Scratch::new(name, door);
    let mut serial = 0;
    loop {
        let timeout = scratch.door().and_then(|door| door.next(Instant::now()));
        match poll.poll(&mut events, timeout) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => events.clear(),
            other => other.context("epoll failed")?,
        }
        let now = Instant::now();
        while let Some((at, serial)) = scratch.door().and_then(|door| door.done(now)) {
            let Some(connection) = connections.get_mut(at).filter(|connection| connection.serial() == serial) else {
                continue;
            };
            if !connection.let_in(&mut scratch) {
                connections.remove(at);
            }
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut connections, &mut serial)?;
                continue;
            }
            let at = event.token().0;
            let Some(connection) = connections.get_mut(at) else { continue };
            if !connection.drive(at, &mut scratch) {
                connections.remove(at);
            }
        }
    }
}

const LISTENER: Token = Token(usize::MAX);

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn accept(listener: &TcpListener, poll: &Poll, connections: &mut Slab<Connection>, serial: &mut u64) -> Result<()> {
    // Accepts until none is left. Without descriptors it stops, and the generator counts the error.
    while let Ok((mut stream, _)) = listener.accept() {
        let _ = stream.set_nodelay(true);
        let entry = connections.vacant_entry();
        poll.registry().register(&mut stream, Token(entry.key()), Interest::READABLE | Interest::WRITABLE)?;
        *serial += 1;
        entry.insert(Connection::new(stream, *serial));
    }
    Ok(())
}
