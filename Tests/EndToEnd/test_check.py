"""`scrim check`: silent about a sound vault, names what was harmed, repairs without deleting, and ends with the right code."""

import contextlib
import ctypes
import json
import os
import pty
import random
import re
import shutil
import subprocess
import time

import harness
import pytest
from harness import DAMAGED, OK, SCRIM, scrim, seeded

CHECKED = 22
PAGE = 4096
LONG = "x" * 200
LARGE = random.Random(7).randbytes(300 * PAGE)


def check(vault, *arguments, code=None):
    """The JSON of a check; with `code`, the exit code it must end with."""
    result = scrim("check", vault.path, *arguments, "--json", "--passphrase-file", vault.passphrase_file, check=False)
    assert result.stdout, result.stderr
    report = json.loads(result.stdout)
    if code is not None:
        assert result.returncode == code, report
    return report


def findings(report, severity="damage"):
    return {f["path"]: f for f in report["findings"] if f["severity"] == severity}


def everything_under(folder):
    found = []
    for root, _, names in os.walk(folder):
        found += [os.path.join(root, n) for n in names]
    return found


@pytest.fixture
def filled(vault):
    """A closed vault with some of everything; `vault.places` says where each name is stored."""
    with vault.mount() as mount:
        (mount / "dir").mkdir()
        (mount / "dir/inner").write_bytes(b"inner\n")
        (mount / "empty").mkdir()
        (mount / "small").write_bytes(b"small\n")
        (mount / "large").write_bytes(LARGE)
        (mount / "twin").write_bytes(LARGE[::-1])
        (mount / LONG).write_bytes(b"a long name\n")
        (mount / "link").symlink_to("target")
        os.setxattr(mount / "small", "user.note", b"note")
        (mount / "plain").mkdir()
        os.setxattr(mount / "plain", "user.scrim.policy", b"plain")
        (mount / "plain/open").write_bytes(b"in clear\n")
        os.link(mount / "small", mount / "second name")
        names = ["dir", "dir/inner", "empty", "small", "large", "twin", LONG, "link", "plain/open"]
        numbers = {n: os.lstat(mount / n).st_ino for n in names}
    by_number = {}
    for root, folders, files in os.walk(vault.tree):
        for name in folders + files:
            path = os.path.join(root, name)
            by_number[os.lstat(path).st_ino] = path
    vault.places = {n: by_number[i] for n, i in numbers.items()}
    return vault


def flip(path, offset):
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)
        f.seek(offset)
        f.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("deep", [(), ("--deep",)])
def test_a_sound_vault_is_clean(filled, deep):
    report = check(filled, *deep, code=OK)
    assert not findings(report) and not findings(report, "harmless")
    assert report["directories"] == 4 and report["files"] >= 8


def test_a_check_changes_nothing(filled):
    def state():
        return sorted((p, os.lstat(p).st_mtime_ns, os.lstat(p).st_ctime_ns) for p in everything_under(filled.tree))

    before, session = state(), (filled.path / "scrim.session").read_bytes()
    check(filled, "--deep", code=OK)
    assert state() == before and (filled.path / "scrim.session").read_bytes() == session


def test_a_changed_block_is_found_by_a_deep_check_and_salvaged(filled):
    flip(filled.places["large"], 100 * PAGE + 5)
    report = check(filled, "--deep", code=DAMAGED)
    assert list(findings(report)) == ["/large"]
    assert not any("lost+found" in n for n in os.listdir(filled.path))

    repaired = check(filled, "--deep", "--repair", code=CHECKED)
    assert findings(repaired)["/large"]["repaired"]
    aside = [n for n in os.listdir(filled.path) if n.startswith("lost+found-")]
    assert len(aside) == 1 and len(everything_under(filled.path / aside[0])) == 1
    check(filled, "--deep", code=OK)
    saved = filled.cat("large.salvaged").stdout
    assert len(saved) == len(LARGE)
    different = [i for i in range(0, len(LARGE), PAGE) if saved[i : i + PAGE] != LARGE[i : i + PAGE]]
    assert len(different) == 1 and not any(saved[different[0] : different[0] + PAGE])
    assert filled.cat("twin").stdout == LARGE[::-1]


def test_each_name_of_a_damaged_file_is_named_and_saved(filled):
    with filled.mount() as mount:
        os.link(mount / "large", mount / "dir/again")
        os.setxattr(mount / "large", "user.note", b"kept")
        os.chmod(mount / "large", 0o640)
    flip(filled.places["large"], 100 * PAGE + 5)
    names = {"/large", "/dir/again"}
    assert set(findings(check(filled, "--deep", code=DAMAGED))) == names
    assert set(findings(check(filled, "--deep", "--repair", code=CHECKED))) == names
    check(filled, "--deep", code=OK)
    with filled.mount() as mount:
        saved = [mount / "large.salvaged", mount / "dir/again.salvaged"]
        assert saved[0].stat().st_ino == saved[1].stat().st_ino and saved[0].stat().st_nlink == 2
        assert saved[0].stat().st_mode & 0o7777 == 0o640 and os.getxattr(saved[0], "user.note") == b"kept"


