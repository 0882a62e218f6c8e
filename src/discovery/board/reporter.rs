//! The reports of one source to the board.

use std::sync::Arc;
use std::time::Instant;

use super::{Board, SourceKey, lock};
use crate::config::Discover;
use crate::upstream::Member;

/// Reports the answers and failures of one source to the board.
#[derive(Clone)]
pub(in crate::discovery) struct SourceReporter {
    board: Arc<Board>,
    key: SourceKey,
}

impl SourceReporter {
    pub(in crate::discovery) fn new(board: Arc<Board>, key: SourceKey) -> Self {
        Self { board, key }
    }

    /// Notes that the source never answers by itself. The members known so far are all that it has.
    pub(in crate::discovery) fn silent(&self) {
        self.board.change(&self.key, |entry| {
            entry.answered = true;
            entry.last.get_or_insert_with(Instant::now);
        });
    }

    /// Members that are known.
    pub(in crate::discovery) fn known(&self) -> Arc<[Member]> {
        let entries = lock(&self.board.entries);
        entries.get(&self.key).and_then(|entry| entry.members.clone()).unwrap_or_default()
    }

    /// Notes an answer.
    pub(in crate::discovery) fn answer(&self, members: Vec<Member>) {
        self.answer_with(members, None);
    }

    /// Notes an answer. A `problem` is the reason why the answer is incomplete.
    pub(in crate::discovery) fn answer_with(&self, members: Vec<Member>, problem: Option<&str>) {
        if let Err(wrong) = Member::check(&members) {
            return self.failed(&wrong.to_string());
        }
        let Discover { settle, keep_empty, .. } = self.key.discover;
        if problem.is_some() {
            self.board.metrics.failed(self.key.labels());
        }
        self.board.change(&self.key, |entry| {
            let before = entry.last;
            entry.note_problem(&self.key, problem, true, members.is_empty());
            entry.answer(&self.key, members.into(), settle, keep_empty, Instant::now());
            // The age is that of the last answer that was whole; of the first one where none was.
            if problem.is_some() && before.is_some() {
                entry.last = before;
            }
        });
    }

    /// Notes an answer of a source some of whose entries cannot be read. `passed_over` is the reason; `None` when every
    /// entry was read. The answer counts as complete, because the source works: its entries were written by others.
    pub(in crate::discovery) fn answer_without(&self, members: Vec<Member>, passed_over: Option<&str>) {
        if let Err(wrong) = Member::check(&members) {
            return self.failed(&wrong.to_string());
        }
        let Discover { settle, keep_empty, .. } = self.key.discover;
        self.board.change(&self.key, |entry| {
            if passed_over.is_some_and(|reason| entry.problem.as_deref() != Some(reason)) {
                self.board.metrics.failed(self.key.labels());
            }
            entry.note_problem(&self.key, passed_over, true, members.is_empty());
            entry.answer(&self.key, members.into(), settle, keep_empty, Instant::now());
        });
    }

    /// Notes that the source says the same as before.
    pub(in crate::discovery) fn same(&self) {
        self.board.change(&self.key, |entry| entry.last = Some(Instant::now()));
    }

    /// Notes that the source cannot be asked, or that its answer is of no use. Logs it, unless it was the same before.
    pub(in crate::discovery) fn failed(&self, reason: &str) {
        self.board.metrics.failed(self.key.labels());
        self.board.change(&self.key, |entry| entry.note_problem(&self.key, Some(reason), false, false));
    }
}
