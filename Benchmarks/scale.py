"""Whether an operation takes as long among many files, or in a large one, as in small ones."""

import mmap
import os
import random
import time

from contenders import Skip

QUICK_COUNTS, FULL_COUNTS = (1000, 10_000), (1000, 10_000, 100_000, 1_000_000)
QUICK_SIZES = (1 << 20, 100 << 20, 10 << 30)
FULL_SIZES = (1 << 20, 10 << 20, 100 << 20, 1 << 30, 10 << 30, 100 << 30)
BLOCKS = 400
SUBJECTS = ("bare", "gocryptfs", "plain", "sealed", "compressed")
# Files of gocryptfs at the largest count take longer than they tell.
SLOW_LIMIT = {"gocryptfs": 100_000}


def daemon_memory(contender):
    """Resident bytes of the process that serves a mount; None where there is none to find."""
    wanted = os.fsencode(str(getattr(contender, "point", contender.folder)))
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as stream:
                words = stream.read().split(b"\0")
            if wanted in words and int(pid) != os.getpid():
                with open(f"/proc/{pid}/statm", "rb") as stream:
                    return int(stream.read().split()[1]) * mmap.PAGESIZE
        except OSError:
            continue
    return None


def many_files(runner, contender, count, drop_caches):
    """Microseconds for create, cold stat, rename and delete, and resident bytes an inode."""
    work = f"python3 Benchmarks/work.py {{}} $D/scale {count}"
    runner.shell(contender, "rm -rf $D/scale; mkdir $D/scale")
    found = {}
    for action in ("create", "stat", "rename", "delete"):
        if action == "stat":
            drop_caches()
            before = daemon_memory(contender)
        seconds = float(runner.shell(contender, work.format(action), timeout=1800))
        found[action] = seconds / count * 1e6
        after = daemon_memory(contender)
        if action == "stat" and before and after:
            found["bytes an inode"] = max(0, after - before) / count
    return found


def large_file(contender, size, drop_caches):
    """Microseconds for an open, and for 4 KiB reads at a few hundred places of a sparse file."""
    path = str(contender.folder / "large")
    rng = random.Random(size)
    offsets = [rng.randrange(size // 4096) * 4096 for _ in range(min(BLOCKS, size // 4096))]
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    os.ftruncate(fd, size)
    for offset in offsets:
        os.pwrite(fd, b"block of a large sparse file ".ljust(4096, b"."), offset)
    os.fsync(fd)
    os.close(fd)
    drop_caches()
    begin = time.perf_counter()
    fd = os.open(path, os.O_RDONLY)
    os.pread(fd, 4096, offsets[0])
    opened = time.perf_counter()
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    for offset in offsets[1:]:
        os.pread(fd, 4096, offset)
    done = time.perf_counter()
    os.close(fd)
    os.unlink(path)
    return {"open": (opened - begin) * 1e6, "read": (done - opened) / (len(offsets) - 1) * 1e6}


def measure(runner, contenders, quick, drop_caches, skip):
    """{"files": {contender: {count: figures}}, "sizes": {contender: {size: figures}}}."""
    results = {"files": {}, "sizes": {}}
    counts = QUICK_COUNTS if quick else FULL_COUNTS
    most = int(os.environ.get("FILES") or counts[-1])
    for contender in contenders:
        if contender.name not in SUBJECTS:
            continue
        for count in counts:
            if count > min(most, SLOW_LIMIT.get(contender.name, count)):
                continue
            try:
                figures = many_files(runner, contender, count, drop_caches)
            except Skip as reason:
                skip(contender.name, f"{count:,} files", str(reason))
                break
            results["files"].setdefault(contender.name, {})[count] = figures
        for size in QUICK_SIZES if quick else FULL_SIZES:
            try:
                figures = large_file(contender, size, drop_caches)
            except OSError as reason:
                skip(contender.name, f"a file of {size >> 20:,} MiB", str(reason))
                break
            results["sizes"].setdefault(contender.name, {})[size] = figures
    return results
