//! Members in files of the state folder. They are used at the next start for as long as their source is silent.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use log::warn;

use crate::config::open_regular;
use crate::upstream::Member;

/// The folder with a file for each upstream whose members are discovered.
#[derive(Debug)]
pub(super) struct StateFolder {
    path: Option<PathBuf>,
}

impl StateFolder {
    /// The folder at `path`; without a path nothing is kept.
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self { path }
    }

    /// Members that were kept; `None` where none were.
    ///
    /// # Errors
    /// The file is there and cannot be read, or does not hold members.
    pub(super) fn read(&self, upstream: &str) -> io::Result<Option<Vec<Member>>> {
        let Some(folder) = &self.path else { return Ok(None) };
        let mut bytes = Vec::new();
        match open_regular(&file(folder, upstream)) {
            Ok(mut file) => drop(file.read_to_end(&mut bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        let members: Vec<Member> = serde_json::from_slice(&bytes)?;
        Member::check(&members).map_err(|wrong| io::Error::new(io::ErrorKind::InvalidData, wrong))?;
        Ok(Some(members))
    }

    /// Keeps members, in place of those that were kept before. A failure is logged.
    pub(super) fn write(&self, upstream: &str, members: &[Member]) {
        let Some(folder) = &self.path else { return };
        if let Err(error) = write(folder, upstream, members) {
            warn!("the members of {upstream} cannot be kept in {}: {error}", folder.display());
        }
    }
}

fn write(folder: &Path, upstream: &str, members: &[Member]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let path = file(folder, upstream);
    // A name of its own for each process: two of them may write while one takes over from the other.
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    let mut written = fs::File::create(&fresh)?;
    written.write_all(&serde_json::to_vec(members)?)?;
    written.sync_data()?;
    fs::rename(&fresh, &path)
}

/// The file of an upstream. Its name is safe in a path: it has letters, digits, `.`, `_` and `-` only.
fn file(folder: &Path, upstream: &str) -> PathBuf {
    folder.join(format!("members-{upstream}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::MemberSource;

    fn member() -> Member {
        let address = ([127, 0, 0, 1], 9001).into();
        Member {
            name: "shard-0".into(),
            place: None,
            address,
            weight: 2,
            leaving: true,
            closing: None,
            source: MemberSource::File,
        }
    }

    #[test]
    fn members_are_read_as_they_were_kept() {
        let folder = tempfile::tempdir().unwrap();
        let kept = StateFolder::new(Some(folder.path().join("state")));
        assert_eq!(kept.read("chat").unwrap(), None);
        kept.write("chat", &[member()]);
        assert_eq!(kept.read("chat").unwrap(), Some(vec![member()]));
        kept.write("chat", &[]);
        assert_eq!(kept.read("chat").unwrap(), Some(Vec::new()));
        assert_eq!(fs::read_dir(folder.path().join("state")).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_that_holds_other_than_members_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let kept = StateFolder::new(Some(folder.path().to_owned()));
        let twice = serde_json::to_string(&[member(), member()]).unwrap();
        for text in ["", "{}", "[{\"name\":1}]", &twice] {
            fs::write(file(folder.path(), "chat"), text).unwrap();
            assert!(kept.read("chat").is_err(), "{text}");
        }
    }
}
