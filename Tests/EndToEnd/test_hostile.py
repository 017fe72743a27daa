"""A hostile backing folder: each change of docs/threat-model.md is made, and what is said there is what happens.

One vault is written once; every case gets its own copy, changes it while nothing is mounted, mounts it and looks. "Detected"
means EIO and a log line with the reason, while the rest of the vault is still served.
"""

import errno
import os
import random
import shutil
import stat
import subprocess
from collections.abc import Iterable
from pathlib import Path

import harness
import pytest

PAGE = 4096
REFUSALS = (harness.WRONG_SECRET, harness.NOT_A_VAULT, harness.DAMAGED, harness.UNSUPPORTED)
RANDOM = random.Random(20_261_121)
MEDIUM = RANDOM.randbytes(40 * PAGE + 100)  # references in the header
LARGE = RANDOM.randbytes(500 * PAGE)  # needs nodes
SMALL = b"a small secret\n"

FILES = {
    "small": SMALL,
    "other": b"another small secret\n",
    "medium": MEDIUM,
    "twin": bytes(reversed(MEDIUM)),
    "large": LARGE,
    "dir/inner": b"inner\n",
    "dir/second": b"second\n",
    "dir2/inner": b"inner of the other\n",
    "plain/open": b"this is plaintext\n",
}


class Scene(harness.Vault):
    """A closed vault with known files, and where each is in the backing folder."""

    older: "Scene"

    @classmethod
    def made_in(cls, folder: Path) -> "Scene":
        scene = cls(folder)
        with scene.mount() as mount:
            write_tree(mount.point)
            scene.places = places_of(mount.point, scene.path)
        return scene

    def copy_to(self, folder: Path) -> "Scene":
        """The same vault once more, attributes and times included."""
        copy = Scene.__new__(Scene)
        copy.__dict__.update(self.__dict__, folder=folder, path=folder / "vault", mounts=[])
        copy.tree = copy.path / "tree"
        folder.mkdir(exist_ok=True)
        subprocess.run(["cp", "-a", self.path, copy.path], check=True)
        return copy

    def backing(self, name: str) -> Path:
        return self.path / self.places[name]


def write_tree(mount: Path) -> None:
    for folder in ("dir", "dir2", "empty"):
        (mount / folder).mkdir()
    (mount / "plain").mkdir()
    os.setxattr(mount / "plain", "user.scrim.policy", b"plain")
    for name, content in FILES.items():
        (mount / name).write_bytes(content)
    (mount / "link").symlink_to("target of the link")
    (mount / "link2").symlink_to("target of the second link")
    os.setxattr(mount / "small", "user.note", b"sealed note")
    os.setxattr(mount / "other", "user.note", b"other note")


def places_of(mount: Path, vault: Path, names: Iterable[str] = ()) -> dict[str, str]:
    """Backing paths by inode number: a mount shows the numbers of the backing folder."""
    by_inode = {}
    for root, folders, files in os.walk(vault / "tree"):
        for entry in folders + files:
            path = os.path.join(root, entry)
            by_inode[os.lstat(path).st_ino] = os.path.relpath(path, vault)
    names = names or [*FILES, "dir", "dir2", "empty", "plain", "link", "link2"]
    return {name: by_inode[os.lstat(mount / name).st_ino] for name in names}


@pytest.fixture(scope="module")
def module_workspace():
    made = harness.Workspace("/dev/shm")
    yield made
    made.close()


def folder_in(workspace: harness.Workspace, name: str) -> Path:
    folder = workspace.path / name
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def original(module_workspace):
    scene = Scene.made_in(folder_in(module_workspace, "original"))
    # An older state of it, for the cases that put parts back.
    scene.older = scene.copy_to(folder_in(module_workspace, "older"))
    with scene.mount() as mount:
        with open(mount / "medium", "r+b") as file:
            file.seek(5 * PAGE)
            file.write(b"\x55" * PAGE)
            os.fsync(file.fileno())
            # Both header slots have been written by now, so neither may be missing.
            file.write(b"\x66" * PAGE)
            os.fsync(file.fileno())
        (mount / "small").write_bytes(b"changed later\n")
    return scene


@pytest.fixture(scope="module")
def foreign(module_workspace):
    return Scene.made_in(folder_in(module_workspace, "foreign"))


@pytest.fixture
def scene(original, workspace):
    return copy_in(workspace, original, "scene")


