"""What goes wrong in daily use: each exit code of docs/cli.md by a real call, sentences that say what to do, and nothing left behind."""

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import harness
import pytest
from harness import MOUNT_FAILED, MOUNT_POINT, NOT_A_VAULT, NOT_EMPTY, NOT_FOUND, NOT_MOUNTED, LOCKED, SYSTEM, USAGE, WRONG_SECRET
from harness import SCRIM, alive, fails, mounted_at, run, scrim, wait_for

offline = pytest.mark.offline
CLI = harness.REPOSITORY / "docs/cli.md"
CHECKED, INCOMPLETE = 22, 23


def secret(vault):
    return ["--passphrase-file", vault.passphrase_file]


def daemons(folder):
    """Processes that serve a vault in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes()
        except OSError:
            continue
        if b"daemon-channel" in command and os.fsencode(folder) in command:
            found.append(command)
    return found


# MARK: Exit codes


def test_each_exit_code_of_the_documentation_is_what_a_real_call_ends_with(workspace):
    vault = workspace.vault()
    point, wrong, later = workspace.path / "mnt", workspace.path / "wrong", workspace.path / "later"
    wrong.write_text("wrong")
    shutil.copytree(vault.path, later)
    header = bytearray((later / "scrim.vault").read_bytes())
    # Right after the magic, docs/format.md §4.
    header[8] = 9
    (later / "scrim.vault").write_bytes(header)
    halved = workspace.path / "halved"
    shutil.copytree(vault.path, halved)
    shutil.copytree(vault.path, halved / "scrim.rekey")
    with vault.mount() as mount:
        (mount / "file").write_bytes(os.urandom(30000))
        (mount / "folder").mkdir()
        backing = Path(os.fsdecode(scrim("path", mount / "file").stdout.rstrip(b"\n")))
        codes = {
            0: scrim("status", mount.point).returncode,
            12: code("mount", vault.path, make(point.with_name("other")), *secret(vault)),
            15: code("mount", vault.path, mount.point, *secret(vault)),
            17: busy(mount),
            18: code("path", mount / "missing"),
            64: code("mount", vault.path, "--nonsense"),
        }
    bystander = vault.path / "tree" / "somebody's"
    bystander.write_text("not of this vault")
    codes[22] = code("check", vault.path, "--repair", *secret(vault))
    unreadable = workspace.path / "source"
    unreadable.mkdir()
    # A socket's name is longer than any vault can hold; it is left out and listed.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(unreadable / "socket"))
        (unreadable / "file").write_text("words")
        (unreadable / ("n" * 255)).write_text("words")
        os.setxattr(unreadable / "file", "user.scrim.mode", b"x")
        codes[23] = code("migrate", unreadable, vault.path, *secret(vault))
    content = bytearray(backing.read_bytes())
    content[9000] ^= 255
    backing.write_bytes(content)
    codes |= {
        1: code("cat", vault.path, "/folder", *secret(vault)),
        10: code("ls", vault.path, "--passphrase-file", wrong),
        11: code("ls", workspace.path / "missing", *secret(vault)),
        13: code("cat", vault.path, "/file", *secret(vault)),
        14: code("mount", vault.path, point, *secret(vault), wrapper=without_fuse()),
        16: code("umount", point),
        19: code("init", unreadable, *secret(vault)),
        20: code("ls", later, *secret(vault)),
        21: code("ls", vault.path),
        24: code("ls", halved, *secret(vault)),
    }
    table = CLI.read_text().split("## Exit codes")[1].split("\n## ")[0]
    documented = {int(number) for number in re.findall(r"^\| (\d+) \|", table, flags=re.M)}
    assert set(codes) == documented
    assert {number: got for number, got in codes.items() if number != got} == {}


def code(*arguments, wrapper=()):
    """The status of a call; one that fails says why in one sentence."""
    result = run(*wrapper, SCRIM, *arguments, check=False)
    text = result.stderr.decode(errors="replace")
    assert result.returncode == 0 or text.startswith("scrim: ") or result.returncode in (CHECKED, INCOMPLETE), text
    return result.returncode


def make(folder):
    folder.mkdir(exist_ok=True)
    return folder


def busy(mount):
    with open(mount / "held", "w"):
        return code("umount", mount.point)


# MARK: Machines that lack something


def without_fuse():
    """A command that runs another where /dev has no fuse."""
    script = """
        mount --bind /dev/shm /mnt; mount -t tmpfs none /dev
        mknod -m 666 /dev/null c 1 3; mkdir /dev/shm; mount --move /mnt /dev/shm; exec "$@"
    """
    return ["unshare", "-m", "sh", "-ec", script, "sh"]


def hiding(target, source):
    """A command that runs another where a file is covered by another file."""
    script = 'mount --bind "$1" "$2"; shift 2; exec "$@"'
    return ["unshare", "-m", "sh", "-ec", script, "sh", source, os.path.realpath(target)]


def as_user(user):
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]


def told(expected, *command):
    result = run(*command, check=False, cwd="/")
    text = result.stderr.decode()
    assert result.returncode == expected and text.startswith("scrim: ") and text.count("\n") == 1, (result.returncode, text)
    return text


def test_a_machine_without_what_mounts_need_is_told_and_nothing_stays(workspace, unprivileged):
    vault = workspace.vault(user=unprivileged)
    point = make(workspace.path / "mnt")
    os.chown(point, unprivileged, unprivileged)
    command = [harness.program_for(unprivileged), "mount", vault.path, point, *secret(vault)]
    closed = workspace.path / "closed"
    os.mknod(closed, 0o600 | 0o020000, os.makedev(10, 229))
    limited = workspace.path / "fuse.conf"
    limited.write_text("mount_max = 0\nuser_allow_other\n")
    user = as_user(unprivileged)
    assert "no /dev/fuse" in told(MOUNT_FAILED, *without_fuse(), *user, *command)
    assert "/dev/fuse cannot be opened" in told(MOUNT_FAILED, *hiding("/dev/fuse", closed), *user, *command)
    assert "install the fuse3 package" in told(
        MOUNT_FAILED, *hiding(shutil.which("fusermount3"), "/dev/null"), *user, *command
    )
    # What only the set-uid helper knows is part of the sentence.
    assert "mount_max" in told(MOUNT_FAILED, *hiding("/etc/fuse.conf", limited), *user, *command)
    assert daemons(vault.path) == [] and os.listdir(point) == []
    vault.mount().stop()


def test_a_user_mounts_only_where_he_may_write(workspace, unprivileged):
    vault = workspace.vault(user=unprivileged)
    foreign, sticky = make(workspace.path / "foreign"), make(workspace.path / "sticky")
    sticky.chmod(0o1777)
    for point in (foreign, sticky):
        assert str(point) in fails(MOUNT_POINT, "mount", vault.path, point, *secret(vault), user=unprivileged)
    hidden = make(workspace.path / "hidden")
    make(hidden / "mnt")
    hidden.chmod(0o700)
    fails(MOUNT_FAILED, "mount", vault.path, hidden / "mnt", *secret(vault), user=unprivileged)
    assert daemons(vault.path) == []


# MARK: Mount points


def test_neither_the_vault_nor_the_mount_hides_the_other(workspace):
    vault = workspace.vault()
    inside = make(vault.tree / "inside")
    for point, why in ((vault.path, "own folder"), (inside, "in the vault's folder"), (workspace.path, "holds the vault's folder")):
        for options in ([], ["-o", "nonempty"]):
            assert why in fails(MOUNT_POINT, "mount", vault.path, point, *secret(vault), *options)
    link = workspace.path / "link"
    link.symlink_to(inside)
    assert "in the vault's folder" in fails(MOUNT_POINT, "mount", vault.path, link, *secret(vault))
    inside.rmdir()
    assert str(vault.path) in fails(NOT_EMPTY, "init", vault.tree / "another", *secret(vault))
    assert "missing" in fails(NOT_FOUND, "init", workspace.path / "missing" / "vault", *secret(vault))
    # A vault in a mounted vault is one like any other.
    with vault.mount() as mount:
        scrim("init", mount / "inner", *secret(vault), "--kdf-cost", "low")
        scrim("ls", mount / "inner", *secret(vault))


def test_the_mount_point_is_looked_at_before_a_passphrase_is_asked_for(workspace):
    vault = workspace.vault()
    wrong = workspace.path / "wrong"
    wrong.write_text("wrong")
    full = make(workspace.path / "full")
    (full / "file").write_text("mine")
    for point in (full, full / "file", workspace.path / "missing"):
        fails(MOUNT_POINT, "mount", vault.path, point, "--passphrase-file", wrong)
    with vault.mount() as mount:
        assert "mounted at" in fails(MOUNT_POINT, "mount", vault.path, mount.point, *secret(vault))
        text = fails(LOCKED, "mount", vault.path, make(workspace.path / "second"), *secret(vault))
        assert str(mount.point) in text and "--read-only" in text


def test_a_dead_mount_is_named_as_such_and_cleared(vault):
    mount = vault.mount()
    mount.kill()
    for command in (["status", mount.point], ["path", mount / "x"], ["mark", mount.point, "--content", "plain"]):
        assert "scrim umount" in fails(NOT_MOUNTED, *command)
    scrim("umount", mount.point)
    mount.start().stop()


def test_a_vault_on_a_read_only_filesystem_says_what_works(workspace):
    vault = workspace.vault()
    folder = make(workspace.path / "medium")
    script = 'mount -t tmpfs none "$1"; cp -a "$2" "$1/vault"; mount -o remount,ro "$1"; shift 2; exec "$@"'
    inside = ["unshare", "-m", "sh", "-ec", script, "sh", folder, vault.path]
    command = [SCRIM, "mount", folder / "vault", make(workspace.path / "mnt"), *secret(vault)]
    assert "--read-only" in told(SYSTEM, *inside, *command)
    run(*inside, SCRIM, "ls", folder / "vault", *secret(vault))


# MARK: A daemon that is about to end


def umount(point):
    """What is left of umount(8) when it does not look at the mount first, which would wait for a stopped daemon."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.umount2(os.fsencode(point), 0) == 0, os.strerror(ctypes.get_errno())


