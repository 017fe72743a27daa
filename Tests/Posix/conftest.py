"""Runs every behaviour on bare ext4 and on scrim mounts of each policy.

Each test runs in a process of its own, so that users, limits, umask and working directory cannot
leak, and a call that hangs is killed and reported.
SCRIM_POSIX_CONFIGS picks configurations ("ext4,sealed:sealed"), SCRIM_SOAK=1 runs every behaviour
on every one of them and adds the tests marked `soak`.
"""

import itertools
import os
import pickle
import select
import signal
import sys

import pytest
from _pytest._code import ExceptionInfo

from .mounts import ALL, CONTENT, FULL, SMOKE, Oracle, Scrim, Workspace, binary, kill_group
from .place import Place

SOAK = os.environ.get("SCRIM_SOAK") == "1"
TEST_TIMEOUT = 120
SOAK_TIMEOUT = 1800
COUNTER = itertools.count(1)


def pytest_configure(config):
    for marker in (
        "content: about what is in files; also runs where only that is of interest",
        "smoke: also runs on the configurations that do not get every behaviour",
        "scrim_only: speaks of scrim's own borders, so ext4 has no part in it",
        "contents(*policies): only on mounts of these content policies",
        "soak: only with SCRIM_SOAK=1",
    ):
        config.addinivalue_line("markers", marker)


def configurations():
    wanted = os.environ.get("SCRIM_POSIX_CONFIGS")
    if not wanted:
        return ALL, False
    unknown = set(wanted.split(",")) - set(ALL)
    if unknown:
        raise pytest.UsageError(f"unknown configurations {sorted(unknown)}; there are {ALL}")
    # The very strings of ALL: pytest sets a mount up anew where the parameter is another object.
    return [name for name in ALL if name in wanted.split(",")], True


def pytest_generate_tests(metafunc):
    if "fs" not in metafunc.fixturenames:
        return
    chosen, explicit = configurations()
    marks = {mark.name: mark for mark in metafunc.definition.iter_markers()}

    def wants(name):
        content = name.split(":")[0]
        if "soak" in marks and not SOAK:
            return False
        if "scrim_only" in marks and name == "ext4":
            return False
        if "contents" in marks and content not in marks["contents"].args:
            return False
        if "soak" in marks:
            return explicit or name in FULL or name in CONTENT
        if "content" in marks and name in CONTENT:
            return True
        if SOAK or explicit or name in FULL:
            return True
        return "smoke" in marks and name in CONTENT + SMOKE

    names = [name for name in chosen if wants(name)]
    metafunc.parametrize("mounted", names, indirect=True, scope="session", ids=names)


def pytest_collection_modifyitems(items):
    """Leaves out what has no configuration to run on, rather than counting it as skipped."""
    items[:] = [item for item in items
                if "fs" not in item.fixturenames or item.callspec.params.get("mounted") in ALL]


@pytest.fixture(scope="session")
def workspace():
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        reason = "mount tests need root and /dev/fuse"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    space = Workspace()
    yield space
    space.close()


@pytest.fixture(scope="session")
def mounted(request, workspace):
    if request.param == "ext4":
        mount = Oracle(workspace)
    else:
        if not os.access(binary(), os.X_OK):
            pytest.fail(f"{binary()} is missing: build it, or set SCRIM")
        mount = Scrim(workspace, *request.param.split(":"))
    yield mount
    mount.close()


@pytest.fixture
def fs(request, mounted):
    if not mounted.alive():
        mounted.revive()
    directory = mounted.top / f"t{next(COUNTER)}"
    directory.mkdir()
    directory.chmod(0o755)
    yield Place(mounted, str(directory))
    if not mounted.alive():
        pytest.fail("the mount did not survive this test")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    arguments = {name: pyfuncitem.funcargs[name]
                 for name in pyfuncitem._fixtureinfo.argnames}
    soaking = pyfuncitem.get_closest_marker("soak") is not None
    verdict, text = _in_child(lambda: pyfuncitem.obj(**arguments),
                              SOAK_TIMEOUT if soaking else TEST_TIMEOUT)
    if verdict == "skipped":
        pytest.skip(text)
    if verdict == "failed":
        pytest.fail(text, pytrace=False)
    return True


def _in_child(function, timeout):
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        os.setsid()
        answer = _verdict(function)
        with os.fdopen(writer, "wb") as stream:
            stream.write(pickle.dumps(answer))
        os._exit(0)
    os.close(writer)
    data = b""
    with os.fdopen(reader, "rb", buffering=0) as stream:
        while True:
            ready, _, _ = select.select([stream], [], [], timeout)
            if not ready:
                data = pickle.dumps(("failed", f"did not finish within {timeout} s"))
                break
            chunk = stream.read(65536)
            if not chunk:
                break
            data += chunk
    kill_group(pid)
    _, status = os.waitpid(pid, 0)
    if not data:
        name = signal.Signals(status & 0x7F).name if status & 0x7F else f"exit {status >> 8}"
        return "failed", f"the test's process ended by {name}"
    return pickle.loads(data)


def _verdict(function):
    try:
        function()
        return "passed", ""
    except pytest.skip.Exception as skip:
        return "skipped", str(skip)
    except BaseException:
        return "failed", str(ExceptionInfo.from_current().getrepr(style="short"))
