//! The bytes of a tunnel: any bytes, in any pieces, in both directions at once.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::support::{Backend, within};
use crate::wire::{From, Manual, Wire, all_ended, close, frame, gateway, has, switching, text, tunnel, upgrade};

/// A stream of frames of every kind and length format, and the pieces it is sent in.
fn stream(from: From) -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    let first = prop_oneof![Just(0x82_u8), Just(0x81), Just(0x02), Just(0x80), Just(0x89), Just(0x8A)];
    let length = prop_oneof![0..10_usize, 120..130_usize, 0..5000_usize, 65_500..65_600_usize, Just(300_000)];
    let bytes = vec((first, length, any::<u8>()), 0..8).prop_map(move |frames| {
        let control = |first: u8| first & 0x08 != 0;
        let payload = |first, length, fill| vec![fill; if control(first) { length % 126 } else { length }];
        frames.into_iter().flat_map(|(first, length, fill)| frame(from, first, &payload(first, length, fill))).collect()
    });
    (bytes, vec(prop_oneof![1..5_usize, 1..3000_usize, Just(100_000)], 1..60))
}

/// Sends bytes in pieces, the last of which is the rest.
async fn pour(mut to: OwnedWriteHalf, bytes: Vec<u8>, pieces: Vec<usize>) {
    let mut rest = bytes.as_slice();
    for piece in pieces {
        let (now, later) = rest.split_at(piece.min(rest.len()));
        to.write_all(now).await.unwrap();
        rest = later;
        tokio::task::yield_now().await;
    }
    to.write_all(rest).await.unwrap();
    // Both ways stay open until both have been read: the end of a stream is another test's.
    to.forget();
}

async fn collect(mut from: OwnedReadHalf, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    from.read_exact(&mut bytes).await.unwrap();
    assert!(bytes == expected, "bytes differ");
}

#[test]
fn any_stream_of_frames_in_any_pieces_arrives_as_it_was_sent() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (gateway, backend) = runtime.block_on(async {
        let backend = Manual::start().await;
        (gateway(&[backend.address()], "").await, backend)
    });
    let backend = tokio::sync::Mutex::new(backend);
    let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&(stream(From::Client), stream(From::Backend)), |(to_backend, to_client)| {
        runtime.block_on(async {
            let (client, server) = tunnel(&gateway, &mut *backend.lock().await).await;
            let (client_reads, client_writes) = client.stream.into_split();
            let (server_reads, server_writes) = server.stream.into_split();
            let all = async {
                tokio::join!(
                    pour(client_writes, to_backend.0.clone(), to_backend.1),
                    pour(server_writes, to_client.0.clone(), to_client.1),
                    collect(server_reads, &to_backend.0),
                    collect(client_reads, &to_client.0),
                )
            };
            within("both streams", all).await;
        });
        Ok(())
    });
    outcome.unwrap();
}

/// A megabyte's message, and how many of them make a stream far beyond what any buffer holds.
fn megabyte(from: From) -> Vec<u8> {
    frame(from, 0x82, &vec![b'm'; 1 << 20])
}

const MANY: usize = 64;

/// Writes the same message again and again.
async fn flood(to: &mut (impl AsyncWriteExt + Unpin), message: &[u8]) {
    for _ in 0..MANY {
        to.write_all(message).await.unwrap();
    }
}

/// Reads what [`flood`] wrote.
async fn drain(from: &mut (impl AsyncReadExt + Unpin), message: &[u8]) {
    let mut bytes = vec![0; message.len()];
    for number in 0..MANY {
        from.read_exact(&mut bytes).await.unwrap();
        assert!(bytes == message, "message {number} differs");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_reads_and_echoes_in_one_task_and_a_busy_client_do_not_lock_up() {
    let backend = Backend::start(|stream| async move {
        let mut server = Wire::of(stream);
        server.head().await;
        server.send(switching("")).await;
        let mut piece = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = server.stream.read(&mut piece).await {
            // Sent back as it came, masks included; here it matters only that nothing is read meanwhile.
            server.stream.write_all(&piece[..count]).await.unwrap();
        }
    })
    .await;
    let gateway = gateway(&[backend.address], "").await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send(upgrade("")).await;
    client.head().await;
    let message = megabyte(From::Client);
    let (mut reads, mut writes) = client.stream.into_split();
    let both = async { tokio::join!(flood(&mut writes, &message), drain(&mut reads, &message)) };
    within("64 MiB there and back", both).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_does_not_hold_up_what_it_sends() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let (mut client, server) = tunnel(&gateway, &mut backend).await;
    let (mut server_reads, mut server_writes) = server.stream.into_split();
    let downward = megabyte(From::Backend);
    let flooding = tokio::spawn({
        let message = downward.clone();
        async move { flood(&mut server_writes, &message).await }
    });
    let upward = megabyte(From::Client);
    let up = async { tokio::join!(flood(&mut client.stream, &upward), drain(&mut server_reads, &upward)) };
    within("64 MiB past a client that does not read", up).await;
    assert!(!flooding.is_finished(), "backpressure: what nobody reads is not taken in");
    within("the rest, once it reads", drain(&mut client.stream, &downward)).await;
    flooding.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_reads_nothing_does_not_hold_up_what_it_sends() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let (client, mut server) = tunnel(&gateway, &mut backend).await;
    let (mut client_reads, mut client_writes) = client.stream.into_split();
    let upward = megabyte(From::Client);
    let flooding = tokio::spawn({
        let message = upward.clone();
        async move { flood(&mut client_writes, &message).await }
    });
    let downward = megabyte(From::Backend);
    let down = async { tokio::join!(flood(&mut server.stream, &downward), drain(&mut client_reads, &downward)) };
    within("64 MiB past a backend that does not read", down).await;
    assert!(!flooding.is_finished());
    within("the rest, once it reads", drain(&mut server.stream, &upward)).await;
    flooding.await.unwrap();
}

#[tokio::test]
async fn a_client_that_ends_its_stream_still_gets_what_the_backend_sends() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let (mut client, mut server) = tunnel(&gateway, &mut backend).await;
    let question = text(From::Client, "question");
    client.send(&question).await;
    client.finish().await;
    assert_eq!(server.rest().await, question, "the end is passed on behind the bytes");
    let answer = frame(From::Backend, 0x82, &vec![7; 200_000]);
    let goodbye = close(From::Backend, 1000);
    let (sent, got) = tokio::join!(
        async {
            server.send(&answer).await;
            server.send(&goodbye).await;
            server.finish().await;
        },
        client.rest()
    );
    let () = sent;
    assert!(got == [answer, goodbye].concat());
    let end = all_ended(&gateway, backend.address(), 1).await;
    has(&end, &["bytes_from_client=14", "bytes_from_backend=200014", "reason=client_gone", "close_code=1006"]);
}

#[tokio::test]
async fn a_backend_that_ends_its_stream_still_gets_what_the_client_sends() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let (mut client, mut server) = tunnel(&gateway, &mut backend).await;
    let goodbye = close(From::Backend, 4000);
    server.send(&goodbye).await;
    server.finish().await;
    assert_eq!(client.rest().await, goodbye, "after its Close frame the end is just the end");
    let late = [frame(From::Client, 0x82, &vec![7; 200_000]), close(From::Client, 4000)].concat();
    let (sent, got) = tokio::join!(
        async {
            client.send(&late).await;
            client.finish().await;
        },
        server.rest()
    );
    let () = sent;
    assert!(got == late);
    let end = all_ended(&gateway, backend.address(), 1).await;
    has(&end, &["messages_from_client=1", "messages_from_backend=0", "reason=backend_close", "close_code=4000"]);
}
