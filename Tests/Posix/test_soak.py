"""Hours-long habits in minutes: stressors, databases, version control. `make soak` runs these."""

import json
import os
import pwd
import shutil
import subprocess
import time

import pytest

from .mounts import ROOT
from .test_crowds import list_by_calls
from .users import Task, User
from .workloads import run, two_sqlite_writers, verify_with_fio

pytestmark = [pytest.mark.soak]
SECONDS = int(os.environ.get("SCRIM_SOAK_SECONDS", "5"))
# Stressors that need more than a directory: their own devices, mounts, all mounts, or an idle machine.
NOT_A_DIRECTORY_MATTER = {"bind-mount", "fanotify", "binderfs", "iomix", "mount", "procfs", "sysfs", "ramfs",
                          "sysinval", "sysbadaddr", "hdd", "swap"}


def filesystem_stressors():
    listing = subprocess.run(["stress-ng", "--class", "filesystem?"], capture_output=True,
                             text=True, check=False)
    words = (listing.stdout + listing.stderr).split("class 'filesystem' stressors:")[-1].split()
    return sorted(set(words) - NOT_A_DIRECTORY_MATTER)


def stress(folder, stressor):
    """stress-ng's exit code: 0 passed, 2 failed, 3 and 4 not possible here."""
    done = subprocess.run(
        ["stress-ng", f"--{stressor}", "2", "--timeout", f"{SECONDS}s", "--verify",
         "--temp-path", folder, "--oomable"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=SECONDS + 120, check=False, cwd=folder)
    return done.returncode, done.stdout


def test_the_filesystem_stressors_that_ext4_passes(fs, workspace):
    record = workspace.path / "stressors.json"
    passed_on_ext4 = json.loads(record.read_text()) if record.exists() else None
    passed, failed = [], {}
    for stressor in filesystem_stressors():
        if passed_on_ext4 is not None and stressor not in passed_on_ext4:
            continue
        folder = fs.mkdir(f"stress-{stressor}")
        code, output = stress(folder, stressor)
        if code == 0:
            passed.append(stressor)
        elif code not in (3, 4):
            failed[stressor] = output[-1500:]
    if not fs.is_scrim:
        record.write_text(json.dumps(passed))
        assert len(passed) > 20, failed
        return
    assert not failed, "\n\n".join(f"{name}:\n{text}" for name, text in failed.items())


def test_fio_verifies_what_eight_jobs_wrote(fs):
    verify_with_fio(fs.dir, "32m")


def test_dbench_runs(fs):
    run("dbench", "-D", fs.dir, "-t", str(SECONDS * 4), "8")


def test_git_clones_collects_and_finds_nothing_wrong(fs):
    clone = fs / "clone"
    run("git", "clone", "-q", "--no-hardlinks", f"file://{ROOT}", clone)
    for round_number in range(5):
        for number in range(50):
            fs.file(f"clone/file{number}", data=b"%d %d\n" % (number, round_number) * 500)
        run("git", "add", "-A", cwd=clone)
        run("git", "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qm", "round",
            cwd=clone)
    run("git", "gc", "-q", "--prune=now", cwd=clone)
    run("git", "fsck", "--full", "--strict", cwd=clone)
    assert run("git", "status", "--porcelain", cwd=clone) == ""


@pytest.mark.parametrize("journal", ("wal", "delete", "truncate", "persist"))
def test_sqlite_with_two_writers_loses_nothing(fs, journal):
    two_sqlite_writers(fs / "base.sqlite", journal, 300)


def test_postgres_initialises_and_benches_with_fsync(fs):
    account = pwd.getpwnam("postgres")
    os.chmod(fs.dir, 0o777)
    data, user = fs / "data", User(account.pw_uid, account.pw_gid)
    sockets = f"/tmp/scrim-pg-{os.getpid()}"
    os.mkdir(sockets)
    os.chown(sockets, account.pw_uid, account.pw_gid)
    environment = {**os.environ, "PGHOST": sockets, "PGPORT": "54329", "LC_ALL": "C"}

    def work():
        os.chdir("/")
        run("initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-locale")
        options = f"-c listen_addresses= -c unix_socket_directories={sockets} -c fsync=on -p 54329"
        run("pg_ctl", "-D", data, "-w", "-l", data + "/log", "-o", options, "start",
            env=environment)
        try:
            run("pgbench", "-i", "-s", "2", "-q", "-U", "postgres", "postgres", env=environment)
            run("pgbench", "-c", "4", "-T", str(SECONDS * 2), "-U", "postgres", "postgres",
                env=environment)
        finally:
            run("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop", env=environment)
        run("pg_ctl", "-D", data, "-w", "-l", data + "/log", "-o", options, "start",
            env=environment)
        run("pg_ctl", "-D", data, "-w", "stop", env=environment)

    try:
        Task(work, user=user).result(timeout=900)
    finally:
        shutil.rmtree(sockets, ignore_errors=True)


def test_two_hundred_thousand_entries_are_made_listed_and_removed_in_linear_time(fs):
    def timed(action):
        begin = time.monotonic()
        action()
        return time.monotonic() - begin

    def make(folder, count):
        for number in range(count):
            os.close(os.open(f"{folder}/entry{number:07d}", os.O_CREAT | os.O_WRONLY))

    took = {}
    for count in (20_000, 200_000):
        folder = fs.mkdir(f"large{count}")
        took[count] = (
            timed(lambda: make(folder, count)),
            timed(lambda: len(list_by_calls(folder, 65536)) == count + 2 or pytest.fail("wrong listing")),
            timed(lambda: run("rm", "-rf", folder)))
        assert not os.path.exists(folder)
    print(took)
    # Ten times the entries; anything quadratic would take a hundred times as long.
    for small, large in zip(took[20_000], took[200_000]):
        assert large < 40 * small, took


def test_file_tree_copies_stay_identical_over_remounts(fs):
    source = ROOT / "docs"
    for round_number in range(10):
        run("cp", "-a", str(source), fs / f"copy{round_number}")
        if round_number % 3 == 0:
            fs.mount.remount()
        run("diff", "-r", str(source), fs / f"copy{round_number}")
