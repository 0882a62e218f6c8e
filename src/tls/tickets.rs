//! Session tickets: state of a session, sealed with a key that replicas and successors share.
//!
//! A ticket is the name of its key (8 bytes), a salt (16 bytes), and the state under AES-256-GCM. The AEAD key is
//! derived from ticket key, listener and salt (HKDF-SHA256), so every ticket has a key of its own and no nonce repeats.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{self, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{self, HKDF_SHA256, Prk};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::server::ProducesTickets;
use zeroize::{Zeroize, Zeroizing};

use super::files::{FileError, read};

/// Time for which a ticket can be used: 12 hours, half of the longest life of a drawn key.
pub const LIFETIME: Duration = Duration::from_secs(12 * 3_600);

/// Most keys of a file: each is tried by name alone, and no rotation needs more than a few.
const MOST_KEYS: usize = 16;
const KEY_BYTES: usize = 32;
const NAME_BYTES: usize = 8;
const SALT_BYTES: usize = 16;

/// Reason for which a file of ticket keys cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketKeysError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file holds no key.
    #[error("{} has no key in it", .0.display())]
    Empty(PathBuf),
    /// The file holds too many keys.
    #[error("{} has more than {MOST_KEYS} keys", .0.display())]
    TooMany(PathBuf),
    /// A line is no key.
    #[error("line {line} of {} is not a key of {KEY_BYTES} bytes in base64", file.display())]
    NotAKey {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

/// The keys of session tickets: the first seals, all open.
pub struct TicketKeys {
    keys: ArcSwap<Vec<Arc<TicketKey>>>,
    /// Moment at which the first key was drawn; `None` for keys of a file, which whoever writes the file rotates.
    drawn: Option<Mutex<SystemTime>>,
}

struct TicketKey {
    secret: Zeroizing<[u8; KEY_BYTES]>,
    name: [u8; NAME_BYTES],
    derivation: Prk,
}

impl TicketKeys {
    /// Reads keys from a file: 32 bytes in base64 on each line (`openssl rand -base64 32`). Empty lines and those that
    /// begin with `#` are skipped.
    ///
    /// # Errors
    /// The file cannot be read, or a line of it is not a key.
    pub fn load(file: &Path) -> Result<Self, TicketKeysError> {
        let bytes = Zeroizing::new(read(file)?);
        let mut keys = Vec::new();
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let decoded = STANDARD.decode(line).ok().map(Zeroizing::new);
            let secret = decoded.and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).ok());
            let Some(secret) = secret else {
                return Err(TicketKeysError::NotAKey { file: file.into(), line: index + 1 });
            };
            if keys.len() == MOST_KEYS {
                return Err(TicketKeysError::TooMany(file.into()));
            }
            keys.push(Arc::new(TicketKey::new(secret)));
        }
        match keys.is_empty() {
            true => Err(TicketKeysError::Empty(file.into())),
            false => Ok(Self { keys: ArcSwap::from_pointee(keys), drawn: None }),
        }
    }

    /// Draws a key, which another one follows after [`LIFETIME`].
    pub fn draw(now: SystemTime) -> Self {
        let keys = vec![Arc::new(TicketKey::draw())];
        Self { keys: ArcSwap::from_pointee(keys), drawn: Some(Mutex::new(now)) }
    }

    /// Goes on with the keys of a predecessor, as [`save`](Self::save) gave them; draws one where there are none.
    pub fn restore(saved: &SavedTicketKeys, now: SystemTime) -> Self {
        let decode = |text: &String| {
            let bytes = Zeroizing::new(STANDARD.decode(text).ok()?);
            <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).ok()
        };
        let keys: Vec<_> =
            saved.keys.iter().filter_map(decode).take(2).map(|key| Arc::new(TicketKey::new(key))).collect();
        if keys.is_empty() {
            return Self::draw(now);
        }
        let drawn = now.checked_sub(Duration::from_secs(saved.age_s)).unwrap_or(SystemTime::UNIX_EPOCH);
        Self { keys: ArcSwap::from_pointee(keys), drawn: Some(Mutex::new(drawn)) }
    }

    /// The keys for a successor; `None` for keys of a file, which a successor reads itself.
    pub fn save(&self, now: SystemTime) -> Option<SavedTicketKeys> {
        let drawn = *self.drawn.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = self.keys.load().iter().map(|key| STANDARD.encode(*key.secret)).collect();
        Some(SavedTicketKeys { keys, age_s: now.duration_since(drawn).map_or(0, |age| age.as_secs()) })
    }

    /// Draws the next key when the first one is old enough. The one before it opens tickets for as long again.
    fn rotate(&self, now: SystemTime) {
        let Some(drawn) = &self.drawn else { return };
        let mut drawn = drawn.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now.duration_since(*drawn).unwrap_or_default();
        if age < LIFETIME {
            return;
        }
        let before = self.keys.load();
        let mut keys = vec![Arc::new(TicketKey::draw())];
        // A process that slept through two turns has no ticket left that is worth opening.
        keys.extend(before.first().filter(|_| age < 2 * LIFETIME).cloned());
        self.keys.store(Arc::new(keys));
        *drawn = now;
    }
}

