"""Runs the second implementation over the vectors, and over a vault that the program writes."""

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
VECTORS = ROOT / "vectors"
sys.path.insert(0, str(HERE))

from scrim_reader import Damaged, NotAVault, UnknownVersion, Vault, WrongSecret  # noqa: E402
from scrim_reader import attributes, container, header, names, primitives, records, sessions  # noqa: E402
from scrim_reader.tree import copy_out, describe, describe_directory, differences  # noqa: E402


def cases(path):
    with open(VECTORS / path, encoding="utf-8") as file:
        return [pytest.param(case, id=case["name"]) for case in json.load(file)["cases"]]


def each(path):
    return pytest.mark.parametrize("case", cases(path))


def get(case, key):
    return bytes.fromhex(case[key])


def keys_of(case):
    return header.MasterKeys(get(case, "master"), get(case, "vault_id"), case["suite"])


def page(text):
    return bytes.fromhex(text).ljust(container.PAGE, b"\0")


class Pages:
    """A file in the sparse form of the vectors."""

    def __init__(self, sparse):
        self.size = sparse["length"]
        self.pages = {int(i): page(text) for i, text in sparse["pages"].items()}

    def length(self):
        return self.size

    def pread(self, count, offset):
        assert offset % container.PAGE == 0
        end = min(offset + count, self.size)
        indices = range(offset // container.PAGE, -(-end // container.PAGE))
        data = b"".join(self.pages.get(i, bytes(container.PAGE)) for i in indices)
        return data[: max(end - offset, 0)]


@each("kdf/keys.json")
def test_keys(case):
    keys = keys_of(case)
    assert {name: getattr(keys, name).hex() for name in case["keys"]} == case["keys"]
    for line in case["containers"]:
        key = header.container_key(keys.content, get(line, "file_id"), line["epoch"])
        assert key == get(line, "key")
    for line in case["bindings"]:
        binding = keys.binding(get(line, "directory"), get(line, "plain"))
        assert binding == get(line, "binding")


@each("kdf/slot-keys.json")
def test_slot_keys(case):
    blank = header.Slot(1, case["kdf"], *case["costs"], get(case, "salt"), b"", b"", b"", b"")
    assert blank.slot_key(get(case, "secret")) == get(case, "key")


@each("kdf/recovery.json")
def test_recovery_keys(case):
    if "reject" in case:
        with pytest.raises(Damaged):
            header.recovery_key(case["text"])
    else:
        assert header.recovery_key(case["text"]) == get(case, "key")


@each("kdf/base64.json")
def test_base64(case):
    text = case["text"].encode()
    if "reject" in case:
        with pytest.raises(Damaged):
            primitives.unb64(text)
    else:
        assert primitives.unb64(text) == get(case, "data")


@each("slot/vault-header.json")
def test_vault_headers(case):
    failures = {"damaged": Damaged, "wrong secret": WrongSecret, "not a vault": NotAVault,
                "unknown version": UnknownVersion}

    def unlock():
        found = header.VaultHeader.parse(get(case, "header"))
        return found.unlock(get(case, "secret"), (case["kind"],))

    if "fails" in case:
        with pytest.raises(failures[case["fails"]]):
            unlock()
    else:
        assert unlock().master == get(case, "master")


def sidecar_of(case):
    def sidecar(name):
        found = case["sidecar"]
        return get(found, "content") if found and found["name"].encode() == name else None

    return sidecar


def check_name(case, decode, encode):
    if "reject" in case:
        with pytest.raises(Damaged):
            decode()
        return
    assert decode() == (get(case, "plain"), case["kind"])
    made = case["sidecar"] and (case["sidecar"]["name"].encode(), get(case["sidecar"], "content"))
    return encode(case["kind"], get(case, "plain")), made


@each("names/sealed.json")
def test_sealed_names(case):
    keys, directory, backing = keys_of(case), get(case, "directory"), case["backing"].encode()
    check = check_name(
        case,
        lambda: names.open_sealed_name(keys, directory, backing, sidecar_of(case)),
        lambda kind, plain: names.sealed_name(keys, directory, kind, plain),
    )
    if check:
        assert check[0] == (backing, check[1])


@each("names/plain.json")
def test_plain_names(case):
    backing = get(case, "backing")
    check = check_name(
        case, lambda: names.open_plain_name(backing, sidecar_of(case)), names.plain_name
    )
    if check:
        assert check[0] == (backing, check[1])


@each("link/target.json")
def test_link_targets(case):
    keys, directory, name = keys_of(case), get(case, "directory"), get(case, "plain")

    def read():
        stored = case["stored"].encode()
        return names.open_target(keys, directory, name, stored, case["plain_allowed"])

    if "reject" in case:
        with pytest.raises(Damaged):
            read()
    else:
        assert read() == get(case, "target")


@each("record/record.json")
def test_records(case):
    keys = keys_of(case)

    def read():
        record = records.open_record(keys, get(case, "record"))
        binding = keys.binding(get(case, "parent"), get(case, "plain"))
        primitives.require(binding in record.bindings, "bound to another place")
        return record

    if "reject" in case:
        with pytest.raises(Damaged):
            read()
        return
    record, expect = read(), case["expect"]
    assert [b.hex() for b in record.bindings] == expect["bindings"]
    assert record.rules == [(r["content"], get(r, "pattern")) for r in expect["rules"]]
    assert record.allowed() == expect["allowed"]
    for field in ("serial", "content", "names", "flags"):
        assert getattr(record, field) == expect[field]


@each("record/rules.json")
def test_rules(case):
    assert records.matches(get(case, "pattern"), get(case, "plain")) == case["matches"]


@each("container/slot.json")
def test_slots(case):
    def read():
        return container.open_slot(get(case, "content_root"), page(case["page"]), case["suite"])

    if "reject" in case:
        with pytest.raises(Damaged):
            read()
        return
    slot, expect = read(), case["expect"]
    for field in slot._fields:
        value, wanted = getattr(slot, field), expect[field]
        if isinstance(value, bytes):
            value = value.hex()
            wanted = wanted.ljust(len(value), "0")
        elif field == "bindings":
            value = [b.hex() for b in value]
        elif field in ("free", "held"):
            value = [list(extent) for extent in value]
        assert value == wanted, field


def open_piece(case, inner):
    """A container around one reference, and that reference."""
    stored = bytes.fromhex(case["stored"])
    found = container.Container.__new__(container.Container)
    blank = [0] * (len(container.Slot._fields) - 5)
    log = container.BLOCK_LOG[case["policy"]]
    head = [case["policy"], case["suite"], log, case["epoch"], get(case, "file_id")]
    slot = container.Slot(*head, *blank)._replace(page_count=case["page_count"])
    found.slot, found.root, found._keys = slot, get(case, "content_root"), {}
    reference = container.parse_reference(get(case, "reference"), slot, inner)

    class Source:
        def pread(self, count, offset):
            assert offset == reference.page * container.PAGE
            return stored.ljust(count, b"\0")

    found.source = Source()
    return found, reference


@each("node/node.json")
def test_nodes(case):
    def read():
        found, reference = open_piece(case, True)
        return found.node(reference)

    if "reject" in case:
        with pytest.raises(Damaged):
            read()
    else:
        present = {str(i): r.hex() for i, r in enumerate(read()) if any(r)}
        assert present == case["expect"]


@each("block/block.json")
def test_blocks(case):
    def read():
        found, reference = open_piece(case, False)
        size = found.slot.block_size
        return found.block(reference) if reference else bytes(size)

    if "reject" in case:
        with pytest.raises(Damaged):
            read()
        return
    runs = case.get("runs") or [[case["expect"], 1]]
    expect = b"".join(bytes.fromhex(text) * count for text, count in runs)
    data = read()
    assert len(data) == 1 << container.BLOCK_LOG[case["policy"]]
    assert data == expect.ljust(len(data), b"\0")


@each("freelist/freelist.json")
def test_free_lists(case):
    def read():
        found, reference = open_piece(case, True)
        return container.parse_free_list(found.open_pages(reference, "free list"), 10)

    if "reject" in case:
        with pytest.raises(Damaged):
            read()
        return
    following, extents, held = read()
    shown = {"next": following.hex(), "extents": [list(e) for e in extents], "held_commit": held}
    assert shown == case["expect"]


FILES = cases("container/content.json") + cases("container/slots.json") + cases("container/faults.json")


@pytest.mark.parametrize("case", FILES)
def test_containers(case):
    def read():
        source, root = Pages(case["file"]), get(case, "content_root")
        found = container.Container(root, source, case["suite"], case["excused"], case.get("sessions", ()))
        return found, list(found.extents())

    if "reject" in case:
        with pytest.raises(Damaged):
            read()
        return
    found, extents = read()
    expect = case["expect"]
    assert (found.size, found.slot.commit if found.slot else 0) == (expect["size"], expect["commit"])
    assert (found.healed is not None) == expect.get("healed", False)
    assert nonzero(extents) == nonzero((o, bytes.fromhex(d) * n) for o, d, n in expect["data"])
    if case.get("writer"):
        with pytest.raises(Damaged):
            found.verify()
    elif not found.healed:
        found.verify()


def nonzero(extents):
    """{page offset: page} of what is not zero."""
    out = {}
    for offset, data in extents:
        while data:
            at = offset % container.PAGE
            piece = data[: container.PAGE - at]
            old = out.get(offset - at, bytes(container.PAGE))
            out[offset - at] = old[:at] + piece + old[at + len(piece) :]
            offset, data = offset + len(piece), data[len(piece) :]
    return {offset: data for offset, data in out.items() if any(data)}


@each("hint/hint.json")
def test_hints(case):
    if "reject" in case:
        with pytest.raises(Damaged):
            attributes.open_hint(keys_of(case), get(case, "hint"), case["inode"])
    else:
        hint = attributes.open_hint(keys_of(case), get(case, "hint"), case["inode"])
        assert hint._asdict() == case["expect"]


@each("xattr/xattr.json")
def test_attributes(case):
    keys, stored, owner = keys_of(case), case["stored_name"].encode(), get(case, "object")

    def read():
        value = attributes.open_attribute_value(keys, stored, owner, get(case, "stored_value"))
        return attributes.open_attribute_name(keys, stored), value

    if "reject" in case:
        with pytest.raises(Damaged):
            read()
    else:
        assert read() == (get(case, "plain"), get(case, "value"))
        assert attributes.sealed_attribute_name(keys, get(case, "plain")) == stored


@each("session/session.json")
def test_sessions(case):
    source = Pages(case["file"])
    data = source.pread(source.length(), 0)
    if "reject" in case:
        with pytest.raises(Damaged):
            sessions.open_sessions(keys_of(case), data)
    else:
        found = sessions.open_sessions(keys_of(case), data)._asdict()
        assert {**found, "windows": [list(w) for w in found["windows"]]} == case["expect"]


@each("session/excuses.json")
def test_excuses(case):
    session = sessions.Session(1, 1, case["state"], case["start"], case["windows"])
    assert session.excuses(case["ctime"], case["now"]) == case["excused"]


def unpack(archive, destination):
    """Extracts a vault with its attributes, which tarfile by itself does not restore."""
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(archive.read_bytes()))) as tar:
        for member in tar:
            tar.extract(member, destination, set_attrs=False)
            path = os.path.join(destination, member.name)
            if member.islnk():
                continue
            for key, value in member.pax_headers.items():
                if key.startswith("SCHILY.xattr."):
                    data = value.encode(errors="surrogateescape")
                    os.setxattr(path, key[13:], data, follow_symlinks=False)
            if not member.issym():
                os.chmod(path, member.mode)
        for member in (m for m in tar if not m.islnk()):
            seconds, _, fraction = member.pax_headers["mtime"].partition(".")
            stamp = int(seconds) * 10**9 + int(fraction)
            path = os.path.join(destination, member.name)
            os.utime(path, ns=(stamp, stamp), follow_symlinks=False)


