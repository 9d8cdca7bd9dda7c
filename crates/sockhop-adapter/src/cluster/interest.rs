//! Which node has to hear what: topics, and the nodes that own the ids of sockets.

use std::fmt;
use std::sync::Arc;

use engineio_proto::SessionId;
use smallvec::SmallVec;

use super::core::Cluster;
use crate::bus::NodeId;
use crate::recipient::Room;

/// Where a message for one room has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    /// Nowhere: the room is the id of a socket that is on this node.
    Here,
    /// To the one node whose socket has this id.
    Node(NodeId),
    /// To whoever has members of the room.
    Topic,
}

/// The topics of one namespace, and the subscriptions of this node to them.
///
/// *Shape:* the topic of the namespace is its name, which begins with `/`; that of a room is the
/// length of that name, the name, `#` and the room, so that no two have the same.
pub(crate) struct Interest {
    cluster: Arc<Cluster>,
    namespace: Box<str>,
    prefix: Box<str>,
}

/// Destinations of one message, each once.
pub(crate) type Destinations<'a> = SmallVec<[Destination<'a>; 4]>;

/// Where a copy of a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination<'a> {
    /// To every node that has the namespace.
    Namespace,
    /// To every node with a member of this room.
    Room(&'a Room),
    /// To this node.
    Node(NodeId),
}

impl Interest {
    /// The interest in a namespace, which is there from now on.
    pub(crate) fn new(cluster: Arc<Cluster>, namespace: &str) -> Self {
        if !cluster.is_alone() {
            cluster.bus().subscribe(namespace);
        }
        Self {
            prefix: format!("{}{namespace}#", namespace.len()).into(),
            namespace: namespace.into(),
            cluster,
        }
    }

    /// The first member of a room on this node has come.
    pub(crate) fn begin(&self, room: &str) {
        if !self.cluster.is_alone() {
            self.cluster.bus().subscribe(&self.topic(room));
        }
    }

    /// The last member of a room on this node has gone.
    pub(crate) fn end(&self, room: &str) {
        if !self.cluster.is_alone() {
            self.cluster.bus().unsubscribe(&self.topic(room));
        }
    }

    /// Where messages for these rooms have to go; none means to the whole namespace. `is_here` knows
    /// the ids of this node's sockets.
    pub(crate) fn destinations<'a>(
        &self,
        rooms: &'a [Room],
        is_here: impl Fn(&str) -> bool,
    ) -> Destinations<'a> {
        if rooms.is_empty() {
            return [Destination::Namespace].into_iter().collect();
        }
        let mut destinations = Destinations::new();
        for room in rooms {
            let destination = match self.route(room.as_str(), &is_here) {
                Route::Here => continue,
                Route::Node(node) => Destination::Node(node),
                Route::Topic => Destination::Room(room),
            };
            if destinations.contains(&destination) {
                continue;
            }
            if destinations.len() >= self.cluster.max_topics() {
                return [Destination::Namespace].into_iter().collect();
            }
            destinations.push(destination);
        }
        destinations
    }

    /// Where messages for this room have to go.
    fn route(&self, room: &str, is_here: impl Fn(&str) -> bool) -> Route {
        let Some(tag) = self.tag_in(room) else {
            return Route::Topic;
        };
        if tag != self.cluster.node().tag() {
            return self.cluster.owner(tag).map_or(Route::Topic, Route::Node);
        }
        match is_here(room) {
            true => Route::Here,
            false => Route::Topic,
        }
    }

    /// Whether the room has the form of an id of a socket of this node.
    pub(crate) fn looks_like_ours(&self, room: &str) -> bool {
        self.tag_in(room) == Some(self.cluster.node().tag())
    }

    /// The tag in the id of a socket; protocol 4 puts the namespace in front of it.
    fn tag_in(&self, room: &str) -> Option<u32> {
        let id = room.strip_prefix(&*self.namespace);
        let id = id.and_then(|rest| rest.strip_prefix('#')).unwrap_or(room);
        SessionId::parse(id).map(|id| id.node_tag().get())
    }

    /// The topic of a destination that is not a single node.
    pub(crate) fn topic(&self, room: &str) -> String {
        [&self.prefix, room].concat()
    }
}

/// The namespace goes; its rooms have ended their interest before.
impl Drop for Interest {
    fn drop(&mut self) {
        if !self.cluster.is_alone() {
            self.cluster.bus().unsubscribe(&self.namespace);
        }
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interest")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}
