//! A WebSocket client to try things with: sends each line that you type, and shows each message that comes.
//!
//!     cargo run --example ws -- ws://127.0.0.1:8080/ [Header: value]...

use std::io::BufRead;

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut request = arguments.next().ok_or("which address?")?.into_client_request()?;
    for header in arguments {
        let (name, value) = header.split_once(':').ok_or("a header is written `Name: value`")?;
        request.headers_mut().append(name.parse::<HeaderName>()?, value.trim().parse::<HeaderValue>()?);
    }
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await?;

    let (typed, mut lines) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if typed.blocking_send(line).is_err() {
                break;
            }
        }
    });
    let mut typing = true;
    loop {
        tokio::select! {
            line = lines.recv(), if typing => match line {
                Some(line) => socket.send(Message::text(line)).await?,
                None => {
                    typing = false;
                    socket.close(None).await?;
                }
            },
            message = socket.next() => match message {
                Some(Ok(Message::Close(frame))) => println!("closed: {frame:?}"),
                Some(message) => println!("{}", message?),
                None => return Ok(()),
            },
        }
    }
}
