//! Clients on every node that are there during a fault, answer pings, and note what they hear.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::cluster::HEALED_WITHIN;
use crate::peer::{Arrived, Fault, Frame, Peer};
use crate::process::{PATIENCE, open_websocket, wait_until};

/// How often everybody looks what has arrived: well below a ping timeout.
const GLANCE: Duration = Duration::from_millis(250);

/// Messages that every speaker says in a row: a second copy of the first one arrives before the last.
const WAVES: usize = 2;

/// After this a message that may have been lost is said again.
const AGAIN: Duration = Duration::from_secs(1);

/// What messages are known by; no two are the same.
static NEXT: AtomicU32 = AtomicU32::new(0);

fn next() -> u32 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Clients, in a group for each way in.
pub(super) struct Crowd {
    groups: Vec<Arc<Mutex<Group>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Group {
    members: Vec<Member>,
    lost: usize,
}

struct Member {
    peer: Peer,
    /// Whether it is in the room.
    sings: bool,
    heard: Vec<u32>,
}

impl Member {
    fn says(&mut self, scope: Scope, number: u32) {
        let text = match scope {
            Scope::Everybody => format!("42[\"chat message\",\"tally {number};\"]"),
            Scope::Room => format!("42[\"chat message\",{{\"text\":\"tally {number};\"}}]"),
        };
        self.peer.write(&Frame::text(&text).bytes());
    }

    /// Notes what has arrived; whether the connection goes on.
    fn look(&mut self) -> bool {
        let Ok(all) = self.peer.arrived_by_now() else {
            return false;
        };
        for arrived in all {
            match arrived {
                Arrived::Text(text) => self.heard.extend(tally(&text)),
                Arrived::Binary(_) | Arrived::Pong => {}
                Arrived::Close(_) | Arrived::End => return false,
            }
        }
        true
    }

    fn copies(&self, number: u32) -> usize {
        self.heard.iter().filter(|&&heard| heard == number).count()
    }
}

fn tally(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("tally ")?;
    rest.split(';').next()?.parse().ok()
}

impl Group {
    fn look(&mut self) {
        let before = self.members.len();
        self.members.retain_mut(Member::look);
        self.lost += before - self.members.len();
    }
}

/// To whom a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Everybody,
    Room,
}

