//! Numbers of things in sentences: `1 tunnel`, `2 tunnels`.

use std::fmt::Display;

/// A number and the word for what is counted, in the plural (with an `s`) unless it is 1.
pub(crate) fn counted<N: Display + PartialEq + From<u8>>(count: N, thing: &str) -> String {
    let plural = if count == N::from(1) { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn one_thing_is_in_the_singular_and_none_is_not() {
        assert_eq!([0, 1, 2].map(|count: usize| counted(count, "tunnel")), ["0 tunnels", "1 tunnel", "2 tunnels"]);
        assert_eq!(counted(1_u64, "open tunnel"), "1 open tunnel");
    }
}
