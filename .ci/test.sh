#!/usr/bin/env bash
# Runs every stage of `make test`, or the stages named. Each stage logs to .build/logs/STAGE.log; a failing one
# shows its tail at once, and the last lines of the output name each failing test.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

python=/usr/bin/python3
logs=.build/logs
mkdir -p "$logs"
rm -f "$logs"/*.log

# Everything the tests mount or start lives under this folder, so what is left over can be told from others' mounts.
# Unix socket names are short: so is this one.
base=/dev/shm
[ -w $base ] || base=/tmp
root=$(mktemp -d "$base/scrim-test.XXXXXX")
chmod 755 "$root" # other users run tests in it, too
export SCRIM_TEST_ROOT=$root TMPDIR=$root PYTHONDONTWRITEBYTECODE=1
export SCRIM=${SCRIM:-$PWD/.build/release/scrim}

summary=()
failures=()
passed=0
started=$SECONDS

build_flags=(-c release --explicit-target-dependency-import-check=error)

stage_deps() { .ci/deps.sh; }
stage_lint() { Tests/check.sh; }
stage_build() {
  for product in scrim scrim-broker; do
    swift build "${build_flags[@]}" --static-swift-stdlib --disable-local-rpath --product $product || return
  done
}
stage_unit() {
  timeout -k 10 3000 swift test "${build_flags[@]}" -Xswiftc -enable-testing --scratch-path .build/tests
}
# Limits are for what hangs, not for what is slow.
run_pytest() {
  local name=$1 folder=$2
  shift 2
  timeout -k 10 2400 $python -m pytest "$folder" -q -rfEs -o "cache_dir=$PWD/.build/pytest-$name" "$@"
}
# A test on a real mount that fails is run once more, alone: what passes then is named as unstable in the summary.
run_on_mounts() {
  local name=$1 folder=$2
  run_pytest "$name" "$folder" --durations=8 && return 0
  echo "== once more, what failed:"
  .ci/leftovers.sh "$root" --clean
  run_pytest "$name" "$folder" --last-failed --last-failed-no-failures none || return 1
  sed -nE 's/^(FAILED|ERROR) (Tests[^ ]*).*/unstable: \2/p' "$logs/$name.log" | sort -u
}
stage_reader() { run_pytest reader Tests/Reader; }
stage_end-to-end() { run_on_mounts end-to-end Tests/EndToEnd; }
stage_posix() { run_on_mounts posix Tests/Posix; }
stage_leftovers() { .ci/leftovers.sh "$root"; }

# How many tests a log says passed.
passed_tests() {
  sed -nE -e 's/^=* *([0-9]+) passed.*/\1/p' -e 's/.*, ([0-9]+) passed.*/\1/p' \
    -e 's/.*Test run with ([0-9]+) tests.* passed after.*/\1/p' "$1" | head -n 1
}

# The names of the tests that failed, one a line, from the log of a stage.
failed_tests() {
  sed -nE \
    -e 's/^(FAILED|ERROR) (Tests[^ ]*).*/\2/p' \
    -e 's/^✘ Test (.*) failed after.*/\1/p' \
    -e 's/^✘ Test (.*) recorded an issue.*/\1/p' \
    -e 's/^lint: (.*)/\1/p' \
    -e 's/^leftover: (.*)/left over: \1/p' \
    -e 's/^(.*: error: .*)/\1/p' "$1" | sort -u | head -n 40
}

run_stage() {
  local name=$1 log=$logs/$1.log begin=$SECONDS status=0
  printf '== %-11s ' "$name"
  ("stage_$name") >"$log" 2>&1 || status=$?
  local took=$((SECONDS - begin))
  if [ $status -eq 0 ]; then
    local note
    note=$(grep -E '^=+ .*passed|Test run with .* passed|^lint ok' "$log" | tail -n 1 | tr -d '=' | sed 's/^[^A-Za-z0-9]*//')
    printf 'ok    %4d s   %s\n' "$took" "$note"
    # A skipped mount test is worth a loud line even where it is no failure.
    grep -E '^(SKIPPED|unstable:)' "$log" || true
    Tests/Crash/counts "$log"
    summary+=("$(printf '%-11s ok    %4d s' "$name" "$took")")
    passed=$((passed + $(passed_tests "$log" | grep . || echo 0)))
    return 0
  fi
  printf 'FAILED (%d) after %d s; the end of %s:\n' "$status" "$took" "$log"
  grep -aE -A3 '^✘ Test .* recorded an issue' "$log" | cut -c 1-600 | head -n 60 | sed 's/^/   ! /'
  tail -n 80 "$log" | cut -c 1-600 | sed 's/^/   | /'
  summary+=("$(printf '%-11s FAILED %3d s' "$name" "$took")")
  local names line
  names=$(failed_tests "$log")
  [ -n "$names" ] || names="stage $name ended with status $status"
  while IFS= read -r line; do failures+=("$name: $line"); done <<<"$names"
  return 1
}

# shellcheck disable=SC2317
finish() {
  [ "${#failures[@]}" -eq 0 ] || .ci/leftovers.sh "$root" --clean >/dev/null 2>&1
  rm -rf --one-file-system "$root" 2>/dev/null
}
trap finish EXIT

stages=("$@")
[ ${#stages[@]} -gt 0 ] || stages=(deps lint build unit reader end-to-end posix leftovers)
for stage in "${stages[@]}"; do
  run_stage "$stage" && continue
  case $stage in deps | build) break ;; esac # nothing after these can run
done

printf '\n'
printf '%s\n' "${summary[@]}"
printf '%-11s       %4d s\n' total $((SECONDS - started))
if [ ${#failures[@]} -gt 0 ]; then
  printf '\n%d failed:\n' "${#failures[@]}"
  printf 'FAILED %s\n' "${failures[@]}"
  printf '\n%d passed, %d failed\n' "$passed" "${#failures[@]}"
  exit 1
fi
printf '%d passed, 0 failed\n' "$passed"
