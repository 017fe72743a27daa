"""What synchronising tools do to a vault's folder: every file stays readable, both sides of a conflict are shown."""

import json
import os
import random
import shutil
import subprocess

import pytest
from harness import OK, scrim

LARGE = random.Random(11).randbytes(700_000)
SYNCTHING = b".sync-conflict-20240601-123456-ABCDEFG"
DROPBOX = b" (laptop's conflicted copy 2024-06-01)"
DROPBOX_OLD = b" (conflicted copy 2024-06-01 123456)"


def tool_name(name, addition):
    """How a tool names the losing copy of a file: its addition goes before the extension, as Go and Python see one."""
    stem, dot, extension = name.rpartition(b".")
    return stem + addition + b"." + extension if dot else name + addition


def backing_of(vault, number):
    """The path in the backing folder of an inode number that a mount showed."""
    for root, folders, files in os.walk(os.fsencode(vault.tree)):
        for name in folders + files:
            path = os.path.join(root, name)
            if os.lstat(path).st_ino == number:
                return path
    raise AssertionError(f"no backing file has inode {number}")


def write_tree(mount):
    (mount / "dir").mkdir()
    (mount / "dir/report.txt").write_bytes(b"first version\n" * 400)
    (mount / "dir/no extension").write_bytes(LARGE)
    (mount / "link").symlink_to("dir/report.txt")
    with open(mount / "holes", "wb") as f:
        f.seek(3_000_000)
        f.write(b"end")


def read_tree(mount):
    found = {}
    for root, _, names in os.walk(mount.point):
        for name in names:
            path = os.path.join(root, name)
            key = os.path.relpath(path, mount.point)
            if os.path.islink(path):
                found[key] = os.readlink(path)
            else:
                with open(path, "rb") as f:
                    found[key] = f.read()
    return found


@pytest.fixture
def written(vault):
    with vault.mount() as mount:
        write_tree(mount)
        vault.content = read_tree(mount)
    return vault


def is_intact(vault):
    with vault.mount() as mount:
        assert read_tree(mount) == vault.content
        for name, content in vault.content.items():
            if isinstance(content, bytes):
                assert os.stat(mount / name).st_size == len(content)


def backing_files(vault):
    for root, folders, files in os.walk(vault.tree):
        for name in folders + files:
            yield os.path.join(root, name)


def test_lost_extended_attributes(written):
    for path in backing_files(written):
        if not os.path.islink(path):
            for name in os.listxattr(path):
                os.removexattr(path, name)
    is_intact(written)
    with written.mount() as mount:
        (mount / "dir/report.txt").write_bytes(b"changed afterwards")
    with written.mount() as mount:
        assert (mount / "dir/report.txt").read_bytes() == b"changed afterwards"


def test_lost_holes_and_inodes(written):
    copy = written.folder / "copy"
    subprocess.run(["cp", "-r", "--sparse=never", "--no-dereference", written.path, copy], check=True)
    shutil.rmtree(written.path)
    copy.rename(written.path)
    is_intact(written)


def test_changed_times(written):
    for path in backing_files(written):
        os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)
    is_intact(written)


@pytest.mark.parametrize(
    "name, addition",
    [("report.txt", SYNCTHING), ("no extension", SYNCTHING), ("report.txt", DROPBOX_OLD), ("no extension", DROPBOX)],
)
def test_conflict_copy_of_a_file(written, name, addition):
    """The other side's version, as another machine with the same vault would have written it."""
    with written.mount() as mount:
        backing = backing_of(written, os.stat(mount / "dir" / name).st_ino)
    theirs = tool_name(os.path.basename(backing), addition)
    shutil.copy2(backing, os.path.join(os.path.dirname(backing), theirs))
    with written.mount() as mount:
        (mount / "dir" / name).write_bytes(b"my version")
    with written.mount() as mount:
        names = [n for n in os.listdir(os.fsencode(mount / "dir")) if addition.strip() in n]
        assert names == [tool_name(os.fsencode(name), addition)]
        shown = os.path.join(os.fsencode(mount / "dir"), names[0])
        with open(shown, "rb") as f:
            assert f.read() == written.content[f"dir/{name}"]
        assert (mount / "dir" / name).read_bytes() == b"my version"
        os.rename(shown, os.fsencode(mount / "dir/kept"))
    with written.mount() as mount:
        assert (mount / "dir/kept").read_bytes() == written.content[f"dir/{name}"]
        assert sorted(os.listdir(mount / "dir")) == sorted(["kept", "no extension", "report.txt"])


