//! House rules that no compiler checks: short files, and no trace of the place of writing.

use std::fs;
use std::path::{Path, PathBuf};

const MAX_RUST_LINES: usize = 600;

/// Where people and build machines keep their files: such a path means something in one place
/// only. Each counts at the start of an absolute path, not inside a longer one.
const PRIVATE_PLACES: [&str; 4] = ["/home/", "/root/", "/Users/", "/work/"];

/// Never ours: build output, installed packages, version control.
const FOREIGN_FOLDERS: [&str; 5] = ["target", "node_modules", ".git", ".cache", "__pycache__"];

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("two folders up").to_owned()
}

/// Every text file of the project, as its path below the root and its content.
fn texts() -> Vec<(String, String)> {
    let root = root();
    let mut found = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(folder) = open.pop() {
        let entries = fs::read_dir(&folder).expect("a folder of the project can be read");
        for entry in entries {
            let path = entry.expect("an entry can be read").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // A symbolic link is foreign too: what it leads to is not part of the project.
            if FOREIGN_FOLDERS.contains(&&*name) || name.starts_with(".venv") || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let below = path.strip_prefix(&root).expect("found below the root");
                found.push((below.to_string_lossy().into_owned(), text));
            }
        }
    }
    found.sort();
    found
}

/// The numbers of the lines in which an absolute path begins with `place`.
fn lines_naming(place: &str, text: &str) -> Vec<usize> {
    let continues_a_path = |c: char| c.is_alphanumeric() || "._-~*$})".contains(c);
    let names = |line: &str| {
        line.match_indices(place)
            .any(|(at, _)| !line[..at].ends_with(continues_a_path))
    };
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| names(line))
        .map(|(index, _)| index + 1)
        .collect()
}

#[test]
fn the_walk_finds_the_project() {
    let texts = texts();
    let has = |wanted: &str| texts.iter().any(|(path, _)| path == wanted);
    assert!(has("Cargo.toml") && has("scripts/test.sh") && has("crates/testkit/tests/house.rs"));
    assert!(!texts.iter().any(|(path, _)| path.starts_with("target/")));
}

#[test]
fn every_rust_file_is_short() {
    let long: Vec<_> = texts()
        .into_iter()
        .filter(|(path, _)| path.ends_with(".rs"))
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_RUST_LINES)
        .collect();
    assert!(long.is_empty(), "over {MAX_RUST_LINES} lines: {long:?}");
}

#[test]
fn no_file_names_the_place_where_it_was_written() {
    let here = format!("{}/", root().display());
    let mut faults = Vec::new();
    for (path, text) in texts() {
        // This file has to name the places to look for them.
        if path == "crates/testkit/tests/house.rs" {
            continue;
        }
        for place in PRIVATE_PLACES.into_iter().chain([here.as_str()]) {
            for line in lines_naming(place, &text) {
                faults.push(format!("{path}:{line} names {place}"));
            }
        }
    }
    assert_eq!(faults, [""; 0]);
}

#[test]
fn npm_locks_leave_the_registry_to_the_user() {
    let faults: Vec<_> = texts()
        .into_iter()
        .filter(|(path, text)| path.ends_with("package-lock.json") && text.contains("\"resolved\""))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(
        faults, [""; 0],
        "npm writes `resolved` unless its .npmrc omits it"
    );
}

#[test]
fn a_place_counts_only_at_the_start_of_a_path() {
    let text = "cd /work/x\nls target/work/\n$HOME/work/\n\"/work/y\"\n";
    assert_eq!(lines_naming("/work/", text), [1, 4]);
}
