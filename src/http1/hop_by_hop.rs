//! Fields that belong to one hop and are not passed on (RFC 9110 §7.6.1).

use http::header::CONNECTION;

use super::fields::HeaderFields;
use super::unwanted::tells_origin;

/// The fields of one message that belong to its hop: those that the RFC names and those that its `Connection` lists.
#[derive(Debug)]
pub struct HopByHop<'f> {
    listed: Vec<&'f [u8]>,
}

impl<'f> HopByHop<'f> {
    /// Reads the `Connection` lines of a message.
    pub fn of(fields: &'f (impl HeaderFields + ?Sized)) -> Self {
        Self { listed: fields.elements(&CONNECTION).collect() }
    }

    /// Tells if a field of this name, in any letter case, belongs to the hop.
    pub fn holds(&self, name: &str) -> bool {
        NAMES.iter().any(|hop| name.eq_ignore_ascii_case(hop)) || self.lists(name) && !is_protected(name)
    }

    /// Tells if `Connection` lists this name, in any letter case.
    pub fn lists(&self, name: &str) -> bool {
        self.listed.iter().any(|token| token.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// Tells if the `Connection` lines of a message list options of the connection itself, and no fields.
    pub fn lists_options_alone(fields: &(impl HeaderFields + ?Sized)) -> bool {
        fields.elements(&CONNECTION).all(|token| is_option(&token))
    }

    /// The options of the connection itself, and the fields that are listed beside them.
    pub fn parted(&self) -> (Vec<&'f [u8]>, Vec<&'f [u8]>) {
        self.listed.iter().copied().partition(is_option)
    }
}

fn is_option(token: &&[u8]) -> bool {
    OPTIONS.iter().any(|option| token.eq_ignore_ascii_case(option))
}

/// Tells if a field stays in a message although `Connection` lists it. Such fields say who asks for what, so a
/// `Connection` that lists one is an attack.
pub fn is_protected(name: &str) -> bool {
    let begins_with = |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    ["host", "cookie", "authorization", "origin"].iter().any(|protected| name.eq_ignore_ascii_case(protected))
        || tells_origin(name)
        || begins_with("sec-websocket-")
}

const NAMES: [&str; 7] =
    ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

const OPTIONS: [&[u8]; 3] = [b"close", b"keep-alive", b"upgrade"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::fields::FieldLine;

    #[test]
    fn connection_lists_what_goes_and_cannot_list_who_asks_for_what() {
        let options = b"Upgrade, X-Hop, cookie, x-forwarded-FOR, host, forwarded, x-real-ip";
        let lines = [FieldLine { name: "Connection", value: options.into() }];
        let hop = HopByHop::of(&lines[..]);
        for name in ["connection", "TE", "Transfer-Encoding", "x-hop", "UPGRADE"] {
            assert!(hop.holds(name), "{name}");
        }
        for name in ["Cookie", "X-Forwarded-For", "Forwarded", "X-Real-IP", "Host", "x-other", "sec-websocket-key"] {
            assert!(!hop.holds(name), "{name}");
        }
        let (options, listed) = hop.parted();
        assert_eq!((options, listed.len()), (vec![&b"Upgrade"[..]], 6));
    }
}