# Beyond this the manifests give no hash.
HASHED_UP_TO = 1 << 26
VAULTS = sorted(p.name[:-7] for p in (VECTORS / "vaults").glob("*.tar.gz") if p.name != "v1-rekey.tar.gz")
MODES = {"file": 0o100000, "directory": 0o040000, "symlink": 0o120000, "fifo": 0o010000}


@pytest.fixture
def workspace():
    """A folder on a filesystem with user attributes."""
    for base in (os.environ.get("SCRIM_TEST_ROOT", "/dev/shm"), "/var/tmp"):
        path = tempfile.mkdtemp(prefix="scrim-reader.", dir=base)
        try:
            os.setxattr(path, "user.test", b"x")
            break
        except OSError:
            os.rmdir(path)
    else:
        pytest.skip("no filesystem with user attributes here")
    yield path
    shutil.rmtree(path)


def expected_tree(manifest, part="tree"):
    tree = {}
    for line in manifest[part]:
        item = {"mode": MODES[line["type"]] | int(line["mode"], 8), "mtime": line["mtime_ns"]}
        path = unquote_to_bytes(line["path"])
        item.update({k: line[k] for k in ("size", "sha256") if k in line})
        if "target" in line:
            item["target"] = unquote_to_bytes(line["target"])
        else:
            shown = line.get("attributes", {}).items()
            item["attributes"] = {unquote_to_bytes(n): bytes.fromhex(v) for n, v in shown}
        if line["type"] == "file":
            item["inode"] = unquote_to_bytes(line.get("hard_link", line["path"]))
        tree[path] = item
    return tree


