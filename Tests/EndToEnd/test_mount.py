"""Mounting, unmounting, and what goes wrong with either."""

import json
import os
import signal
import stat
import struct
import subprocess
import threading

import pytest
from harness import PASSPHRASE, SCRIM, alive, fails, mounted_at, run, scrim, wait_for
from harness import BUSY, LOCKED, MOUNT_POINT, NOT_A_VAULT, NOT_MOUNTED, NO_PASSPHRASE, USAGE, WRONG_SECRET


def test_mount_returns_when_the_mount_answers_and_umount_when_it_is_over(vault):
    mount = vault.mount()
    assert mounted_at(mount.point) and os.listdir(mount.point) == []
    (mount / "file").write_bytes(b"kept")
    scrim("umount", mount.point)
    assert not mounted_at(mount.point) and not alive(mount.pid)
    assert vault.cat("file").stdout == b"kept"


def test_mount_leaves_no_pipe_of_its_caller_open(vault):
    # A caller that reads to the end of the pipe would wait as long as the mount lives.
    vault.folder.joinpath("mnt").mkdir()
    command = [SCRIM, "mount", vault.path, vault.folder / "mnt", "--passphrase-file", vault.passphrase_file]
    caller = subprocess.run(f"{' '.join(map(str, command))} 2>&1 | cat", shell=True, timeout=60, stdout=subprocess.PIPE)
    assert caller.returncode == 0
    scrim("umount", vault.folder / "mnt")


def test_the_passphrase_is_in_neither_arguments_nor_environment(mount):
    for name in ("cmdline", "environ"):
        with open(f"/proc/{mount.pid}/{name}", "rb") as f:
            assert PASSPHRASE not in f.read()


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts_cleanly(vault, sign):
    mount = vault.mount()
    (mount / "file").write_bytes(b"kept")
    os.kill(mount.pid, sign)
    wait_for(lambda: not alive(mount.pid) and not mounted_at(mount.point), "the clean end")
    assert vault.cat("file").stdout == b"kept"


def test_fusermount_unmounts_cleanly(vault):
    mount = vault.mount()
    (mount / "file").write_bytes(b"kept")
    run("fusermount3", "-u", mount.point)
    wait_for(lambda: not alive(mount.pid), "the daemon to end")
    assert vault.cat("file").stdout == b"kept"


def test_foreground_stays_and_logs_to_standard_error(vault):
    point = vault.folder / "mnt"
    point.mkdir()
    command = [SCRIM, "mount", "--foreground", vault.path, point, "--passphrase-file", vault.passphrase_file]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(process.stderr))
        reader.start()
        try:
            wait_for(lambda: mounted_at(point), "the mount")
            (point / "file").write_bytes(b"kept")
        finally:
            process.send_signal(signal.SIGINT)
            reader.join(60)
        assert process.wait(60) == 0
    assert not mounted_at(point)
    assert vault.cat("file").stdout == b"kept"


def test_a_second_writer_is_refused_with_the_holder(vault, mount):
    other = vault.folder / "other"
    other.mkdir()
    text = fails(LOCKED, "mount", vault.path, other, "--passphrase-file", vault.passphrase_file)
    assert str(mount.pid) in text
    assert not mounted_at(other)


def test_read_only_mounts_refuse_writes(vault):
    with vault.mount() as mount:
        (mount / "file").write_bytes(b"kept")
    for options, arguments in ((["ro"], []), ([], ["--read-only"])):
        with vault.mount(*options, arguments=arguments) as mount:
            assert (mount / "file").read_bytes() == b"kept"
            for attempt in (lambda: (mount / "file").write_bytes(b""), lambda: (mount / "new").mkdir(), (mount / "file").unlink):
                with pytest.raises(OSError) as refused:
                    attempt()
                assert refused.value.errno == 30  # EROFS
            assert mount.status()["readOnly"] is True


def test_mount_options_reach_the_kernel(vault):
    with vault.mount("noexec", "noatime", "allow_other") as mount:
        with open("/proc/self/mountinfo") as table:
            [line] = [row for row in table if f" {mount.point} " in row]
        for word in ("noexec", "nosuid", "nodev", "allow_other", "fuse.scrim"):
            assert word in line
        (mount / "script").write_text("#!/bin/sh\n")
        os.chmod(mount / "script", 0o755)
        with pytest.raises(PermissionError):
            subprocess.run([mount / "script"])


