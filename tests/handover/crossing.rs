//! Tunnels in every state cross to another process and go on where they stood.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::lab::{Lab, blocking, upgrade};
use crate::raw::Raw;
use crate::support::{Gateway, within};
use crate::ws::{BINARY, CLOSE, Tunnel, frame, read_frame};

/// A tunnel of which the test holds both ends.
async fn puppet(lab: &Lab, gateway: &Gateway) -> (Tunnel, TcpStream) {
    let tunnel = Tunnel::open(gateway.address(), "/puppet").await;
    (tunnel, lab.puppet().await)
}

/// Reads exactly these bytes.
async fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    within("bytes", stream.read_exact(&mut read)).await.unwrap();
    assert!(read == bytes, "other bytes came");
}

async fn expect_end(stream: &mut TcpStream) {
    assert_eq!(within("the end", stream.read(&mut [0; 1])).await.unwrap(), 0);
}

#[tokio::test]
async fn a_tunnel_that_the_client_has_half_closed_goes_on_the_other_way() {
    let lab = Lab::start().await;
    let mut gateway = lab.gateway("").await;
    let (mut client, mut backend) = puppet(&lab, &gateway).await;
    let message = frame(BINARY, b"before the end", true);
    client.send(&message).await;
    client.stream.shutdown().await.unwrap();
    expect(&mut backend, &message).await;
    expect_end(&mut backend).await;
    for count in 1..=2 {
        upgrade(&mut gateway).await;
        backend.write_all(&frame(BINARY, &[count; 300], false)).await.unwrap();
        assert_eq!(client.receive().await.payload, [count; 300]);
    }
    backend.write_all(&frame(CLOSE, &1000u16.to_be_bytes(), false)).await.unwrap();
    drop(backend);
    assert_eq!(client.receive().await.code(), 1000);
    expect_end(&mut client.stream).await;
    let end = gateway.access.find(&[" tunnel_end "]).await;
    assert!(end.contains("reason=client_gone"), "{end}");
}

#[tokio::test]
async fn a_tunnel_that_the_backend_has_half_closed_goes_on_the_other_way() {
    let lab = Lab::start().await;
    let mut gateway = lab.gateway("").await;
    let (mut client, mut backend) = puppet(&lab, &gateway).await;
    backend.write_all(&frame(BINARY, b"before the end", false)).await.unwrap();
    backend.shutdown().await.unwrap();
    assert_eq!(client.receive().await.payload, b"before the end");
    assert_eq!(client.receive().await.code(), 1014);
    for count in 1..=2 {
        upgrade(&mut gateway).await;
        let message = frame(BINARY, &[count; 300], true);
        client.send(&message).await;
        expect(&mut backend, &message).await;
    }
    client.send(&frame(CLOSE, &1000u16.to_be_bytes(), true)).await;
    assert_eq!(within("the Close", read_frame(&mut backend)).await.unwrap().code(), 1000);
    drop(client);
    let end = gateway.access.find(&[" tunnel_end "]).await;
    assert!(end.contains("reason=backend_gone"), "{end}");
}

#[tokio::test]
async fn frames_that_were_cut_anywhere_arrive_as_they_were() {
    let lab = Lab::start().await;
    let mut gateway = lab.gateway("").await;
    let long = frame(BINARY, &[7; 70_000], true);
    // Inside the header's length, its mask, the payload, and at its end.
    for cuts in [[1, 9], [3, 12], [14, 40_000], [65_536, long.len()]] {
        let (mut client, mut backend) = puppet(&lab, &gateway).await;
        let mut sent = 0;
        for cut in cuts.into_iter().chain([long.len()]) {
            client.send(&long[sent..cut]).await;
            expect(&mut backend, &long[sent..cut]).await;
            // The other way stands inside a header too.
            backend.write_all(&[if sent == 0 { BINARY } else { 0 }]).await.unwrap();
            expect(&mut client.stream, &[if sent == 0 { BINARY } else { 0 }]).await;
            sent = cut;
            upgrade(&mut gateway).await;
            if sent == long.len() {
                break;
            }
        }
        drop((client, backend));
        let end = gateway.access.find(&[" tunnel_end "]).await;
        assert!(end.contains("messages_from_client=1 messages_from_backend="), "{end}");
    }
}

