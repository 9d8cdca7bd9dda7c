//! Plain channels between the nodes of one process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;

use super::inbox::Inbox;
use super::{BusError, ChannelMessage, Channels, MemoryBusLimits, Wait};

/// All ends of one hub.
#[derive(Debug, Default)]
pub(super) struct Hub(Arc<Mutex<Vec<Weak<End>>>>);

#[derive(Debug)]
struct End {
    limits: MemoryBusLimits,
    wanted: Mutex<Wanted>,
    inbox: Inbox<ChannelMessage>,
}

/// What one end subscribed to, and how often.
#[derive(Debug, Default)]
struct Wanted {
    names: HashMap<Box<str>, usize>,
    patterns: HashMap<Box<str>, usize>,
}

/// One end of the plain channels of a [`MemoryHub`](super::MemoryHub).
#[derive(Debug)]
pub struct MemoryChannels {
    hub: Arc<Mutex<Vec<Weak<End>>>>,
    end: Arc<End>,
}

impl Hub {
    pub(super) fn attach(&self, limits: MemoryBusLimits) -> MemoryChannels {
        let end = Arc::new(End {
            limits,
            wanted: Mutex::default(),
            inbox: Inbox::new(limits.max_queue_bytes, |message| {
                message.channel.len() + message.payload.len()
            }),
        });
        let mut ends = lock(&self.0);
        ends.retain(|end| end.strong_count() > 0);
        ends.push(Arc::downgrade(&end));
        MemoryChannels {
            hub: Arc::clone(&self.0),
            end,
        }
    }
}

impl MemoryChannels {
    fn ends(&self) -> Vec<Arc<End>> {
        lock(&self.hub).iter().filter_map(Weak::upgrade).collect()
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        lock(&self.end.wanted)
    }
}

impl Channels for MemoryChannels {
    fn publish(&self, channel: &str, payload: Bytes) -> Result<(), BusError> {
        let limits = self.end.limits;
        if payload.len() > limits.max_frame_bytes {
            return Err(BusError::FrameTooLarge {
                bytes: payload.len(),
                limit: limits.max_frame_bytes,
            });
        }
        let mut result = Ok(());
        for end in self.ends() {
            let times = lock(&end.wanted).times(channel);
            for _ in 0..times {
                let message = ChannelMessage {
                    channel: channel.into(),
                    payload: payload.clone(),
                };
                if !end.inbox.push(message) {
                    result = Err(BusError::QueueFull);
                }
            }
        }
        result
    }

    fn subscribe(&self, channel: &str) {
        *self.wanted().names.entry(channel.into()).or_default() += 1;
    }

    fn unsubscribe(&self, channel: &str) {
        forget(&mut self.wanted().names, channel);
    }

    fn subscribe_pattern(&self, pattern: &str) {
        *self.wanted().patterns.entry(pattern.into()).or_default() += 1;
    }

    fn unsubscribe_pattern(&self, pattern: &str) {
        forget(&mut self.wanted().patterns, pattern);
    }

    fn count_subscribers(&self, channel: &str) -> Wait<Option<usize>> {
        let subscribed = |end: &Arc<End>| lock(&end.wanted).names.contains_key(channel);
        let count = self.ends().iter().filter(|end| subscribed(end)).count();
        Box::pin(std::future::ready(Some(count)))
    }

    fn synced(&self) -> Wait<()> {
        Box::pin(std::future::ready(()))
    }

    fn poll_incoming(&self, cx: &mut Context<'_>) -> Poll<Vec<ChannelMessage>> {
        self.end.inbox.poll_take(cx)
    }
}

impl Wanted {
    /// How many copies of a message on this channel come here.
    fn times(&self, channel: &str) -> usize {
        let patterns = self.patterns.keys();
        let fitting = patterns.filter(|pattern| fits(pattern.as_bytes(), channel.as_bytes()));
        fitting.count() + usize::from(self.names.contains_key(channel))
    }
}

fn forget(subscriptions: &mut HashMap<Box<str>, usize>, name: &str) {
    if let Some(count) = subscriptions.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            subscriptions.remove(name);
        }
    }
}

/// Whether a text fits a pattern of Redis.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|at| fits(rest, &text[at..])),
        ([b'?', rest @ ..], [_, text @ ..]) => fits(rest, text),
        ([b'[', rest @ ..], [byte, text @ ..]) => {
            let end = rest.iter().position(|&byte| byte == b']');
            let end = end.unwrap_or(rest.len());
            rest[..end].contains(byte) && fits(rest.get(end + 1..).unwrap_or_default(), text)
        }
        ([b'\\', literal, rest @ ..], [byte, text @ ..]) => literal == byte && fits(rest, text),
        ([literal, rest @ ..], [byte, text @ ..]) => literal == byte && fits(rest, text),
        _ => false,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::super::MemoryHub;
    use super::*;

    fn incoming(channels: &MemoryChannels) -> Vec<(String, Bytes)> {
        match channels.poll_incoming(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(messages) => messages
                .into_iter()
                .map(|message| (message.channel.to_string(), message.payload))
                .collect(),
            Poll::Pending => Vec::new(),
        }
    }

    #[test]
    fn names_and_patterns_are_served_once_each() {
        let hub = MemoryHub::default();
        let [a, b] = [(); 2].map(|()| hub.channels());
        b.subscribe("io#/#red#");
        b.subscribe_pattern("io#/#*");
        b.subscribe_pattern("i?#/chat#*");
        let payload = Bytes::from_static(b"x");
        a.publish("io#/#red#", payload.clone()).unwrap();
        a.publish("io#/chat#", payload.clone()).unwrap();
        a.publish("other", payload.clone()).unwrap();
        let names: Vec<_> = incoming(&b).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["io#/#red#", "io#/#red#", "io#/chat#"]);
        b.unsubscribe_pattern("io#/#*");
        b.unsubscribe("io#/#red#");
        a.publish("io#/#red#", payload).unwrap();
        assert!(incoming(&b).is_empty() && incoming(&a).is_empty());
    }

    #[test]
    fn only_subscriptions_by_name_are_counted_and_ends_that_have_gone_are_not() {
        let hub = MemoryHub::default();
        let [a, b] = [(); 2].map(|()| hub.channels());
        for end in [&a, &b] {
            end.subscribe("requests");
        }
        b.subscribe_pattern("req*");
        let count = |name| {
            let mut count = a.count_subscribers(name);
            match count.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(count) => count,
                Poll::Pending => panic!("it is known"),
            }
        };
        assert_eq!((count("requests"), count("req")), (Some(2), Some(0)));
        drop(b);
        assert_eq!(count("requests"), Some(1));
    }

    #[test]
    fn sets_and_escapes_fit_as_in_redis() {
        for (pattern, text, expected) in [
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("*", "", true),
            ("a?", "a", false),
        ] {
            assert_eq!(
                fits(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern}"
            );
        }
    }
}
