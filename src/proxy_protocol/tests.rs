//! Headers: every cut of each, both versions, and what is no header.

use proptest::prelude::*;
use proxy_header::{ProxyHeader, SslInfo, Tlv};

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn header(bytes: &[u8]) -> ReceivedHeader {
    match read(bytes) {
        Ok(HeaderRead::Header(length, header)) => {
            assert_eq!(length, bytes.len());
            *header
        }
        other => panic!("{other:?}"),
    }
}

/// A header of version 2 with these bytes after the signature and the right length.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, rest].concat()
}

const V4: [u8; 12] = [203, 0, 113, 7, 198, 51, 100, 2, 0x30, 0x39, 0x01, 0xbb];

fn proxied() -> ProxiedConnection {
    ProxiedConnection::Proxied { source: address("203.0.113.7:12345"), destination: address("198.51.100.2:443") }
}

/// Headers, one of each shape.
fn shapes() -> Vec<(Vec<u8>, ProxiedConnection)> {
    let v6 =
        ProxiedConnection::Proxied { source: address("[2001:db8::7]:1"), destination: address("[2001:db8::2]:65535") };
    let mut v6_binary = Vec::new();
    write(ProxyVersion::V2, address("[2001:db8::7]:1"), address("[2001:db8::2]:65535"), &mut v6_binary);
    let longest = format!("PROXY UNKNOWN {} {0} 65535 65535\r\n", ["ffff"; 8].join(":"));
    assert_eq!(longest.len(), 107);
    vec![
        (b"PROXY TCP4 203.0.113.7 198.51.100.2 12345 443\r\n".to_vec(), proxied()),
        (b"PROXY TCP6 2001:db8::7 2001:db8::2 1 65535\r\n".to_vec(), v6),
        (b"PROXY UNKNOWN\r\n".to_vec(), ProxiedConnection::Unknown),
        (longest.into_bytes(), ProxiedConnection::Unknown),
        (v2(0x21, 0x11, &V4), proxied()),
        (v2(0x21, 0x11, &[&V4[..], &[0xe0, 0, 2, 1, 2, 0x04, 0, 0]].concat()), proxied()),
        (v6_binary, v6),
        (v2(0x20, 0x00, b""), ProxiedConnection::Local),
        (v2(0x20, 0x77, b"anything"), ProxiedConnection::Local),
        (v2(0x21, 0x00, b"anything"), ProxiedConnection::Unknown),
        (v2(0x21, 0x12, &V4), ProxiedConnection::Unknown),
        (v2(0x21, 0x31, &[0; 216]), ProxiedConnection::Unknown),
    ]
}

#[test]
fn a_header_is_the_same_wherever_it_is_cut() {
    for (bytes, origin) in shapes() {
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]), Ok(HeaderRead::NeedsMore), "{cut} bytes of {bytes:?}");
        }
        assert_eq!(header(&bytes).origin, origin);
        let behind = [&bytes[..], b"\r\nPROXY GET /"].concat();
        assert_eq!(read(&behind), Ok(HeaderRead::Header(bytes.len(), Box::new(header(&bytes)))));
    }
}

#[test]
fn bytes_of_clients_are_told_from_a_header_by_the_first_that_differs() {
    for bytes in ["GET / HTTP/1.1\r\n", "PROPFIND / HTTP/1.1\r\n", "PROXYING", "\r\nGET", "\x16\x03\x01"] {
        assert_eq!(read(bytes.as_bytes()), Ok(HeaderRead::NotProxy), "{bytes:?}");
    }
    for bytes in ["", "P", "PRO", "\r", "\r\n"] {
        assert_eq!(read(bytes.as_bytes()), Ok(HeaderRead::NeedsMore), "{bytes:?}");
    }
}

#[test]
fn a_header_is_known_by_its_first_bytes_and_no_request_is_taken_for_one() {
    for bytes in ["PROXY TCP4 ", "PROXY ", "\r\n\r\n\0\r\nQUIT\n"] {
        assert!(is_header(bytes.as_bytes()), "{bytes:?}");
    }
    for bytes in ["", "PROXY", "PROPFIND / HTTP/1.1", "\r\n\r\n", "GET / HTTP/1.1"] {
        assert!(!is_header(bytes.as_bytes()), "{bytes:?}");
    }
}