#[tokio::test]
async fn a_message_is_measured_over_fragments_that_went_through_different_processes() {
    let lab = Lab::start().await;
    let mut gateway = lab.gateway("    tunnel: { max_message: 100B }\n").await;
    let (mut client, mut backend) = puppet(&lab, &gateway).await;
    let fragment = frame(0x02, &[1; 60], true);
    client.send(&fragment).await;
    expect(&mut backend, &fragment).await;
    upgrade(&mut gateway).await;
    client.send(&frame(0x80, &[2; 41], true)).await;
    assert_eq!(within("a Close", read_frame(&mut backend)).await.unwrap().code(), 1009);
    assert_eq!(client.receive().await.code(), 1009);
    drop((client, backend));
    gateway.access.find(&[" tunnel_end ", "reason=message_too_big"]).await;
}

#[tokio::test]
async fn an_idle_limit_counts_from_the_last_byte_in_whichever_process() {
    let lab = Lab::start().await;
    // Longer than an upgrade takes.
    let mut gateway = lab.gateway("    tunnel: { idle: 8s }\n").await;
    let (mut client, mut backend) = puppet(&lab, &gateway).await;
    let began = std::time::Instant::now();
    client.send(&frame(BINARY, b"last", true)).await;
    expect(&mut backend, &frame(BINARY, b"last", true)).await;
    upgrade(&mut gateway).await;
    assert_eq!(client.receive().await.code(), 1001);
    assert!(began.elapsed() >= std::time::Duration::from_secs(8), "not before its time");
    assert_eq!(within("a Close", read_frame(&mut backend)).await.unwrap().code(), 1001);
    drop((client, backend));
    let end = gateway.access.find(&[" tunnel_end "]).await;
    assert!(end.contains("reason=idle"), "{end}");
}

/// Both sides send without reading, until the gateway can pass on nothing more either way.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_neither_side_takes_are_kept_and_cross() {
    let lab = Lab::start().await;
    let mut gateway = lab.gateway("").await;
    let (client, backend) = puppet(&lab, &gateway).await;
    let (from_client, to_client) = client.stream.into_split();
    let (from_backend, to_backend) = backend.into_split();
    let writers = [(to_client, true), (to_backend, false)].map(|(mut stream, masked)| {
        tokio::spawn(async move {
            for number in 0..MESSAGES {
                stream.write_all(&frame(BINARY, &message(number), masked)).await.unwrap();
            }
            stream
        })
    });
    let door = gateway.dir.path().join("upgrade.sock");
    // Reads the passport again and again until it keeps bytes of both directions.
    let kept = async {
        for attempt in 0.. {
            let door = door.clone();
            let passport = blocking(move || passport(&door)).await;
            gateway.log.find_nth(&["the handover failed, this process goes on"], attempt).await;
            let kept = [0, 1].map(|way| kept(&passport, way));
            if kept.iter().all(|kept| *kept > 0) {
                return kept;
            }
        }
        unreachable!("it looks for as long as it takes")
    };
    let kept = within("bytes to be kept both ways", kept).await;
    assert!(kept.iter().all(|kept| *kept <= 65 * 1024), "{kept:?}");
    assert!(writers.iter().all(|writer| !writer.is_finished()), "both are held up");
    for _ in 0..3 {
        upgrade(&mut gateway).await;
    }
    let readers = [from_client, from_backend].map(|stream| {
        tokio::spawn(async move {
            let mut stream = tokio::io::BufReader::new(stream);
            for number in 0..MESSAGES {
                let received = within("a message", read_frame(&mut stream)).await.unwrap();
                assert_eq!(received.first, BINARY);
                assert!(received.payload == message(number), "message {number} is another");
            }
            stream
        })
    });
    let streams = futures_util::future::try_join_all(readers).await.unwrap();
    drop((streams, futures_util::future::try_join_all(writers).await.unwrap()));
    let end = gateway.access.find(&[" tunnel_end "]).await;
    assert!(end.contains(&format!("messages_from_client={MESSAGES} messages_from_backend={MESSAGES}")), "{end}");
}

/// Reads the passport of the gateway's one tunnel, and leaves the tunnel where it is.
fn passport(door: &std::path::Path) -> Value {
    let mut raw = Raw::serving(door);
    let said = raw.hear().unwrap();
    assert_eq!((said.word(), said.descriptors.len()), ("tunnels", 2), "{}", said.value);
    said.value["passports"][0].clone()
}

/// Number of bytes that a passport keeps of one direction.
fn kept(passport: &Value, way: usize) -> usize {
    let text = passport["pair"]["flows"][way]["kept"].as_str().unwrap();
    text.len() / 4 * 3
}

/// A message like no other, 50,000 bytes long.
fn message(number: usize) -> Vec<u8> {
    (0..6_250u64).flat_map(|place| (place * 0x9E37_79B9 + number as u64).to_le_bytes()).collect()
}

/// Far more than what all buffers on the way hold: 4 MiB in each sending socket, 6 MiB in each receiving one.
const MESSAGES: usize = 600;
