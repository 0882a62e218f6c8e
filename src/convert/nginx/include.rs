//! `include`: directives of other files in the place of the directive that names them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lex::{self, Directive};
use crate::convert::files::{Files, MAX_FILES};
use crate::convert::place::{SourcePlace, SourceProblem};

/// Most files inside of each other.
const MAX_DEPTH: usize = 16;

/// Most directives of all files together, so that files that include others many times end.
const MAX_DIRECTIVES: usize = 200_000;

/// Files that hold tables of content types or parameters of FastCGI, and nothing that a gateway looks at.
const TABLES: [&str; 6] =
    ["mime.types", "fastcgi_params", "fastcgi.conf", "uwsgi_params", "scgi_params", "proxy_params"];

/// Reads files, and takes included ones in.
pub(super) struct SourceReader<'r> {
    files: &'r dyn Files,
    /// Folder that relative names begin in.
    folder: PathBuf,
    /// Files that are being read.
    within: Vec<PathBuf>,
    read: usize,
    directives: usize,
    pub(super) problems: Vec<SourceProblem>,
}

impl<'r> SourceReader<'r> {
    pub(super) fn new(files: &'r dyn Files, main: &Path) -> Self {
        let folder = main.parent().unwrap_or(Path::new("")).to_owned();
        Self { files, folder, within: vec![main.to_owned()], read: 0, directives: 0, problems: Vec::new() }
    }

    /// All directives of `text`, which is the file `name`, with those of included files.
    pub(super) fn directives(&mut self, name: &Arc<str>, text: &str) -> Vec<Directive> {
        let directives = lex::read(name, text, &mut self.problems);
        self.expanded(directives)
    }

    fn expanded(&mut self, directives: Vec<Directive>) -> Vec<Directive> {
        let mut expanded = Vec::new();
        for mut directive in directives {
            self.directives += 1;
            if self.directives > MAX_DIRECTIVES {
                if self.directives == MAX_DIRECTIVES + 1 {
                    let message = "the files have too many directives";
                    let expected = format!("at most {MAX_DIRECTIVES}, included ones each time they are");
                    self.problems.push(SourceProblem::new(&directive.place, message, expected));
                }
                return expanded;
            }
            if directive.name == "include" && directive.block.is_none() {
                expanded.extend(self.included(&directive));
                continue;
            }
            directive.block = directive.block.map(|block| self.expanded(block));
            expanded.push(directive);
        }
        expanded
    }

    fn included(&mut self, include: &Directive) -> Vec<Directive> {
        let [pattern] = include.arguments.as_slice() else {
            let expected = "one file or pattern, such as `include sites-enabled/*.conf;`";
            self.refuse(&include.place, "`include` without one argument", expected);
            return Vec::new();
        };
        let path = self.folder.join(pattern);
        if pattern.contains(['*', '?', '[']) {
            let found = self.files.matching(&path);
            return found.into_iter().flat_map(|path| self.file(&path, &include.place)).collect();
        }
        let is_table = path.file_name().is_some_and(|name| TABLES.iter().any(|table| name == *table));
        // nginx's own `proxy_params` sets headers.
        let reads_like_a_gateways = path.ends_with("proxy_params");
        if is_table && !(reads_like_a_gateways && self.files.read(&path).is_ok()) {
            return Vec::new();
        }
        self.file(&path, &include.place)
    }

    fn file(&mut self, path: &Path, place: &SourcePlace) -> Vec<Directive> {
        if self.within.iter().any(|open| open == path) {
            let message = format!("`{}` includes itself", path.display());
            self.refuse(place, &message, "files that do not lead back to each other");
            return Vec::new();
        }
        self.read += 1;
        if self.within.len() > MAX_DEPTH || self.read > MAX_FILES {
            if self.read <= MAX_FILES + 1 {
                let expected = format!("at most {MAX_FILES} included files, {MAX_DEPTH} inside of each other");
                self.refuse(place, "too many included files", &expected);
            }
            return Vec::new();
        }
        match self.files.read(path) {
            Ok(text) => {
                self.within.push(path.to_owned());
                let directives = self.directives(&path.to_string_lossy().into(), &text);
                self.within.pop();
                directives
            }
            Err(error) => {
                let message = format!("`{}` cannot be read: {error}", path.display());
                self.refuse(
                    place,
                    &message,
                    "a file that is there, from the folder of the main file where it is relative",
                );
                Vec::new()
            }
        }
    }

    fn refuse(&mut self, place: &SourcePlace, message: &str, expected: &str) {
        self.problems.push(SourceProblem::new(place, message, expected));
    }
}
