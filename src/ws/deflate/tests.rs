//! permessage-deflate: what is agreed, and messages to and fro.

use super::*;

#[test]
fn a_message_comes_back_as_it_was() {
    let mut codec = Codec::new();
    for length in [0, 1, 5, 300, 70_000] {
        let message: Vec<u8> = (0..length).map(|at: u32| (at % 251 * at % 13) as u8).collect();
        let payload = codec.deflate(&message);
        assert_eq!(codec.inflate(&payload, u64::from(length)), Ok(message));
    }
}
