#!/usr/bin/env bash
# Runs the chat page of a built node in Chromium; the last line is "N passed, M failed".
#
#   tests/browser/run.sh          uses target/release/sockhop
#   CHAT_SERVER="…" run.sh        another command that takes --listen and --client-dir
#
# Packages and screenshots go to .cache/browser, nothing into the source tree.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=$root/.cache/browser
mkdir -p "$cache"

# The results must survive whatever happens: anything unexpected is one failure.
finish() {
  local status=$?
  if [[ ! ${passed:-} ]]; then
    passed=0 failed=1
  fi
  echo "$passed passed, $failed failed"
  if [[ $failed -ne 0 || $status -ne 0 ]]; then exit 1; fi
}
trap finish EXIT

target=${CARGO_TARGET_DIR:-$root/target}
export CHAT_SERVER=${CHAT_SERVER:-$target/release/sockhop}
export BROWSER_MODULES=$cache SCREENSHOTS=$cache

if ! cmp --silent "$here/package-lock.json" "$cache/node_modules/.installed"; then
  cp "$here/package.json" "$here/package-lock.json" "$cache/"
  npm ci --prefix "$cache" --no-audit --no-fund --loglevel=error
  cp "$here/package-lock.json" "$cache/node_modules/.installed"
fi

if [[ ! ${PORT:-} ]]; then
  PORT=$(node -e 'const s=require("net").createServer().listen(0,"127.0.0.1",()=>{console.log(s.address().port);s.close()})')
fi
export PORT

rm -f "$cache/results.tap"
# The test starts the server itself, because one case takes it away and brings it back.
status=0
node --test \
  --test-reporter=spec --test-reporter-destination=stdout \
  --test-reporter=tap --test-reporter-destination="$cache/results.tap" \
  "$here/chat.test.mjs" || status=$?

passed=$(sed -n 's/^# pass //p' "$cache/results.tap" | tail -n 1)
failed=$(awk '/^# (fail|cancelled) / { n += $3 } END { print n + 0 }' "$cache/results.tap")
exit "$status"
