//! Promises of the board: what settles, what is kept, and what a silent, broken or empty source changes.

use std::path::PathBuf;

use super::*;
use crate::config::DiscoverFrom;

fn key() -> SourceKey {
    let from = DiscoverFrom::File(PathBuf::from("/members"));
    SourceKey::new("chat", &Discover { settle: Duration::from_secs(1), ..Discover::of(from) })
}

fn members(ports: &[u16]) -> Vec<Member> {
    let member = |&port| {
        let address = std::net::SocketAddr::from(([10, 0, 0, 1], port));
        let name = address.to_string().into();
        Member { name, place: None, address, weight: 1, leaving: false, closing: None, source: MemberSource::File }
    };
    ports.iter().map(member).collect()
}

/// A board with one source, and the way to it.
fn board(folder: Option<PathBuf>, before: Option<Vec<Member>>) -> (Arc<Board>, SourceReporter, Metrics) {
    let metrics = Metrics::new();
    let board = Arc::new(Board::new(StateFolder::new(folder), &metrics));
    board.begin(&key(), before.map(Into::into), None, Duration::ZERO);
    let reporter = SourceReporter::new(Arc::clone(&board), key());
    (board, reporter, metrics)
}

fn ports(board: &Board, after: Duration) -> Option<Vec<u16>> {
    let Due { members, is_new, .. } = board.take_due(&key(), Duration::ZERO, Instant::now() + after)?;
    if is_new {
        let mut lists = MemberLists::default();
        lists.set("chat", Arc::clone(&members));
        board.keep(&lists);
    }
    Some(members.iter().map(|member| member.address.port()).collect())
}

const NOW: Duration = Duration::ZERO;
const SOON: Duration = Duration::from_secs(2);
const LATE: Duration = Duration::from_secs(301);

#[test]
fn the_first_answer_is_due_at_once_and_later_ones_when_they_have_settled() {
    let (board, source, _metrics) = board(None, None);
    assert_eq!(ports(&board, LATE), None);
    assert!(!board.has_answered(&key()));
    source.answer(members(&[1]));
    assert!(board.has_answered(&key()));
    assert_eq!(ports(&board, NOW), Some(vec![1]));
    source.answer(members(&[1, 2]));
    source.answer(members(&[1, 2, 3]));
    assert_eq!(ports(&board, NOW), Some(vec![1]));
    assert_eq!(ports(&board, SOON), Some(vec![1, 2, 3]));
    // What is taken back before it has settled never was.
    source.answer(members(&[9]));
    source.answer(members(&[1, 2, 3]));
    assert_eq!(ports(&board, LATE), Some(vec![1, 2, 3]));
}

#[test]
fn an_empty_answer_takes_nobody_away_until_it_has_lasted() {
    let (board, source, _metrics) = board(None, None);
    source.answer(members(&[1]));
    assert_eq!(ports(&board, NOW), Some(vec![1]));
    source.answer(Vec::new());
    source.answer(Vec::new());
    assert_eq!(ports(&board, SOON), Some(vec![1]));
    assert!(board.status(&key(), Instant::now()).unwrap().problem.unwrap().contains("no member"));
    source.answer(members(&[1]));
    assert_eq!(ports(&board, LATE), Some(vec![1]));
    assert_eq!(board.status(&key(), Instant::now()).unwrap().problem, None);
    source.answer(Vec::new());
    assert_eq!(ports(&board, LATE), Some(Vec::new()));
    assert_eq!(board.status(&key(), Instant::now()).unwrap().problem.as_deref(), Some("it names no member"));
    source.answer(members(&[1]));
    assert_eq!(board.status(&key(), Instant::now()).unwrap().problem, None);
}

#[test]
fn a_source_that_fails_or_says_what_cannot_be_changes_nothing() {
    let (board, source, _metrics) = board(None, None);
    source.answer(members(&[1]));
    assert_eq!(ports(&board, NOW), Some(vec![1]));
    source.failed("it is broken");
    source.answer(members(&[2, 2]));
    assert_eq!(ports(&board, LATE), Some(vec![1]));
    let status = board.status(&key(), Instant::now()).unwrap();
    assert_eq!(status.problem.as_deref(), Some("`10.0.0.1:2` is the name of two backends"));
    assert_eq!(board.metrics_of_errors(), 2);
}

