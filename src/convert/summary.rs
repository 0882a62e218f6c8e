//! The words about a conversion: how much was carried, what was not, and whether clients keep their backends.

use std::fmt::Write as _;

use super::model::{Keeps, Model};
use super::place::{Note, Weight};

use crate::counted::counted;

/// Most notes of one weight that a summary repeats; the file has all.
const MAX_NOTES: usize = 40;

/// Every note of a model, sorted by weight and place, each once.
pub(super) fn notes(model: &Model) -> Vec<Note> {
    let mut notes: Vec<Note> = model.notes.iter().chain(&model.process.notes).cloned().collect();
    notes.extend(model.listeners.iter().flat_map(|listener| &listener.notes).cloned());
    notes.extend(model.routes.iter().flat_map(|route| &route.notes).cloned());
    for upstream in &model.upstreams {
        notes.extend(upstream.notes.iter().chain(upstream.backends.iter().flat_map(|backend| &backend.notes)).cloned());
    }
    notes.sort_by(|one, other| (one.weight, &one.place, &one.text).cmp(&(other.weight, &other.place, &other.text)));
    notes.dedup();
    notes
}

/// The summary, for standard error.
pub(super) fn text(model: &Model, notes: &[Note], source: &str) -> String {
    let lines_of = |weight: Weight| {
        let mut places: Vec<_> = notes.iter().filter(|note| note.weight == weight).map(|note| &note.place).collect();
        places.dedup();
        places.len()
    };
    let (unprotected, left_out, changed) =
        (lines_of(Weight::Unprotected), lines_of(Weight::LeftOut), lines_of(Weight::Changed));
    let carried = model.lines.saturating_sub(unprotected + left_out + changed);
    let mut text = format!("{source}: {} carried, {changed} changed, {left_out} left out", counted(carried, "line"));
    if unprotected > 0 {
        let _ = write!(text, ", {unprotected} to be checked");
    }
    text.push('\n');
    for weight in [Weight::Unprotected, Weight::LeftOut, Weight::Changed] {
        let of_weight: Vec<&Note> = notes.iter().filter(|note| note.weight == weight).collect();
        for note in of_weight.iter().take(MAX_NOTES) {
            let _ = writeln!(text, "  {note}");
        }
        if of_weight.len() > MAX_NOTES {
            let more = of_weight.len() - MAX_NOTES;
            let _ = writeln!(text, "  and {more} more {}: see the comments of the file", weight.word());
        }
    }
    text.push_str("Do clients keep their backends in the move?\n");
    for upstream in &model.upstreams {
        let answer = match &upstream.keeps {
            Keeps::Untied => "nothing tied them to one".to_owned(),
            Keeps::Yes(why) => format!("yes: {why}"),
            Keeps::No(why) => format!("no, they move once: {why}"),
        };
        let _ = writeln!(text, "  {}: {}", upstream.name, super::place::visible(&answer));
    }
    text
}
