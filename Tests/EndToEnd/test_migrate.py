"""`scrim migrate` and `scrim export`: everything is kept, nothing is lost at any moment, and a second run goes on."""

import json
import os
import random
import shutil
import signal
import subprocess
import time

import harness
import pytest
import trees
from harness import (
    DAMAGED, LOCKED, NOT_FOUND, OK, SCRIM, SYSTEM, USAGE, fails, random_files, run, scrim, seeded, small_disk, wait_for,
)

INCOMPLETE = 23
ROUNDS = int(os.environ.get("SCRIM_ROUNDS", 1))
pytestmark = pytest.mark.limit(300)


def migrate(vault, *arguments, target="", check=True):
    """Sources come first, options after them."""
    sources = [a for a in arguments if not str(a).startswith("--") and os.path.lexists(str(a))]
    options = [a for a in arguments if a not in sources]
    place = f"{vault.path}:{target}" if target else vault.path
    return scrim("migrate", *sources, place, *options, "--passphrase-file", vault.passphrase_file, check=check)


def export(vault, path, destination, check=True):
    return scrim("export", vault.path, path, destination, "--passphrase-file", vault.passphrase_file, check=check)


def lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def tree(workspace):
    """A tree with some of everything, and a copy of it to compare with."""
    source = workspace.path / "source"
    trees.build(source, seeded("migrate"), files=700)
    run("cp", "-a", source, workspace.path / "before")
    return source


def assert_in_vault(vault, before, target=""):
    with vault.mount() as mount:
        trees.assert_same(before, mount.point / target)
    # Paths are longer here than a call takes; find(1) goes step by step.
    assert run("find", vault.tree, "-name", ".scrim-new.*").stdout == b""


def test_a_copied_tree_is_the_same_and_the_source_stays(vault, tree):
    migrate(vault, tree, target="inner/place")
    assert_in_vault(vault, tree, "inner/place/source")
    again = lines(migrate(vault, tree, "--json", "--verify", target="inner/place"))
    assert {e["outcome"] for e in again if e["event"] == "file"} == {"present"}
    assert_in_vault(vault, tree, "inner/place/source")


def test_a_moved_tree_is_the_same_and_the_source_is_gone(vault, tree, workspace):
    migrate(vault, tree, "--move", "--plain", "*.txt", "--compress", "size-*")
    assert not tree.exists()
    assert_in_vault(vault, workspace.path / "before", "source")


def test_a_slash_at_the_end_takes_the_content(vault, tree):
    migrate(vault, f"{tree}/")
    assert_in_vault(vault, tree)


def test_adoption_writes_no_data(vault, workspace):
    source = workspace.path / "films"
    source.mkdir()
    numbers = {}
    for i in range(20):
        (source / f"{i}.mp4").write_bytes(os.urandom(5000))
        numbers[f"{i}.mp4"] = (source / f"{i}.mp4").stat().st_ino
    (source / "notes").write_text("sealed\n")
    result = lines(migrate(vault, source, "--move", "--plain", "*.mp4", "--json"))
    outcomes = [e["outcome"] for e in result if e["event"] == "file"]
    assert outcomes.count("adopted") == 20 and outcomes.count("copied") == 1
    assert set(numbers.values()) <= {p.stat().st_ino for p in vault.backing_files()}
    with vault.mount() as mount:
        for name in numbers:
            assert os.getxattr(mount / "films" / name, "user.scrim.mode") == b"plain"
        assert os.getxattr(mount / "films/notes", "user.scrim.mode") == b"sealed"


