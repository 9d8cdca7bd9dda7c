//! Configuration: a file, then the environment, then the command line; the later one wins.
//!
//! Every value is tried alone against the shape in `raw`, so that one fault hides no other;
//! `check` then looks at what the values mean.

mod check;
mod guard;
mod raw;
mod slow;

use std::fmt;
use std::path::Path;

use ::config::{Config, ConfigError, Environment, File, FileFormat, Map, Source, ValueKind};
use serde_json::Value;

use crate::NodeConfig;
pub use raw::Dialect;
use raw::Raw;

/// A complete file with every key, what it means, and its default as its value.
pub const DEFAULT_CONFIG: &str = include_str!("default.toml");

/// What the names of environment variables begin with; [`SEPARATOR`] follows.
const PREFIX: &str = "SOCKHOP";

/// Stands between the parts of a variable's name: `SOCKHOP__LIMITS__OUTBOX_BYTES`.
const SEPARATOR: &str = "__";

/// Where the `config` crate says that a value comes from.
const ENVIRONMENT: &str = "the environment";

/// A value of the command line, by its key.
pub(crate) type Flag = (&'static str, ::config::Value);

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Path of the key, such as `limits.outbox_bytes`, or the file that cannot be read.
    pub key: String,
    /// What is wrong, in words.
    pub text: String,
}

impl Fault {
    fn new(key: impl Into<String>, text: impl Into<String>) -> Self {
        let (key, text) = (key.into(), text.into());
        Self { key, text }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.text)
    }
}

/// Everything that is wrong with a configuration. Displayed with a line for each fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            let line_break = if index == 0 { "" } else { "\n" };
            write!(f, "{line_break}{fault}")?;
        }
        Ok(())
    }
}

/// Reads `file`, lets the variables of `environment` and then `flags` override it, and checks all.
///
/// # Errors
/// All faults, of every kind and key. A file that cannot be read or is not TOML is the only one.
pub(crate) fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: Vec<Flag>,
) -> Result<NodeConfig, Faults> {
    let text = match file {
        None => String::new(),
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            let name = path.display().to_string();
            Faults(vec![Fault::new(name, error.to_string())])
        })?,
    };
    let set = merge(&text, environment, flags).map_err(|error| {
        let name = file.map_or_else(String::new, |path| path.display().to_string());
        Faults(vec![Fault::new(name, error.to_string())])
    })?;
    let mut leaves = Vec::new();
    collect_leaves(set, &mut Vec::new(), &mut leaves);
    // Tables have no order of their own.
    leaves.sort_by(|a, b| a.path.cmp(&b.path));

    let (raw, mut faults) = read(&leaves);
    match check::check(&raw) {
        Ok(config) if faults.is_empty() => return Ok(config),
        Ok(_) => {}
        Err(Faults(more)) => faults.extend(more),
    }
    for fault in &mut faults {
        let mut variables = leaves.iter().filter(|leaf| leaf.from_environment);
        if variables.any(|leaf| leaf.path.join(".") == fault.key) {
            fault.text.push_str(" (from the environment)");
        }
    }
    Err(Faults(faults))
}

/// All that somebody set, in one tree.
fn merge(
    text: &str,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: Vec<Flag>,
) -> Result<Map<String, ::config::Value>, ConfigError> {
    // What an empty variable sets is nothing: files of variables have such lines.
    let environment = Environment::with_prefix(PREFIX)
        .separator(SEPARATOR)
        .ignore_empty(true)
        .source(Some(environment.into_iter().collect()));
    let mut layers = Config::builder()
        .add_source(File::from_str(text, FileFormat::Toml))
        .add_source(environment);
    for (key, value) in flags {
        layers = layers.set_override(key, value)?;
    }
    layers.build()?.collect()
}

/// A value that somebody set.
#[derive(Debug)]
struct Leaf {
    path: Vec<String>,
    value: Value,
    from_environment: bool,
}

fn collect_leaves(
    table: Map<String, ::config::Value>,
    path: &mut Vec<String>,
    leaves: &mut Vec<Leaf>,
) {
    for (key, value) in table {
        path.push(key);
        let from_environment = value.origin() == Some(ENVIRONMENT);
        match value.kind {
            ValueKind::Table(inner) if !inner.is_empty() => collect_leaves(inner, path, leaves),
            kind => {
                let value = ::config::Value::new(None, kind);
                leaves.push(Leaf {
                    path: path.clone(),
                    value: value.try_deserialize().unwrap_or_default(),
                    from_environment,
                });
            }
        }
        path.pop();
    }
}

/// The defaults with all leaves that fit, and the faults of the others.
fn read(leaves: &[Leaf]) -> (Raw, Vec<Fault>) {
    let mut raw = Raw::default();
    let mut faults = Vec::new();
    for leaf in leaves {
        let tree = serde_json::to_value(&raw).expect("plain values become JSON");
        if leaf.is_empty_section(&tree) {
            continue;
        }
        let tried = leaf.readings().into_iter().map(|value| {
            let mut tree = tree.clone();
            replace(&mut tree, &leaf.path, value);
            serde_json::from_value::<Raw>(tree)
        });
        match first_success(tried) {
            Ok(fitting) => raw = fitting,
            Err(error) => faults.push(Fault::new(leaf.path.join("."), in_words(&error))),
        }
    }
    (raw, faults)
}

impl Leaf {
    /// What the value may mean. A file says which type it has; in a variable all is text, which
    /// may be a number, a boolean, or a list with commas.
    fn readings(&self) -> Vec<Value> {
        let Value::String(text) = &self.value else {
            return vec![self.value.clone()];
        };
        if !self.from_environment {
            return vec![self.value.clone()];
        }
        let mut readings = Vec::new();
        if let Ok(plain @ (Value::Number(_) | Value::Bool(_))) = serde_json::from_str(text) {
            readings.push(plain);
        }
        readings.push(self.value.clone());
        let items = text.split(',').map(str::trim);
        readings.push(items.filter(|item| !item.is_empty()).collect());
        readings
    }

    /// Whether this is only the heading of a section, without keys.
    fn is_empty_section(&self, tree: &Value) -> bool {
        let [section] = &self.path[..] else {
            return false;
        };
        self.value.is_object() && tree.get(section).is_some()
    }
}

/// The first success, or the first error: it is about the most natural reading.
fn first_success<T, E>(tried: impl Iterator<Item = Result<T, E>>) -> Result<T, E> {
    let mut first_error = None;
    for result in tried {
        match result {
            Ok(value) => return Ok(value),
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    Err(first_error.expect("every leaf has a reading"))
}

/// Puts `value` at `path`, in place of whatever is in its way.
fn replace(tree: &mut Value, path: &[String], value: Value) {
    let mut place = tree;
    for key in path {
        if !place.is_object() {
            *place = Value::Object(serde_json::Map::new());
        }
        place = &mut place[key.as_str()];
    }
    *place = value;
}

/// The words of an error for people who do not write Rust.
fn in_words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.replacen("unknown field", "unknown key", 1);
    let (head, expected) = text.rsplit_once(", expected ").unwrap_or((&text, ""));
    let expected = match expected {
        "" => return text,
        "u64" => "a whole number",
        "a sequence" => "a list",
        "a boolean" => "true or false",
        section if section.starts_with("struct ") => "a section of keys",
        other => other,
    };
    format!("{head}, expected {expected}")
}

#[cfg(test)]
mod tests;
