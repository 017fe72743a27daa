"""Directories marked plain: the kernel serves them from their backing files."""

import hashlib
import os

import pytest
from harness import fails, run, scrim, seeded, wait_for
from harness import NOT_EMPTY, NOT_MOUNTED, USAGE

MEBIBYTE = 1 << 20


def mode_of(path):
    return os.getxattr(path, "user.scrim.mode").decode()


def backing_of(vault, name_length_at_least=1):
    return [p for p in vault.backing_files() if p.suffix == ".p" or not p.name.startswith(".scrim")]


def needs_passthrough(mount):
    state = mount.status()["passthrough"]
    if state["state"] != "kernel":
        pytest.fail(f"no kernel passthrough here: {state}") if os.environ.get("CI") else pytest.skip(
            f"NO KERNEL PASSTHROUGH HERE: {state['reason']}"
        )


@pytest.mark.limit(300)
def test_plain_files_are_read_and_written_by_the_kernel(vault, mount):
    needs_passthrough(mount)
    rng = seeded("plain")
    plain = mount / "media"
    plain.mkdir()
    scrim("mark", plain, "--content", "plain")
    before = mount.status()
    wanted = hashlib.sha256()
    with open(plain / "film", "wb", buffering=0) as f:
        for _ in range(256):
            piece = rng.randbytes(MEBIBYTE)
            wanted.update(piece)
            assert f.write(piece) == MEBIBYTE
    assert mode_of(plain / "film") == "plain"
    seen = hashlib.sha256()
    with open(plain / "film", "rb", buffering=0) as f:
        while piece := f.read(MEBIBYTE):
            seen.update(piece)
    assert seen.digest() == wanted.digest()
    after = mount.status()
    assert after["passthrough"]["opens"] - before["passthrough"]["opens"] == 2
    for counter in ("userspaceReads", "userspaceWrites"):
        assert after["plain"][counter] == before["plain"][counter]
    backing = vault.backing_files()[0]
    assert hashlib.sha256(backing.read_bytes()).digest() == wanted.digest()


def test_a_change_of_the_backing_file_shows_in_the_mount(vault, mount):
    plain = mount / "shared"
    plain.mkdir()
    scrim("mark", plain, "--content", "plain", "--names", "plain")
    (plain / "notes.txt").write_bytes(b"first")
    [backing] = [p for p in vault.backing_files() if p.name == "notes.txt"]
    assert backing.read_bytes() == b"first"
    backing.write_bytes(b"second, and longer")
    wait_for(lambda: (plain / "notes.txt").read_bytes() == b"second, and longer", "the change to show")
    (backing.parent / "made outside").write_bytes(b"outside")
    wait_for(lambda: (plain / "made outside").exists(), "the new file to show")
    assert (plain / "made outside").read_bytes() == b"outside"


def test_a_mark_holds_for_new_files_only_and_is_inherited(vault, mount):
    folder = mount / "folder"
    folder.mkdir()
    (folder / "old").write_bytes(b"old")
    scrim("mark", folder, "--content", "plain")
    (folder / "new").write_bytes(b"new")
    (folder / "sub").mkdir()
    (folder / "sub" / "deep").write_bytes(b"deep")
    modes = [mode_of(folder / p) for p in ("old", "new", "sub/deep")]
    assert modes == ["sealed", "plain", "plain"]
    mount.remount()
    assert [mode_of(folder / p) for p in ("old", "new", "sub/deep")] == modes
    assert (folder / "old").read_bytes() == b"old" and (folder / "sub" / "deep").read_bytes() == b"deep"


@pytest.mark.parametrize("policy", ["plain", "sealed", "compressed", "sealed-compressed"])
def test_setfattr_sets_a_policy_and_getfattr_shows_the_mode(mount, policy):
    folder = mount / "folder"
    folder.mkdir()
    run("setfattr", "-n", "user.scrim.policy", "-v", policy, folder)
    (folder / "file").write_bytes(b"text " * 9999)
    told = run("getfattr", "--only-values", "-n", "user.scrim.mode", folder / "file")
    assert told.stdout == policy.encode()
    mount.remount()
    assert (folder / "file").read_bytes() == b"text " * 9999
    assert run("getfattr", "--only-values", "-n", "user.scrim.policy", folder).stdout.startswith(policy.encode())


def test_mark_refuses_what_cannot_be(workspace, mount):
    folder = mount / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(b"")
    fails(NOT_EMPTY, "mark", folder, "--content", "plain", "--names", "plain")
    fails(USAGE, "mark", folder, "--content", "transparent")
    fails(NOT_MOUNTED, "mark", workspace.path, "--content", "plain")
    assert run("setfattr", "-n", "user.scrim.policy", "-v", "nonsense", folder, check=False).returncode != 0


def test_moving_between_policies_copies_and_transforms(mount):
    for name, policy in (("a", "sealed"), ("b", "plain")):
        (mount / name).mkdir()
        scrim("mark", mount / name, "--content", policy)
    (mount / "a" / "file").write_bytes(b"content")
    with pytest.raises(OSError) as refused:
        os.rename(mount / "a" / "file", mount / "b" / "file")
    assert refused.value.errno == 18  # EXDEV
    run("mv", mount / "a" / "file", mount / "b" / "file")
    assert mode_of(mount / "b" / "file") == "plain"
    assert (mount / "b" / "file").read_bytes() == b"content"


def test_status_lists_open_files_with_their_backing_paths(vault, mount):
    (mount / "plain").mkdir()
    scrim("mark", mount / "plain", "--content", "plain", "--names", "plain")
    with open(mount / "plain" / "open.bin", "wb"), open(mount / "sealed.bin", "wb"):
        files = {os.path.basename(f["path"]): f for f in mount.status()["openFiles"]}
        assert set(files) == {"open.bin", "sealed.bin"}
        assert files["open.bin"]["mode"] == "plain" and files["sealed.bin"]["mode"] == "sealed"
        for entry in files.values():
            assert os.path.exists(os.path.join(vault.path, entry["backing"]))
        text = scrim("status", mount.point).stdout.decode()
        assert "open.bin" in text and "passthrough" in text
    wait_for(lambda: not mount.status()["openFiles"], "the files to be closed")


def test_a_plain_file_keeps_its_mode_and_times(mount):
    (mount / "plain").mkdir()
    scrim("mark", mount / "plain", "--content", "plain")
    path = mount / "plain" / "file"
    path.write_bytes(b"x")
    os.utime(path, ns=(10**18, 10**18 + 123456789))
    os.chmod(path, 0o640)
    mount.remount()
    assert path.stat().st_mtime_ns == 10**18 + 123456789 and path.stat().st_mode & 0o7777 == 0o640
