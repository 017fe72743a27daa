"""Drives the real command on real mounts. Everything it makes lives under one folder and is taken away again."""

import atexit
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIM = Path(os.environ.get("SCRIM", REPOSITORY / ".build/release/scrim"))
PASSPHRASE = b"correct horse battery staple"
TIMEOUT = 120
SEED = int(os.environ.get("SCRIM_SEED", "20240601"))

# docs/cli.md
OK, SYSTEM, WRONG_SECRET, NOT_A_VAULT, LOCKED, DAMAGED = 0, 1, 10, 11, 12, 13
MOUNT_FAILED, MOUNT_POINT, NOT_MOUNTED, BUSY, NOT_FOUND, NOT_EMPTY = 14, 15, 16, 17, 18, 19
UNSUPPORTED, NO_PASSPHRASE, HARMLESS, USAGE = 20, 21, 22, 64


counts = Counter()


def count(what, number=1):
    """Adds to what the end of a run says it did: Tests/Crash/counts."""
    counts[what] += number


def seeded(name):
    """Random numbers that are the same in every run of a test, unless SCRIM_SEED says otherwise."""
    print(f"SCRIM_SEED={SEED}")
    return random.Random(f"{SEED} {name}")


def run(*arguments, check=True, timeout=TIMEOUT, **options):
    """Runs a command; bytes in, bytes out. With check, a failure shows what it printed."""
    options.setdefault("stdin", subprocess.DEVNULL if "input" not in options else None)
    if options["stdin"] is None:
        del options["stdin"]
    result = subprocess.run(
        [os.fspath(a) for a in arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, **options
    )
    if check and result.returncode != 0:
        raise AssertionError(
            f"{arguments} ended with {result.returncode}\n{result.stdout[-4000:].decode(errors='replace')}"
            f"\n{result.stderr[-4000:].decode(errors='replace')}"
        )
    return result


def scrim(*arguments, user=None, **options):
    """Runs scrim; as another user if that is wanted."""
    if user:
        options.update(user=user, group=user, extra_groups=[], cwd="/")
    return run(program_for(user), *arguments, **options)


_copies = {}


def program_for(user):
    """The program where that user may execute it: a checkout may be in a folder of root's."""
    if not user:
        return SCRIM
    if user not in _copies:
        folder = tempfile.mkdtemp(prefix="program.", dir=os.environ.get("SCRIM_TEST_ROOT"))
        atexit.register(shutil.rmtree, folder, True)
        os.chmod(folder, 0o755)
        _copies[user] = shutil.copy(SCRIM, folder)
    return _copies[user]


def fails(code, *arguments, **options):
    """Runs scrim, which must end with `code` and one sentence on standard error; returns that sentence."""
    result = scrim(*arguments, check=False, **options)
    text = result.stderr.decode(errors="replace")
    assert result.returncode == code, f"{arguments}: {result.returncode} instead of {code}\n{text}"
    if code != USAGE:
        assert text.startswith("scrim: ") and text.count("\n") == 1, text
    return text


def mounted_at(path):
    """Whether something is mounted at a path, from the table: looking at a dead mount would fail."""
    wanted = os.fsencode(path).replace(b"\\", b"\\134").replace(b" ", b"\\040")
    with open("/proc/self/mountinfo", "rb") as table:
        return any(line.split(b" ")[4] == wanted for line in table)


def wait_for(condition, what, timeout=TIMEOUT):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.02)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            return f.read().rsplit(b")", 1)[1].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextlib.contextmanager
def small_disk(workspace, size):
    """A folder that holds so much, until `run("mount", "-o", "remount,size=…", disk)`."""
    disk = workspace.path / "disk"
    disk.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={size}", "none", disk)
    try:
        yield disk
    finally:
        run("umount", "-l", disk)


def random_files(folder, number, size):
    folder.mkdir()
    for i in range(number):
        (folder / f"{i}").write_bytes(os.urandom(size))


def abort_connections(under):
    """Breaks FUSE connections of mounts under a folder, so that nobody hangs in them any longer."""
    with open("/proc/self/mountinfo", "rb") as table:
        for line in table:
            fields = line.split(b" ")
            if fields[4].startswith(os.fsencode(under) + b"/"):
                minor = fields[2].split(b":")[1].decode()
                try:
                    Path(f"/sys/fs/fuse/connections/{minor}/abort").write_text("1")
                except OSError:
                    pass