@pytest.mark.parametrize("addition", [SYNCTHING, DROPBOX])
def test_conflict_copy_of_a_file_with_a_plain_name(workspace, addition):
    vault = workspace.vault("--names", "plain")
    with vault.mount() as mount:
        (mount / "report.txt").write_bytes(b"theirs")
        backing = backing_of(vault, os.stat(mount / "report.txt").st_ino)
    shutil.copy2(backing, os.path.join(os.path.dirname(backing), tool_name(os.path.basename(backing), addition)))
    with vault.mount() as mount:
        (mount / "report.txt").write_bytes(b"mine")
        assert len(os.listdir(mount.point)) == 2
        other = next(n for n in os.listdir(os.fsencode(mount.point)) if n != b"report.txt")
        with open(os.path.join(os.fsencode(mount.point), other), "rb") as f:
            assert f.read() == b"theirs"
        os.rename(os.path.join(os.fsencode(mount.point), other), os.fsencode(mount / "kept.txt"))
    with vault.mount() as mount:
        assert (mount / "kept.txt").read_bytes() == b"theirs" and (mount / "report.txt").read_bytes() == b"mine"


@pytest.mark.parametrize("addition", [SYNCTHING, DROPBOX])
def test_two_machines_make_the_same_directory(workspace, addition):
    here = workspace.vault()
    there_folder = workspace.path / "there"
    there_folder.mkdir()
    shutil.copytree(here.path, there_folder / "vault", symlinks=True)
    there = type(here).__new__(type(here))
    there.__dict__.update(here.__dict__, folder=there_folder, path=there_folder / "vault", mounts=[])
    there.tree = there.path / "tree"
    workspace.vaults.append(there)
    for vault, mine in ((here, "here"), (there, "there")):
        with vault.mount() as mount:
            (mount / "new").mkdir()
            (mount / "new" / mine).write_bytes(mine.encode() * 5000)
            (mount / "new/sub").mkdir()
            (mount / "new/sub" / mine).write_bytes(mine.encode())
            (mount / "new" / f"link {mine}").symlink_to(mine)
            vault.directory = backing_of(vault, os.stat(mount / "new").st_ino)
    # The name is the same on both sides, the record is not.
    target, source = here.directory, there.directory
    assert os.path.basename(target) == os.path.basename(source)
    for name in os.listdir(source):
        if name == b".scrim-dir":
            alternate = b".scrim-dir" + addition if addition != SYNCTHING else addition + b".scrim-dir"
            shutil.copy2(os.path.join(source, name), os.path.join(target, alternate))
        elif os.path.isdir(os.path.join(source, name)):
            shutil.copytree(os.path.join(source, name), os.path.join(target, name), symlinks=True)
        else:
            shutil.copy2(os.path.join(source, name), os.path.join(target, name), follow_symlinks=False)
    with here.mount() as mount:
        assert (mount / "new/here").read_bytes() == b"here" * 5000
        assert (mount / "new/there").read_bytes() == b"there" * 5000
        assert os.readlink(mount / "new/link there") == "there"
        assert {"here", "there", "link here", "link there", "sub"} <= set(os.listdir(mount / "new"))
        assert (mount / "new/sub/here").read_bytes() == b"here"
        os.rename(mount / "new/there", mount / "new/there again")
        assert (mount / "new/there again").read_bytes() == b"there" * 5000


def test_of_two_policies_the_stricter_holds(written):
    with written.mount() as mount:
        backing = backing_of(written, os.stat(mount / "dir").st_ino)
    record = os.path.join(backing, b".scrim-dir")
    shutil.copy2(record, record + DROPBOX)
    copy = record + DROPBOX
    with open(copy, "rb") as f:
        older = f.read()
    with written.mount() as mount:
        os.setxattr(mount / "dir", "user.scrim.policy", b"plain")
    # A mark is the owner's word about all of them, so the tool brings the other side's back.
    with open(copy, "wb") as f:
        f.write(older)
    with written.mount() as mount:
        (mount / "dir/written in doubt").write_bytes(b"secret words")
        assert os.getxattr(mount / "dir/written in doubt", "user.scrim.mode") == b"sealed"
        assert (mount / "dir/report.txt").read_bytes() == written.content["dir/report.txt"]


def test_check_shows_conflicts_without_complaint(written):
    with written.mount() as mount:
        file = backing_of(written, os.stat(mount / "dir/report.txt").st_ino)
        folder = backing_of(written, os.stat(mount / "dir").st_ino)
    folder_of_file, name = os.path.split(file)
    shutil.copy2(file, os.path.join(folder_of_file, tool_name(name, SYNCTHING)))
    shutil.copy2(os.path.join(folder, b".scrim-dir"), os.path.join(folder, SYNCTHING + b".scrim-dir"))
    result = scrim(
        "check", written.path, "--deep", "--json", "--passphrase-file", written.passphrase_file, check=False
    )
    report = json.loads(result.stdout)
    assert result.returncode == OK, report["findings"]
    assert any(f["severity"] == "note" for f in report["findings"])
