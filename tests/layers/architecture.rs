//! ARCHITECTURE.md against the tree: a row for every module, and no file that is not there.

use std::collections::BTreeSet;
use std::path::Path;

use super::LAYERS;
use super::source::all_files;

fn page() -> String {
    std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_table_has_every_module_in_its_layer() {
    let page = page();
    let mut told: [BTreeSet<&str>; LAYERS.len()] = std::array::from_fn(|_| BTreeSet::new());
    for row in page.lines().filter_map(|line| line.strip_prefix("| ")) {
        let mut cells = row.split(" | ");
        if let Some(layer) = cells.next().and_then(|number| number.parse::<usize>().ok()) {
            told[layer].extend(cells.next().unwrap().split(", ").map(|name| name.trim_matches('`')));
        }
    }
    assert_eq!(told, LAYERS.map(|layer| layer.iter().copied().collect()));
}

#[test]
fn files_and_folders_that_it_names_are_there() {
    let page = page();
    let files = all_files();
    let is_there = |path: &str| {
        let inside = [format!("/{path}"), format!("/{path}.rs"), format!("/{path}/")];
        let is_source = |file: &String| inside.iter().any(|path| format!("/{file}").contains(path));
        root().join(path).exists() || files.keys().any(is_source)
    };
    let is_path = |text: &str| {
        text.contains('/') && text.bytes().all(|c| b"_./-".contains(&c) || c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    let named = page.split('`').skip(1).step_by(2).filter(|text| is_path(text) && !text.starts_with('/'));
    let missing: BTreeSet<&str> = named.filter(|path| !is_there(path.trim_end_matches('/'))).collect();
    assert_eq!(missing, BTreeSet::new());
}