def test_the_first_rule_that_matches_counts(vault, workspace):
    source = workspace.path / "source"
    for folder in ("logs", "cache"):
        (source / folder).mkdir(parents=True)
    for name in ("a.log", "b.tmp", "logs/c.log", "keep.tmp", "cache/d"):
        (source / name).write_bytes(b"text " * 1000)
    rules = workspace.path / "rules"
    rules.write_bytes(b"# comment\n\n seal \tkeep.*\r\nexclude *.tmp\r\nexclude cache/")
    options = ("--plain", "logs/*", "--compress", "*.log", "--rules", rules)
    arguments = [*options, "--passphrase-file", vault.passphrase_file]
    plan = lines(scrim("migrate", source, vault.path, "--dry-run", "--json", *arguments))[0]
    assert {k: v["files"] for k, v in plan["modes"].items()} == {"plain": 1, "sealed-compressed": 1, "sealed": 1}
    assert plan["excluded"]["files"] == 2 and plan["directories"] == 2 and plan["spaceNeeded"] > 15000
    assert vault.ls().stdout == b""
    scrim("migrate", source, vault.path, *arguments)
    with vault.mount() as mount:
        modes = {n: os.getxattr(mount / "source" / n, "user.scrim.mode") for n in ("a.log", "keep.tmp", "logs/c.log")}
        assert modes == {"a.log": b"sealed-compressed", "keep.tmp": b"sealed", "logs/c.log": b"plain"}
        assert not (mount / "source/b.tmp").exists() and not (mount / "source/cache").exists()


@pytest.mark.limit(240 + 60 * ROUNDS)
def test_killed_at_any_moment_nothing_is_lost_and_the_next_run_ends_it(vault, workspace):
    rng = seeded("migrate kill")
    source, before = workspace.path / "source", workspace.path / "before"
    trees.build(source, rng, files=450 * ROUNDS)
    for i in range(4 * ROUNDS):
        (source / f"large {i}").write_bytes(rng.randbytes(6 << 20))
    run("cp", "-a", source, before)
    command = [SCRIM, "migrate", source, vault.path, "--move", "--plain", "*0.txt"]
    command += ["--passphrase-file", vault.passphrase_file]
    for delay in sorted(rng.uniform(0.05, 0.6) for _ in range(5 * ROUNDS)):
        if not source.exists():
            break
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert_union_is_whole(vault, source, before)
        harness.count("kills survived")
    if source.exists():
        run(*command)
    assert not source.exists()
    assert_in_vault(vault, before, "source")


def assert_union_is_whole(vault, source, before):
    out = vault.folder / "out"
    if export(vault, "/source", out, check=False).returncode == NOT_FOUND:
        out.mkdir()
    trees.assert_whole_in_one(before, source, out)
    shutil.rmtree(out)


def test_a_full_disk_stops_it_and_it_goes_on_with_more_space(workspace):
    with small_disk(workspace, "3m") as disk:
        source = workspace.path / "source"
        random_files(source, 10, 500_000)
        small = workspace.vault(name="disk/vault")
        text = fails(SYSTEM, "migrate", source, small.path, "--move", "--passphrase-file", small.passphrase_file, "--json")
        assert "No space left" in text
        run("mount", "-o", "remount,size=20m", disk)
        migrate(small, source, "--move")
        assert not source.exists()
        assert len(small.ls("/source").stdout.splitlines()) == 10


def test_a_move_needs_the_space_of_a_few_files(workspace):
    with small_disk(workspace, "9m") as disk:
        source = disk / "source"
        random_files(source, 12, 500_000)
        run("cp", "-a", source, workspace.path / "before")
        small = workspace.vault(name="disk/vault")
        migrate(small, source, "--move")
        assert not source.exists()
        export(small, "/source", workspace.path / "out")
        trees.assert_same(workspace.path / "before", workspace.path / "out")


def test_what_cannot_be_read_or_replaced_is_listed(vault, workspace):
    source = workspace.path / "source"
    source.mkdir()
    (source / "same").write_text("one")
    (source / "other").write_text("two")
    migrate(vault, source)
    (source / "same").unlink()
    (source / "same").mkdir()
    (source / "other").write_text("older, longer")
    os.utime(source / "other", (1, 1))
    result = migrate(vault, source, "--move", check=False)
    assert result.returncode == INCOMPLETE
    text = result.stdout.decode()
    assert "failed: same: " in text and "failed: other: the vault has a newer file" in text, text
    assert (source / "other").read_text() == "older, longer"
    assert vault.cat("/source/other").stdout == b"two"


