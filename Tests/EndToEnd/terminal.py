"""Commands on a terminal of their own, as whoever sits at one sees them."""

import fcntl
import os
import pty
import select
import struct
import termios
import threading
import time

from harness import TIMEOUT


def on_terminal(command, react=None, *, columns=80, rows=24, user=None, environment=None, meanwhile=None):
    """What a command shows until it ends, and its exit status. `react` is given all of it after each piece and returns what to
    type, if anything; `meanwhile` is given the process in a thread."""
    words = [os.fspath(word) for word in command]
    pid, terminal = pty.fork()
    if pid == 0:
        if user:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            os.chdir("/")
        os.execve(words[0], words, environment or {**os.environ, "TERM": "xterm"})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    companion = threading.Thread(target=meanwhile or (lambda _: None), args=(pid,))
    companion.start()
    shown, deadline = b"", time.monotonic() + TIMEOUT
    try:
        while True:
            assert time.monotonic() < deadline, f"{words} took too long\n{shown.decode(errors='replace')}"
            if not select.select([terminal], [], [], 1)[0]:
                continue
            try:
                piece = os.read(terminal, 65536)
            except OSError:
                break
            if not piece:
                break
            shown += piece
            typed = react(shown) if react else None
            if typed:
                os.write(terminal, typed)
    finally:
        os.close(terminal)
        companion.join()
        _, status = os.waitpid(pid, 0)
    return shown, os.waitstatus_to_exitcode(status)


def once(typed, enough):
    """Types something as soon as `enough` says so of what is shown."""
    left = [typed]
    return lambda shown: left.pop() if left and enough(shown) else None


def answers(script):
    """Types one answer after the other, each when its question appears."""
    script, seen = list(script), 0

    def react(shown):
        nonlocal seen
        if not script or script[0][0] not in shown[seen:]:
            return None
        seen = len(shown)
        return script.pop(0)[1]

    return react
