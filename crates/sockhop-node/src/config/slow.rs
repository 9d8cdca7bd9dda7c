//! The section `[slow_consumers]`: what happens to clients that read too slowly.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use sockhop::{NamespaceName, SlowConsumers};

use super::check::Checker;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SlowConsumersSection {
    /// `close`, `drop_oldest` or `drop_volatile`.
    policy: String,
    close: Vec<String>,
    drop_oldest: Vec<String>,
    drop_volatile: Vec<String>,
}

impl Default for SlowConsumersSection {
    fn default() -> Self {
        Self {
            policy: "close".to_owned(),
            close: Vec::new(),
            drop_oldest: Vec::new(),
            drop_volatile: Vec::new(),
        }
    }
}

impl Checker {
    /// The policy of all namespaces, and those of some.
    pub(super) fn slow_consumers(
        &mut self,
        section: &SlowConsumersSection,
    ) -> (SlowConsumers, Vec<(String, SlowConsumers)>) {
        let policy = match section.policy.as_str() {
            "close" => SlowConsumers::Close,
            "drop_oldest" => SlowConsumers::DropOldest,
            "drop_volatile" => SlowConsumers::DropVolatile,
            other => {
                let text = format!("`{other}` is none of `close`, `drop_oldest`, `drop_volatile`");
                self.fault("slow_consumers.policy", text);
                SlowConsumers::Close
            }
        };
        let mut named = HashSet::new();
        let mut rules = Vec::new();
        for (key, names, policy) in [
            ("close", &section.close, SlowConsumers::Close),
            (
                "drop_oldest",
                &section.drop_oldest,
                SlowConsumers::DropOldest,
            ),
            (
                "drop_volatile",
                &section.drop_volatile,
                SlowConsumers::DropVolatile,
            ),
        ] {
            let key = format!("slow_consumers.{key}");
            for name in names {
                let plain = name.strip_suffix('*').unwrap_or(name);
                if NamespaceName::parse(plain).is_none() || plain.contains('*') {
                    let text = "is not a namespace: it begins with `/`, has no comma, and a `*` \
                                only at its end";
                    self.fault(&key, format!("`{name}` {text}"));
                } else if !named.insert(name) {
                    self.fault(&key, format!("`{name}` is named twice"));
                }
                rules.push((name.clone(), policy));
            }
        }
        // The most exact rule counts: a name before any beginning, a long one before a short one.
        rules.sort_by_key(|(name, _)| (name.ends_with('*'), std::cmp::Reverse(name.len())));
        (policy, rules)
    }
}
