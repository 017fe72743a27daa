"""`scrim migrate` into a mount: the same promises as into a vault that nobody has open, while others use the mount."""

import json
import os
import shutil
import signal
import subprocess
import time

import harness
import pytest
import trees
from harness import LOCKED, NOT_FOUND, OK, SCRIM, SYSTEM, USAGE, fails, random_files, run, scrim, seeded, small_disk, wait_for

INCOMPLETE = 23
ROUNDS = int(os.environ.get("SCRIM_ROUNDS", 1))
pytestmark = pytest.mark.limit(300)


def mode(path):
    return os.getxattr(path, "user.scrim.mode", follow_symlinks=False).decode()


def outcomes(result):
    return {e["outcome"] for e in map(json.loads, result.stdout.splitlines()) if e["event"] == "file"}


def leftovers(mount):
    return run("find", mount.point, "-name", ".scrim-migrate.*").stdout


@pytest.fixture
def tree(workspace):
    source = workspace.path / "source"
    trees.build(source, seeded("migrate live"), files=500)
    run("cp", "-a", source, workspace.path / "before")
    return source


@pytest.mark.parametrize("options", [(), ("writeback",)], ids=["", "writeback"])
def test_a_copied_tree_is_the_same(vault, tree, options):
    with vault.mount(*options) as mount:
        scrim("migrate", tree, f"{mount.point}:inner/place")
        trees.assert_same(tree, mount / "inner/place/source")
        assert outcomes(scrim("migrate", tree, mount / "inner/place", "--json", "--verify")) == {"present"}
        (tree / "size-4097").write_text("changed")
        assert outcomes(scrim("migrate", tree, f"{mount.point}:inner/place", "--json")) == {"present", "copied"}
        trees.assert_same(tree, mount / "inner/place/source")
        assert leftovers(mount) == b""
    with vault.mount() as mount:
        trees.assert_same(tree, mount / "inner/place/source")


def test_a_moved_tree_is_the_same_and_rules_count(vault, tree, workspace):
    before = workspace.path / "before"
    # In one mode, so that all names of a file may be one.
    run("find", tree, before, "-type", "f", "-links", "+1", "-delete")
    run("touch", "-r", before, tree)
    for folder, _, _ in os.walk(before):
        run("touch", "-r", folder, tree / os.path.relpath(folder, before))
    with vault.mount() as mount:
        scrim("mark", mount.point, "--rule", "*1.txt=compressed")
        scrim("migrate", tree, mount.point, "--move", "--plain", "*0.txt", "--compress", "size-*")
        assert not tree.exists()
        trees.assert_same(before, mount / "source")
        found = {}
        for folder, _, names in os.walk(os.fsencode(mount / "source")):
            for name in names:
                path = os.path.join(folder, name)
                if os.path.isfile(path) and not os.path.islink(path):
                    kind = "plain" if name.endswith(b"0.txt") else "sealed-compressed" if name.startswith(b"size-") else None
                    kind = kind or ("compressed" if name.endswith(b"1.txt") else "sealed")
                    found.setdefault(kind, set()).add(mode(path))
        assert found == {kind: {kind} for kind in ("plain", "sealed-compressed", "compressed", "sealed")}
        assert leftovers(mount) == b""
    assert scrim("check", vault.path, "--deep", "--passphrase-file", vault.passphrase_file).returncode == OK


def test_hard_links_stay_together_where_their_directories_agree(mount, workspace):
    source = workspace.path / "source"
    (source / "d").mkdir(parents=True)
    (source / "a").write_text("one")
    for name in ("b", "d/c", "d/x.mp4"):
        os.link(source / "a", source / name)
    (mount / "source").mkdir()
    scrim("mark", mount / "source", "--rule", "*.mp4=plain")
    result = scrim("migrate", source, mount.point, "--move", check=False)
    assert result.returncode == INCOMPLETE and b"not kept: d/x.mp4: it is no hard link any more" in result.stdout, result
    assert not source.exists()
    assert (mount / "source/a").stat().st_nlink == 3 and (mount / "source/d/x.mp4").stat().st_nlink == 1
    assert all((mount / "source" / name).read_text() == "one" for name in ("a", "b", "d/c", "d/x.mp4"))


