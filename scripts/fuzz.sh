#!/usr/bin/env bash
# Fuzzes every target, or the named ones, with libFuzzer.
#
#   scripts/fuzz.sh [SECONDS [TARGET...]]     default: 30 seconds for each target
#
# Needs a C++ compiler for libFuzzer, and no nightly toolchain: instrumentation is a matter of stable
# compiler options, and without unsafe code an address sanitizer would have nothing to say. New inputs
# go to .cache/fuzz/TARGET, the seeds in fuzz/corpus stay as they are. A finding is written to
# .cache/fuzz/artifacts; it becomes a seed, and with it a test of crates/testkit/tests/fuzz.rs.
# The last line is "N targets fuzzed, M findings".
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root/fuzz" || exit 1
source ../scripts/packages.sh
need_commands c++:g++ || exit 1

seconds=${1:-30}
shift
targets=("$@")
if [[ ${#targets[@]} -eq 0 ]]; then
  targets=(fuzz_targets/*.rs)
  targets=("${targets[@]#fuzz_targets/}")
  targets=("${targets[@]%.rs}")
fi

triple=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/fuzz
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
# With a target the options are for the fuzzed code alone, not for build scripts.
cargo build --release --target "$triple" --bins || exit 1

cache=$root/.cache/fuzz
mkdir -p "$cache/artifacts"
findings=0
for target in "${targets[@]}"; do
  mkdir -p "$cache/$target" "corpus/$target"
  log=$cache/$target.log
  echo "==> $target, $seconds s"
  if ! "$CARGO_TARGET_DIR/$triple/release/$target" "$cache/$target" "corpus/$target" \
    -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
    -artifact_prefix="$cache/artifacts/$target-" >"$log" 2>&1; then
    findings=$((findings + 1))
    tail -n 40 "$log"
  fi
  sed -nE 's/^stat::(number_of_executed_units|average_exec_per_sec|peak_rss_mb): *(.*)/    \1 \2/p' "$log"
done
echo "${#targets[@]} targets fuzzed, $findings findings"
((findings == 0))
