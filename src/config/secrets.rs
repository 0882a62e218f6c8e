//! Files of secrets: a password, or the tokens by which the admin API knows whom to hear.

use std::io::{self, Read};
use std::path::Path;

use super::source::open_regular;

/// Why a file of secrets cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The file cannot be read: the system's reason.
    #[error("the file cannot be read: {0}")]
    Unreadable(String),
    /// A folder, a pipe or a device.
    #[error("the file is not a regular file")]
    NotRegular,
    /// The file is too long for one of secrets.
    #[error("the file has more than {MOST_BYTES} bytes")]
    TooLong,
    /// The file has no first line, or an empty one: there is no password.
    #[error("the first line of the file is empty")]
    NoPassword,
    /// A password is text.
    #[error("the file is not UTF-8")]
    NotText,
    /// There is no token in the file.
    #[error("the file has no line with a token")]
    NoToken,
    /// A token can be guessed.
    #[error("a token in the file has fewer than {LEAST} characters")]
    TooShort,
}

/// Reads the password of a file: its first line, without the line's end.
///
/// # Errors
/// [`SecretError`]
pub fn password(file: &Path) -> Result<String, SecretError> {
    let text = String::from_utf8(read(file)?).map_err(|_| SecretError::NotText)?;
    match text.lines().next() {
        None | Some("") => Err(SecretError::NoPassword),
        Some(line) => Ok(line.to_owned()),
    }
}

/// Reads the tokens of a file: one a line, blanks around it left out.
///
/// # Errors
/// [`SecretError`]
pub fn tokens(file: &Path) -> Result<Vec<Vec<u8>>, SecretError> {
    let text = read(file)?;
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let tokens: Vec<_> = lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
    match tokens.iter().map(Vec::len).min() {
        None => Err(SecretError::NoToken),
        Some(shortest) if shortest < LEAST => Err(SecretError::TooShort),
        Some(_) => Ok(tokens),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, SecretError> {
    let mut bytes = Vec::new();
    let read = open_regular(file).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| match error.kind() {
        io::ErrorKind::Other => SecretError::NotRegular,
        _ => SecretError::Unreadable(error.to_string()),
    })?;
    if bytes.len() as u64 > MOST_BYTES { Err(SecretError::TooLong) } else { Ok(bytes) }
}

/// Characters of 128 bits in hexadecimal digits.
const LEAST: usize = 32;
const MOST_BYTES: u64 = 4096;