def copy_in(workspace: harness.Workspace, scene: Scene, name: str) -> Scene:
    copy = scene.copy_to(workspace.path / name)
    workspace.vaults.append(copy)
    return copy


def pages_of(path: Path) -> int:
    return path.stat().st_size // PAGE


def get_page(path: Path, index: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(index * PAGE)
        return file.read(PAGE)


def put_page(path: Path, index: int, page: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(index * PAGE)
        file.write(page)


def flip(path: Path, offset: int, mask: int = 0x10) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ mask]))


def commit_number(page: bytes) -> int:
    return int.from_bytes(page[32:40], "little") if page[:8] == b"SCRIMCTR" else 0


def newest_slot(path: Path) -> int:
    return max((0, 1), key=lambda slot: commit_number(get_page(path, slot)))


def read_error(path: Path) -> str | None:
    """What reading it gives: None if it works, else the name of the errno."""
    try:
        path.read_bytes()
    except OSError as error:
        return errno.errorcode[error.errno]
    return None


def check(scene: Scene, *damaged: str, whole: tuple[str, ...] = ("other", "dir2/inner")) -> str:
    """Mounts, expects EIO for `damaged` and right content for `whole`; returns the log."""
    harness.count("hostile changes tried")
    with scene.mount() as mount:
        for name in damaged:
            path = mount / name
            if name in ("link", "link2"):
                with pytest.raises(OSError) as failure:
                    os.readlink(path)
                assert failure.value.errno == errno.EIO
            elif name in ("dir", "dir2", "empty"):
                with pytest.raises(OSError) as failure:
                    os.listdir(path)
                assert failure.value.errno == errno.EIO
            else:
                assert read_error(path) == "EIO", name
        for name in whole:
            if name not in damaged:
                assert (mount / name).read_bytes() == FILES[name], name
        log = mount.log_text()
    for name in damaged:
        assert os.path.basename(name) in log, f"the log does not name {name}:\n{log}"
    assert "secret" not in log
    harness.count("of them detected", bool(damaged))
    return log


def swap(one: Path, two: Path) -> None:
    aside = one.with_name(".scrim-aside")
    one.rename(aside)
    two.rename(one)
    aside.rename(two)


# Containers


def test_header_bit(scene, workspace):
    for offset in (0, 9, 12, 20, 33, 50, 70, 100, 2000, 4095):
        copy = copy_in(workspace, scene, f"bit{offset}")
        path = copy.backing("medium")
        flip(path, newest_slot(path) * PAGE + offset)
        check(copy, "medium")


def test_block_bit(scene):
    path = scene.backing("twin")
    flip(path, 20 * PAGE + 17)
    check(scene, "twin")


def test_node_bit(scene):
    # Every page of the large file but its header: blocks and nodes alike.
    path = scene.backing("large")
    for page in range(2, pages_of(path)):
        if page % 50 == 0 or page >= pages_of(path) - 6:
            flip(path, page * PAGE + 7)
    check(scene, "large")


def test_blocks_swapped(scene):
    path = scene.backing("twin")
    first, second = get_page(path, 10), get_page(path, 11)
    put_page(path, 10, second)
    put_page(path, 11, first)
    check(scene, "twin")


def test_block_foreign(scene):
    put_page(scene.backing("twin"), 10, get_page(scene.backing("large"), 10))
    check(scene, "twin")


def test_block_old(scene):
    # All pages but the header slots are those of the older state; what changed since is missed.
    path, older = scene.backing("medium"), scene.older.backing("medium")
    for page in range(2, pages_of(path)):
        put_page(path, page, get_page(older, page).ljust(PAGE, b"\0"))
    check(scene, "medium")


def test_block_zeroed(scene):
    put_page(scene.backing("twin"), 12, bytes(PAGE))
    check(scene, "twin")


@pytest.fixture
def in_place(workspace):
    """A vault that was not copied, so that size hints hold, and the header slots of a file after each commit."""
    scene = Scene.made_in(folder_in(workspace, "in place"))
    workspace.vaults.append(scene)
    path = scene.backing("medium")
    scene.slots = []
    with scene.mount() as mount, open(mount / "medium", "r+b") as file:
        for count in range(4):
            file.write(bytes([count]) * PAGE)
            os.fsync(file.fileno())
            scene.slots.append((get_page(path, 0), get_page(path, 1)))
    return scene