def test_a_mount_waits_for_the_daemon_that_umount_left_behind(vault):
    mount = vault.mount()
    (mount / "file").write_bytes(b"kept")
    os.kill(mount.pid, signal.SIGSTOP)
    try:
        umount(mount.point)
        assert alive(mount.pid)
        command = [SCRIM, "mount", vault.path, mount.point, *secret(vault), "--log-file", mount.log]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        # It has come as far as the lock when it waits for something that is not there.
        wait_for(lambda: any(b"daemon-channel" in c for c in daemons(vault.path)), "the new daemon")
        time.sleep(0.3)
        assert process.poll() is None, process.stderr.read()
    finally:
        os.kill(mount.pid, signal.SIGCONT)
    assert process.wait(60) == 0, process.stderr.read()
    process.stderr.close()
    mount.pid = mount.status()["pid"]
    assert (mount / "file").read_bytes() == b"kept"
    mount.stop()


def test_a_vault_can_be_used_again_at_once_after_umount(vault):
    for number in range(4):
        mount = vault.mount()
        (mount / f"file {number}").write_bytes(os.urandom(4 << 20))
        run("umount", mount.point)
        mount.pid = None
    mount = vault.mount()
    run("umount", mount.point)
    scrim("check", vault.path, "--repair", *secret(vault))
    assert len(vault.ls().stdout.splitlines()) == 4


