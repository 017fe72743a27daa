"""Takes the commands out of a page of the documentation and runs them as a reader would: in a shell, on a terminal, in a home
with some files, answering what is asked.

A block fenced as `console` holds commands after `$ ` (a `\\` at the end goes on in the next line) and below each what it prints;
of that every line has to appear, in that order, where `…` stands for anything. A comment `<!-- not run: WHY -->` before any
other fenced block says why its commands are only shown.
"""

import fnmatch
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import harness
from terminal import on_terminal

FENCE = re.compile(r"^```(\S*)\s*$")
NOT_RUN = re.compile(r"^<!-- not run: (.+) -->$")
# What tells a command from output, configuration or code in a block that is not run.
COMMAND = re.compile(r"^(\$ |(sudo )?(scrim|mount|umount|systemctl|make|apt|getfattr|setfattr|pass|gocryptfs|rsync|restic|borg|rclone) )")
QUESTION = re.compile(rb"(New passphrase|Passphrase|Recovery key|Once more)[^\n]*: $")
RECOVERY_KEY = re.compile(rb"(?:[A-Z2-7]{5}-){10}[A-Z2-7]{5}")
# A line that was taken back, what steers a terminal, and its line ends.
ESCAPES = re.compile(rb"[^\n]*\r\x1b\[K|\x1b\[[0-9;?]*[A-Za-z]|\r")


@dataclass
class Command:
    line: int
    text: str
    output: list = field(default_factory=list)


@dataclass
class Block:
    line: int
    language: str
    reason: str | None
    lines: list = field(default_factory=list)

    def commands(self):
        found = []
        for offset, text in enumerate(self.lines, 1):
            if found and found[-1].text.endswith("\\"):
                found[-1].text = found[-1].text[:-1] + text
            elif text.startswith("$ "):
                found.append(Command(self.line + offset, text[2:]))
            elif text.strip():
                assert found, f"line {self.line + offset}: output before any command"
                found[-1].output.append(text)
        return found


def blocks(page):
    """Every fenced block of a page."""
    found, current, before = [], None, ""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = FENCE.match(line)
        if fence and current is None:
            reason = NOT_RUN.match(before)
            current = Block(number, fence[1], reason and reason[1])
        elif fence:
            found.append(current)
            current = None
        elif current is not None:
            current.lines.append(line)
        if line.strip():
            before = line
    assert current is None, f"{page}: a block is not closed"
    return found


class Home:
    """A home with what people have, a `scrim` that is the one under test, and a `sudo` that asks nothing. Of a user's, if that
    is wanted."""

    def __init__(self, folder, user=None):
        self.user = user
        self.path = folder / "ann"
        self.bin = folder / "bin"
        self.state = folder / "cwd"
        self.bin.mkdir()
        for name in ("Documents", "Pictures", "Videos", "Backup", "Sync"):
            (self.path / name).mkdir(parents=True)
        (self.path / "Documents/letter.txt").write_text("Dear Bob,\n" + "all is well here.\n" * 40)
        (self.path / "Documents/taxes.csv").write_text("year,paid\n2024,100\n")
        for number in range(5):
            (self.path / f"Pictures/{number}.jpg").write_bytes(os.urandom(20000))
        (self.path / "Videos/film.mkv").write_bytes(os.urandom(3 << 20))
        self.state.write_text(str(self.path))
        (self.bin / "scrim").symlink_to(harness.program_for(user))
        self._program("sudo", 'exec "$@"')
        self._program("pass", f"echo '{harness.PASSPHRASE.decode()}'")
        self.recovery_key = b""
        if user:
            harness.run("chown", "-R", f"{user}:{user}", self.path, self.state)

    def _program(self, name, text):
        file = self.bin / name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)

    def environment(self):
        kept = {name: os.environ[name] for name in ("SCRIM_BROKER", "TMPDIR") if name in os.environ}
        return {
            **kept, "HOME": str(self.path), "USER": "ann", "TERM": "xterm", "LC_ALL": "C.UTF-8", "NO_COLOR": "1",
            "PATH": f"{self.bin}:{os.environ['PATH']}:/usr/sbin:/sbin",
        }  # fmt: skip

    def run(self, text):
        """What the command printed, and its status."""
        script = f'cd "$(cat {self.state})" && {{ {text}\n}}; status=$?; pwd >{self.state}; exit $status'
        answered = 0

        def answer(shown):
            nonlocal answered
            question = QUESTION.search(shown[answered:])
            if not question:
                return None
            answered = len(shown)
            return (self.recovery_key if question[1] == b"Recovery key" else harness.PASSPHRASE) + b"\n"

        shown, status = on_terminal(
            ["/bin/bash", "-c", script], answer, columns=200, user=self.user, environment=self.environment()
        )
        key = RECOVERY_KEY.search(shown)
        if key:
            self.recovery_key = key[0]
        return ESCAPES.sub(b"", shown).decode(errors="replace"), status


def follow(page, home):
    """Runs every command of a page in order."""
    for block in blocks(page):
        if block.language != "console":
            continue
        for command in block.commands():
            where = f"{page.name}:{command.line}: {command.text}"
            output, status = home.run(command.text)
            assert status == 0, f"{where}\nended with {status}\n{output}"
            rest = iter(output.splitlines())
            for wanted in command.output:
                pattern = re.sub(r"[\[*?]", lambda m: f"[{m[0]}]", wanted.strip()).replace("…", "*")
                assert any(fnmatch.fnmatchcase(line.strip(), pattern) for line in rest), f"{where}\nno line {wanted!r} in\n{output}"
