import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import harness  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "limit(seconds): how long a test may take before its mounts are broken")
    config.addinivalue_line("markers", "offline: needs no mount")


def _fuse_is_missing():
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return str(error)
    return None


def pytest_collection_modifyitems(items):
    reason = _fuse_is_missing()
    if reason is None:
        return
    for item in items:
        if item.get_closest_marker("offline"):
            continue
        if os.environ.get("CI"):
            # Under CI a missing device is a broken machine, not a reason to pass.
            item.user_properties.append(("no_fuse", reason))
        else:
            item.add_marker(pytest.mark.skip(reason=f"MOUNTS ARE NOT TESTED: /dev/fuse cannot be opened ({reason})"))


@pytest.fixture(autouse=True)
def _watchdog(request):
    for name, reason in request.node.user_properties:
        if name == "no_fuse":
            pytest.fail(f"/dev/fuse cannot be opened ({reason}), so mounts cannot be tested")
    mark = request.node.get_closest_marker("limit")
    with harness.Watchdog(mark.args[0] if mark else 180) as watchdog:
        request.node.watchdog = watchdog
        yield
    if watchdog.fired:
        pytest.fail("took too long; its mounts were broken to end it")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """Adds the end of each daemon's log to the report of a failing test."""
    report = (yield).get_result()
    if report.when != "call" or not report.failed:
        return
    for workspace in getattr(item, "workspaces", []):
        for vault in workspace.vaults:
            for mount in vault.mounts:
                report.sections.append((f"log of {mount.point}", mount.log_text()[-4000:]))


def pytest_terminal_summary(terminalreporter):
    for what, number in sorted(harness.counts.items()):
        terminalreporter.write_line(f"counted: {number} {what}")


def _workspace(request, base):
    workspace = harness.Workspace(base)
    request.node.watchdog.folders.append(workspace.path)
    request.node.workspaces = getattr(request.node, "workspaces", []) + [workspace]
    return workspace


@pytest.fixture
def workspace(request, _watchdog):
    """A folder in memory."""
    made = _workspace(request, "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp")
    yield made
    made.close()


@pytest.fixture
def disk_workspace(request, _watchdog):
    """A folder on a real disk's filesystem."""
    made = _workspace(request, "/var/tmp")
    yield made
    made.close()


@pytest.fixture
def vault(workspace):
    """A vault with the defaults: sealed content, sealed names."""
    return workspace.vault()


@pytest.fixture
def mount(vault):
    """That vault, mounted."""
    with vault.mount() as made:
        yield made


@pytest.fixture
def unprivileged():
    """The ID of a user without privileges who may mount."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    user = 65534
    # udev makes the device readable and writable for everyone, a container often for root only.
    if os.stat("/dev/fuse").st_mode & 0o006 == 0o006:
        yield user
        return
    before = subprocess.run(["getfacl", "-p", "/dev/fuse"], check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["setfacl", "-m", f"u:{user}:rw", "/dev/fuse"], check=True)
    yield user
    subprocess.run(["setfacl", "--restore=-"], check=True, input=before)
