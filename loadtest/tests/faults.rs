//! Against a server that makes mistakes on purpose, the tool reports each, with the right count.

mod faulty;

use faulty::{Done, Faults};
use sockhop_loadtest::options::Options;
use sockhop_loadtest::plan::Plan;
use sockhop_loadtest::report::Report;
use sockhop_loadtest::run;

/// Broadcasts, some of which skip their sender, room messages and echoes, for three seconds.
fn everything(url: String) -> Options {
    Options {
        url: vec![url],
        connections: Some(20),
        duration: Some(3.0),
        publishers: Some(2),
        broadcast_rate: Some(60.0),
        skip: Some(40.0),
        rooms: Some(4),
        room_rate: Some(60.0),
        echo_rate: Some(100.0),
        // Acks that never come are waited for in the drain; so are held messages.
        drain: Some(6000),
        quiet: true,
        ..Options::default()
    }
}

fn against(faults: Faults) -> (Report, Done) {
    let (url, done) = faulty::start(faults);
    let plan = Plan::new("connect", everything(url)).expect("a sound plan");
    let report = run::run(plan).expect("a run");
    let done = *done.lock().expect("no panic");
    (report, done)
}

/// The same of both sides: what the server did and what the tool saw.
fn seen(report: &Report) -> Done {
    Done {
        lost: report.messages.lost,
        duplicated: report.messages.duplicates,
        reordered: report.messages.reordered,
        leaked: report.messages.skip_leaks,
        strayed: report.messages.strays,
        acks_lost: report.echoes.lost,
        acks_duplicated: report.echoes.duplicates,
        acks_corrupted: report.echoes.corrupt,
    }
}

fn assert_traffic(report: &Report) {
    assert_eq!(report.connected, 20, "{:?}", report.errors);
    assert!(report.messages.published > 100, "{:?}", report.messages);
    assert!(report.echoes.sent > 100, "{:?}", report.echoes);
    assert!(report.breaks.is_empty(), "{:?}", report.breaks);
}

#[test]
fn a_faultless_server_is_found_faultless() {
    let (report, done) = against(Faults::default());
    assert_traffic(&report);
    assert_eq!((done, seen(&report)), (Done::default(), Done::default()));
    let messages = report.messages;
    assert_eq!((messages.delivered, messages.extra), (messages.owed, 0));
    assert_eq!(report.echoes.answered, report.echoes.sent);
}

#[test]
fn every_kind_of_fault_is_reported_with_its_count() {
    let (report, done) = against(Faults {
        lose: 97,
        duplicate: 89,
        reorder: 83,
        leak: 5,
        stray: 10,
        lose_ack: 23,
        duplicate_ack: 29,
        corrupt_ack: 31,
    });
    assert_traffic(&report);
    assert_eq!(seen(&report), done);
    let kinds = [
        done.lost,
        done.duplicated,
        done.reordered,
        done.leaked,
        done.strayed,
        done.acks_lost,
        done.acks_duplicated,
        done.acks_corrupted,
    ];
    assert!(kinds.iter().all(|count| *count > 0), "{done:?}");
}

#[test]
fn one_kind_of_fault_is_not_taken_for_another() {
    let (report, done) = against(Faults {
        lose: 50,
        ..Faults::default()
    });
    assert_traffic(&report);
    assert_eq!(seen(&report), done);
    assert!(done.lost > 0);
    let by_second: u64 = report.seconds.iter().map(|second| second.lost).sum();
    assert_eq!(by_second, done.lost, "the timeline shows every loss");
}
