#!/usr/bin/env bash
# What a check is: its words, whether it held, and how many did. Sourced.
passed=0 failed=0 skipped=0

pass() { echo "ok      $1"; passed=$((passed + 1)); }
fail() { echo "FAILED  $1: $2"; failed=$((failed + 1)); }
skip() { echo "skipped $1"; skipped=$((skipped + 1)); }
# within SECONDS COMMAND...: until it is true.
within() {
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || return 1; sleep 0.2; done
}
# holds NAME COMMAND...: it succeeds.
holds() { local name=$1 said; shift; if said=$("$@" 2>&1); then pass "$name"; else fail "$name" "${said:0:500}"; fi; }
# soon NAME COMMAND...: it succeeds within two minutes.
soon() { local name=$1; shift; if within 120 "$@"; then pass "$name"; else fail "$name" "not within two minutes"; fi; }
# refused NAME WORDS COMMAND...: it fails and says these words.
refused() {
  local name=$1 words=$2 said; shift 2
  if said=$("$@" 2>&1); then fail "$name" "it was taken"
  elif grep -qF -- "$words" <<<"$said"; then pass "$name"
  else fail "$name" "${said:0:500}"; fi
}
# summary: how it went; fails if a check did.
summary() { echo "$passed passed, $failed failed, $skipped skipped"; [ $failed = 0 ]; }
