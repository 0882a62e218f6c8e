//! Circles between files: groups in which every file imports every other one, directly or through others.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{files, is_test, without_comments, without_tests};

/// Files in the largest circle that is accepted.
const LARGEST: usize = 6;

type Path = Vec<String>;

/// A file's module path, and the names that its text uses.
struct File {
    name: String,
    /// Names that `use` declarations bind, and the paths they stand for.
    bound: BTreeMap<String, Path>,
    /// Every path in the text, with `use` groups spread out.
    named: BTreeSet<Path>,
}

/// The modules of the crate, by path from its root.
struct Crate {
    modules: BTreeMap<Path, File>,
}

impl Crate {
    fn of(texts: &BTreeMap<String, String>) -> Self {
        let texts = texts.iter().filter(|(name, _)| !is_test(name) && *name != "main.rs");
        let modules = texts.map(|(name, text)| (module_path(name), File::of(name, text))).collect();
        Self { modules }
    }

    /// The files that each file imports from.
    fn imports(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        self.modules
            .iter()
            .map(|(at, file)| {
                let files = file.named.iter().filter_map(|path| self.file_of(at, path, 0));
                (file.name.as_str(), files.filter(|name| *name != file.name).collect())
            })
            .collect()
    }

    /// The file that defines `path`, as it is written in the module `at`. `None` for a path of another crate.
    ///
    /// A re-export is followed to the file that defines the item.
    fn file_of(&self, at: &Path, path: &[String], depth: usize) -> Option<&str> {
        let (mut here, rest) = self.start(at, path, depth)?;
        for (number, name) in rest.iter().enumerate() {
            let child: Path = here.iter().chain([name]).cloned().collect();
            if self.modules.contains_key(&child) {
                here = child;
                continue;
            }
            let file = &self.modules[&here];
            // Bounded, since two modules may re-export each other's names by globs.
            if let Some(target) = file.bound.get(name).filter(|_| depth < 8) {
                let whole: Path = target.iter().chain(&rest[number + 1..]).cloned().collect();
                if let Some(found) = self.file_of(&here, &whole, depth + 1) {
                    return Some(found);
                }
            }
            break;
        }
        Some(&self.modules[&here].name)
    }

    /// The module in which the search for a path begins, and the part of the path to be found there.
    fn start<'a>(&self, at: &Path, path: &'a [String], depth: usize) -> Option<(Path, &'a [String])> {
        let mut here = at.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => (here, rest) = (Path::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    here.pop();
                    rest = &rest[1..];
                }
            }
            first => {
                let child: Path = here.iter().cloned().chain([first.to_owned()]).collect();
                let module = self.modules.contains_key(&child);
                // A name that `use` bound to a module of the crate, as `flow` in `flow::Flow`.
                let bound = depth < 8 && path.len() > 1 && self.modules[at].bound.contains_key(first);
                if !module && !bound {
                    return None;
                }
                if !module {
                    let target = &self.modules[at].bound[first];
                    if target.first().is_some_and(|root| !["crate", "self", "super"].contains(&root.as_str())) {
                        return None;
                    }
                }
            }
        }
        Some((here, rest))
    }
}

impl File {
    fn of(name: &str, text: &str) -> Self {
        let text = without_comments(&without_tests(text));
        let tokens = tokens(&text);
        let (mut bound, mut named) = (BTreeMap::new(), BTreeSet::new());
        let mut at = 0;
        while at < tokens.len() {
            let is_use = tokens[at] == "use";
            let begins = is_name(&tokens[at]) && tokens.get(at + 1).is_some_and(|next| next == "::");
            if tokens[..=at].ends_with(&["pub", "(", "in"].map(str::to_owned)) {
                // How far an item can be seen is no use of whoever sees it.
                while tokens.get(at).is_some_and(|token| token != ")") {
                    at += 1;
                }
            } else if is_use {
                at += 1;
                for (path, alias) in tree(&tokens, &mut at, &Path::new()) {
                    if let Some(alias) = alias {
                        bound.insert(alias, path.clone());
                    }
                    named.insert(path);
                }
            } else if begins {
                named.extend(tree(&tokens, &mut at, &Path::new()).into_iter().map(|(path, _)| path));
            } else {
                at += 1;
            }
        }
        // A module that is imported to name its items is not itself what is used.
        let prefixes: BTreeSet<&String> = named.iter().filter(|path| path.len() > 1).map(|path| &path[0]).collect();
        let modules: Vec<Path> =
            bound.iter().filter(|(name, _)| prefixes.contains(name)).map(|(_, p)| p.clone()).collect();
        let mut named = named.clone();
        named.retain(|path| !modules.contains(path));
        Self { name: name.to_owned(), bound, named }
    }
}