/// Keys are equal when their names are: a name is derived from the whole key.
impl PartialEq for TicketKeys {
    fn eq(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.keys.load(), other.keys.load());
        ours.iter().map(|key| key.name).eq(theirs.iter().map(|key| key.name))
    }
}

/// Ticket keys on their way to a successor.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub struct SavedTicketKeys {
    /// Each key in base64, the one that seals first.
    keys: Vec<String>,
    /// Age of the first in seconds.
    age_s: u64,
}

impl Drop for SavedTicketKeys {
    fn drop(&mut self) {
        self.keys.iter_mut().for_each(Zeroize::zeroize);
    }
}

/// Without the keys.
impl fmt::Debug for SavedTicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SavedTicketKeys").field("age_s", &self.age_s).finish_non_exhaustive()
    }
}

/// Without the keys.
impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys").field("count", &self.keys.load().len()).finish_non_exhaustive()
    }
}

impl TicketKey {
    fn new(secret: [u8; KEY_BYTES]) -> Self {
        let derivation = Prk::new_less_safe(HKDF_SHA256, &secret);
        let mut name = [0; NAME_BYTES];
        derive(&derivation, &[b"longhaul ticket name"], &mut name);
        Self { secret: Zeroizing::new(secret), name, derivation }
    }

    fn draw() -> Self {
        let mut secret = [0; KEY_BYTES];
        aws_lc_rs::rand::fill(&mut secret).expect("the library's generator does not fail once it is seeded");
        Self::new(secret)
    }

    fn aead(&self, context: &[u8], salt: &[u8]) -> LessSafeKey {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        derive(&self.derivation, &[b"longhaul ticket", context, salt], &mut *key);
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*key).expect("the key has the length of AES-256"))
    }
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn derive(from: &Prk, info: &[&[u8]], out: &mut [u8]) {
    let length = Length(out.len());
    let expanded = from.expand(info, length).and_then(|expanded| expanded.fill(out));
    expanded.expect("at most 32 bytes are derived, and HKDF gives 8,160");
}

/// Seals and opens the tickets of one listener.
///
/// A ticket of one listener is refused by a listener with other rules for clients. Otherwise a client could resume a
/// session there without the certificate that the listener asks for.
pub(super) struct Tickets {
    keys: Arc<TicketKeys>,
    context: Vec<u8>,
}

impl Tickets {
    /// Tickets of a listener whose rules for clients `context` stands for.
    pub(super) fn new(keys: Arc<TicketKeys>, context: Vec<u8>) -> Self {
        Self { keys, context }
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME.as_secs() as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys.rotate(SystemTime::now());
        let keys = self.keys.keys.load();
        let key = keys.first()?;
        let mut salt = [0; SALT_BYTES];
        aws_lc_rs::rand::fill(&mut salt).ok()?;
        let mut sealed = plain.to_vec();
        let aead = key.aead(&self.context, &salt);
        aead.seal_in_place_append_tag(nonce(), Aad::empty(), &mut sealed).ok()?;
        Some([&key.name[..], &salt, &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME_BYTES)?;
        let (salt, sealed) = rest.split_at_checked(SALT_BYTES)?;
        let keys = self.keys.keys.load();
        let key = keys.iter().find(|key| key.name == name)?;
        let mut plain = sealed.to_vec();
        let length = key.aead(&self.context, salt).open_in_place(nonce(), Aad::empty(), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

/// Always the same: no key is used for two tickets.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; aead::NONCE_LEN])
}

/// Without the keys.
impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("keys", &self.keys).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> SystemTime {
        SystemTime::now()
    }

    fn tickets(keys: &Arc<TicketKeys>, context: &str) -> Tickets {
        Tickets::new(Arc::clone(keys), context.into())
    }

    fn file_of(text: &str) -> Result<TicketKeys, TicketKeysError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, text).unwrap();
        TicketKeys::load(&path)
    }

