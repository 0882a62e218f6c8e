//! Masking of payloads (RFC 6455 §5.3): eight bytes at a time.

/// Masks a payload with `key`, or unmasks it: the two are the same. The first byte meets the key's first.
pub fn apply(payload: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let twice = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ twice).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= mask;
    }
}

/// Appends a payload to `out`, masked or unmasked with `key`.
pub fn append(out: &mut Vec<u8>, payload: &[u8], key: [u8; 4]) {
    let from = out.len();
    out.extend_from_slice(payload);
    apply(&mut out[from..], key);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masked_hello_of_the_rfc() {
        let mut payload = *b"Hello";
        apply(&mut payload, [0x37, 0xFA, 0x21, 0x3D]);
        assert_eq!(payload, [0x7F, 0x9F, 0x4D, 0x51, 0x58]);
    }

    #[test]
    fn every_length_is_masked_as_byte_by_byte() {
        let key = [0x11, 0x22, 0x33, 0x44];
        let plain: Vec<u8> = (0..100).collect();
        for length in 0..=plain.len() {
            let expected: Vec<u8> = plain[..length].iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k).collect();
            let mut out = vec![7];
            append(&mut out, &plain[..length], key);
            assert_eq!((out[0], &out[1..]), (7, &expected[..]));
        }
    }
}