def test_an_unreadable_file_stays_and_is_listed(workspace, unprivileged):
    home = workspace.path / "home"
    home.mkdir()
    os.chown(home, unprivileged, unprivileged)
    vault = workspace.vault(name="home/vault", user=unprivileged)
    source = home / "source"
    source.mkdir()
    (source / "readable").write_text("yes")
    (source / "secret").write_text("no")
    for path in (source, source / "readable", source / "secret"):
        os.chown(path, unprivileged, unprivileged)
    os.chown(source / "secret", 0, 0)
    os.chmod(source / "secret", 0o600)
    arguments = (source, vault.path, "--move", "--passphrase-file", vault.passphrase_file)
    result = scrim("migrate", *arguments, user=unprivileged, check=False)
    assert result.returncode == INCOMPLETE and b"failed: secret: " in result.stdout, result
    assert sorted(os.listdir(source)) == ["secret"]


def test_a_file_that_changes_meanwhile_is_redone(vault, workspace):
    source = workspace.path / "source"
    source.mkdir()
    (source / "log").write_bytes(b"first\n")
    migrate(vault, source)
    (source / "log").write_bytes(b"first\nsecond\n")
    migrate(vault, source)
    assert vault.cat("/source/log").stdout == b"first\nsecond\n"
    # One that does not stand still is left where it is, unless it did for as long as reading it takes.
    script = "import sys\nf=open(sys.argv[1],'ab',0)\nf.write(bytes(20<<20))\nwhile True: f.write(b'x'*10)"
    writer = subprocess.Popen(["/usr/bin/python3", "-c", script, source / "busy"])
    try:
        while not (source / "busy").exists() or (source / "busy").stat().st_size <= 20 << 20:
            time.sleep(0.01)
        result = migrate(vault, source, "--move", check=False)
    finally:
        writer.kill()
        writer.wait()
    assert result.returncode in (OK, INCOMPLETE), result
    assert (source / "busy").exists() == (result.returncode == INCOMPLETE)
    assert not (source / "log").exists()


def test_export_brings_everything_back(vault, tree, workspace):
    migrate(vault, f"{tree}/", "--compress", "size-*", "--plain", "*1.txt")
    out = workspace.path / "out"
    export(vault, "/", out)
    trees.assert_same(tree, out)
    again = scrim("export", vault.path, "/", out, "--json", "--passphrase-file", vault.passphrase_file)
    assert {e["outcome"] for e in lines(again) if e["event"] == "file"} == {"present"}


def test_export_leaves_out_what_is_damaged(vault, workspace):
    source = workspace.path / "source"
    source.mkdir()
    for i in range(3):
        (source / f"{i}").write_bytes(random.Random(i).randbytes(300_000 + 8192 * i))
    migrate(vault, f"{source}/")
    victim = vault.backing_files()[0]
    with open(victim, "r+b") as f:
        f.seek(200_000)
        f.write(b"damage")
    out = workspace.path / "out"
    result = export(vault, "/", out, check=False)
    assert result.returncode == DAMAGED and b"damaged: 2: " in result.stdout, result
    assert sorted(os.listdir(out)) == ["0", "1"]


def test_targets_that_cannot_be_used_are_named(vault, workspace):
    source = workspace.path / "source"
    source.mkdir()
    secret = ("--passphrase-file", vault.passphrase_file)
    with vault.mount():
        assert "name its mount" in fails(LOCKED, "migrate", source, vault.path, *secret)
    fails(NOT_FOUND, "migrate", workspace.path / "nothing", vault.path, *secret)
    fails(USAGE, "migrate", vault.tree, vault.path, *secret)
    for place in (vault.path, vault.tree, vault.path / "new"):
        assert "in it" in fails(USAGE, "export", vault.path, "/", place, *secret)
    assert migrate(vault, source).returncode == OK


@pytest.mark.parametrize("names", ["sealed", "plain"])
def test_odd_trees_go_in_change_and_come_out_as_they_were(workspace, names):
    source, out = workspace.path / "source", workspace.path / "out"
    trees.build_odd(source)
    inside = source / "mounted"
    inside.mkdir()
    run("mount", "-t", "tmpfs", "none", inside)
    try:
        (inside / "file").write_text("on another filesystem")
        vault = workspace.vault("--names", names)
        secret = ("--passphrase-file", vault.passphrase_file)
        migrate(vault, f"{source}/", "--plain", "mode*", "--compress", "x*")
        with vault.mount() as mount:
            trees.assert_same(source, mount.point)
        for policy in ("sealed-compressed", "plain", "rules"):
            # What has several names stays as it is.
            assert scrim("convert", vault.path, "--recursive", "--content", policy, *secret, check=False).returncode in (OK, INCOMPLETE)
        scrim("convert", "--rekey", vault.path, *secret)
        with vault.mount() as mount:
            trees.assert_same(source, mount.point)
        export(vault, "/", out)
        trees.assert_same(source, out)
        assert scrim("audit", vault.path, "--html", workspace.path / "page", *secret).returncode == OK
        assert scrim("check", vault.path, "--deep", *secret).returncode == OK
    finally:
        run("umount", inside)


