#!/usr/bin/env bash
# Installs from Debian what the build and the tests need and this machine lacks. Quiet where nothing is missing.
set -euo pipefail

build=(libfuse3-dev fuse3 libssl-dev libzstd-dev pkg-config make git ca-certificates
  python3 libcap2-bin)
tests=(attr acl rsync sqlite3 strace util-linux procps psmisc pinentry-curses systemd python3-venv man-db binutils
  python3-cryptography python3-pytest gcc libc6-dev shellcheck fio gocryptfs encfs zsh fish)
soak=(stress-ng dbench postgresql)

case ${1:-all} in
  build) wanted=("${build[@]}") ;;
  all) wanted=("${build[@]}" "${tests[@]}") ;;
  soak) wanted=("${build[@]}" "${tests[@]}" "${soak[@]}") ;;
  *)
    echo "usage: $0 [build|all|soak]" >&2
    exit 64
    ;;
esac

if ! command -v swift >/dev/null 2>&1; then
  echo "deps: no swift in PATH. Install Swift 6.2 or newer from https://www.swift.org/install/linux/" >&2
  exit 1
fi
if ! command -v dpkg-query >/dev/null 2>&1; then
  echo "deps: not a Debian system; these packages or their like are needed: ${wanted[*]}" >&2
  exit 0
fi

missing=()
for package in "${wanted[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "deps: installing ${missing[*]}"
if [ "$(id -u)" -ne 0 ]; then
  echo "deps: run as root: apt-get install ${missing[*]}" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
log=$(mktemp)
trap 'rm -f "$log"' EXIT

updated=no
for attempt in 1 2 3 4; do
  if "${apt[@]}" update >"$log" 2>&1; then
    updated=yes
    break
  fi
  echo "deps: apt-get update failed (attempt $attempt of 4), trying again" >&2
  sleep $((attempt * 3))
done
if [ "$updated" = no ]; then
  echo "deps: the package lists may be old:" >&2
  tail -n 3 "$log" >&2
fi
for attempt in 1 2 3; do
  if "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1; then
    exit 0
  fi
  echo "deps: apt-get install failed (attempt $attempt of 3)" >&2
  sleep $((attempt * 3))
done
tail -n 20 "$log" >&2
exit 1
