//! The floors of `docs/architecture.md`, section 1, held against what cargo knows.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// The floor of every crate of the workspace; nothing depends on a higher floor.
const FLOORS: [(&str, u8); 12] = [
    ("engineio-proto", 0),
    ("sockhop-heap", 0),
    ("sockhop-outbox", 0),
    ("socketio-proto", 1),
    ("sockhop-adapter", 2),
    ("sockhop-engine", 3),
    ("sockhop-redis", 3),
    ("sockhop", 4),
    ("sockhop-client", 4),
    ("sockhop-node", 5),
    ("sockhop-loadtest", 6),
    (TESTKIT, TESTKIT_FLOOR),
];

/// Dependencies within one floor that the picture draws: (from, to). It draws none.
const DRAWN_SIBLINGS: [(&str, &str); 0] = [];

/// Serves the tests of every floor, so it stands beside the building: whoever ships may not
/// need it, whatever it needs itself.
const TESTKIT: &str = "testkit";
const TESTKIT_FLOOR: u8 = u8::MAX;

/// Up to here the building has no runtime and no sockets.
const HIGHEST_SANS_IO_FLOOR: u8 = 2;

/// What brings a runtime or a socket along.
const RUNTIMES: [&str; 9] = [
    "async-io",
    "async-std",
    "hyper",
    "mio",
    "redis",
    "smol",
    "socket2",
    "tokio",
    "tungstenite",
];

/// One dependency between two crates of the workspace.
#[derive(Clone, Debug)]
struct Edge {
    from: String,
    to: String,
    for_tests: bool,
}

/// Says what is wrong with the workspace's own dependencies; an empty list is the good answer.
fn faults_of_edges(edges: &[Edge], siblings: &[(&str, &str)]) -> Vec<String> {
    let floors = BTreeMap::from(FLOORS);
    let mut faults = Vec::new();
    for Edge {
        from,
        to,
        for_tests,
    } in edges
    {
        let (Some(&upper), Some(&lower)) = (floors.get(&from[..]), floors.get(&to[..])) else {
            continue;
        };
        if to == TESTKIT {
            if !for_tests {
                faults.push(format!("{from} needs {TESTKIT} for more than its tests"));
            }
        } else if upper < lower {
            faults.push(format!(
                "{from} (floor {upper}) imports upward: {to} (floor {lower})"
            ));
        } else if upper == lower && !siblings.contains(&(&from[..], &to[..])) {
            faults.push(format!(
                "{from} imports its sibling {to} on floor {upper}: not drawn"
            ));
        }
    }
    faults
}

/// Says which crates are missing from the floor map.
fn faults_of_members<'a>(members: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let floors = BTreeMap::from(FLOORS);
    members
        .into_iter()
        .filter(|name| !floors.contains_key(name))
        .map(|name| format!("{name} has no floor"))
        .collect()
}

/// Says which runtimes are reachable from the crates that must not know any.
fn faults_of_trees(trees: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let floors = BTreeMap::from(FLOORS);
    let mut faults = Vec::new();
    for (root, tree) in trees {
        let floor = floors.get(&root[..]).copied().unwrap_or(u8::MAX);
        if floor > HIGHEST_SANS_IO_FLOOR && !root.ends_with("-proto") {
            continue;
        }
        for package in tree {
            if RUNTIMES.contains(&&package[..]) || package.starts_with("tokio-") {
                faults.push(format!("{root} must know no runtime, but has {package}"));
            }
        }
    }
    faults
}

fn workspace() -> Metadata {
    MetadataCommand::new()
        .other_options(["--locked".to_owned()])
        .exec()
        .expect("cargo describes the workspace it is running in")
}

fn edges_of(metadata: &Metadata) -> Vec<Edge> {
    let packages = metadata.workspace_packages();
    let members: BTreeSet<_> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let mut edges = Vec::new();
    for package in &packages {
        for dependency in &package.dependencies {
            if members.contains(&dependency.name[..]) {
                edges.push(Edge {
                    from: package.name.to_string(),
                    to: dependency.name.clone(),
                    for_tests: dependency.kind == DependencyKind::Development,
                });
            }
        }
    }
    edges
}

