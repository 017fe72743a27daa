"""Ways to mount: a part of a vault, other owners, started by root, under systemd; and mounts that fail."""

import json
import os
import pwd
import shutil
import socket
import stat
import subprocess
from pathlib import Path

import harness
import pytest
from harness import SCRIM, alive, fails, mounted_at, run, scrim, wait_for
from harness import BUSY, DAMAGED, MOUNT_POINT, NOT_A_VAULT, NOT_FOUND, NOT_MOUNTED, SYSTEM, USAGE, WRONG_SECRET


def test_a_part_of_a_vault_is_mounted(workspace):
    vault = workspace.vault()
    with vault.mount() as mount:
        (mount / "a" / "b").mkdir(parents=True)
        (mount / "a" / "b" / "file").write_text("words")
        (mount / "a" / "secret").write_text("not to be seen")
        inner = os.stat(mount / "a" / "b").st_ino
    with vault.mount("subdir=/a/b") as mount:
        assert os.listdir(mount.point) == ["file"] and (mount / "file").read_text() == "words"
        assert os.stat(mount.point).st_ino == inner
        assert os.stat(mount / "..").st_ino == os.stat(mount.point.parent).st_ino
        (mount / "new").mkdir()
        (mount / "new" / "file").write_text("more")
        os.rename(mount / "new" / "file", mount / "file2")
        # Between names and backing files both ways, though the mount's root is not the vault's.
        [backing] = scrim("path", mount / "file2").stdout.splitlines()
        assert scrim("path", "--reverse", backing).stdout.rstrip(b"\n") == os.fsencode(mount / "file2")
    assert vault.cat("a/b/file2").stdout == b"more"
    assert vault.ls("a").stdout.split() == [b"b", b"secret"]


def test_a_part_that_cannot_be_mounted_is_told_and_leaves_nothing(workspace):
    vault = workspace.vault()
    with vault.mount() as mount:
        (mount / "a" / "b").mkdir(parents=True)
        (mount / "file").write_text("words")
        record = Path(os.fsdecode(scrim("path", mount / "a").stdout.rstrip(b"\n"))) / ".scrim-dir"
    secret = ["--passphrase-file", vault.passphrase_file]
    assert "/missing" in fails(NOT_FOUND, "mount", vault.path, mount.point, *secret, "-o", "subdir=/missing")
    assert "not a directory" in fails(NOT_FOUND, "mount", vault.path, mount.point, *secret, "-o", "subdir=file")
    assert not mounted_at(mount.point)
    # The way down is authenticated, not only the end of it.
    content = bytearray(record.read_bytes())
    content[60] ^= 1
    record.write_bytes(content)
    os.removexattr(record.parent, "user.scrim.dir") if "user.scrim.dir" in os.listxattr(record.parent) else None
    fails(DAMAGED, "mount", vault.path, mount.point, *secret, "-o", "subdir=a/b")
    assert not mounted_at(mount.point)


def test_owners_are_shown_as_asked_and_stored_as_they_were(workspace):
    vault = workspace.vault()
    with vault.mount() as mount:
        (mount / "folder").mkdir()
        (mount / "folder" / "file").write_text("words")
        os.chown(mount / "folder", 1234, 1235)
    with vault.mount("uid=4321", "gid=4322") as mount:
        (mount / "folder" / "new").write_text("x")
        for path in (mount.point, mount / "folder", mount / "folder" / "file", mount / "folder" / "new"):
            shown = os.stat(path)
            assert (shown.st_uid, shown.st_gid) == (4321, 4322), path
        os.chmod(mount / "folder" / "new", 0o4755)
        os.chown(mount / "folder" / "new", 4321, 4322)
        assert os.stat(mount / "folder" / "new").st_mode & stat.S_ISUID == 0, "chown takes set-user-ID off"
        with pytest.raises(PermissionError):
            os.chown(mount / "folder" / "new", 1, 1)
    with vault.mount() as mount:
        assert os.stat(mount / "folder").st_uid == 1234
        # As the directory's, whom nobody sees through such a mount.
        new = os.stat(mount / "folder" / "new")
        assert (new.st_uid, new.st_gid) == (1234, 1235)
    assert "no such user" in fails(USAGE, "mount", vault.path, mount.point, "-o", "uid=nobody-of-this-name")


def identity(pid):
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    return {name: lines[name] for name in ("Uid", "Gid", "Groups", "CapPrm", "CapEff")}


