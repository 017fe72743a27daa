"""32 threads at the same few files of a mount: every byte read is one that was written as it is."""

import errno
import hashlib
import os
import random
import threading
import time

import harness
import pytest
from harness import scrim, seeded

SECONDS = int(os.environ.get("SCRIM_CROWD_SECONDS", "5"))
THREADS = 32
UNIT, UNITS = 512, 400
NAMES = [f"file {number}" for number in range(6)] + ["n" * 230]
FOLDERS = ("sealed", "sealed-compressed", "compressed")
# What one thread looked up another may have taken away, or put into a directory of another policy.
EXPECTED = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.EXDEV, errno.ESTALE}


def filled(key):
    """A unit of content that tells by itself whether it is whole."""
    head = key.to_bytes(8, "little")
    return head + hashlib.sha256(head).digest() * 15 + bytes(24)


def is_whole(content):
    units = (content[start : start + UNIT] for start in range(0, len(content), UNIT))
    return all(unit == filled(int.from_bytes(unit[:8], "little"))[: len(unit)] for unit in units if any(unit))


class Worker(threading.Thread):
    def __init__(self, point, seed, deadline):
        super().__init__()
        self.point, self.rng, self.deadline = point, random.Random(seed), deadline
        self.steps, self.problem = 0, None

    def path(self):
        return self.point / self.rng.choice(FOLDERS) / self.rng.choice(NAMES)

    def run(self):
        try:
            while time.monotonic() < self.deadline:
                try:
                    self.step()
                except OSError as error:
                    if error.errno not in EXPECTED:
                        raise
                self.steps += 1
        except BaseException as error:  # noqa: BLE001 - told by the test
            self.problem = repr(error)

    def step(self):
        choice = self.rng.randrange(24)
        if choice == 0:
            os.rename(self.path(), self.path())
        elif choice == 1:
            os.link(self.path(), self.path())
        elif choice == 2:
            os.unlink(self.path())
        elif choice == 3:
            folder = self.point / self.rng.choice(FOLDERS) / f"folder {self.rng.randrange(3)}"
            os.mkdir(folder) if self.rng.random() < 0.5 else os.rmdir(folder)
        elif choice == 4:
            link = self.path().with_name(f"link {self.rng.randrange(3)}")
            if self.rng.random() < 0.5:
                os.symlink("target", link)
            elif self.rng.random() < 0.5:
                os.rename(link, self.path().with_name(f"link {self.rng.randrange(3)}"))
            else:
                assert os.readlink(link) == "target"
        elif choice == 5:
            for entry in os.scandir(self.path().parent):
                entry.stat(follow_symlinks=False)
        elif choice == 6:
            os.utime(self.path())
            os.setxattr(self.path(), "user.note", b"x" * self.rng.randrange(200))
        else:
            self.use_file()

    def use_file(self):
        # Past the kernel's page cache, where a read may meet half a write.
        file = os.open(self.path(), os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o644)
        try:
            place = self.rng.randrange(UNITS) * UNIT
            choice = self.rng.randrange(10)
            if choice < 5:
                count = self.rng.choice((1, 1, 3, 8, 60))
                os.pwrite(file, b"".join(filled(self.rng.getrandbits(63)) for _ in range(count)), place)
            elif choice == 5:
                os.ftruncate(file, place)
            elif choice == 6:
                os.fsync(file)
            content = os.pread(file, 40 * UNIT, place)
            assert is_whole(content), f"a torn read at {place}"
        finally:
            os.close(file)


@pytest.mark.limit(120 + 20 * SECONDS)
def test_32_threads_see_only_what_was_written(workspace):
    vault = workspace.vault()
    rng = seeded("crowd")
    with vault.mount() as mount:
        for folder in FOLDERS:
            (mount / folder).mkdir()
            os.setxattr(mount / folder, "user.scrim.policy", folder.encode())
        deadline = time.monotonic() + SECONDS
        workers = [Worker(mount.point, rng.random(), deadline) for _ in range(THREADS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.problem for worker in workers if worker.problem] == []
        assert all(worker.steps > 0 for worker in workers)
        log = mount.log_text()
    assert "damaged" not in log, log
    with vault.mount() as mount:
        for root, _, names in os.walk(mount.point):
            for name in names:
                path = os.path.join(root, name)
                if not os.path.islink(path):
                    with open(path, "rb") as file:
                        assert is_whole(file.read()), path
    report = scrim("check", vault.path, "--deep", "--passphrase-file", vault.passphrase_file, check=False)
    assert report.returncode == harness.OK, report.stdout
    harness.count("steps of 32 threads", sum(worker.steps for worker in workers))
