//! The record layer of tunnels with OpenSSL at the far end: keys that change in the middle of a conversation.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use crate::lab::Lab;
use crate::support::{Echo, PATIENCE};

/// `openssl s_client` at a gateway: bytes of its standard input are sent, and commands of one letter obeyed.
struct OpenSsl {
    child: Child,
    output: mpsc::Receiver<Vec<u8>>,
    /// Output that was not asked for yet.
    read: Vec<u8>,
    diagnostics: mpsc::Receiver<String>,
}

impl OpenSsl {
    fn connect(lab: &Lab, more: &[&str]) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &lab.address().to_string(), "-servername", "a.test"]).args(more);
        command.arg("-CAfile").arg(lab.file("ca.pem")).arg("-verify_return_error");
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (told, output) = mpsc::channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut chunk) {
                // The test may have ended.
                let _ = told.send(chunk[..count].to_vec());
            }
        });
        let (told, diagnostics) = mpsc::channel();
        std::thread::spawn(move || {
            BufReader::new(err).lines().map_while(Result::ok).for_each(|line| drop(told.send(line)))
        });
        Self { child, output, read: Vec::new(), diagnostics }
    }

    fn send(&mut self, bytes: &[u8]) {
        let input = self.child.stdin.as_mut().unwrap();
        input.write_all(bytes).unwrap();
        input.flush().unwrap();
    }

    /// Waits until the output has these bytes, and forgets it up to there.
    fn hear(&mut self, bytes: &[u8]) {
        loop {
            if let Some(at) = self.read.windows(bytes.len()).position(|window| window == bytes) {
                self.read.drain(..at + bytes.len());
                return;
            }
            let more = self.output.recv_timeout(PATIENCE);
            self.read.extend(more.unwrap_or_else(|_| panic!("{:?}", String::from_utf8_lossy(&self.read))));
        }
    }

    /// Changes the keys, as the command of this letter does, and waits until that is under way.
    fn change_keys(&mut self, letter: &str) {
        self.send(format!("{letter}\n").as_bytes());
        while !self.diagnostics.recv_timeout(PATIENCE).unwrap().contains("KEYUPDATE") {}
    }

    fn upgrade(&mut self) {
        self.send(
            b"GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        );
        self.hear(b"HTTP/1.1 101 ");
    }

    /// Sends a short text message, masked with zeros, and waits for it to come back.
    fn echoes(&mut self, text: &str) {
        let length = u8::try_from(text.len()).unwrap();
        self.send(&[&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat());
        self.hear(&[&[0x81, length], text.as_bytes()].concat());
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_changes_its_keys_and_asks_for_new_ones_again_and_again() {
    let echo = Echo::start().await;
    let lab = Lab::start(&[echo.address()]).await;
    let suites = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
    for suite in suites {
        let mut openssl = OpenSsl::connect(&lab, &["-tls1_3", "-ciphersuites", suite]);
        openssl.upgrade();
        for number in 0..10 {
            // `K` asks for new keys of the gateway's, too; `k` only changes the sender's.
            openssl.change_keys(if number % 2 == 0 { "K" } else { "k" });
            openssl.echoes(&format!("message {number} by {suite}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_suite_of_tls_1_2_carries_a_tunnel() {
    let echo = Echo::start().await;
    let lab = Lab::start(&[echo.address()]).await;
    let suites = ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"];
    for suite in suites {
        let mut openssl = OpenSsl::connect(&lab, &["-tls1_2", "-cipher", suite]);
        openssl.upgrade();
        for number in 0..10 {
            openssl.echoes(&format!("message {number} by {suite}"));
        }
    }
    let all = lab.gateway.metric("longhaul_tunnels_open{tls=\"rustls\"}").await;
    assert_eq!(all, 0.0, "the record layer carries every suite");
}
