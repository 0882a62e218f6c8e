//! Protocols 1 and 2 as they were first spoken: what was recorded then is understood by every later release.
//!
//! `v1/` and `v2/` hold one conversation each, a word in each file: recorded from a release of that protocol, with
//! addresses and a few moments put to round numbers. A change of the code that cannot read them, or that makes them
//! mean something else, breaks the step from release N to N+1: make a new protocol instead, and keep these.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::lab::{Lab, blocking, config, get, ready};
use crate::raw::Raw;
use crate::support::{Gateway, within};
use crate::ws::{BINARY, CLOSE, Frame, all_echo, frame, open_several, read_frame};

/// A recorded word of protocol 1.
pub(crate) fn word(name: &str) -> Value {
    word_of(1, name)
}

/// A recorded word.
fn word_of(protocol: u32, name: &str) -> Value {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/handover/v{protocol}"));
    let path = folder.join(format!("{name}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A successor of an older release, which takes so many tunnels. Returns their passports.
pub(crate) fn take_over(mut raw: Raw, protocol: u32, sockets: usize, tunnels: usize) -> Vec<Value> {
    let word = |name| word_of(protocol, name);
    // Protocol 2 has an entry with the listening sockets, and a claim with each batch.
    let claims = usize::from(protocol >= 2);
    raw.say(word("hello"));
    let mut welcome = raw.hear().unwrap();
    assert_eq!(welcome.word(), "welcome");
    assert_eq!((&welcome.value["protocol"], welcome.descriptors.len()), (&protocol.into(), sockets + claims));
    (0..claims).for_each(|_| assert!(is_taken(welcome.descriptors.pop_back().unwrap())));
    raw.say(word("serving"));
    let mut passports = Vec::new();
    while passports.len() < tunnels {
        let mut batch = raw.hear().unwrap();
        loop {
            assert_eq!(batch.word(), "tunnels");
            let count = batch.value["passports"].as_array().unwrap().len();
            assert_eq!(batch.descriptors.len(), 2 * count + claims);
            raw.say(numbered(word("ready"), &batch.value));
            let next = raw.hear().unwrap();
            if next.word() == "commit" {
                break;
            }
            // Whoever was ready too late is offered the batch again.
            batch = next;
        }
        if (0..claims).all(|_| is_taken(batch.descriptors.pop_back().unwrap())) {
            passports.extend(batch.value["passports"].as_array().unwrap().iter().cloned());
            raw.say(numbered(word("taken"), &batch.value));
        } else {
            raw.say(numbered(word("late"), &batch.value));
        }
    }
    assert_eq!(raw.hear().unwrap().word(), "done");
    passports
}

/// Takes a claim; `false` where the predecessor has taken it back.
fn is_taken(claim: OwnedFd) -> bool {
    let mut token = [0; 8];
    match std::fs::File::from(claim).read(&mut token) {
        Ok(read) => assert_eq!((read, u64::from_ne_bytes(token)), (8, 1)),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            return false;
        }
    }
    true
}

/// An answer about this batch, where batches have numbers.
fn numbered(mut answer: Value, batch: &Value) -> Value {
    if let Some(number) = answer.get_mut("batch") {
        *number = batch["batch"].clone();
    }
    answer
}

#[tokio::test]
async fn a_successor_of_protocol_2_is_understood_and_is_given_what_it_knows() {
    let lab = Lab::start().await;
    let mut gateway = lab.gateway("    affinity: [client_ip]\n").await;
    let mut tunnels = open_several(gateway.address(), 3).await;
    all_echo(&mut tunnels).await;
    let door = gateway.dir.path().join("upgrade.sock");
    let passports = blocking(move || take_over(Raw::connect(&door), 2, 2, 3)).await;
    assert_eq!(gateway.ended().await, Some(0));
    for passport in &passports {
        lacks_nothing(&word_of(2, "tunnels")["passports"][0], passport, "passport");
    }
}

#[tokio::test]
async fn a_successor_of_protocol_1_is_understood_and_is_given_what_it_knows() {
    let lab = Lab::start().await;
    let mut gateway = lab.gateway("    affinity: [client_ip]\n").await;
    let mut tunnels = open_several(gateway.address(), 3).await;
    all_echo(&mut tunnels).await;
    let door = gateway.dir.path().join("upgrade.sock");
    let passports = blocking(move || take_over(Raw::connect(&door), 1, 2, 3)).await;
    assert_eq!(gateway.ended().await, Some(0));
    // Every field that the first release wrote is one that it cannot do without.
    for passport in &passports {
        lacks_nothing(&word("tunnels")["passports"][0], passport, "passport");
    }
}

/// Tells whether `given` has every key of `known`, at every depth.
fn lacks_nothing(known: &Value, given: &Value, at: &str) {
    match (known, given) {
        (Value::Object(known), Value::Object(given)) => {
            for (key, value) in known {
                // An enum's variant is a key too.
                if !["due"].contains(&key.as_str()) {
                    lacks_nothing(value, given.get(key).unwrap_or_else(|| panic!("{at} has no {key}")), key);
                }
            }
        }
        (Value::Array(known), Value::Array(given)) => {
            known.iter().zip(given).for_each(|(known, given)| lacks_nothing(known, given, at));
        }
        _ => {}
    }
}

#[tokio::test]
async fn tunnels_of_protocol_1_go_on_where_they_stood() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let lab = Lab::start().await;
    let yaml = config(&[lab.address()], "").replace("{dir}", dir.path().to_str().unwrap());
    std::fs::write(dir.path().join("longhaul.yaml"), yaml).unwrap();
    let knocked = UnixListener::bind(dir.path().join("upgrade.sock")).unwrap();
    let new = Gateway::begin(Arc::clone(&dir), &["-u"], &[]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let ends = blocking(move || hand_over(&knocked, &listener)).await;
    let new = ready(new.listening().await).await;
    assert_eq!(new.address(), address, "the listener is the predecessor's");
    assert_eq!(get(address).await, lab.address());

    let [kept, due, planned] = ends.map(|ends| ends.map(|end| tokio::net::TcpStream::from_std(end).unwrap()));
    kept_bytes_are_written_first(kept).await;
    let end = new.access.find(&[" tunnel_end ", "request_id=00000000000000000000000000000001 "]).await;
    for part in [
        "client=203.0.113.7 peer=127.0.0.1:50001 scheme=http route=\"chat.example.com /ws\" upstream=u",
        "backend=127.0.0.1:9001",
        "key_source=cookie key=01234567",
        "bytes_from_client=34 bytes_from_backend=1011 messages_from_client=3 messages_from_backend=8",
        "close_code=1006 by=client reason=client_gone",
    ] {
        assert!(end.contains(part), "{part} is not in {end}");
    }
    let lasted = end.split_once("duration_ms=").unwrap().1.split(' ').next().unwrap().parse::<u64>().unwrap();
    assert!(lasted >= 3_600_000, "it was opened an hour before: {end}");

    the_close_that_is_due_comes_at_the_boundary(due).await;
    new.access.find(&[" tunnel_end ", "request_id=00000000000000000000000000000002 ", "reason=idle"]).await;
    the_planned_end_comes(planned).await;
    new.access.find(&[" tunnel_end ", "request_id=00000000000000000000000000000003 ", "reason=backend_down"]).await;
}

/// A predecessor of the first release, with three tunnels; the far ends of their connections, the client's first.
fn hand_over(knocked: &UnixListener, listener: &TcpListener) -> [[TcpStream; 2]; 3] {
    let mut raw = Raw::of(knocked.accept().unwrap().0);
    let hello = raw.hear().unwrap();
    assert_eq!((hello.word(), &hello.value["oldest"]), ("hello", &1.into()), "protocol 1 is spoken still");
    raw.try_say(&word("welcome"), &[listener.as_fd()]).unwrap();
    assert_eq!(raw.hear().unwrap().word(), "serving");
    let pairs = [(); 3].map(|()| [(); 2].map(|()| connected()));
    let near: Vec<_> = pairs.iter().flatten().map(|(near, _)| near.as_fd()).collect();
    raw.try_say(&word("tunnels"), &near).unwrap();
    assert_eq!(raw.hear().unwrap().word(), "ready");
    raw.say(word("commit"));
    assert_eq!(raw.hear().unwrap().word(), "taken");
    raw.say(word("done"));
    pairs.map(|pair| pair.map(|(_, far)| far))
}

#[tokio::test]
async fn tunnels_of_protocol_2_go_on_where_they_stood() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let lab = Lab::start().await;
    let yaml = config(&[lab.address()], "").replace("{dir}", dir.path().to_str().unwrap());
    std::fs::write(dir.path().join("longhaul.yaml"), yaml).unwrap();
    let knocked = UnixListener::bind(dir.path().join("upgrade.sock")).unwrap();
    let new = Gateway::begin(Arc::clone(&dir), &["-u"], &[]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let ends = blocking(move || hand_over_claimed(&knocked, &listener)).await;
    let new = ready(new.listening().await).await;
    let [mut client, mut backend] = ends.map(|end| tokio::net::TcpStream::from_std(end).unwrap());
    client.write_all(b"rest!").await.unwrap();
    let mut rest = [0; 5];
    within("the frame's rest", tokio::io::AsyncReadExt::read_exact(&mut backend, &mut rest)).await.unwrap();
    assert_eq!(&rest, b"rest!");
    backend.write_all(&frame(BINARY, b"later", false)).await.unwrap();
    assert_eq!(received(&mut client).await, Frame { first: BINARY, payload: b"kept".into() });
    assert_eq!(received(&mut client).await, Frame { first: BINARY, payload: b"later".into() });
    drop((client, backend));
    let end = new.access.find(&[" tunnel_end ", "request_id=00000000000000000000000000000001 "]).await;
    let who = "client=203.0.113.7 peer=127.0.0.1:50001 scheme=http route=\"chat.example.com /ws\" upstream=u";
    assert!(end.contains(who), "{end}");
}

/// A predecessor of protocol 2, with one tunnel; the far ends of its connections, the client's first.
fn hand_over_claimed(knocked: &UnixListener, listener: &TcpListener) -> [TcpStream; 2] {
    let token = || rustix::event::eventfd(1, rustix::event::EventfdFlags::NONBLOCK).unwrap();
    let (entry, claim) = (token(), token());
    let mut raw = Raw::of(knocked.accept().unwrap().0);
    assert_eq!(raw.hear().unwrap().word(), "hello");
    raw.try_say(&word_of(2, "welcome"), &[listener.as_fd(), entry.as_fd()]).unwrap();
    assert_eq!(raw.hear().unwrap().word(), "serving");
    let pair = [(); 2].map(|()| connected());
    let [client, backend] = pair.each_ref().map(|(near, _)| near.as_fd());
    raw.try_say(&word_of(2, "tunnels"), &[client, backend, claim.as_fd()]).unwrap();
    assert_eq!(raw.hear().unwrap().value, word_of(2, "ready"));
    raw.say(word_of(2, "commit"));
    assert_eq!(raw.hear().unwrap().value, word_of(2, "taken"));
    raw.say(word_of(2, "done"));
    pair.map(|(_, far)| far)
}

/// Two ends of a connection, both non-blocking.
fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap() as SocketAddr).unwrap();
    let (far, _) = listener.accept().unwrap();
    for end in [&near, &far] {
        end.set_nonblocking(true).unwrap();
    }
    (near, far)
}

