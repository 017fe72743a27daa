"""`scrim mark` with rules, and `scrim convert`: existing files change their mode while they are in use, and nothing is lost."""

import errno
import json
import mmap
import os
import random
import signal
import sqlite3
import subprocess
import time

import harness
import pytest
import trees
from harness import NOT_FOUND, OK, SCRIM, USAGE, alive, fails, run, scrim, seeded, wait_for

INCOMPLETE = 23
ROUNDS = int(os.environ.get("SCRIM_ROUNDS", 1))
MODES = ("plain", "sealed", "compressed", "sealed-compressed")
pytestmark = pytest.mark.limit(300)


def mode(path):
    return os.getxattr(path, "user.scrim.mode", follow_symlinks=False).decode()


def convert(path, policy, *options, check=True, user=None):
    return scrim("convert", path, "--content", policy, *options, check=check, user=user)


def busy(path, policy="sealed-compressed"):
    """Converting is refused because somebody writes; returns what was printed."""
    result = convert(path, policy, check=False)
    assert result.returncode == INCOMPLETE, result
    assert result.stdout.startswith(b"busy: "), result
    return result.stdout.decode()


def assert_clean(vault):
    """Nothing is left of former versions, and everything verifies."""
    assert run("find", vault.tree, "-name", ".scrim-new.*").stdout == b""
    assert scrim("check", vault.path, "--deep", "--passphrase-file", vault.passphrase_file).returncode == OK


def plain_backing_files(vault):
    return [p for p in vault.backing_files() if p.name.endswith(".p")]


# Rules


def test_rules_decide_at_creation_and_are_inherited(mount):
    folder = mount / "d"
    folder.mkdir()
    scrim("mark", folder, "--rule", "*.mp4=plain", "--rule", "*.log=sealed-compressed")
    (folder / "inner").mkdir()
    for place in (folder, folder / "inner"):
        for name in ("a.mp4", "a.log", "a"):
            (place / name).write_bytes(b"content")
        assert [mode(place / n) for n in ("a.mp4", "a.log", "a")] == ["plain", "sealed-compressed", "sealed"]
    # A rename keeps the mode, whatever rule the new name has.
    (folder / "a.mp4").rename(folder / "b.log")
    (folder / "a").rename(folder / "b.mp4")
    assert (mode(folder / "b.log"), mode(folder / "b.mp4")) == ("plain", "sealed")
    assert (folder / "b.log").read_bytes() == b"content"


def rules(path, *options):
    found = json.loads(scrim("mark", path, "--show", "--json", *options).stdout)
    return {r["path"]: [f"{x['pattern']}={x['policy']}" for x in r["rules"]] for r in found}


def test_rules_are_changed_removed_and_shown(mount):
    folder = mount / "d"
    (folder / "inner").mkdir(parents=True)
    top, inner = str(folder), str(folder / "inner")
    scrim("mark", folder, "--recursive", "--rule", "*.a=plain", "--rule", "*.b=plain", "--content", "compressed")
    scrim("mark", folder, "--rule", "*.a=sealed", "--rule", "=*=compressed")
    assert rules(folder, "--recursive") == {top: ["*.a=sealed", "*.b=plain", "=*=compressed"], inner: ["*.a=plain", "*.b=plain"]}
    assert b"content  compressed\n" in scrim("mark", inner, "--show").stdout
    scrim("mark", folder, "--remove-rule", "*.b", "--recursive")
    assert rules(folder, "--recursive") == {top: ["*.a=sealed", "=*=compressed"], inner: ["*.a=plain"]}
    fails(NOT_FOUND, "mark", folder, "--remove-rule", "*.b")
    scrim("mark", folder, "--clear-rules", "--rule", "x=plain")
    assert rules(folder) == {top: ["x=plain"]}
    scrim("mark", folder, "--clear-rules")
    assert rules(folder) == {top: []}
    for wrong in ("*.a", "*.a=open", "=plain", f"{'x' * 256}=plain"):
        fails(USAGE, "mark", folder, "--rule", wrong)
    many = [word for i in range(33) for word in ("--rule", f"{i}=plain")]
    assert "at most 32 rules" in fails(USAGE, "mark", folder, *many)


