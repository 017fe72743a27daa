"""The oracle (ext4 on a loop device) and the scrim mounts whose vaults lie on it."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMAGE_SIZE = "6G"
COMMAND_TIMEOUT = 120

CONTENTS = ("sealed", "compressed", "sealed-compressed", "plain")
NAMES = ("sealed", "plain")
ALL = ["ext4"] + [f"{content}:{names}" for content in CONTENTS for names in NAMES]
# By default these get every behaviour,
FULL = ("ext4", "sealed:sealed", "plain:plain")
# these what is marked `content`,
CONTENT = ("compressed:plain",)
# and these and those above what is marked `smoke`. All get everything in `make soak`.
SMOKE = ("sealed:plain", "plain:sealed", "sealed-compressed:sealed")


def binary():
    return os.environ.get("SCRIM", str(ROOT / ".build/release/scrim"))


def run(*command, check=True):
    done = subprocess.run(
        [str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=COMMAND_TIMEOUT)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}\n"
                           f"{done.stdout}{done.stderr}")
    return done


def is_mounted(path):
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        return any(line.split()[4] == str(path) for line in table)


def unmount(path, *, command=("umount",)):
    if is_mounted(path) and run(*command, path, check=False).returncode != 0:
        run("umount", "-l", path, check=False)


class Workspace:
    """A temporary folder with a mounted ext4 image; `close` takes everything down again."""

    def __init__(self):
        remove_leftovers()
        base = os.environ.get("SCRIM_TEST_ROOT")
        if not base and shutil.disk_usage("/dev/shm").free > 4 << 30:
            base = "/dev/shm"
        self.path = Path(tempfile.mkdtemp(prefix=f"scrim-posix-{os.getpid()}-", dir=base))
        self.path.chmod(0o755)
        self.ext4 = self.path / "ext4"
        self.ext4.mkdir()
        image = self.path / "image"
        run("truncate", "-s", IMAGE_SIZE, image)
        run("mkfs.ext4", "-q", "-F", "-m", "0", "-N", "700000", "-E", "nodiscard", image)
        run("mount", "-o", "loop,nosuid,nodev,user_xattr,acl", image, self.ext4)
        self.passphrase = self.path / "passphrase"
        self.passphrase.write_text("correct horse battery staple\n")

    def close(self):
        take_down(self.path)


def take_down(folder):
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        points = [line.split()[4] for line in table]
    for point in reversed([point for point in points if point.startswith(f"{folder}/")]):
        unmount(point)
    shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers():
    """Takes down what an earlier run that was killed has left."""
    for base in ("/dev/shm", tempfile.gettempdir()):
        for folder in Path(base).glob("scrim-posix-*"):
            pid = folder.name.split("-")[2]
            if not os.path.exists(f"/proc/{pid}"):
                take_down(folder)


class Oracle:
    """Bare ext4, with the same interface as a scrim mount."""

    is_scrim = False
    content, names = "ext4", "plain"
    vault = None

    def __init__(self, workspace):
        self.top = self.point = workspace.ext4 / "oracle"
        self.point.mkdir(exist_ok=True)
        self.point.chmod(0o755)

    def remount(self):
        """The oracle keeps its state; there is nothing to prove about its remount."""

    def close(self):
        pass

    def alive(self):
        return True

    def read_only(self):
        """Context: the directory as a read-only mount, yields where it is."""
        return ReadOnlyBind(self.point)


class ReadOnlyBind:
    def __init__(self, point):
        self.point = point
        self.view = point.parent / "read-only"

    def __enter__(self):
        self.view.mkdir(exist_ok=True)
        run("mount", "--bind", self.point, self.view)
        run("mount", "-o", "remount,bind,ro", self.view)
        return self.view

    def __exit__(self, *_):
        unmount(self.view)


class Scrim:
    """A vault on the workspace's ext4, mounted for all users."""

    is_scrim = True

    def __init__(self, workspace, content, names, options=("allow_other",)):
        self.content, self.names = content, names
        self.options = list(options)
        label = f"{content}-{names}"
        self.vault = workspace.ext4 / f"vault-{label}"
        self.point = workspace.path / f"mount-{label}"
        self.passphrase = workspace.passphrase
        # After a failure the next test tries again, with nothing of the first attempt in its way.
        shutil.rmtree(self.vault, ignore_errors=True)
        self.point.mkdir(exist_ok=True)
        # The root of a vault is never plain: there a directory is marked, as an owner would.
        at_root = "sealed" if content == "plain" else content
        run(binary(), "init", self.vault, "--passphrase-file", self.passphrase,
            "--kdf-cost", "low", "--content", at_root, "--names", names)
        self.mount()
        self.point.chmod(0o755)
        self.top = self.point
        if content == "plain":
            self.top = self.point / "marked"
            self.top.mkdir()
            self.mark(self.top, "plain")

    def mount(self, *more):
        run(binary(), "mount", self.vault, self.point, "--passphrase-file", self.passphrase,
            "-o", ",".join([*self.options, *more]))
        if not is_mounted(self.point):
            raise RuntimeError("scrim mount returned, but nothing is mounted")

    def remount(self):
        self.close()
        self.mount()

    def mark(self, directory, content):
        run(binary(), "mark", directory, "--content", content)

    def alive(self):
        try:
            os.stat(self.point / ".")
            return is_mounted(self.point)
        except OSError:
            return False

    def revive(self):
        run("umount", "-l", self.point, check=False)
        self.mount()

    def close(self):
        unmount(self.point, command=(binary(), "umount"))

    def read_only(self):
        return ReadOnlyScrim(self)


class ReadOnlyScrim:
    def __init__(self, scrim):
        self.scrim = scrim

    def __enter__(self):
        self.scrim.close()
        self.scrim.mount("ro")
        return self.scrim.top

    def __exit__(self, *_):
        self.scrim.close()
        self.scrim.mount()


def kill_group(pid):
    """Ends the process group that a test's child leads."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
