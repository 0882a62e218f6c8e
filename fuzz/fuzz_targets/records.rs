//! The record layer against a peer that may send anything, cut anywhere: nothing panics, data that was sealed is opened
//! once and in order, and nothing else is ever taken for data.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhaul::tls::record::{RecordState, Records};

fuzz_target!(|input: &[u8]| {
    let [choice, steps @ ..] = input else { return };
    let (version, cipher, length) = CIPHERS[usize::from(choice >> 1) % CIPHERS.len()];
    let roles = if choice & 1 == 0 { ["Server", "Client"] } else { ["Client", "Server"] };
    let [mut ours, mut peers] = [(0, 1), (1, 0)].map(|(sealing, opening)| {
        let role = roles[sealing];
        let keys = |number: usize| {
            let secret = KEYS[number * 2 + usize::from(length == 48)];
            let secret = if version == "Tls12" { IVED[usize::from(length == 32)] } else { secret };
            let iv = if version == "Tls12" { r#","iv":"AAECAwQFBgcICQoL""# } else { "" };
            format!(r#"{{"secret":"{secret}","sequence":{number}{iv}}}"#)
        };
        let text = format!(
            r#"{{"version":"{version}","role":"{role}","cipher":"{cipher}","sealing":{},"opening":{},
                "owed":"Nothing","fruitless":0}}"#,
            keys(sealing),
            keys(opening)
        );
        Records::resume(serde_json::from_str::<RecordState>(&text).expect("a state of ours")).expect("keys that fit")
    });
    let (mut waiting, mut sent, mut heard) = (Vec::new(), Vec::new(), Vec::new());
    let mut clean = true;
    for step in steps.chunks(16) {
        let mut sealed = vec![0; 20_000];
        match step[0] % 4 {
            // Records of the peer's, as they are.
            0 | 1 => {
                let data = step.repeat(1 + usize::from(step[0]));
                let done = peers.seal(&data, &mut sealed).expect("keys that are young");
                waiting.extend_from_slice(&sealed[..done.written]);
                sent.extend_from_slice(&data[..done.taken]);
            }
            // A record with a bit turned.
            2 => {
                let done = peers.seal(step, &mut sealed).expect("keys that are young");
                let at = usize::from(*step.last().unwrap_or(&0)) % done.written;
                sealed[at] ^= 1 << (step[0] >> 2) % 8;
                waiting.extend_from_slice(&sealed[..done.written]);
                clean = false;
            }
            // Anything.
            _ => {
                waiting.extend_from_slice(&step[1..]);
                clean &= step.len() == 1;
            }
        }
        // As much of it as has come by now.
        let came = if step[0] & 64 == 0 { waiting.len() } else { waiting.len() / 2 };
        let mut data = vec![0; came];
        let opened = ours.open(&waiting[..came], &mut data);
        assert!(opened.consumed <= came && opened.produced <= opened.consumed);
        heard.extend_from_slice(&data[..opened.produced]);
        assert!(sent.starts_with(&heard), "something was heard that was not said");
        assert!(!clean || opened.end.is_none(), "a peer that did nothing wrong was refused");
        if opened.end.is_some() {
            return;
        }
        waiting.drain(..opened.consumed);
    }
    if clean {
        let mut data = vec![0; waiting.len()];
        let opened = ours.open(&waiting, &mut data);
        heard.extend_from_slice(&data[..opened.produced]);
        assert_eq!(heard, sent);
    }
});

/// Version, cipher, and length of the secret or key.
const CIPHERS: [(&str, &str, usize); 6] = [
    ("Tls13", "Aes128Gcm", 32),
    ("Tls13", "Aes256Gcm", 48),
    ("Tls13", "Chacha20Poly1305", 32),
    ("Tls12", "Aes128Gcm", 16),
    ("Tls12", "Aes256Gcm", 32),
    ("Tls12", "Chacha20Poly1305", 32),
];

/// Secrets of 32 and 48 bytes, for either direction.
const KEYS: [&str; 4] = [
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
    "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB",
];

/// Keys of 16 and 32 bytes, the same for both directions.
const IVED: [&str; 2] = ["AAAAAAAAAAAAAAAAAAAAAA==", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="];
