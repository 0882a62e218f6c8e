//! Messages go both ways, whole and in order.

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use crate::support::{Backend, Echo, within};
use crate::wire::gateway;

#[tokio::test]
async fn messages_of_every_size_come_back_as_they_were() {
    let echo = Echo::start().await;
    let gateway = gateway(&[echo.address()], "").await;
    let (mut socket, _) = connect_async(format!("ws://{}/", gateway.address())).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().to_text().unwrap(), echo.address().to_string());
    for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 20, 5] {
        let message = vec![b'x'; size];
        socket.send(message.clone().into()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap().into_data(), message, "{size} bytes");
    }
    socket.close(None).await.unwrap();
    while let Some(message) = socket.next().await {
        message.unwrap();
    }
    let end = gateway.access.find(&["tunnel_end", "reason=client_close"]).await;
    assert!(end.contains("messages_from_client=8 messages_from_backend=9"), "{end}");
}

#[tokio::test]
async fn real_peers_answer_the_gateways_pings_and_keep_their_tunnel() {
    let echo = Echo::start().await;
    let gateway = gateway(&[echo.address()], "    tunnel: { ping: 1s }\n").await;
    let (mut socket, _) = connect_async(format!("ws://{}/", gateway.address())).await.unwrap();
    socket.next().await.unwrap().unwrap();
    let mut pings = 0;
    while pings < 3 {
        match within("a Ping", socket.next()).await.unwrap().unwrap() {
            Message::Ping(payload) => {
                assert_eq!(payload.as_ref(), b"longhaul");
                pings += 1;
            }
            // The backend's answers to its own Pings pass.
            Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
    socket.send("still here".into()).await.unwrap();
    let mut next = async || within("the echo", socket.next()).await.unwrap().unwrap();
    let mut message = next().await;
    while !message.is_text() {
        message = next().await;
    }
    assert_eq!(message.to_text().unwrap(), "still here");
}

#[tokio::test]
async fn a_subprotocol_is_agreed_on_through_the_gateway() {
    let backend = Backend::start(|stream| async move {
        #[allow(clippy::result_large_err, reason = "the library's own callback type")]
        let choose = |request: &Request, mut response: Response| {
            assert_eq!(request.headers()["sec-websocket-protocol"], "chat.v2, chat.v1");
            response.headers_mut().insert("sec-websocket-protocol", "chat.v1".parse().unwrap());
            Ok(response)
        };
        tokio_tungstenite::accept_hdr_async(stream, choose).await.unwrap().close(None).await.unwrap();
    })
    .await;
    let gateway = gateway(&[backend.address], "").await;
    let mut request = format!("ws://{}/", gateway.address()).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "chat.v2, chat.v1".parse().unwrap());
    let (mut socket, response) = connect_async(request).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat.v1");
    assert!(within("the Close", socket.next()).await.unwrap().unwrap().is_close());
}
