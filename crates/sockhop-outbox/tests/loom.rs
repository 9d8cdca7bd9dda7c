//! Every interleaving of pushing threads and the owner, explored by loom.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p sockhop-outbox --release --test loom`; without
//! the flag there is nothing in here.
#![cfg(loom)]

use std::future::poll_fn;
use std::task::Poll;

use loom::future::block_on;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use sockhop_outbox::{Demand, Outbox, Push, Taken};

/// Sleeps until something is there; a wake-up that got lost is a deadlock, which loom reports.
fn take(outbox: &Outbox<u32>) -> Taken<u32> {
    block_on(poll_fn(|cx| outbox.poll_take(cx)))
}

fn take_count(outbox: &Outbox<u32>, count: usize) -> Vec<u32> {
    let mut taken = Vec::new();
    while taken.len() < count {
        match take(outbox) {
            Taken::Items(items) => taken.extend(items),
            Taken::Overflowed | Taken::Closed => panic!("the outbox has ended"),
        }
    }
    taken
}

#[test]
fn no_wake_up_is_lost_and_a_pusher_keeps_its_order() {
    loom::model(|| {
        let outbox = Outbox::new(1000);
        let pusher = {
            let outbox = outbox.clone();
            thread::spawn(move || {
                for number in [1, 2, 3] {
                    assert_eq!(outbox.push(number, 10), Push::Queued);
                }
            })
        };
        assert_eq!(take_count(&outbox, 3), [1, 2, 3]);
        outbox.refund(30);
        assert_eq!(outbox.queued_bytes(), 0);
        pusher.join().unwrap();
    });
}

#[test]
fn no_wake_up_is_lost_when_two_threads_push() {
    loom::model(|| {
        let outbox = Outbox::new(1000);
        let pushers = [1, 2].map(|number| {
            let outbox = outbox.clone();
            thread::spawn(move || assert_eq!(outbox.push(number, 10), Push::Queued))
        });
        let mut taken = take_count(&outbox, 2);
        taken.sort_unstable();
        assert_eq!(taken, [1, 2]);
        for pusher in pushers {
            pusher.join().unwrap();
        }
    });
}

#[test]
fn a_look_without_sleeping_loses_no_wake_up() {
    loom::model(|| {
        let outbox = Outbox::new(1000);
        let pusher = {
            let outbox = outbox.clone();
            thread::spawn(move || assert_eq!(outbox.push(1, 10), Push::Queued))
        };
        let taken = match outbox.take() {
            Some(Taken::Items(items)) => items.into_iter().collect(),
            Some(Taken::Overflowed | Taken::Closed) => panic!("the outbox has ended"),
            None => take_count(&outbox, 1),
        };
        assert_eq!(taken, [1]);
        pusher.join().unwrap();
    });
}

#[test]
fn no_byte_is_lost_between_charging_and_refunding() {
    loom::model(|| {
        let outbox = Outbox::new(25);
        let refused = Arc::new(AtomicUsize::new(0));
        let pusher = {
            let (outbox, refused) = (outbox.clone(), Arc::clone(&refused));
            thread::spawn(move || {
                for number in 0..3 {
                    if outbox.push(number, 10) == Push::Overflow {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        };
        let mut taken = 0;
        loop {
            match take(&outbox) {
                Taken::Items(items) => {
                    taken += items.len();
                    outbox.refund(10 * items.len());
                }
                Taken::Overflowed => {
                    taken += outbox.close().len();
                    break;
                }
                Taken::Closed => panic!("nobody else closes"),
            }
            if taken == 3 {
                break;
            }
        }
        pusher.join().unwrap();
        // Only the third push can exceed the budget; nothing else may be missing.
        assert_eq!(taken + refused.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn an_overflow_always_reaches_the_owner() {
    loom::model(|| {
        let outbox = Outbox::new(10);
        let pusher = {
            let outbox = outbox.clone();
            thread::spawn(move || {
                assert_eq!(outbox.push(1, 10), Push::Queued);
                assert_eq!(outbox.push(2, 10), Push::Overflow);
            })
        };
        loop {
            match take(&outbox) {
                // Never refunded, so the second push must overflow.
                Taken::Items(items) => assert_eq!(items.len(), 1),
                Taken::Overflowed => break,
                Taken::Closed => panic!("nobody closes"),
            }
        }
        pusher.join().unwrap();
    });
}

#[test]
fn closing_wakes_the_owner_and_hides_no_item() {
    loom::model(|| {
        let outbox = Outbox::new(1000);
        let closer = {
            let outbox = outbox.clone();
            thread::spawn(move || {
                assert_eq!(outbox.push(1, 10), Push::Queued);
                outbox.close().len()
            })
        };
        let mut taken = 0;
        while let Taken::Items(items) = take(&outbox) {
            taken += items.len();
        }
        assert_eq!(taken + closer.join().unwrap(), 1);
        assert_eq!(outbox.push(2, 10), Push::Closed);
    });
}

#[test]
fn a_volatile_item_is_either_taken_or_reported_dropped() {
    loom::model(|| {
        let outbox = Outbox::new(1000);
        outbox.set_writable(true);
        let pushers = [1, 2].map(|number| {
            let outbox = outbox.clone();
            thread::spawn(move || outbox.push_volatile(number, 10) == Push::Queued)
        });
        let first = take_count(&outbox, 1).len();
        let queued = pushers.map(|pusher| pusher.join().unwrap());
        let mut rest = 0;
        block_on(poll_fn(|cx| {
            if let Poll::Ready(Taken::Items(items)) = outbox.poll_take(cx) {
                rest += items.len();
            }
            Poll::Ready(())
        }));
        assert_eq!(
            first + rest,
            queued.iter().filter(|&&queued| queued).count()
        );
    });
}

/// Items of ten bytes that all give way.
fn ten(_: &u32) -> Option<usize> {
    Some(10)
}

#[test]
fn what_gives_way_is_either_taken_or_reported() {
    loom::model(|| {
        let outbox = Outbox::new(10);
        let pusher = {
            let outbox = outbox.clone();
            thread::spawn(move || {
                for number in 0..3 {
                    assert_eq!(outbox.push_yielding(number, 10, ten), Push::Queued);
                }
            })
        };
        let (mut taken, mut displaced) = (Vec::new(), 0);
        while taken.len() + displaced < 3 {
            match take(&outbox) {
                Taken::Items(items) => {
                    displaced += items.displaced() as usize;
                    let excess = items.demand() != Demand::None;
                    assert_eq!(excess, taken.len() + items.len() > 1);
                    taken.extend(items);
                }
                Taken::Overflowed | Taken::Closed => panic!("nothing overflows"),
            }
        }
        assert!(taken.is_sorted());
        assert_eq!(outbox.queued_bytes(), 10 * taken.len());
        pusher.join().unwrap();
    });
}