def test_the_kernel_checks_permissions_where_somebody_else_may_enter(vault):
    """A mount that is root's alone leaves them out: root may do everything but execute what is no program."""
    for options, checks in (((), False), (("allow_other",), True), (("allow_root",), True), (("default_permissions",), True)):
        with vault.mount(*options) as mount:
            with open("/proc/self/mountinfo") as table:
                [line] = [row for row in table if f" {mount.point} " in row]
            assert ("default_permissions" in line) == checks
            file, folder = mount / "file", mount / "folder"
            file.write_text("#!/bin/sh\n")
            folder.mkdir()
            for path in (file, folder):
                path.chmod(0)
                assert os.access(path, os.R_OK | os.W_OK)
            assert not os.access(file, os.X_OK)
            with pytest.raises(PermissionError):
                subprocess.run([file])
            (folder / "inside").write_text("text")
            assert (folder / "inside").read_text() == "text"
            os.chdir(folder)
            os.chdir("/")
            file.chmod(0o100)
            assert os.access(file, os.X_OK)
            subprocess.run([file], check=True)
            # Groups and others by a list: user::rw-, group::r--, group 7: rw-, mask::rw-, other::---.
            entries = ((0x01, 6, 0xffffffff), (0x04, 4, 0xffffffff), (0x08, 6, 7), (0x10, 6, 0xffffffff), (0x20, 0, 0xffffffff))
            acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
            os.stat(file)
            os.setxattr(file, "system.posix_acl_access", acl)
            assert stat.S_IMODE(os.stat(file).st_mode) == 0o660
            file.chmod(0o640)
            assert os.getxattr(file, "system.posix_acl_access")[4 + 3 * 8 + 2] == 4
            os.removexattr(file, "system.posix_acl_access")
            assert stat.S_IMODE(os.stat(file).st_mode) == 0o640
            file.unlink()
            (folder / "inside").unlink()
            folder.rmdir()


def test_root_for_others_is_refused_where_nobody_checks_permissions(vault):
    """A file server of root's acts by its filesystem user ID, of which the kernel does not ask who may enter."""
    def by_others(mount, call):
        program = f"import ctypes, os; ctypes.CDLL(None).setfsuid(1000); os.{call}"
        return subprocess.run(["python3", "-c", program], cwd=mount.point, capture_output=True, text=True, check=False).stderr

    with vault.mount() as mount:
        (mount / "public").write_text("text")
        assert "Permission denied" in by_others(mount, "open('public', os.O_RDONLY)")
        assert "Permission denied" in by_others(mount, "mkdir('made')")
        assert os.listdir(mount.point) == ["public"]
    with vault.mount("default_permissions") as mount:
        assert by_others(mount, "open('public', os.O_RDONLY)") == ""
        assert "Permission denied" in by_others(mount, "open('public', os.O_RDWR)")


def test_bad_mount_points_are_named(vault, workspace):
    secret = ["--passphrase-file", vault.passphrase_file]
    missing = workspace.path / "missing"
    assert str(missing) in fails(MOUNT_POINT, "mount", vault.path, missing, *secret)
    file = workspace.path / "a file"
    file.write_bytes(b"")
    assert str(file) in fails(MOUNT_POINT, "mount", vault.path, file, *secret)
    full = workspace.path / "full"
    (full / "something").mkdir(parents=True)
    assert "not empty" in fails(MOUNT_POINT, "mount", vault.path, full, *secret)
    # None of these left the vault locked.
    with vault.mount() as mount:
        other = workspace.vault(name="other")
        text = fails(MOUNT_POINT, "mount", other.path, mount.point, "--passphrase-file", other.passphrase_file)
        assert "already" in text


