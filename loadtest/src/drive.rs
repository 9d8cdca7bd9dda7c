//! The work: what is sent, joined, left, closed and dropped, and when.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::{AbortHandle, spawn_local};

use crate::error::Fault;
use crate::ledger::EVERYBODY;
use crate::pace::Pacer;
use crate::random::Random;
use crate::world::{User, World};

/// A closed-loop broadcast that has not reached everybody by then counts as done.
const FLIGHT_TIMEOUT: Duration = Duration::from_secs(2);

/// The tasks of the work; they end with it.
#[derive(Debug, Default)]
pub struct Drive {
    tasks: Vec<AbortHandle>,
}

impl Drop for Drive {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Drive {
    /// Starts everything that the plan asks for.
    #[must_use]
    pub fn start(world: &Rc<World>) -> Self {
        let mut drive = Self::default();
        let options = &world.plan.options;
        let plan = &world.plan;
        let skip = options.skip.unwrap_or(0.0) / 100.0;
        if let Some(rate) = options.echo_rate {
            let mut turn = 0;
            drive.paced(world, rate, move |world, due_us, _| {
                turn += 1;
                with_live(world, turn, |user| world.echo(user, due_us));
            });
        }
        if let Some(rate) = options.broadcast_rate {
            let can_skip = plan.app.get("broadcast_skip").is_some();
            let mut turn = 0;
            drive.paced(world, rate, move |world, due_us, random| {
                turn += 1;
                let skips = can_skip && random.fraction() < skip;
                with_publisher(world, turn, |user| {
                    world.publish(user, EVERYBODY, skips, due_us);
                });
            });
        }
        if let Some(rate) = options.room_rate {
            let can_skip = plan.app.get("room_skip").is_some();
            let mut turn = 0;
            drive.paced(world, rate, move |world, due_us, random| {
                turn += 1;
                let channel = 1 + turn % world.plan.rooms().max(1);
                let skips = can_skip && random.fraction() < skip;
                say_in_room(world, channel, skips, due_us, random);
            });
        }
        if let Some(rate) = options.move_rate {
            drive.paced(world, rate, |world, _, random| move_somebody(world, random));
        }
        if let Some(rate) = options.churn_rate {
            drive.paced(world, rate, |world, _, random| {
                close_somebody(world, random)
            });
        }
        drive.closed_loops(world);
        drive
    }

    fn closed_loops(&mut self, world: &Rc<World>) {
        if let Some(count) = world.plan.options.echo_in_flight {
            let now_us = world.now_us();
            let live = world.live.borrow().clone();
            for index in live {
                let user = &world.users[index as usize];
                for _ in 0..count {
                    world.echo(user, now_us);
                }
            }
        }
        if let Some(count) = world.plan.options.broadcast_in_flight {
            let world = Rc::clone(world);
            self.spawn(async move { keep_in_flight(&world, count as usize).await });
        }
        if let Some(at) = world.plan.options.storm_at {
            let world = Rc::clone(world);
            self.spawn(async move {
                tokio::time::sleep(Duration::from_secs_f64(at.max(0.0))).await;
                storm(&world);
            });
        }
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + 'static) {
        self.tasks.push(spawn_local(task).abort_handle());
    }