@pytest.fixture
def owner():
    """A user with a name who is not the broker's nobody."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    entry = pwd.getpwnam("daemon")
    assert entry.pw_uid == entry.pw_gid, "the tests take one number for both"
    return entry.pw_uid


@pytest.fixture
def foreign(workspace, owner):
    """A vault of an ordinary user in a folder of theirs, to be mounted by root."""
    home = workspace.path / "home"
    home.mkdir()
    vault = harness.Vault(home, user=owner)
    workspace.vaults.append(vault)
    vault.user = None
    return vault


def as_user(user, script, *arguments, check=True):
    return run("sh", "-ec", script, "sh", *arguments, user=user, group=user, extra_groups=[], cwd="/", check=check)


def test_a_mount_by_root_is_served_by_the_vaults_owner(foreign, owner):
    """No capability is left to the process with the keys, and plain files have passthrough all the same."""
    (foreign.folder / "mnt").mkdir()
    secret, log = foreign.passphrase_file, foreign.folder / "root's log"
    os.chown(secret, 0, 0)
    secret.chmod(0o600)
    command = ["mount", foreign.path, foreign.folder / "mnt", "--passphrase-file", secret, "--log-file", log]
    told = scrim(*command).stderr.decode()
    point = foreign.folder / "mnt"
    try:
        assert "may enter" in told
        with pytest.raises(PermissionError):
            os.listdir(point)
        status = json.loads(scrim("status", point, "--json", user=owner).stdout)
        who = identity(status["pid"])
        assert set(who["Uid"].split()) == set(who["Gid"].split()) == {str(owner)}
        assert int(who["CapPrm"], 16) == int(who["CapEff"], 16) == 0
        assert log.stat().st_uid == 0, "the log is root's"
        as_user(owner, "mkdir $1/plain", point)
        scrim("mark", point / "plain", "--content", "plain", user=owner)
        as_user(owner, "head -c 300000 /dev/urandom >$1/plain/file; cat $1/plain/file >/dev/null; echo hi >$1/sealed", point)
        status = json.loads(scrim("status", point, "--json", user=owner).stdout)
        assert status["passthrough"]["state"] == "kernel", status["passthrough"]
        assert status["plain"]["userspaceReads"] == status["plain"]["userspaceWrites"] == 0
    finally:
        # The daemon takes the mount down by itself, although root mounted it.
        if "status" in locals():
            os.kill(status["pid"], 15)
            wait_for(lambda: not alive(status["pid"]), "the daemon to end")
    assert not mounted_at(point)
    for folder, names, files in os.walk(foreign.path):
        for name in names + files:
            assert os.lstat(os.path.join(folder, name)).st_uid == owner, name
    with pytest.raises(AssertionError):
        # Root's file of the secret is not the daemon's to read later.
        as_user(owner, "cat $1", secret)


def test_root_asks_unmounts_and_locks_what_it_may_not_enter(foreign, owner):
    point = foreign.folder / "mnt"
    point.mkdir()
    for end in ("umount", "lock"):
        scrim("mount", foreign.path, point, "--passphrase-file", foreign.passphrase_file)
        as_user(owner, "echo $2 >$1/$2", point, end)
        status = json.loads(scrim("status", point, "--json").stdout)
        assert set(identity(status["pid"])["Uid"].split()) == {str(owner)}
        scrim(end, point)
        # Everything is on the disk by now, and the keys are gone with the daemon.
        assert not mounted_at(point) and not alive(status["pid"])
        assert foreign.cat(end).stdout == end.encode() + b"\n"


def test_root_enters_a_mount_of_its_own_where_it_says_so(foreign, owner):
    mount = foreign.mount("allow_root")
    (mount / "file").write_text("by root")
    assert os.stat(mount / "file").st_uid == owner, "root's files are the owner's"
    assert as_user(owner, "cat $1/file", mount.point).stdout == b"by root"
    assert set(identity(mount.pid)["Uid"].split()) == {str(owner)}
    mount.stop()
    for option in ("allow_other", "keep_root"):
        mount = foreign.mount(option)
        assert identity(mount.pid)["Uid"].split()[0] == "0", option
        (mount / option).write_text("by root")
        assert os.stat(mount / option).st_uid == 0, option
        mount.stop()


def test_a_mount_point_out_of_the_owners_reach_is_refused(foreign):
    """The owner alone could use the mount, and could not get there."""
    hidden = foreign.folder / "hidden"
    (hidden / "mnt").mkdir(parents=True)
    hidden.chmod(0o700)
    secret = ["--passphrase-file", foreign.passphrase_file]
    assert "keep_root" in fails(harness.MOUNT_FAILED, "mount", foreign.path, hidden / "mnt", *secret)
    assert not mounted_at(hidden / "mnt")
    scrim("mount", foreign.path, hidden / "mnt", *secret, "-o", "keep_root")
    scrim("umount", hidden / "mnt")


def test_a_mount_that_fails_leaves_nothing_behind(vault, workspace):
    point, full = workspace.path / "mnt", workspace.path / "full"
    point.mkdir()
    full.mkdir()
    (full / "file").write_text("mine")
    wrong = workspace.path / "wrong"
    wrong.write_text("wrong")
    before = {path: path.read_bytes() for path in vault.path.iterdir() if path.is_file()}
    secret = ["--passphrase-file", vault.passphrase_file]
    fails(WRONG_SECRET, "mount", vault.path, point, "--passphrase-file", wrong)
    fails(MOUNT_POINT, "mount", vault.path, full, *secret)
    fails(MOUNT_POINT, "mount", vault.path, workspace.path / "missing", *secret)
    fails(USAGE, "mount", vault.path, point, *secret, "-o", "nonsense")
    fails(SYSTEM, "mount", vault.path, point, *secret, "--log-file", workspace.path / "no" / "log")
    assert not mounted_at(point) and not mounted_at(full) and os.listdir(full) == ["file"]
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes()
        except OSError:
            continue
        assert b"daemon-channel" not in command or os.fsencode(vault.path) not in command, command
    after = {path: path.read_bytes() for path in vault.path.iterdir() if path.is_file()}
    assert set(after) - set(before) <= {vault.path / "scrim.lock"}
    assert all(after[path] == before[path] for path in before if path.name == "scrim.vault")
    vault.mount().stop()


def test_a_vault_is_mounted_in_a_container_of_an_ordinary_user(workspace, unprivileged):
    """Its root mounts by itself, without fusermount3, and has no privilege outside."""
    vault = workspace.vault(user=unprivileged)
    steps = ['mkdir "$2"', '"$0" mount "$1" "$2" --passphrase-file "$3"', 'echo words >"$2/file"', 'setfacl -m u:0:rw "$2/file"',
             'cat "$2/file"', '"$0" umount "$2"']
    inside = "; ".join(steps)
    container = ["unshare", "--user", "--mount", "--map-root-user", "sh", "-ec", inside]
    program = harness.program_for(unprivileged)
    arguments = [program, vault.path, workspace.path / "inside", vault.passphrase_file]
    result = run(*container, *arguments, user=unprivileged, group=unprivileged, extra_groups=[], cwd="/", check=False)
    if b"Operation not permitted" in result.stderr:
        pytest.skip(f"no user namespaces here: {result.stderr.decode()}")
    assert (result.returncode, result.stdout) == (0, b"words\n"), result.stderr
    assert os.stat(vault.backing_files()[0]).st_uid == unprivileged
    assert vault.cat("file").stdout == b"words\n"


def test_no_process_of_the_same_user_looks_into_one_that_has_secrets(workspace, unprivileged):
    vault = workspace.vault(user=unprivileged)

    def is_closed(pid):
        look = "cat /proc/$1/maps >/dev/null 2>&1 || cat /proc/$1/environ >/dev/null 2>&1 || echo closed"
        return as_user(unprivileged, look, str(pid)).stdout == b"closed\n"

    mount = vault.mount()
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{mount.pid}/status").read_text().splitlines() if ":\t" in line)
    assert int(lines["VmLck"].split()[0]) > 0, "no memory is locked"
    assert is_closed(mount.pid)
    mount.stop()
    # A command that waits for the passphrase it is about to get, and one that does not deal in secrets to compare with.
    options = {"cwd": "/", "user": unprivileged, "group": unprivileged, "extra_groups": []}
    command = [harness.program_for(unprivileged), "key", "test", vault.path, "--passphrase-fd", "0"]
    waiting = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)
    other = subprocess.Popen(["sleep", "60"], **options)
    try:
        wait_for(lambda: is_closed(waiting.pid), "the command to close itself")
        assert not is_closed(other.pid)
        assert waiting.communicate(harness.PASSPHRASE)[0] == b"it opens slot 0\n"
    finally:
        for process in (waiting, other):
            process.kill()
            process.wait()


def test_systemd_is_told_when_the_mount_answers(vault, workspace):
    point = workspace.path / "mnt"
    point.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(workspace.path / "notify"))
        notices.settimeout(60)
        command = [SCRIM, "mount", "--foreground", vault.path, point, "--passphrase-file", vault.passphrase_file]
        environment = {**os.environ, "NOTIFY_SOCKET": str(workspace.path / "notify")}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        try:
            assert notices.recv(100) == b"READY=1"
            assert mounted_at(point)
        finally:
            process.terminate()
            assert process.wait(60) == 0
    assert not mounted_at(point)


def test_umount_says_why_it_cannot(workspace, unprivileged):
    """Another one's mount, and a helper that fails for a reason of its own."""
    vault = workspace.vault()
    with vault.mount("allow_other") as mount:
        assert "root mounted it" in fails(SYSTEM, "umount", mount.point, user=unprivileged)
        assert mounted_at(mount.point)
    mine = workspace.vault(name="mine", user=unprivileged).mount(point="on mine")
    helper = workspace.path / "fusermount3"
    helper.write_text("#!/bin/sh\necho 'fusermount3: something else went wrong' >&2\nexit 1\n")
    helper.chmod(0o755)
    broken = {**os.environ, "PATH": f"{workspace.path}:{os.environ['PATH']}"}
    assert "something else went wrong" in fails(SYSTEM, "umount", mine.point, user=unprivileged, env=broken)
    script = ["sh", "-c", 'cd "$1" && exec sleep 100', "sh", mine.point]
    sitter = subprocess.Popen(script, cwd="/", user=unprivileged, group=unprivileged, extra_groups=[])
    try:
        wait_for(lambda: os.readlink(f"/proc/{sitter.pid}/cwd") == str(mine.point), "the sitter to sit")
        assert "in use by sleep" in fails(BUSY, "umount", mine.point, user=unprivileged)
    finally:
        sitter.kill()
        sitter.wait()
    mine.stop()