@pytest.mark.parametrize("name", VAULTS)
def test_vaults(name, workspace):
    folder, secret = unpacked(name, workspace)
    manifest = json.loads((VECTORS / "vaults" / (name + ".json")).read_text())
    expect = expected_tree(manifest)
    found = describe(Vault(folder, secret), contents=True, largest=HASHED_UP_TO)
    assert differences(expect, found) == []
    problems = Vault(folder, secret).verify()
    wanted = [(unquote_to_bytes(p["path"]), p["reason"]) for p in manifest["problems"]]
    assert sorted({path for path, _ in problems}) == sorted({path for path, _ in wanted})
    for path, reason in wanted:
        assert any(reason in text for at, text in problems if at == path), (path, reason)
    with pytest.raises(WrongSecret):
        Vault(folder, secret + b"\n")


def test_a_vault_in_two_parts_is_refused_and_each_part_is_read(workspace):
    folder, secret = unpacked("v1-rekey", workspace)
    manifest = json.loads((VECTORS / "vaults" / "v1-rekey.json").read_text())
    with pytest.raises(NotAVault):
        Vault(folder, secret)
    inner = os.path.join(folder, "scrim.rekey")
    for vault, part in ((Vault(folder, secret, part=True), "tree"), (Vault(inner, secret), "moved")):
        assert differences(expected_tree(manifest, part), describe(vault, contents=True)) == []
        assert vault.verify() == []
    Vault(folder, secret, part=True).require_successor(Vault(inner, secret))
    with pytest.raises(Damaged):
        Vault(inner, secret).require_successor(Vault(inner, secret))
    os.remove(os.path.join(inner, "scrim.vault"))
    with pytest.raises(NotAVault):
        Vault(folder, secret, part=True)


