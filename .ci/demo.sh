#!/usr/bin/env bash
# What Scrim does, shown on a real tree in a temporary folder; everything is taken away at the end.
set -euo pipefail
scrim=$(realpath "${1:?usage: demo.sh PATH-OF-SCRIM}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! [ -c /dev/fuse ]; then
  echo "demo: there is no /dev/fuse here, so nothing can be mounted." >&2
  echo "demo: load the module (modprobe fuse), or give the container the device (docker run --device /dev/fuse --cap-add SYS_ADMIN)." >&2
  exit 1
fi

base=/dev/shm
[ -w $base ] || base=${TMPDIR:-/tmp}
work=$(mktemp -d "$base/scrim-demo.XXXXXX")
vault=$work/vault mnt=$work/mnt secret=$work/passphrase

# shellcheck disable=SC2317
clean_up() {
  if grep -qF " $mnt " /proc/self/mountinfo; then "$scrim" umount "$mnt" || umount -l "$mnt"; fi
  rm -rf --one-file-system "$work"
}
trap clean_up EXIT

bold='' normal=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\033[1m' normal=$'\033[0m'; fi
say() { printf '\n%s%s%s\n' "$bold" "$*" "$normal"; }
show() {
  printf '$ %s\n' "$(printf '%s ' "${@//$work/.}" | sed "s|$scrim|scrim|; s/ $//")"
  "$@"
}
shorten() { cut -c1-76 | sed 's/^/    /'; }

mkdir "$mnt"
echo 'a passphrase that only this demo knows' >"$secret"

say "1. A vault is a folder. Two keys open it: the passphrase, and a recovery key to print."
show "$scrim" init "$vault" --passphrase-file "$secret" --recovery-file "$work/recovery" --kdf-cost low
show "$scrim" info "$vault"

say "2. Mounted, it is a directory like any other."
show "$scrim" mount "$vault" "$mnt" --passphrase-file "$secret"
show cp -a Sources docs "$mnt"
echo "    $(find "$mnt" -type f | wc -l) files, $(du -sh --apparent-size "$mnt" | cut -f1)"
show diff -r Sources "$mnt/Sources"

say "3. A directory marked plain is served by the kernel, straight from its backing files."
show mkdir "$mnt/media"
show "$scrim" mark "$mnt/media" --content plain
dd if=/dev/urandom of="$mnt/media/film" bs=1M count=128 status=none
echo "    128 MiB written to media/film, now read back"
cat "$mnt/media/film" >/dev/null
for file in "$mnt/media/film" "$mnt/docs/format.md"; do
  echo "    ${file#"$mnt"/}: $(getfattr --only-values -n user.scrim.mode "$file" 2>/dev/null)"
done
show "$scrim" status "$mnt"

say "4. On disk there is ciphertext, and the plain file as it is."
find "$vault/tree" -mindepth 1 -maxdepth 1 -printf '%f\n' | shorten
if grep -rqaF "on-disk format" "$vault"; then
  echo "    plaintext was found in the vault" >&2
  exit 1
fi
echo "    grep for a sentence of docs/format.md: nothing"
backing=$(find "$vault/tree" -type f -size +100M)
show cmp "$mnt/media/film" "$backing"

say "5. Unmounted and mounted again, everything is there."
show "$scrim" umount "$mnt"
show "$scrim" mount "$vault" "$mnt" --passphrase-file "$secret"
show diff -r Sources "$mnt/Sources"
show diff -r docs "$mnt/docs"
show cmp "$mnt/media/film" "$backing"

say "6. Without mounting:"
show "$scrim" umount "$mnt"
show "$scrim" ls "$vault" docs --passphrase-file "$secret" | shorten
show "$scrim" cat "$vault" docs/format.md --passphrase-file "$secret" | head -n 4 | shorten

say "Done. Try it: scrim init ~/vault && mkdir ~/secret && scrim mount ~/vault ~/secret"
