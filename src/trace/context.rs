//! Trace context (W3C Trace Context, level 1): read from a request, passed on with an id of the gateway's own.

use std::fmt;

use http::header::HeaderName;
use serde::{Deserialize, Serialize};

/// The trace that a request is part of, and the gateway's place in it.
pub static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Vendors' own words on the trace; passed on as they came.
pub static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Id of a trace: 128 bits, written as 32 hexadecimal digits, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TraceId([u8; 16]);

/// Id of one span of a trace: 64 bits, written as 16 hexadecimal digits, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

/// A request's place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The gateway's span, which is the parent of what the backend does.
    pub span: SpanId,
    /// The span that the request came from; `None` where the trace begins here.
    pub parent: Option<SpanId>,
    /// The gateway's span is exported, and backends are asked to record theirs.
    pub is_sampled: bool,
}

/// The trace that a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Given {
    trace: TraceId,
    parent: SpanId,
    is_sampled: bool,
}

impl TraceContext {
    /// The context of a request that `came` with these values of `traceparent`: passed on where there is a well-formed
    /// one, else begun.
    ///
    /// A trace that begins here is sampled with the probability `sample`, from 0 to 1. Of one that was begun elsewhere
    /// the word of a trusted peer counts; anybody else's trace goes on, and is sampled with the same probability: a
    /// stranger must not decide what is recorded (§4.3 and §5 of the recommendation).
    pub fn of<'v>(came: impl IntoIterator<Item = &'v [u8]>, is_trusted: bool, sample: f64) -> Self {
        let given = given(came);
        let drawn = || rand::random::<f64>() < sample;
        Self {
            trace: given.map_or_else(TraceId::random, |given| given.trace),
            span: SpanId::random(),
            parent: given.map(|given| given.parent),
            is_sampled: match given {
                Some(given) if is_trusted => given.is_sampled,
                Some(_) | None => drawn(),
            },
        }
    }

    /// Tells if the header is the gateway's to write: `traceparent`, and the `tracestate` of a trace that begins here.
    pub fn replaces(&self, name: &str) -> bool {
        name.eq_ignore_ascii_case(TRACEPARENT.as_str())
            || self.parent.is_none() && name.eq_ignore_ascii_case(TRACESTATE.as_str())
    }

    /// The value of `traceparent` for the backend.
    pub fn header(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.is_sampled))
    }
}

/// The trace that a request names; `None` where it names none, more than one, or breaks a rule of §3.2.
fn given<'v>(came: impl IntoIterator<Item = &'v [u8]>) -> Option<Given> {
    let mut values = came.into_iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    parse(value.trim_ascii())
}

fn parse(value: &[u8]) -> Option<Given> {
    let (known, rest) = value.split_at_checked(LENGTH)?;
    let mut parts = known.split(|byte| *byte == b'-');
    let version = digits::<1>(parts.next()?)?[0];
    let (trace, parent) = (digits(parts.next()?)?, digits(parts.next()?)?);
    let flags = digits::<1>(parts.next()?)?[0];
    // A later version may go on behind another dash; what it adds is not known, and not passed on.
    let is_fitting = match version {
        0 => rest.is_empty(),
        FORBIDDEN_VERSION => false,
        _ => rest.first().is_none_or(|byte| *byte == b'-'),
    };
    let is_whole = parts.next().is_none() && is_fitting && trace != [0; 16] && parent != [0; 8];
    is_whole.then_some(Given { trace: TraceId(trace), parent: SpanId(parent), is_sampled: flags & SAMPLED != 0 })
}

/// Bytes from lower-case hexadecimal digits: the recommendation allows no others.
fn digits<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

impl TraceId {
    fn random() -> Self {
        Self(drawn(rand::random))
    }
}

impl SpanId {
    fn random() -> Self {
        Self(drawn(rand::random))
    }
}

/// Draws until the id is not all zero, which would be no id.
fn drawn<const N: usize>(draw: impl Fn() -> [u8; N]) -> [u8; N] {
    loop {
        let id = draw();
        if id != [0; N] {
            return id;
        }
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpanId({self})")
    }
}

