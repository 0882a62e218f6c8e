//! Ends of tunnels that tell the client the truth.

use crate::wire::{Manual, gateway, tunnel};

/// A backend that ends without a word is another matter: its client is told.
#[tokio::test]
async fn a_backend_that_ends_while_nobody_has_said_goodbye_shows_as_1014() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let (mut client, mut server) = tunnel(&gateway, &mut backend).await;
    server.finish().await;
    drop(server);
    let frame = client.frame().await;
    assert_eq!((frame.first, &frame.payload[..2]), (0x88, &1014_u16.to_be_bytes()[..]));
}
