"""What is measured. Each line is one shell command, shown in the report as it is run.

In commands $D is the contender's folder and $S the prepared sources. Lines of one group run one
after another on one contender, then on the next, so that later ones find what earlier ones made.
"""

from dataclasses import dataclass, field

FIO = "fio --name=bench --ioengine=psync --invalidate=0 --fallocate=none --filename=$D/data"
WORK = "python3 Benchmarks/work.py"


@dataclass(frozen=True)
class Line:
    """`measure`: "fio" (its own rate), "inside" (seconds the command prints), or "wall"."""

    name: str
    title: str
    command: str
    unit: str
    measure: str = "wall"
    count: int = 0
    cold: bool = False
    prepare: tuple = ()
    cleanup: tuple = ()

    @property
    def higher_is_better(self):
        return self.unit != "s"


@dataclass(frozen=True)
class Group:
    section: str
    lines: list
    # Run once per contender, before the first round.
    once: tuple = ()
    rounds: int = 0
    options: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Sizes:
    data: int  # MiB of the file that is read and written
    random: int  # MiB moved by a random line
    files: int
    entries: int
    syncs: int
    transactions: int


FULL = Sizes(data=256, random=32, files=10_000, entries=100_000, syncs=2000, transactions=1000)
QUICK = Sizes(data=64, random=8, files=1000, entries=10_000, syncs=300, transactions=150)


def sequential(sizes):
    lay = f"{FIO} --rw=write --bs=1m --size={sizes.data}m --end_fsync=1"
    lines = []
    for block in ("4k", "128k", "1m"):
        base = f"{FIO} --bs={block} --size={sizes.data}m"
        lines.append(Line(f"write-{block}", f"write, {block}", f"{base} --rw=write --end_fsync=1",
                          "MiB/s", "fio", prepare=("rm -f $D/data",)))
        lines.append(Line(f"read-cold-{block}", f"read, {block}, cold", f"{base} --rw=read",
                          "MiB/s", "fio", cold=True))
        lines.append(Line(f"read-warm-{block}", f"read, {block}, warm", f"{base} --rw=read",
                          "MiB/s", "fio"))
    lines.append(Line("overwrite-1m", "overwrite, 1m", f"{lay} --overwrite=1", "MiB/s", "fio"))
    return Group("Sequential", lines)


def randomly(sizes):
    lay = f"{FIO} --rw=write --bs=1m --size={sizes.data}m --end_fsync=1"
    lines = []
    for jobs in (1, 4):
        share = max(sizes.random // jobs, 1)
        base = (f"{FIO} --bs=4k --size={sizes.data}m --io_size={share}m --numjobs={jobs} "
                f"--group_reporting")
        plural = "job" if jobs == 1 else "jobs"
        lines.append(Line(f"randread-{jobs}", f"read 4k, {jobs} {plural}, cold",
                          f"{base} --rw=randread", "ops/s", "fio", cold=True))
        lines.append(Line(f"randwrite-{jobs}", f"write 4k, {jobs} {plural}",
                          f"{base} --rw=randwrite --end_fsync=1", "ops/s", "fio"))
    lines.append(Line(
        "fsync-4k", "write 4k, each fsynced",
        f"{FIO} --bs=4k --size={sizes.data}m --io_size={sizes.syncs * 4}k --rw=randwrite --fsync=1",
        "ops/s", "fio"))
    return Group("Random", lines, once=(lay,))


def small_files(sizes):
    def line(name, title, action, cold=False, **more):
        return Line(name, title, f"{WORK} {action} $D/files {sizes.files}", "ops/s", "inside",
                    sizes.files, cold, **more)
    return Group("Small files", [
        line("create", "create", "create", prepare=("rm -rf $D/files", "mkdir $D/files")),
        line("stat-cold", "stat, cold", "stat", cold=True),
        line("stat-warm", "stat, warm", "stat"),
        line("read-cold", "read, cold", "read", cold=True),
        line("read-warm", "read, warm", "read"),
        line("rename", "rename", "rename"),
        line("delete", "delete", "delete"),
    ])


def directories(sizes):
    command = f"{WORK} listing $D/many {sizes.entries}"
    return Group("Listing", [
        Line("list-cold", f"{sizes.entries:,} entries, cold", command, "ops/s", "inside",
             sizes.entries, cold=True),
        Line("list-warm", f"{sizes.entries:,} entries, warm", command, "ops/s", "inside",
             sizes.entries),
    ], once=(f"{WORK} populate $D/many {sizes.entries}",))


def trees():
    return Group("A real tree", [
        Line("untar", "tar x", "tar -C $D -xf $S/tree.tar", "s", prepare=("rm -rf $D/tree",)),
        Line("ls-cold", "ls -lR, cold", "ls -lR $D/tree >$S/listing", "s", cold=True),
        Line("grep-cold", "grep -r, cold", "grep -rc needle_that_is_not_there $D/tree >$S/found; :",
             "s", cold=True),
        Line("grep-warm", "grep -r, warm", "grep -rc needle_that_is_not_there $D/tree >$S/found; :",
             "s"),
        Line("clone", "git clone", "git clone -q --no-local file://$S/repository $D/clone", "s",
             prepare=("rm -rf $D/clone",)),
        Line("status-cold", "git status, cold", "git -C $D/clone status --porcelain", "s",
             cold=True),
        Line("remove", "rm -rf", "rm -rf $D/tree", "s", cleanup=("rm -rf $D/clone",)),
    ])


def database(sizes):
    return Group("SQLite", [
        Line("sqlite", "transactions, each fsynced", f"{WORK} sqlite $D {sizes.transactions}",
             "ops/s", "inside", sizes.transactions),
    ])


def every_group(sizes):
    return [sequential(sizes), randomly(sizes), small_files(sizes), directories(sizes), trees(),
            database(sizes)]


# What the project set out to reach on tmpfs: (text, lines, contender, rival, wanted ratio).
# A rival "peer" is the best of the encrypting peers on that line.
# What, lines, contender, rival ("peer" is the best of them), how many times faster, and where.
GOALS = (
    ("plain beside the bare folder", ("read-cold-1m", "read-warm-1m", "randread-1", "write-1m"),
     "plain", "bare", 0.95, "tmpfs"),
    ("plain beside the bare folder", ("write-4k",), "plain", "bare", 0.6, "tmpfs"),
    ("sealed beside gocryptfs", ("read-cold-128k", "read-cold-1m", "write-128k", "write-1m"),
     "sealed", "gocryptfs", 2, "tmpfs"),
    ("sealed beside the best peer", ("read-cold-128k", "read-cold-1m", "write-128k", "write-1m"),
     "sealed", "peer", 1.5, "tmpfs"),
    ("sealed beside the best peer", ("randread-1", "randwrite-1", "fsync-4k"), "sealed", "peer",
     1.3, "tmpfs"),
    ("sealed beside the best peer", ("randread-4",), "sealed", "peer", 2.5, "tmpfs"),
    ("sealed beside the best peer",
     ("create", "stat-cold", "read-cold", "rename", "delete", "untar", "grep-cold", "remove"),
     "sealed", "peer", 1.5, "tmpfs"),
    ("sealed beside the best peer", ("sqlite",), "sealed", "peer", 1.2, "tmpfs"),
    ("sealed-compressed beside sealed", ("read-cold-1m",), "sealed-compressed", "sealed", 0.6,
     "tmpfs"),
    ("sealed beside gocryptfs", ("ls-cold",), "sealed", "gocryptfs", 0.77, "ext4"),
)
SPACE_GOAL = ("sealed-compressed", "btrfs zstd:3", 1.1)
