//! One run from the first connect to the report.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::{LocalSet, spawn_local};

use crate::drive::Drive;
use crate::error::Fault;
use crate::packet::Eio;
use crate::plan::{Plan, Step};
use crate::process::Process;
use crate::progress::Progress;
use crate::random::Random;
use crate::report::{Event, Measured, Report, Usage};
use crate::session;
use crate::stats::Spread;
use crate::world::{User, World};

/// How long the last connects may take after their turn came.
const RAMP_PATIENCE: Duration = Duration::from_secs(30);

/// How often heartbeats are looked after.
const HEARTBEAT_CHECK: Duration = Duration::from_millis(250);

/// How often this tool measures how late its own loop is.
const LAG_CHECK: Duration = Duration::from_millis(20);

/// How long connections may take to close at the end.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// Runs the plan on this thread.
///
/// # Errors
/// A sentence, if the system refuses what the tool itself needs.
pub fn run(plan: Plan) -> Result<Report, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    LocalSet::new().block_on(&runtime, go(plan))
}

async fn go(plan: Plan) -> Result<Report, String> {
    let world = Rc::new(World::new(plan));
    let mut measured = Measured::new(&world.plan);
    let pids: Vec<_> = world
        .plan
        .options
        .pid
        .iter()
        .map(|pid| Process::new(*pid))
        .collect();
    let usage = |when: &[Process]| {
        when.iter()
            .map(|process| Usage::now(*process))
            .collect::<Vec<_>>()
    };
    measured.before = usage(&pids);
    spawn_local(look_after(Rc::clone(&world)));
    spawn_local(measure_lag(Rc::clone(&world)));
    let progress = Rc::new(Progress::new(Rc::clone(&world), pids.clone()));
    spawn_local(Rc::clone(&progress).every_second());

    progress.phase("connecting");
    let ramp = Instant::now();
    connect_all(&world).await;
    measured.ramp_seconds = ramp.elapsed().as_secs_f64();
    measured.connected = world.live.borrow().len() as u64;
    measured.after_ramp = usage(&pids);

    progress.phase("working");
    measured.work_began_us = world.now_us();
    let own_before = Process::own().cpu_seconds();
    let began = Instant::now();
    let events = Rc::new(RefCell::new(Vec::new()));
    for step in world.plan.steps.clone() {
        spawn_local(take_step(Rc::clone(&world), step, Rc::clone(&events)));
    }
    {
        let _drive = Drive::start(&world);
        wait_or_interrupt(world.plan.duration).await;
        world.draining.set(true);
    }
    measured.work_seconds = began.elapsed().as_secs_f64();

    progress.phase("draining");
    drain(&world).await;
    measured.after_work = usage(&pids);
    measured.own_cpu_seconds = Process::own()
        .cpu_seconds()
        .zip(own_before)
        .map(|(now, then)| now - then);
    measured.open_at_end = world.live.borrow().len() as u64;
    world.give_up_waiting();
    world.ledger.borrow_mut().finish(world.now_us());
    measured.events = events.take();
    measured.own_pss_kib = Process::own().pss_kib();

    progress.phase("closing");
    close_all(&world).await;
    progress.end();
    Ok(Report::new(&world, measured))
}

async fn connect_all(world: &Rc<World>) {
    let start = Instant::now();
    let per_connect = 1.0 / world.plan.connect_rate;
    for user in &world.users {
        let due = start + Duration::from_secs_f64(per_connect * f64::from(user.index));
        tokio::time::sleep_until(due.into()).await;
        let began_us = u64::try_from(due.duration_since(world.start()).as_micros()).unwrap_or(0);
        spawn_local(live(Rc::clone(world), Rc::clone(user), began_us));
    }
    let deadline = Instant::now() + RAMP_PATIENCE;
    while world.live.borrow().len() < world.users.len() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A user's life: connections, one after the other.
async fn live(world: Rc<World>, user: Rc<User>, first_began_us: u64) {
    let delay_ms = world.plan.options.reconnect_delay.unwrap_or(1000);
    let mut random = Random::new();
    let mut began_us = first_began_us;
    let mut attempt = 0;
    loop {
        let fault = session::run(&world, &user, attempt, began_us).await;
        if world.closing.get() {
            return;
        }
        if fault != Fault::Asked {
            // As the clients do: another try somewhere between half and one and a half delays.
            attempt += 1;
            let delay_ms = delay_ms as f64 * (0.5 + random.fraction());
            tokio::time::sleep(Duration::from_secs_f64(delay_ms / 1000.0)).await;
        }
        began_us = world.now_us();
    }
}

/// Ends connections whose server fell silent, and pings for version 3.
async fn look_after(world: Rc<World>) {
    loop {
        tokio::time::sleep(HEARTBEAT_CHECK).await;
        let now_us = world.now_us();
        for user in &world.users {
            if user.slow || user.peer.get().is_none() {
                continue;
            }
            if now_us.saturating_sub(user.heard_us.get()) > user.patience_us.get() {
                user.link.end(Fault::PingTimeout);
            } else if user.eio == Eio::V3 && now_us - user.pinged_us.get() > user.ping_us.get() {
                user.pinged_us.set(now_us);
                user.link.send(b"2");
            }
        }
    }
}

async fn measure_lag(world: Rc<World>) {
    loop {
        let due = Instant::now() + LAG_CHECK;
        tokio::time::sleep_until(due.into()).await;
        let lag_us = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
        crate::stats::record(&mut world.stats.borrow_mut().loop_lag, lag_us);
    }
}

/// Runs a command when its time has come, and enters it into the events.
async fn take_step(world: Rc<World>, step: Step, events: Rc<RefCell<Vec<Event>>>) {
    tokio::time::sleep(step.at).await;
    let at_us = world.now_us();
    let mut command = tokio::process::Command::new("sh");
    command.arg("-c").arg(&step.command).kill_on_drop(true);
    let number = world.stats.borrow_mut().beside.begin();
    events.borrow_mut().push(Event {
        at_us,
        took_us: 0,
        command: step.command,
        outcome: "still running at the end".to_owned(),
        latency: Spread::default(),
    });
    let outcome = match command.output().await {
        Ok(output) if output.status.success() => "done".to_owned(),
        Ok(output) => format!(
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ),
        Err(error) => error.to_string(),
    };
    world.stats.borrow_mut().beside.end(number);
    // None once the report has taken the events.
    if let Some(event) = events.borrow_mut().get_mut(number) {
        event.took_us = world.now_us() - at_us;
        event.outcome = outcome;
    }
}

async fn wait_or_interrupt(duration: Duration) {
    tokio::select! {
        () = tokio::time::sleep(duration) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// Waits until everything has arrived or nothing does any more.
async fn drain(world: &World) {
    let patience = Duration::from_millis(world.plan.options.drain.unwrap_or(5000));
    let quiet = patience / 5;
    let deadline = Instant::now() + patience;
    let count = |world: &World| (world.ledger.borrow().first_arrivals(), world.is_waiting());
    let (mut last, mut since) = (count(world), Instant::now());
    while Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = count(world);
        if now != last {
            (last, since) = (now, Instant::now());
        } else if !now.1 && since.elapsed() > quiet {
            return;
        }
    }
}

async fn close_all(world: &World) {
    world.closing.set(true);
    for user in &world.users {
        user.link.end(Fault::Asked);
    }
    let deadline = Instant::now() + CLOSE_PATIENCE;
    while !world.live.borrow().is_empty() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