#[test]
fn until_its_first_answer_a_source_has_the_members_of_before() {
    let folder = tempfile::tempdir().unwrap();
    let kept = || Some(folder.path().to_owned());
    let (first, source, _metrics) = board(kept(), None);
    source.answer(members(&[1, 2]));
    assert_eq!(ports(&first, NOW), Some(vec![1, 2]));
    let (second, source, _metrics) = board(kept(), None);
    assert_eq!(ports(&second, NOW), Some(vec![1, 2]), "as an earlier process kept them");
    second.start_without(&key());
    source.answer(members(&[3]));
    assert_eq!((ports(&second, NOW), ports(&second, SOON)), (Some(vec![1, 2]), Some(vec![3])));
    let (third, _, _metrics) = board(kept(), Some(members(&[7])));
    assert_eq!(ports(&third, NOW), Some(vec![7]), "what the process before knew is newer");
}

#[test]
fn an_answer_in_part_does_not_make_the_last_whole_one_younger() {
    let (board, source, _metrics) = board(None, None);
    let age = |after| board.status(&key(), Instant::now() + after).unwrap().age_seconds;
    source.answer_with(members(&[1]), Some("there is no name b"));
    assert!(age(LATE) >= Some(301), "of the first answer, where none was whole");
    let of_first = lock(&board.entries)[&key()].last;
    source.answer_with(members(&[1, 2]), Some("there is no name b"));
    assert_eq!(lock(&board.entries)[&key()].last, of_first);
    source.answer(members(&[1, 2]));
    assert!(lock(&board.entries)[&key()].last > of_first);
}

#[test]
fn the_age_of_an_answer_goes_on_in_the_process_after() {
    let board = Board::new(StateFolder::new(None), &Metrics::new());
    let last = Instant::now();
    board.begin(&key(), Some(members(&[1]).into()), Some(last), Duration::ZERO);
    assert_eq!(board.status(&key(), last + LATE).unwrap().age_seconds, Some(301));
    assert_eq!(board.last("chat"), Some(last));
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_told_when_an_answer_has_settled() {
    let (board, source, _metrics) = board(None, Some(members(&[1])));
    let waiting = tokio::spawn({
        let board = Arc::clone(&board);
        async move { board.due().await }
    });
    source.silent();
    source.answer(members(&[2]));
    waiting.await.unwrap();
    assert_eq!(ports(&board, SOON), Some(vec![2]));
}

/// The members in force, where clients wait for ten seconds: first the named ones, then the absent ones.
fn held(board: &Board, after: Duration) -> [Vec<String>; 2] {
    let due = board.take_due(&key(), Duration::from_secs(10), Instant::now() + after).unwrap();
    let names = |members: &[Member]| members.iter().map(|member| member.name.to_string()).collect();
    assert!(due.absent.iter().all(|member| member.is_absent() && !member.takes_new()));
    [names(&due.members), names(&due.absent)]
}

#[test]
fn a_named_member_that_is_gone_stays_as_absent_until_it_returns_or_nobody_waits_any_more() {
    let (board, source, _metrics) = board(None, None);
    let named = |name: &str, port| Member { name: name.into(), ..members(&[port]).remove(0) };
    source.answer(vec![named("a", 1), named("b", 2), members(&[3]).remove(0), named("c", 4)]);
    assert_eq!(held(&board, NOW), [vec!["a", "b", "10.0.0.1:3", "c"], vec![]]);
    source.answer(vec![named("a", 1)]);
    // An address without a name may not return.
    assert_eq!(held(&board, SOON), [vec!["a"], vec!["b", "c"]]);
    source.answer(vec![named("a", 1), named("b", 9)]);
    assert_eq!(held(&board, SOON * 2), [vec!["a", "b"], vec!["c"]]);
    assert_eq!(held(&board, SOON * 5), [vec!["a", "b"], vec!["c"]]);
    assert_eq!(held(&board, SOON * 7), [vec!["a", "b"], vec![]]);
    source.answer(vec![named("a", 1)]);
    // Without `absent` nobody waits.
    assert_eq!(ports(&board, SOON), Some(vec![1]));
    assert_eq!(held(&board, SOON), [vec!["a"], vec![]]);
}

#[test]
fn absent_members_of_a_process_before_are_waited_for_anew() {
    let (board, _source, _metrics) = board(None, None);
    let [a, b] = ["a", "b"].map(|name| Member { name: name.into(), ..members(&[1]).remove(0) });
    board.begin(&key(), Some([a, b.gone()].into()), None, Duration::from_secs(10));
    assert_eq!(held(&board, SOON), [vec!["a"], vec!["b"]]);
    assert_eq!(held(&board, SOON * 6), [vec!["a"], vec![]]);
}
