"""A real tree goes in, comes back the same, and leaves no trace of itself on the backing filesystem."""

import hashlib
import os

import pytest
import trees
from harness import run, seeded

MARKER = b"lines of text that repeat themselves"


@pytest.fixture
def source(workspace):
    folder = workspace.path / "source"
    count = trees.build(folder, seeded("tree"))
    assert count >= 5000
    return folder


@pytest.mark.limit(400)
def test_a_tree_survives_copy_and_remount_and_leaves_no_plaintext(workspace, source):
    vault = workspace.vault()
    with vault.mount() as mount:
        trees.copy(source, mount.point)
        mount.remount()
        trees.assert_same(source, mount.point)
    assert_no_trace(vault.path, source)


@pytest.mark.limit(300)
@pytest.mark.parametrize("content,names", [("compressed", "plain"), ("sealed-compressed", "sealed"), ("sealed", "plain")])
def test_a_small_tree_survives_in_every_other_policy(workspace, content, names):
    source = workspace.path / "small"
    trees.build(source, seeded("small tree"), files=800)
    vault = workspace.vault("--content", content, "--names", names)
    with vault.mount() as mount:
        trees.copy(source, mount.point)
        mount.remount()
        trees.assert_same(source, mount.point)


@pytest.mark.limit(300)
def test_a_tree_survives_on_a_disk_filesystem(disk_workspace):
    source = disk_workspace.path / "source"
    trees.build(source, seeded("disk tree"), files=600)
    with disk_workspace.vault().mount() as mount:
        trees.copy(source, mount.point)
        mount.remount()
        trees.assert_same(source, mount.point)


def assert_no_trace(backing, source):
    """Neither names of at least six bytes nor any text that went in can be found below a folder."""
    patterns = {MARKER, b"in the middle", b"of.a.directory", b"nowhere "}
    for directory, folders, files in os.walk(os.fsencode(source)):
        patterns.update(name for name in folders + files if len(name) >= 6 and b"\n" not in name)
        for name in files:
            path = os.path.join(directory, name)
            if os.path.isfile(path) and not os.path.islink(path) and os.path.getsize(path) >= 64:
                with open(path, "rb") as f:
                    piece = f.read(24)
                if piece.strip(b"\0") and b"\n" not in piece:
                    patterns.add(piece)
    folder = source.parent
    listing, wanted = folder / "backing names", folder / "patterns"
    listing.write_bytes(b"\n".join(os.path.join(d, n) for d, ds, fs in os.walk(os.fsencode(backing)) for n in ds + fs))
    wanted.write_bytes(b"\n".join(sorted(patterns)) + b"\n")
    # `file 1.txt` and the like: a name in a name, and in what is stored.
    for where in (["-r", backing], [listing]):
        found = run("grep", "-aF", "-l", "-f", wanted, *where, check=False, env={"LC_ALL": "C", "PATH": os.environ["PATH"]})
        assert found.returncode == 1, found.stdout[:2000]
    targets = run("find", backing, "-type", "l", "-printf", "%l\n").stdout
    assert b"nowhere" not in targets and b"../" not in targets


def digest(path, size=None):
    state = hashlib.sha256()
    with open(path, "rb", buffering=0) as f:
        while piece := f.read(1 << 20):
            state.update(piece)
    return state.hexdigest()


@pytest.mark.limit(400)
def test_a_file_of_one_gibibyte_survives(workspace):
    rng = seeded("large file")
    vault = workspace.vault()
    with vault.mount() as mount:
        path = mount / "large"
        expected = hashlib.sha256()
        with open(path, "wb", buffering=0) as f:
            for i in range(1024):
                # A quarter is data, spread over the whole file, the rest holes.
                piece = rng.randbytes(1 << 20) if i % 4 == 1 else bytes(1 << 20)
                expected.update(piece)
                if i % 4 == 1:
                    f.write(piece)
                else:
                    f.seek(1 << 20, os.SEEK_CUR)
            f.truncate(1 << 30)
        assert path.stat().st_size == 1 << 30
        assert path.stat().st_blocks * 512 < 300 << 20
        mount.remount()
        assert path.stat().st_size == 1 << 30
        assert digest(path) == expected.hexdigest()