def test_slot_zeroed(in_place):
    path = in_place.backing("medium")
    put_page(path, newest_slot(path), bytes(PAGE))
    check(in_place, "medium")


@pytest.mark.parametrize("count", [4, 200], ids=["few", "many"])
@pytest.mark.parametrize("synced", [True, False], ids=["synced", "closed"])
def test_slot_cut_off(workspace, count, synced):
    """After a second commit, without a hint that tells: neither zeros nor the end of the file bring the first back."""
    scene = Scene.made_in(folder_in(workspace, "twice"))
    workspace.vaults.append(scene)
    first = {f"file {number}": b"first %d " % number * (10 if number % 2 else 2000) for number in range(count)}
    with scene.mount() as mount:
        for name, content in first.items():
            (mount / name).write_bytes(content)
    with scene.mount() as mount:
        for name in first:
            with open(mount / name, "r+b") as file:
                file.write(b"second")
                if synced:
                    os.fsync(file.fileno())
        scene.places |= places_of(mount.point, scene.path, first)
    changed = [name for number, name in enumerate(first) if number % 4 != 3]
    for number, name in enumerate(changed):
        path = scene.backing(name)
        os.removexattr(path, "user.scrim.hint")
        if number % 3 == 1 and pages_of(path) == 2:
            os.truncate(path, PAGE)
        else:
            put_page(path, newest_slot(path) if number % 3 else 1, bytes(PAGE))
    with scene.mount() as mount:
        assert [name for name in changed if read_error(mount / name) != "EIO"] == []
        for name in first.keys() - set(changed):
            assert (mount / name).read_bytes() == b"second" + first[name][6:]


@pytest.mark.parametrize("age", [1, 2, 3])
def test_slot_old(in_place, age):
    """With everything else as it is, this is the older state of the whole file; the hint's commit number tells."""
    path = in_place.backing("medium")
    for slot in (0, 1):
        put_page(path, slot, in_place.slots[-1 - age][slot])
    check(in_place, "medium")


def test_truncated(scene, workspace):
    for pages in (1, 2, 3, 20, 41):
        copy = copy_in(workspace, scene, f"cut{pages}")
        os.truncate(copy.backing("twin"), pages * PAGE)
        check(copy, "twin")


def test_truncated_inside_a_page(scene):
    os.truncate(scene.backing("small"), PAGE - 1)
    check(scene, "small")


def test_emptied(scene):
    os.truncate(scene.backing("small"), 0)
    os.truncate(scene.backing("large"), 0)
    check(scene, "small", "large")


def test_garbage(scene):
    scene.backing("medium").write_bytes(RANDOM.randbytes(10 * PAGE))
    scene.backing("small").write_bytes(b"not a container")
    check(scene, "medium", "small")


# Names and places


def test_files_swapped(scene):
    swap(scene.backing("medium"), scene.backing("twin"))
    check(scene, "medium", "twin")


def test_file_other_name(scene):
    shutil.copy2(scene.backing("medium"), scene.backing("small"))
    check(scene, "small", whole=("other", "twin"))


def test_file_renamed(scene):
    scene.backing("medium").rename(scene.backing("twin"))
    check(scene, "twin")


@pytest.mark.parametrize("order", [("other", "small"), ("small", "other")])
def test_file_linked(scene, order):
    """A second name of one backing file, which the mount may know by its first."""
    scene.backing("small").unlink()
    os.link(scene.backing("other"), scene.backing("small"))
    scene.backing("link").unlink()
    os.link(scene.backing("link2"), scene.backing("link"), follow_symlinks=False)
    with scene.mount() as mount:
        assert set(FILES) - set(os.listdir(mount.point)) == {name for name in FILES if "/" in name}
        for name in order:
            assert read_error(mount / name) == (None if name == "other" else "EIO"), name
        assert (mount / "other").read_bytes() == FILES["other"]
        assert os.readlink(mount / "link2") == "target of the second link"
        with pytest.raises(OSError) as failure:
            os.readlink(mount / "link")
        assert failure.value.errno == errno.EIO
        assert "small" in mount.log_text()


