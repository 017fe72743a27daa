"""A hostile backing folder, as in test_hostile.py: directories and their records, names, attributes, and the vault's own files."""

import errno
import json
import os
import re
import time
from pathlib import Path

import harness
import pytest
import test_hostile
from harness import scrim
from test_hostile import (  # noqa: F401
    FILES, PAGE, check, copy_in, drop_record, foreign, module_workspace, original, plant_record, put_in_the_way,
    read_error, scene, sealed_attribute, swap,
)

LONG = ["first " * 36, "second " * 32]
RECORD, ATTRIBUTE = ".scrim-dir", "user.scrim.dir"


def refused(what, *arguments):
    """The errno a call fails with; None if it does not."""
    try:
        what(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return None


def findings(vault, *arguments):
    """What a check says: {path: severity}, without notes: a copied vault has other inodes than its size hints say."""
    secret = ["--passphrase-file", vault.passphrase_file]
    result = scrim("check", vault.path, "--json", *secret, *arguments, check=False, timeout=60)
    return {f["path"]: f["severity"] for f in json.loads(result.stdout)["findings"] if f["severity"] != "note"}


def tried(detected):
    harness.count("hostile changes tried")
    harness.count("of them detected", bool(detected))


# Records


def test_records_exchanged(scene):
    one, two = scene.backing("dir"), scene.backing("dir2")
    records = [(folder / RECORD).read_bytes() for folder in (one, two)]
    plant_record(one, records[1])
    plant_record(two, records[0])
    check(scene, "dir", "dir2", whole=("other", "twin"))


def test_directory_moved_with_a_plain_name(workspace):
    """The name decodes in the other directory, too: it is the record that tells."""
    vault = workspace.vault("--names", "plain")
    with vault.mount() as mount:
        for folder in ("one", "two"):
            (mount / folder / "inner").mkdir(parents=True)
            (mount / folder / "inner/file").write_bytes(folder.encode())
    swap(vault.tree / "one/inner", vault.tree / "two/inner")
    (vault.tree / "one").rename(vault.tree / "two/one")
    with vault.mount() as mount:
        assert refused(os.listdir, mount / "two/inner") == "EIO"
        assert refused(os.listdir, mount / "two/one") == "EIO"
        assert sorted(os.listdir(mount / "two")) == ["inner", "one"]
        assert "two/inner" in mount.log_text()
    tried(True)


@pytest.mark.parametrize("place", ["file", "attribute"])
def test_record_removed_in_one_place(scene, place):
    """The file alone, or the attribute alone, is enough: tools lose one or the other."""
    for name in ("dir", "dir2"):
        if place == "file":
            (scene.backing(name) / RECORD).unlink()
        else:
            os.removexattr(scene.backing(name), ATTRIBUTE)
    check(scene, whole=("dir/inner", "dir2/inner", "other"))


@pytest.fixture
def remarked(workspace):
    """A directory that was plain and is sealed, and its record of before."""
    vault = workspace.vault()
    with vault.mount() as mount:
        (mount / "dir").mkdir()
        os.setxattr(mount / "dir", "user.scrim.policy", b"plain")
        folder = vault.tree / os.path.relpath(backing_of(vault, mount / "dir"), vault.tree)
        old = (folder / RECORD).read_bytes()
        os.setxattr(mount / "dir", "user.scrim.policy", b"sealed")
        (mount / "dir/file").write_bytes(b"sealed content\n")
    return vault, folder, old


def backing_of(vault, path):
    number = os.lstat(path).st_ino
    for root, folders, files in os.walk(vault.tree):
        for name in folders + files:
            if os.lstat(os.path.join(root, name)).st_ino == number:
                return Path(root, name)
    raise AssertionError(path)


def write_new(vault, failure=None):
    """Whether a new file of the directory is stored in clear."""
    with vault.mount() as mount:
        assert read_error(mount / "dir/file") == failure
        (mount / "dir/new").write_bytes(b"for nobody else's eyes\n")
        place = backing_of(vault, mount / "dir/new")
    return b"for nobody" in place.read_bytes()


@pytest.mark.parametrize("place", ["file", "attribute"])
def test_record_old_in_one_place(remarked, place):
    """The newer of the two counts; a check sees that they differ."""
    vault, folder, old = remarked
    if place == "file":
        (folder / RECORD).write_bytes(old)
    else:
        os.setxattr(folder, ATTRIBUTE, old)
    assert findings(vault) == {"/dir": "harmless"}
    assert not write_new(vault)
    findings(vault, "--repair")
    assert findings(vault) == {}
    tried(True)


def test_record_old(remarked):
    """In both places: the directory is what it was. New files are plain again; what it did not have then is refused."""
    vault, folder, old = remarked
    plant_record(folder, old)
    assert write_new(vault, "EIO")
    tried(False)


@pytest.mark.parametrize("kind", ["directory", "link", "fifo", "socket", "device"])
@pytest.mark.parametrize("attribute", [True, False], ids=["with", "without"])
def test_record_turned(scene, kind, attribute):
    """Nothing waits for what stands in a record's place, and a good copy in the attribute still counts."""
    record = drop_record(scene.backing("dir"))
    if attribute:
        os.setxattr(scene.backing("dir"), ATTRIBUTE, record)
    put_in_the_way(scene.backing("dir") / RECORD, kind)
    if attribute:
        check(scene, whole=("dir/inner", "other"))
    else:
        check(scene, "dir")
    assert findings(scene, "--repair")["/dir"] == ("harmless" if attribute else "damage")
    assert "/dir" not in findings(scene)


@pytest.mark.parametrize("name", [".scrim-dir.new", ".scrim-dir.sync-conflict-20240601-123456-ABCDEFG", ".scrim-n.x", ".scrim-new.x"])
def test_fifo_planted(scene, name):
    """No request waits for it: listing, writing, changing the record, moving the directory."""
    os.mkfifo(scene.backing("dir") / name)
    with scene.mount() as mount:
        assert sorted(os.listdir(mount / "dir")) == ["inner", "second"]
        (mount / "dir/third").write_bytes(b"third")
        failure = refused(os.setxattr, mount / "dir", "user.scrim.policy", b"compressed")
        assert failure in ((None, "ENXIO") if name == ".scrim-dir.new" else (None,))
        if failure is None:
            os.rename(mount / "dir", mount / "moved")
            assert (mount / "moved/inner").read_bytes() == FILES["dir/inner"]
    findings(scene, "--repair")
    with scene.mount() as mount:
        folder = "moved" if failure is None else "dir"
        os.setxattr(mount / folder, "user.scrim.policy", b"sealed-compressed")
        assert (mount / folder / "third").read_bytes() == b"third"
    tried(True)


# Names


def test_leftovers_planted(scene, workspace):
    """What looks like leftovers is removed by the next listing, and nothing outside with it."""
    outside = workspace.path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"not of the vault")
    folder = scene.backing("dir")
    (folder / ".scrim-new.file").write_bytes(b"planted")
    (folder / ".scrim-new.link").symlink_to(outside)
    (folder / ".scrim-new.folder").mkdir()
    (folder / ".scrim-new.folder/.scrim-away").symlink_to(outside)
    (folder / ".scrim-new.folder/.scrim-dir").write_bytes(b"planted")
    os.mkfifo(folder / ".scrim-new.fifo")
    os.link(scene.backing("other"), folder / ".scrim-new.second name")
    deep = folder / ".scrim-new.deep"
    deep.mkdir()
    here = os.open(deep, os.O_RDONLY)
    for _ in range(300):
        os.mkdir(".scrim-a", dir_fd=here)
        inner = os.open(".scrim-a", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    time.sleep(2.5)
    check(scene, whole=("dir/inner", "dir/second", "other", "dir2/inner"))
    with scene.mount() as mount:
        assert sorted(os.listdir(mount / "dir")) == ["inner", "second"]
        assert (mount / "other").read_bytes() == FILES["other"]
    left = {name for name in os.listdir(folder) if name.startswith(".scrim-new.")}
    assert left <= {".scrim-new.link", ".scrim-new.fifo", ".scrim-new.deep"}
    findings(scene, "--repair")
    assert findings(scene) == {}
    assert (outside / "file").read_bytes() == b"not of the vault"


@pytest.fixture
def long_names(workspace):
    """Files with names that need sidecars, and the sidecars."""
    vault = workspace.vault()
    with vault.mount() as mount:
        for name in LONG:
            (mount / name).write_bytes(name.encode())
        (mount / "short").write_bytes(b"short")
        places = [backing_of(vault, mount / name) for name in LONG]
    vault.sidecars = [place.with_name(place.name + ".n") for place in places]
    assert all(sidecar.exists() for sidecar in vault.sidecars)
    return vault


def test_sidecars_exchanged(long_names):
    """The names are not listed; who knows them opens the files, whose content is right."""
    swap(*long_names.sidecars)
    assert sorted(findings(long_names).values()) == ["damage", "damage"]
    with long_names.mount() as mount:
        assert os.listdir(mount.point) == ["short"]
        for name in LONG:
            assert (mount / name).read_bytes() == name.encode()
    tried(True)


@pytest.mark.parametrize("kind", [None, "fifo", "directory", "link"])
def test_sidecar_removed(long_names, kind):
    long_names.sidecars[0].unlink()
    if kind:
        put_in_the_way(long_names.sidecars[0], kind)
    assert "damage" in findings(long_names).values()
    with long_names.mount() as mount:
        assert sorted(os.listdir(mount.point)) == sorted([LONG[1], "short"])
        assert (mount / LONG[0]).read_bytes() == LONG[0].encode()
    tried(True)


def test_long_links_swapped(workspace):
    """Targets that are stored in containers."""
    vault = workspace.vault()
    targets = {"one": "1" * 4000, "two": "2" * 4000}
    with vault.mount() as mount:
        for name, target in targets.items():
            (mount / name).symlink_to(target)
        places = [backing_of(vault, mount / name) for name in targets]
    swap(*places)
    with vault.mount() as mount:
        for name in targets:
            assert refused(os.readlink, mount / name) == "EIO"
    tried(True)


# Attributes and hints


def test_attribute_of_a_directory(scene):
    """Sealed for its directory: neither another directory's nor a file's will do."""
    with scene.mount() as mount:
        for name in ("dir", "dir2"):
            os.setxattr(mount / name, "user.note", name.encode())
    stored = sealed_attribute(scene.backing("dir"))
    for source in ("dir2", "other"):
        os.setxattr(scene.backing("dir"), stored, os.getxattr(scene.backing(source), stored))
        with scene.mount() as mount:
            assert refused(os.getxattr, mount / "dir", "user.note") == "EIO"
            assert os.getxattr(mount / "dir2", "user.note") == b"dir2"
            assert (mount / "dir/inner").read_bytes() == FILES["dir/inner"]
        assert findings(scene) == {"/dir": "damage"}
        tried(True)


def test_attribute_renamed(scene):
    """Under another sealed name it does not open either."""
    with scene.mount() as mount:
        os.setxattr(mount / "other", "user.second", b"another")
    path = scene.backing("other")
    names = [name for name in os.listxattr(path) if name.startswith("user.scrim.x.")]
    values = [os.getxattr(path, name) for name in names]
    for name, value in zip(names, reversed(values)):
        os.setxattr(path, name, value)
    with scene.mount() as mount:
        for name in ("user.note", "user.second"):
            assert refused(os.getxattr, mount / "other", name) == "EIO"
        assert (mount / "other").read_bytes() == FILES["other"]
    tried(True)


def test_attribute_old(scene):
    """An earlier value, or none, is what the file once had."""
    path = scene.backing("other")
    name = sealed_attribute(path)
    old = os.getxattr(path, name)
    with scene.mount() as mount:
        os.setxattr(mount / "other", "user.note", b"newer note")
    os.setxattr(path, name, old)
    with scene.mount() as mount:
        assert os.getxattr(mount / "other", "user.note") == b"other note"
    os.removexattr(path, name)
    with scene.mount() as mount:
        assert os.listxattr(mount / "other") == [] or "user.note" not in os.listxattr(mount / "other")
    tried(False)


def test_attribute_of_a_special_file(workspace):
    """A FIFO has no ID that its attributes could be sealed for."""
    vault = workspace.vault()
    with vault.mount() as mount:
        for name in ("one", "two"):
            os.mkfifo(mount / name)
            os.setxattr(mount / name, "trusted.note", name.encode())
        places = {name: backing_of(vault, mount / name) for name in ("one", "two")}
    (stored,) = [name for name in os.listxattr(places["one"]) if name.startswith("trusted.scrim.x.")]
    os.setxattr(places["two"], stored, os.getxattr(places["one"], stored))
    with vault.mount() as mount:
        assert os.getxattr(mount / "two", "trusted.note") == b"one"
    tried(False)


def test_hint_copied(scene):
    """Another file's size hint, whose file is as long in the folder: it is not this inode's."""
    names = ("dir/inner", "dir2/inner")
    target, source = (scene.backing(name) for name in names)
    with scene.mount() as mount:
        for name in names:
            with open(mount / name, "ab"):
                os.utime(mount / name)
    assert target.stat().st_size == source.stat().st_size
    os.setxattr(target, "user.scrim.hint", os.getxattr(source, "user.scrim.hint"))
    with scene.mount() as mount:
        for name in names:
            assert (mount / name).stat().st_size == len(FILES[name])
            assert (mount / name).read_bytes() == FILES[name]
    tried(False)


# The vault's own files


@pytest.mark.parametrize("kind", ["zeroed", "short", "fifo", "link", "directory"])
def test_session_zeroed(scene, kind):
    path = scene.path / "scrim.session"
    if kind == "zeroed":
        path.write_bytes(bytes(2 * PAGE))
    elif kind == "short":
        os.truncate(path, PAGE - 1)
    else:
        path.unlink()
        put_in_the_way(path, kind)
    point = scene.folder / "mnt"
    point.mkdir()
    text = harness.fails(
        harness.DAMAGED, "mount", scene.path, point, "--passphrase-file", scene.passphrase_file, timeout=60
    )
    assert "scrim.session" in text
    tried(True)
    assert findings(scene) == {"scrim.session": "damage"}
    findings(scene, "--repair")
    check(scene, whole=("other", "twin", "dir/inner"))


def test_session_old(scene):
    """As it was at the end of an earlier session: what has happened since is whole, and nothing is excused."""
    path = scene.path / "scrim.session"
    old = path.read_bytes()
    with scene.mount() as mount:
        (mount / "other").write_bytes(FILES["other"])
    path.write_bytes(old)
    check(scene, whole=("other", "twin", "dir/inner"))
    os.truncate(scene.backing("small"), 0)
    path.write_bytes(old)
    check(scene, "small", whole=("other", "twin"))


def test_session_of_a_mount(scene):
    """As it was while something was mounted: that stands for a crash, and what a crash excuses is excused."""
    path = scene.path / "scrim.session"
    with scene.mount() as mount:
        (mount / "other").write_bytes(FILES["other"])
        old = path.read_bytes()
        (mount / "new").write_bytes(b"new")
        new = backing_of(scene, mount / "new")
    path.write_bytes(old)
    os.truncate(new, 0)
    with scene.mount() as mount:
        assert (mount / "new").read_bytes() == b""
        assert (mount / "other").read_bytes() == FILES["other"]
        assert "cut short" in mount.log_text()
    tried(False)


@pytest.mark.parametrize("kind", ["fifo", "link", "directory"])
def test_vault_header_turned(scene, kind):
    path = scene.path / "scrim.vault"
    path.unlink()
    put_in_the_way(path, kind)
    result = scrim("ls", scene.path, "--passphrase-file", scene.passphrase_file, check=False, timeout=60)
    assert result.returncode not in (harness.OK, -9)
    tried(True)


def test_lock_turned(scene, workspace):
    """The lock's text is written nowhere else."""
    outside = workspace.path / "outside"
    outside.write_bytes(b"not of the vault")
    path = scene.path / "scrim.lock"
    path.unlink()
    path.symlink_to(outside)
    result = scrim("ls", scene.path, "--passphrase-file", scene.passphrase_file, check=False, timeout=60)
    assert result.returncode in (harness.OK, harness.SYSTEM)
    point = scene.folder / "mnt"
    point.mkdir()
    harness.fails(harness.SYSTEM, "mount", scene.path, point, "--passphrase-file", scene.passphrase_file)
    assert outside.read_bytes() == b"not of the vault"
    path.unlink()
    os.mkfifo(path)
    harness.run(harness.SCRIM, "mount", scene.path, point, "--passphrase-file", scene.passphrase_file, check=False, timeout=60)
    if harness.mounted_at(point):
        scrim("umount", point)
    tried(True)


# The page


def test_the_page_names_these_tests():
    """docs/threat-model.md lists the cases of this file and of test_hostile.py."""
    page = (Path(__file__).parents[2] / "docs/threat-model.md").read_text()
    rows = [row.split("|") for row in page.split("## What is detected")[1].splitlines() if row.startswith("| ")]
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row[-2])}
    assert len(named) > 30
    here = {name for module in (globals(), vars(test_hostile)) for name in module if name.startswith("test_")}
    assert {f"test_{name}" for name in named} <= here
    assert not {name for name in globals() if name.startswith("test_")} - {f"test_{name}" for name in named} - {"test_hostile", "test_the_page_names_these_tests"}
