//! The fuzz targets as ordinary tests: every seed, and thousands of mutations of the seeds.

#[allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    clippy::pedantic,
    clippy::disallowed_methods,
    clippy::must_use_candidate,
    clippy::default_trait_access,
    clippy::or_fun_call,
    dead_code,
    clippy::allow_attributes,
    reason = "the sources of a crate outside of the workspace"
)]
#[path = "../../../fuzz/src/lib.rs"]
mod fuzz;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

/// Mutated inputs of each target.
const MUTATIONS: usize = 4_000;

/// Bytes that mean something to one decoder or another.
const TELLING: &[u8] = b"\x00\x01\x04\x1e\x7f\x80\x81\x88\xc1\xd7\xdd\xff0123456789:-,[]{}\"\\b/?";

/// xorshift64*: the same inputs wherever this runs.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// A seed with a few changes: bytes replaced, inserted, removed, doubled, or joined with another.
    fn mutation(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(6) {
            let at = self.below(input.len() + 1);
            let byte = match self.below(3) {
                0 => (self.next() & 0xff) as u8,
                _ => TELLING[self.below(TELLING.len())],
            };
            match self.below(6) {
                0 if at < input.len() => input[at] = byte,
                1 => input.insert(at, byte),
                2 if at < input.len() => drop(input.remove(at)),
                3 => input.truncate(at),
                4 => {
                    let piece = input[at..].to_vec();
                    input.extend(piece.into_iter().take(64));
                }
                _ => {
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.below(other.len() + 1);
                    let tail = input.split_off(at);
                    input.extend_from_slice(&other[from..]);
                    input.extend(tail.into_iter().take(64));
                }
            }
        }
        input
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder.join(target))
        .expect("every target has seeds")
        .map(|entry| entry.expect("a seed").path())
        .collect();
    files.sort();
    let read = |path| std::fs::read(path).expect("a seed can be read");
    files.into_iter().map(read).collect()
}

#[test]
fn no_seed_and_no_mutation_of_one_is_a_finding() {
    let mut inputs = 0;
    for (name, target) in fuzz::TARGETS {
        let seeds = seeds(name);
        let mut random = Random(0x5eed_5eed_5eed_5eed);
        let mutations = (0..MUTATIONS).map(|_| random.mutation(&seeds));
        let all: Vec<_> = seeds.iter().cloned().chain(mutations).collect();
        for input in all {
            inputs += 1;
            if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
                panic!("{name} fails on {:?}", input.escape_ascii().to_string());
            }
        }
    }
    eprintln!("fuzz: {} targets, {inputs} inputs", fuzz::TARGETS.len());
}

#[test]
fn every_target_has_a_binary_of_its_name() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the targets are there")
        .filter_map(|entry| {
            Some(
                entry
                    .ok()?
                    .path()
                    .file_stem()?
                    .to_string_lossy()
                    .into_owned(),
            )
        })
        .collect();
    files.sort();
    let mut names = fuzz::TARGETS.map(|(name, _)| name);
    names.sort_unstable();
    assert_eq!(files, names);
}