def test_a_daemon_that_does_not_end_is_not_waited_for_without_end(vault):
    mount = vault.mount()
    os.kill(mount.pid, signal.SIGSTOP)
    try:
        umount(mount.point)
        assert f"process {mount.pid}" in fails(LOCKED, "mount", vault.path, mount.point, *secret(vault))
    finally:
        os.kill(mount.pid, signal.SIGCONT)
    wait_for(lambda: not alive(mount.pid), "the daemon to end")
    mount.start().stop()


# MARK: Filesystems that rename in the plain way only


def test_a_vault_is_made_and_used_on_a_filesystem_without_special_renames(workspace):
    """EncFS passes renameat2(2) on without its flags."""
    if shutil.which("encfs") is None:
        pytest.fail("encfs is not installed: see .ci/deps.sh")
    below, point = make(workspace.path / "below"), make(workspace.path / "encfs")
    run("encfs", "--standard", "--stdinpass", below, point, input=b"password\n")
    try:
        wait_for(lambda: os.path.ismount(point), "EncFS")
        vault = harness.Vault(point)
        workspace.vaults.append(vault)
        (make(workspace.path / "mnt")).rmdir()
        mount = harness.Mount(vault, workspace.path / "mnt")
        with mount:
            (mount / "one").write_bytes(b"1")
            os.rename(mount / "one", mount / "two")
            for name in ("from", "from/inner", "over"):
                (mount / name).mkdir()
            os.rename(mount / "from", mount / "over")
            assert sorted(os.listdir(mount.point)) == ["over", "two"] and os.listdir(mount / "over") == ["inner"]
        assert vault.ls().stdout.splitlines() == [b"over", b"two"]
        scrim("check", vault.path, "--deep", *secret(vault))
    finally:
        subprocess.run(["fusermount3", "-u", "-z", point], stderr=subprocess.DEVNULL)