/// Length of version 00, and of what later versions begin with.
const LENGTH: usize = 55;
const FORBIDDEN_VERSION: u8 = 0xff;
/// The one flag of level 1.
const SAMPLED: u8 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};
    use regex::Regex;

    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "b7ad6b7169203331";

    fn of(values: &[&str], is_trusted: bool, sample: f64) -> TraceContext {
        TraceContext::of(values.iter().map(|value| value.as_bytes()), is_trusted, sample)
    }

    #[test]
    fn a_trace_goes_on_under_an_id_of_ours() {
        let context = of(&[&format!("00-{TRACE}-{PARENT}-01")], true, 0.0);
        assert_eq!((context.trace.to_string(), context.parent.unwrap().to_string()), (TRACE.into(), PARENT.into()));
        let header = context.header();
        assert_eq!(header, format!("00-{TRACE}-{}-01", context.span));
        assert_ne!(context.span.to_string(), PARENT);
        assert_eq!(of(&[&header], true, 0.0).parent, Some(context.span), "what is written is read");
    }

    #[test]
    fn later_versions_are_read_as_far_as_they_are_known_and_flags_of_them_are_not_passed_on() {
        for value in ["01-T-P-ff", "cc-T-P-03-what-the-future-brings", "fe-T-P-01-"] {
            let context = of(&[&value.replace('T', TRACE).replace('P', PARENT)], true, 0.0);
            assert_eq!(context.parent.map(|parent| parent.to_string()).as_deref(), Some(PARENT), "{value}");
            assert!(context.header().starts_with("00-") && context.header().ends_with("-01"), "{}", context.header());
        }
    }

    #[test]
    fn what_breaks_a_rule_begins_a_new_trace() {
        let zeros = ["0".repeat(32), "0".repeat(16)];
        let upper = TRACE.to_uppercase();
        for value in [
            "",
            "00",
            "ff-T-P-01",
            "00-T-P-01-more",
            "00-T-P-01-",
            "00-T-P-0",
            "00-T-P-011",
            "00-T-P",
            "01-T-P-01.more",
            "0-T-P-001",
            "00_T_P_01",
            "00-T-P-0x",
            "00-T-P-01 , 00-T-P-01",
            &format!("00-{}-P-01", zeros[0]),
            &format!("00-T-{}-01", zeros[1]),
            &format!("00-{upper}-P-01"),
            &format!("00-{}-P-01", TRACE.replace('0', "-")),
            &format!("00-{TRACE}{TRACE}-{PARENT}-01"),
            &"9".repeat(100_000),
        ] {
            let value = value.replace('T', TRACE).replace('P', PARENT);
            let context = of(&[&value], true, 1.0);
            assert_eq!(context.parent, None, "{value}");
            assert_ne!(context.trace.to_string(), TRACE, "{value}");
        }
        let given = format!("00-{TRACE}-{PARENT}-01");
        assert_eq!(of(&[&given, &given], true, 1.0).parent, None, "two are none");
        assert_eq!(of(&[&format!(" {given}\t")], true, 1.0).parent.unwrap().to_string(), PARENT);
    }

    /// Values of every shape: nearly right ones, and nonsense.
    const VALUES: &str = concat!(
        "(00|01|ff|[0-9a-fA-F]{2})-(0{32}|[0-9a-fA-F]{31,33})-(0{16}|[0-9a-f]{15,17})-[0-9a-fg]{1,3}(-[ -~]{0,9})?",
        "|[ -~]{0,70}"
    );
    /// The grammar of §3.2, later versions as far as they are known.
    const GRAMMAR: &str = "^ *([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-[ -~]*)?$";

    proptest! {
        #[test]
        fn a_trace_is_named_by_what_the_grammar_allows_and_by_nothing_else(value in VALUES) {
            let grammar = Regex::new(GRAMMAR).unwrap();
            let is_named = grammar.captures(value.trim_end()).is_some_and(|parts| {
                let is_known = &parts[1] != "ff" && (&parts[1] != "00" || parts.get(4).is_none());
                is_known && [&parts[2], &parts[3]].iter().all(|id| id.bytes().any(|digit| digit != b'0'))
            });
            prop_assert_eq!(TraceContext::of([value.as_bytes()], true, 0.0).parent.is_some(), is_named, "{}", value);
        }
    }

    #[test]
    fn a_strangers_word_does_not_decide_what_is_recorded() {
        for (flags, is_trusted, sample, expected) in [
            ("01", true, 0.0, true),
            ("00", true, 1.0, false),
            ("01", false, 0.0, false),
            ("00", false, 1.0, true),
            ("03", true, 0.0, true),
            ("02", true, 1.0, false),
        ] {
            let context = of(&[&format!("00-{TRACE}-{PARENT}-{flags}")], is_trusted, sample);
            assert_eq!(context.is_sampled, expected, "{flags} {is_trusted} {sample}");
        }
        assert!(of(&[], true, 1.0).is_sampled && !of(&[], true, 0.0).is_sampled);
    }

    #[test]
    fn the_vendors_word_goes_on_with_the_trace_alone() {
        let begun = of(&[], false, 0.0);
        let continued = of(&[&format!("00-{TRACE}-{PARENT}-00")], false, 0.0);
        assert!(begun.replaces("TraceState") && !continued.replaces("tracestate"));
        assert!(begun.replaces("traceparent") && continued.replaces("Traceparent") && !begun.replaces("trace"));
    }
}