/// Reads one path or `use` tree from `at`: each path in it with the name that it binds, which a glob has not.
fn tree(tokens: &[String], at: &mut usize, prefix: &Path) -> Vec<(Path, Option<String>)> {
    let mut path = prefix.clone();
    loop {
        match tokens.get(*at).map(String::as_str) {
            Some("{") => {
                *at += 1;
                let mut found = Vec::new();
                while tokens.get(*at).is_some_and(|token| token != "}") {
                    found.extend(tree(tokens, at, &path));
                    *at += usize::from(tokens.get(*at).is_some_and(|token| token == ","));
                }
                *at += 1;
                return found;
            }
            Some("*") => {
                *at += 1;
                return vec![(path, None)];
            }
            Some(name) if is_name(name) => {
                // `self` at the end of a group is the module of the group.
                if name != "self" || path.is_empty() {
                    path.push(name.to_owned());
                }
                *at += 1;
            }
            _ => {
                *at += 1;
                return Vec::new();
            }
        }
        match tokens.get(*at).map(String::as_str) {
            Some("::") => *at += 1,
            Some("as") => {
                let alias = tokens.get(*at + 1).cloned();
                *at += 2;
                return vec![(path, alias)];
            }
            _ => {
                let name = path.last().cloned();
                return vec![(path, name)];
            }
        }
    }
}

/// The words, `::` and single characters of a text.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_alphanumeric() || c == '_' {
            let mut word = c.to_string();
            while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                word.push(c);
            }
            tokens.push(word);
        } else if c == ':' && chars.next_if_eq(&':').is_some() {
            tokens.push("::".to_owned());
        } else if !c.is_whitespace() {
            tokens.push(c.to_string());
        }
    }
    tokens
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// `tunnel/worker.rs` is `tunnel::worker`, and `tunnel/mod.rs` is `tunnel`.
fn module_path(file: &str) -> Path {
    let path = file.trim_end_matches(".rs").split('/').filter(|part| !["mod", "lib"].contains(part));
    path.map(str::to_owned).collect()
}

/// The groups of files that reach each other, the largest first; files on their own left out.
fn circles<'a>(imports: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Vec<Vec<&'a str>> {
    let reach: BTreeMap<&str, BTreeSet<&str>> = imports.keys().map(|file| (*file, reached(imports, file))).collect();
    let mut circles = BTreeSet::new();
    for (file, there) in &reach {
        let circle: Vec<&str> = there.iter().copied().filter(|other| reach[other].contains(file)).collect();
        circles.extend((circle.len() > 1).then_some(circle));
    }
    let mut circles: Vec<_> = circles.into_iter().collect();
    circles.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
    circles
}

fn reached<'a>(imports: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = imports[from].iter().copied().collect();
    while let Some(file) = open.pop() {
        if reached.insert(file) {
            open.extend(&imports[file]);
        }
    }
    reached
}

#[test]
fn no_circle_of_files_is_large() {
    let texts = files();
    let parsed = Crate::of(&texts);
    let circles = circles(&parsed.imports());
    for circle in &circles {
        println!("{} files import each other: {}", circle.len(), circle.join(" "));
    }
    let largest = circles.first().map_or(0, Vec::len);
    assert!(largest <= LARGEST, "{largest} files import each other: {:?}", circles[0]);
}

#[test]
fn the_test_of_circles_sees_every_way_to_import() {
    let imports = |texts: &[(&str, &str)]| {
        let texts = texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let parsed = Crate::of(&texts);
        let imports = parsed.imports();
        let lines = imports.iter().filter(|(_, files)| !files.is_empty());
        lines.map(|(file, files)| format!("{file} > {files:?}")).collect::<Vec<_>>().join("; ").replace('"', "")
    };
    let room = |text| imports(&[("a/mod.rs", "mod b; pub use b::B; pub struct A;"), ("a/b.rs", ""), ("c.rs", text)]);
    let known = "a/mod.rs > {a/b.rs}";
    assert_eq!(room("use std::fmt; fn c(x: fmt::Error) {}"), known);
    // An item of the module itself, and one that it re-exports.
    assert_eq!(room("use crate::a::A;"), format!("{known}; c.rs > {{a/mod.rs}}"));
    assert_eq!(room("use crate::a::B;"), format!("{known}; c.rs > {{a/b.rs}}"));
    assert_eq!(room("use crate::{a::{A, B as D}};"), format!("{known}; c.rs > {{a/b.rs, a/mod.rs}}"));
    // By the name of its module.
    assert_eq!(room("use crate::a; fn c(x: a::B) {}"), format!("{known}; c.rs > {{a/b.rs}}"));
    assert_eq!(room("fn c(x: &super::a::B) {}"), format!("{known}; c.rs > {{a/b.rs}}"));
    assert_eq!(room("use crate::a::*;"), format!("{known}; c.rs > {{a/mod.rs}}"));
    // Comments and tests import nothing.
    assert_eq!(room("// use crate::a::A;\n#[cfg(test)]\nmod tests { use crate::a::A; }"), known);
}

#[test]
fn a_circle_is_found_through_others() {
    let edges = [("a", vec!["b"]), ("b", vec!["c", "d"]), ("c", vec!["a"]), ("d", vec![])];
    let imports = edges.into_iter().map(|(file, to)| (file, to.into_iter().collect())).collect();
    assert_eq!(circles(&imports), [vec!["a", "b", "c"]]);
}
