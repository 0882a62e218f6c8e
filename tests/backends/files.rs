//! Files of upstreams that are renewed while the gateway runs.

use std::fs;

use crate::lab::{Front, Lab, NAME, TLS, server_config};
use crate::support::certificates::Authority;
use crate::support::{Named, Wire, within};

#[tokio::test]
async fn a_renewed_authority_is_taken_up_without_a_reload_and_a_broken_one_is_not() {
    let (lab, named) = (Lab::new(), Named::start().await);
    let next = Authority::new("Next Authority");
    let front = Front::start(named.address(), server_config(&next.issue(&[NAME]), None, rustls::ALL_VERSIONS)).await;
    let gateway = lab.gateway(&[front.address()], TLS).await;
    let mut client = Wire::connect(gateway.address()).await;
    assert_eq!(client.get("/", "").await.status(), 502);

    let file = gateway.dir.path().join("ca.pem");
    fs::write(&file, &next.pem).unwrap();
    gateway.log.find(&["ca.pem has changed and is in force for new connections"]).await;
    let answered = async {
        loop {
            let answer = Wire::connect(gateway.address()).await.get("/", "").await;
            if answer.status() == 200 {
                return answer;
            }
        }
    };
    assert_eq!(within("an answer", answered).await.address(), named.address());

    fs::write(&file, "not PEM").unwrap();
    gateway.log.find(&["stays in force: ", "ca.pem is not a PEM file"]).await;
    assert_eq!(Wire::connect(gateway.address()).await.get("/", "").await.address(), named.address());
}
