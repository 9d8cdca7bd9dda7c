use testkit::Clock;

use super::*;
use crate::cluster::member::ForwardToken;

const SECOND: Duration = Duration::from_secs(1);

fn member(number: u64) -> Member {
    Member {
        node: NodeId::new(number),
        started_ms: 1,
        version: "1".to_owned(),
        dialects: Vec::new(),
        address: None,
        token: ForwardToken::new([7; 32]),
    }
}

fn node(clock: &Clock) -> Membership {
    let config = MembershipConfig {
        heartbeat: 2 * SECOND,
        timeout: 8 * SECOND,
        max_members: 2,
    };
    Membership::new(member(1), config, clock.now())
}

/// A node whose link came up at once.
fn up(clock: &Clock) -> Membership {
    let mut node = node(clock);
    node.handle_link(clock.now(), Link::Up);
    assert_eq!(said(&mut node), [(None, Announcement::Hello)]);
    node
}

fn said(node: &mut Membership) -> Vec<Transmit> {
    std::iter::from_fn(|| node.poll_transmit()).collect()
}

fn events(node: &mut Membership) -> Vec<MemberEvent> {
    std::iter::from_fn(|| node.poll_event()).collect()
}

fn joined(number: u64) -> MemberEvent {
    MemberEvent::Joined(member(number))
}

fn left(number: u64) -> MemberEvent {
    MemberEvent::Left(NodeId::new(number))
}

#[test]
fn a_hello_is_answered_at_once_and_only_to_the_asking_node() {
    let clock = Clock::new();
    let mut node = up(&clock);
    node.handle_announcement(clock.now(), member(2), true);
    assert_eq!(events(&mut node), [joined(2)]);
    let answer = (Some(NodeId::new(2)), Announcement::Alive);
    assert_eq!(said(&mut node), [answer]);
    node.handle_announcement(clock.now(), member(3), false);
    assert_eq!(said(&mut node), []);
    assert_eq!(node.others().len(), 2);
}

#[test]
fn a_heartbeat_is_said_in_time() {
    let mut clock = Clock::new();
    let mut node = up(&clock);
    for _ in 0..3 {
        assert_eq!(node.poll_timeout(), Some(clock.after(2 * SECOND)));
        clock.advance(2 * SECOND);
        node.handle_timeout(clock.now());
        assert_eq!(said(&mut node), [(None, Announcement::Alive)]);
    }
}

#[test]
fn who_says_nothing_is_gone_after_the_timeout() {
    let mut clock = Clock::new();
    let mut node = up(&clock);
    node.handle_announcement(clock.now(), member(2), false);
    node.handle_announcement(clock.now(), member(3), false);
    events(&mut node);
    clock.advance(7 * SECOND);
    node.handle_announcement(clock.now(), member(3), false);
    clock.advance(SECOND);
    node.handle_timeout(clock.now());
    assert_eq!(events(&mut node), [left(2)]);
    node.handle_announcement(clock.now(), member(2), false);
    assert_eq!(events(&mut node), [joined(2)], "it was cut off, not dead");
}

#[test]
fn nobody_is_gone_while_the_own_link_is_down_and_all_get_their_time_anew() {
    let mut clock = Clock::new();
    let mut node = up(&clock);
    node.handle_announcement(clock.now(), member(2), false);
    events(&mut node);
    clock.advance(7 * SECOND);
    let since = clock.now();
    node.handle_link(clock.now(), Link::Down { since });
    said(&mut node);
    assert_eq!(node.poll_timeout(), None);
    clock.advance(3600 * SECOND);
    node.handle_timeout(clock.now());
    assert_eq!(events(&mut node), []);
    node.handle_link(clock.now(), Link::Up);
    node.handle_timeout(clock.now());
    assert_eq!(said(&mut node), [(None, Announcement::Hello)]);
    clock.advance(8 * SECOND - Duration::from_millis(1));
    node.handle_timeout(clock.now());
    assert_eq!(events(&mut node), []);
    clock.advance(Duration::from_millis(1));
    node.handle_timeout(clock.now());
    assert_eq!(events(&mut node), [left(2)]);
}

#[test]
fn who_said_goodbye_does_not_come_back() {
    let clock = Clock::new();
    let mut node = up(&clock);
    node.handle_announcement(clock.now(), member(2), false);
    node.handle_goodbye(NodeId::new(2));
    node.handle_announcement(clock.now(), member(2), false);
    assert_eq!(events(&mut node), [joined(2), left(2)]);
    assert_eq!(node.others().len(), 0);
}

#[test]
fn another_run_under_the_same_id_is_another_node() {
    let clock = Clock::new();
    let mut node = up(&clock);
    node.handle_announcement(clock.now(), member(2), false);
    let again = Member {
        started_ms: 2,
        ..member(2)
    };
    node.handle_announcement(clock.now(), again.clone(), false);
    let expected = [joined(2), left(2), MemberEvent::Joined(again)];
    assert_eq!(events(&mut node), expected);
}

#[test]
fn it_settles_with_the_first_answer_or_after_a_heartbeat() {
    let mut clock = Clock::new();
    let mut asked = up(&clock);
    assert!(!asked.is_settled() && asked.may_have_others());
    asked.handle_announcement(clock.now(), member(2), false);
    assert!(asked.is_settled());

    let mut lonely = node(&clock);
    clock.advance(10 * SECOND);
    lonely.handle_timeout(clock.now());
    assert!(!lonely.is_settled(), "nobody could hear it");
    lonely.handle_link(clock.now(), Link::Up);
    clock.advance(2 * SECOND);
    lonely.handle_timeout(clock.now());
    assert!(lonely.is_settled() && !lonely.may_have_others());
}

#[test]
fn members_are_limited_and_the_refused_counted() {
    let clock = Clock::new();
    let mut node = up(&clock);
    for number in 2..=5 {
        node.handle_announcement(clock.now(), member(number), true);
    }
    assert_eq!(node.others().len(), 2);
    assert_eq!(node.take_refused(), 2);
    assert_eq!(node.take_refused(), 0);
}

#[test]
fn goodbye_is_the_last_word() {
    let mut clock = Clock::new();
    let mut node = up(&clock);
    node.handle_announcement(clock.now(), member(2), true);
    node.close(Link::Up);
    node.close(Link::Up);
    assert_eq!(said(&mut node), [(None, Announcement::Goodbye)]);
    clock.advance(100 * SECOND);
    node.handle_timeout(clock.now());
    node.handle_announcement(clock.now(), member(3), true);
    assert_eq!(said(&mut node), []);
    assert_eq!(node.poll_timeout(), None);
}

#[test]
fn a_token_is_not_shown() {
    let shown = format!("{:?}", member(1));
    assert!(shown.contains("ForwardToken(…)"), "{shown}");
}
