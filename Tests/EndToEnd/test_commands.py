"""init, ls, cat and info, which need no mount."""

import hashlib
import json
import os
import pty
import re
import signal
import termios

import pytest
from harness import PASSPHRASE, SCRIM, fails, run, scrim, seeded, wait_for
from harness import NOT_A_VAULT, NOT_EMPTY, NOT_FOUND, NO_PASSPHRASE, USAGE, WRONG_SECRET
from terminal import answers, on_terminal

offline = pytest.mark.offline


@offline
def test_init_writes_a_recovery_key_once(vault):
    key = vault.recovery_file.read_text().strip()
    assert re.fullmatch(r"([A-Z2-7]{5}-){10}[A-Z2-7]{5}", key), "11 groups of five"
    assert vault.recovery_file.stat().st_mode & 0o777 == 0o600
    assert key.encode() not in vault.init_output.stdout + vault.init_output.stderr


@offline
def test_init_prints_the_recovery_key_without_a_file_for_it(workspace):
    secret = workspace.path / "secret"
    secret.write_bytes(PASSPHRASE)
    told = scrim("init", workspace.path / "v", "--passphrase-file", secret, "--kdf-cost", "low")
    assert re.search(rb"([A-Z2-7]{5}-){10}[A-Z2-7]{5}", told.stdout)


@offline
def test_init_refuses_a_folder_that_is_not_empty(workspace):
    folder = workspace.path / "full"
    folder.mkdir()
    (folder / "file").write_bytes(b"mine")
    secret = workspace.path / "secret"
    secret.write_bytes(PASSPHRASE)
    text = fails(NOT_EMPTY, "init", folder, "--passphrase-file", secret, "--kdf-cost", "low")
    assert str(folder) in text and os.listdir(folder) == ["file"]


@offline
def test_init_accepts_an_empty_folder_and_refuses_a_vault(workspace):
    (workspace.path / "vault").mkdir()
    vault = workspace.vault()
    fails(NOT_EMPTY, "init", vault.path, "--passphrase-file", vault.passphrase_file, "--kdf-cost", "low")


@offline
def test_init_does_not_overwrite_a_recovery_file(workspace, vault):
    fails(
        NOT_EMPTY, "init", workspace.path / "other", "--passphrase-file", vault.passphrase_file,
        "--recovery-file", vault.recovery_file, "--kdf-cost", "low",
    )
    assert not (workspace.path / "other").exists()


@offline
def test_init_asks_twice_on_the_terminal_without_echo(workspace):
    output = talk(
        [SCRIM, "init", workspace.path / "v", "--kdf-cost", "low", "--recovery-file", workspace.path / "key"],
        [(b"passphrase", b"typed\n"), (b"more", b"typed\n")],
    )
    assert b"typed" not in output
    secret = workspace.path / "secret"
    secret.write_bytes(b"typed")
    scrim("ls", workspace.path / "v", "--passphrase-file", secret)


@offline
def test_an_interrupt_at_the_prompt_ends_at_once_and_brings_echo_back(workspace):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(SCRIM, [os.fspath(SCRIM), "init", os.fspath(workspace.path / "v")])
    shown = b""
    while b"passphrase" not in shown:
        shown += os.read(terminal, 4096)
    wait_for(lambda: not termios.tcgetattr(terminal)[3] & termios.ECHO, "echo to go")
    os.write(terminal, b"\x03")
    wait_for(lambda: termios.tcgetattr(terminal)[3] & termios.ECHO, "echo to come back")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGINT
    assert not (workspace.path / "v").exists()


@offline
def test_a_vault_without_a_passphrase_to_be_had_says_so(vault):
    fails(NO_PASSPHRASE, "ls", vault.path, start_new_session=True)
    fails(NO_PASSPHRASE, "ls", vault.path, "--passphrase-file", "/dev/null")


@offline
def test_an_empty_vault_lists_nothing(vault):
    assert vault.ls().stdout == b""