@pytest.mark.limit(240 + 60 * ROUNDS)
@pytest.mark.parametrize("victim", ["command", "daemon"])
def test_killed_at_any_moment_nothing_is_lost_and_the_next_run_ends_it(vault, workspace, victim):
    rng = seeded(f"migrate live kill {victim}")
    source, before = workspace.path / "source", workspace.path / "before"
    trees.build(source, rng, files=450 * ROUNDS)
    for i in range(3):
        (source / f"large {i}").write_bytes(rng.randbytes(6 << 20))
    run("cp", "-a", source, before)
    with vault.mount() as mount:
        command = [SCRIM, "migrate", source, mount.point, "--move", "--plain", "*0.mp4"]
        for delay in (rng.uniform(0.05, 1) for _ in range(5 * ROUNDS)):
            if not source.exists():
                break
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(delay)
            if victim == "command":
                process.send_signal(signal.SIGKILL)
                process.wait()
            else:
                mount.kill()
                process.wait(timeout=60)
                mount.force_down()
                mount.start()
            trees.assert_whole_in_one(before, source, mount / "source")
            harness.count("kills survived")
        if source.exists():
            run(*command)
        assert not source.exists()
        trees.assert_same(before, mount / "source")
        assert leftovers(mount) == b""
    assert scrim("check", vault.path, "--deep", "--passphrase-file", vault.passphrase_file, check=False).returncode in (OK, 22)


def test_a_full_disk_stops_it_and_it_goes_on_with_more_space(workspace):
    with small_disk(workspace, "3m") as disk:
        source = workspace.path / "source"
        random_files(source, 10, 500_000)
        run("cp", "-a", source, workspace.path / "before")
        small = workspace.vault(name="disk/vault")
        with small.mount() as mount:
            assert "No space left" in fails(SYSTEM, "migrate", source, mount.point, "--move", "--json")
            trees.assert_whole_in_one(workspace.path / "before", source, mount / "source")
            run("mount", "-o", "remount,size=20m", disk)
            scrim("migrate", source, mount.point, "--move")
            assert not source.exists()
            trees.assert_same(workspace.path / "before", mount / "source")


def test_two_at_once_are_one_and_a_clear_refusal(mount, workspace):
    source = workspace.path / "source"
    source.mkdir()
    (source / "large").write_bytes(bytes(1 << 20) * 300)
    (source / "large").write_bytes(os.urandom(1 << 20) * 200)
    process = subprocess.Popen([SCRIM, "migrate", source, mount.point], stdout=subprocess.DEVNULL)
    wait_for(lambda: leftovers(mount), "the migration to begin")
    assert "another migration into this mount" in fails(LOCKED, "migrate", source, mount.point)
    assert process.wait(timeout=60) == OK
    assert leftovers(mount) == b"" and (mount / "source/large").stat().st_size == 200 << 20


def test_the_mount_and_its_vault_are_left_out_of_their_source(vault, workspace):
    with vault.mount() as mount:
        (workspace.path / "other").write_text("other")
        result = scrim("migrate", f"{workspace.path}/", f"{mount.point}:all", "--exclude", "*.log", check=False)
        assert result.returncode == INCOMPLETE
        assert b"failed: vault: the vault itself is left out" in result.stdout
        assert b"failed: mnt: the vault itself is left out" in result.stdout
        assert (mount / "all/other").read_text() == "other" and not (mount / "all/mnt").exists()
        assert "is the vault itself, or in it" in fails(USAGE, "migrate", mount / "all", mount.point)
        fails(NOT_FOUND, "migrate", workspace.path / "nothing", mount.point)


def test_a_plan_changes_nothing(mount, tree):
    (mount / "d").mkdir()
    scrim("mark", mount / "d", "--content", "plain")
    text = scrim("migrate", f"{tree}/", mount / "d", "--dry-run").stdout.decode()
    assert text.startswith("plain ") and os.listdir(mount / "d") == []


def test_an_interrupt_leaves_nothing_half_done(mount, workspace):
    source = workspace.path / "source"
    source.mkdir()
    (source / "large").write_bytes(os.urandom(1 << 20) * 300)
    process = subprocess.Popen([SCRIM, "migrate", source, mount.point, "--move"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for(lambda: leftovers(mount), "the migration to begin")
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=60)[1]
    assert (process.returncode == OK) != (b"interrupted" in errors)
    assert leftovers(mount) == b"" and (source / "large").exists() == (process.returncode != OK)


def test_the_same_content_with_a_later_time_is_the_same_file(vault, workspace):
    source = workspace.path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"content")
    os.utime(source / "file", ns=(10**18, 10**18))
    with vault.mount() as mount:
        (mount / "file").write_bytes(b"content")
        scrim("migrate", f"{source}/", mount.point)
        assert os.stat(mount / "file").st_mtime_ns == 10**18
        (mount / "file").write_bytes(b"CONTENT")
        assert scrim("migrate", f"{source}/", mount.point, check=False).returncode == INCOMPLETE
        assert (mount / "file").read_bytes() == b"CONTENT"