def test_special_files_with_several_names_stay_one(vault, workspace):
    source, out = workspace.path / "source", workspace.path / "out"
    (source / "d").mkdir(parents=True)
    os.mkfifo(source / "fifo", 0o640)
    os.link(source / "fifo", source / "d" / "fifo")
    for _ in range(2):
        migrate(vault, source)
        export(vault, "/", out)
        trees.assert_same(source, out / "source")
    migrate(vault, source, "--move")
    assert not source.exists()
    with vault.mount() as mount:
        trees.assert_same(out / "source", mount / "source")


def test_an_interrupt_ends_it_between_files(vault, workspace):
    source = workspace.path / "source"
    source.mkdir()
    for i in range(3000):
        (source / f"{i}").write_bytes(b"content")
    command = [SCRIM, "migrate", source, vault.path, "--json", "--passphrase-file", vault.passphrase_file]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode in (OK, SYSTEM), errors
    if process.returncode == SYSTEM:
        assert b"interrupted" in errors
        assert json.loads(output.splitlines()[-1])["outcome"] == "stopped"
    migrate(vault, source)
    assert len(vault.ls("/source").stdout.splitlines()) == 3000


def test_an_interrupt_ends_it_within_a_large_file(vault, workspace):
    source = workspace.path / "source"
    source.mkdir()
    with open(source / "large", "wb") as f:
        for _ in range(300):
            f.write(bytes(range(256)) * 4096)
    command = [SCRIM, "migrate", source, vault.path, "--move", "--passphrase-file", vault.passphrase_file]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for(lambda: vault.ls("/source", check=False).returncode == OK, "the directory to be there")
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=120)[1]
    if process.returncode == SYSTEM:
        assert b"interrupted; the same command goes on" in errors
        assert (source / "large").stat().st_size == 300 << 20
        run(*command)
    assert not source.exists()
    assert len(vault.cat("/source/large").stdout) == 300 << 20


def test_two_migrations_at_once_are_one_and_a_clear_refusal(vault, workspace):
    source = workspace.path / "source"
    source.mkdir()
    for i in range(400):
        (source / f"{i}").write_bytes(b"content")
    secret = ("--passphrase-file", vault.passphrase_file)
    command = [SCRIM, "migrate", source, vault.path, "--move", "--json", *secret]
    first = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        # Until it is told that a file is done and its output is read, it can neither begin nor end unseen.
        first.stdout.readline()
        os.kill(first.pid, signal.SIGSTOP)
        assert "already locked" in fails(LOCKED, "migrate", source, vault.path, "--move", *secret)
    finally:
        os.kill(first.pid, signal.SIGCONT)
    first.communicate(timeout=120)
    assert first.returncode == OK and not source.exists()
    assert len(vault.ls("/source").stdout.splitlines()) == 400


def test_a_name_that_the_vaults_place_cannot_hold_is_listed(vault, workspace):
    """Filesystems with shorter names than 255 bytes refuse the backing name: so does strace for the second file."""
    source = workspace.path / "source"
    source.mkdir()
    for name in ("a", "b", "c"):
        (source / name).write_bytes(name.encode())
    refuse = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=linkat", "-e", "inject=linkat:error=ENAMETOOLONG:when=2"]
    command = [*refuse, SCRIM, "migrate", f"{source}/", vault.path, "--move", "--passphrase-file", vault.passphrase_file]
    result = run(*command, check=False)
    assert result.returncode == INCOMPLETE, result
    (left,) = os.listdir(source)
    assert f"failed: {left}: ".encode() in result.stdout and b"File name too long" in result.stdout, result
    names = vault.ls().stdout.decode().split()
    assert sorted([left, *names]) == ["a", "b", "c"]
    migrate(vault, f"{source}/", "--move")
    assert vault.cat(f"/{left}").stdout == left.encode()
