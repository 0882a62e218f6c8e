//! A checker with real checks, by the system's clock.

use socket2::{Domain, Socket, Type};

use super::*;

#[tokio::test]
async fn a_checker_reports_what_a_real_probe_sees() {
    struct Sent(mpsc::UnboundedSender<Result<(), CheckError>>);
    impl Subject for Sent {
        fn report(&self, outcome: Result<(), CheckError>) {
            let _ = self.0.send(outcome);
        }
    }
    // Keeps the port when nobody listens there any more.
    let port = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    port.set_reuse_address(true).unwrap();
    port.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = port.local_addr().unwrap().as_socket().unwrap();
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let target = CheckedBackend {
        address,
        probe: probe(Duration::from_secs(30)),
        interval: Duration::from_millis(20),
        subject: Arc::new(Sent(sender)),
        ..target(0).0
    };
    let mut checkers = Checkers::new();
    checkers.first_round(std::slice::from_ref(&target)).await;
    checkers.sync([target]);
    assert_eq!(receiver.recv().await, Some(Ok(())));
    assert_eq!(receiver.recv().await, Some(Ok(())));
    drop(listener);
    while receiver.recv().await != Some(Err(CheckError::Refused)) {}
}
