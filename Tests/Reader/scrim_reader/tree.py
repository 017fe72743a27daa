"""The plain tree of a vault as data: description, copy, and comparison with a directory."""

import hashlib
import os
import stat

from .directory import CONTAINER, LONG_LINK, PLAIN, SPECIAL, SYMLINK
from .primitives import Damaged
from .vault import Vault

_ZEROS = bytes(1 << 20)


def _hash_of(extents, size):
    digest, at = hashlib.sha256(), 0
    for offset, data in extents:
        while at < offset:
            digest.update(_ZEROS[: offset - at])
            at += min(offset - at, len(_ZEROS))
        digest.update(data)
        at += len(data)
    while at < size:
        digest.update(_ZEROS[: size - at])
        at += min(size - at, len(_ZEROS))
    return digest.hexdigest()


def describe(vault, contents=False, largest=None):
    """{plain path: {"mode", "mtime", and what the type has}}; unreadable ones are left out.

    `contents` asks for hashes (of files up to `largest` bytes) and attributes.
    """
    out = {}
    for node in vault.walk():
        try:
            out[node.path] = _describe(vault, node, contents, largest)
        except (Damaged, OSError) as error:
            vault.note(node.path, error)
    return out


def _describe(vault, node, contents, largest):
    status = node.status
    item = {"mode": status.st_mode, "mtime": status.st_mtime_ns}
    if node.what in (SYMLINK, LONG_LINK):
        item["mode"] = stat.S_IFLNK | 0o777
        item["target"] = vault.target(node)
        item["size"] = len(item["target"])
        return item
    if node.what == SPECIAL and stat.S_IFMT(status.st_mode) in (stat.S_IFCHR, stat.S_IFBLK):
        item["rdev"] = status.st_rdev
    if node.what in (CONTAINER, PLAIN):
        item["size"] = vault.size(node)
        item["inode"] = status.st_ino
        if contents and (largest is None or item["size"] <= largest):
            item["sha256"] = _hash_of(vault.extents(node), item["size"])
    if contents:
        item["attributes"] = _visible(vault.attributes(node))
    return item


def _visible(attributes):
    """Only what every filesystem gives back: user attributes that are not the mount's own."""
    return {
        name: value
        for name, value in attributes.items()
        if name.startswith(b"user.") and not name.startswith(b"user.scrim.")
    }


def _read_extents(path):
    with open(path, "rb") as file:
        at = 0
        while data := file.read(1 << 20):
            yield at, data
            at += len(data)


def describe_directory(top):
    """The same for an ordinary directory, such as a mounted vault or what was copied into it."""
    top = os.fsencode(top)
    out = {b".": _describe_path(top)}
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            path = os.path.join(folder, name)
            out[os.path.relpath(path, top)] = _describe_path(path)
    return out


def _describe_path(path):
    status = os.lstat(path)
    item = {"mode": status.st_mode, "mtime": status.st_mtime_ns}
    if stat.S_ISLNK(status.st_mode):
        item["target"] = os.readlink(path)
        item["size"] = len(item["target"])
        return item
    if stat.S_ISREG(status.st_mode):
        item["size"], item["inode"] = status.st_size, status.st_ino
        item["sha256"] = _hash_of(_read_extents(path), status.st_size)
    elif not stat.S_ISDIR(status.st_mode) and status.st_rdev:
        item["rdev"] = status.st_rdev
    names = map(os.fsencode, os.listxattr(path, follow_symlinks=False))
    item["attributes"] = _visible({n: _get(path, n) for n in names})
    return item


def _get(path, name):
    return os.getxattr(path, name, follow_symlinks=False)


def link_groups(tree):
    """Sets of names that are one file."""
    groups = {}
    for path, item in tree.items():
        if "inode" in item:
            groups.setdefault(item["inode"], set()).add(path)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def differences(one, other):
    """Lines that say how two descriptions differ; inode numbers count only for hard links."""
    lines = []
    for path in sorted(one.keys() | other.keys()):
        if path not in other or path not in one:
            lines.append("%r is only in the %s" % (path, "second" if path in other else "first"))
            continue
        a, b = one[path], other[path]
        for key in sorted((a.keys() | b.keys()) - {"inode"}):
            if a.get(key) != b.get(key):
                lines.append("%r: %s %r, %r" % (path, key, a.get(key), b.get(key)))
    if link_groups(one) != link_groups(other):
        lines.append("hard links differ: %r, %r" % (link_groups(one), link_groups(other)))
    return lines


def compare_with_mount(vault, passphrase, tree):
    """Asserts that a vault's folder, read by the format alone, is sound and holds `tree`.

    `tree` is a plain directory: what was copied into the vault, or the vault mounted.
    """
    problems = Vault(vault, passphrase).verify()
    assert problems == [], problems
    found = describe(Vault(vault, passphrase), contents=True)
    lines = differences(describe_directory(tree), found)
    assert lines == [], "\n".join(lines)


def copy_out(vault, destination):
    """Writes the plain tree into a new directory `destination`."""
    os.mkdir(destination)
    later, files = [], {}
    for node in vault.walk():
        path = os.path.normpath(os.path.join(destination, node.path))
        try:
            if node.directory is not None:
                if node.entry:
                    os.mkdir(path, 0o700)
                later.append((path, node))
                continue
            inode = (node.status.st_dev, node.status.st_ino)
            if node.what in (CONTAINER, PLAIN) and inode in files:
                os.link(files[inode], path)
                continue
            _copy_entry(vault, node, path)
            files[inode] = path
        except (Damaged, OSError) as error:
            vault.note(node.path, error)
    for path, node in reversed(later):
        _copy_metadata(vault, node, path)


def _copy_entry(vault, node, path):
    if node.what in (SYMLINK, LONG_LINK):
        os.symlink(vault.target(node), path)
    elif node.what == SPECIAL:
        os.mknod(path, node.status.st_mode, node.status.st_rdev)
    else:
        size = vault.size(node)
        with open(path, "xb") as file:
            for offset, data in vault.extents(node):
                file.seek(offset)
                file.write(data)
            file.truncate(size)
    _copy_metadata(vault, node, path)


def _copy_metadata(vault, node, path):
    for name, value in _visible(vault.attributes(node)).items():
        os.setxattr(path, name, value, follow_symlinks=False)
    status = node.status
    if node.what not in (SYMLINK, LONG_LINK):
        os.chmod(path, stat.S_IMODE(status.st_mode))
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(path, ns=times, follow_symlinks=False)
