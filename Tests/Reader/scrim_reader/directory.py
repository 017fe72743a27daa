"""One directory of a vault: its records, and its entries decoded and judged."""

import os
import stat

from . import names
from .attributes import RECORD
from .conflicts import is_alternate_record, split_addition, with_addition
from .primitives import Damaged, require
from .records import (
    HAS_CONTAINERS,
    HAS_LONG_LINKS,
    HAS_PLAIN,
    HAS_PLAIN_LINKS,
    HAS_SPECIAL,
    NAMES_SEALED,
    open_record,
)

DIRECTORY, SYMLINK, PLAIN, CONTAINER, SPECIAL, LONG_LINK = (
    "directory", "symlink", "plain", "container", "special", "long link",
)
_NEEDS = {PLAIN: HAS_PLAIN, CONTAINER: HAS_CONTAINERS, SPECIAL: HAS_SPECIAL,
          LONG_LINK: HAS_LONG_LINKS}
_SMALL_FILE = 16384


class Entry:
    """A decoded backing entry. `bound` lists the (directory ID, name) it may be bound to."""

    def __init__(self, name, backing, kind, status, record, bound, derived=False):
        self.name, self.backing, self.kind, self.status = name, backing, kind, status
        self.record, self.bound, self.derived = record, bound, derived
        self.what = _what(kind, status.st_mode, record.names == NAMES_SEALED)

    def rank(self):
        return (self.derived, self.kind)


def _what(kind, mode, sealed_names):
    if kind == names.PRIMARY and stat.S_ISDIR(mode):
        return DIRECTORY
    if kind == names.PRIMARY and stat.S_ISLNK(mode):
        return SYMLINK
    if stat.S_ISREG(mode):
        if kind == names.PRIMARY:
            return CONTAINER if sealed_names else PLAIN
        whats = {names.CONTAINER: CONTAINER, names.PLAIN_FILE: PLAIN, names.LONG_LINK: LONG_LINK}
        require(kind in whats, "entry: file type does not fit its kind")
        return whats[kind]
    special = not stat.S_ISDIR(mode) and not stat.S_ISLNK(mode)
    fits = special and kind == (names.SPECIAL if sealed_names else names.PRIMARY)
    require(fits, "entry: file type does not fit its kind")
    return SPECIAL


def read_small(path):
    """A regular file's bytes, or None."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _SMALL_FILE:
            return None
        return os.pread(fd, _SMALL_FILE, 0)
    finally:
        os.close(fd)


def get_attribute(path, name):
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return None


class Directory:
    """`parents` and `name` say where the directory was found; excused as in section 10."""

    def __init__(self, keys, path, parents, name, excused):
        self.keys, self.path = keys, path
        self.problems = []
        self.healed = None
        self._bindings = [keys.binding(parent, name) for parent in parents]
        backings = sorted(os.listdir(path))
        self.record, self.records = self._load_records(backings, excused)
        self.entries = self._load_entries(backings) if self.record else {}

    def ids(self):
        return [record.id for record in self.records]

    def _valid(self, data):
        if data is None:
            raise Damaged("record: missing")
        record = open_record(self.keys, data)
        bound = any(binding in record.bindings for binding in self._bindings)
        require(bound, "record: bound to another place")
        return record

    def _load_records(self, backings, excused):
        own, alternates, reasons = [], [], []
        main = os.path.join(self.path, b".scrim-dir")
        candidates = [(own, read_small(main)), (own, get_attribute(self.path, RECORD))]
        for backing in filter(is_alternate_record, backings):
            candidates.append((alternates, read_small(os.path.join(self.path, backing))))
        for found, data in candidates:
            try:
                found.append(self._valid(data))
            except Damaged as error:
                reasons.append(str(error))
        alternates.sort(key=lambda record: record.serial, reverse=True)
        if own:
            first = max(own, key=lambda record: record.serial)
        elif alternates:
            first = alternates[0]
        else:
            bare = all(self._is_reserved_anywhere(backing) for backing in backings)
            missing = [reason for reason in reasons if reason != "record: missing"]
            require(excused and bare, missing[0] if missing else "record: missing")
            self.healed = "record: missing"
            return None, []
        groups = {first.id: [first]}
        for record in alternates:
            groups.setdefault(record.id, []).append(record)
        records = [self._unite(group) for group in groups.values()]
        return records[0], records

    @staticmethod
    def _is_reserved_anywhere(backing):
        return names.is_reserved(backing, True) and names.is_reserved(backing, False)

    @staticmethod
    def _unite(group):
        group = sorted(group, key=lambda record: record.serial, reverse=True)
        record = group[0]
        for other in group[1:]:
            record = record.stricter(other)
        return record

    def _sidecar(self, backing):
        return read_small(os.path.join(self.path, backing))

    def _decode(self, backing):
        """Returns (name, kind, record); raises the reason of the first record."""
        first_error = None
        for record in self.records:
            try:
                if record.names == NAMES_SEALED:
                    keys = self.keys
                    name, kind = names.open_sealed_name(keys, record.id, backing, self._sidecar)
                else:
                    name, kind = names.open_plain_name(backing, self._sidecar)
                return name, kind, record
            except Damaged as error:
                first_error = first_error or error
        raise first_error

    def _bound(self, name, record):
        return [(i, name) for i in ([record.id] if record.names else self.ids())]

    def _entry(self, backing):
        status = os.lstat(os.path.join(self.path, backing))
        split = split_addition(backing)
        derived = False
        try:
            name, kind, record = self._decode(backing)
            bound = self._bound(name, record)
            if split and record.names != NAMES_SEALED:
                bound += self._bound_without_addition(split[0])
        except Damaged:
            if not split:
                raise
            original, kind, record = self._decode(split[0])
            name, derived = names.check_name(with_addition(original, split[1])), True
            bound = self._bound(original, record)
        entry = Entry(name, backing, kind, status, record, bound, derived)
        need = _NEEDS.get(entry.what, 0)
        allowed = entry.record.allowed()
        require(allowed & need == need, "entry: a %s is not allowed here" % entry.what)
        return entry

    def _bound_without_addition(self, backing):
        try:
            name, _, record = self._decode(backing)
        except Damaged:
            return []
        return self._bound(name, record)

    def _load_entries(self, backings):
        entries = {}
        for backing in backings:
            if names.is_reserved(backing, self.record.names) or is_alternate_record(backing):
                continue
            try:
                entry = self._entry(backing)
            except Damaged as error:
                self.problems.append((backing, str(error)))
                continue
            other = entries.get(entry.name)
            if other is None:
                entries[entry.name] = entry
                continue
            first, second = sorted((entry, other), key=Entry.rank)
            entries[entry.name] = first
            self.problems.append((second.backing, "entry: another one has the same name"))
        return dict(sorted(entries.items()))

    def target(self, entry):
        """A symbolic link's target, of the ordinary kind."""
        stored = os.readlink(os.path.join(self.path, entry.backing))
        plain = bool(entry.record.allowed() & HAS_PLAIN_LINKS)
        error = None
        for directory_id, name in entry.bound:
            try:
                return names.open_target(self.keys, directory_id, name, stored, plain)
            except Damaged as reason:
                error = error or reason
        raise error
