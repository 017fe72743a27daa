"""The whole vaults: each policy with each name policy, and what goes wrong with vaults."""

import gzip
import hashlib
import json
import stat
from urllib.parse import quote_from_bytes

from scrim_reader import attributes, container, header, records

from .containers import Builder, flip
from .vaults import Backing, VaultWriter

_TYPES = {stat.S_IFDIR: "directory", stat.S_IFREG: "file", stat.S_IFLNK: "symlink",
          stat.S_IFIFO: "fifo"}
FULL = ((records.SEALED, 1), (records.SEALED_COMPRESSED, 0))
ALWAYS = (0, 2**63 - 1, 1, 1)


def _tree(w):
    tree = []
    for path, item in sorted(w.expected.items()):
        mode = item["mode"]
        line = {"path": quote_from_bytes(path), "type": _TYPES[stat.S_IFMT(mode)],
                "mode": "%04o" % stat.S_IMODE(mode), "mtime_ns": item["mtime"]}
        for key in ("size", "sha256"):
            if item.get(key) is not None:
                line[key] = item[key]
        for key in ("target", "hard_link"):
            if key in item:
                line[key] = quote_from_bytes(item[key])
        if item.get("attributes"):
            line["attributes"] = {
                quote_from_bytes(n): v.hex() for n, v in sorted(item["attributes"].items())}
        tree.append(line)
    return tree


def _manifest(w, about, moved=None):
    problems = [{"path": quote_from_bytes(p["path"]), "reason": p["reason"]}
                for p in sorted(w.problems, key=lambda p: (p["path"], p["reason"]))]
    whole = {"about": about, "passphrase": w.passphrase.decode(), "tree": _tree(w),
             "problems": problems}
    if moved:
        whole["moved"] = _tree(moved)
    return (json.dumps(whole, indent=1, ensure_ascii=False) + "\n").encode()


def _ordinary(label, content, sealed_names, suite=1):
    """One of everything under one policy; less of it where another vault has the rest."""
    w = VaultWriter(label, content, sealed_names, suite)
    block = 4096 if content in (records.PLAIN, records.SEALED) else 131072
    w.file(b"empty", b"")
    w.file(b"small.txt", b"a few bytes\n", mode=0o600, mtime=(1, 1))
    w.file(b"hole", {0: b"begin", 3 * block: b"end"}, size=3 * block + 3)
    w.file(b"n" * 255, b"long")
    w.directory(b"folder", mode=0o750)
    w.file(b"folder/inside", b"one level down")
    w.symlink(b"link", b"folder/inside")
    w.symlink(b"folder/odd link", b".scrim-l.looks sealed")
    w.symlink(b"l" * 255, b"a long name's target")
    if not sealed_names or content == records.SEALED:
        w.file(b".scrim-dir", b"like a reserved name")
        w.file(b"like.scrim-c", b"like a container")
    if (content, sealed_names) in FULL:
        _names_and_limits(w)
    if content:
        _containers_only(w, content, block, (content, sealed_names) == FULL[0])
    else:
        w.attribute(b"small.txt", b"user.plain", b"as it is")
    # Hints are for one inode, so an archive holds only ones that do not open.
    path = w.path(b"small.txt")
    w.backings[path].attributes[attributes.HINT] = w.rng.take(52)
    if content or sealed_names:
        w.attribute(b"folder", b"user.comment", b"of a directory", w.folders[b"folder"].id)
        w.attribute(b"", b"user.comment", b"of the root", w.folders[b""].id)
    else:
        w.attribute(b"folder", b"user.comment", b"as it is")
    w.seal_records()
    w.seal_vault()
    return w


