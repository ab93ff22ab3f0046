//! What a line does, number by number.

use super::*;

fn line_of(numbers: u64) -> Line {
    let mut line = Line::new(1);
    for _ in 0..numbers {
        line.give();
    }
    line
}

fn members(bits: &Bits, upto: u64) -> Vec<u64> {
    (0..upto).filter(|number| bits.contains(*number)).collect()
}

#[test]
fn numbers_are_called_in_order_across_words() {
    let mut line = line_of(200);
    line.remove(2);
    line.remove(64);
    assert_eq!(line.call(3, 10), 3);
    assert_eq!(members(line.called(), 300), [1, 3, 4]);
    assert_eq!((line.head(), line.ahead_of(8)), (5, 3));
    assert_eq!(line.call(100, 20), 100);
    assert_eq!((line.head(), line.seat(105), line.seat(106)), (106, Seat::Called, Seat::Waiting));
    assert_eq!(line.call(1_000, 30), 95, "no more than there are");
    assert_eq!((line.head(), line.give()), (201, 201));
    assert_eq!(line.seat(201), Seat::Waiting);
}

#[test]
fn those_ahead_are_the_same_counted_from_either_end() {
    let mut line = line_of(1_000);
    line.call(130, 10);
    line.remove(400);
    for number in 1..1_100 {
        let right = (131..number.min(1_001)).filter(|ahead| *ahead != 400).count() as u64;
        assert_eq!(line.ahead_of(number), right, "ahead of {number}");
    }
}

#[test]
fn calls_run_out_as_ranges_in_the_order_they_were_made() {
    let mut line = line_of(6);
    line.call(2, 10);
    line.call(2, 20);
    line.expire_calls(9);
    assert_eq!(members(line.called(), 9), [1, 2, 3, 4]);
    line.expire_calls(10);
    assert_eq!(members(line.called(), 9), [3, 4]);
    line.expire_calls(20);
    assert!(line.called().is_empty());
    assert_eq!(members(line.waiting(), 9), [5, 6]);
}

#[test]
fn two_silent_periods_lose_a_place_and_one_does_not() {
    let mut line = line_of(3);
    line.rotate();
    line.rotate();
    line.hear(2);
    assert_eq!(members(line.waiting(), 9), [1, 2, 3], "heard of in the period before the last");
    line.rotate();
    assert_eq!(members(line.waiting(), 9), [2]);
    line.hear(1);
    line.rotate();
    line.rotate();
    assert!(line.waiting().is_empty(), "a dead number stays dead");
}

#[test]
fn a_lost_number_comes_back_once() {
    let mut line = line_of(2);
    line.call(2, 10);
    line.lose_from(3, 100);
    assert_eq!((line.next(), line.head()), (100, 100));
    assert!(line.recover(50) && line.recover(7));
    assert_eq!((line.head(), line.ahead_of(50)), (7, 1));
    assert!(!line.recover(2), "its fate is known");
    line.call(1, 20);
    line.remove(7);
    assert!(!line.recover(7), "it was back already");
    assert_eq!(line.give(), 100);
    line.remove(100);
    line.lose_from(101, 200);
    assert!(!line.recover(100), "given since, so its fate is known, whatever was lost behind it");
}

#[test]
fn whoever_came_back_behind_the_head_is_not_called_by_an_old_hint() {
    let mut line = line_of(20);
    line.lose_from(21, 100);
    line.catch_up_head(50, 10);
    assert_eq!(line.called().count(), 20);
    assert!(line.recover(30));
    line.catch_up_head(50, 11);
    assert_eq!(line.seat(30), Seat::Waiting);
    line.catch_up_head(60, 12);
    assert_eq!(line.seat(30), Seat::Waiting, "the head has been beyond that, too: nobody was known to wait");
}

#[test]
fn a_hint_beyond_the_last_number_is_cut_to_it() {
    let mut line = line_of(3);
    line.catch_up_head(1_000, 10);
    let number = line.give();
    assert_eq!((number, line.head(), line.call(1, 11)), (4, 4, 1));
}

#[test]
fn a_snapshot_in_doubt_itself_settles_nothing() {
    let (mut waiting, called) = (Bits::default(), Bits::default());
    waiting.insert(5);
    for (complete, comes_back) in [(true, false), (false, true)] {
        let mut line = Line::new(1);
        line.lose_from(1, 100);
        line.restore(&waiting, &called, 10, complete, 10);
        assert_eq!(members(line.waiting(), 99), [5]);
        assert_eq!(line.recover(6), comes_back, "complete: {complete}");
        assert!(line.recover(20), "given after the snapshot");
        line.remove(5);
        assert!(!line.recover(5), "its fate is known since");
    }
}

#[test]
fn restored_calls_run_out_even_when_somebody_came_back_before_them() {
    let (waiting, mut called) = (Bits::default(), Bits::default());
    called.insert(40);
    let mut line = Line::new(1);
    line.lose_from(1, 100);
    line.recover(30);
    line.restore(&waiting, &called, 50, true, 10);
    assert_eq!((line.seat(40), line.head()), (Seat::Called, 30));
    line.expire_calls(10);
    assert_eq!(line.seat(40), Seat::Absent);
    assert_eq!(line.seat(30), Seat::Waiting);
}

#[test]
fn the_bitmap_of_calls_moves_on_when_everybody_enters_at_once() {
    let mut line = Line::new(1);
    for now in 0..100_000 {
        let number = line.give();
        line.call(1, now);
        line.remove(number);
        line.expire_calls(now.saturating_sub(50));
    }
    assert!(line.called().words().len() < 200, "{} words", line.called().words().len());
}

#[test]
fn absurd_numbers_do_no_harm() {
    let mut line = line_of(3);
    assert!(!line.recover(u64::MAX));
    assert_eq!(line.give(), 4);
    let mut lost = Line::lost(1);
    assert!(!lost.recover(u64::MAX), "beyond every number");
    assert!(lost.recover(5));
    lost.call(1, 10);
    assert!(lost.recover(3));
    assert_eq!(lost.seat(5), Seat::Called);
}

#[test]
fn what_cannot_come_back_needs_no_memory() {
    let mut line = Line::new(1);
    line.lose_from(1, 1_000_000_000);
    line.settle();
    line.lose_from(1_000_000_000, 1_000_065_536);
    line.close(1_000_000_005);
    line.close(7);
    assert_eq!(line.doubt.as_ref().map(|doubt| doubt.heard.count()), Some(1));
    assert!(!line.recover(7) && !line.recover(1_000_000_005) && line.recover(1_000_000_006));
}
