"""Writes whole vaults as deterministic tar files (pax headers carry the attributes)."""

import hashlib
import io
import stat
import tarfile

from scrim_reader import attributes, header, names, records, sessions

from .containers import Builder
from .seeded import Seeded

NO_DATA_LIMIT = 1 << 26
TIME = 1_700_000_000


class _Info(tarfile.TarInfo):
    """Writes pax values that are not text as GNU tar does: as they are, and without a remark."""

    @classmethod
    def _create_pax_generic_header(cls, pax_headers, kind, encoding):
        records = b""
        for key, value in pax_headers.items():
            line = b" %s=%s\n" % (key.encode(), value.encode(errors="surrogateescape"))
            length = len(line)
            while length != len(line) + len(str(length)):
                length = len(line) + len(str(length))
            records += str(length).encode() + line
        info = {"name": "././@PaxHeader", "type": kind, "size": len(records), "magic": b"ustar\x0000"}
        header = cls._create_header(info, tarfile.USTAR_FORMAT, "ascii", "replace")
        return header + cls._create_payload(records)


class Backing:
    """One backing entry of the archive."""

    def __init__(self, kind, mode, data=b"", link="", mtime=None):
        self.kind, self.mode, self.data, self.link = kind, mode, data, link
        self.mtime = mtime or (TIME, 0)
        self.attributes = {}


class Folder:
    """A directory under construction."""

    def __init__(self, writer, backing, plain, parent, name, content, sealed_names, rules):
        self.writer, self.backing, self.plain, self.parent = writer, backing, plain, parent
        self.name, self.content, self.names = name, content, sealed_names
        self.rules, self.flags = list(rules), 0
        self.id = writer.rng.take(16)
        parent_id = parent.id if parent else bytes(16)
        self.bindings = [writer.keys.binding(parent_id, name)]
        self.serial = 1

    def record(self, **fields):
        record = records.Record(self.id, self.serial, self.content, self.names, self.flags,
                                self.bindings, self.rules)
        return record._replace(**fields)


