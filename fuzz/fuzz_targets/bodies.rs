//! Bodies in chunks: what is left of one does not depend on its cuts, holds the same data, and is read in one way by a
//! strict reader and by a careless one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhaul::http1::FramingError;
use longhaul::http1::chunks::Chunks;
use longhaul_fuzz::{Input, pieces};

fuzz_target!(|input: &[u8]| {
    let Some(input) = Input::read(input) else { return };
    let at_once = follow(input.bytes, [0; 3]);
    assert_eq!(follow(input.bytes, input.plan), at_once);
    assert_eq!(follow(input.bytes, [1; 3]), at_once);
    let Ok(Followed { left, read, is_over }) = at_once else { return };
    assert!(read <= input.bytes.len() && left.len() <= read);
    if !is_over {
        assert_eq!(read, input.bytes.len());
        return;
    }
    let (data, length) = strict(&left).expect("what is left is a body without extensions and trailers");
    assert_eq!(length, left.len());
    assert_eq!(careless(&left), Some(data.clone()));
    assert_eq!(careless(&input.bytes[..read]), Some(data), "the data that came is the data that is left");
    assert_eq!(follow(&left, input.plan), Ok(Followed { read: left.len(), left, is_over: true }));
});

#[derive(Debug, PartialEq, Eq)]
struct Followed {
    left: Vec<u8>,
    read: usize,
    is_over: bool,
}

/// Follows a body in pieces. Bytes behind it are another request's.
fn follow(bytes: &[u8], plan: [u8; 3]) -> Result<Followed, FramingError> {
    let (mut chunks, mut left, mut read) = (Chunks::default(), Vec::new(), 0);
    for piece in pieces(bytes, plan) {
        let mut piece = piece.to_vec();
        let taken = chunks.follow(&mut piece)?;
        assert!(taken.kept <= taken.read && taken.read <= piece.len());
        left.extend_from_slice(&piece[..taken.kept]);
        read += taken.read;
        if chunks.is_over() {
            break;
        }
        assert_eq!(taken.read, piece.len());
    }
    Ok(Followed { left, read, is_over: chunks.is_over() })
}

/// The data of a body, and its length, by the letter of RFC 9112 §7.1 without extensions and trailers.
fn strict(mut bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (whole, mut data) = (bytes.len(), Vec::new());
    loop {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
        let digits = std::str::from_utf8(&bytes[..end]).ok()?;
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let size = usize::from_str_radix(digits, 16).ok()?;
        bytes = &bytes[end + 2..];
        let chunk = bytes.get(..size)?;
        bytes = bytes[size..].strip_prefix(b"\r\n")?;
        if size == 0 {
            return Some((data, whole - bytes.len()));
        }
        data.extend_from_slice(chunk);
    }
}

/// The data of a body as a program reads it that ends lines at a line feed, takes the digits that a line begins with,
/// and looks at nothing else.
fn careless(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let digits = bytes[..end].iter().take_while(|digit| digit.is_ascii_hexdigit()).count();
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..digits]).ok()?, 16).ok()?;
        if size == 0 {
            return Some(data);
        }
        bytes = &bytes[end + 1..];
        data.extend_from_slice(bytes.get(..size)?);
        let rest = &bytes[size..];
        bytes = &rest[rest.iter().position(|byte| *byte == b'\n')? + 1..];
    }
}
