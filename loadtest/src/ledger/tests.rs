use super::*;

const SECOND: u64 = 1_000_000;

/// Two seconds of grace, and everybody is in the room 1 since the start.
fn ledger(peers: u32) -> Ledger {
    let mut ledger = Ledger::new(2 * SECOND, 0);
    for _ in 0..peers {
        let peer = ledger.open();
        ledger.join_requested(peer, 1);
        ledger.join_confirmed(peer, 1, 0);
    }
    ledger
}

fn publish(ledger: &mut Ledger, times: &[u64]) -> u32 {
    let mut stream = 0;
    for time in times {
        (stream, _) = ledger.publish(0, 1, false, *time);
    }
    stream
}

#[test]
fn what_everybody_got_is_neither_lost_nor_extra() {
    let mut ledger = ledger(3);
    let stream = publish(&mut ledger, &[1, 2, 3]);
    for peer in 0..3 {
        for number in 0..3 {
            assert_eq!(ledger.arrived(peer, stream, number), Arrival::InOrder);
        }
    }
    ledger.finish(10);
    let expected = Tally {
        published: 3,
        owed: 9,
        delivered: 9,
        ..Tally::default()
    };
    assert_eq!(ledger.tally(), expected);
}

#[test]
fn a_hole_is_lost_in_the_second_in_which_it_was_sent() {
    let mut ledger = ledger(2);
    let stream = publish(&mut ledger, &[0, 3 * SECOND, 4 * SECOND]);
    for number in 0..3 {
        ledger.arrived(0, stream, number);
    }
    ledger.arrived(1, stream, 0);
    ledger.arrived(1, stream, 2);
    ledger.finish(5 * SECOND);
    assert_eq!(ledger.tally().lost, 1);
    assert_eq!(ledger.lost_by_second(), [0, 0, 0, 1]);
}

#[test]
fn the_last_message_is_lost_too() {
    let mut ledger = ledger(2);
    let stream = publish(&mut ledger, &[0, 1]);
    ledger.arrived(0, stream, 0);
    ledger.arrived(0, stream, 1);
    ledger.finish(2);
    assert_eq!((ledger.tally().owed, ledger.tally().lost), (4, 2));
}

#[test]
fn late_is_reordered_and_again_is_a_duplicate() {
    let mut ledger = ledger(2);
    let stream = publish(&mut ledger, &[1, 2, 3, 4]);
    let seen = [2, 0, 1, 1, 3].map(|number| ledger.arrived(1, stream, number));
    use Arrival::{Duplicate, InOrder, Late};
    assert_eq!(seen, [InOrder, Late, Late, Duplicate, InOrder]);
    for number in 0..4 {
        ledger.arrived(0, stream, number);
    }
    ledger.finish(10);
    let tally = ledger.tally();
    assert_eq!((tally.reordered, tally.duplicates, tally.lost), (2, 1, 0));
    assert_eq!(tally.delivered, 8);
}

#[test]
fn the_skipped_sender_is_owed_nothing_and_must_get_nothing() {
    let mut ledger = ledger(2);
    let (stream, number) = ledger.publish(0, 1, true, 5);
    assert_eq!(ledger.arrived(1, stream, number), Arrival::InOrder);
    assert_eq!(ledger.arrived(0, stream, number), Arrival::SkipLeak);
    ledger.finish(10);
    let tally = ledger.tally();
    assert_eq!((tally.owed, tally.lost, tally.skip_leaks), (1, 0, 1));
}

#[test]
fn nothing_is_owed_before_a_join_is_confirmed_but_it_may_arrive() {
    let mut ledger = ledger(1);
    let peer = ledger.open();
    ledger.join_requested(peer, 1);
    let stream = publish(&mut ledger, &[1, 2]);
    ledger.join_confirmed(peer, 1, 3);
    publish(&mut ledger, &[4]);
    for number in 0..3 {
        ledger.arrived(0, stream, number);
    }
    ledger.arrived(peer, stream, 1);
    ledger.arrived(peer, stream, 2);
    ledger.finish(10);
    let tally = ledger.tally();
    assert_eq!((tally.owed, tally.delivered, tally.lost), (4, 4, 0));
    assert_eq!(tally.extra, 1);
}