def test_bad_vaults_and_secrets_end_with_their_own_codes(vault, workspace):
    point = workspace.path / "point"
    point.mkdir()
    wrong = workspace.path / "wrong"
    wrong.write_bytes(b"not it\n")
    fails(WRONG_SECRET, "mount", vault.path, point, "--passphrase-file", wrong)
    fails(NOT_A_VAULT, "mount", workspace.path, point, "--passphrase-file", wrong)
    fails(NO_PASSPHRASE, "mount", vault.path, point, "--passphrase-file", workspace.path / "missing")
    fails(NO_PASSPHRASE, "mount", vault.path, point, start_new_session=True)
    text = fails(USAGE, "mount", vault.path, point, "--passphrase-file", wrong, "-o", "noexce")
    assert "did you mean 'noexec'" in text
    fails(USAGE, "mount", vault.path)
    assert not mounted_at(point)


def test_umount_and_status_of_what_is_no_mount(workspace):
    fails(NOT_MOUNTED, "umount", workspace.path)
    fails(NOT_MOUNTED, "status", workspace.path)


def test_umount_of_a_busy_mount_names_who_uses_it(mount):
    with open(mount / "file", "wb") as f:
        text = fails(BUSY, "umount", mount.point)
        assert str(os.getpid()) in text
        f.write(b"still writable")
    assert (mount / "file").read_bytes() == b"still writable"


def test_lazy_umount_detaches_a_busy_mount(vault):
    mount = vault.mount()
    with open(mount / "file", "wb") as f:
        scrim("umount", "--lazy", mount.point)
        assert not mounted_at(mount.point)
        f.write(b"written after")
    wait_for(lambda: not alive(mount.pid), "the daemon to end")
    assert vault.cat("file").stdout == b"written after"


def test_umount_does_not_wait_for_what_is_mounted_elsewhere_too(vault, workspace):
    mount, other = vault.mount(), workspace.path / "other"
    other.mkdir()
    subprocess.run(["mount", "--bind", mount.point, other], check=True)
    assert str(other) in fails(BUSY, "umount", mount.point)
    scrim("umount", other)
    wait_for(lambda: not alive(mount.pid), "the daemon to end")


def test_umount_tells_of_another_mount_namespace(vault):
    mount = vault.mount()
    sleeper = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sleep", "1000"])
    try:
        wait_for(lambda: os.readlink(f"/proc/{sleeper.pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt"),
                 "the namespace")
        (mount / "file").write_bytes(b"written before")
        assert f"sleep ({sleeper.pid})" in fails(BUSY, "umount", mount.point)
        assert not mounted_at(mount.point)
    finally:
        sleeper.kill()
        sleeper.wait()
    wait_for(lambda: not alive(mount.pid), "the daemon to end")
    assert vault.cat("file").stdout == b"written before"


def test_umount_clears_the_mount_of_a_killed_daemon(vault):
    mount = vault.mount()
    (mount / "file").write_bytes(b"kept")
    # Held open all through: a busy dead mount has to go, too. Closing it fails, since nobody answers.
    held = os.open(mount / "file", os.O_RDWR)
    mount.kill()
    with pytest.raises(OSError):
        os.listdir(mount.point)
    fails(NOT_MOUNTED, "status", mount.point)
    scrim("umount", mount.point)
    with pytest.raises(OSError):
        os.close(held)
    assert not mounted_at(mount.point)
    with mount.start():
        assert (mount / "file").read_bytes() == b"kept"


def test_mount_clears_the_mount_of_a_killed_daemon(vault):
    mount = vault.mount()
    (mount / "file").write_bytes(b"kept")
    for _ in range(5):
        mount.kill()
        # At once: the kernel may still answer from its cache, and the process may still be ending.
        with_notes = mount.start()
        assert "is cleared" in with_notes.start_output
        assert (mount / "file").read_bytes() == b"kept"
    mount.stop()
    assert not mounted_at(mount.point)


def test_two_vaults_are_mounted_at_once(workspace):
    with workspace.vault(name="a").mount(point="mnt a") as a, workspace.vault(name="b").mount(point="mnt b") as b:
        (a / "file").write_bytes(b"a")
        (b / "file").write_bytes(b"b")
        listed = {m["mountpoint"]: m["vault"] for m in json.loads(scrim("mounts", "--json").stdout)}
        assert listed[str(a.point)] == str(a.vault.path) and listed[str(b.point)] == str(b.vault.path)
        assert a.pid != b.pid and (a / "file").read_bytes() == b"a"
