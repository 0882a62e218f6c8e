//! Pairs of entries that have the same identity in two lists.

use std::collections::HashMap;

/// Pairs the entries of two lists by identity. The entries of the new list come first, in its order. The entries that
/// only the old list has follow.
pub(super) fn pairs<'l, T, I: Eq + std::hash::Hash>(
    old: &'l [T],
    new: &'l [T],
    identity: impl Fn(&'l T) -> I,
) -> Vec<(Option<&'l T>, Option<&'l T>)> {
    let mut before: HashMap<I, &T> = old.iter().map(|one| (identity(one), one)).collect();
    let mut pairs: Vec<_> = new.iter().map(|one| (before.remove(&identity(one)), Some(one))).collect();
    pairs.extend(old.iter().filter(|one| before.contains_key(&identity(one))).map(|one| (Some(one), None)));
    pairs
}