def test_a_file_is_marked_at_once_if_it_is_empty(mount):
    (mount / "empty").touch()
    (mount / "full").write_bytes(b"content")
    scrim("mark", mount / "empty", "--content", "plain")
    assert mode(mount / "empty") == "plain"
    assert "--convert" in fails(USAGE, "mark", mount / "full", "--content", "plain")
    assert mode(mount / "full") == "sealed"
    scrim("mark", mount / "full", "--content", "plain", "--convert")
    assert mode(mount / "full") == "plain" and (mount / "full").read_bytes() == b"content"
    assert scrim("mark", mount / "full", "--show").stdout == b"content  plain\n"
    fails(USAGE, "mark", mount / "full", "--rule", "*=plain")


# Conversion


@pytest.mark.parametrize(
    "live,names", [(True, "sealed"), (True, "plain"), (False, "sealed")], ids=["mounted", "mounted-plain-names", "unmounted"]
)
def test_a_converted_tree_is_the_same(workspace, live, names):
    vault = workspace.vault("--names", names)
    before = workspace.path / "before"
    trees.build(before, seeded("convert"), files=360)
    # Files with several names stay as they are; their own test is below.
    run("find", before, "-type", "f", "-links", "+1", "-delete")
    for name in ("listed", "set-user-ID"):
        (before / name).write_bytes(b"content" * 1000)
    run("setfacl", "-m", "u:12345:rw", before / "listed")
    run("setfacl", "-d", "-m", "u:12346:rwx", before / "attributes")
    (before / "attributes" / "below").write_bytes(b"made under a default list")
    run("setfacl", "-b", before / "attributes" / "below")
    os.chmod(before / "set-user-ID", 0o4711)
    with vault.mount() as mount:
        trees.copy(before, mount.point)
        if live:
            for policy in ("plain", "compressed", "sealed"):
                convert(mount.point, policy, "--recursive")
                trees.assert_same(before, mount.point)
                assert mode(mount / "listed") == policy
    if not live:
        for policy in ("plain", "sealed-compressed", "sealed"):
            convert(vault.path, policy, "--recursive", "--passphrase-file", vault.passphrase_file)
            with vault.mount() as mount:
                trees.assert_same(before, mount.point)
                assert mode(mount / "listed") == policy
    assert not plain_backing_files(vault)
    assert_clean(vault)


def test_rules_convert_what_is_there(mount):
    folder = mount / "d"
    folder.mkdir()
    for name in ("a.mp4", "a.txt"):
        (folder / name).write_bytes(name.encode())
    scrim("mark", folder, "--rule", "*.mp4=plain", "--content", "sealed-compressed", "--convert")
    assert (mode(folder / "a.mp4"), mode(folder / "a.txt")) == ("plain", "sealed-compressed")
    again = scrim("convert", folder, "--content", "rules", "--recursive", "--json").stdout.splitlines()
    assert json.loads(again[-1])["counts"] == {"present": 2}


def test_plain_link_targets_are_sealed(vault):
    with vault.mount() as mount:
        folder = mount / "d"
        folder.mkdir()
        scrim("mark", folder, "--content", "plain")
        (folder / "link").symlink_to("a target in clear")
        scrim("mark", folder, "--content", "sealed", "--convert")
        assert os.readlink(folder / "link") == "a target in clear"
    links = [os.readlink(p) for p in vault.tree.rglob("*") if p.is_symlink()]
    assert links and not any("clear" in target for target in links)