def _names_and_limits(w):
    w.file(b"inline limit", w.rng.take(3904))
    w.file(b"over the inline limit", w.rng.take(3905))
    w.file("Grüße".encode(), b"an accent")
    w.file(b"not UTF-8 \xff\xfe", b"bytes")
    w.file(b"o" * 161, b"as long as needs a sidecar")
    w.directory(b"folder/" + b"d" * 255)
    w.file(b"folder/" + b"d" * 255 + b"/deep", b"two levels down")
    w.directory(b"folder/empty")
    w.fifo(b"fifo")


def _containers_only(w, content, block, full):
    builder = w.file(b"twice", b"first " * 700)
    w.recommit(b"twice", builder, b"second " * 700, 2, 1)
    builder = w.file(b"with attribute", b"attributed")
    w.attribute(b"with attribute", b"user.comment", b"of a file", builder.file_id)
    w.attribute(b"with attribute", b"user.empty", b"", builder.file_id)
    if content != records.SEALED:
        w.file(b"packed", b"-" * 9000, pack=True)
        w.file(b"packed, with pages", w.rng.take(9000), pack=True)
        builder = w.file(b"packed twice", w.rng.take(5000), pack=True)
        w.recommit(b"packed twice", builder, w.rng.take(6000), 2, 1, pack=True)
    if not full:
        return
    w.symlink(b"far link", b"/far" * 1000)
    depth_one = 80 * block + 1
    w.file(b"depth 1", {0: b"x", depth_one - 1: b"y"}, size=depth_one)
    depth_two = depth_one + 80 * 101 * block
    w.file(b"depth 2", {depth_two - 7: b"far out"}, size=depth_two)
    bindings = [w.binding(b"one name"), w.binding(b"folder/another name")]
    builder = w.file(b"one name", b"linked")
    builder.bindings = bindings
    w.recommit(b"one name", builder, b"linked twice", 2, 1)
    w.link(b"folder/another name", b"one name")
    builder = w.file(b"more links than bindings", b"unbound")
    slot = builder.slot(7, b"unbound", layout=0, commit=2, bindings=[], flags=container.MORE_LINKS)
    builder.put_slot(1, slot)
    w.backings[w.path(b"more links than bindings")].data = builder.bytes()
    builder = w.file(b"epochs", b"old " * 1000)
    builder.epoch = 2
    w.recommit(b"epochs", builder, b"new " * 1000, 2, 1)


def _mixed():
    """Directories whose policy changed, rules, and directories of other policies."""
    w = VaultWriter("v1-mixed", records.SEALED, 1, rules=[(0, b"*.mp4"), (3, b"log-?")])
    w.file(b"movie.mp4", b"plain by rule")
    w.file(b"log-1", b"compressed by rule " * 400)
    w.file(b"secret", b"sealed")
    w.directory(b"was plain", content=records.SEALED, sealed_names=0, rules=[])
    w.file(b"was plain/old", b"plain from before", policy=records.PLAIN)
    w.file(b"was plain/new", b"sealed since")
    w.symlink(b"was plain/old link", b"plain target", as_plain=True)
    w.symlink(b"was plain/new link", b"sealed target")
    w.directory(b"was sealed", content=records.PLAIN, sealed_names=1, rules=[])
    w.file(b"was sealed/old", b"sealed from before", policy=records.SEALED)
    w.file(b"was sealed/new", b"plain since")
    w.directory(b"public", content=records.PLAIN, sealed_names=0, rules=[])
    w.file(b"public/readme", b"anyone may read this")
    w.directory(b"public/inner vault", content=records.COMPRESSED, sealed_names=1)
    w.file(b"public/inner vault/data", b"abc" * 5000)
    moved = w.directory(b"being moved")
    moved.bindings.append(w.rng.take(16))
    w.file(b"being moved/file", b"found at both places")
    w.seal_records()
    w.seal_vault()
    return w


