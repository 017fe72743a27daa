"""A backing disk filled to the brim: the operation says so, what was committed stays, the daemon lives, space heals."""

import errno
import os
import random
import subprocess

import harness
import pytest

MIB = 1 << 20
SIZE = 24 * MIB
CONTENT = random.Random(5).randbytes(2 * MIB)
FULL = (errno.ENOSPC, errno.EDQUOT)


@pytest.fixture(params=["ext4", "tmpfs"])
def disk(request, workspace):
    """A small filesystem of its own, taken away whatever happens."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk")
    point = workspace.path / "disk"
    point.mkdir()
    if request.param == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", point]
    else:
        image = workspace.path / "disk.img"
        with open(image, "wb") as f:
            f.truncate(SIZE)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
        # The loop device goes with the mount.
        command = ["mount", "-o", "loop", image, point]
    if subprocess.run(command, stderr=subprocess.DEVNULL).returncode != 0:
        pytest.skip(f"no {request.param} can be mounted here")
    yield point
    for vault in workspace.vaults:
        vault.close()
    if subprocess.run(["umount", point], stderr=subprocess.DEVNULL).returncode != 0:
        subprocess.run(["umount", "-l", point])


@pytest.fixture
def small(workspace, disk):
    """A vault on the small disk, mounted elsewhere, whose log is elsewhere, too."""
    vault = harness.Vault(disk)
    vault.folder = workspace.path
    vault.disk = disk
    workspace.vaults.append(vault)
    return vault


def fill(disk):
    """Takes the last byte of a disk."""
    with open(disk / "filler", "ab", buffering=0) as f:
        for size in (MIB, 4096, 512, 1):
            try:
                while True:
                    f.write(b"\xff" * size)
            except OSError as error:
                assert error.errno in FULL


def make_room(disk):
    os.unlink(disk / "filler")


def try_to(action):
    """Whether something succeeded; the only excuse is a full disk."""
    try:
        action()
        return True
    except OSError as error:
        assert error.errno in FULL, error
        return False


def write_through(path, content):
    with open(path, "wb", buffering=0) as f:
        f.write(content)
        os.fsync(f.fileno())


def test_a_vault_on_a_full_disk_can_be_used_and_emptied(small):
    with small.mount() as mount:
        write_through(mount / "file", CONTENT)
        write_through(mount / "other", CONTENT)
    fill(small.disk)
    with small.mount() as mount:
        assert (mount / "file").read_bytes() == CONTENT
        assert not try_to(lambda: write_through(mount / "new", CONTENT))
        os.unlink(mount / "other")
        write_through(mount / "new", CONTENT[:MIB])
    with small.mount() as mount:
        assert (mount / "file").read_bytes() == CONTENT
        assert (mount / "new").read_bytes() == CONTENT[:MIB]


def test_writes_until_it_is_full(small):
    with small.mount() as mount:
        written = {}
        rest = random.Random(9)
        for number in range(200):
            content = rest.randbytes(rest.choice([100, 5000, 300_000, MIB]))
            if not try_to(lambda: write_through(mount / f"file {number}", content)):
                break
            written[f"file {number}"] = content
        else:
            pytest.fail("the disk never became full")
        pid = mount.status()["pid"]
        for name, content in written.items():
            assert (mount / name).read_bytes() == content
        for name in list(written)[::2]:
            os.unlink(mount / name)
            del written[name]
        write_through(mount / "after", CONTENT)
        written["after"] = CONTENT
        assert mount.status()["pid"] == pid
    with small.mount() as mount:
        for name, content in written.items():
            assert (mount / name).read_bytes() == content


def test_a_commit_that_fails_leaves_the_one_before(small):
    with small.mount() as mount:
        write_through(mount / "file", CONTENT)
        fill(small.disk)
        changed = bytes(reversed(CONTENT))

        def overwrite():
            with open(mount / "file", "r+b", buffering=0) as f:
                f.write(changed)
                os.fsync(f.fileno())

        assert not try_to(overwrite)
        mount.kill()
        mount.force_down()
        mount.pid = None
    with small.mount() as mount:
        assert (mount / "file").read_bytes() == CONTENT
        make_room(small.disk)
        overwrite()
        assert (mount / "file").read_bytes() == changed
    with small.mount() as mount:
        assert (mount / "file").read_bytes() == changed


def test_space_heals_a_file_that_could_not_be_committed(small):
    with small.mount() as mount:
        write_through(mount / "file", CONTENT)
        fill(small.disk)
        with open(mount / "file", "r+b", buffering=0) as f:
            failed = not try_to(lambda: (f.write(b"\x01" * MIB), os.fsync(f.fileno())))
            assert failed
            make_room(small.disk)
            f.seek(0)
            f.write(b"\x02" * MIB)
            os.fsync(f.fileno())
        assert (mount / "file").read_bytes() == b"\x02" * MIB + CONTENT[MIB:]
    with small.mount() as mount:
        assert (mount / "file").read_bytes() == b"\x02" * MIB + CONTENT[MIB:]


def test_changes_of_the_tree_on_a_full_disk(small):
    """Each either happens or does not; nothing is lost, and no entry is left that cannot be opened."""
    with small.mount() as mount:
        for number in range(20):
            (mount / f"file {number}").write_bytes(b"%d" % number * 1000)
        (mount / "folder").mkdir()
        os.sync()
        fill(small.disk)
        done = set()
        long = "n" * 220
        for number in range(20):
            here = mount / f"file {number}"
            operations = {
                0: lambda: os.rename(here, mount / f"folder/moved {number}"),
                1: lambda: os.rename(here, mount / f"{long}{number}"),
                2: lambda: os.link(here, mount / f"folder/second {number}"),
                3: lambda: os.mkdir(mount / f"folder {number}"),
                4: lambda: os.symlink("target" * 50, mount / f"link {number}"),
                5: lambda: os.setxattr(here, "user.note", b"x" * 3000),
                6: lambda: os.setxattr(mount / "folder", "user.scrim.policy", b"compressed" if number % 2 else b"sealed"),
            }
            if try_to(operations[number % 7]):
                done.add(number)
        make_room(small.disk)
        mount.remount()
        contents = []
        for root, folders, names in os.walk(mount.point):
            for name in names:
                path = os.path.join(root, name)
                if not os.path.islink(path):
                    with open(path, "rb") as f:
                        contents.append(f.read())
        assert {b"%d" % n * 1000 for n in range(20)} == set(contents)
        (mount / "afterwards").mkdir()
    report = harness.scrim(
        "check", small.path, "--deep", "--passphrase-file", small.passphrase_file, check=False
    )
    assert report.returncode in (0, 22), report.stdout
