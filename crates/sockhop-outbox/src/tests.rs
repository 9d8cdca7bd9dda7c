use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::*;

/// A waker that counts its calls.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Bell {
    fn rings(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn bell() -> (Arc<Bell>, Waker) {
    let bell = Arc::new(Bell::default());
    (Arc::clone(&bell), Waker::from(bell))
}

fn take<T>(outbox: &Outbox<T>, waker: &Waker) -> Poll<Taken<T>> {
    outbox.poll_take(&mut Context::from_waker(waker))
}

fn items<T>(outbox: &Outbox<T>) -> Vec<T> {
    match take(outbox, Waker::noop()) {
        Poll::Ready(Taken::Items(items)) => items.into_iter().collect(),
        Poll::Ready(Taken::Overflowed | Taken::Closed) => panic!("the outbox has ended"),
        Poll::Pending => Vec::new(),
    }
}

#[test]
fn items_come_out_in_the_order_in_which_they_went_in() {
    let outbox = Outbox::new(1000);
    for round in 1..=40 {
        for number in 0..round {
            assert_eq!(outbox.push(number, 1), Push::Queued);
        }
        assert_eq!(items(&outbox), (0..round).collect::<Vec<_>>());
        outbox.refund(round);
    }
    assert_eq!(outbox.queued_bytes(), 0);
}

#[test]
fn only_the_push_into_an_empty_queue_rings() {
    let outbox = Outbox::new(1000);
    let (bell, waker) = bell();
    assert!(take(&outbox, &waker).is_pending());
    for number in 0..10 {
        assert_eq!(outbox.push(number, 1), Push::Queued);
    }
    assert_eq!(bell.rings(), 1);

    assert_eq!(items(&outbox).len(), 10);
    assert!(take(&outbox, &waker).is_pending());
    assert_eq!(outbox.push_control(10), Push::Queued);
    assert_eq!(bell.rings(), 2);
}

#[test]
fn the_waker_of_the_latest_poll_is_the_one_that_rings() {
    let outbox = Outbox::new(1000);
    let (first_bell, first) = bell();
    let (second_bell, second) = bell();
    assert!(take(&outbox, &first).is_pending());
    assert!(take(&outbox, &second).is_pending());
    assert_eq!(outbox.push((), 1), Push::Queued);
    assert_eq!((first_bell.rings(), second_bell.rings()), (0, 1));
}

#[test]
fn the_same_waker_is_not_cloned_again() {
    let outbox = Outbox::<()>::new(1000);
    let (bell, waker) = bell();
    assert!(take(&outbox, &waker).is_pending());
    let references = Arc::strong_count(&bell);
    assert!(take(&outbox, &waker).is_pending());
    assert_eq!(Arc::strong_count(&bell), references);
}

#[test]
fn bytes_stay_charged_until_they_are_refunded() {
    let outbox = Outbox::new(100);
    assert_eq!(outbox.push('a', 60), Push::Queued);
    assert_eq!(items(&outbox), ['a']);
    assert_eq!(outbox.queued_bytes(), 60);
    outbox.refund(60);
    assert_eq!(outbox.push('b', 100), Push::Queued);
}

#[test]
fn exceeding_the_budget_rings_the_owner_and_refuses_what_follows() {
    let outbox = Outbox::new(100);
    let (bell, waker) = bell();
    assert_eq!(outbox.push('a', 60), Push::Queued);
    assert_eq!(items(&outbox), ['a']);
    assert!(take(&outbox, &waker).is_pending());

    assert_eq!(outbox.push('b', 41), Push::Overflow);
    assert_eq!(bell.rings(), 1);
    assert_eq!(outbox.push('c', 1), Push::Overflow);
    assert_eq!(outbox.push_volatile('d', 1), Push::Overflow);
    assert_eq!(outbox.push_control('e'), Push::Overflow);
    assert_eq!(outbox.charge(1), Push::Overflow);
    assert!(matches!(
        take(&outbox, &waker),
        Poll::Ready(Taken::Overflowed)
    ));
}

#[test]
fn one_item_larger_than_the_budget_passes_when_nothing_is_charged() {
    let outbox = Outbox::new(100);
    assert_eq!(outbox.push('a', 5000), Push::Queued);
    assert_eq!(outbox.push('b', 1), Push::Overflow);
}

#[test]
fn what_the_owner_sends_itself_counts_against_the_budget_too() {
    let outbox = Outbox::<()>::new(100);
    assert_eq!(outbox.charge(80), Push::Queued);
    assert_eq!(outbox.queued_bytes(), 80);
    assert_eq!(outbox.charge(21), Push::Overflow);
    assert!(matches!(
        take(&outbox, Waker::noop()),
        Poll::Ready(Taken::Overflowed)
    ));
}

#[test]
fn a_volatile_item_needs_a_writable_owner_and_an_empty_queue() {
    let outbox = Outbox::new(100);
    assert_eq!(outbox.push_volatile('a', 10), Push::Dropped);
    outbox.set_writable(true);
    assert_eq!(outbox.push_volatile('b', 10), Push::Queued);
    assert_eq!(outbox.push_volatile('c', 10), Push::Dropped);
    assert_eq!(items(&outbox), ['b']);
    assert_eq!(outbox.push_volatile('d', 91), Push::Dropped);
    assert_eq!(outbox.queued_bytes(), 10);
}

#[test]
fn control_items_pass_a_full_budget_but_their_number_is_limited() {
    let outbox = Outbox::with_max_controls(10, 2);
    assert_eq!(outbox.push('a', 10), Push::Queued);
    assert_eq!(outbox.push_control('b'), Push::Queued);
    assert_eq!(outbox.push_control('c'), Push::Queued);
    assert_eq!(items(&outbox), ['a', 'b', 'c']);
    assert_eq!(outbox.push_control('d'), Push::Queued);
    assert_eq!(outbox.push_control('e'), Push::Queued);
    assert_eq!(outbox.push_control('f'), Push::Overflow);
}

#[test]
fn closing_returns_the_rest_and_refuses_what_follows() {
    let outbox = Outbox::new(100);
    let (bell, waker) = bell();
    assert!(take(&outbox, &waker).is_pending());
    assert_eq!(outbox.push(1, 1), Push::Queued);
    assert_eq!(outbox.push(2, 1), Push::Queued);
    assert_eq!(outbox.close().into_iter().collect::<Vec<_>>(), [1, 2]);
    assert!(outbox.is_closed());
    assert_eq!(outbox.push(3, 1), Push::Closed);
    assert_eq!(outbox.push_volatile(3, 1), Push::Closed);
    assert_eq!(outbox.push_control(3), Push::Closed);
    assert_eq!(outbox.charge(1), Push::Closed);
    assert!(matches!(take(&outbox, &waker), Poll::Ready(Taken::Closed)));
    assert_eq!(bell.rings(), 1);
}

#[test]
fn closing_from_elsewhere_rings_and_forgets_a_sleeping_owner() {
    let outbox = Outbox::<()>::new(100);
    let (bell, waker) = bell();
    assert!(take(&outbox, &waker).is_pending());
    drop(waker);
    assert!(outbox.close().is_empty());
    assert_eq!(bell.rings(), 1);
    assert_eq!(Arc::strong_count(&bell), 1);
}

#[test]
fn an_item_may_push_again_while_it_is_dropped() {
    struct Echo(Outbox<Self>);
    impl Drop for Echo {
        fn drop(&mut self) {
            assert_eq!(self.0.push_control(Self(Outbox::new(0))), Push::Queued);
        }
    }
    let outbox = Outbox::new(0);
    let other = Outbox::new(0);
    assert_eq!(other.push_control(Echo(outbox.clone())), Push::Queued);
    drop(other.close());
    match take(&outbox, Waker::noop()) {
        Poll::Ready(Taken::Items(items)) => {
            assert_eq!(items.len(), 1);
            items.into_iter().for_each(std::mem::forget);
        }
        Poll::Ready(Taken::Overflowed | Taken::Closed) | Poll::Pending => panic!("nothing queued"),
    }
}

#[test]
fn an_idle_outbox_costs_about_a_hundred_bytes() {
    // An item of a session: a pointer or a small control item.
    let reference_counts = 2 * size_of::<usize>();
    assert!(size_of::<Shared<[usize; 2]>>() + reference_counts <= 104);
}

#[test]
fn an_owner_that_looks_without_sleeping_does_not_wake_itself() {
    struct Rings(AtomicUsize);
    impl Wake for Rings {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let rings = Arc::new(Rings(0.into()));
    let waker = Waker::from(Arc::clone(&rings));
    let mut cx = Context::from_waker(&waker);
    let count = || rings.0.load(Ordering::Relaxed);
    let outbox = Outbox::new(100);
    assert!(outbox.poll_take(&mut cx).is_pending());
    assert!(outbox.take().is_none());
    assert_eq!(outbox.push(1, 10), Push::Queued);
    assert_eq!(count(), 0, "the owner is awake");
    assert!(matches!(outbox.take(), Some(Taken::Items(items)) if items.len() == 1));
    assert!(outbox.poll_take(&mut cx).is_pending());
    assert_eq!(outbox.push(2, 10), Push::Queued);
    assert_eq!(count(), 1);
}

/// Items of ten bytes; even ones give way.
fn even(item: &u32) -> Option<usize> {
    item.is_multiple_of(2).then_some(10)
}

fn yielding(outbox: &Outbox<u32>, items: impl IntoIterator<Item = u32>) {
    for item in items {
        assert_eq!(outbox.push_yielding(item, 10, even), Push::Queued);
    }
}

fn look(outbox: &Outbox<u32>) -> Items<u32> {
    match outbox.take() {
        Some(Taken::Items(items)) => items,
        Some(Taken::Overflowed | Taken::Closed) => panic!("the outbox has ended"),
        None => panic!("there is no news"),
    }
}

#[test]
fn what_gives_way_asks_the_owner_for_room_instead_of_overflowing() {
    let outbox = Outbox::new(40);
    yielding(&outbox, [0, 2, 4, 6]);
    let items = look(&outbox);
    assert_eq!((items.len(), items.demand()), (4, Demand::None));
    yielding(&outbox, [8]);
    let items = look(&outbox);
    assert_eq!((items.len(), items.demand()), (1, Demand::MakeRoom));
    assert_eq!(outbox.excess_bytes(), 10);
    outbox.refund(10);
    assert_eq!(outbox.excess_bytes(), 0);
    assert!(outbox.take().is_none());
}

#[test]
fn what_does_not_give_way_may_have_the_room_of_what_does() {
    let outbox = Outbox::new(20);
    yielding(&outbox, [0, 2]);
    assert_eq!(look(&outbox).demand(), Demand::None);
    let (bell, waker) = bell();
    assert!(take(&outbox, &waker).is_pending());
    assert_eq!(outbox.push(1, 10), Push::Queued);
    assert_eq!(bell.rings(), 1);
    assert_eq!(look(&outbox).demand(), Demand::MakeRoomOrEnd);
    assert_eq!(outbox.charge(10), Push::Queued);
    let items = look(&outbox);
    assert_eq!((items.len(), items.demand()), (0, Demand::MakeRoomOrEnd));
    assert_eq!(outbox.push(3, 30), Push::Overflow, "three times the budget");
}

#[test]
fn the_oldest_give_way_in_the_queue_while_the_owner_has_no_turn() {
    let outbox = Outbox::new(40);
    yielding(&outbox, [0, 2]);
    assert_eq!(outbox.push(1, 10), Push::Queued);
    yielding(&outbox, [4, 6, 8, 10, 12]);
    assert_eq!(outbox.queued_bytes(), 80);
    yielding(&outbox, [14]);
    let items = look(&outbox);
    assert_eq!(items.displaced(), 5);
    assert_eq!(items.into_iter().collect::<Vec<_>>(), [1, 10, 12, 14]);
    assert_eq!(outbox.queued_bytes(), 40);
}

#[test]
fn however_much_is_pushed_at_once_twice_the_budget_is_never_exceeded() {
    let outbox = Outbox::new(100);
    for item in 0..10_000 {
        yielding(&outbox, [2 * item]);
        assert!(outbox.queued_bytes() <= 200);
    }
    let items = look(&outbox);
    let displaced = items.displaced();
    let left: Vec<_> = items.into_iter().collect();
    assert_eq!(displaced as usize + left.len(), 10_000);
    assert!(left.len() >= 5, "half the budget is kept");
    let newest: Vec<_> = (0..10_000).map(|item| 2 * item).collect();
    assert_eq!(left, newest[10_000 - left.len()..], "and it is the newest");
}

#[test]
fn where_nothing_gives_way_the_new_item_does() {
    let outbox = Outbox::new(10);
    assert_eq!(outbox.push(1, 1000), Push::Queued);
    assert_eq!(look(&outbox).demand(), Demand::None);
    yielding(&outbox, [0]);
    let items = outbox.close();
    assert_eq!((items.len(), items.displaced()), (0, 1));
}

#[test]
fn a_patient_item_waits_while_little_else_does() {
    let outbox = Outbox::new(80);
    assert_eq!(outbox.push_patient(0, 10), Push::Queued);
    assert_eq!(outbox.push_patient(2, 10), Push::Queued);
    assert_eq!(outbox.push_patient(4, 10), Push::Dropped);
    assert_eq!(items(&outbox).len(), 2);
    outbox.refund(20);
    outbox.set_writable(true);
    assert_eq!(
        outbox.push_patient(6, 70),
        Push::Queued,
        "it leaves at once"
    );
    assert_eq!(outbox.push_patient(8, 10), Push::Dropped);
    assert_eq!(outbox.push(1, 20), Push::Queued);
    assert_eq!(look(&outbox).demand(), Demand::MakeRoomOrEnd);
}