class Mount:
    """A mounted vault; also a context manager."""

    def __init__(self, vault, point, options=(), arguments=(), user=None, log=None):
        self.vault, self.point, self.user = vault, Path(point), user
        self.log = log or Path(f"{point}.log")
        self.options, self.arguments = list(options), list(arguments)
        self.pid = None

    def start(self):
        # A dead mount can be looked at no more.
        if not mounted_at(self.point):
            self.point.mkdir(exist_ok=True)
        if self.user:
            os.chown(self.point, self.user, self.user)
        command = ["mount", self.vault.path, self.point, "--passphrase-file", self.vault.passphrase_file]
        if not self.user:
            command += ["--log-file", self.log]
        if self.options:
            command += ["-o", ",".join(self.options)]
        self.start_output = scrim(*command, *self.arguments, user=self.user).stderr.decode(errors="replace")
        self.pid = self.status()["pid"]
        return self

    def status(self):
        return json.loads(scrim("status", self.point, "--json", user=self.user).stdout)

    def stop(self):
        if mounted_at(self.point):
            scrim("umount", self.point, user=self.user)
        assert not mounted_at(self.point)
        assert self.pid is None or not alive(self.pid)

    def kill(self):
        """SIGKILL: what the mount left behind is up to the caller."""
        os.kill(self.pid, signal.SIGKILL)
        wait_for(lambda: not alive(self.pid), "the daemon to die")

    def remount(self):
        self.stop()
        return self.start()

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def force_down(self):
        """Never fails: for the end of a test that did."""
        if mounted_at(self.point):
            abort_connections(self.point.parent)
            subprocess.run(["umount", "-l", self.point], stderr=subprocess.DEVNULL)
        if self.pid and alive(self.pid):
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def __enter__(self):
        return self.start() if self.pid is None else self

    def __exit__(self, kind, *_):
        if kind is None:
            self.stop()

    def __truediv__(self, name):
        return self.point / name


class Vault:
    def __init__(self, folder, name="vault", arguments=(), user=None):
        self.folder = Path(folder)
        self.path = self.folder / name
        self.tree = self.path / "tree"
        self.user = user
        self.passphrase_file = self.folder / f"{name}.passphrase"
        self.recovery_file = self.folder / f"{name}.recovery"
        self.mounts = []
        self.passphrase_file.write_bytes(PASSPHRASE + b"\n")
        if user:
            os.chown(self.folder, user, user)
            os.chown(self.passphrase_file, user, user)
        command = ["init", self.path, "--passphrase-file", self.passphrase_file]
        command += ["--recovery-file", self.recovery_file, "--kdf-cost", "low"]
        self.init_output = scrim(*command, *arguments, user=user)

    def mount(self, *options, arguments=(), point="mnt", user=None):
        mount = Mount(self, self.folder / point, options, arguments, user or self.user)
        self.mounts.append(mount)
        return mount.start()

    def ls(self, *path, check=True):
        return scrim("ls", self.path, *path, "--passphrase-file", self.passphrase_file, check=check)

    def cat(self, path, check=True):
        return scrim("cat", self.path, path, "--passphrase-file", self.passphrase_file, check=check)

    def backing_files(self):
        """Every file under tree/, records and sidecars left out, largest first."""
        found = []
        for directory, _, names in os.walk(self.tree):
            found += [Path(directory, n) for n in names if not n.startswith(".scrim-dir")]
        return sorted((p for p in found if not p.is_symlink()), key=lambda p: -p.stat().st_size)

    def close(self):
        for mount in self.mounts:
            mount.force_down()


class Workspace:
    """A folder of one test's own, and the vaults it made in it."""

    def __init__(self, base):
        root = os.environ.get("SCRIM_TEST_ROOT")
        parent = root if root and base == "/dev/shm" else base
        self.path = Path(tempfile.mkdtemp(prefix="e2e.", dir=parent))
        self.path.chmod(0o755)
        self.vaults = []

    def vault(self, *arguments, name="vault", user=None):
        vault = Vault(self.path, name, arguments, user)
        self.vaults.append(vault)
        return vault

    def close(self):
        for vault in self.vaults:
            vault.close()
        shutil.rmtree(self.path, ignore_errors=True)


class Watchdog:
    """Breaks the mounts of a test that takes too long: a hanging system call then ends with an error."""

    def __init__(self, seconds):
        self.fired = False
        self.timer = threading.Timer(seconds, self._fire)
        self.timer.daemon = True
        self.folders = []

    def _fire(self):
        self.fired = True
        for folder in self.folders:
            abort_connections(folder)

    def __enter__(self):
        self.timer.start()
        return self

    def __exit__(self, *_):
        self.timer.cancel()