def test_init_that_fails_leaves_nothing(workspace):
    passphrase = workspace.path / "passphrase"
    passphrase.write_text("a passphrase of a test")
    medium = make(workspace.path / "medium")
    # Too few inodes for a vault: the folder, its session, tree and its record fit, the header does not.
    script = 'mount -t tmpfs -o nr_inodes=%d none "$1"; shift; "$@" || code=$?; ls -A "$0"; exit $code'
    for inodes in range(2, 20):
        result = run(
            "unshare", "-m", "sh", "-c", script % inodes, medium, medium,
            SCRIM, "init", medium / "vault", "--passphrase-file", passphrase, "--kdf-cost", "low", check=False,
        )  # fmt: skip
        if result.returncode == 0:
            break
        assert result.returncode == SYSTEM and result.stdout == b"", (inodes, result)
    assert inodes > 3 and result.returncode == 0, "it never failed, or never worked"


# MARK: What was meant


@offline
def test_mistyped_words_are_guessed(vault):
    mnt = vault.folder / "mnt"
    for arguments, hint in (
        (["mout", vault.path, mnt], "'mount'"),
        (["key", "lst", vault.path], "'list'"),
        (["help", "chekc"], "'check'"),
        (["mount", vault.path, mnt, "--foregroud"], "'--foreground'"),
        (["status", mnt, "--wacth"], "'--watch'"),
        (["--versoin"], "'--version'"),
        (["mount", vault.path, mnt, "-o", "idel=5m"], "'idle='"),
        (["mount", vault.path, mnt, "-o", "nonemty"], "'nonempty'"),
        (["mount", vault.path, mnt, "-o", "subdri=x"], "'subdir='"),
    ):  # fmt: skip
        text = fails(USAGE, *arguments)
        assert f"did you mean {hint}" in text.lower(), text
        assert text.startswith("scrim: "), text
    assert "needs a value" in fails(USAGE, "mount", vault.path, mnt, "-o", "subdir")
    assert "takes no value" in fails(USAGE, "mount", vault.path, mnt, "-o", "nonempty=1")
    assert "--passphrase-file" in fails(USAGE, "mount", vault.path, mnt, "-o", "passphrase_file=x")


@offline
def test_unknown_values_are_answered_with_the_known_ones(vault):
    for arguments, known in (
        (["init", "x", "--content", "seald"], "sealed-compressed"),
        (["init", "x", "--names", "open"], "plain"),
        (["mount", vault.path, "x", "--log-level", "loud"], "notice"),
        (["convert", "x", "--content", "zip"], "rules"),
        (["mount", vault.path, "x", "-o", "passthrough=maybe"], "auto or off"),
        (["mount", vault.path, "x", "-o", "threads=0"], "1 to 256"),
        (["mount", vault.path, "x", "--idle", "soon"], "idle"),
    ):
        text = fails(USAGE, *arguments)
        assert text.startswith("scrim: ") and known in text, text


def test_a_path_in_the_vaults_folder_leads_to_its_mount(vault, mount):
    for command in (["mark", vault.tree, "--content", "plain"], ["path", vault.tree]):
        assert str(mount.point) in fails(NOT_MOUNTED, *command)
    assert str(mount.point) in fails(NOT_MOUNTED, "status", vault.path)
    for command in ("audit", "check", "info", "ls"):
        text = fails(NOT_A_VAULT, command, mount.point.with_name("nothing"))
        assert str(mount.point.with_name("nothing")) in text, text


@offline
def test_folders_that_are_no_text_are_refused_and_not_made(vault, workspace):
    name = os.fsencode(workspace.path) + b"/caf\xe9"
    assert "UTF-8" in fails(USAGE, "init", name, *secret(vault))
    os.mkdir(name + b" mnt")
    assert "UTF-8" in fails(USAGE, "mount", vault.path, name + b" mnt", *secret(vault))
    assert not [entry for entry in os.listdir(os.fsencode(workspace.path)) if entry.startswith(b"caf") and entry != b"caf\xe9 mnt"]
