"""A whole vault, read from its folder: walk, content, targets, attributes, problems."""

import os
import stat
import time
from contextlib import contextmanager

from . import attributes, directory, names, sessions
from .container import SEALED, Container
from .header import VaultHeader, successor
from .primitives import Damaged, NotAVault, require
from .records import NAMES_PLAIN, PLAIN, ROOT_PARENT

MORE_LINKS = 1


class FileSource:
    def __init__(self, fd):
        self.fd = fd

    def length(self):
        return os.fstat(self.fd).st_size

    def pread(self, count, offset):
        parts = []
        while count > 0 and (part := os.pread(self.fd, count, offset)):
            parts.append(part)
            count -= len(part)
            offset += len(part)
        return b"".join(parts)


class Node:
    """One name of the plain tree."""

    def __init__(self, path, entry, parent, status):
        self.path, self.entry, self.parent, self.status = path, entry, parent, status
        self.what = entry.what if entry else directory.DIRECTORY
        self.directory = None

    def backing(self):
        return os.path.join(self.parent.path, self.entry.backing)


class Vault:
    """`secret` is what the slots of `kinds` take. Problems gather in `problems` as one walks.

    A vault whose master key is being replaced is read only as the `part` of it that has the old key; the other
    part is a vault of its own in its folder.
    """

    def __init__(self, path, secret, kinds=(1, 4), part=False):
        self.path = os.fsencode(path)
        rekey = os.path.join(self.path, b"scrim.rekey")
        if os.path.lexists(rekey) and not (part and os.path.lexists(os.path.join(rekey, b"scrim.vault"))):
            raise NotAVault("the master key is being replaced: not all is here")
        try:
            with open(os.path.join(self.path, b"scrim.vault"), "rb") as file:
                data = file.read()
        except OSError as error:
            raise NotAVault(str(error)) from None
        self.keys = VaultHeader.parse(data).unlock(secret, kinds)
        self.problems = []
        self._seen = {}
        self.now = time.time_ns()
        try:
            with open(os.path.join(self.path, b"scrim.session"), "rb") as file:
                self.session = sessions.open_sessions(self.keys, file.read())
        except OSError:
            raise Damaged("session: the file is missing") from None

    def require_successor(self, new):
        """That the `new` part, in this one's folder, was put there by somebody with this one's key."""
        with open(os.path.join(new.path, b"scrim.successor"), "rb") as file:
            require(file.read() == successor(self.keys, new.keys), "successor: wrong MAC")

    def excused(self, status):
        return self.session.excuses(status.st_ctime_ns, self.now)

    def note(self, path, reason):
        self.problems.append((path, str(reason)))

    def open_directory(self, backing, parents, name):
        status = os.lstat(backing)
        require(stat.S_ISDIR(status.st_mode), "directory: the backing entry is none")
        found = directory.Directory(self.keys, backing, parents, name, self.excused(status))
        for directory_id in found.ids():
            elsewhere = self._seen.setdefault(directory_id, backing) != backing
            require(not elsewhere, "directory: its ID is in use elsewhere")
        return found

    def walk(self):
        """Yields every Node, parents first, names in byte order."""
        self._seen.clear()
        top = os.path.join(self.path, b"tree")
        root = Node(b".", None, None, os.lstat(top))
        root.directory = self.open_directory(top, [ROOT_PARENT], b"")
        yield root
        yield from self._walk(root.directory, b"")

    def _walk(self, parent, prefix):
        for backing, reason in parent.problems:
            self.note(prefix + b"?" + backing, reason)
        if parent.healed:
            self.note(prefix or b".", "excused: " + parent.healed)
        for name, entry in parent.entries.items():
            node = Node(prefix + name, entry, parent, entry.status)
            if node.what != directory.DIRECTORY:
                yield node
                continue
            try:
                ids = [i for i, _ in entry.bound]
                node.directory = self.open_directory(node.backing(), ids, entry.bound[0][1])
            except (Damaged, OSError) as error:
                self.note(node.path, error)
                continue
            yield node
            yield from self._walk(node.directory, node.path + b"/")

    def find(self, path):
        """The Node of a plain path; raises KeyError."""
        parts = [part for part in path.split(b"/") if part not in (b"", b".")]
        top = os.path.join(self.path, b"tree")
        node = Node(b".", None, None, os.lstat(top))
        node.directory = self.open_directory(top, [ROOT_PARENT], b"")
        for i, part in enumerate(parts):
            if node.directory is None:
                raise KeyError(path)
            parent, entry = node.directory, node.directory.entries[part]
            node = Node(b"/".join(parts[: i + 1]), entry, parent, entry.status)
            if node.what == directory.DIRECTORY:
                ids = [j for j, _ in entry.bound]
                node.directory = self.open_directory(node.backing(), ids, part)
        return node

    @contextmanager
    def container(self, node):
        """The verified container of a node, open while the block runs."""
        fd = os.open(node.backing(), os.O_RDONLY | os.O_NOFOLLOW)
        try:
            excused = self.excused(os.fstat(fd))
            found = Container(self.keys.content, FileSource(fd), self.keys.suite, excused, self.session.unclean(self.now))
            excused = excused or found.healed is not None
            if found.slot is not None:
                self._check_place(found.slot, node, excused)
                self._check_hint(found.slot, fd, excused)
            if found.healed:
                self.note(node.path, "excused: " + found.healed)
            yield found
        finally:
            os.close(fd)

    def _check_place(self, slot, node, excused):
        if slot.flags & MORE_LINKS or excused:
            return
        places = [self.keys.binding(i, name) for i, name in node.entry.bound]
        require(any(p in slot.bindings for p in places), "container: bound to another name")

    def _check_hint(self, slot, fd, excused):
        try:
            stored, inode = os.getxattr(fd, attributes.HINT), os.fstat(fd).st_ino
            hint = attributes.open_hint(self.keys, stored, inode)
        except (Damaged, OSError):
            return
        require(slot.commit >= hint.commit or excused, "container: older than its hint")

    def target(self, node):
        if node.what == directory.SYMLINK:
            return node.parent.target(node.entry)
        with self.container(node) as found:
            require(found.slot is None or found.slot.policy == SEALED, "link: wrong policy")
            require(found.size <= names.TARGET_MAX, "link: target length")
            return names.check_target(found.read_all())

    def size(self, node):
        if node.what in (directory.SYMLINK, directory.LONG_LINK):
            return len(self.target(node))
        if node.what != directory.CONTAINER:
            return node.status.st_size
        with self.container(node) as found:
            return found.size

    def extents(self, node):
        """Yields (offset, bytes) of a file's data; what is not covered is zero."""
        if node.what == directory.CONTAINER:
            with self.container(node) as found:
                yield from found.extents()
            return
        require(node.what == directory.PLAIN, "not a regular file")
        with open(node.backing(), "rb") as file:
            at = 0
            while data := file.read(1 << 20):
                yield at, data
                at += len(data)

    def attributes(self, node):
        """{plain name: value}; what is rejected goes to the problems."""
        if node.what in (directory.SYMLINK, directory.LONG_LINK):
            return {}
        path = node.backing() if node.entry else node.directory.path
        out = {}
        for name in map(os.fsencode, os.listxattr(path, follow_symlinks=False)):
            try:
                value = os.getxattr(path, name, follow_symlinks=False)
                found = self._attribute(node, name, value)
            except Damaged as error:
                self.note(node.path, error)
                continue
            if found:
                out[found[0]] = found[1]
        return out

    def _attribute(self, node, name, value):
        if name.startswith(b"system."):
            return name, value
        if not attributes.is_sealed_attribute(name):
            own = attributes.is_own_attribute(name)
            return None if own or not self._as_they_are(node) else (name, value)
        if self._as_they_are(node):
            return None
        object_id = b""
        if node.directory is not None and node.directory.record:
            object_id = node.directory.record.id
        elif node.what == directory.CONTAINER:
            with self.container(node) as found:
                object_id = found.slot.file_id if found.slot else b""
        value = attributes.open_attribute_value(self.keys, name, object_id, value)
        return attributes.open_attribute_name(self.keys, name), value

    @staticmethod
    def _as_they_are(node):
        if node.what == directory.PLAIN:
            return True
        record = node.parent.record if node.what == directory.SPECIAL else None
        if node.directory is not None:
            record = node.directory.record
        return record is not None and (record.names, record.content) == (NAMES_PLAIN, PLAIN)

    def verify(self):
        """Reads everything; returns the problems as (path, reason)."""
        for node in self.walk():
            try:
                self._verify(node)
            except (Damaged, OSError) as error:
                self.note(node.path, error)
        return self.problems

    def _verify(self, node):
        self.attributes(node)
        if node.what in (directory.CONTAINER, directory.LONG_LINK):
            with self.container(node) as found:
                found.verify()
        if node.what in (directory.SYMLINK, directory.LONG_LINK):
            self.target(node)
