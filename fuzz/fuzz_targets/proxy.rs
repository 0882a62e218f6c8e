//! PROXY headers of both versions: the same header wherever its bytes are cut, a decision that more bytes do not
//! change, and addresses that survive being written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhaul::proxy_protocol::{HeaderRead, MOST_BYTES, ProxiedConnection, ProxyVersion, read, write, write_local};

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes);
    // A header is short, so every cut of it can be tried.
    let mut decided = None;
    for length in 0..=bytes.len().min(600) {
        let now = read(&bytes[..length]);
        match &decided {
            Some(before) => assert_eq!(before, &now, "more bytes change nothing"),
            None if now != Ok(HeaderRead::NeedsMore) => decided = Some(now),
            None => {}
        }
    }
    if let Some(decided) = decided {
        assert_eq!(decided, whole);
    }
    assert!(whole != Ok(HeaderRead::NeedsMore) || bytes.len() < MOST_BYTES, "no more is waited for than a header has");
    let Ok(HeaderRead::Header(length, header)) = whole else { return };
    assert!(length <= bytes.len() && length <= if header.version == ProxyVersion::V1 { 107 } else { MOST_BYTES });
    assert!(header.unique_id.as_ref().is_none_or(|id| id.len() <= 128));
    assert!(header.ssl.as_ref().is_none_or(|ssl| ssl.certificate || !ssl.verified));
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let mut written = Vec::new();
        match header.origin {
            ProxiedConnection::Proxied { source, destination } => write(version, source, destination, &mut written),
            ProxiedConnection::Local | ProxiedConnection::Unknown => write_local(version, &mut written),
        }
        let Ok(HeaderRead::Header(length, again)) = read(&written) else { panic!("{written:?} is no header") };
        assert_eq!(length, written.len());
        if let (
            ProxiedConnection::Proxied { source, destination },
            ProxiedConnection::Proxied { source: from, destination: to },
        ) = (header.origin, again.origin)
        {
            let told = |address: std::net::SocketAddr| (address.ip().to_canonical(), address.port());
            assert_eq!((told(source), told(destination)), (told(from), told(to)));
        } else {
            assert!(
                !matches!(header.origin, ProxiedConnection::Proxied { .. })
                    && !matches!(again.origin, ProxiedConnection::Proxied { .. })
            );
        }
    }
});