def test_messages_say_what_may_have_been_meant(workspace):
    vault = workspace.vault()
    secret = ["--passphrase-file", vault.passphrase_file]
    for wrong, code in ((workspace.path / "vaul", NOT_A_VAULT), (workspace.path, NOT_A_VAULT), (vault.tree, NOT_A_VAULT)):
        text = fails(code, "ls", wrong, *secret)
        assert str(wrong) in text and f"did you mean {vault.path}?" in text, text
    assert "did you mean 'allow_other'" in fails(USAGE, "mount", vault.path, workspace.path, *secret, "-o", "alow_other")
    assert "did you mean 'mount'?" in fails(USAGE, "mout", vault.path, workspace.path)
    with vault.mount() as mount:
        (mount / "folder").mkdir()
        for wrong in (vault.path, mount / "folder", f"{mount.point}x"):
            assert f"did you mean {mount.point}?" in fails(NOT_MOUNTED, "umount", wrong)
        assert f"did you mean {vault.path}?" in fails(NOT_A_VAULT, "info", mount.point)


@pytest.mark.offline
def test_path_needs_no_mount(vault):
    with vault.mount() as mount:
        (mount / "folder").mkdir()
        (mount / "folder" / ("n" * 250)).write_text("words")
        os.symlink("folder", mount / "link")
        told = scrim("path", mount / "folder", mount / "folder" / ("n" * 250)).stdout.splitlines()
    secret = ["--passphrase-file", vault.passphrase_file]
    plain = ["/folder", "/folder/" + "n" * 250]
    assert scrim("path", "--vault", vault.path, *plain, *secret).stdout.splitlines() == told
    assert scrim("path", "--vault", vault.path, "-r", *told, *secret).stdout.decode().splitlines() == plain
    assert scrim("path", "--vault", vault.path, "-r", vault.tree, *secret).stdout == b"/\n"
    link = next(path for path in vault.tree.iterdir() if path.is_symlink())
    assert scrim("path", "--vault", vault.path, "-r", link, *secret).stdout == b"/link\n"
    fails(NOT_FOUND, "path", "--vault", vault.path, "-r", vault.tree / ".scrim-dir", *secret)
    fails(NOT_FOUND, "path", "--vault", vault.path, "-r", vault.path / "scrim.vault", *secret)
    fails(NOT_FOUND, "path", "--vault", vault.path, "missing", *secret)
    assert "--vault" in fails(NOT_MOUNTED, "path", "-r", told[0])


