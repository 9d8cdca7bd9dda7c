#!/usr/bin/env bash
# Builds everything and runs every test; the last line is "N passed, M failed".
#
#   scripts/test.sh            everything: Rust, real clients, balancers, browser
#   scripts/test.sh --rust     only what needs no Node.js, Python or Chromium
#   scripts/test.sh --compose  docker-compose.yml for real; not part of everything, for it takes long
#
# Needs a Rust toolchain; on Debian it installs whatever else is missing.
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1
source scripts/packages.sh

case ${1:-} in
  "") rust_only="" ;;
  --rust) rust_only=yes ;;
  --compose)
    need_clients && need_docker || exit 1
    exec deploy/test/compose.sh
    ;;
  *) echo "usage: scripts/test.sh [--rust | --compose]" >&2; exit 2 ;;
esac

target=${CARGO_TARGET_DIR:-$root/target}
logs=$root/.cache/test-logs
mkdir -p "$logs"
# Logs are read back for their counts, so they stay free of colour.
export CARGO_TERM_COLOR=never CARGO_TERM_PROGRESS_WHEN=never

# Rows "name<TAB>passed<TAB>failed<TAB>seconds"; .ci/run hands over those of its own checks.
rows=$logs/rows.tsv
if [[ ${EARLIER_ROWS:-} ]]; then cp "$EARLIER_ROWS" "$rows"; else : >"$rows"; fi

# ---- steps --------------------------------------------------------------------------------

install() {
  need_compiler && need_servers && { [[ $rust_only ]] || need_clients; }
}

build() {
  cargo build --release --workspace --examples --bins --locked
}

# Some tests start an example as a process, which `--tests` alone does not build.
rust_tests() {
  cargo build --workspace --examples --locked &&
    cargo test --workspace --locked --no-fail-fast --tests
}

doc_tests() {
  cargo test --workspace --locked --no-fail-fast --doc
}

loom_tests() {
  RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=$target/loom \
    cargo test -p sockhop-outbox --release --locked --test loom
}

conformance() {
  [[ $built ]] || { echo "not run: the build failed"; return 1; }
  tests/conformance/run.sh
}

cluster() {
  [[ $built ]] || { echo "not run: the build failed"; return 1; }
  tests/conformance/cluster/run.sh
}

balancers() {
  [[ $built ]] || { echo "not run: the build failed"; return 1; }
  tests/balancers/run.sh
}

browser() {
  [[ $built ]] || { echo "not run: the build failed"; return 1; }
  tests/browser/run.sh
}

# ---- counting -----------------------------------------------------------------------------

# Sums what every test binary said of itself.
count_rust() {
  awk '/^test result: / { passed += $4; failed += $6 } END { print passed + 0, failed + 0 }' "$1"
}

# Reads the one line with which our own scripts end.
count_script() {
  sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' "$1" | tail -n 1
}

# A step that only has to succeed contributes no tests.
count_none() {
  echo 0 0
}

# step NAME COUNTER FUNCTION: runs it, shows its output and keeps its counts.
step() {
  local name=$1 counter=$2 log=$logs/$3.log status=0 passed=0 failed=0 began=$SECONDS
  printf '\n==> %s\n' "$name"
  "$3" 2>&1 </dev/null | tee "$log" || status=$?
  read -r passed failed <<<"$("$counter" "$log") 0 0" || true
  failed=${failed%% *}
  # A suite that broke before its first test, or that ran no test, has failed.
  if [[ $failed -eq 0 && ( $status -ne 0 || ( $counter != count_none && $passed -eq 0 ) ) ]]; then
    failed=1
  fi
  printf '%s\t%d\t%d\t%d\n' "$name" "$passed" "$failed" $((SECONDS - began)) >>"$rows"
  echo "<== $name: $( ((failed)) && echo FAILED || echo ok ), $((SECONDS - began)) s"
  ((failed == 0))
}

# ---- all of it ----------------------------------------------------------------------------

step "packages" count_none install
built=""
step "build" count_none build && built=yes
step "cargo test" count_rust rust_tests
step "doc tests" count_rust doc_tests
step "loom" count_rust loom_tests
if [[ ! $rust_only ]]; then
  step "conformance" count_script conformance
  step "cluster" count_script cluster
  step "balancers" count_script balancers
  step "browser" count_script browser
fi

echo
awk -F '\t' '
  BEGIN { printf "%-16s %8s %8s %8s\n", "suite", "passed", "failed", "time" }
  { printf "%-16s %8d %8d %5dm%02ds\n", $1, $2, $3, $4 / 60, $4 % 60; passed += $2; failed += $3 }
  END { printf "%d passed, %d failed\n", passed, failed; exit failed > 0 }
' "$rows"