/// The client has half closed; the backend's message is passed on in part, and the rest of it is kept.
async fn kept_bytes_are_written_first([mut client, mut backend]: [tokio::net::TcpStream; 2]) {
    backend.write_all(&frame(BINARY, b"later", false)).await.unwrap();
    assert_eq!(received(&mut client).await, Frame { first: BINARY, payload: b"kept".into() });
    assert_eq!(received(&mut client).await, Frame { first: BINARY, payload: b"later".into() });
    drop(backend);
}

/// The client is inside a frame when the idle limit is reached.
async fn the_close_that_is_due_comes_at_the_boundary([mut client, mut backend]: [tokio::net::TcpStream; 2]) {
    client.write_all(b"rest!").await.unwrap();
    let mut rest = [0; 5];
    within("the frame's rest", tokio::io::AsyncReadExt::read_exact(&mut backend, &mut rest)).await.unwrap();
    assert_eq!(&rest, b"rest!");
    assert_eq!(received(&mut backend).await.code(), 1001);
    for (stream, masked) in [(&mut client, true), (&mut backend, false)] {
        stream.write_all(&frame(CLOSE, &1001u16.to_be_bytes(), masked)).await.unwrap();
    }
}

/// The backend had gone down a moment before.
async fn the_planned_end_comes(ends: [tokio::net::TcpStream; 2]) {
    for (mut stream, masked) in ends.into_iter().zip([true, false]) {
        assert_eq!(received(&mut stream).await.code(), 1012);
        stream.write_all(&frame(CLOSE, &1012u16.to_be_bytes(), masked)).await.unwrap();
    }
}

