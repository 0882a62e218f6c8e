//! The form of lines and comments: width, and the word that a comment begins with.

use super::source::all_files;

/// Columns of a line.
const WIDTH: usize = 120;

/// Words that leave a comment without a noun or an actor.
const FIRST_WORDS: [&str; 10] = ["What", "Who", "Whose", "Has", "Those", "It", "They", "How", "Where", "Whether"];

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

#[test]
fn doc_comments_begin_with_a_noun_or_a_verb() {
    let begins = first_words().into_iter().filter(|(_, _, word)| FIRST_WORDS.contains(&word.as_str()));
    let begins: Vec<String> = begins.map(|(file, line, word)| format!("{file}:{line}: {word}")).collect();
    assert!(begins.is_empty(), "{} doc comments:\n{}", begins.len(), begins.join("\n"));
}

#[test]
fn lines_keep_to_the_width() {
    let mut wide = Vec::new();
    for (file, text) in all_files() {
        let lines = text.lines().enumerate().filter(|(_, line)| line.chars().count() > WIDTH);
        wide.extend(lines.map(|(number, _)| format!("{file}:{}", number + 1)));
    }
    assert!(wide.is_empty(), "{} lines are wider than {WIDTH} columns:\n{}", wide.len(), wide.join("\n"));
}
