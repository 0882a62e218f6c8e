//! Session cookies that a backend makes: a place on the ring travels before the application's value.
//!
//! The value of such a cookie cannot be the key: the backend that makes it was picked before it existed. On the way out
//! `Set-Cookie: JSESSIONID=abc` becomes `JSESSIONID=hLoKjMnHi~abc` (HAProxy: `cookie … prefix`). On the way in the nine
//! letters are the key, and the application gets `JSESSIONID=abc`, as if no gateway were there.
//!
//! The letters have the CRC-32 of a place on the ring, and the ring looks at nothing else of a key. The place is one of
//! the points of the backend that begins the session, so that the session stays there whatever other backends do, also
//! where that backend was not the first choice of the key that picked it.

use http::HeaderMap;
use http::header::{COOKIE, HeaderValue, SET_COOKIE};

use super::read;
use crate::config::AffinitySource;
use crate::http1::HeaderFields;

/// A place on the ring, in letters.
pub type RingPlace = [u8; LETTERS];

/// Letters of a place.
const LETTERS: usize = 9;
/// Character between the place and the application's value (RFC 6265 §4.1.1 allows it in a cookie).
const END: u8 = b'~';
/// A letter of places; the others differ from it in some of [`BITS`]: `H` to `O` and `h` to `o`.
const FIRST: u8 = b'H';
const BITS: [u8; 4] = [0x01, 0x02, 0x04, 0x20];

/// Names of the cookies in `sources` that are born on the backend.
pub fn names(sources: &[AffinitySource]) -> impl Iterator<Item = &str> + Clone {
    sources.iter().filter_map(|source| match source {
        AffinitySource::BackendCookie(name) => Some(name.as_str()),
        _ => None,
    })
}

/// Nine letters that stand at a place on the ring: their CRC-32 is `hash`.
pub fn place(hash: u32) -> RingPlace {
    let mut letters = [FIRST; LETTERS];
    let mut left = hash ^ const { crc32(&[FIRST; LETTERS]) };
    let mut flips = 0;
    for (image, flipped) in BASIS.iter().rev() {
        if left.leading_zeros() == image.leading_zeros() {
            left ^= image;
            flips ^= flipped;
        }
    }
    for (index, letter) in letters.iter_mut().enumerate() {
        for (bit, mask) in BITS.iter().enumerate() {
            if flips >> (BITS.len() * index + bit) & 1 == 1 {
                *letter ^= mask;
            }
        }
    }
    letters
}

/// Puts `place` before the value of each cookie of `names` that an answer sets.
pub fn mark<'n>(answer: &mut HeaderMap, names: impl Iterator<Item = &'n str> + Clone, place: &RingPlace) {
    if names.clone().next().is_none() || !answer.contains_key(SET_COOKIE) {
        return;
    }
    for (_, line) in answer.iter_mut().filter(|(name, _)| *name == SET_COOKIE) {
        if let Some(marked) = marked(line.as_bytes(), names.clone(), place) {
            *line = marked;
        }
    }
}

/// Takes the places off the cookies of `names`, so that the application gets the values it made.
pub fn unmark<'n>(request: &mut HeaderMap, names: impl Iterator<Item = &'n str> + Clone) {
    if names.clone().next().is_none() || !request.contains_key(COOKIE) {
        return;
    }
    for (_, line) in request.iter_mut().filter(|(name, _)| *name == COOKIE) {
        if let Some(unmarked) = unmarked(line.as_bytes(), names.clone()) {
            *line = unmarked;
        }
    }
}

/// The `Set-Cookie` value `line` with `place` before its value; `None` where it is to stay as it is: it sets
/// another cookie, or deletes this one.
pub fn marked<'n>(line: &[u8], mut names: impl Iterator<Item = &'n str>, place: &RingPlace) -> Option<HeaderValue> {
    let pair = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let value = names.find_map(|name| read::value_of(pair, name))?;
    if value == b"\"\"" || deletes(&line[pair.len()..]) {
        return None;
    }
    let before = pair.len() - value.len();
    let marked = [&line[..before], place, &[END], &line[before..]].concat();
    HeaderValue::from_bytes(&marked).ok()
}

