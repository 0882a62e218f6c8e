//! Tunnels to backends that speak TLS.

use futures_util::{SinkExt, StreamExt};
use rustls::version::{TLS12, TLS13};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Error;

use crate::lab::{Front, Lab, NAME, TLS, server_config};
use crate::support::{Backend, Echo, Wire, within};

#[tokio::test]
async fn messages_of_every_size_come_back_by_either_version() {
    let (lab, echo) = (Lab::new(), Echo::start().await);
    for version in [&TLS12, &TLS13] {
        let config = server_config(&lab.authority.issue(&[NAME]), None, &[version]);
        let front = Front::start(echo.address(), config).await;
        let gateway = lab.gateway(&[front.address()], TLS).await;
        let (mut socket, _) = within("a tunnel", connect_async(format!("ws://{}/", gateway.address()))).await.unwrap();
        let first = within("the first message", socket.next()).await.unwrap().unwrap();
        assert_eq!(first.to_text().unwrap(), echo.address().to_string());
        for size in [0, 1, 125, 126, 16_383, 16_385, 65_536, 1 << 20, 5] {
            let message = vec![b'x'; size];
            socket.send(message.clone().into()).await.unwrap();
            let echoed = within("an echo", socket.next()).await.unwrap().unwrap();
            assert_eq!(echoed.into_data(), message, "{size} bytes");
        }
        socket.close(None).await.unwrap();
        while let Some(message) = within("the end", socket.next()).await {
            message.unwrap();
        }
        gateway.access.find(&["tunnel_end", "reason=client_close"]).await;
    }
}

#[tokio::test]
async fn both_directions_are_full_at_once() {
    const MESSAGES: usize = 200;
    let (lab, echo) = (Lab::new(), Echo::start().await);
    let front = lab.front(echo.address()).await;
    let gateway = lab.gateway(&[front.address()], TLS).await;
    let (socket, _) = within("a tunnel", connect_async(format!("ws://{}/", gateway.address()))).await.unwrap();
    let (mut sends, mut hears) = socket.split();
    within("the first message", hears.next()).await.unwrap().unwrap();
    let sending = async {
        for number in 0..MESSAGES {
            sends.send(vec![number as u8; 100_000].into()).await.unwrap();
        }
    };
    let hearing = async {
        for number in 0..MESSAGES {
            let message = hears.next().await.unwrap().unwrap().into_data();
            assert!(message.len() == 100_000 && message.iter().all(|byte| *byte == number as u8), "{number}");
        }
    };
    within("every echo", async { tokio::join!(sending, hearing) }).await;
}

#[tokio::test]
async fn a_backends_refusal_is_relayed_with_its_body() {
    let lab = Lab::new();
    let inner = Backend::start(|stream| async move {
        let mut wire = Wire::new(stream);
        wire.request().await;
        let body = "no".repeat(30_000);
        wire.send(format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
    })
    .await;
    let front = lab.front(inner.address).await;
    let gateway = lab.gateway(&[front.address()], TLS).await;
    let refused = within("the refusal", connect_async(format!("ws://{}/", gateway.address()))).await.unwrap_err();
    let Error::Http(answer) = refused else { panic!("{refused:?}") };
    assert_eq!(answer.status(), 403);
    let mut client = Wire::connect(gateway.address()).await;
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    assert_eq!(client.get("/", upgrade).await.text(), "no".repeat(30_000));
}
