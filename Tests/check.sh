#!/usr/bin/env bash
# Style: what a machine can see of CONTRIBUTING.md. Each finding is one line that begins with "lint:".
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
findings=0

finding() {
  echo "lint: $*"
  findings=$((findings + 1))
}

# Reports each line of standard input under a heading.
findings_of() {
  local line
  while IFS= read -r line; do finding "$1: $line"; done
}

# Tracked files and new ones that are not ignored: what a commit could hold.
tracked() { git ls-files --cached --others --exclude-standard -- "$@" | while IFS= read -r f; do [ -f "$f" ] && echo "$f"; done; }

mapfile -t swift_files < <(tracked '*.swift')
findings_of format < <(swift format lint --strict --parallel "${swift_files[@]}" 2>&1 | grep -E '(error|warning):')

# Words that have no place in Sources: traps on bad input, unfinished work.
mapfile -t sources < <(tracked 'Sources/*.swift')
findings_of "banned word" < <(
  grep -nE '\b(TODO|FIXME|XXX)\b|\bfatalError\(|\btry!|\bas!' "${sources[@]}" /dev/null
)
findings_of "print below the command line" < <(
  grep -nE '(^|[^.A-Za-z])(debugPrint|print)\(' "${sources[@]}" /dev/null | grep -v '^Sources/scrim/'
)
findings_of "Foundation below the command line" < <(
  grep -nE '^ *(public |internal |package |private )*import Foundation' "${sources[@]}" /dev/null | grep -v '^Sources/scrim/'
)
while IFS= read -r file; do
  lines=$(wc -l <"$file")
  [ "$lines" -le 400 ] || finding "$file has $lines lines, 400 is the limit"
done < <(printf '%s\n' "${swift_files[@]}")

# Imports go one way. The build's import check knows declared dependencies; this knows which may be declared.
allowed_imports() {
  case $1 in
    Primitives) echo 'CCrypto CZstd CLinux' ;;
    Container) echo 'Primitives' ;;
    Vault) echo 'Container Primitives' ;;
    Migration) echo 'Vault Container Primitives' ;;
    BrokerProtocol) echo 'CLinux' ;;
    scrim-broker) echo 'BrokerProtocol CLinux' ;;
    Mount) echo 'Migration Vault Container Primitives BrokerProtocol CFuse CLinux' ;;
    scrim) echo 'Mount Migration Vault Container Primitives' ;;
  esac
}
for layer in Primitives Container Vault Migration BrokerProtocol scrim-broker Mount scrim; do
  allowed=" $(allowed_imports "$layer") "
  while IFS=: read -r file module; do
    case $allowed in *" $module "*) ;; *) finding "$file imports $module, which is not below $layer" ;; esac
  done < <(
    grep -rHoE --include='*.swift' '^ *(public |internal |package |private |@[A-Za-z_]+ )*import (struct |class |enum |func )?[A-Za-z]+' "Sources/$layer" |
      sed -E 's/:.*import (struct |class |enum |func )?/:/' |
      grep -E ':(CCrypto|CZstd|CLinux|CFuse|Primitives|Container|Vault|Migration|BrokerProtocol|Mount)$'
  )
done

if command -v shellcheck >/dev/null 2>&1; then
  mapfile -t scripts < <(tracked '*' | while IFS= read -r f; do head -c 64 "$f" | head -n 1 | tr -d '\0' | grep -qE '^#!.*\b(ba)?sh\b' && echo "$f"; done)
  findings_of shellcheck < <(shellcheck -f gcc "${scripts[@]}")
fi

if [ $findings -gt 0 ]; then
  echo "$findings findings"
  exit 1
fi
echo "lint ok: ${#swift_files[@]} Swift files"