def test_a_repair_killed_at_any_moment_loses_nothing(filled, workspace):
    """The next one goes on: what could be saved is saved, whole."""
    with filled.mount() as mount:
        for name, size in (("first", 900), ("second", 1500), ("third", 2500)):
            (mount / name).write_bytes(LARGE[:PAGE] * size)
            number = (mount / name).stat().st_ino
            filled.places[name] = next(p for p in everything_under(filled.tree) if os.stat(p).st_ino == number)
    for name in ("first", "second", "third"):
        flip(filled.places[name], 100 * PAGE + 5)
    os.unlink(os.path.join(filled.places["dir"], ".scrim-dir"))
    rng = seeded("repair kill")
    for kills in range(4 * int(os.environ.get("SCRIM_ROUNDS", "1"))):
        command = [SCRIM, "check", filled.path, "--deep", "--repair", "--passphrase-file", filled.passphrase_file]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.02, 0.2))
        process.kill()
        if process.wait() >= 0:
            break
        harness.count("kills survived")
    check(filled, "--deep", "--repair", code=None)
    check(filled, "--deep", code=OK)
    with filled.mount() as mount:
        assert (mount / "dir/inner").read_bytes() == b"inner\n"
        for name, size in (("first", 900), ("second", 1500), ("third", 2500)):
            saved = [p for p in mount.point.iterdir() if p.name.startswith(f"{name}.salvaged")]
            assert saved
            for path in saved:
                content = path.read_bytes()
                assert len(content) == size * PAGE
                assert sum(content[i : i + PAGE] != LARGE[:PAGE] for i in range(0, len(content), PAGE)) == 1


