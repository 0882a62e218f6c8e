//! Id of the request that opened a tunnel, in little room.

use std::fmt::{self, Display, Formatter};

/// The id of a request: any text, in 16 bytes where it is one that a gateway made, 128 bits in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Kept);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    Bits([u8; 16]),
    Text(Box<str>),
}

impl RequestId {
    /// A new id.
    pub fn random() -> Self {
        Self(Kept::Bits(rand::random()))
    }

    /// The id as text.
    pub fn text(&self) -> Box<str> {
        match &self.0 {
            Kept::Bits(bits) => as_str(&digits(bits)).into(),
            Kept::Text(text) => text.clone(),
        }
    }
}

impl From<&str> for RequestId {
    fn from(text: &str) -> Self {
        Self(bits(text).map_or_else(|| Kept::Text(text.into()), Kept::Bits))
    }
}

impl Display for RequestId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kept::Bits(bits) => f.write_str(as_str(&digits(bits))),
            Kept::Text(text) => f.write_str(text),
        }
    }
}

/// The bits that 32 digits in lower case stand for.
fn bits(text: &str) -> Option<[u8; 16]> {
    let text: &[u8; 32] = text.as_bytes().try_into().ok()?;
    let (mut bits, mut all) = ([0; 16], 0);
    for (byte, pair) in bits.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = [VALUES[usize::from(pair[0])], VALUES[usize::from(pair[1])]];
        *byte = high << 4 | low;
        all |= high | low;
    }
    (all < 16).then_some(bits)
}

fn digits(bits: &[u8; 16]) -> [u8; 32] {
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bits) {
        (pair[0], pair[1]) = (DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]);
    }
    digits
}

fn as_str(digits: &[u8; 32]) -> &str {
    std::str::from_utf8(digits).expect("digits are text")
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";
/// The value of each digit; 255 of what is none.
const VALUES: [u8; 256] = {
    let mut values = [u8::MAX; 256];
    let mut value = 0;
    while value < DIGITS.len() {
        values[DIGITS[value] as usize] = value as u8;
        value += 1;
    }
    values
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_reads_as_it_came_and_those_of_gateways_are_kept_as_bits() {
        let made = "b59dec5f45a89037e17f804c2677afe9";
        let given = ["", "r-1", "B59dec5f45a89037e17f804c2677afe9", &made[1..], "g59dec5f45a89037e17f804c2677afe9"];
        for (text, as_bits) in given.map(|text| (text, false)).into_iter().chain([(made, true)]) {
            let id = RequestId::from(text);
            assert_eq!((id.to_string().as_str(), &*id.text()), (text, text));
            assert_eq!(matches!(id.0, Kept::Bits(_)), as_bits, "{text}");
        }
    }
}
