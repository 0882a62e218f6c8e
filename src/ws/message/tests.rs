//! The assembler against what RFC 6455 forbids, streams cut at random, and another reader of the protocol.

use super::*;

#[test]
fn a_fragmented_message_comes_joined_and_the_ping_between_its_fragments_before_it() {
    let bytes = [&[0x01, 2, b'h', b'e'][..], &[0x89, 1, b'?'], &[0x80, 3, b'l', b'l', b'o']].concat();
    let mut assembler = Assembler::new(Sender::Backend, false, 5);
    let mut chunk = &bytes[..];
    let ping = Item::Control { opcode: Control::Ping, payload: b"?".to_vec() };
    assert_eq!(assembler.next(&mut chunk), Some(Ok(ping)));
    let hello = Assembled { kind: Kind::Text, payload: b"hello".to_vec(), compressed: false };
    assert_eq!(assembler.next(&mut chunk), Some(Ok(Item::Message(hello))));
    assert_eq!((assembler.next(&mut chunk), chunk), (None, &[][..]));
}
