//! The names of the channels.

/// Where sockhop nodes are counted: the channel for answers to a server of this name.
const PRESENCE: &str = "sockhop";

/// What the names of all channels begin with.
pub(super) struct Names {
    key: Box<str>,
}

/// The channels of one namespace.
#[derive(Clone, Copy)]
pub(super) struct NamespaceNames<'a> {
    key: &'a str,
    namespace: &'a str,
}

/// A channel on which something came, and its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel<'a> {
    /// Of everybody or of a room.
    Broadcast(&'a str),
    Request(&'a str),
    /// For all servers or for one.
    Response(&'a str),
}

impl Names {
    pub(super) fn new(key: String) -> Self {
        Self { key: key.into() }
    }

    /// The channels of a namespace that can take part.
    pub(super) fn of<'a>(&'a self, namespace: &'a str) -> Option<NamespaceNames<'a>> {
        (!namespace.contains('#')).then_some(NamespaceNames {
            key: &self.key,
            namespace,
        })
    }

    pub(super) fn parse<'a>(&self, channel: &'a str) -> Option<Channel<'a>> {
        let rest = channel.strip_prefix(&*self.key)?.strip_suffix('#')?;
        if let Some(rest) = rest.strip_prefix('#') {
            return Some(Channel::Broadcast(until_hash(rest)));
        }
        if let Some(namespace) = rest.strip_prefix("-request#") {
            return (!namespace.contains('#')).then_some(Channel::Request(namespace));
        }
        let rest = rest.strip_prefix("-response#")?;
        Some(Channel::Response(until_hash(rest)))
    }
}

fn until_hash(rest: &str) -> &str {
    rest.split_once('#')
        .map_or(rest, |(namespace, _)| namespace)
}

impl NamespaceNames<'_> {
    pub(super) fn broadcast(self) -> String {
        format!("{}#{}#", self.key, self.namespace)
    }

    pub(super) fn room(self, room: &str) -> String {
        format!("{}#{}#{room}#", self.key, self.namespace)
    }

    pub(super) fn request(self) -> String {
        format!("{}-request#{}#", self.key, self.namespace)
    }

    pub(super) fn response(self) -> String {
        format!("{}-response#{}#", self.key, self.namespace)
    }

    pub(super) fn response_to(self, uid: &str) -> String {
        format!("{}-response#{}#{uid}#", self.key, self.namespace)
    }

    pub(super) fn presence(self) -> String {
        self.response_to(PRESENCE)
    }

    /// What to subscribe to by name.
    pub(super) fn exact(self, uid: &str) -> [String; 4] {
        [
            self.request(),
            self.response(),
            self.response_to(uid),
            self.presence(),
        ]
    }

    /// Matches [`Self::broadcast`] and every [`Self::room`]. Clients choose the names of
    /// namespaces made on demand, so none of their characters may mean more than itself.
    pub(super) fn broadcast_pattern(self) -> String {
        let mut pattern = String::new();
        for c in self.broadcast().chars() {
            if matches!(c, '*' | '?' | '[' | '\\') {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        pattern.push('*');
        pattern
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_named_as_the_adapter_names_them() {
        let names = Names::new("socket.io".to_owned());
        let root = names.of("/").unwrap();
        assert_eq!(root.broadcast(), "socket.io#/#");
        assert_eq!(root.room("red"), "socket.io#/#red#");
        assert_eq!(root.broadcast_pattern(), "socket.io#/#*");
        assert_eq!(
            root.exact("sockhop:1"),
            [
                "socket.io-request#/#",
                "socket.io-response#/#",
                "socket.io-response#/#sockhop:1#",
                "socket.io-response#/#sockhop#"
            ]
        );
    }

    #[test]
    fn a_name_that_was_written_is_understood() {
        let names = Names::new("socket.io".to_owned());
        let chat = names.of("/chat").unwrap();
        for (channel, expected) in [
            (chat.broadcast(), Channel::Broadcast("/chat")),
            (chat.room("a#b"), Channel::Broadcast("/chat")),
            (chat.request(), Channel::Request("/chat")),
            (chat.response(), Channel::Response("/chat")),
            (chat.response_to("x"), Channel::Response("/chat")),
        ] {
            assert_eq!(names.parse(&channel), Some(expected), "{channel}");
        }
        for other in [
            "",
            "socket.io",
            "socket.io#",
            "other#/#",
            "socket.io-request#/",
            "#/#",
        ] {
            let parsed = names.parse(other);
            assert!(
                matches!(parsed, None | Some(Channel::Broadcast(""))),
                "{other}: {parsed:?}"
            );
        }
    }

    #[test]
    fn a_namespace_cannot_widen_its_pattern() {
        let names = Names::new("k".to_owned());
        let pattern = names.of("/*[a]?\\").unwrap().broadcast_pattern();
        assert_eq!(pattern, r"k#/\*\[a]\?\\#*");
        assert!(names.of("/a#b").is_none());
    }
}
