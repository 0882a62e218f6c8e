//! Passports of tunnels: one that is read says the same when it is written, and a tunnel that is made of it can be
//! driven, whatever it says. Files of recorded conversations are changed here and there.
//!
//! The first byte chooses a recorded passport. Each four bytes behind it are a change: a place, what is put there, and
//! a number.
#![no_main]

use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use longhaul::access_log::AccessLog;
use longhaul::metrics::{Metrics, UpstreamMetrics};
use longhaul::tunnel::{Passport, Surroundings, Tunnels};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

fuzz_target!(|input: &[u8]| {
    let Some((choice, changes)) = input.split_first() else { return };
    let mut value = RECORDED[usize::from(*choice) % RECORDED.len()].clone();
    changes.chunks_exact(4).take(16).for_each(|change| apply(&mut value, change));
    let Ok(passport) = serde_json::from_value::<Passport>(value) else { return };
    let written = serde_json::to_value(&passport).expect("a passport is text, numbers and bytes");
    let again: Passport = serde_json::from_value(written.clone()).expect("a passport of ours");
    assert_eq!(serde_json::to_value(&again).expect("as before"), written);
    drive(passport);
});

/// Puts another value at one of the places of a value.
fn apply(value: &mut Value, change: &[u8]) {
    let &[high, low, kind, number] = change else { return };
    let mut places = Vec::new();
    find_places(value, String::new(), &mut places);
    let place = &places[usize::from(u16::from_be_bytes([high, low])) % places.len()];
    let other = || value.pointer(&places[usize::from(number) % places.len()]).cloned().unwrap_or_default();
    let put = match kind % 12 {
        0 => Value::Null,
        1 => json!(number & 1 == 1),
        2 => json!(number),
        3 => json!(u64::MAX - u64::from(number)),
        4 => json!(u64::from(number) << 32),
        5 => json!(-i64::from(number)),
        6 => json!(WORDS[usize::from(number) % WORDS.len()]),
        7 => json!("A".repeat(4 * usize::from(number))),
        8 => json!([number, number]),
        9 => json!({}),
        10 => json!({ "secs": number, "nanos": 0 }),
        _ => other(),
    };
    if let Some(at) = value.pointer_mut(place) {
        *at = put;
    }
}

/// The pointers to every value inside of a value.
fn find_places(value: &Value, at: String, places: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| find_places(field, format!("{at}/{name}"), places))
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(n, item)| find_places(item, format!("{at}/{n}"), places))
        }
        _ => {}
    }
    places.push(at);
}

/// Makes a tunnel of a passport, sends something from both sides, and ends it. What panics on the worker ends the
/// fuzzer.
fn drive(passport: Passport) {
    let Process { runtime, tunnels, metrics } = &*PROCESS;
    let _entered = runtime.enter();
    // Some tunnels wait for the other side's last word, for seconds.
    let others = wait_until_at_most(LINGERING, Duration::from_secs(10));
    let ((mut client, near), (mut far, at_backend)) = (connected(), connected());
    let place = Surroundings::alone(([127, 0, 0, 1], 9001).into(), Arc::clone(metrics));
    tunnels.thaw(tunnels.adopt(passport, [near.into(), at_backend.into()], place, Instant::now()));
    // Either side may be closed by then.
    let _ = client
        .write_all(b"\x81\x82\0\0\0\0hi\x82\xfe\x00\x80\x01\x02\x03\x04")
        .and_then(|()| client.write_all(&[7; 130]));
    let _ = far.write_all(b"\x81\x02ho\x89\x00\x01\x01a\x80\x01b\x88\x02\x03\xe8");
    let _ = (client.shutdown(Shutdown::Write), far.shutdown(Shutdown::Write));
    drop((client, far));
    wait_until_at_most(others, Duration::from_millis(20));
}

/// Waits until no more tunnels are open, so long at the most; how many are.
fn wait_until_at_most(tunnels: usize, within: Duration) -> usize {
    let until = Instant::now() + within;
    loop {
        let open = PROCESS.tunnels.count();
        if open <= tunnels || Instant::now() > until {
            return open;
        }
        std::thread::yield_now();
    }
}

fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback address");
    let far = TcpStream::connect(listener.local_addr().expect("its address")).expect("it listens");
    let (near, _) = listener.accept().expect("it was connected to");
    near.set_nonblocking(true).expect("a socket");
    (far, near)
}

/// What a tunnel needs around it.
struct Process {
    runtime: Runtime,
    tunnels: Tunnels,
    metrics: Arc<UpstreamMetrics>,
}

static PROCESS: LazyLock<Process> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let entered = runtime.enter();
    let tunnels = Tunnels::start(1, &AccessLog::off()).expect("threads");
    drop(entered);
    Process { runtime, tunnels, metrics: Metrics::new().upstream("u") }
});

/// Recorded passports: of protocol 1 and 2, with TLS on both sides, with hooks, and with bytes that are kept.
static RECORDED: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let mut all = Vec::new();
    for text in
        [include_str!("../../tests/handover/v1/tunnels.json"), include_str!("../../tests/handover/v2/tunnels.json")]
    {
        let batch: Value = serde_json::from_str(text).expect("JSON");
        all.extend(batch["passports"].as_array().expect("a list").iter().cloned());
    }
    let plain = all.last().expect("a passport").clone();
    let mut tls13 = plain.clone();
    tls13["client_tls"] = json!({ "secure": true, "version": "TLSv1.3" });
    tls13["tls"] = json!([stream("Tls13", "Aes128Gcm", false), stream("Tls13", "Chacha20Poly1305", true)]);
    let mut tls12 = plain.clone();
    tls12["tls"] = json!([stream("Tls12", "Aes128Gcm", true), null]);
    let mut hooked = plain;
    hooked["hooks"] = json!({
        "id": 7, "key": null, "contexts": [{ "hook": "h", "data": "AAAA" }], "agreement": null, "last_word": null,
        "ways": [way("client"), way("backend")],
    });
    all.extend([tls13, tls12, hooked]);
    all
});

fn way(sender: &str) -> Value {
    let assembler = json!({
        "sender": sender, "compressed_allowed": true, "max_message": 1_048_576, "at": "header", "held": vec![0; 14],
        "have": 0, "mask": [0, 0, 0, 0], "left": 0, "begun": ["Text", false], "payload": "AAAA", "control": "",
    });
    let mut way = json!({ "assembler": assembler, "held": "gQJo", "seen": 1, "queue": "igA=", "replied": 2 });
    way["assembler"]["begun"] = json!(["text", false]);
    way
}

fn stream(version: &str, cipher: &str, has_more: bool) -> Value {
    let is_old = version == "Tls12";
    let secret = if is_old { "AAAAAAAAAAAAAAAAAAAAAA==" } else { "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" };
    let keys = |sequence: u64| {
        let mut keys = json!({ "secret": secret, "sequence": sequence });
        if is_old {
            keys["iv"] = json!("AAECAwQFBgcICQoL");
        }
        keys
    };
    let records = json!({
        "version": version, "role": "Server", "cipher": cipher, "sealing": keys(3), "opening": keys(5),
        "owed": "Nothing", "fruitless": 0,
    });
    let mut stream = json!({ "records": records });
    if has_more {
        stream["partial"] = json!("FwMDABE=");
        stream["unsent"] = json!("FwMDABEAAAAAAAAAAAAAAAAAAAAAAA==");
        stream["unsent_data"] = json!(1);
    }
    stream
}

/// Most tunnels that are left to end by themselves.
const LINGERING: usize = 300;

const WORDS: [&str; 20] = [
    "header",
    "payload",
    "lost",
    "data",
    "control",
    "end",
    "client",
    "backend",
    "Open",
    "Made",
    "text",
    "binary",
    "close",
    "Server",
    "Client",
    "Nothing",
    "Update",
    "Request",
    "127.0.0.1:0",
    "::1",
];