def test_swapped_while_mounted(scene):
    """What the mount and the kernel remember of one name must not show under another."""
    with scene.mount() as mount, open(mount / "medium", "rb"), open(mount / "twin", "rb"):
        before = {name: (mount / name).read_bytes() for name in FILES if not name.startswith("plain/")}
        for first, second in (("medium", "twin"), ("small", "dir/inner"), ("dir", "dir2"), ("link", "link2")):
            swap(scene.backing(first), scene.backing(second))
        Path("/proc/sys/vm/drop_caches").write_text("3")
        for name, content in before.items():
            try:
                assert (mount / name).read_bytes() == content, name
            except OSError as error:
                assert error.errno in (errno.EIO, errno.ENOENT), name
        for name, target in (("link", "target of the link"), ("link2", "target of the second link")):
            try:
                assert os.readlink(mount / name) == target
            except OSError as error:
                assert error.errno == errno.EIO


def test_file_moved(scene):
    source = scene.backing("dir/inner")
    target = scene.backing("dir2/inner")
    source.replace(target)
    check(scene, "dir2/inner", whole=("other", "dir/second"))


def test_file_moved_under_its_own_name(scene):
    # In the other directory the name does not even decode.
    source = scene.backing("dir/second")
    source.rename(scene.backing("dir2") / source.name)
    with scene.mount() as mount:
        assert os.listdir(mount / "dir2") == ["inner"]
        with pytest.raises(FileNotFoundError):
            (mount / "dir2/second").read_bytes()


def test_file_foreign(scene, foreign):
    shutil.copy2(foreign.backing("medium"), scene.backing("medium"))
    check(scene, "medium")


def put_in_the_way(path, kind):
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/etc/passwd")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o666)
    else:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))


@pytest.mark.parametrize("kind", ["directory", "link", "fifo", "device"])
def test_kind_turned(scene, kind):
    path = scene.backing("small")
    path.unlink()
    put_in_the_way(path, kind)
    with scene.mount() as mount:
        with pytest.raises(OSError) as failure:
            descriptor = os.open(mount / "small", os.O_RDONLY | os.O_NONBLOCK)
            try:
                os.listdir(descriptor) if kind == "directory" else os.read(descriptor, 1)
            finally:
                os.close(descriptor)
        assert failure.value.errno == errno.EIO
        assert (mount / "other").read_bytes() == FILES["other"]


def test_links_swapped(scene):
    swap(scene.backing("link"), scene.backing("link2"))
    check(scene, "link", "link2")


def test_link_planted(scene):
    path = scene.backing("link")
    path.unlink()
    path.symlink_to("/etc/passwd")
    check(scene, "link")


def test_directory_renamed(scene):
    path = scene.backing("empty")
    path.rmdir() if not os.listdir(path) else shutil.rmtree(path)
    scene.backing("dir").rename(path)
    check(scene, "empty", whole=("other", "dir2/inner"))


def test_directory_moved(scene):
    inner = scene.backing("dir2")
    inner.rename(scene.backing("dir") / inner.name)
    with scene.mount() as mount:
        assert sorted(os.listdir(mount / "dir")) == ["inner", "second"]
        assert not (mount / "dir2").exists()
        assert (mount / "other").read_bytes() == FILES["other"]


def test_directories_swapped(scene):
    swap(scene.backing("dir"), scene.backing("dir2"))
    check(scene, "dir", "dir2", whole=("other", "twin"))


def drop_record(folder: Path) -> bytes:
    """Removes a directory's record in both its places."""
    record = (folder / ".scrim-dir").read_bytes()
    (folder / ".scrim-dir").unlink()
    if "user.scrim.dir" in os.listxattr(folder):
        os.removexattr(folder, "user.scrim.dir")
    return record


def plant_record(folder: Path, record: bytes) -> None:
    drop_record(folder)
    (folder / ".scrim-dir").write_bytes(record)
    os.setxattr(folder, "user.scrim.dir", record)


def test_record_removed(scene):
    drop_record(scene.backing("dir"))
    check(scene, "dir")


def test_record_bit(scene, workspace):
    for offset in (0, 8, 21, 40, 60):
        copy = copy_in(workspace, scene, f"record{offset}")
        folder = copy.backing("dir")
        record = bytearray((folder / ".scrim-dir").read_bytes())
        record[offset] ^= 1
        plant_record(folder, bytes(record))
        check(copy, "dir")


def test_record_copied(scene):
    plant_record(scene.backing("dir"), (scene.backing("dir2") / ".scrim-dir").read_bytes())
    check(scene, "dir")


def test_record_foreign(scene, foreign):
    plant_record(scene.backing("dir"), (foreign.backing("dir") / ".scrim-dir").read_bytes())
    check(scene, "dir")


