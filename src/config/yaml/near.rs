//! Near misses: the known word that an unknown one was probably meant to be.

/// The known word that `key` was probably meant to be, by [`nearest`] or [`starts_like`].
pub(crate) fn likely<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    nearest(key, known.iter().copied()).or_else(|| starts_like(key, known))
}

/// The known word that begins with `key`, or that `key` begins with: `hostname` and `host`, `pid` and `pid_file`.
pub(crate) fn starts_like<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    const SHORTEST: usize = 3;
    let alike =
        |known: &&str| known.len().min(key.len()) >= SHORTEST && (known.starts_with(key) || key.starts_with(*known));
    known.iter().copied().filter(alike).min_by_key(|known| known.len().abs_diff(key.len()))
}

/// The candidate that `word` was probably meant to be: at most a third of the letters of `word` are wrong, or one.
pub(crate) fn nearest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    // The time taken grows with the product of the lengths; no known word is longer than this.
    const LONGEST: usize = 100;
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .filter(|candidate| candidate.len() <= LONGEST && candidate.len().abs_diff(word.len()) <= allowed)
        .map(|candidate| (strsim::osa_distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
