//! Limits in time of what comes before the first request: the PROXY header and the TLS handshake.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;

use crate::client::{Client, VERSIONS, config};
use crate::lab::{Lab, yaml};
use crate::support::{Named, PATIENCE};

/// Starts a client that sends these bytes and waits for the end of its connection. Returns the number of bytes that the
/// gateway sent to it.
fn waiting(to: SocketAddr, bytes: &[u8]) -> JoinHandle<usize> {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    std::thread::spawn(move || {
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            // Bytes that nobody read make it a reset.
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
        answer.len()
    })
}

/// A client that goes on sending a byte now and then until it can send no more, so slowly that no bound of bytes is
/// reached before that of time.
fn dribbling(to: SocketAddr, bytes: Vec<u8>) -> JoinHandle<usize> {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    std::thread::spawn(move || {
        for byte in bytes {
            // The read is the pause between two bytes, and shows the end.
            match stream.write_all(&[byte]).and_then(|()| stream.read(&mut [0; 16])) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) | Ok(0) => return 0,
                Ok(count) => return count,
            }
        }
        panic!("it was listened to for all of it");
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_and_a_tls_handshake_that_do_not_end_are_cut_off_and_others_are_served_meanwhile() {
    let backend = Named::start().await;
    let key = "  - address: 127.0.0.1:0\n    proxy_protocol: required\n    tls:\n      certificates: [{ cert: \
               '{dir}/a.pem', key: '{dir}/a.key' }]\n";
    let text = yaml(&[backend.address()], "", "").replace("metrics:\n", &format!("{key}metrics:\n"));
    let lab = Lab::start_yaml(&text.replace("version: 1\n", "version: 1\ntrusted_proxies: [127.0.0.1]\n")).await;
    let (tls, proxied) = (lab.gateway.addresses[0], lab.gateway.addresses[2]);

    // The beginning of a ClientHello, in a record that says that it is longer.
    let mut hello = vec![22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    hello.resize(400, 7);
    let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";
    let slow: Vec<_> = vec![
        waiting(tls, b""),
        waiting(tls, &hello[..9]),
        dribbling(tls, [&hello[..], &[7; 1000]].concat()),
        waiting(proxied, b""),
        waiting(proxied, &header[..20]),
        dribbling(proxied, [&b"PROXY UNKNOWN "[..], &[b'x'; 1000]].concat()),
        // The header comes in time, and the handshake does not.
        waiting(proxied, &[&header[..], &hello[..9]].concat()),
    ];
    let config = config(&lab.authority.pem, &VERSIONS, None);
    for _ in 0..10 {
        let mut client = Client::connect(tls, "a.test", &config).unwrap();
        assert_eq!(client.get("/", "").1, backend.address().to_string());
    }
    let timeouts = "longhaul_tls_handshake_failures_total{failure=\"timeout\"}";
    lab.gateway.metric_becomes(timeouts, 4.0).await;
    lab.gateway.metric_becomes("longhaul_proxy_header_failures_total{failure=\"timeout\"}", 3.0).await;
    for client in slow {
        let heard = tokio::task::spawn_blocking(move || client.join().unwrap()).await.unwrap();
        assert_eq!(heard, 0, "nobody is sent anything");
    }
}