def test_mark_planted(scene):
    """The record of a directory marked plain must not make another one plain."""
    plant_record(scene.backing("dir"), (scene.backing("plain") / ".scrim-dir").read_bytes())
    check(scene, "dir")


def test_raw_planted(scene):
    folder = scene.backing("dir")
    (folder / "raw").write_bytes(b"planted")
    target = scene.backing("small")
    target.write_bytes(b"planted")
    planted = scene.backing("dir/inner")
    (folder / (planted.name + ".p")).write_bytes(b"planted")
    with scene.mount() as mount:
        assert sorted(os.listdir(mount / "dir")) == ["inner", "second"]
        assert read_error(mount / "small") == "EIO"
        assert (mount / "dir/inner").read_bytes() == FILES["dir/inner"]


def test_name_altered(scene):
    path = scene.backing("dir/second")
    altered = ("A" if path.name[0] != "A" else "B") + path.name[1:]
    path.rename(path.with_name(altered))
    with scene.mount() as mount:
        assert os.listdir(mount / "dir") == ["inner"]
        assert (mount / "dir/inner").read_bytes() == FILES["dir/inner"]


# Attributes and hints


def sealed_attribute(path: Path) -> str:
    (name,) = [name for name in os.listxattr(path) if name.startswith("user.scrim.x.")]
    return name


def test_attribute_changed(scene):
    path = scene.backing("other")
    name = sealed_attribute(path)
    value = bytearray(os.getxattr(path, name))
    value[-1] ^= 1
    os.setxattr(path, name, bytes(value))
    with scene.mount() as mount:
        with pytest.raises(OSError) as failure:
            os.getxattr(mount / "other", "user.note")
        assert failure.value.errno == errno.EIO
        assert (mount / "other").read_bytes() == FILES["other"]


def test_attribute_moved(scene):
    source, target = scene.backing("small"), scene.backing("other")
    name = sealed_attribute(source)
    os.setxattr(target, name, os.getxattr(source, name))
    with scene.mount() as mount:
        with pytest.raises(OSError) as failure:
            os.getxattr(mount / "other", "user.note")
        assert failure.value.errno == errno.EIO
        assert os.getxattr(mount / "small", "user.note") == b"sealed note"


def test_hint_changed(scene):
    os.setxattr(scene.backing("twin"), "user.scrim.hint", b"\x07" * 52)
    os.removexattr(scene.backing("large"), "user.scrim.hint")
    with scene.mount() as mount:
        assert (mount / "twin").stat().st_size == len(MEDIUM)
        assert (mount / "large").stat().st_size == len(LARGE)
        assert (mount / "twin").read_bytes() == FILES["twin"]


# The vault's own files


def test_vault_header_bit(scene, workspace):
    length = (scene.path / "scrim.vault").stat().st_size
    for offset in (0, 8, 10, 13, 28, 40, 60, 80, 100, length - 1):
        copy = copy_in(workspace, scene, f"header{offset}")
        flip(copy.path / "scrim.vault", offset)
        result = copy.ls(check=False)
        assert result.returncode in REFUSALS, (offset, result)


def test_session_bit(scene):
    path = scene.path / "scrim.session"
    flip(path, 50)
    flip(path, PAGE + 50)
    point = scene.folder / "mnt"
    point.mkdir()
    text = harness.fails(
        harness.DAMAGED, "mount", scene.path, point, "--passphrase-file", scene.passphrase_file
    )
    assert "scrim.session" in text


def test_session_removed(scene):
    (scene.path / "scrim.session").unlink()
    point = scene.folder / "mnt"
    point.mkdir()
    text = harness.fails(
        harness.DAMAGED, "mount", scene.path, point, "--passphrase-file", scene.passphrase_file
    )
    assert "scrim.session" in text


# What is said not to be detected


def test_whole_file_rollback(scene):
    path = scene.backing("small")
    path.unlink()
    subprocess.run(["cp", "-a", scene.older.backing("small"), path], check=True)
    with scene.mount() as mount:
        assert (mount / "small").read_bytes() == SMALL


def test_deleted(scene):
    scene.backing("small").unlink()
    with scene.mount() as mount:
        assert not (mount / "small").exists()
        assert (mount / "other").read_bytes() == FILES["other"]


def test_plain_changed(scene):
    scene.backing("plain/open").write_bytes(b"changed from outside\n")
    with scene.mount() as mount:
        assert (mount / "plain/open").read_bytes() == b"changed from outside\n"