impl Crowd {
    /// So many clients at each of `ways`, all connecting at once. The first of each joins a room.
    pub(super) fn open(ways: &[SocketAddr], each: usize) -> Result<Self, Fault> {
        let room = format!("choir {}", next());
        let groups: Vec<_> = thread::scope(|scope| {
            let room = &room;
            let all: Vec<_> = ways
                .iter()
                .map(|way| scope.spawn(move || Group::open(*way, each, room)))
                .collect();
            let joined = all.into_iter().map(|one| {
                let group = one.join().map_err(|_| "a client panicked".to_owned())??;
                Ok::<_, Fault>(Arc::new(Mutex::new(group)))
            });
            joined.collect::<Result<_, _>>()
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let threads = groups.iter().map(|group| {
            let (group, stop) = (Arc::clone(group), Arc::clone(&stop));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    lock(&group).look();
                    // A pace, not a condition.
                    thread::sleep(GLANCE);
                }
            })
        });
        let threads = threads.collect();
        let crowd = Self {
            groups,
            stop,
            threads,
        };
        // A join is acknowledged before the other nodes know of it.
        let all: Vec<_> = (0..ways.len()).collect();
        crowd.hear_in_the_end(&all)?;
        Ok(crowd)
    }

    /// What is said at each of these ways begins to be heard at all of them, if it was not.
    pub(super) fn hear_in_the_end(&self, ways: &[usize]) -> Result<(), Fault> {
        for scope in [Scope::Everybody, Scope::Room] {
            wait_until(HEALED_WITHIN, || {
                self.reaches(AGAIN, scope, ways, ways, 1).map(drop)
            })?;
        }
        Ok(())
    }

    fn group(&self, group: usize) -> MutexGuard<'_, Group> {
        lock(&self.groups[group])
    }

    /// How many of a group are still connected.
    pub(super) fn standing(&self, group: usize) -> usize {
        self.group(group).members.len()
    }

    /// How many of a group have lost their connection.
    pub(super) fn lost(&self, group: usize) -> usize {
        self.group(group).lost
    }

    /// Nobody of these groups has lost its connection.
    pub(super) fn all_stand(&self, groups: &[usize]) -> Result<(), Fault> {
        for &group in groups {
            let lost = self.lost(group);
            if lost > 0 {
                return Err(format!(
                    "{lost} clients of way {group} lost their connection"
                ));
            }
        }
        Ok(())
    }

    /// How many pings each member of a group has answered, at least.
    pub(super) fn pings(&self, group: usize) -> usize {
        let group = self.group(group);
        let pings = group.members.iter().map(|member| member.peer.pings);
        pings.min().unwrap_or(0)
    }

    /// The connections of a group end without a word of farewell from this side's programs: what
    /// the kernels say of it is up to the network.
    pub(super) fn drop_group(&self, group: usize) -> usize {
        std::mem::take(&mut self.group(group).members).len()
    }

    /// As [`Self::drop_group`], with a RST for each.
    pub(super) fn reset_group(&self, group: usize) {
        let members = std::mem::take(&mut self.group(group).members);
        for member in members {
            member.peer.reset();
        }
    }

    /// What the first of each of `speakers` says to everybody and to its room reaches whom it is
    /// for in `listeners`, once. Which messages that were.
    pub(super) fn hear(&self, speakers: &[usize], listeners: &[usize]) -> Result<Vec<u32>, Fault> {
        let mut all = Vec::new();
        for scope in [Scope::Everybody, Scope::Room] {
            let said = self.reaches(PATIENCE, scope, speakers, listeners, WAVES);
            all.extend(said.map_err(|fault| format!("{scope:?}: {fault}"))?);
        }
        Ok(all)
    }

    fn reaches(
        &self,
        patience: Duration,
        scope: Scope,
        speakers: &[usize],
        listeners: &[usize],
        waves: usize,
    ) -> Result<Vec<u32>, Fault> {
        let mut said = Vec::new();
        for _ in 0..waves {
            for &speaker in speakers {
                said.push(next());
                let mut group = self.group(speaker);
                let first = group.members.first_mut();
                let first = first.ok_or_else(|| format!("nobody is left at way {speaker}"))?;
                first.says(scope, said[said.len() - 1]);
            }
        }
        let last = &said[said.len() - speakers.len()..];
        wait_until(patience, || self.everybody(scope, listeners, last))?;
        self.everybody(scope, listeners, &said)?;
        Ok(said)
    }

    /// How many of these messages the first of a group has not heard.
    pub(super) fn missed(&self, group: usize, messages: &[u32]) -> u64 {
        let group = self.group(group);
        let missed = |message: &&u32| {
            group
                .members
                .first()
                .is_none_or(|m| m.copies(**message) == 0)
        };
        messages.iter().filter(missed).count() as u64
    }

    /// Everybody in these groups whom messages are for has heard each of them once, others never.
    fn everybody(&self, scope: Scope, groups: &[usize], messages: &[u32]) -> Result<(), Fault> {
        for &index in groups {
            let mut group = self.group(index);
            group.look();
            for (place, member) in group.members.iter().enumerate() {
                let wanted = usize::from(scope == Scope::Everybody || member.sings);
                for &message in messages {
                    let copies = member.copies(message);
                    if copies != wanted {
                        return Err(format!(
                            "client {place} of way {index} heard message {message} {copies} times"
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Group {
    fn open(way: SocketAddr, each: usize, room: &str) -> Result<Self, Fault> {
        let mut group = Self::default();
        let mut looked = Instant::now();
        for place in 0..each {
            let (peer, _) = open_websocket(way)?;
            let mut member = Member {
                peer,
                sings: false,
                heard: Vec::new(),
            };
            if place == 0 {
                member.join(room)?;
            }
            group.members.push(member);
            // The first ones are pinged before the last ones are there.
            if looked.elapsed() > GLANCE {
                group.look();
                looked = Instant::now();
            }
        }
        Ok(group)
    }
}

impl Member {
    fn join(&mut self, room: &str) -> Result<(), Fault> {
        let wish = format!("420[\"join room\",{{\"name\":\"somebody\",\"room\":\"{room}\"}}]");
        self.peer.write(&Frame::text(&wish).bytes());
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.peer.arrived(deadline)? {
                Arrived::Text(text) if text.starts_with("430[{\"ok\":true") => break,
                Arrived::Text(text) if text.starts_with("430") => return Err(text),
                Arrived::Text(_) | Arrived::Binary(_) | Arrived::Pong => {}
                other => return Err(format!("not in the room but {other:?}")),
            }
        }
        self.sings = true;
        Ok(())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn lock(group: &Mutex<Group>) -> MutexGuard<'_, Group> {
    group.lock().unwrap_or_else(PoisonError::into_inner)
}