/// For every member the names of all packages that its normal dependencies lead to.
fn trees_of(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let resolve = metadata
        .resolve
        .as_ref()
        .expect("metadata with a resolve graph");
    let nodes: BTreeMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let mut trees = BTreeMap::new();
    for member in metadata.workspace_packages() {
        let mut seen = BTreeSet::new();
        let mut open = vec![&member.id];
        while let Some(id) = open.pop() {
            for dependency in &nodes[id].deps {
                let ships =
                    |kind: &cargo_metadata::DepKindInfo| kind.kind == DependencyKind::Normal;
                if dependency.dep_kinds.iter().any(ships) && seen.insert(&dependency.pkg) {
                    open.push(&dependency.pkg);
                }
            }
        }
        let names = seen.into_iter().map(|id| metadata[id].name.to_string());
        trees.insert(member.name.to_string(), names.collect());
    }
    trees
}

#[test]
fn every_member_has_a_floor() {
    let metadata = workspace();
    let members = metadata.workspace_packages();
    assert_eq!(
        faults_of_members(members.iter().map(|package| package.name.as_str())),
        [""; 0]
    );
}

#[test]
fn nothing_imports_upward_or_an_undrawn_sibling() {
    let edges = edges_of(&workspace());
    assert!(
        !edges.is_empty(),
        "the crates of the workspace use each other"
    );
    assert_eq!(faults_of_edges(&edges, &DRAWN_SIBLINGS), [""; 0]);
}

#[test]
fn the_lower_floors_know_no_runtime() {
    let trees = trees_of(&workspace());
    assert!(
        trees["sockhop-engine"].contains("tokio"),
        "the walk must find tokio where it belongs"
    );
    assert_eq!(faults_of_trees(&trees), [""; 0]);
}

fn edge(from: &str, to: &str, for_tests: bool) -> Edge {
    Edge {
        from: from.to_owned(),
        to: to.to_owned(),
        for_tests,
    }
}

#[test]
fn an_upward_edge_is_a_fault_even_in_tests() {
    for for_tests in [false, true] {
        let faults = faults_of_edges(&[edge("sockhop-adapter", "sockhop", for_tests)], &[]);
        assert_eq!(
            faults,
            ["sockhop-adapter (floor 2) imports upward: sockhop (floor 4)"]
        );
    }
}

#[test]
fn a_sibling_edge_is_a_fault_unless_it_is_drawn() {
    let edges = [edge("sockhop-engine", "sockhop-redis", false)];
    assert_eq!(
        faults_of_edges(&edges, &[]),
        ["sockhop-engine imports its sibling sockhop-redis on floor 3: not drawn"]
    );
    assert_eq!(
        faults_of_edges(&edges, &[("sockhop-engine", "sockhop-redis")]),
        [""; 0]
    );
}

#[test]
fn a_downward_edge_is_fine_across_any_number_of_floors() {
    let edges = [
        edge("sockhop-node", "engineio-proto", false),
        edge("sockhop", "sockhop-engine", false),
    ];
    assert_eq!(faults_of_edges(&edges, &[]), [""; 0]);
}

#[test]
fn testkit_is_for_tests_only_and_may_itself_use_every_floor() {
    let edges = [
        edge("engineio-proto", TESTKIT, true),
        edge(TESTKIT, "sockhop-adapter", false),
    ];
    assert_eq!(faults_of_edges(&edges, &[]), [""; 0]);
    assert_eq!(
        faults_of_edges(&[edge("sockhop", TESTKIT, false)], &[]),
        ["sockhop needs testkit for more than its tests"]
    );
}

#[test]
fn a_crate_without_a_floor_is_a_fault() {
    assert_eq!(
        faults_of_members(["sockhop", "sockhop-attic"]),
        ["sockhop-attic has no floor"]
    );
}

#[test]
fn a_runtime_anywhere_below_a_proto_crate_is_a_fault() {
    let tree = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let trees = BTreeMap::from([
        ("engineio-proto".to_owned(), tree(&["bytes", "mio"])),
        ("other-proto".to_owned(), tree(&["tokio-util"])),
        ("sockhop-engine".to_owned(), tree(&["tokio"])),
    ]);
    assert_eq!(
        faults_of_trees(&trees),
        [
            "engineio-proto must know no runtime, but has mio",
            "other-proto must know no runtime, but has tokio-util",
        ]
    );
}