def test_pages_that_a_crash_lost_are_free_again(vault):
    """What a sync leaves for the close to write down is not written down if the daemon is killed in between."""
    mount = vault.mount()
    (mount / "file").write_bytes(LARGE * 4)
    file = os.open(mount / "file", os.O_RDWR)
    os.fsync(file)
    punch = ctypes.CDLL(None, use_errno=True).fallocate
    punch.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    for block in range(0, 1200, 2):
        # FALLOC_FL_PUNCH_HOLE, which goes with FALLOC_FL_KEEP_SIZE.
        assert punch(file, 3, block * PAGE, PAGE) == 0
    os.fsync(file)
    os.pwrite(file, b"x", PAGE)
    os.fsync(file)
    mount.kill()
    with contextlib.suppress(OSError):
        os.close(file)
    scrim("umount", mount.point)
    (path,) = [p for p in vault.backing_files() if p.stat().st_size > PAGE * 100]
    (note,) = [f for f in check(vault, code=OK)["findings"] if "nothing uses" in f["reason"]]
    assert note["severity"] == "note" and note["path"] == "/file" and not note["repaired"]
    lost = int(re.search(r"left (\d+) pages", note["reason"])[1])
    assert lost > 400
    expected = vault.cat("file").stdout
    (note,) = [f for f in check(vault, "--repair", code=OK)["findings"] if "nothing uses" in f["reason"]]
    assert note["repaired"] and note["repair"] == "free again"
    assert check(vault, "--deep", code=OK)["findings"] == []
    assert vault.cat("file").stdout == expected
    # They are used before the file grows.
    before = path.stat().st_size
    with vault.mount() as mount, open(mount / "file", "ab") as file:
        file.write(bytes([7]) * (lost // 2 * PAGE))
    assert path.stat().st_size <= before + lost // 8 * PAGE


def test_blocks_cut_off_the_end_are_found_without_deep(filled):
    path = filled.places["large"]
    os.truncate(path, os.stat(path).st_size - PAGE)
    assert "/large" in findings(check(filled, code=DAMAGED))


def test_swapped_files_are_found(filled):
    one, two = filled.places["large"], filled.places["twin"]
    os.rename(one, one + ".tmp")
    os.rename(two, one)
    os.rename(one + ".tmp", two)
    report = check(filled, code=DAMAGED)
    assert set(findings(report)) == {"/large", "/twin"}
    check(filled, "--repair", code=CHECKED)
    assert filled.cat("large.salvaged").stdout == LARGE[::-1]
    check(filled, code=OK)


def test_what_was_planted_is_moved_aside(filled):
    with open(os.path.join(filled.tree, "made up name"), "wb") as f:
        f.write(b"planted")
    shutil.copy(filled.places["plain/open"], filled.places["small"] + ".p")
    assert len(findings(check(filled, code=DAMAGED))) == 2
    check(filled, "--repair", code=CHECKED)
    check(filled, code=OK)
    aside = next(n for n in os.listdir(filled.path) if n.startswith("lost+found-"))
    assert sorted(open(p, "rb").read() for p in everything_under(filled.path / aside)) == [b"in clear\n", b"planted"]


def test_leftovers_are_harmless_and_moved_aside(filled):
    with open(filled.tree / ".scrim-new.abc", "wb") as f:
        f.write(b"half made")
    with open(filled.tree / ("~" + "A" * 43 + ".n"), "wb") as f:
        f.write(b"orphan")
    assert len(findings(check(filled, code=CHECKED), "harmless")) == 2
    check(filled, "--repair", code=CHECKED)
    check(filled, code=OK)


def test_a_record_that_lost_its_file_or_attribute_is_written_anew(filled):
    record = os.path.join(filled.places["dir"], ".scrim-dir")
    if "user.scrim.dir" not in os.listxattr(filled.places["dir"]):
        pytest.skip("the backing filesystem has no user attributes")
    os.unlink(record)
    flip(os.path.join(filled.places["empty"], ".scrim-dir"), 50)
    report = check(filled, code=CHECKED)
    assert set(findings(report, "harmless")) == {"/dir", "/empty"}
    check(filled, "--repair", code=CHECKED)
    assert os.path.exists(record)
    check(filled, code=OK)


def test_a_directory_without_a_record_is_moved_aside(filled):
    folder = filled.places["dir"]
    os.unlink(os.path.join(folder, ".scrim-dir"))
    if "user.scrim.dir" in os.listxattr(folder):
        os.removexattr(folder, "user.scrim.dir")
    assert list(findings(check(filled, code=DAMAGED))) == ["/dir"]
    check(filled, "--repair", code=CHECKED)
    check(filled, code=OK)


@pytest.mark.parametrize("missing", [True, False])
def test_a_lost_session_is_rebuilt(filled, missing):
    session = filled.path / "scrim.session"
    if missing:
        session.unlink()
    else:
        session.write_bytes(b"\0" * 8192)
    assert list(findings(check(filled, code=DAMAGED))) == ["scrim.session"]
    check(filled, "--repair", code=CHECKED)
    check(filled, code=OK)
    with filled.mount() as mount:
        assert (mount / "large").read_bytes() == LARGE


def test_a_changed_attribute_is_found(filled):
    path = filled.places["small"]
    name = next(n for n in os.listxattr(path) if n.startswith("user.scrim.x."))
    value = bytearray(os.getxattr(path, name))
    value[14] ^= 1
    os.setxattr(path, name, bytes(value))
    assert findings(check(filled, code=DAMAGED))


def test_a_path_limits_the_check(filled):
    flip(filled.places["large"], 3)
    check(filled, "dir", code=OK)
    assert list(findings(check(filled, "large", code=DAMAGED))) == ["/large"]


def test_beside_a_mount_it_reads_only(filled):
    with filled.mount() as mount:
        (mount / "new").write_bytes(b"new")
        report = check(filled)
        assert report["writer"] and not findings(report)
        result = scrim(
            "check", filled.path, "--repair", "--passphrase-file", filled.passphrase_file, check=False
        )
        assert result.returncode == 12
        assert (mount / "new").read_bytes() == b"new"


def test_damaged_entries_can_be_listed_and_removed_through_the_mount(filled):
    flip(filled.places["large"], 3)
    os.truncate(filled.places["twin"], 0)
    with open(filled.places["small"], "r+b") as f:
        f.write(os.urandom(PAGE))
    with filled.mount() as mount:
        assert {"large", "twin", "small"} <= set(os.listdir(mount.point))
        for name in ("large", "twin", "small", "second name"):
            with pytest.raises(OSError):
                (mount / name).read_bytes()
            os.unlink(mount / name)
        assert not {"large", "twin", "small"} & set(os.listdir(mount.point))
    check(filled, "--deep", code=OK)


def test_a_terminal_is_shown_the_progress(filled):
    """The line is drawn over and over, and is gone at the end."""
    main, terminal = pty.openpty()
    try:
        command = [SCRIM, "check", filled.path, "--deep", "--passphrase-file", filled.passphrase_file]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=terminal, timeout=120,
                              env={**os.environ, "TERM": "xterm"})
        os.set_blocking(main, False)
        shown = os.read(main, 1 << 16).decode()
    finally:
        os.close(terminal)
        os.close(main)
    assert done.returncode == OK
    lines = shown.split("\r\x1b[K")
    assert re.search(r"\d+ entries, .*/s", lines[1]), shown
    assert lines[-1] == "", shown


def test_what_a_killed_writer_left_goes_with_the_next_listing(filled):
    """Leftovers of an earlier session are removed by whoever lists the directory, those of this one are not."""
    old = os.path.join(filled.tree, ".scrim-new.old")
    os.mkdir(old)
    open(os.path.join(old, ".scrim-dir.new"), "w").close()
    since = os.stat(old).st_ctime
    # The clock of inodes lags: what is younger than two seconds before the session may be its own.
    while time.time() < since + 2.5:
        time.sleep(0.1)
    with filled.mount() as mount:
        young = os.path.join(filled.tree, ".scrim-new.young")
        open(young, "w").close()
        assert sorted(os.listdir(mount.point))[0] == "dir"
        assert not os.path.exists(old)
        assert os.path.exists(young)
