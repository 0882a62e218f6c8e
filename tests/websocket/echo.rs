//! Messages go both ways, whole and in order.

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::connect_async;

use crate::support::{Echo, Gateway};

#[tokio::test]
async fn messages_of_every_size_come_back_as_they_were() {
    let echo = Echo::start().await;
    let gateway = Gateway::start(&format!(
        "version: 1\nlisteners:\n  - address: 127.0.0.1:0\nroutes:\n  - upstream: u\nupstreams:\n  u:\n    backends: [{}]\n",
        echo.address()
    ))
    .await;
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