def _records():
    """Records that one of the two copies gives, conflicting copies of records and containers."""
    w = VaultWriter("v1-conflicts", records.SEALED, 1)
    for name in (b"file only", b"attribute only", b"newer in attribute", b"newer in file"):
        w.directory(name)
        w.file(name + b"/file", name)
    w.file(b"notes.txt", b"mine")
    w.file(b"bare", b"mine too")
    w.directory(b"both")
    w.file(b"both/here", b"made here")
    w.directory(b"plain names", sealed_names=0)
    w.file(b"plain names/doc.odt", b"this side")
    w.seal_records()
    _one_copy(w)
    _copies(w)
    _other_side(w)
    w.seal_vault()
    return w


def _record_bytes(w, folder, **fields):
    return records.seal_record(w.keys, folder.record(**fields), w.rng.take(12))


def _one_copy(w):
    def parts(name):
        folder = w.folders[name]
        return folder, w.backings[folder.backing], folder.backing + "/.scrim-dir"

    _, backing, _ = parts(b"file only")
    backing.attributes.clear()
    _, _, path = parts(b"attribute only")
    w.backings[path].data = bytes(100)
    # The older copy would refuse the container inside: it knows no containers.
    folder, _, path = parts(b"newer in attribute")
    w.backings[path].data = _record_bytes(w, folder, serial=0, content=0, flags=0)
    folder, backing, _ = parts(b"newer in file")
    old = _record_bytes(w, folder, serial=0, content=0, flags=0)
    backing.attributes[b"user.scrim.dir"] = old


def _copies(w):
    """What a synchronising tool leaves beside the original."""
    for plain, shown, addition in (
        (b"notes.txt", b"notes.sync-conflict-20240102-030405-ABCDEFG.txt",
         ".sync-conflict-20240102-030405-ABCDEFG"),
        (b"bare", b"bare (Ann's conflicted copy 2024-01-02)", " (Ann's conflicted copy 2024-01-02)"),
        (b"plain names/doc.odt", b"plain names/doc.odt (conflicted copy 2024-01-02 030405)", None),
    ):
        folder, _, name = plain.rpartition(b"/")
        builder = Builder(w.keys.content, w.keys.suite, records.SEALED, w.rng)
        data = b"theirs: " + plain
        builder.commit(data, bindings=[w.binding(plain)])
        original = w.path(plain)
        path = original + addition if addition else original.replace(
            ".scrim-c", " (conflicted copy 2024-01-02 030405).scrim-c")
        w.backings[path] = Backing("file", 0o644, builder.bytes(), mtime=(5, 5))
        w.expected[shown] = {**w.expected[plain], "mtime": 5 * 10**9 + 5, "size": len(data),
                             "sha256": hashlib.sha256(data).hexdigest()}


def _other_side(w):
    """A directory made on both sides: two records, two IDs, entries of both."""
    folder = w.folders[b"both"]
    here = folder.id
    w.folders[b"both"].id = w.rng.take(16)
    w.file(b"both/there", b"made there")
    w.symlink(b"both/link there", b"target there")
    other = _record_bytes(w, folder)
    folder.id = here
    w.plant(b"both", ".scrim-dir (conflicted copy)", other)
    plain = w.folders[b"newer in file"]
    forged = _record_bytes(w, plain, bindings=[w.rng.take(16)], content=0)
    w.plant(b"newer in file", ".scrim-dir.old", forged)
    # The tool that takes all of `.scrim-dir` for an extension; its policy is the stricter one.
    folder = w.folders[b"file only"]
    stricter = _record_bytes(w, folder, content=3)
    w.plant(b"file only", ".sync-conflict-20240102-030405-ABCDEFG.scrim-dir", stricter)


def _damaged():
    """One fault at each path; everything else is served."""
    w = VaultWriter("v1-damaged", records.SEALED, 1)
    w.file(b"fine", b"not touched")
    for name in (b"flipped block", b"other name", b"other name 2", b"zeroed", b"emptied", b"no sidecar " + b"x" * 200, b"attribute"):
        w.file(name, name * (400 if name == b"flipped block" else 1))
    for name in (b"fine too", b"no record", b"flipped record", b"moved from", b"moved to", b"plain names"):
        w.directory(name, sealed_names=0 if name == b"plain names" else 1)
        w.file(name + b"/file", b"inside")
    w.symlink(b"link", b"target")
    w.symlink(b"plain link", b"target")
    w.seal_records()
    _spoil_files(w)
    _spoil_folders(w)
    w.seal_vault()
    return w


