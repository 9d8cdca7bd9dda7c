//! `docs/hostile-input.md` is generated where it says so: `UPDATE_DOCS=1 cargo test -p sockhop-node
//! --test hostile document` writes it.

use std::fmt::Write;
use std::path::PathBuf;

use crate::matrix::{differences, expected};
use crate::scene::STATES;
use crate::script::corpus;

fn corpus_table() -> String {
    let mut table =
        String::from("| report | what broke | what holds here | file |\n|---|---|---|---|\n");
    for (name, script) in corpus() {
        let row = (script.id, script.broke, script.holds);
        let _ = writeln!(
            table,
            "| {} | {} | {} | `{name}.toml` |",
            row.0, row.1, row.2
        );
    }
    table
}

fn matrix_table() -> String {
    let states = STATES.map(|(_, name)| name).join(" | ");
    let mut table = format!(
        "| input | {states} |\n|---|{}\n",
        "---|".repeat(STATES.len())
    );
    for row in expected() {
        let _ = writeln!(table, "| {} |", row.join(" | "));
    }
    table
}

/// What is different when another node than the session's is asked.
fn cluster_table() -> String {
    let differences = differences();
    if differences.is_empty() {
        return "No cell differs.\n".to_owned();
    }
    let mut table = String::from("| input | state | outcome |\n|---|---|---|\n");
    for row in differences {
        let _ = writeln!(table, "| {} |", row.join(" | "));
    }
    table
}

/// The document with `content` between the marks of `part`.
fn replace(document: &str, part: &str, content: &str) -> String {
    let (begin, end) = (
        format!("<!-- {part}: generated -->\n"),
        format!("<!-- {part}: end -->"),
    );
    let (before, rest) = document
        .split_once(&begin)
        .expect("the mark of the beginning");
    let (_, after) = rest.split_once(&end).expect("the mark of the end");
    format!("{before}{begin}{content}{end}{after}")
}

#[test]
fn the_document_is_what_the_tests_do() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/hostile-input.md");
    let document = std::fs::read_to_string(&path).expect("the document is there");
    let current = replace(&document, "corpus", &corpus_table());
    let current = replace(&current, "matrix", &matrix_table());
    let current = replace(&current, "matrix-cluster", &cluster_table());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &current).expect("the document can be written");
    }
    let written = std::fs::read_to_string(&path).expect("the document is there");
    assert!(
        written == current,
        "docs/hostile-input.md is stale: UPDATE_DOCS=1 cargo test -p sockhop-node --test hostile document"
    );
}
