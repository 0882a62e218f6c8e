//! The form of lines and comments: width, and the word that a comment begins with.

use super::source::all_files;

/// Columns of a line.
const WIDTH: usize = 120;
/// Lines that are wider all the same.
const WIDE: usize = 30;

/// Words that leave a comment without a noun or an actor.
const FIRST_WORDS: [&str; 7] = ["What", "Who", "Whose", "Has", "Those", "It", "They"];
/// Doc comments that begin with one of them all the same.
const UNCLEAR: usize = 8;

/// Words that leave a comment without a noun more often than not.
const QUESTIONS: [&str; 3] = ["How", "Where", "Whether"];
/// Doc comments that begin with one of them all the same.
const ASKING: usize = 10;

/// Each doc comment's file, line and first word: of `//!` and `///` blocks.
fn first_words() -> Vec<(String, usize, String)> {
    let mut found = Vec::new();
    for (file, text) in all_files() {
        let mut inside = false;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start();
            let doc = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
            if let (false, Some(doc)) = (inside, doc) {
                let word = doc.trim_start().chars().take_while(|c| c.is_alphabetic()).collect();
                found.push((file.clone(), number + 1, word));
            }
            inside = doc.is_some();
        }
    }
    found
}

/// Refuses more comments that begin with one of `words` than there are known to be.
fn at_most(known: usize, words: &[&str]) {
    let begins = first_words().into_iter().filter(|(_, _, word)| words.contains(&word.as_str()));
    let begins: Vec<String> = begins.map(|(file, line, word)| format!("{file}:{line}: {word}")).collect();
    println!("{} doc comments begin with one of {words:?}", begins.len());
    assert!(begins.len() <= known, "{} where {known} are known:\n{}", begins.len(), begins.join("\n"));
}

#[test]
fn doc_comments_begin_with_a_noun_or_a_verb() {
    at_most(UNCLEAR, &FIRST_WORDS);
    at_most(ASKING, &QUESTIONS);
}

#[test]
fn lines_keep_to_the_width() {
    let mut wide = Vec::new();
    for (file, text) in all_files() {
        let lines = text.lines().enumerate().filter(|(_, line)| line.chars().count() > WIDTH);
        wide.extend(lines.map(|(number, _)| format!("{file}:{}", number + 1)));
    }
    println!("{} lines are wider than {WIDTH} columns", wide.len());
    assert!(wide.len() <= WIDE, "{} where {WIDE} are known:\n{}", wide.len(), wide.join("\n"));
}