def test_who_reads_keeps_what_he_has_and_the_name_leads_to_the_new(mount):
    for start, policy in (("sealed", "plain"), ("plain", "sealed")):
        path = mount / f"from {start}"
        path.touch()
        scrim("mark", path, "--content", start)
        path.write_bytes(b"x" * 300_000)
        with open(path, "rb") as reader, mmap.mmap(reader.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            reader.read(1000)
            convert(path, policy)
            assert mode(path) == policy
            path.write_bytes(b"new")
            assert reader.read() == b"x" * 299_000 and mapped[200_000:] == b"x" * 100_000
            assert os.fstat(reader.fileno()).st_nlink == 0
        assert path.read_bytes() == b"new"


def test_who_writes_is_left_alone(mount):
    path = mount / "file"
    path.write_bytes(b"x" * 100_000)
    with open(path, "r+b") as writer:
        assert "open for writing" in busy(path)
        with mmap.mmap(writer.fileno(), 0) as mapped:
            writer.close()
            assert "open for writing" in busy(path)
            mapped[5] = 65
    wait_for(lambda: convert(path, "sealed-compressed", check=False).returncode == OK, "the last writer to be gone")
    assert mode(path) == "sealed-compressed" and path.read_bytes()[5] == 65
    # An empty file that is open may be a lock; a file that is made and not closed has a writer.
    lock = mount / "lock"
    lock.touch()
    with open(lock, "rb"):
        assert "lock" in busy(lock)
    with open(mount / "new", "wb"):
        busy(mount / "new")


def test_waiting_converts_when_the_writer_is_gone(mount):
    path = mount / "file"
    path.write_bytes(b"first ")
    with open(path, "ab", 0) as writer:
        process = subprocess.Popen([SCRIM, "convert", path, "--content", "plain", "--wait"], close_fds=True)
        writer.write(b"second")
        assert mode(path) == "sealed" and process.poll() is None
    assert process.wait(timeout=60) == OK
    assert mode(path) == "plain" and path.read_bytes() == b"first second"


def test_changes_during_the_copy_are_never_lost(mount):
    """Whatever is done to a file meanwhile, its last state is that of the file afterwards."""
    path = mount / "large"
    path.write_bytes(b"")
    rng = seeded("changes during the copy")
    expected = bytearray(rng.randbytes(24 << 20))
    path.write_bytes(expected)
    for i, policy in enumerate(("plain", "sealed", "compressed", "plain", "sealed") * 2):
        process = subprocess.Popen([SCRIM, "convert", path, "--content", policy], stdout=subprocess.DEVNULL)
        while process.poll() is None:
            at, data = rng.randrange(len(expected) - 10), rng.randbytes(10)
            with open(path, "r+b", 0) as writer:
                writer.seek(at)
                writer.write(data)
            expected[at : at + 10] = data
            os.chmod(path, 0o600 + i)
            time.sleep(rng.random() * 0.1)
        assert path.read_bytes() == expected
        assert path.stat().st_mode & 0o777 == 0o600 + i
    convert(path, "sealed-compressed")
    assert path.read_bytes() == expected and path.stat().st_mode & 0o777 == 0o600 + i


def test_files_with_several_names_are_refused_with_the_reason(mount):
    (mount / "one").write_bytes(b"content")
    os.link(mount / "one", mount / "two")
    result = convert(mount / "one", "plain", check=False)
    assert result.returncode == INCOMPLETE and b"2 names" in result.stdout, result
    assert mode(mount / "one") == "sealed" and os.path.samefile(mount / "one", mount / "two")


def test_only_the_owner_converts(workspace, unprivileged):
    vault = workspace.vault()
    with vault.mount("allow_other") as mount:
        (mount / "shared").mkdir()
        os.chmod(mount / "shared", 0o777)
        for name, owner in (("mine", unprivileged), ("yours", 0)):
            (mount / "shared" / name).write_bytes(b"content")
            os.chown(mount / "shared" / name, owner, owner)
        result = scrim("convert", mount / "shared", "--content", "plain", "--recursive", user=unprivileged, check=False)
        assert result.returncode == INCOMPLETE and b"yours: " in result.stdout, result
        assert (mode(mount / "shared/mine"), mode(mount / "shared/yours")) == ("plain", "sealed")
        assert (mount / "shared/mine").stat().st_uid == unprivileged


def test_discarded_blocks_are_overwritten(workspace):
    vault = workspace.vault()
    with vault.mount() as mount:
        path = mount / "file"
        path.touch()
        scrim("mark", path, "--content", "plain")
        path.write_bytes(b"secret " * 10_000)
        (backing,) = plain_backing_files(vault)
        with open(backing, "rb") as old:
            convert(path, "sealed", "--discard")
            assert not backing.exists()
            assert b"secret" not in old.read()
        # Who still reads is not robbed of it, and that is said.
        with open(path, "rb") as reader:
            result = convert(path, "plain", "--discard", check=False)
            assert result.returncode == INCOMPLETE and b"not overwritten" in result.stdout
            assert reader.read() == b"secret " * 10_000


def test_what_cannot_be_converted_is_named(vault, mount, workspace):
    (mount / "d").mkdir()
    assert "--recursive" in fails(USAGE, "convert", mount / "d", "--content", "plain")
    fails(NOT_FOUND, "convert", mount / "nothing", "--content", "plain")
    fails(USAGE, "convert", mount / "d", "--content", "open")
    assert fails(11, "convert", workspace.path, "--content", "plain")
    fails(12, "convert", vault.path, "--content", "plain", "--recursive", "--passphrase-file", vault.passphrase_file)


# In use


def test_git_sqlite_and_tail_go_on_while_their_files_are_converted(vault, mount):
    home = mount / "home"
    home.mkdir()
    git = ["git", "-C", home / "repository", "-c", "user.name=n", "-c", "user.email=e@e", "-c", "gc.auto=0"]
    run("git", "init", "-q", home / "repository")
    database = sqlite3.connect(home / "db", isolation_level=None)
    database.execute("create table t(i integer primary key, v blob)")
    log = open(home / "log", "ab", 0)
    tail = subprocess.Popen(["tail", "-n", "+1", "-f", home / "log"], stdout=subprocess.PIPE)
    rng, policies = seeded("in use"), ("plain", "sealed-compressed", "sealed", "rules")
    rows, lines, converted = {}, b"", 0
    try:
        for i in range(16):
            command = [SCRIM, "convert", home, "--content", policies[i % 4], "--recursive", "--json"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE)
            rows[i] = rng.randbytes(9000)
            database.execute("insert into t values (?, ?)", (i, rows[i]))
            (home / "repository" / f"file {i}").write_bytes(rng.randbytes(20_000))
            run(*git, "add", "-A")
            run(*git, "commit", "-qm", f"{i}")
            line = b"line %d\n" % i
            log.write(line)
            lines += line
            reader = sqlite3.connect(home / "db")
            assert dict(reader.execute("select i, v from t")) == rows
            reader.close()
            output = process.communicate(timeout=120)[0]
            # What is in use or was gone before its turn is reported, nothing else.
            assert process.returncode in (OK, INCOMPLETE), output
            converted += json.loads(output.splitlines()[-1])["counts"].get("converted", 0)
    finally:
        log.close()
        received = b""
        while len(received) < len(lines):
            received += os.read(tail.stdout.fileno(), 65536)
        tail.kill()
        tail.wait()
        database.close()
    assert received == lines and converted > 100
    run(*git, "fsck", "--strict")
    assert len(run(*git, "log", "--oneline").stdout.splitlines()) == 16
    convert(home, "plain", "--recursive", "--wait")
    assert run(*git, "status", "--porcelain").stdout == b""
    mount.remount()
    run(*git, "fsck", "--strict")
    database = sqlite3.connect(home / "db")
    assert dict(database.execute("select i, v from t")) == rows
    assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
    database.close()
    mount.stop()
    assert_clean(vault)


@pytest.mark.parametrize("options", [(), ("writeback",)], ids=["", "writeback"])
def test_times_that_the_kernel_keeps_are_not_lost(vault, options):
    rng, expected = seeded("convert times"), {}
    with vault.mount(*options) as mount:
        for i in range(60):
            path = mount / f"{i}"
            path.write_bytes(rng.randbytes(rng.choice((10, 5000, 300_000))))
            if i % 3:
                # The kernel may have the change, and the mount not know of it yet.
                with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
                    mapping[5] ^= 1
            if i % 4 == 3:
                os.utime(path, ns=(10**18 + i, 10**18 + i))
            expected[path.name] = (path.stat().st_mtime_ns, path.read_bytes())
            convert(path, MODES[i % 4], "--wait")
            assert (path.stat().st_mtime_ns, path.read_bytes()) == expected[path.name]
    with vault.mount() as mount:
        assert {n: ((mount / n).stat().st_mtime_ns, (mount / n).read_bytes()) for n in expected} == expected


def test_an_old_descriptor_reads_and_says_that_it_is_stale(mount):
    path = mount / "file"
    path.write_bytes(b"content")
    with open(path, "rb") as file:
        convert(path, "compressed")
        for change in (lambda: os.fchmod(file.fileno(), 0o600), lambda: os.utime(file.fileno(), (1, 1)),
                       lambda: os.setxattr(file.fileno(), "user.a", b"b"), lambda: os.fchown(file.fileno(), 1, 1)):
            with pytest.raises(OSError) as error:
                change()
            assert error.value.errno == errno.ESTALE
        assert file.read() == b"content"
    os.chmod(path, 0o600)
    assert path.stat().st_mode & 0o777 == 0o600 and mode(path) == "compressed"


def test_a_user_converts_what_he_has_made_read_only(workspace, unprivileged):
    home = workspace.path / "home"
    home.mkdir()
    os.chown(home, unprivileged, unprivileged)
    vault = workspace.vault(name="home/vault", user=unprivileged)
    source = home / "source"
    source.mkdir()
    for i in range(8):
        (source / f"{i}").write_bytes(b"%d" % i * 3000)
        os.chmod(source / f"{i}", 0o400)
    run("chown", "-R", f"{unprivileged}:{unprivileged}", source)
    secret = ("--passphrase-file", vault.passphrase_file)
    scrim("migrate", source, vault.path, *secret, user=unprivileged)
    for policy in ("compressed", "sealed", "plain", "sealed-compressed", "sealed"):
        convert(vault.path, policy, "--recursive", *secret, user=unprivileged)
    scrim("export", vault.path, "/source", home / "out", *secret, user=unprivileged)
    trees.assert_same(source, home / "out")


def hashes(root):
    return {p.name: hash(p.read_bytes()) for p in root.iterdir()}


@pytest.mark.limit(240 + 60 * ROUNDS)
@pytest.mark.parametrize("live", [True, False], ids=["mounted", "unmounted"])
def test_killed_at_any_moment_every_file_is_old_or_new(vault, live):
    rng = seeded(f"convert kill {live}")
    with vault.mount() as mount:
        folder = mount / "d"
        folder.mkdir()
        for i in range(60):
            (folder / f"{i}").write_bytes(rng.randbytes(rng.choice((0, 100, 5000, 200_000))))
        (folder / "large").write_bytes(rng.randbytes(8 << 20))
        expected = hashes(folder)
        if not live:
            mount.stop()
        secret = ("--passphrase-file", vault.passphrase_file)
        for policy in ("plain", "compressed", "sealed") * ROUNDS:
            place = folder if live else f"{vault.path}:d"
            command = [SCRIM, "convert", place, "--content", policy, "--recursive", *([] if live else secret)]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(rng.uniform(0.01, 0.5))
            if live:
                mount.kill()
                process.wait(timeout=60)
                mount.force_down()
                mount.start()
            else:
                process.send_signal(signal.SIGKILL)
                process.wait()
                mount.start()
            assert hashes(folder) == expected
            harness.count("kills survived")
            if not live:
                mount.stop()
            scrim(*command[1:])
            if not live:
                mount.start()
            assert hashes(folder) == expected
            assert {mode(p) for p in folder.iterdir()} == {policy}
            if not live:
                mount.stop()
        if live:
            mount.stop()
    assert not plain_backing_files(vault)
    assert_clean(vault)


def test_an_interrupt_ends_it_within_a_large_file(mount):
    path = mount / "large"
    data = random.Random(1).randbytes(1 << 20)
    with open(path, "wb") as f:
        for _ in range(400):
            f.write(data)
    command = [SCRIM, "convert", path, "--content", "plain"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=60)[1]
    if process.returncode != OK:
        assert b"interrupted" in errors
        assert mode(path) == "sealed"
    assert path.read_bytes() == data * 400
    assert alive(mount.pid)