#[test]
fn a_line_that_the_protocol_does_not_write_is_refused() {
    for line in [
        "PROXY \r\n",
        "PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
        "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r \r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY TCP4 \u{ff}.2.3.4 1.2.3.4 1 2\r\n",
    ] {
        assert_eq!(read(line.as_bytes()), Err(ProxyHeaderError::Line), "{line:?}");
    }
    let long = format!("PROXY UNKNOWN {}", "x".repeat(93));
    assert_eq!(read(long.as_bytes()), Err(ProxyHeaderError::TooLong));
    assert_eq!(read(&long.as_bytes()[..106]), Ok(HeaderRead::NeedsMore));
}

#[test]
fn a_binary_header_that_the_protocol_does_not_have_is_refused() {
    use ProxyHeaderError::{Addresses, Checksum, Command, Family, Field, TooLong, Version};
    let field = |bytes: &[u8]| v2(0x21, 0x11, &[&V4[..], bytes].concat());
    for (bytes, error) in [
        (v2(0x11, 0x11, &V4), Version),
        (v2(0x31, 0x11, &V4), Version),
        (v2(0x22, 0x11, &V4), Command),
        (v2(0x21, 0x41, &V4), Family),
        (v2(0x21, 0x13, &V4), Family),
        (v2(0x21, 0x03, &V4), Family),
        (v2(0x21, 0x40, &V4), Family),
        (v2(0x21, 0x11, &V4[..11]), Addresses),
        (v2(0x21, 0x21, &V4), Addresses),
        (v2(0x21, 0x31, &[0; 215]), Addresses),
        (field(&[2]), Field),
        (field(&[3, 0, 4, 0, 0, 0, 0]), Checksum),
        (field(&[3, 0, 3, 0, 0, 0]), Field),
        (field(&[2, 0, 4, b'h']), Field),
        (field(&[2, 0, 1, 0xff]), Field),
        (field(&[0x20, 0, 4, 1, 0, 0, 0]), Field),
        (field(&[&[5, 0, 129][..], &[0; 129]].concat()), Field),
        (v2(0x20, 0x00, &[0; MOST_BYTES - 15]), TooLong),
    ] {
        assert_eq!(read(&bytes), Err(error), "{bytes:?}");
    }
    // The bound is known before the bytes have come.
    assert_eq!(read(&v2(0x20, 0x00, &[0; MOST_BYTES - 15])[..16]), Err(TooLong));
    assert!(matches!(read(&v2(0x20, 0x00, &[0; MOST_BYTES - 16])), Ok(HeaderRead::Header(MOST_BYTES, _))));
}

#[test]
fn fields_are_understood_and_unknown_ones_skipped() {
    let mut ssl = SslInfo::new(true, true, false, 0);
    ssl.append_tlv(Tlv::SslVersion("TLSv1.3".into()));
    ssl.append_tlv(Tlv::SslCipher("x".into()));
    ssl.append_tlv(Tlv::SslCn("mallory".into()));
    let fields = [
        Tlv::Custom(0xea, [1, 2][..].into()),
        Tlv::Authority("chat.example.com".into()),
        Tlv::Ssl(ssl),
        Tlv::UniqueId([7; 128][..].into()),
        Tlv::Authority("second.example.com".into()),
    ];
    let mut bytes = Vec::new();
    let stream = proxy_header::ProxiedAddress::stream(address("203.0.113.7:12345"), address("198.51.100.2:443"));
    ProxyHeader::with_tlvs(Some(stream), fields).encode_v2(&mut bytes).unwrap();
    let header = header(&bytes);
    assert_eq!(header.origin, proxied());
    assert_eq!(header.authority.as_deref(), Some("chat.example.com"));
    assert_eq!(header.unique_id, Some(vec![7; 128]));
    let ssl = header.ssl.unwrap();
    assert_eq!((ssl.tls, ssl.certificate, ssl.verified), (true, true, true));
    assert_eq!((ssl.version.as_deref(), ssl.common_name.as_deref()), (Some("TLSv1.3"), Some("mallory")));
}

