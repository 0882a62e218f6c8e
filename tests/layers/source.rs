//! The source files of the package, as text.

use std::collections::BTreeMap;
use std::path::Path;

/// Every Rust file below `src`, by its path there.
pub fn files() -> BTreeMap<String, String> {
    let found = below("src");
    assert!(found.len() > 20, "the source is somewhere else");
    found.into_iter().map(|(path, text)| (path.trim_start_matches("src/").to_owned(), text)).collect()
}

/// Every Rust file that people write: the package's and the benchmark's, by its path in the repository.
pub fn all_files() -> BTreeMap<String, String> {
    ["src", "tests", "benches", "examples", "bench/src"].into_iter().flat_map(below).collect()
}

/// Every Rust file below a folder of the repository.
fn below(folder: &str) -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeMap::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let installed = path.ends_with("node_modules") || path.ends_with("target");
            if path.is_dir() && !installed {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

/// The text without comments. Cuts inside of string literals too, which does no harm to a search for imports.
pub fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The text before the file's tests.
pub fn without_tests(text: &str) -> String {
    text.lines().take_while(|line| *line != "#[cfg(test)]").collect::<Vec<_>>().join("\n")
}

/// Tells whether a file holds nothing but tests.
pub fn is_test(file: &str) -> bool {
    file.ends_with("tests.rs") || file.split('/').any(|folder| folder == "tests")
}

/// The top-level module that a file belongs to.
pub fn module(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}
