"""Runs a piece of a test as another user, or in another process, and brings back what it gave."""

import faulthandler
import os
import pickle
import select
import signal
import traceback
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from .calls import setgroups_and_user

TIMEOUT = 60


class User(NamedTuple):
    uid: int
    gid: int
    groups: tuple = ()


ROOT = User(0, 0)
ALICE = User(1001, 1001)
BOB = User(1002, 1002)
# A member of Alice's group besides her own.
CAROL = User(1003, 1003, (1001,))
NOBODY = User(65534, 65534)


class Task:
    """A forked child that runs one function; `result()` waits for it."""

    def __init__(self, function, *arguments, user=ROOT, umask=None):
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._read)
            _run_and_exit(write, user, umask, function, arguments)
        os.close(write)

    def result(self, timeout=TIMEOUT):
        chunks = []
        try:
            while True:
                ready, _, _ = select.select([self._read], [], [], timeout)
                if not ready:
                    raise TimeoutError(f"a child process did not finish within {timeout} s")
                chunk = os.read(self._read, 65536)
                if not chunk:
                    break
                chunks.append(chunk)
        except TimeoutError:
            self.kill()
            raise
        finally:
            os.close(self._read)
        _, status = os.waitpid(self.pid, 0)
        if not chunks:
            raise ChildProcessError(f"a child process died with status {status:#x}")
        good, value = pickle.loads(b"".join(chunks))
        if good:
            return value
        raise value

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)


def _run_and_exit(write, user, umask, function, arguments):
    faulthandler.disable()
    try:
        if user != ROOT:
            setgroups_and_user(*user)
        if umask is not None:
            os.umask(umask)
        answer = (True, function(*arguments))
    except OSError as error:
        answer = (False, OSError(error.errno, error.strerror))
    except BaseException:  # the parent has to hear of every way to fail
        answer = (False, AssertionError("in the child process:\n" + traceback.format_exc()))
    with os.fdopen(write, "wb") as stream:
        stream.write(pickle.dumps(answer))
    os._exit(0)


def run_as(user, function, *arguments, umask=None):
    """The function's result or error, run in a child process as `user`."""
    return Task(function, *arguments, user=user, umask=umask).result()


def in_child(function, *arguments):
    return run_as(ROOT, function, *arguments)


@contextmanager
def raises(*codes):
    """Expects an OSError with one of these error numbers."""
    with pytest.raises(OSError) as caught:
        yield caught
    wanted = [os.strerror(code) for code in codes]
    assert caught.value.errno in codes, f"{caught.value.strerror}, wanted {' or '.join(wanted)}"


def refused(user, code, function, *arguments):
    """Expects error `code` from the function when run as `user`."""
    with raises(code):
        run_as(user, function, *arguments)