/// The `Cookie` value `line` without the places before the values of `names`; `None` where there is none.
pub fn unmarked<'n>(line: &[u8], names: impl Iterator<Item = &'n str> + Clone) -> Option<HeaderValue> {
    let mut without = Vec::with_capacity(line.len());
    for (index, pair) in line.split(|byte| *byte == b';').enumerate() {
        if index > 0 {
            without.push(b';');
        }
        let value = names.clone().find_map(|name| read::value_of(pair, name));
        match value.and_then(split) {
            Some((_, of_the_application)) => {
                without.extend_from_slice(&pair[..pair.len() - value.unwrap_or_default().len()]);
                without.extend_from_slice(of_the_application);
            }
            None => without.extend_from_slice(pair),
        }
    }
    if without.len() == line.len() { None } else { HeaderValue::from_bytes(&without).ok() }
}

/// The place in the first cookie of this name that has one.
pub(super) fn key(headers: &(impl HeaderFields + ?Sized), name: &str) -> Option<Vec<u8>> {
    read::cookies(headers, name).find_map(|value| split(value).map(|(place, _)| place.to_vec()))
}

/// The place and the application's value; `None` for a value without a place.
fn split(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let (letters, rest) = value.split_at_checked(LETTERS)?;
    let rest = rest.strip_prefix(&[END])?;
    (place(crc32fast::hash(letters)) == letters).then_some((letters, rest))
}

