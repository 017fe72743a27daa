"""What commands draw: progress and views that fit their terminal, colours for those who want them, nothing that drives it."""

import json
import mmap
import os
import re
import signal
import time

import pytest
from harness import SCRIM, USAGE, scrim
from terminal import once, on_terminal

offline = pytest.mark.offline


def secret(vault):
    return ["--passphrase-file", vault.passphrase_file]


def make(folder):
    folder.mkdir(exist_ok=True)
    return folder


def hold(pid, pauses):
    """Lets a process run and stops it in turn, for so many seconds each."""
    for run, rest in pauses:
        time.sleep(run)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(rest)
        os.kill(pid, signal.SIGCONT)


def drawn_by(command, columns, react=None, pauses=(), **environment):
    """What a command draws on a terminal of a width, and its exit status."""
    environment = {**os.environ, "TERM": "xterm", **environment}
    shown, status = on_terminal(command, react, columns=columns, environment=environment, meanwhile=lambda pid: hold(pid, pauses))
    return shown.decode(), status


ESCAPE = re.compile("\x1b\\[[0-9;?]*[A-Za-z]")


def widths(shown, columns):
    """Columns of all that was drawn, each redrawn line for itself; but a path that is long is not broken."""
    lines = [ESCAPE.sub("", line) for line in re.split("\r\n|\n|\r\x1b\\[K", shown)]
    return [len(line) for line in lines if max(map(len, line.split()), default=0) < columns // 2]


@pytest.fixture
def slow_tree(workspace):
    """More than a migration gets through in the time between two looks at the clock."""
    source = make(workspace.path / ("source with a name that takes a lot of room " + "n" * 60))
    block = os.urandom(1 << 20)
    for number in range(6):
        with open(source / f"{number} {'m' * 100}", "wb") as file:
            for _ in range(50):
                file.write(block)
    return source


@pytest.mark.parametrize("columns", [80, 50, 20])
def test_progress_never_wraps(workspace, slow_tree, columns):
    vault = workspace.vault()
    for command in (["migrate", slow_tree, vault.path, "--compress", "*"], ["check", vault.path, "--deep"]):
        # However fast the machine is, it takes over a second.
        pauses = [(0.1, 1.1), (0.1, 0.5)]
        shown, status = drawn_by([SCRIM, *command, *secret(vault)], columns, pauses=pauses)
        assert status == 0, shown
        drawn = [line for line in shown.split("\r\x1b[K")[1:] if line.strip()]
        assert len(drawn) > 1, shown
        assert max(len(line.split("\r\n")[0]) for line in drawn[:-1]) < columns, shown
        # The last line drawn is taken back, so that only the result stays.
        assert "\r\x1b[K" in shown and "/s" not in shown.rsplit("\r\x1b[K", 1)[1]
    for where in ({"TERM": "dumb"},):
        shown, _ = drawn_by([SCRIM, "check", vault.path, "--deep", *secret(vault)], columns, **where)
        assert "\x1b" not in shown


@pytest.mark.parametrize("columns", [80, 50])
def test_views_fit_their_terminal(workspace, columns):
    vault = workspace.vault()
    with vault.mount() as mount:
        make(mount / "plain")
        scrim("mark", mount / "plain", "--content", "plain")
        make(mount / ("a folder of a long name " + "d" * 60))
        held = [open(mount / ("a folder of a long name " + "d" * 60) / f"{n} {'名' * 40}", "w") for n in range(40)]
        held.append(open(mount / "plain" / "film", "wb"))
        watch = [SCRIM, "status", mount.point, "--watch"]
        shown, status = drawn_by(watch, columns, once(b"\x03", lambda text: text.count(b"\x1b[H") > 1))
        for file in held:
            file.close()
        assert status == 0
        picture = shown.split("\x1b[H")[-1]
        lines = [ESCAPE.sub("", line) for line in picture.split("\r\n")]
        for wide in lines:
            assert sum(2 if c == "名" else 1 for c in wide) <= columns, wide
        assert len(lines) <= 24 and any(line.startswith("  and ") for line in lines), picture
        for word in ("passthrough", "transport", "cache hits", "requests", "by kernel", "lent", "open files", "sealed"):
            assert any(line.startswith(word) for line in lines), (word, picture)
        for command in (["doctor"], ["key", "list", vault.path], ["audit", vault.path]):
            shown, _ = drawn_by([SCRIM, *command], columns)
            assert max(widths(shown, columns)) <= columns, shown
    shown, status = drawn_by([SCRIM, "mount", vault.path, "--nonsense"], columns)
    assert status == USAGE and max(widths(shown, columns)) <= columns, shown


@offline
def test_colours_are_for_terminals_of_those_who_want_them(vault):
    (vault.tree / "somebody's").write_text("not of this vault")
    command = [SCRIM, "check", vault.path, *secret(vault)]
    assert "\x1b[3" in drawn_by(command, 80)[0]
    assert "\x1b[3" in drawn_by(command, 80, NO_COLOR="")[0]
    assert "\x1b" not in drawn_by(command, 80, NO_COLOR="1")[0].replace("\r\x1b[K", "")
    assert "\x1b" not in drawn_by(command, 80, TERM="dumb")[0]
    assert b"\x1b" not in scrim(*command[1:], check=False).stdout
    assert b"\x1b" not in scrim("doctor", check=False).stdout


def test_names_cannot_drive_the_terminal(vault):
    with vault.mount() as mount:
        name = "x\x1b[2J\x9b31m\u202etxt"
        with open(mount / name, "w"):
            shown = scrim("status", mount.point).stdout.decode()
            assert "\x1b" not in shown and "\x9b" not in shown and "\u202e" not in shown and "x?[2J?31m?txt" in shown


def test_status_counts_what_was_found_in_memory(vault):
    with vault.mount() as mount:
        scrim("mark", mount.point, "--content", "sealed-compressed")
        (mount / "file").write_bytes(os.urandom(1 << 20))
        mount.remount()
        before = mount.status()
        file = os.open(mount / "file", os.O_RDONLY | os.O_DIRECT)
        # One block of 128 KiB, a piece at a time: only the first has to decompress it.
        buffer = bytearray()
        for offset in range(0, 128 << 10, 16 << 10):
            buffer += pread_direct(file, 16 << 10, offset)
        os.close(file)
        for _ in range(3):
            os.listdir(mount.point)
            os.path.exists(mount / "missing")
        after = mount.status()
    blocks, names = ({key: after["caches"][what][key] - before["caches"][what][key] for key in ("hits", "misses")} for what in ("blocks", "names"))
    assert blocks == {"hits": 7, "misses": 1}, blocks
    assert names["hits"] > 0 and after["requests"] > before["requests"] + 8
    assert json.dumps(after)


def pread_direct(file, count, offset):
    """O_DIRECT wants aligned memory."""
    with mmap.mmap(-1, count) as memory:
        got = os.preadv(file, [memory], offset)
        return memory[:got]