#[test]
fn a_checksum_is_verified_wherever_it_stands() {
    // CRC-32C of "123456789" is the check value of RFC 3720's polynomial.
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    for (before, behind) in [(&[][..], &[][..]), (&[4, 0, 1, 0], &[2, 0, 1, b'h'])] {
        let zeros = [&V4[..], before, &[3, 0, 4, 0, 0, 0, 0], behind].concat();
        let at = 16 + V4.len() + before.len() + 3;
        let mut bytes = v2(0x21, 0x11, &zeros);
        let sum = crc32c::crc32c(&bytes).to_be_bytes();
        bytes[at..at + 4].copy_from_slice(&sum);
        assert_eq!(header(&bytes).origin, proxied());
        for changed in [16, at, bytes.len() - 1] {
            let mut bytes = bytes.clone();
            bytes[changed] ^= 1;
            assert_eq!(read(&bytes), Err(ProxyHeaderError::Checksum), "{changed}");
        }
    }
}

#[test]
fn a_client_without_a_certificate_is_not_verified() {
    let bytes = v2(0x21, 0x11, &[&V4[..], &[0x20, 0, 5, 1, 0, 0, 0, 0]].concat());
    let ssl = header(&bytes).ssl.unwrap();
    assert_eq!((ssl.tls, ssl.certificate, ssl.verified), (true, false, false));
}

#[test]
fn headers_are_written_as_the_protocol_has_them() {
    let written = |version, source, destination| {
        let mut out = b"before".to_vec();
        write(version, address(source), address(destination), &mut out);
        out.split_off(6)
    };
    let v1 = |source, destination| String::from_utf8(written(ProxyVersion::V1, source, destination)).unwrap();
    assert_eq!(v1("203.0.113.7:1", "198.51.100.2:443"), "PROXY TCP4 203.0.113.7 198.51.100.2 1 443\r\n");
    assert_eq!(v1("[2001:db8::7]:1", "[::1]:443"), "PROXY TCP6 2001:db8::7 ::1 1 443\r\n");
    assert_eq!(v1("[::ffff:203.0.113.7]:1", "198.51.100.2:443"), "PROXY TCP4 203.0.113.7 198.51.100.2 1 443\r\n");
    assert_eq!(v1("203.0.113.7:1", "[::1]:443"), "PROXY TCP6 ::ffff:203.0.113.7 ::1 1 443\r\n");
    assert_eq!(written(ProxyVersion::V2, "203.0.113.7:12345", "198.51.100.2:443"), v2(0x21, 0x11, &V4));
    let local = |version| {
        let mut out = Vec::new();
        write_local(version, &mut out);
        out
    };
    assert_eq!(local(ProxyVersion::V1), b"PROXY UNKNOWN\r\n");
    assert_eq!(local(ProxyVersion::V2), v2(0x20, 0x00, b""));
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(source: SocketAddr, destination: SocketAddr, v1: bool) {
        let version = if v1 { ProxyVersion::V1 } else { ProxyVersion::V2 };
        let mut out = Vec::new();
        write(version, source, destination, &mut out);
        let ProxiedConnection::Proxied { source: from, destination: to } = header(&out).origin else { panic!() };
        let canonical = |address: SocketAddr| (address.ip().to_canonical(), address.port());
        prop_assert_eq!(canonical(from), canonical(source));
        prop_assert_eq!(canonical(to), canonical(destination));
    }

    #[test]
    fn no_bytes_are_more_than_looked_at(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        shape in prop::sample::select(shapes()),
        at: prop::sample::Index,
        byte: u8,
    ) {
        _ = read(&bytes);
        _ = read(&[b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x40", &bytes[..]].concat());
        let mut changed = shape.0;
        let at = at.index(changed.len());
        changed[at] = byte;
        changed.extend_from_slice(&bytes);
        if let Ok(HeaderRead::Header(length, _)) = read(&changed) {
            prop_assert!(length <= changed.len() && length <= MOST_BYTES);
        }
    }
}
