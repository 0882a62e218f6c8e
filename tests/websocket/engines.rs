//! Messages of many tunnels at a time, by each way in which workers send.

use futures_util::future::join_all;

use crate::load::{mirror, tunnel_from};
use crate::support::Gateway;
use crate::wire::{From, configuration, frame};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_many_tunnels_come_back_whole_and_in_order_by_every_engine() {
    let backend = mirror().await;
    for engine in ["auto", "epoll"] {
        let text = configuration(&[backend.address], "");
        let gateway = Gateway::start(&text.replace("routes:", &format!("engine: {engine}\nroutes:"))).await;
        let address = gateway.address();
        let echoes = async |client: usize| {
            let mut wire = tunnel_from([127, 0, 0, 1].into(), address).await.unwrap();
            assert!(wire.next_frame().await.is_some(), "the backend's word");
            for round in 0..20 {
                // Short ones, which are sent together, and ones that are too long for that.
                let messages = [0, 1, 300, 8_000, 9_000, 7].map(|length| vec![(client + round) as u8; length]);
                for message in &messages {
                    wire.send(frame(From::Client, 0x82, message)).await;
                }
                for message in &messages {
                    let came = wire.next_frame().await.expect("the tunnel is open");
                    assert!(came.payload == *message, "{engine}: {} bytes in round {round}", message.len());
                }
            }
        };
        join_all((0..60).map(echoes)).await;
    }
}