#[test]
fn after_a_confirmed_leave_an_arrival_is_a_stray() {
    let mut ledger = ledger(2);
    let stream = publish(&mut ledger, &[1]);
    ledger.leave_requested(1, 1, 2);
    publish(&mut ledger, &[3]);
    ledger.leave_confirmed(1, 1, 4);
    publish(&mut ledger, &[5]);
    let seen = [0, 1, 2].map(|number| ledger.arrived(1, stream, number));
    assert_eq!(seen, [Arrival::InOrder, Arrival::InOrder, Arrival::Stray]);
    let stranger = ledger.open();
    assert_eq!(ledger.arrived(stranger, stream, 0), Arrival::Stray);
}

#[test]
fn in_flight_at_a_leave_is_in_doubt_and_long_before_is_lost() {
    let mut ledger = ledger(2);
    let stream = publish(&mut ledger, &[1, 9 * SECOND]);
    for number in 0..2 {
        ledger.arrived(0, stream, number);
    }
    ledger.leave_requested(1, 1, 10 * SECOND);
    ledger.leave_confirmed(1, 1, 10 * SECOND);
    ledger.finish(20 * SECOND);
    assert_eq!((ledger.tally().lost, ledger.tally().in_doubt), (1, 1));
}

#[test]
fn in_flight_at_a_leave_is_in_doubt_whatever_comes_after_a_return() {
    let mut ledger = ledger(2);
    let stream = publish(&mut ledger, &[0, SECOND, 10 * SECOND]);
    for number in 0..3 {
        ledger.arrived(0, stream, number);
    }
    ledger.arrived(1, stream, 0);
    ledger.leave_requested(1, 1, SECOND + 1);
    ledger.leave_confirmed(1, 1, SECOND + 2);
    ledger.join_requested(1, 1);
    ledger.join_confirmed(1, 1, 5 * SECOND);
    ledger.arrived(1, stream, 2);
    ledger.finish(20 * SECOND);
    let Tally { lost, in_doubt, .. } = ledger.tally();
    assert_eq!((lost, in_doubt), (0, 1));
}

#[test]
fn a_hole_with_something_behind_it_is_lost_even_right_before_a_leave() {
    let mut ledger = ledger(2);
    let stream = publish(&mut ledger, &[1, 2]);
    ledger.arrived(0, stream, 0);
    ledger.arrived(0, stream, 1);
    ledger.arrived(1, stream, 1);
    ledger.close(1, 3, End::Asked);
    ledger.finish(10);
    assert_eq!((ledger.tally().lost, ledger.tally().in_doubt), (1, 0));
}

#[test]
fn a_break_cuts_what_was_in_flight_and_the_absence_is_missed() {
    let mut ledger = ledger(2);
    let stream = publish(&mut ledger, &[SECOND, 2 * SECOND]);
    ledger.arrived(1, stream, 0);
    ledger.close(1, 2 * SECOND + 1, End::Broken);
    publish(&mut ledger, &[3 * SECOND, 4 * SECOND]);
    ledger.missed(1, 2 * SECOND + 1, 5 * SECOND);
    for number in 0..4 {
        ledger.arrived(0, stream, number);
    }
    ledger.finish(9 * SECOND);
    let tally = ledger.tally();
    assert_eq!((tally.cut, tally.missed, tally.lost), (1, 2, 0));
    assert_eq!(ledger.cut_by_second(), [0, 0, 1]);
    assert_eq!(ledger.missed_by_second(), [0, 0, 0, 1, 1]);
}

#[test]
fn what_a_breaking_publisher_sent_last_is_cut() {
    let mut ledger = ledger(2);
    let stream = publish(&mut ledger, &[SECOND, 2 * SECOND]);
    ledger.arrived(1, stream, 0);
    ledger.close(0, 2 * SECOND + 1, End::Broken);
    ledger.finish(9 * SECOND);
    let tally = ledger.tally();
    assert_eq!((tally.cut, tally.lost), (3, 0));
}

#[test]
fn a_join_may_be_given_time_to_settle() {
    let mut ledger = Ledger::new(0, 5);
    let peer = ledger.open();
    ledger.join_requested(peer, 1);
    ledger.join_confirmed(peer, 1, 10);
    let publisher = ledger.open();
    ledger.publish(publisher, 1, false, 14);
    ledger.publish(publisher, 1, false, 15);
    ledger.finish(20);
    assert_eq!(ledger.tally().owed, 1);
}

#[test]
fn a_message_that_was_never_sent_is_a_stray() {
    let mut ledger = ledger(1);
    assert_eq!(ledger.arrived(0, 7, 0), Arrival::Unknown);
    assert_eq!(ledger.tally().strays, 1);
}