@offline
def test_wrong_secrets_and_folders_are_told_apart(workspace, vault):
    wrong = workspace.path / "wrong"
    wrong.write_bytes(b"wrong")
    fails(WRONG_SECRET, "ls", vault.path, "--passphrase-file", wrong)
    fails(WRONG_SECRET, "cat", vault.path, "x", "--passphrase-file", wrong)
    fails(NOT_A_VAULT, "ls", workspace.path, "--passphrase-file", wrong)
    fails(NOT_A_VAULT, "info", workspace.path)
    fails(NOT_A_VAULT, "info", workspace.path / "missing")
    fails(NOT_FOUND, "cat", vault.path, "missing", "--passphrase-file", vault.passphrase_file)
    fails(NOT_FOUND, "ls", vault.path, "missing", "--passphrase-file", vault.passphrase_file)


@offline
def test_usage_errors_have_one_code():
    for arguments in ([], ["frobnicate"], ["init"], ["mount", "a"], ["init", "x", "--kdf-cost", "none"], ["ls", "--what"]):
        if arguments:
            fails(USAGE, *arguments)
    assert b"SUBCOMMANDS" in scrim("--help").stdout
    assert re.match(rb"\d+\.\d+", scrim("--version").stdout)


@offline
def test_info_needs_no_secret_and_prints_none(vault):
    text = scrim("info", vault.path).stdout
    facts = json.loads(scrim("info", vault.path, "--json").stdout)
    assert facts["formatVersion"] == 1 and len(facts["slots"]) == 2
    assert {slot["kind"] for slot in facts["slots"]} == {"passphrase", "recovery key"}
    for secret in (PASSPHRASE, vault.recovery_file.read_bytes().strip()):
        assert secret not in text
    assert facts["vaultID"].encode() in text


def test_ls_and_cat_read_without_mounting(vault):
    rng = seeded("offline")
    contents = {b"small": b"small", b"large": rng.randbytes(3 << 20), b"\xff\xfe": b"odd", b"n" * 255: b"long", b"empty": b""}
    with vault.mount() as mount:
        os.makedirs(mount / "a" / "b")
        for name, content in contents.items():
            with open(os.path.join(os.fsencode(mount / "a" / "b"), name), "wb") as f:
                f.write(content)
        os.symlink("small", mount / "a" / "b" / "link")
        (mount / "plain").mkdir()
        scrim("mark", mount / "plain", "--content", "plain")
        (mount / "plain" / "file").write_bytes(b"as it is")
    assert vault.ls().stdout.splitlines() == [b"a", b"plain"]
    assert vault.ls("a/b").stdout.splitlines() == sorted([*contents, b"link"])
    for name, content in contents.items():
        assert vault.cat(b"a/b/" + name).stdout == content
    assert vault.cat("/plain/file").stdout == b"as it is"
    listed = json.loads(vault.ls("-l", "--json", "a/b").stdout)
    sizes = {entry["name"]: entry["size"] for entry in listed if entry["type"] == "file" and "name" in entry}
    assert sizes["large"] == 3 << 20 and sizes["empty"] == 0
    everything = vault.ls("-R").stdout.splitlines()
    assert b"a/b/large" in everything and b"plain/file" in everything


def test_cat_of_a_mounted_vault_works_beside_it(vault, mount):
    (mount / "file").write_bytes(b"seen from outside")
    run("sync", "-f", mount.point)
    assert vault.cat("file").stdout == b"seen from outside"


def test_every_file_is_the_same_through_cat_and_mount(vault):
    rng = seeded("cat")
    sums = {}
    with vault.mount() as mount:
        for policy in ("sealed", "compressed", "sealed-compressed"):
            (mount / policy).mkdir()
            scrim("mark", mount / policy, "--content", policy)
            for size in (0, 1, 3904, 3905, 4096, 131072, 131073, 700000):
                data = (b"compressible " * (size // 13 + 1))[:size] if size % 2 else rng.randbytes(size)
                (mount / policy / str(size)).write_bytes(data)
                sums[f"{policy}/{size}"] = hashlib.sha256(data).hexdigest()
    for path, wanted in sums.items():
        assert hashlib.sha256(vault.cat(path).stdout).hexdigest() == wanted


def talk(command, script):
    """Answers a command's questions; returns what it showed."""
    shown, status = on_terminal(command, answers(script))
    assert status == 0, shown
    return shown
