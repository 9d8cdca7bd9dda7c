#!/usr/bin/env bash
# Runs what broke other servers against a node and against a cluster, and prints what was tried.
#
#   scripts/hostile.sh
#
# That is the corpus, the matrix of states and inputs, abuse, and the faults of a cluster
# (crates/sockhop-node/tests/hostile), and the fuzz targets over their seeds (crates/testkit/tests/fuzz.rs).
# Needs a Rust toolchain; on Debian it installs redis-server if it is missing.
# The last line is "N inputs, M cells, F faults; P tests passed, Q failed"; the numbers of
# docs/hostile-input.md come from here.
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1
source scripts/packages.sh
need_servers || exit 1

log=$root/.cache/test-logs/hostile.log
mkdir -p "$(dirname "$log")"
export CARGO_TERM_COLOR=never

{
  # The node of the files for MessagePack, which `--test` alone does not build.
  cargo build -p sockhop-node --locked --example contract
  cargo test -p sockhop-node --locked --no-fail-fast --test hostile -- --nocapture
  cargo test -p testkit --locked --no-fail-fast --test fuzz -- --nocapture
} >"$log" 2>&1

grep -E '^(corpus|matrix|abuse|descriptors|fault|fuzz)[,:]' "$log" | sort
grep -E '^test .* FAILED$|panicked at|^error' "$log"
awk '
  /^(corpus|fuzz)[,:]/ { for (i = 2; i <= NF; i++) if ($i ~ /^inputs/) inputs += $(i - 1) }
  /^matrix,/ { for (i = 2; i <= NF; i++) if ($i == "cells") cells += $(i - 1) }
  /^fault,/ { faults += 1 }
  /^test result:/ { passed += $4; failed += $6; results += 1 }
  END {
    printf "%d inputs, %d cells, %d faults; %d tests passed, %d failed\n",
      inputs, cells, faults, passed, failed
    exit !(results == 2 && failed == 0)
  }' "$log"
