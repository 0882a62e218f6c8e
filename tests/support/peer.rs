//! nginx and HAProxy, as processes of their own.

use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

/// A running nginx or HAProxy, ended when dropped.
pub struct Peer {
    child: Child,
    pub address: SocketAddr,
    /// Standard error, kept open: nginx ends when it cannot write there.
    _stderr: Option<BufReader<ChildStderr>>,
    /// Its configuration and logs.
    _folder: TempDir,
}

impl Peer {
    /// nginx with the file `nginx.conf` of a folder, which has it listen on `address`.
    pub fn nginx(address: SocketAddr, folder: TempDir) -> Self {
        Self::nginx_with(address, folder, |command| command)
    }

    /// The same, with changes of the command.
    pub fn nginx_with(address: SocketAddr, folder: TempDir, change: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let mut command = Command::new(program("nginx"));
        command.arg("-p").arg(folder.path()).args(["-c", "nginx.conf", "-e", "stderr"]);
        let mut child = started(change(&mut command).stdin(Stdio::null()).stderr(Stdio::piped()));
        // nginx names its event method right after it has opened its sockets.
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("event method") {
            assert_ne!(stderr.read_line(&mut said).unwrap(), 0, "nginx did not start:\n{said}");
        }
        Self { child, address, _stderr: Some(stderr), _folder: folder }
    }

    /// HAProxy with a file that has it listen on `fd@0`, its standard input: who connects waits there until it accepts.
    pub fn haproxy(file: &Path, folder: TempDir) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut command = Command::new(program("haproxy"));
        command.args(["-db", "-f"]).arg(file).stdin(Stdio::from(OwnedFd::from(listener)));
        Self { child: started(&mut command), address, _stderr: None, _folder: folder }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first of these addresses that no other run is using, nor will while this one lives. They are to lie below the
/// ephemeral ports, so that no connection's own end takes one.
pub fn free(addresses: impl IntoIterator<Item = SocketAddr>) -> SocketAddr {
    let mut free = addresses.into_iter().filter(|address| take(*address).is_ok());
    free.next().expect("one of the addresses is free")
}

/// Takes an address for as long as the tests run: another run cannot, and a program that is told of it can listen
/// there.
fn take(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Where two runs look at once, one of them has it. Shared with a program it is only afterwards.
    socket.bind(&address.into())?;
    socket.set_reuse_address(true)?;
    std::mem::forget(socket);
    Ok(())
}

fn started(command: &mut Command) -> Child {
    let child = command.stdout(Stdio::null()).spawn();
    child.unwrap_or_else(|error| panic!("{command:?}: {error}; `make test` installs nginx and HAProxy"))
}

/// Debian has servers in /usr/sbin, which is on no ordinary user's path.
fn program(name: &str) -> String {
    let found = format!("/usr/sbin/{name}");
    if Path::new(&found).exists() { found } else { name.to_owned() }
}