def test_the_log_names_what_is_damaged_by_its_plain_path(vault):
    with vault.mount() as mount:
        (mount / "taxes").mkdir()
        (mount / "taxes" / "2024").write_bytes(os.urandom(20000))
        backing = Path(os.fsdecode(scrim("path", mount / "taxes" / "2024").stdout.rstrip(b"\n")))
    content = bytearray(backing.read_bytes())
    for place in range(len(content) // 2, len(content) // 2 + 64):
        content[place] ^= 255
    backing.write_bytes(content)
    with vault.mount() as mount:
        with pytest.raises(OSError):
            (mount / "taxes" / "2024").read_bytes()
        wait_for(lambda: "/taxes/2024: " in mount.log_text(), "the line in the log")
        assert backing.name not in mount.log_text()
    shutil.rmtree(vault.path)


def policies(pid):
    """The scheduling policy and the I/O class of every thread, but of the one that decides on it."""
    threads = [int(thread) for thread in os.listdir(f"/proc/{pid}/task")
               if Path(f"/proc/{pid}/task/{thread}/comm").read_text() != "scrim-policy\n"]
    priorities = {run("ionice", "-p", str(thread)).stdout.split(b":")[0].strip() for thread in threads}
    return {os.sched_getscheduler(thread) for thread in threads}, priorities


def sessions_have_their_own_time():
    """Whether each session has processor time of its own here; None where that takes more to tell."""
    switch, loaded = Path("/proc/sys/kernel/sched_autogroup_enabled"), Path("/sys/kernel/sched_ext/state")
    if not switch.exists() or switch.read_text() != "1\n" or loaded.exists() and loaded.read_text() == "enabled\n":
        return False
    if os.readlink("/proc/self/ns/cgroup") != "cgroup:[4026531835]":
        return False
    groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    owned = [path for number, names, path in groups if number == "0" or "cpu" in names.split(",")]
    return True if set(owned) <= {"/"} else None


def callers_are_first(status):
    """What the daemon found; it looks soon after the mount."""
    wait_for(lambda: status()["transport"]["callersFirst"] is not None, "the first look")
    return status()["transport"]["callersFirst"]


def test_callers_go_before_the_threads_that_serve_them(vault):
    with vault.mount() as mount:
        if mount.status()["transport"]["kind"] == "io_uring":
            expected = sessions_have_their_own_time()
            if expected:
                wait_for(lambda: callers_are_first(mount.status), "the policy")
            first = callers_are_first(mount.status)
            assert expected in (first, None)
            # Threads started later, for a large file, are no exception.
            (mount / "large").write_bytes(os.urandom(4 << 20))
            own = ({os.SCHED_IDLE}, {b"best-effort"}) if first else ({os.SCHED_OTHER}, {b"none"})
            assert policies(mount.pid) == own
    with vault.mount("io_uring=off") as mount:
        assert policies(mount.pid) == ({os.SCHED_OTHER}, {b"none"}), "threads that may run anywhere"
        assert mount.status()["transport"]["callersFirst"] is None


def test_a_daemon_that_shares_its_time_keeps_its_policy_or_gets_it_back(vault):
    point = vault.folder / "mnt"
    point.mkdir()
    command = [SCRIM, "mount", "--foreground", vault.path, point, "--passphrase-file", vault.passphrase_file]

    def status():
        return json.loads(scrim("status", point, "--json").stdout)

    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as served:
        try:
            wait_for(lambda: mounted_at(point), "the mount")
            if status()["transport"]["kind"] == "io_uring":
                assert not callers_are_first(status), "a member of the session of these tests"
            assert policies(served.pid)[0] == {os.SCHED_OTHER}
        finally:
            served.terminate()
    with vault.mount() as mount:
        if mount.status()["transport"]["kind"] == "io_uring" and sessions_have_their_own_time():
            wait_for(lambda: callers_are_first(mount.status), "the policy")
            switch = Path("/proc/sys/kernel/sched_autogroup_enabled")
            switch.write_text("0\n")
            try:
                wait_for(lambda: not callers_are_first(mount.status), "the policy to come back")
            finally:
                switch.write_text("1\n")
            assert policies(mount.pid)[0] == {os.SCHED_OTHER}
