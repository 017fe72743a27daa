"""`scrim convert --rekey`: everything gets a new master key, and at any moment everything is readable with one of the two."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import harness
import pytest
import trees
from harness import (
    DAMAGED, LOCKED, MOUNT_POINT, NOT_EMPTY, OK, SCRIM, SYSTEM, USAGE, WRONG_SECRET, fails, random_files, run, scrim, seeded,
    small_disk, wait_for,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Reader"))

from scrim_reader import NotAVault, Vault as Reader, compare_with_mount  # noqa: E402
from scrim_reader.tree import describe  # noqa: E402

INCOMPLETE, REKEYING = 23, 24
ROUNDS = int(os.environ.get("SCRIM_ROUNDS", 1))
PASSPHRASE = b"correct horse battery staple"
POLICIES = ("plain", "sealed", "compressed", "sealed-compressed")
pytestmark = pytest.mark.limit(300)


def rekey(vault, *options, check=True):
    return scrim("convert", "--rekey", vault.path, "--passphrase-file", vault.passphrase_file, *options, check=check)


def fill(vault, before, rng, files=420):
    """A tree with some of everything in directories of all policies, and the same outside."""
    trees.build(before, rng, files=files)
    with vault.mount() as mount:
        for policy in POLICIES:
            for names in ("sealed", "plain"):
                inner = before / f"{policy} {names}"
                (inner / "deep" / ("d" * 255)).mkdir(parents=True)
                for size in (0, 10, 5000, 300_000):
                    (inner / f"{size}").write_bytes(trees.content(rng, size))
                (inner / "deep" / ("d" * 255) / "\udcff").write_text("not UTF-8")
                os.link(inner / "5000", inner / "deep" / "5000 again")
                os.link(inner / "5000", inner / ("l" * 250))
                os.symlink("0", inner / "link")
                os.symlink("x" * 4000, inner / "far link")
                os.mkfifo(inner / "deep" / "fifo")
                os.mkdir(inner / "read only", 0o755)
                (inner / "read only" / "file").write_bytes(b"x" * 9000)
                os.setxattr(inner / "10", "user.note", b"kept")
                os.setxattr(inner / "deep", "user.note", b"kept")
                run("setfacl", "-m", "u:12345:rw", inner / "300000")
                run("setfacl", "-m", "d:u:12345:rx", inner / "deep")
                os.chmod(inner / "5000", 0o4751)
                os.chmod(inner / "read only", 0o555)
                for folder, folders, names_in in os.walk(inner, topdown=False):
                    for name in folders + names_in:
                        os.utime(os.path.join(folder, name), ns=(10**18, 10**18 + len(name)), follow_symlinks=False)
                copy = mount / inner.name
                copy.mkdir()
                scrim("mark", copy, "--content", policy, "--names", names)
        scrim("mark", mount / "sealed sealed", "--rule", "300*=sealed-compressed", "--rule", "10=plain")
        trees.copy(before, mount.point)
        scrim("mark", mount / "plain sealed", "--content", "sealed")
        trees.assert_same(before, mount.point)


def facts(mount, before):
    """What is not in a comparison: how each file is stored, and what directories say."""
    found = {}
    for folder, _, names in os.walk(os.fsencode(before)):
        path = os.path.join(os.fsencode(mount.point), os.path.relpath(folder, os.fsencode(before)))
        found[folder] = (os.getxattr(path, "user.scrim.policy"), os.getxattr(path, "user.scrim.rules"))
        for name in names:
            if os.path.isfile(os.path.join(path, name)) and not os.path.islink(os.path.join(path, name)):
                found[os.path.join(folder, name)] = os.getxattr(os.path.join(path, name), "user.scrim.mode")
    return found


def assert_rekeyed(vault, before, expected):
    """The same as before in everything but the key."""
    assert not [p for p in vault.path.iterdir() if p.name.startswith("scrim.rekey")]
    secret = ("--passphrase-file", vault.passphrase_file)
    assert scrim("check", vault.path, "--deep", *secret).returncode == OK
    assert run("find", vault.tree, "-name", ".scrim-new.*").stdout == b""
    with vault.mount() as mount:
        trees.assert_same(before, mount.point)
        assert facts(mount, before) == expected
        assert "user.scrim-migration" not in os.listxattr(mount.point)


def test_everything_is_as_it_was_but_for_the_key(vault, workspace):
    before = workspace.path / "before"
    fill(vault, before, seeded("rekey"))
    with vault.mount() as mount:
        expected = facts(mount, before)
    old = {name: (vault.path / name).read_bytes() for name in ("scrim.vault", "scrim.session")}
    old_backing = {p.read_bytes()[:4096] for p in vault.backing_files() if p.is_file() and p.read_bytes()[:8] == b"SCRIMCTR"}
    recovery = vault.recovery_file.read_text()
    result = rekey(vault).stdout.decode()
    words = result[result.index("recovery key"):].split("\n")[1].strip()
    assert_rekeyed(vault, before, expected)
    compare_with_mount(vault.path, PASSPHRASE, before)
    # Nothing of the old containers is there any more.
    assert not old_backing & {p.read_bytes()[:4096] for p in vault.backing_files() if p.is_file()}
    # The new recovery key opens it, the old one does not.
    vault.recovery_file.write_text(words)
    assert scrim("ls", vault.path, "--recovery-key-file", vault.recovery_file).returncode == OK
    vault.recovery_file.write_text(recovery)
    fails(WRONG_SECRET, "ls", vault.path, "--recovery-key-file", vault.recovery_file)
    # With the old header the passphrase gives the old master key, which opens nothing.
    for name, data in old.items():
        (vault.path / name).write_bytes(data)
    out = workspace.path / "out"
    secret = ("--passphrase-file", vault.passphrase_file)
    assert scrim("export", vault.path, "/", out, *secret, check=False).returncode == DAMAGED
    assert not out.exists() or not os.listdir(out)
    with pytest.raises(Exception):
        list(Reader(vault.path, PASSPHRASE).walk())


def union(vault, out):
    """What can be read of a vault in whatever state, by the program."""
    result = scrim("export", vault.path, "/", out, "--passphrase-file", vault.passphrase_file, check=False)
    assert result.returncode in (OK, REKEYING), result
    return result.returncode == OK


@pytest.mark.limit(240 + 60 * ROUNDS)
def test_killed_at_any_moment_it_is_whole_and_the_next_run_goes_on(vault, workspace):
    rng = seeded("rekey kill")
    before, out = workspace.path / "before", workspace.path / "out"
    fill(vault, before, rng, files=500 * ROUNDS)
    for i in range(4):
        os.link(before / "size-1048577", before / f"another name {i}")
    with vault.mount() as mount:
        for i in range(4):
            os.link(mount / "size-1048577", mount / f"another name {i}")
        run("touch", "-r", before, mount.point)
        expected = facts(mount, before)
    command = [SCRIM, "convert", "--rekey", vault.path, "--passphrase-file", vault.passphrase_file]
    kills = 0
    for _ in range(60 * ROUNDS):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        time.sleep(rng.uniform(0.02, 0.4))
        process.send_signal(signal.SIGKILL)
        text = process.communicate()[0]
        if process.returncode == OK:
            break
        assert process.returncode == -signal.SIGKILL, text
        kills += 1
        if kills % 4 == 1 and union(vault, out):
            trees.assert_same(before, out)
            shutil.rmtree(out)
    else:
        run(*command)
    assert kills
    assert_rekeyed(vault, before, expected)
    harness.count("kills survived", kills)


def test_a_vault_in_two_parts_is_refused_and_each_part_is_a_vault(vault, workspace):
    before = workspace.path / "before"
    before.mkdir()
    for i in range(4000):
        (before / f"{i}").write_bytes(b"%d" % i * 1000)
    secret = ("--passphrase-file", vault.passphrase_file)
    scrim("migrate", f"{before}/", vault.path, *secret)
    process = subprocess.Popen([SCRIM, "convert", "--rekey", vault.path, *secret, "--json", "--recovery-file",
                                vault.folder / "new recovery"], stdout=subprocess.PIPE)
    for _ in range(200):
        process.stdout.readline()
    assert "locked by process" in fails(LOCKED, "convert", "--rekey", vault.path, *secret)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    part = vault.path / "scrim.rekey"
    point = workspace.path / "point"
    point.mkdir()
    for command in (("ls", vault.path), ("cat", vault.path, "1"), ("mount", vault.path, point), ("migrate", before, vault.path),
                    ("mount", "--read-only", vault.path, point), ("convert", vault.path, "--recursive", "--content", "plain"),
                    ("key", "add", vault.path, "--new-recovery-key"), ("audit", vault.path)):
        assert "convert --rekey" in fails(REKEYING, *command, *secret)
    with pytest.raises(NotAVault):
        Reader(vault.path, PASSPHRASE)
    Reader(vault.path, PASSPHRASE, part=True).require_successor(Reader(part, PASSPHRASE))
    moved, left = (describe(Reader(p, PASSPHRASE, part=True), contents=True) for p in (part, vault.path))
    assert moved.keys() & left.keys() == {b"."} or len(moved.keys() & left.keys()) < 200
    assert len(moved.keys() | left.keys()) == 4001 and len(moved) > 100 and len(left) > 100
    assert len(scrim("ls", part, *secret).stdout.splitlines()) == len(moved) - 1
    checked = scrim("check", vault.path, *secret, check=False)
    assert b"scrim.rekey: a change of the master key was cut short" in checked.stdout
    result = json.loads(rekey(vault, "--json", "--recovery-file", vault.folder / "new recovery").stdout.splitlines()[-1])
    assert result["outcome"] == "complete"
    compare_with_mount(vault.path, PASSPHRASE, before)
    vault.recovery_file.write_text((vault.folder / "new recovery").read_text())
    assert scrim("ls", vault.path, "--recovery-key-file", vault.recovery_file).returncode == OK


def test_a_part_that_somebody_else_has_put_there_is_no_part(vault, workspace):
    """Who has learnt an earlier master key must not have the vault taken over into one with that key."""
    secret = ("--passphrase-file", vault.passphrase_file)
    (workspace.path / "file").write_text("secret")
    shutil.copytree(vault.path, workspace.path / "earlier")
    scrim("migrate", workspace.path / "file", vault.path, *secret)
    rekey(vault)
    shutil.copytree(workspace.path / "earlier", vault.path / "scrim.rekey")
    for command in (("convert", "--rekey", vault.path), ("export", vault.path, "/", workspace.path / "out")):
        assert "without the vault's key" in fails(DAMAGED, *command, *secret)
    # Nor is anything taken away for a last step that never was.
    (vault.path / "scrim.rekey" / "scrim.vault").unlink()
    fails(NOT_EMPTY, "convert", "--rekey", vault.path, *secret)
    shutil.rmtree(vault.path / "scrim.rekey")
    assert vault.cat("/file").stdout == b"secret"
    assert scrim("check", vault.path, *secret).returncode == OK


def test_keys_that_would_be_lost_are_named_before(vault, workspace):
    key = workspace.path / "key"
    key.write_bytes(os.urandom(32))
    secret = ("--passphrase-file", vault.passphrase_file)
    scrim("key", "add", vault.path, "--new-key-file", key, "--label", "the \"file\"", *secret)
    header = (vault.path / "scrim.vault").read_bytes()
    assert "slot 2, key file" in fails(USAGE, "convert", "--rekey", vault.path, *secret)
    assert (vault.path / "scrim.vault").read_bytes() == header and not (vault.path / "scrim.rekey").exists()
    rekey(vault, "--yes")
    kinds = [slot["kind"] for slot in json.loads(scrim("key", "list", vault.path, "--json").stdout)]
    assert kinds == ["passphrase", "recovery key"]
    fails(WRONG_SECRET, "ls", vault.path, "--key-file", key)
    # The key file may also be what stays.
    scrim("key", "add", vault.path, "--new-key-file", key, "--label", "a file", *secret)
    scrim("convert", "--rekey", vault.path, "--yes", "--key-file", key)
    slots = json.loads(scrim("key", "list", vault.path, "--json").stdout)
    assert [(s["kind"], s["label"]) for s in slots] == [("key file", "a file"), ("recovery key", "")]
    assert scrim("ls", vault.path, "--key-file", key).returncode == OK
    fails(WRONG_SECRET, "ls", vault.path, *secret)


def test_what_cannot_be_rekeyed_is_named(vault, mount, workspace):
    secret = ("--passphrase-file", vault.passphrase_file)
    fails(MOUNT_POINT, "convert", "--rekey", mount.point, *secret)
    fails(LOCKED, "convert", "--rekey", vault.path, *secret)
    mount.stop()
    wrong = workspace.path / "wrong"
    wrong.write_text("wrong")
    fails(WRONG_SECRET, "convert", "--rekey", vault.path, "--passphrase-file", wrong)
    fails(NOT_EMPTY, "convert", "--rekey", vault.path, *secret, "--recovery-file", wrong)
    for words in (["--rekey", "--content", "plain"], [], ["--rekey", "--json"], ["--content", "plain", "--yes"], ["--rekey", "--wait"]):
        fails(USAGE, "convert", vault.path, *words, *secret)
    assert sorted(p.name for p in vault.path.iterdir()) == ["scrim.lock", "scrim.session", "scrim.vault", "tree"]


def test_damage_stops_it_before_the_end_and_a_repair_helps(vault, workspace):
    secret = ("--passphrase-file", vault.passphrase_file)
    source = workspace.path / "source"
    source.mkdir()
    for i in range(20):
        (source / f"{i}").write_bytes(os.urandom(20_000 + 8192 * i))
    scrim("migrate", source, vault.path, *secret)
    with open(vault.backing_files()[0], "r+b") as file:
        file.seek(8192)
        file.write(b"damage")
    result = rekey(vault, check=False)
    assert result.returncode == DAMAGED and b"damaged: source/19: " in result.stdout and b"recovery key" not in result.stdout
    fails(REKEYING, "ls", vault.path, *secret)
    assert scrim("check", vault.path, "--deep", "--repair", *secret, check=False).returncode in (DAMAGED, 22)
    scrim("check", vault.path, "--deep", "--repair", *secret, check=False)
    rekey(vault)
    names = vault.ls("/source").stdout.split()
    assert len([n for n in names if n.isdigit()]) == 19
    for name in names:
        if name != b"19" and name.isdigit():
            assert vault.cat(b"/source/" + name).stdout == (source / name.decode()).read_bytes()


def test_an_interrupt_ends_it_and_it_goes_on(vault, workspace):
    source, secret = workspace.path / "source", ("--passphrase-file", vault.passphrase_file)
    source.mkdir()
    for i in range(5):
        (source / f"{i}").write_bytes(os.urandom(1 << 20) * 40)
    scrim("migrate", f"{source}/", vault.path, *secret)
    process = subprocess.Popen([SCRIM, "convert", "--rekey", vault.path, *secret], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(lambda: (vault.path / "scrim.rekey").exists() or process.poll() is not None, "the change to begin")
    process.send_signal(signal.SIGINT)
    text, errors = process.communicate(timeout=60)
    if process.returncode != OK:
        assert process.returncode == SYSTEM and b"interrupted" in errors and b"recovery key" not in text
        rekey(vault)
    compare_with_mount(vault.path, PASSPHRASE, source)


def test_a_full_disk_stops_it_and_it_goes_on_with_more_space(workspace):
    with small_disk(workspace, "7m") as disk:
        source = workspace.path / "source"
        random_files(source, 3, 2_000_000)
        small = workspace.vault(name="disk/vault")
        scrim("migrate", source, small.path, "--passphrase-file", small.passphrase_file)
        result = rekey(small, check=False)
        assert result.returncode == SYSTEM and b"No space left" in result.stderr, result
        for i in range(3):
            out = workspace.path / f"out {i}"
            scrim("export", small.path, "/source", out, "--passphrase-file", small.passphrase_file)
            trees.assert_same(source, out)
        # The space of one more file is enough.
        run("mount", "-o", "remount,size=10m", disk)
        rekey(small)
        for i in range(3):
            assert small.cat(f"/source/{i}").stdout == (source / f"{i}").read_bytes()


def test_a_special_file_with_several_names_stays_one_if_it_is_killed_between_them(vault, workspace):
    source, secret = workspace.path / "source", ("--passphrase-file", vault.passphrase_file)
    for i in range(10):
        folder = source / f"{i}"
        folder.mkdir(parents=True)
        for j in range(40):
            os.symlink(f"target {j}", folder / f"link {j}")
        if i:
            os.link(source / "0/fifo", folder / "fifo")
        else:
            os.mkfifo(folder / "fifo", 0o640)
    # What has attributes under the old key is made anew; what has none changes its place.
    os.setxattr(source / "0/fifo", "trusted.note", b"sealed")
    scrim("migrate", f"{source}/", vault.path, *secret)
    # By then the first 128 entries have left the old vault, and of the fourth directory about ten are there.
    kill = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=symlinkat", "-e", "inject=symlinkat:signal=KILL:when=130"]
    assert run(*kill, SCRIM, "convert", "--rekey", vault.path, *secret, check=False).returncode != OK
    assert (vault.path / "scrim.rekey").exists()
    rekey(vault)
    compare_with_mount(vault.path, PASSPHRASE, source)
    with vault.mount() as mount:
        trees.assert_same(source, mount.point)
        assert (mount / "0/fifo").stat().st_nlink == 10


def test_an_ordinary_user_rekeys_what_he_has_made_read_only(workspace, unprivileged):
    home = workspace.path / "home"
    home.mkdir()
    os.chown(home, unprivileged, unprivileged)
    vault = workspace.vault(name="home/vault", user=unprivileged)
    before = home / "before"
    (before / "closed" / "inner").mkdir(parents=True)
    for path in (before / "closed" / "file", before / "closed" / "inner" / "file", before / "hidden"):
        path.write_bytes(b"content" * 1000)
    run("chown", "-R", f"{unprivileged}:{unprivileged}", before)
    os.chmod(before / "closed" / "file", 0o400)
    os.chmod(before / "hidden", 0)
    os.chmod(before / "closed" / "inner", 0o500)
    os.chmod(before / "closed", 0o555)
    # Root reads the file that its owner may not.
    scrim("migrate", f"{before}/", vault.path, "--passphrase-file", vault.passphrase_file)
    run("chown", "-R", f"{unprivileged}:{unprivileged}", vault.path)
    scrim("convert", "--rekey", vault.path, "--passphrase-file", vault.passphrase_file, user=unprivileged)
    compare_with_mount(vault.path, PASSPHRASE, before)
    # What root rekeys stays the user's.
    scrim("convert", "--rekey", vault.path, "--passphrase-file", vault.passphrase_file)
    assert scrim("ls", vault.path, "--passphrase-file", vault.passphrase_file, user=unprivileged).returncode == OK
    assert scrim("check", vault.path, "--repair", "--passphrase-file", vault.passphrase_file, user=unprivileged).returncode == OK