    fn key_line(byte: u8) -> String {
        STANDARD.encode([byte; KEY_BYTES])
    }

    #[test]
    fn a_ticket_opens_where_it_was_sealed_and_with_no_other_rules() {
        let keys = Arc::new(TicketKeys::draw(now()));
        let ticket = tickets(&keys, "a").encrypt(b"state").unwrap();
        assert_eq!(tickets(&keys, "a").decrypt(&ticket).unwrap(), b"state");
        assert_eq!(tickets(&keys, "b").decrypt(&ticket), None);
        assert_eq!(tickets(&Arc::new(TicketKeys::draw(now())), "a").decrypt(&ticket), None);
    }

    #[test]
    fn a_changed_or_cut_ticket_is_none() {
        let tickets = tickets(&Arc::new(TicketKeys::draw(now())), "");
        let ticket = tickets.encrypt(b"state").unwrap();
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(tickets.decrypt(&changed), None, "byte {at}");
            assert_eq!(tickets.decrypt(&ticket[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn replicas_with_the_same_file_open_each_others_tickets_through_a_rotation() {
        let (old, new) = (key_line(1), key_line(2));
        let keys = |text: String| Arc::new(file_of(&text).unwrap());
        let before = tickets(&keys(format!("# of last week\n{old}\n")), "");
        let both = tickets(&keys(format!("{old}\n{new}\n")), "");
        let after = tickets(&keys(format!("{new}\r\n{old}\r\n")), "");
        let first = before.encrypt(b"1").unwrap();
        assert_eq!(both.decrypt(&first).unwrap(), b"1");
        assert_eq!(after.decrypt(&first).unwrap(), b"1");
        let second = after.encrypt(b"2").unwrap();
        assert_eq!(both.decrypt(&second).unwrap(), b"2");
        assert_eq!(before.decrypt(&second), None);
    }

    #[test]
    fn wrong_files_are_told_apart() {
        let said = |text: &str| file_of(text).unwrap_err().to_string();
        assert!(said("\n# nothing\n").ends_with("keys has no key in it"));
        assert!(said(&format!("{}\nshort\n", key_line(1))).starts_with("line 2 of "));
        assert!(said(&format!("{}\n", key_line(1)).repeat(17)).ends_with("has more than 16 keys"));
    }

    #[test]
    fn a_drawn_key_is_followed_by_another_and_opens_its_tickets_for_one_more_turn() {
        let began = now();
        let keys = Arc::new(TicketKeys::draw(began));
        let first = tickets(&keys, "").encrypt(b"1").unwrap();
        keys.rotate(began + LIFETIME);
        let second = tickets(&keys, "").encrypt(b"2").unwrap();
        assert_ne!(first[..NAME_BYTES], second[..NAME_BYTES]);
        assert_eq!(tickets(&keys, "").decrypt(&first).unwrap(), b"1");
        keys.rotate(began + 2 * LIFETIME);
        assert_eq!(tickets(&keys, "").decrypt(&first), None);
        assert_eq!(tickets(&keys, "").decrypt(&second).unwrap(), b"2");
    }

    #[test]
    fn drawn_keys_go_on_in_a_successor_and_keys_of_files_do_not_travel() {
        let began = now();
        let keys = Arc::new(TicketKeys::draw(began));
        let ticket = tickets(&keys, "").encrypt(b"1").unwrap();
        let saved = keys.save(began + Duration::from_secs(60)).unwrap();
        assert_eq!(saved.age_s, 60);
        let successor = Arc::new(TicketKeys::restore(&saved, began + Duration::from_secs(60)));
        assert_eq!(tickets(&successor, "").decrypt(&ticket).unwrap(), b"1");
        successor.rotate(began + LIFETIME);
        assert_ne!(tickets(&successor, "").encrypt(b"2").unwrap()[..NAME_BYTES], ticket[..NAME_BYTES]);
        assert!(file_of(&key_line(1)).unwrap().save(began).is_none());
        assert!(!format!("{saved:?} {keys:?}").contains(&saved.keys[0]));
    }
}