async fn received(stream: &mut tokio::net::TcpStream) -> Frame {
    within("a frame", read_frame(stream)).await.unwrap()
}

/// Writes the conversation of today's release with a successor of protocol 2, as an example of a fixture:
/// `RECORD=folder cargo test … -- --ignored record`.
#[tokio::test]
#[ignore = "records a conversation"]
async fn record() {
    let Some(folder) = std::env::var_os("RECORD").map(PathBuf::from) else { return };
    let lab = Lab::start().await;
    let gateway = lab
        .gateway("    affinity: [client_ip]\n    tunnel: { idle: 1h, max_age: 1d, ping: 30s, max_message: 1MiB }\n")
        .await;
    let mut tunnels = open_several(gateway.address(), 1).await;
    all_echo(&mut tunnels).await;
    let door = gateway.dir.path().join("upgrade.sock");
    blocking(move || {
        let mut raw = Raw::connect(&door);
        raw.say(word_of(2, "hello"));
        let mut welcome = raw.hear().unwrap();
        assert!(is_taken(welcome.descriptors.pop_back().unwrap()));
        raw.say(word("serving"));
        let tunnels = raw.hear().unwrap();
        for said in [welcome, tunnels] {
            let text = serde_json::to_string_pretty(&said.value).unwrap();
            std::fs::write(folder.join(format!("{}.json", said.word())), text).unwrap();
        }
    })
    .await;
}
