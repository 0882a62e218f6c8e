//! A client's connection that never blocks, plain or over TLS, and the addresses it goes to.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use rustls::{ClientConnection, HandshakeKind};

use crate::tls::Client;

/// Addresses of a gateway, or of backends, and how clients speak with them.
#[derive(Clone)]
pub struct Targets {
    /// Addresses to connect to, in turn.
    pub addresses: Vec<SocketAddr>,
    /// `None`: plain.
    pub tls: Option<Client>,
    /// Path that tunnels are asked for.
    pub path: &'static str,
}

impl Default for Targets {
    fn default() -> Self {
        Self { addresses: Vec::new(), tls: None, path: "/ws" }
    }
}

impl Targets {
    /// Address for client `number`.
    pub fn of(&self, number: usize) -> SocketAddr {
        self.addresses[number % self.addresses.len()]
    }

    /// A connection under way from the source address of client `number`.
    pub(super) fn connect(&self, number: usize) -> anyhow::Result<Stream> {
        let socket = super::connect(number, self.of(number))?;
        let Some(client) = &self.tls else { return Ok(Stream { socket, tls: None }) };
        let tls = Tls { connection: client.connection()?, unread: VecDeque::new() };
        Ok(Stream { socket, tls: Some(Box::new(tls)) })
    }
}

/// A connection. It reads as a plain socket does: a short read means that no more has come, and a read of 0 bytes is
/// the end.
pub(super) struct Stream {
    socket: TcpStream,
    tls: Option<Box<Tls>>,
}

struct Tls {
    connection: ClientConnection,
    /// Bytes that came, which rustls has not taken yet.
    unread: VecDeque<u8>,
}

impl Stream {
    /// The socket, for epoll.
    pub(super) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// True when it took up an earlier session.
    pub(super) fn is_resumed(&self) -> bool {
        let kind = self.tls.as_ref().and_then(|tls| tls.connection.handshake_kind());
        kind == Some(HandshakeKind::Resumed)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match &mut self.tls {
            None => self.socket.read(buffer),
            Some(tls) => tls.read(&mut self.socket, buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match &mut self.tls {
            None => self.socket.write(bytes),
            Some(tls) => tls.write(&mut self.socket, bytes),
        }
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(tls) = &mut self.tls
            && !tls.connection.is_handshaking()
        {
            tls.connection.send_close_notify();
            // The gateway may have closed the connection before.
            let _ = tls.send(&mut self.socket);
        }
    }
}

impl Tls {
    fn read(&mut self, socket: &mut TcpStream, buffer: &mut [u8]) -> Result<usize> {
        // What an earlier write left.
        unless_blocked(self.send(socket))?;
        let mut length = 0;
        while length < buffer.len() {
            match self.connection.reader().read(&mut buffer[length..]) {
                Ok(0) => break,
                Ok(more) => length += more,
                // Close frames have said by then that this is the end; not every gateway says it by TLS too.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => match self.receive(socket) {
                    Err(_) if length > 0 => break,
                    received => received?,
                },
                Err(error) => return Err(error),
            }
        }
        Ok(length)
    }

    fn write(&mut self, socket: &mut TcpStream, bytes: &[u8]) -> Result<usize> {
        self.send(socket)?;
        while self.connection.is_handshaking() {
            self.receive(socket)?;
            self.send(socket)?;
        }
        let length = self.connection.writer().write(bytes)?;
        // A later event sends the rest.
        unless_blocked(self.send(socket))?;
        Ok(length)
    }

    /// Sends what rustls has ready.
    fn send(&mut self, socket: &mut TcpStream) -> Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(socket)?;
        }
        Ok(())
    }

    /// Gives rustls more of the bytes that came. At the end of the stream it is given an empty read.
    fn receive(&mut self, socket: &mut TcpStream) -> Result<()> {
        if self.unread.is_empty() {
            // rustls itself would read 4 KiB at once.
            let mut chunk = [0; 16 * 1024];
            let length = socket.read(&mut chunk)?;
            self.unread.extend(&chunk[..length]);
            if length == 0 && self.connection.is_handshaking() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        self.connection.read_tls(&mut self.unread)?;
        self.connection.process_new_packets().map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
        Ok(())
    }
}

fn unless_blocked(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        other => other,
    }
}
