"""The recipes of docs/moving.md: vaults of others, mounted, move over and are the same to the last byte."""

import os
import shutil
import subprocess

import pytest
import trees
from harness import run, scrim, seeded, wait_for

PASSWORD = b"another password\n"
pytestmark = pytest.mark.limit(300)


def gocryptfs(vault, point, password):
    run("gocryptfs", "-q", "-init", "-scryptn", "10", "-passfile", password, vault)
    run("gocryptfs", "-q", "-acl", "-passfile", password, vault, point)


def encfs(vault, point, password):
    # The inode numbers that it invents otherwise change while they are compared.
    run("encfs", "--standard", "--stdinpass", vault, point, "--", "-o", "use_ino", input=PASSWORD)


@pytest.mark.parametrize("program", [gocryptfs, encfs], ids=["gocryptfs", "encfs"])
def test_the_vault_of_another_program_moves_over(workspace, program):
    if shutil.which(program.__name__) is None:
        pytest.fail(f"{program.__name__} is not installed: see .ci/deps.sh")
    other, point, password = (workspace.path / name for name in ("other", "plain", "password"))
    other.mkdir()
    point.mkdir()
    password.write_bytes(PASSWORD)
    before = workspace.path / "before"
    trees.build(before, seeded("moving"), files=330)
    program(other, point, password)
    try:
        wait_for(lambda: os.path.ismount(point), "the other vault")
        # Both take shorter names and targets than ext4, and leave out what they cannot hold.
        run("cp", "-a", f"{before}/.", point, check=False, timeout=300)
        assert len(run("find", point, "-type", "f").stdout.splitlines()) > 100
        vault = workspace.vault("--content", "sealed-compressed")
        scrim("migrate", f"{point}/", vault.path, "--verify", "--passphrase-file", vault.passphrase_file)
        with vault.mount() as mount:
            trees.assert_same(point, mount.point)
    finally:
        subprocess.run(["fusermount3", "-u", "-z", point], stderr=subprocess.DEVNULL)
