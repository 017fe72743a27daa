#!/usr/bin/env bash
# Names every mount, process and loop device that still uses the folder ROOT, and fails if there is one.
# With --clean it also takes them away (by path and by process id, never by name).
set -uo pipefail
root=${1:?usage: leftovers.sh ROOT [--clean]}
clean=${2:-}
found=0

report() {
  echo "leftover: $*"
  found=1
}

while read -r _ _ _ _ point _; do
  report "mount $point"
  [ -z "$clean" ] || umount -l "$point"
done < <(grep -F " $root/" /proc/self/mountinfo | sort -r -k5)

for entry in /proc/[0-9]*; do
  pid=${entry#/proc/}
  if [ "$pid" = $$ ] || [ "$pid" = "$PPID" ]; then continue; fi
  command=$(tr '\0' ' ' 2>/dev/null <"$entry/cmdline") || continue
  case $command in
    *leftovers.sh* | *test.sh*) ;;
    *"$root/"*)
      report "process $pid: $command"
      [ -z "$clean" ] || kill -9 "$pid"
      ;;
  esac
done

if command -v losetup >/dev/null 2>&1; then
  while read -r device _; do
    report "loop device $device"
    [ -z "$clean" ] || losetup -d "$device"
  done < <(losetup -l -n -O NAME,BACK-FILE 2>/dev/null | grep -F " $root/")
fi
exit $found