    fn paced(
        &mut self,
        world: &Rc<World>,
        rate: f64,
        mut work: impl FnMut(&World, u64, &mut Random) + 'static,
    ) {
        if rate <= 0.0 {
            return;
        }
        let world = Rc::clone(world);
        self.spawn(async move {
            let mut pacer = Pacer::new(rate);
            let mut random = Random::new();
            loop {
                let due_us = since(&world, pacer.due().await);
                work(&world, due_us, &mut random);
            }
        });
    }
}

fn since(world: &World, at: Instant) -> u64 {
    u64::try_from(at.duration_since(world.start()).as_micros()).expect("a run is short")
}

/// Somebody who is connected and reads, taking turns.
fn with_live(world: &World, turn: usize, work: impl FnOnce(&User)) {
    let live = world.live.borrow();
    for offset in 0..live.len().min(1000) {
        let user = &world.users[live[(turn + offset) % live.len()] as usize];
        if !user.slow {
            drop(live);
            return work(user);
        }
    }
    drop(live);
    world.stats.borrow_mut().unsent += 1;
}

/// One of the publishers, taking turns; those who are away are passed over.
fn with_publisher(world: &World, turn: u32, work: impl FnOnce(&User)) {
    let publishers = world.plan.publishers().clamp(1, world.plan.connections);
    for offset in 0..publishers {
        let user = &world.users[(turn.wrapping_add(offset) % publishers) as usize];
        if user.peer.get().is_some() {
            return work(user);
        }
    }
    world.stats.borrow_mut().unsent += 1;
}

fn say_in_room(world: &World, channel: u32, skip: bool, due_us: u64, random: &mut Random) {
    let members = world.members.borrow();
    let member = members.get(&channel).and_then(|list| random.choose(list));
    let member = member.copied();
    drop(members);
    match member {
        Some(index) => {
            world.publish(&world.users[index as usize], channel, skip, due_us);
        }
        None => world.stats.borrow_mut().unsent += 1,
    }
}

/// Somebody leaves a room for another.
fn move_somebody(world: &World, random: &mut Random) {
    let Some(user) = somebody(world, random) else {
        return;
    };
    let user = &world.users[user as usize];
    let rooms = world.plan.rooms();
    let to = 1 + random.below(rooms);
    let mut own = user.rooms.borrow_mut();
    if own.is_empty() || own.contains(&to) {
        return;
    }
    let at = random.below(u32::try_from(own.len()).expect("few rooms")) as usize;
    let from = std::mem::replace(&mut own[at], to);
    drop(own);
    world.ask_to_leave(user, from);
    world.ask_to_join(user, to);
}

/// Somebody closes and comes back.
fn close_somebody(world: &World, random: &mut Random) {
    if let Some(user) = somebody(world, random) {
        world.users[user as usize].link.end(Fault::Asked);
    }
}

/// Anybody connected who is no publisher and reads.
fn somebody(world: &World, random: &mut Random) -> Option<u32> {
    let live = world.live.borrow();
    (0..10).find_map(|_| {
        let index = *random.choose(&live)?;
        let user = &world.users[index as usize];
        let is_free = index >= world.plan.publishers() && user.peer.get().is_some();
        is_free.then_some(index)
    })
}

/// A share of all connections drops at once.
fn storm(world: &World) {
    let share = world.plan.options.storm_share.unwrap_or(100.0) / 100.0;
    let mut random = Random::new();
    let live = world.live.borrow().clone();
    for index in live {
        if index >= world.plan.publishers() && random.fraction() < share {
            world.users[index as usize].link.end(Fault::Asked);
        }
    }
}

async fn keep_in_flight(world: &World, count: usize) {
    let skip = world.plan.options.skip.unwrap_or(0.0) / 100.0;
    let can_skip = world.plan.app.get("broadcast_skip").is_some();
    let mut random = Random::new();
    let mut turn = 0;
    loop {
        while world.in_flight.borrow().len() < count {
            turn += 1;
            let now_us = world.now_us();
            let receivers = world
                .live
                .borrow()
                .iter()
                .filter(|index| world.users[**index as usize].peer.get().is_some())
                .count() as u64;
            let skips = can_skip && random.fraction() < skip;
            let mut sent = None;
            with_publisher(world, turn, |user| {
                sent = world.publish(user, EVERYBODY, skips, now_us);
            });
            let Some(key) = sent else {
                break;
            };
            let receivers = receivers - u64::from(skips);
            if receivers > 0 {
                world.in_flight.borrow_mut().insert(key, receivers);
            }
        }
        let done = world.flight_done.notified();
        if tokio::time::timeout(FLIGHT_TIMEOUT, done).await.is_err() {
            world.in_flight.borrow_mut().clear();
        }
    }
}