class VaultWriter:
    """Collects a plain tree, its backing entries, and what a reader has to find."""

    def __init__(self, label, content, sealed_names, suite=1, passphrase=b"passphrase", rules=()):
        self.label, self.passphrase = label, passphrase
        self.rng = Seeded("vault " + label)
        master, vault_id = self.rng.take(32), self.rng.take(16)
        self.keys = header.MasterKeys(master, vault_id, suite)
        self.backings, self.expected, self.problems = {}, {}, []
        self.folders, self._places = {}, {}
        self.windows, self.state = [], 0
        self.backings[""] = Backing("directory", 0o700)
        self._folder("tree", b"", None, b"", content, sealed_names, rules, 0o755)

    def _folder(self, backing, plain, parent, name, content, sealed_names, rules, mode):
        folder = Folder(self, backing, plain, parent, name, content, sealed_names, rules)
        self.backings[backing] = Backing("directory", mode)
        self.folders[plain] = folder
        self._expect(plain or b".", stat.S_IFDIR | mode, self.backings[backing].mtime)
        return folder

    def _expect(self, plain, mode, mtime, **more):
        self.expected[plain] = {"mode": mode, "mtime": mtime[0] * 10**9 + mtime[1], **more}

    def place(self, plain, kind):
        """Reserves the backing name of a plain path; returns (folder, name, backing path)."""
        above, _, name = plain.rpartition(b"/")
        folder = self.folders[above]
        if folder.names == records.NAMES_SEALED:
            backing, sidecar = names.sealed_name(self.keys, folder.id, kind, name)
        else:
            backing, sidecar = names.plain_name(kind, name)
        if sidecar:
            path = "%s/%s" % (folder.backing, sidecar[0].decode())
            self.backings[path] = Backing("file", 0o600, sidecar[1])
        path = "%s/%s" % (folder.backing, backing.decode(errors="surrogateescape"))
        self._places[plain] = path
        return folder, name, path

    def path(self, plain):
        return self._places[plain]

    def directory(self, plain, content=None, sealed_names=None, rules=None, mode=0o755):
        parent, name, path = self.place(plain, names.PRIMARY)
        content = parent.content if content is None else content
        sealed_names = parent.names if sealed_names is None else sealed_names
        rules = parent.rules if rules is None else rules
        return self._folder(path, plain, parent, name, content, sealed_names, rules, mode)

    def file(self, plain, data, size=None, policy=None, mode=0o644, mtime=None, **fields):
        """`data`: bytes, or {offset: bytes} of a sparse file. Returns the builder or None."""
        above, _, name = plain.rpartition(b"/")
        folder = self.folders[above]
        policy = folder.record().policy_for(name) if policy is None else policy
        size = len(data) if size is None else size
        mtime = mtime or (TIME + len(self.expected), 123456789)
        self._expect(plain, stat.S_IFREG | mode, mtime, size=size, sha256=_sha256(data, size))
        sealed = folder.names == records.NAMES_SEALED
        if policy == records.PLAIN:
            folder.flags |= records.HAS_PLAIN if folder.content else 0
            _, _, path = self.place(plain, names.PLAIN_FILE if sealed else names.PRIMARY)
            self.backings[path] = Backing("file", mode, _flat(data, size), mtime=mtime)
            return None
        folder.flags |= 0 if folder.content else records.HAS_CONTAINERS
        _, _, path = self.place(plain, names.PRIMARY if sealed else names.CONTAINER)
        builder = Builder(self.keys.content, self.keys.suite, policy, self.rng)
        builder.bindings = [self.keys.binding(folder.id, name)]
        builder.commit(data, size=size, bindings=builder.bindings, **fields)
        self.backings[path] = Backing("file", mode, builder.bytes(), mtime=mtime)
        return builder

    def recommit(self, plain, builder, data, commit, index, **fields):
        """Another commit of the same file; the backing bytes are made anew."""
        builder.commit(data, index, commit=commit, bindings=builder.bindings, **fields)
        backing = self.backings[self.path(plain)]
        backing.data = builder.bytes()
        self.expected[plain].update(size=len(data), sha256=_sha256(data, len(data)))

    def link(self, plain, target):
        """A hard link to a container whose bindings already hold it."""
        folder = self.folders[plain.rpartition(b"/")[0]]
        backing = self.path(target)
        sealed = folder.names == records.NAMES_SEALED
        kind = names.PRIMARY if sealed else names.CONTAINER
        _, _, path = self.place(plain, kind)
        self.backings[path] = Backing("hard link", 0, link=backing)
        self.expected[plain] = {**self.expected[target], "hard_link": target}

    def binding(self, plain):
        above, _, name = plain.rpartition(b"/")
        return self.keys.binding(self.folders[above].id, name)

    def symlink(self, plain, target, as_plain=None):
        above, _, name = plain.rpartition(b"/")
        folder = self.folders[above]
        as_plain = folder.content == records.PLAIN if as_plain is None else as_plain
        stored = target
        if not as_plain or target.startswith(names.LINK_PREFIX):
            stored = names.seal_target(self.keys, folder.id, name, target)
        elif folder.content:
            folder.flags |= records.HAS_PLAIN_LINKS
        mtime = (TIME, 500)
        self._expect(plain, stat.S_IFLNK | 0o777, mtime, target=target, size=len(target))
        if len(stored) <= names.TARGET_MAX:
            _, _, path = self.place(plain, names.PRIMARY)
            link = stored.decode(errors="surrogateescape")
            self.backings[path] = Backing("link", 0o777, link=link, mtime=mtime)
            return
        folder.flags |= records.HAS_LONG_LINKS
        _, _, path = self.place(plain, names.LONG_LINK)
        builder = Builder(self.keys.content, self.keys.suite, records.SEALED, self.rng)
        builder.commit(target, bindings=[self.keys.binding(folder.id, name)])
        self.backings[path] = Backing("file", 0o777, builder.bytes(), mtime=mtime)

    def fifo(self, plain, mode=0o620):
        folder = self.folders[plain.rpartition(b"/")[0]]
        folder.flags |= records.HAS_SPECIAL
        sealed = folder.names == records.NAMES_SEALED
        _, _, path = self.place(plain, names.SPECIAL if sealed else names.PRIMARY)
        self.backings[path] = Backing("fifo", mode)
        self._expect(plain, stat.S_IFIFO | mode, (TIME, 0))

    def attribute(self, plain, name, value, owner=None):
        """A user attribute; sealed under `owner` (file or directory ID) unless that is None."""
        backing = self.backings[self.path(plain) if plain in self._places else "tree"]
        shown = self.expected[plain or b"."].setdefault("attributes", {})
        shown[name] = value
        if owner is None:
            backing.attributes[name] = value
            return
        stored = attributes.sealed_attribute_name(self.keys, name)
        backing.attributes[stored] = attributes.seal_attribute_value(
            self.keys, stored, owner, value, self.rng.take(12))

    def plant(self, folder, backing, data=b"", kind="file", mode=0o644, link=""):
        """A backing entry that no writer of vaults made."""
        path = "%s/%s" % (self.folders[folder].backing, backing)
        self.backings[path] = Backing(kind, mode, data, link)
        return self.backings[path]

    def lose(self, plain, reason):
        """What was at this path is expected to be reported, not shown."""
        for path in [p for p in self.expected if p == plain or p.startswith(plain + b"/")]:
            del self.expected[path]
        self.problems.append({"path": plain, "reason": reason})

    def seal_records(self):
        for folder in self.folders.values():
            data = records.seal_record(self.keys, folder.record(), self.rng.take(12))
            self.backings[folder.backing + "/.scrim-dir"] = Backing("file", 0o600, data)
            self.backings[folder.backing].attributes[attributes.RECORD] = data

    def seal_vault(self):
        keys, rng = self.keys, self.rng
        slots = [header.wrap(1, header.SCRYPT, (10, 8, 1), rng.take(32), rng.take(12),
                             b"passphrase", self.passphrase, keys.master, keys.vault_id)]
        self.backings["scrim.vault"] = Backing("file", 0o600, header.encode_header(keys, slots))
        session = sessions.Session(2, TIME, self.state, TIME * 10**9, self.windows)
        data = b"".join(
            sessions.seal_page(keys, s.body(), rng.take(12))
            for s in (session._replace(serial=1), session)
        )
        self.backings["scrim.session"] = Backing("file", 0o600, data)
        self.backings["scrim.lock"] = Backing("file", 0o600, b"1 localhost\n")

    def tar(self):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, tarinfo=_Info) as archive:
            self._put_data_before_links()
            for path in sorted(self.backings, key=_encoded):
                self._add(archive, path, self.backings[path])
        return out.getvalue()

    def _put_data_before_links(self):
        """An archive names the file first; in order, so that directories keep their times."""
        for path, backing in list(self.backings.items()):
            if backing.kind == "hard link" and _encoded(path) < _encoded(backing.link):
                target = backing.link
                self.backings[path] = self.backings[target]
                self.backings[target] = Backing("hard link", 0, link=path)

    def _add(self, archive, path, backing):
        info = _Info(("%s/%s" % (self.label, path)).rstrip("/"))
        kinds = {"file": tarfile.REGTYPE, "directory": tarfile.DIRTYPE, "fifo": tarfile.FIFOTYPE,
                 "link": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE}
        info.type, info.mode, info.mtime = kinds[backing.kind], backing.mode, backing.mtime[0]
        info.size = len(backing.data)
        info.linkname = backing.link
        if backing.kind == "hard link":
            info.linkname = "%s/%s" % (self.label, backing.link)
        info.pax_headers = {"mtime": "%d.%09d" % backing.mtime}
        for name, value in sorted(backing.attributes.items()):
            text = value.decode(errors="surrogateescape")
            key = "SCHILY.xattr." + name.decode(errors="surrogateescape")
            info.pax_headers[key] = text
        archive.addfile(info, io.BytesIO(backing.data))


def _encoded(path):
    """The order of an archive: what is in a directory right after it."""
    return path.encode(errors="surrogateescape").split(b"/")


def _flat(data, size):
    if isinstance(data, bytes):
        return data
    out = bytearray(size)
    for offset, piece in data.items():
        out[offset : offset + len(piece)] = piece
    return bytes(out)


def _sha256(data, size):
    """None where a file is too large to be made here."""
    return hashlib.sha256(_flat(data, size)).hexdigest() if size <= NO_DATA_LIMIT else None
