//! Real clients: `openssl s_client`, curl, Python's `ssl`.

use std::process::{Command, Stdio};

use crate::lab::{Lab, yaml};
use crate::support::certificates::Authority;
use crate::support::{Echo, Gateway, Named, folder};

/// The output of a program that must succeed.
fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_a_page_in_both_versions() {
    let backend = Named::start().await;
    let lab = Lab::start(&[backend.address()]).await;
    for version in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
        let url = format!("https://a.test:{}/", lab.address().port());
        let resolve = format!("a.test:{}:127.0.0.1", lab.address().port());
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "60", "--cacert"]).arg(lab.file("ca.pem")).args(["--resolve", &resolve]);
        assert_eq!(output(curl.args(version).arg(url)), backend.address().to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_agrees_on_http_1_and_verifies_the_name() {
    let lab = Lab::start(&[Named::start().await.address()]).await;
    let mut s_client = Command::new("openssl");
    s_client.args(["s_client", "-connect", &lab.address().to_string(), "-servername", "x.wild.test"]);
    s_client.args(["-verify_return_error", "-verify_hostname", "x.wild.test", "-alpn", "h2,http/1.1", "-CAfile"]);
    let said = output(s_client.arg(lab.file("ca.pem")));
    assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
    assert!(said.contains("Verification: OK") && !said.contains("Max Early Data: 1"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_with_the_dot_of_absolute_names_chooses_the_certificate_of_the_name() {
    let text = yaml(&[Named::start().await.address()], "", "").replace(
        "[{ cert: '{dir}/a.pem', key: '{dir}/a.key' }]",
        "[{ cert: '{dir}/a.pem', key: '{dir}/a.key' }, { cert: '{dir}/b.pem', key: '{dir}/b.key' }]",
    );
    let (dir, authority) = (folder(&text), Authority::new("Test Authority"));
    authority.issue(&["a.test"]).write(dir.path(), "a");
    authority.issue(&["b.test", "*.wild.test"]).write(dir.path(), "b");
    let gateway = Gateway::begin(dir, &[], &[]).listening().await;
    for (asked, shown) in
        [("b.test.", "b.test"), ("B.Test.", "b.test"), ("x.wild.test.", "b.test"), ("c.test.", "a.test")]
    {
        let mut s_client = Command::new("openssl");
        s_client.args(["s_client", "-connect", &gateway.address().to_string(), "-servername", asked]);
        let said = output(&mut s_client);
        assert!(said.contains(&format!("subject=CN = {shown}\n")), "{asked}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_tls_1_1_or_1_0_is_told_that_its_version_is_too_old() {
    for (tls, oldest) in [("", "1.2"), ("      min_version: \"1.3\"\n", "1.3")] {
        let lab = Lab::start_with(&[Named::start().await.address()], tls, "").await;
        for version in ["-tls1", "-tls1_1"] {
            let mut s_client = Command::new("openssl");
            s_client.args(["s_client", "-connect", &lab.address().to_string(), "-servername", "a.test", version]);
            s_client.args(["-cipher", "ALL:@SECLEVEL=0"]).stdin(Stdio::null());
            let said = s_client.output().unwrap();
            let (done, said) = (said.status.success(), String::from_utf8_lossy(&said.stderr).into_owned());
            assert!(!done && said.contains("SSL alert number 70"), "{version}, at least {oldest}: {said}");
        }
        let failures = "longhaul_tls_handshake_failures_total{failure=";
        lab.gateway.metric_becomes(&format!("{failures}\"version\"}}"), 2.0).await;
        assert_eq!(lab.gateway.metric(&format!("{failures}\"parameters\"}}")).await, 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn python_talks_through_a_tunnel() {
    let echo = Echo::start().await;
    let lab = Lab::start(&[echo.address()]).await;
    let mut python = Command::new("python3");
    python.args(["-c", PYTHON, &lab.address().port().to_string()]).arg(lab.file("ca.pem"));
    assert_eq!(output(&mut python), format!("{} 300 echoes\n", echo.address()));
}

/// A WebSocket client by `ssl` alone: messages of many sizes, sent in pieces.
const PYTHON: &str = r#"
import socket, ssl, struct, sys
port, ca = int(sys.argv[1]), sys.argv[2]
context = ssl.create_default_context(cafile=ca)
stream = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 60), server_hostname="a.test")
stream.sendall(b"GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
buffer = b""
def exactly(count):
    global buffer
    while len(buffer) < count:
        more = stream.recv(65536)
        assert more, "the end"
        buffer += more
    taken, buffer = buffer[:count], buffer[count:]
    return taken
head = b""
while not head.endswith(b"\r\n\r\n"):
    head += exactly(1)
assert head.startswith(b"HTTP/1.1 101 "), head
def hear():
    first, length = exactly(2)
    if length == 126:
        length, = struct.unpack(">H", exactly(2))
    elif length == 127:
        length, = struct.unpack(">Q", exactly(8))
    return exactly(length)
def say(payload):
    size = len(payload)
    head = struct.pack(">BB", 0x82, 0x80 | size) if size < 126 else (
        struct.pack(">BBH", 0x82, 0xfe, size) if size < 65536 else struct.pack(">BBQ", 0x82, 0xff, size))
    frame = head + bytes(4) + payload
    for at in range(0, len(frame), 5000):
        stream.sendall(frame[at:at + 5000])
name = hear().decode()
for n in range(300):
    message = bytes([n % 256]) * (n * n)
    say(message)
    assert hear() == message, n
print(name, "300 echoes")
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_python_package_websockets_talks_by_wss() {
    let echo = Echo::start().await;
    let lab = Lab::start(&[echo.address()]).await;
    let folder = output(&mut Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python.sh")));
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", folder.trim()).args(["-c", WEBSOCKETS, &lab.address().port().to_string()]);
    assert_eq!(output(python.arg(lab.file("ca.pem"))), format!("{} 200 echoes, closed 1000\n", echo.address()));
}

/// Clients of both versions of TLS that send texts, binary messages in fragments and pings, and say goodbye.
const WEBSOCKETS: &str = r#"
import socket, ssl, sys
from websockets.sync.client import connect
port, ca = int(sys.argv[1]), sys.argv[2]
echoes = 0
for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = context.maximum_version = version
    stream = socket.create_connection(("127.0.0.1", port), 60)
    with connect(f"wss://a.test:{port}/", sock=stream, ssl=context, max_size=None) as client:
        name = client.recv()
        for n in range(50):
            text = "\u00fc" * n * 100
            client.send(text)
            assert client.recv() == text, n
            parts = [bytes([n]) * 3000 * (part % 3) for part in range(4)]
            client.send(parts)
            assert client.recv() == b"".join(parts), n
            assert client.ping().wait(60)
            echoes += 2
    code = client.close_code
print(name, echoes, f"echoes, closed {code}")
"#;
