//! Memory of unfinished messages: what counts, and whom its limits hold back or end.

use std::io::Write;
use std::sync::Arc;

use super::{Lab, PATIENCE, frame, read, text};
use crate::tunnel::Batch;

/// The beginning of a binary message of `whole` bytes.
fn begun(whole: u64, bytes: usize) -> Vec<u8> {
    [&[0x82, 0xFF][..], &whole.to_be_bytes(), &[0; 4], &vec![7; bytes]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_messages_have_a_limit_together_and_the_largest_goes() {
    let lab = Lab::with(1);
    lab.tunnels.limit_hook_memory(300_000);
    let [mut small, mut large, mut idle] = ["small", "large", "idle"].map(|name| lab.open(name, "* /", b""));
    small.client.write_all(&begun(200_000, 40_000)).unwrap();
    large.client.write_all(&begun(400_000, 290_000)).unwrap();
    assert_eq!(frame(&mut large.client), (0x88, b"\x03\xf5hook_memory".to_vec()));
    lab.hook.0.gate.add_permits(2);
    small.client.write_all(&[7; 160_000]).unwrap();
    assert_eq!(read(&mut small.backend, 2), [0x82, 0xFF]);
    idle.client.write_all(&text("a")).unwrap();
    assert_eq!(read(&mut idle.backend, 7)[..2], [0x81, 0x81]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_message_that_a_hook_waits_for_counts_as_kept_until_it_has_passed() {
    let lab = Lab::with(1);
    let mut ends = lab.open("long", "* /", b"");
    lab.hook.0.gate.add_permits(1);
    let kept = || lab.tunnels.metrics().kept().get();
    // Returns between two turns of the worker's.
    let turn = || lab.tunnels.visit(Arc::new(|_| ()));
    ends.client.write_all(&begun(70_000, 4_000)).unwrap();
    let counted = async {
        while kept() < 4_000 {
            turn().await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect("the beginning counts");
    ends.client.write_all(&[7; 66_000]).unwrap();
    assert_eq!(read(&mut ends.backend, 14 + 70_000)[..2], [0x82, 0xFF]);
    turn().await;
    assert_eq!(kept(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_is_held_back_goes_on_where_it_is_taken_on_and_memory_is_not_short() {
    let lab = Lab::with(1);
    lab.tunnels.limit_memory(Some(100_000));
    let mut ends = lab.open("held", "* /", b"");
    lab.hook.0.gate.add_permits(1);
    let kept = || lab.tunnels.metrics().kept().get();
    let turn = || lab.tunnels.visit(Arc::new(|_| ()));
    ends.client.write_all(&begun(200_000, 150_000)).unwrap();
    let pressed = async {
        while kept() <= 110_000 {
            turn().await;
        }
    };
    tokio::time::timeout(PATIENCE, pressed).await.expect("memory to be short");
    ends.client.write_all(&[7; 50_000]).unwrap();
    for _ in 0..10 {
        turn().await;
    }
    assert!(kept() < 200_000, "it is not read to its end");
    let Batch { mut frozen, busy: 0, staying: 0 } = lab.tunnels.freeze(10, true) else { panic!("it can travel") };
    lab.tunnels.limit_memory(None);
    lab.tunnels.thaw(frozen.pop().unwrap());
    assert_eq!(read(&mut ends.backend, 14 + 200_000)[..2], [0x82, 0xFF]);
}
