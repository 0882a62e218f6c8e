//! A budget for lines that repeat, by their place in the code and their subject.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use log::{Level, Record};

/// Budgets of the kinds of lines logged in the last [`WINDOW`].
///
/// A kind is a place in the code together with a subject: the text of a line up to its first `": "`, which names a
/// backend or a hook. Details that change with each request stand behind it. Each kind has a budget, and so has each
/// place over all of its subjects: a client that can choose a subject gains nothing by it.
#[derive(Default)]
pub(super) struct Budgets {
    budgets: HashMap<u64, Budget>,
    hashing: RandomState,
}

/// The lines of one kind, or of one place, in the current window.
struct Budget {
    since: Instant,
    passed: u32,
    held_back: Option<HeldBack>,
}

/// Lines held back in one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeldBack {
    pub(super) count: u64,
    pub(super) level: Level,
    pub(super) target: String,
    /// Text of the first of them.
    pub(super) text: String,
}

/// Decision about one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineDecision {
    /// The line is written.
    Pass,
    /// The line is held back, as the first one of its kind in this window. A summary is due at `until`.
    HeldBackFirst { until: Instant },
    /// The line is held back and counted.
    HeldBack,
}

/// A line's place and kind, hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineKind {
    place: u64,
    kind: u64,
}

impl Budgets {
    /// Keys of the hashes that [`kind_of`] makes.
    pub(super) fn hashing(&self) -> RandomState {
        self.hashing.clone()
    }

    /// Decides about a line of `kind` at the time `now`.
    pub(super) fn admit(&mut self, kind: LineKind, record: &Record<'_>, now: Instant) -> LineDecision {
        // A place without budget gets no entries for further subjects: they would fill the table.
        if self.is_spent(kind.place, now) {
            return self.take(kind.place, PER_PLACE, record, now);
        }
        match self.take(kind.kind, PER_KIND, record, now) {
            LineDecision::Pass => self.take(kind.place, PER_PLACE, record, now),
            held_back => held_back,
        }
    }

    fn is_spent(&self, place: u64, now: Instant) -> bool {
        let is_spent =
            |budget: &Budget| budget.passed >= PER_PLACE && (now < budget.since + WINDOW || budget.held_back.is_some());
        self.budgets.get(&place).is_some_and(is_spent)
    }

    fn take(&mut self, key: u64, most: u32, record: &Record<'_>, now: Instant) -> LineDecision {
        let full = self.budgets.len() >= MOST_BUDGETS && !self.budgets.contains_key(&key);
        if full {
            self.budgets.retain(|_, budget| budget.held_back.is_some() || now < budget.since + WINDOW);
        }
        // Where the table stays full, the kinds beyond it share one budget.
        let key = if full && self.budgets.len() >= MOST_BUDGETS { SHARED } else { key };
        let budget = self.budgets.entry(key).or_insert_with(|| Budget { since: now, passed: 0, held_back: None });
        if now >= budget.since + WINDOW && budget.held_back.is_none() {
            (budget.since, budget.passed) = (now, 0);
        }
        if budget.passed < most {
            budget.passed += 1;
            return LineDecision::Pass;
        }
        match &mut budget.held_back {
            Some(held_back) => {
                held_back.count += 1;
                LineDecision::HeldBack
            }
            None => {
                let target = record.target().to_owned();
                budget.held_back = Some(HeldBack { count: 1, level: record.level(), target, text: String::new() });
                LineDecision::HeldBackFirst { until: budget.since + WINDOW }
            }
        }
    }

    /// Keeps the text of a line that was [held back first](LineDecision::HeldBackFirst) for the summary.
    pub(super) fn describe(&mut self, kind: LineKind, text: &str) {
        for key in [kind.place, kind.kind, SHARED] {
            let held_back = self.budgets.get_mut(&key).and_then(|budget| budget.held_back.as_mut());
            if let Some(held_back) = held_back.filter(|held_back| held_back.text.is_empty()) {
                return held_back.text.push_str(&text[..text.floor_char_boundary(MOST_OF_A_SAMPLE)]);
            }
        }
    }

    /// Takes out the summaries whose window has ended, and the time when the next one ends.
    pub(super) fn summaries(&mut self, now: Instant) -> (Vec<HeldBack>, Option<Instant>) {
        let mut due = Vec::new();
        let mut next: Option<Instant> = None;
        self.budgets.retain(|_, budget| {
            let ends = budget.since + WINDOW;
            if ends > now {
                if budget.held_back.is_some() {
                    next = Some(next.map_or(ends, |next| next.min(ends)));
                }
                return true;
            }
            due.extend(budget.held_back.take());
            false
        });
        (due, next)
    }
}

/// Hashes the place and the kind of a line. No lock may be held: the line's own formatting code runs here.
///
/// The kind of a line is its text up to the first colon. A line of Pingora's has no kind beside its place, because its
/// text names the request before any colon.
pub(super) fn kind_of(record: &Record<'_>, hashing: &RandomState) -> LineKind {
    let mut hasher = hashing.build_hasher();
    hasher.write(record.file().unwrap_or_default().as_bytes());
    hasher.write_u32(record.line().unwrap_or_default());
    let place = hasher.finish();
    if !record.target().starts_with("pingora") {
        let mut subject = Subject { hasher: &mut hasher, colon: false, ended: false };
        // An error of a value's own formatting ends the subject early, and shows in the line itself.
        let _ = write!(subject, "{}", record.args());
    }
    hasher.write_u8(0xff);
    LineKind { place, kind: hasher.finish() }
}

/// Hashes text up to the first `": "`.
struct Subject<'h, H> {
    hasher: &'h mut H,
    colon: bool,
    ended: bool,
}

impl<H: Hasher> Write for Subject<'_, H> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.ended |= self.colon && byte == b' ';
            if self.ended {
                break;
            }
            self.colon = byte == b':';
            self.hasher.write_u8(byte);
        }
        Ok(())
    }
}

/// Length of a window.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// Lines of one kind that are written in a window.
pub(super) const PER_KIND: u32 = 10;
/// Lines of one place, over all subjects, that are written in a window.
pub(super) const PER_PLACE: u32 = 100;
/// Budgets kept at a time: more than there are places that warn, and backends of a large configuration; about 100 KiB.
const MOST_BUDGETS: usize = 1_024;
/// Key of the budget shared by kinds beyond [`MOST_BUDGETS`].
const SHARED: u64 = 0;
/// Bytes of a line repeated in a summary.
const MOST_OF_A_SAMPLE: usize = 512;
