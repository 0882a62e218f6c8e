//! A room without a socket: whom it takes, whom it remembers, and what it keeps of the talk.

use serde_json::json;

use crate::demo::room::{MAX_HISTORY, MAX_OPEN, MAX_REMEMBERED, Room, Told};
use crate::demo::serve::Changes;

#[test]
fn a_full_room_takes_nobody_until_somebody_leaves() {
    let room = Room::new("A", Changes::new());
    let mut seats: Vec<_> = (0..MAX_OPEN).filter_map(|id| room.join(id.to_string(), None)).collect();
    assert_eq!(seats.len(), MAX_OPEN);
    assert!(room.join("late".to_owned(), None).is_none());
    seats.pop();
    assert!(room.join("late".to_owned(), None).is_some());
}

#[test]
fn a_room_forgets_the_client_who_arrived_longest_ago_and_is_gone() {
    let room = Room::new("A", Changes::new());
    let (_stays, _) = room.join("stays".to_owned(), None).expect("there is room");
    for id in 1..MAX_REMEMBERED {
        drop(room.join(format!("gone-{id}"), None));
    }
    drop(room.join("gone-1".to_owned(), None));
    drop(room.join("new".to_owned(), None));
    assert_eq!(room.figures().remembered, MAX_REMEMBERED);
    let visits = |id: &str| match room.join(id.to_owned(), None).expect("there is room").1 {
        Told::Hello { visits, .. } => visits,
        other => panic!("expected a hello, got {other:?}"),
    };
    assert_eq!((visits("stays"), visits("gone-1")), (2, 3), "present, or back since");
    assert_eq!(visits("gone-2"), 1, "forgotten for the new one");
}

#[test]
fn the_history_keeps_the_last_lines() {
    let room = Room::new("A", Changes::new());
    let (seat, _) = room.join("ada".to_owned(), None).expect("there is room");
    for number in 0..=MAX_HISTORY {
        seat.say(&json!({"type":"chat","text":number.to_string()}).to_string()).expect("it is a good line");
    }
    let Some((_, Told::Hello { history, .. })) = room.join("bob".to_owned(), None) else { panic!("expected a hello") };
    assert_eq!(history.len(), MAX_HISTORY);
    assert_eq!((history[0].text.as_str(), history[MAX_HISTORY - 1].text.as_str()), ("1", "50"));
}