def unpacked(name, workspace):
    """A vault's folder and passphrase."""
    unpack(VECTORS / "vaults" / (name + ".tar.gz"), workspace)
    manifest = json.loads((VECTORS / "vaults" / (name + ".json")).read_text())
    return os.path.join(workspace, name), manifest["passphrase"].encode()


def test_a_container_older_than_its_hint_is_damaged(workspace):
    folder, secret = unpacked("v1-sealed-sealed", workspace)
    vault = Vault(folder, secret)
    for commit, problems in ((2, 0), (3, 1)):
        path = vault.find(b"twice").backing()
        hint = attributes.Hint(1, 2, commit)
        sealed = attributes.seal_hint(vault.keys, hint, os.stat(path).st_ino, bytes(12))
        os.setxattr(path, attributes.HINT, sealed)
        vault = Vault(folder, secret)
        assert len(vault.verify()) == problems
        assert all(path == b"twice" for path, _ in vault.problems)


def test_copies_out_what_it_describes(workspace):
    folder, secret = unpacked("v1-sealed-sealed", workspace)
    copy = os.path.join(os.fsencode(workspace), b"copy")
    copy_out(Vault(folder, secret), copy)
    found = describe(Vault(folder, secret), contents=True)
    assert differences(found, describe_directory(copy)) == []


def test_command_line(workspace):
    folder, secret = unpacked("v1-damaged", workspace)
    passphrase_file = os.path.join(workspace, "passphrase")
    Path(passphrase_file).write_bytes(secret + b"\n")

    def run(*words):
        line = [sys.executable, "-m", "scrim_reader", folder, "--passphrase-file", passphrase_file]
        result = subprocess.run([*line, *words], cwd=HERE, capture_output=True, timeout=60)
        return result.returncode, result.stdout, result.stderr

    assert run("cat", "fine") == (0, b"not touched", b"")
    code, out, problems = run("ls")
    assert code == 1 and b"fine too/file" in out and b"no record: record: missing" in problems
    assert run("check")[:2] == (1, b"")
    assert run("cat", "other name")[0] == 1
    assert run("cat", "nothing")[2] == b"scrim_reader: no such entry: nothing\n"
    Path(passphrase_file).write_bytes(b"wrong")
    assert run("check")[2] == b"scrim_reader: no key slot opens with this secret\n"


def test_generator_reproduces_the_vectors():
    subprocess.run([sys.executable, VECTORS / "generate.py", "--check"], check=True, timeout=300)
