use super::*;
use crate::resp::{Limits, Step, Value, parse_value};

/// The commands that would be sent now, each as its words.
fn commands(subscriptions: &mut Subscriptions) -> Vec<Vec<String>> {
    let mut out = BytesMut::new();
    subscriptions.put_commands(&mut out);
    let mut commands = Vec::new();
    let mut at = 0;
    while at < out.len() {
        let Ok(Step::Done(Value::Array(words), end)) = parse_value(&out, at, &Limits::default())
        else {
            panic!("not a command");
        };
        let words = words.into_iter().map(|word| match word {
            Value::Bulk(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        });
        commands.push(words.collect());
        at = end;
    }
    commands.sort();
    commands
}

fn connected() -> Subscriptions {
    let mut subscriptions = Subscriptions::default();
    subscriptions.connected();
    subscriptions
}

#[test]
fn a_channel_is_subscribed_once_however_often_it_is_wanted() {
    let mut subscriptions = connected();
    assert!(subscriptions.subscribe(Kind::Channel, "a"));
    assert!(!subscriptions.subscribe(Kind::Channel, "a"));
    assert_eq!(commands(&mut subscriptions), [["SUBSCRIBE", "a"]]);
    assert!(!subscriptions.unsubscribe(Kind::Channel, "a"));
    assert_eq!(commands(&mut subscriptions), [[""; 0]; 0]);
    assert!(subscriptions.unsubscribe(Kind::Channel, "a"));
    assert_eq!(commands(&mut subscriptions), [["UNSUBSCRIBE", "a"]]);
    assert!(!subscriptions.unsubscribe(Kind::Channel, "a"));
    assert_eq!(subscriptions.wanted(), 0);
}

#[test]
fn changes_travel_together_and_those_that_cancel_out_not_at_all() {
    let mut subscriptions = connected();
    for name in ["a", "b", "c"] {
        subscriptions.subscribe(Kind::Channel, name);
    }
    subscriptions.subscribe(Kind::Pattern, "p*");
    subscriptions.unsubscribe(Kind::Channel, "b");
    assert_eq!(
        commands(&mut subscriptions),
        [vec!["PSUBSCRIBE", "p*"], vec!["SUBSCRIBE", "a", "c"]]
    );
}

#[test]
fn channels_of_shards_travel_one_by_one() {
    let mut subscriptions = connected();
    subscriptions.subscribe(Kind::Shard, "a");
    subscriptions.subscribe(Kind::Shard, "b");
    assert_eq!(
        commands(&mut subscriptions),
        [["SSUBSCRIBE", "a"], ["SSUBSCRIBE", "b"]]
    );
}

#[test]
fn a_wish_is_in_force_when_its_command_is_confirmed() {
    let mut subscriptions = connected();
    subscriptions.subscribe(Kind::Channel, "a");
    let wish = subscriptions.generation();
    assert!(subscriptions.confirmed() < wish);
    commands(&mut subscriptions);
    subscriptions.subscribe(Kind::Channel, "b");
    let confirmed = subscriptions.confirm(Kind::Channel, true, b"a");
    assert_eq!(confirmed, Confirmed::Expected);
    assert!(subscriptions.confirmed() >= wish);
    assert!(subscriptions.confirmed() < subscriptions.generation());
}

#[test]
fn a_wish_for_a_channel_that_was_queued_already_is_confirmed_too() {
    let mut subscriptions = connected();
    subscriptions.subscribe(Kind::Channel, "a");
    subscriptions.unsubscribe(Kind::Channel, "a");
    subscriptions.subscribe(Kind::Channel, "a");
    commands(&mut subscriptions);
    subscriptions.confirm(Kind::Channel, true, b"a");
    assert_eq!(subscriptions.confirmed(), subscriptions.generation());
}

#[test]
fn wishes_that_cancel_out_are_in_force_without_any_command() {
    let mut subscriptions = connected();
    subscriptions.subscribe(Kind::Channel, "a");
    subscriptions.unsubscribe(Kind::Channel, "a");
    assert_eq!(commands(&mut subscriptions), [[""; 0]; 0]);
    assert_eq!(subscriptions.confirmed(), subscriptions.generation());
}

#[test]
fn a_new_connection_begins_with_everything_that_is_wanted() {
    let mut subscriptions = connected();
    for name in ["a", "b", "c"] {
        subscriptions.subscribe(Kind::Channel, name);
    }
    commands(&mut subscriptions);
    subscriptions.disconnected();
    subscriptions.unsubscribe(Kind::Channel, "b");
    subscriptions.subscribe(Kind::Channel, "d");
    subscriptions.connected();
    let mut commands = commands(&mut subscriptions);
    commands[0][1..].sort();
    assert_eq!(commands, [["SUBSCRIBE", "a", "c", "d"]]);
}

#[test]
fn many_channels_go_in_rounds_and_wait_for_confirmations() {
    let mut subscriptions = Subscriptions::default();
    for number in 0..10 * CHANNELS_PER_ROUND {
        subscriptions.subscribe(Kind::Channel, &number.to_string());
    }
    subscriptions.connected();
    let mut sent = Vec::new();
    for round in 0.. {
        let commands = commands(&mut subscriptions);
        let Some(command) = commands.first() else {
            assert_eq!(round, MAX_UNCONFIRMED / CHANNELS_PER_ROUND);
            break;
        };
        assert_eq!(command.len(), CHANNELS_PER_ROUND + 1);
        sent.extend_from_slice(&command[1..]);
    }
    subscriptions.confirm(Kind::Channel, true, sent[0].as_bytes());
    assert_eq!(commands(&mut subscriptions).len(), 1);
}

#[test]
fn an_end_that_nobody_asked_for_is_noticed() {
    let mut subscriptions = connected();
    subscriptions.subscribe(Kind::Shard, "a");
    commands(&mut subscriptions);
    subscriptions.confirm(Kind::Shard, true, b"a");
    let confirmed = subscriptions.confirm(Kind::Shard, false, b"a");
    assert_eq!(confirmed, Confirmed::Unasked);
}

#[test]
fn a_new_connection_is_complete_only_with_the_last_confirmation() {
    let mut subscriptions = connected();
    for number in 0..2 * CHANNELS_PER_ROUND {
        subscriptions.subscribe(Kind::Channel, &number.to_string());
    }
    let complete = subscriptions.connected();
    let rounds: Vec<_> = (0..2).flat_map(|_| commands(&mut subscriptions)).collect();
    for command in rounds {
        for name in &command[1..] {
            assert!(subscriptions.confirmed() < complete);
            subscriptions.confirm(Kind::Channel, true, name.as_bytes());
        }
    }
    assert_eq!(subscriptions.confirmed(), complete);
}

#[test]
fn what_moves_elsewhere_keeps_its_count() {
    let mut subscriptions = connected();
    subscriptions.subscribe(Kind::Shard, "a");
    subscriptions.subscribe(Kind::Shard, "a");
    subscriptions.subscribe(Kind::Shard, "b");
    let taken = subscriptions.take(|_, name| name == "a");
    assert_eq!(taken, [(Kind::Shard, Arc::from("a"), 2)]);
    assert_eq!(subscriptions.wanted(), 1);
}

#[test]
fn what_a_server_refuses_is_missed_until_it_is_tried_again() {
    let mut subscriptions = connected();
    subscriptions.subscribe(Kind::Shard, "a");
    commands(&mut subscriptions);
    assert!(!subscriptions.misses_any());
    assert!(subscriptions.refused());
    assert!(subscriptions.misses_any());
    assert!(subscriptions.retry_lost());
    assert_eq!(commands(&mut subscriptions), [["SSUBSCRIBE", "a"]]);
    subscriptions.confirm(Kind::Shard, true, b"a");
    assert!(!subscriptions.misses_any() && !subscriptions.retry_lost());
    subscriptions.lost(Kind::Shard, b"a");
    assert!(subscriptions.misses_any());
}
