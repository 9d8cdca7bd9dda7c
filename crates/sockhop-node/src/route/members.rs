//! Owners of sessions, as the cluster's membership has them, and requests' word that one has left.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sockhop::{Member, NodeId, Server};
use sockhop_redis::Secret;
use tokio::sync::watch;

use super::{FindOwner, Owner, Proof};

/// How long after a member has left its answers are still waited for. One that ends in order answers
/// everything first, but its goodbye comes another way than its answers do.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// That a member is one, for those who wait for it. Cloning it is cheap.
#[derive(Clone, Debug)]
pub(crate) struct Presence(watch::Receiver<()>);

impl Presence {
    /// A member's presence, which lasts as long as the sender does.
    fn new() -> (watch::Sender<()>, Self) {
        let (there, presence) = watch::channel(());
        (there, Self(presence))
    }

    /// Waits until the member has left, and what it had answered before must have come.
    pub(crate) async fn ended(mut self) {
        while self.0.changed().await.is_ok() {}
        tokio::time::sleep(LAST_WORDS).await;
    }
}

/// The members that take requests.
#[derive(Default)]
struct List(HashMap<u32, Listed>);

struct Listed {
    /// Which node, and which run of it.
    run: (NodeId, u64),
    owner: Owner,
    /// Dropped when the member has left.
    _there: watch::Sender<()>,
}

impl List {
    /// Makes it the list of `members`. Those that stay are not touched: requests wait for them.
    fn update(&mut self, members: &[Member], secret: Option<&Secret>) {
        let tagged = members.iter().map(|member| (member.tag(), member));
        let mut new: HashMap<u32, &Member> = tagged.collect();
        self.0.retain(|tag, listed| {
            let same = new.get(tag).is_some_and(|member| run(member) == listed.run);
            if same {
                new.remove(tag);
            }
            same
        });
        let new = new.into_iter();
        self.0
            .extend(new.filter_map(|(tag, member)| Some((tag, Listed::new(member, secret)?))));
    }
}

impl Listed {
    /// `None`: the member takes no requests.
    fn new(member: &Member, secret: Option<&Secret>) -> Option<Self> {
        let (there, presence) = Presence::new();
        Some(Self {
            run: run(member),
            owner: Owner {
                address: member.address?,
                proof: Proof::new(member.token.as_bytes(), secret),
                presence,
            },
            _there: there,
        })
    }
}

fn run(member: &Member) -> (NodeId, u64) {
    (member.node, member.started_ms)
}

/// Finds owners among the members of the cluster of `server`. Must be called within a runtime.
pub(crate) fn members_of(server: &Server, secret: Option<Secret>) -> FindOwner {
    let list = Arc::new(RwLock::new(List::default()));
    let found = Arc::clone(&list);
    let members = server.clone();
    let update = move || {
        let mut list = list.write().unwrap_or_else(PoisonError::into_inner);
        list.update(&members.members(), secret.as_ref());
    };
    // Before the members are read, so that no change is missed in between.
    let mut changes = server.member_changes();
    update();
    let stopping = server.tasks().clone();
    server.tasks().spawn("members", async move {
        loop {
            tokio::select! {
                () = changes.changed() => update(),
                () = stopping.stopped() => break,
            }
        }
    });
    Arc::new(move |tag| {
        let list = found.read().unwrap_or_else(PoisonError::into_inner);
        Some(list.0.get(&tag.get())?.owner.clone())
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use sockhop::ForwardToken;
    use tokio::time::{sleep, timeout};

    use super::*;

    fn member(node: u64, started_ms: u64) -> Member {
        Member {
            node: NodeId::new(node),
            started_ms,
            version: String::new(),
            dialects: Vec::new(),
            address: Some(SocketAddr::from(([127, 0, 0, 1], 7000))),
            token: ForwardToken::new([0; 32]),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_member_hears_when_that_run_of_it_has_left() {
        let node = 5 << 40;
        let waits_on = |list: &List| list.0[&5].owner.presence.clone();
        for next in [
            vec![],
            vec![member(node, 2)],
            vec![member(node + 1, 1)],
            vec![member(7 << 40, 1)],
        ] {
            let mut list = List::default();
            list.update(&[member(node, 1)], None);
            let presence = waits_on(&list);
            list.update(&[member(7 << 40, 1), member(node, 1)], None);
            let left = presence.ended();
            tokio::pin!(left);
            let too_soon = timeout(10 * LAST_WORDS, left.as_mut()).await;
            assert!(too_soon.is_err(), "{next:?}");
            list.update(&next, None);
            left.await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_a_goodbye_overtook_is_still_taken() {
        let (there, presence) = Presence::new();
        drop(there);
        tokio::select! {
            () = presence.ended() => panic!("not waited for"),
            () = sleep(LAST_WORDS / 2) => {}
        }
    }
}