/// Tells whether the attributes of a `Set-Cookie` value delete the cookie: by `Max-Age` 0 or below, or by `Expires` in
/// the first year of Unix time, which is the date that applications write.
fn deletes(attributes: &[u8]) -> bool {
    attributes.split(|byte| *byte == b';').any(|attribute| {
        let Some(equals) = attribute.iter().position(|byte| *byte == b'=') else { return false };
        let (name, value) = (attribute[..equals].trim_ascii(), attribute[equals + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"max-age") {
            return value.starts_with(b"-") || !value.is_empty() && value.iter().all(|digit| *digit == b'0');
        }
        let epoch = |form: &[u8]| value.windows(form.len()).any(|window| window.eq_ignore_ascii_case(form));
        name.eq_ignore_ascii_case(b"expires") && (epoch(b"Jan 1970") || epoch(b"Jan-1970") || epoch(b"Jan-70"))
    })
}

/// Flips of letters' bits by their effect on the CRC-32, one whose highest effect is each bit. CRC-32 is affine, so the
/// 36 bits of nine letters reach all 2³² values; eight letters of this alphabet would not.
const BASIS: [(u32, u64); 32] = basis();

const fn basis() -> [(u32, u64); 32] {
    let mut basis = [(0, 0); 32];
    let none = crc32(&[FIRST; LETTERS]);
    let mut bit = 0;
    while bit < LETTERS * BITS.len() {
        let mut text = [FIRST; LETTERS];
        text[bit / BITS.len()] ^= BITS[bit % BITS.len()];
        let (mut image, mut flips) = (crc32(&text) ^ none, 1 << bit);
        while image != 0 {
            let top = image.ilog2() as usize;
            if basis[top].0 == 0 {
                basis[top] = (image, flips);
                break;
            }
            image ^= basis[top].0;
            flips ^= basis[top].1;
        }
        bit += 1;
    }
    basis
}

/// CRC-32 (IEEE 802.3) at compile time.
const fn crc32(text: &[u8; LETTERS]) -> u32 {
    let mut crc = !0;
    let mut index = 0;
    while index < LETTERS {
        crc ^= text[index] as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        index += 1;
    }
    !crc
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn out(line: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.append(SET_COOKIE, line.parse().unwrap());
        mark(&mut headers, ["sid", "JSESSIONID"].into_iter(), &place(7));
        headers[SET_COOKIE].to_str().unwrap().to_owned()
    }

    fn back(line: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, line.parse().unwrap());
        unmark(&mut headers, ["sid", "JSESSIONID"].into_iter());
        headers[COOKIE].to_str().unwrap().to_owned()
    }

    fn place_text() -> String {
        String::from_utf8(place(7).to_vec()).unwrap()
    }

    #[test]
    fn a_session_goes_out_with_its_place_and_comes_back_without() {
        let place = place_text();
        assert_eq!(out("JSESSIONID=abc; Path=/; HttpOnly"), format!("JSESSIONID={place}~abc; Path=/; HttpOnly"));
        assert_eq!(out("sid=s%3Aabc.d~e"), format!("sid={place}~s%3Aabc.d~e"));
        assert_eq!(out("sid = \"a b\" ;Path=/"), format!("sid = {place}~\"a b\" ;Path=/"));
        assert_eq!(back(&format!("a=b; JSESSIONID={place}~abc; c=d")), "a=b; JSESSIONID=abc; c=d");
        assert_eq!(back(&format!("sid={place}~s%3Aabc.d~e;JSESSIONID={place}~1")), "sid=s%3Aabc.d~e;JSESSIONID=1");
    }

    #[test]
    fn other_cookies_and_deletions_go_out_as_they_are() {
        for line in [
            "JSESSIONIDX=abc",
            "jsessionid=abc",
            "JSESSIONID=",
            "JSESSIONID=\"\"; Path=/",
            "JSESSIONID=deleted; Max-Age=0",
            "JSESSIONID=x; max-age = -1; Path=/",
            "JSESSIONID=x; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
            "JSESSIONID=x; expires=Thu, 01-Jan-1970 00:00:01 GMT",
            "JSESSIONID",
        ] {
            assert_eq!(out(line), line);
        }
        assert_ne!(out("JSESSIONID=x; Max-Age=3600; Expires=Fri, 01 Jan 2100 00:00:00 GMT"), "JSESSIONID=x");
    }

    #[test]
    fn a_value_without_a_place_comes_back_as_it_is() {
        let place = place_text();
        for line in [
            "JSESSIONID=dummy".to_owned(),
            "JSESSIONID=abcdefghi~x".to_owned(),
            format!("other={place}~abc"),
            format!("JSESSIONID={place}"),
            format!("JSESSIONID=x{place}~abc"),
            format!("JSESSIONID={}~abc", place.to_lowercase()),
            "JSESSIONID=; sid".to_owned(),
        ] {
            assert_eq!(back(&line), line);
        }
    }

    #[test]
    fn gateways_behind_each_other_take_off_one_place_each() {
        let place = place_text();
        let twice = out(&out("sid=abc"));
        assert_eq!(twice, format!("sid={place}~{place}~abc"));
        assert_eq!(back(&back(&twice)), "sid=abc");
    }

    proptest! {
        #[test]
        fn every_place_has_its_letters(hash in any::<u32>()) {
            let letters = place(hash);
            prop_assert_eq!(crc32fast::hash(&letters), hash);
            prop_assert!(letters.iter().all(|letter| b"HIJKLMNOhijklmno".contains(letter)));
        }

        #[test]
        fn whatever_goes_out_comes_back_as_it_was(value in "[!#-+\\--:<-\\[\\]-~]{1,60}", hash in any::<u32>()) {
            let line = format!("sid={value}");
            let marked = marked(line.as_bytes(), ["sid"].into_iter(), &place(hash)).unwrap();
            let unmarked = unmarked(marked.as_bytes(), ["sid"].into_iter()).unwrap();
            prop_assert_eq!(unmarked.as_bytes(), line.as_bytes());
        }
    }
}