def _spoil_files(w):
    def backing(plain):
        return w.backings[w.path(plain)]

    block = backing(b"flipped block")
    block.data = flip(block.data, 8 * 2 * 4096 + 4)
    w.lose(b"flipped block", "block")
    one, two = backing(b"other name"), backing(b"other name 2")
    one.data, two.data = two.data, one.data
    w.lose(b"other name", "bound to another name")
    w.lose(b"other name 2", "bound to another name")
    backing(b"zeroed").data = bytes(4096)
    w.lose(b"zeroed", "none is there")
    backing(b"emptied").data = b""
    w.lose(b"emptied", "none is there")
    long = b"no sidecar " + b"x" * 200
    path = w.path(long)
    del w.backings[path + ".n"]
    w.lose(long, "")
    w.problems[-1] = {"path": b"?" + path.rpartition("/")[2].encode(), "reason": "sidecar"}
    stored = b"user.scrim.x.AAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    backing(b"attribute").attributes[stored] = bytes(40)
    backing(b"attribute").attributes[b"user.planted"] = b"ignored"
    w.problems.append({"path": b"attribute", "reason": "attribute"})
    backing(b"link").link = backing(b"link").link[:-1] + "A"
    w.lose(b"link", "link")
    backing(b"plain link").link = "/etc/passwd"
    w.lose(b"plain link", "plain target")


def _spoil_folders(w):
    def plant(folder, name, reason, **fields):
        w.plant(folder, name, **fields)
        prefix = folder + b"/" if folder else b""
        w.problems.append({"path": prefix + b"?" + name.encode(), "reason": reason})

    folder = w.folders[b"no record"].backing
    del w.backings[folder + "/.scrim-dir"]
    w.backings[folder].attributes.clear()
    w.lose(b"no record", "record: missing")
    folder = w.folders[b"flipped record"].backing
    w.backings[folder + "/.scrim-dir"].data = flip(w.backings[folder + "/.scrim-dir"].data, 400)
    w.backings[folder].attributes.clear()
    w.lose(b"flipped record", "record")
    one, two = w.folders[b"moved from"].backing, w.folders[b"moved to"].backing
    for path in ("", "/.scrim-dir"):
        first, second = w.backings[one + path], w.backings[two + path]
        first.attributes, second.attributes = second.attributes, first.attributes
        first.data, second.data = second.data, first.data
    w.lose(b"moved from", "bound to another place")
    w.lose(b"moved to", "bound to another place")
    plant(b"", "passwords.txt", "name", data=b"planted")
    plant(b"plain names", "passwords.txt", "plain is not allowed", data=b"planted")
    plant(b"plain names", "pipe", "special is not allowed", kind="fifo")
    plant(b"plain names", "link.scrim-l", "long link is not allowed", data=b"")
    plant(b"plain names", "folder.scrim-c", "does not fit", kind="directory")
    w.plant(b"plain names", ".scrim-unknown", b"ignored")
    w.plant(b"fine too", ".scrim-new.1234", b"ignored")
    folder = w.folders[b"plain names"]
    container_path = w.path(b"plain names/file")
    shadow = w.plant(b"plain names", "file", kind="directory")
    data = _record_bytes(w, folder, id=w.rng.take(16), bindings=[w.binding(b"plain names/file")])
    shadow.attributes[b"user.scrim.dir"] = data
    w.expected[b"plain names/file"] = {"mode": stat.S_IFDIR | 0o644, "mtime": 1_700_000_000 * 10**9}
    hidden = container_path.rpartition("/")[2].encode()
    w.problems.append({"path": b"plain names/?" + hidden, "reason": "same name"})


