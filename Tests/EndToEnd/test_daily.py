"""Commands of daily use: where a file lies, locking, idle mounts, watching, the machine's state, passphrases from elsewhere."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time

import pytest
from harness import PASSPHRASE, SCRIM, alive, fails, mounted_at, scrim, wait_for
from harness import MOUNT_FAILED, NOT_FOUND, NOT_MOUNTED, NO_PASSPHRASE, SYSTEM, USAGE, WRONG_SECRET
from terminal import once, on_terminal

offline = pytest.mark.offline


def test_path_tells_the_backing_file_and_back(vault, mount):
    (mount / "folder").mkdir()
    (mount / "folder" / "file").write_bytes(b"content")
    os.symlink("folder", mount / "link")
    told = scrim("path", mount / "folder", mount / "folder" / "file", mount.point).stdout.decode().splitlines()
    assert all(os.path.lexists(path) for path in told)
    assert os.path.dirname(told[1]) == told[0] and told[2] == str(vault.tree)
    back = scrim("path", "--reverse", *told).stdout.decode().splitlines()
    assert back == [str(mount / "folder"), str(mount / "folder" / "file"), str(mount.point)]
    for name in os.listdir(vault.tree):
        if os.path.islink(vault.tree / name):
            assert scrim("path", "-r0", vault.tree / name).stdout == os.fsencode(mount / "link") + b"\0"
            break
    else:
        raise AssertionError("the link has no backing link")
    fails(SYSTEM, "path", mount / "link")


def test_path_keeps_the_bytes_of_plain_names(vault, mount):
    folder = mount / "plain"
    folder.mkdir()
    scrim("mark", folder, "--content", "plain", "--names", "plain")
    name = os.fsencode(folder) + b"/caf\xe9"
    with open(name, "wb") as file:
        file.write(b"x")
    told = scrim("path", name).stdout.rstrip(b"\n")
    assert told.endswith(b"/caf\xe9") and os.path.exists(told)
    assert scrim("path", "--reverse", told).stdout.rstrip(b"\n") == name


def test_path_says_what_it_cannot_tell(vault, mount, workspace):
    fails(NOT_MOUNTED, "path", workspace.path)
    fails(NOT_FOUND, "path", mount / "nothing")
    fails(NOT_MOUNTED, "path", "--reverse", workspace.path)
    fails(NOT_FOUND, "path", "--reverse", vault.tree / ".scrim-dir")


def test_lock_ends_a_mount_in_use_and_keeps_what_was_written(vault):
    mount = vault.mount()
    file = os.open(mount / "file", os.O_CREAT | os.O_WRONLY)
    os.write(file, b"written")
    scrim("lock", mount.point)
    assert not mounted_at(mount.point) and not alive(mount.pid)
    with pytest.raises(OSError):
        os.write(file, b"more")
        os.fsync(file)
    # The last close may tell of the error too, or not.
    with contextlib.suppress(OSError):
        os.close(file)
    assert vault.cat("file").stdout == b"written"
    fails(NOT_MOUNTED, "lock", mount.point)


def test_lock_takes_several_mounts_and_one_whose_daemon_was_killed(workspace):
    first, second = (workspace.vault(name=name).mount(point=f"on {name}") for name in ("one", "two"))
    second.kill()
    scrim("lock", first.point, second.point)
    assert not mounted_at(first.point) and not mounted_at(second.point)
    assert not alive(first.pid)
    fails(USAGE, "lock")
    fails(USAGE, "lock", "--all", first.point)


def test_lock_all_takes_the_mounts_of_this_user_only(workspace, unprivileged):
    # As an ordinary user, since root's --all would take the mounts of other programs on this machine.
    base = workspace.vault().mount()
    mine = workspace.vault(name="mine", user=unprivileged).mount(point="mine on")
    scrim("lock", "--all", user=unprivileged)
    assert not mounted_at(mine.point) and not alive(mine.pid)
    assert mounted_at(base.point)
    scrim("lock", "--all", user=unprivileged)
    base.stop()


def test_an_idle_mount_ends_by_itself_and_a_used_one_stays(vault):
    mount = vault.mount(arguments=["--idle", "2"])
    with open(mount / "file", "wb") as file:
        file.write(b"kept")
        file.flush()
        time.sleep(2.8)
        assert mounted_at(mount.point), "a file is open"
    wait_for(lambda: not mounted_at(mount.point) and not alive(mount.pid), "the idle mount to end")
    assert "unused for 2 s" in mount.log_text()
    assert vault.cat("file").stdout == b"kept"


def test_a_working_directory_keeps_an_idle_mount(vault):
    mount = vault.mount("idle=1s")
    sitter = subprocess.Popen(["sleep", "60"], cwd=mount.point)
    try:
        time.sleep(1.6)
        assert mounted_at(mount.point)
    finally:
        sitter.kill()
        sitter.wait()
    wait_for(lambda: not alive(mount.pid), "the idle mount to end")
    for nonsense in ("0", "s", "5x", "-1", "99999999999d"):
        fails(USAGE, "mount", vault.path, mount.point, f"--idle={nonsense}")


def test_watch_prints_a_line_of_json_each_second(mount):
    process = subprocess.Popen([SCRIM, "status", mount.point, "--watch", "--json"], stdout=subprocess.PIPE)
    try:
        assert json.loads(process.stdout.readline())["pid"] == mount.pid
        (mount / "file").write_bytes(b"x")
        assert json.loads(process.stdout.readline())["sealed"]["writes"] >= 1
    finally:
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(60) == 0
    fails(USAGE, "status", mount.point, "--watch")


def test_watch_draws_on_a_terminal_until_interrupted(mount):
    with open(mount / "held open", "wb"):
        interrupt = once(b"\x03", lambda shown: shown.count(b"\x1b[H") > 1)
        shown, status = on_terminal([SCRIM, "status", mount.point, "--watch"], interrupt)
    assert status == 0
    text = shown.decode()
    assert "/held open (sealed, 1)" in text and "sealed-compressed" in text


@offline
def test_doctor_names_what_is_missing_and_how_to_get_it():
    result = scrim("doctor", "--json", check=False)
    findings = {finding["name"]: finding for finding in json.loads(result.stdout)}
    assert {"/dev/fuse", "fusermount3", "kernel", "passthrough", "broker", "io_uring", "allow_other", "AES"} <= set(findings)
    assert all(f["ok"] or f["remedy"] for f in findings.values())
    version = scrim("--version").stdout.decode().strip()
    assert re.match(rf"{re.escape(version)}, release build, with libfuse 3\.\d+.*OpenSSL .*zstd 1\.", findings["scrim"]["detail"])
    lacking = [f for f in findings.values() if f["needed"] and not f["ok"]]
    assert result.returncode == (MOUNT_FAILED if lacking else 0)
    text = scrim("doctor", check=False).stdout.decode()
    for name, finding in findings.items():
        assert re.search(rf"^{'ok' if finding['ok'] else 'missing'} +{re.escape(name)} ", text, re.MULTILINE), text


@offline
def test_bench_gives_rates_and_times():
    sections = json.loads(scrim("bench", "--json", "--milliseconds", "1").stdout)
    figures = [figure for section in sections for figure in section["figures"]]
    assert len(figures) >= 15 and all(figure.get("mibPerSecond", figure.get("seconds")) > 0 for figure in figures)
    text = scrim("bench", "--milliseconds", "1").stdout.decode()
    for figure in figures:
        assert re.search(rf"^  {re.escape(figure['name'])} +\d+ (MiB/s|ms)", text, re.MULTILINE), text
    fails(USAGE, "bench", "--milliseconds", "0")


@offline
def test_doctor_judges_the_broker_it_finds(workspace):
    broken = workspace.path / "broker"
    broken.write_text("#!/bin/sh\nexit 0\n")
    broken.chmod(0o755)
    told = scrim("doctor", "--json", check=False, env={**os.environ, "SCRIM_BROKER": str(broken)})
    broker = next(f for f in json.loads(told.stdout) if f["name"] == "broker")
    assert not broker["ok"] and str(broken) in broker["detail"]


@offline
def test_a_command_gives_the_passphrase(vault):
    scrim("ls", vault.path, "--passphrase-command", f"cat '{vault.passphrase_file}'")
    fails(WRONG_SECRET, "ls", vault.path, "--passphrase-command", "echo wrong")
    fails(NO_PASSPHRASE, "ls", vault.path, "--passphrase-command", "true")
    assert "status 3" in fails(NO_PASSPHRASE, "ls", vault.path, "--passphrase-command", "echo half; exit 3")
    fails(USAGE, "ls", vault.path, "--passphrase-command", "true", "--passphrase-file", "a")


def test_a_mount_takes_its_passphrase_from_a_command(vault):
    point = vault.folder / "mnt"
    point.mkdir()
    scrim("mount", vault.path, point, "--passphrase-command", f"cat '{vault.passphrase_file}'")
    scrim("umount", point)


@offline
def test_a_descriptor_gives_the_passphrase(vault):
    with open(vault.passphrase_file, "rb") as file:
        scrim("ls", vault.path, "--passphrase-fd", str(file.fileno()), pass_fds=[file.fileno()])
    scrim("ls", vault.path, "--passphrase-fd", "0", input=PASSPHRASE)
    fails(NO_PASSPHRASE, "ls", vault.path, "--passphrase-fd", "900")
    fails(USAGE, "ls", vault.path, "--passphrase-fd=-1")


@offline
def test_systemd_gives_the_passphrase_unless_an_option_does(vault, workspace):
    folder = workspace.path / "credentials"
    folder.mkdir()
    environment = {**os.environ, "CREDENTIALS_DIRECTORY": str(folder)}
    (folder / "scrim-passphrase").write_bytes(PASSPHRASE)
    scrim("ls", vault.path, env=environment)
    (folder / "scrim-passphrase").write_bytes(b"wrong")
    fails(WRONG_SECRET, "ls", vault.path, env=environment)
    scrim("ls", vault.path, "--passphrase-file", vault.passphrase_file, env=environment)


@offline
def test_the_recovery_key_sets_a_new_passphrase(vault, workspace):
    new = workspace.path / "new"
    new.write_bytes(b"a new one\n")
    options = ["--new-passphrase-file", new, "--kdf-cost", "low"]
    told = scrim("key", "recover", vault.path, "--recovery-key-file", vault.recovery_file, *options)
    assert b"slot 2" in told.stdout
    scrim("ls", vault.path, "--passphrase-file", new)
    other = workspace.vault(name="other")
    fails(WRONG_SECRET, "key", "recover", vault.path, "--recovery-key-file", other.recovery_file, *options)
