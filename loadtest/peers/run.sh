#!/usr/bin/env bash
# Builds sockhop's benchmark server, its peers, the floor and the generator, runs them side by
# side, and writes the tables and charts into docs/performance.md. About an hour.
#
#   run.sh                        everything
#   run.sh --rounds 1 --only echo what run.py is told, after the same builds; see run.py --help
#
# Needs Rust, Node.js 20, Python 3.11, redis-server and taskset, and two cores that are otherwise
# idle.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

cargo build --release --locked -p sockhop-node --example bench --manifest-path "$root/Cargo.toml"
cargo build --release --locked --manifest-path "$here/rust/Cargo.toml"
(cd "$here/node" && npm ci)
[[ -d $here/python/.venv ]] || python3 -m venv "$here/python/.venv"
"$here/python/.venv/bin/python" -m pip install --quiet -r "$here/python/requirements.txt"

# 18,000 connections need as many descriptors.
ulimit -n "$(ulimit -Hn)"

if (($#)); then
  exec python3 "$here/run.py" "$@"
fi
python3 "$here/run.py" --write
python3 "$here/run.py" --series --write