def _torn():
    """After a power cut: everything was changed in an unclean window, so all is excused."""
    w = VaultWriter("v1-torn", records.SEALED, 1)
    w.windows = [ALWAYS]
    w.file(b"fine", b"whole")
    w.file(b"emptied", b"never reached the disk")
    w.file(b"zeroed", b"neither did this")
    builder = w.file(b"torn commit", b"first")
    w.recommit(b"torn commit", builder, b"second", 2, 1)
    w.file(b"no binding", b"renamed before the cut")
    w.directory(b"fine folder")
    w.directory(b"no record")
    w.seal_records()

    def excused(plain, reason, **changes):
        w.expected[plain].update(changes)
        w.problems.append({"path": plain, "reason": "excused: " + reason})

    nothing = {"size": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    w.backings[w.path(b"emptied")].data = b""
    excused(b"emptied", "slot", **nothing)
    w.backings[w.path(b"zeroed")].data = bytes(8192)
    excused(b"zeroed", "slot", **nothing)
    torn = w.backings[w.path(b"torn commit")]
    torn.data = torn.data[:6000]
    first = hashlib.sha256(b"first").hexdigest()
    excused(b"torn commit", "slot", size=5, sha256=first)
    builder = Builder(w.keys.content, w.keys.suite, records.SEALED, w.rng)
    builder.commit(b"renamed before the cut", bindings=[w.rng.take(16)])
    w.backings[w.path(b"no binding")].data = builder.bytes()
    folder = w.folders[b"no record"].backing
    w.backings[folder].attributes.clear()
    w.backings[folder + "/.scrim-dir"].data = b""
    w.problems.append({"path": b"no record/", "reason": "excused: record"})
    w.seal_vault()
    return w


def _rekey():
    """A change of the master key that was cut short: part of the tree is in scrim.rekey/"""
    w = VaultWriter("v1-rekey", records.SEALED, 1)
    w.directory(b"folder")
    w.file(b"folder/left", b"under the old key")
    w.file(b"both", b"the old one is not removed yet")
    moved = VaultWriter("v1-rekey new", records.SEALED, 1)
    moved.keys = header.MasterKeys(moved.rng.take(32), w.keys.vault_id, 1)
    moved.folders[b""].bindings = [moved.keys.binding(bytes(16), b"")]
    moved.directory(b"folder")
    moved.file(b"folder/moved", b"under the new key")
    moved.file(b"both", b"the old one is not removed yet")
    for half in (w, moved):
        half.seal_records()
        half.seal_vault()
    for path, backing in moved.backings.items():
        w.backings[("scrim.rekey/" + path).rstrip("/")] = backing
    proof = header.successor(w.keys, moved.keys)
    w.backings["scrim.rekey/scrim.successor"] = Backing("file", 0o644, proof)
    return w, moved


def files():
    out = {}

    def add(w, about):
        out["vaults/%s.tar.gz" % w.label] = gzip.compress(w.tar(), mtime=0)
        out["vaults/%s.json" % w.label] = _manifest(w, about)

    for content, name in enumerate(records.POLICY_NAMES):
        for sealed, name_policy in ((1, "sealed"), (0, "plain")):
            label = "v1-%s-%s" % (name, name_policy)
            suite = 2 if (content, sealed) in ((1, 0), (3, 1)) else 1
            about = "Content %s, names %s, suite %d" % (name, name_policy, suite)
            add(_ordinary(label, content, sealed, suite), about)
    w, moved = _rekey()
    out["vaults/v1-rekey.tar.gz"] = gzip.compress(w.tar(), mtime=0)
    out["vaults/v1-rekey.json"] = _manifest(w, _rekey.__doc__, moved)
    for make in (_mixed, _records, _damaged, _torn):
        add(make(), make.__doc__)
    return out
