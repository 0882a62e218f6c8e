//! The history of a gateway: reloads, upgrades, drains and changes of members, the last few of each.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use log::info;
use serde::{Deserialize, Serialize};

use crate::snapshot::Running;
use crate::upstream::HealthEvent;

/// The last events of a gateway; clones share them. A process that takes over has those of its predecessor as well.
#[derive(Clone, Debug, Default)]
pub struct History {
    kept: Arc<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    books: Mutex<Books>,
    revision: AtomicU64,
}

/// The newest event of each book is the first.
#[derive(Clone, Debug, Default)]
struct Books {
    reloads: VecDeque<Event>,
    upgrades: VecDeque<Event>,
    drains: VecDeque<Event>,
    members: VecDeque<Event>,
}

/// Something that happened to the gateway, and its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Time, in seconds since 1970.
    pub at: u64,
    /// Success.
    pub ok: bool,
    /// Summary for people.
    pub message: String,
    /// Further lines for people: of a reload, its changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}

/// The histories of a gateway, the newest event of each first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Histories {
    /// Turns of backends' health, at most 128, of one backend at most 16.
    pub health: Vec<HealthEvent>,
    /// Reloads, at most 16.
    pub reloads: Vec<Event>,
    /// Upgrades, at most 16.
    pub upgrades: Vec<Event>,
    /// Drains of backends that operators began or undid, at most 16.
    pub drains: Vec<Event>,
    /// Changes of members that sources named, at most 16.
    pub members: Vec<Event>,
}

impl History {
    /// Notes a reload that ended now, with the lines that name its changes.
    pub fn reloaded(&self, ok: bool, message: impl Into<String>, changes: Option<String>) {
        self.note(Event::now(ok, message.into(), changes), |books| &mut books.reloads);
    }

    /// Notes an upgrade that ended now.
    pub fn upgraded(&self, ok: bool, message: impl Into<String>) {
        self.note(Event::now(ok, message.into(), None), |books| &mut books.upgrades);
    }

    /// Notes that the drain of a backend begins or is undone.
    pub fn drained(&self, message: impl Into<String>) {
        self.note(Event::now(true, message.into(), None), |books| &mut books.drains);
    }

    /// Notes a change of the members of upstreams.
    pub fn members_changed(&self, ok: bool, message: impl Into<String>) {
        self.note(Event::now(ok, message.into(), None), |books| &mut books.members);
    }

    /// The events, with those of backends' health, for a process that takes over.
    pub fn save(&self, running: &Running) -> Option<serde_json::Value> {
        serde_json::to_value(self.with_health(running.health_history().events())).ok()
    }

    /// Puts the events of a process before this one behind one's own. Events that this release does not understand are
    /// left out: a history is no reason to refuse a handover.
    pub fn restore(&self, before: serde_json::Value, running: &Running) {
        match serde_json::from_value(before) {
            Ok(before) => running.health_history().restore(self.take_in(before)),
            Err(error) => info!("the history of the process before this one cannot be read: {error}"),
        }
    }

    /// Puts events behind one's own; returns those of backends' health.
    fn take_in(&self, before: Histories) -> Vec<HealthEvent> {
        let Histories { health, reloads, upgrades, drains, members } = before;
        let Books { reloads: own_reloads, upgrades: own_upgrades, drains: own_drains, members: own_members } =
            &mut *self.books();
        for (book, before) in
            [(own_reloads, reloads), (own_upgrades, upgrades), (own_drains, drains), (own_members, members)]
        {
            book.extend(before);
            book.truncate(MOST_EVENTS);
        }
        self.kept.revision.fetch_add(1, Relaxed);
        health
    }

    /// The events, beside the turns of backends' health.
    pub fn with_health(&self, health: Vec<HealthEvent>) -> Histories {
        let Books { reloads, upgrades, drains, members } = self.books().clone();
        Histories {
            health,
            reloads: reloads.into(),
            upgrades: upgrades.into(),
            drains: drains.into(),
            members: members.into(),
        }
    }

    /// Number that grows with each event.
    pub fn revision(&self) -> u64 {
        self.kept.revision.load(Relaxed)
    }

    fn note(&self, event: Event, book: impl FnOnce(&mut Books) -> &mut VecDeque<Event>) {
        let mut books = self.books();
        let book = book(&mut books);
        book.push_front(event);
        book.truncate(MOST_EVENTS);
        self.kept.revision.fetch_add(1, Relaxed);
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing under this lock panics half-way.
        self.kept.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Histories {
    /// The newest event of a book, in short.
    pub(super) fn last(book: &[Event]) -> Option<Event> {
        book.first().map(|event| Event { details: None, ..event.clone() })
    }
}

impl Event {
    fn now(ok: bool, message: String, details: Option<String>) -> Self {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let details = details.filter(|details| !details.is_empty());
        Self { at, ok, message: cut(message), details: details.map(cut) }
    }
}

/// A text of bounded length, whose end says how much is missing.
fn cut(text: String) -> String {
    let length = text.chars().count();
    if length <= LONGEST_TEXT {
        return text;
    }
    let begin: String = text.chars().take(LONGEST_TEXT).collect();
    format!("{begin}\n… {} more characters are in the log", length - LONGEST_TEXT)
}

/// Most events of one kind. A night has fewer.
const MOST_EVENTS: usize = 16;
/// Characters of a text: a screen or two.
const LONGEST_TEXT: usize = 4_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_and_texts_are_bounded() {
        let history = History::default();
        for number in 0..100 {
            history.reloaded(true, format!("generation {number}"), Some("x".repeat(10_000)));
            history.drained(format!("drain {number}"));
        }
        let histories = history.with_health(Vec::new());
        assert_eq!((histories.reloads.len(), histories.drains.len()), (MOST_EVENTS, MOST_EVENTS));
        assert_eq!(histories.reloads[0].message, "generation 99");
        let details = histories.reloads[0].details.as_ref().unwrap();
        assert!(details.ends_with("… 6000 more characters are in the log"), "{details}");
        assert_eq!(history.revision(), 200);
        let last = Histories::last(&histories.reloads).unwrap();
        assert_eq!((last.message.as_str(), last.details), ("generation 99", None));
    }

    #[test]
    fn a_successor_goes_on_where_its_predecessor_stopped() {
        let [before, after] = [History::default(), History::default()];
        before.upgraded(true, "first");
        after.take_in(before.with_health(Vec::new()));
        after.upgraded(true, "second");
        let messages: Vec<_> = after.with_health(Vec::new()).upgrades.into_iter().map(|one| one.message).collect();
        assert_eq!(messages, ["second", "first"]);
    }
}
