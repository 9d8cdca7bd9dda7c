//! Owners of sessions, as the cluster's membership has them.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use sockhop::{Member, Server};

use super::{FindOwner, Owner, Proof, Secret};

/// How old the list may be: a dead member is asked for so long after it was given up.
const MAX_AGE: Duration = Duration::from_millis(250);

/// How old it may be for saying that there is no such member. Whoever asks for members that do
/// not exist makes no more work than this.
const MAX_AGE_OF_NO: Duration = Duration::from_millis(10);

struct List {
    made: Instant,
    by_tag: HashMap<u32, Owner>,
}

impl List {
    fn of(members: &[Member], secret: Option<&Secret>) -> Self {
        let owner = |member: &Member| {
            let owner = Owner {
                address: member.address?,
                proof: Proof::new(member.token.as_bytes(), secret),
            };
            Some((member.tag(), owner))
        };
        Self {
            made: Instant::now(),
            by_tag: members.iter().filter_map(owner).collect(),
        }
    }
}

/// Finds owners among the members of the cluster of `server`.
pub(crate) fn members_of(server: &Server, secret: Option<Secret>) -> FindOwner {
    let server = server.clone();
    let list = RwLock::new(List::of(&server.members(), secret.as_ref()));
    Arc::new(move |tag| {
        {
            let list = list.read().unwrap_or_else(PoisonError::into_inner);
            let age = list.made.elapsed();
            match list.by_tag.get(&tag.get()) {
                Some(owner) if age < MAX_AGE => return Some(owner.clone()),
                None if age < MAX_AGE_OF_NO => return None,
                Some(_) | None => {}
            }
        }
        let fresh = List::of(&server.members(), secret.as_ref());
        let owner = fresh.by_tag.get(&tag.get()).cloned();
        *list.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        owner
    })
}
