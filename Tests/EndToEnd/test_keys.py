"""Passphrases, key files and recovery keys come and go without touching data."""

import json
import os
import re

import pytest
from harness import SCRIM, fails, run, scrim
from harness import NOT_EMPTY, NO_PASSPHRASE, SYSTEM, USAGE, WRONG_SECRET
from terminal import once, on_terminal
from test_commands import talk

offline = pytest.mark.offline
NEW = b"a new passphrase"


def key(vault, command, *arguments, **options):
    return scrim("key", command, vault.path, "--passphrase-file", vault.passphrase_file, *arguments, **options)


def kinds(vault):
    return [slot["kind"] for slot in json.loads(scrim("key", "list", vault.path, "--json").stdout)]


def test_the_recovery_key_opens_the_vault_and_adds_a_passphrase(vault, workspace):
    new = workspace.path / "new"
    new.write_text("a new one\n")
    scrim("ls", vault.path, "--recovery-key-file", vault.recovery_file)
    scrim("key", "add", vault.path, "--recovery-key-file", vault.recovery_file, "--new-passphrase-file", new, "--kdf-cost", "low")
    scrim("ls", vault.path, "--passphrase-file", new)
    assert kinds(vault) == ["passphrase", "recovery key", "passphrase"]


def test_a_mistyped_recovery_key_is_told_from_a_wrong_one(vault, workspace):
    text = vault.recovery_file.read_text()
    typed = workspace.path / "typed"
    typed.write_text(text.lower().replace("-", " "))
    scrim("ls", vault.path, "--recovery-key-file", typed)
    typed.write_text(("B" if text[0] == "A" else "A") + text[1:])
    assert "typing mistake" in fails(WRONG_SECRET, "ls", vault.path, "--recovery-key-file", typed)
    other = workspace.vault(name="other")
    fails(WRONG_SECRET, "ls", vault.path, "--recovery-key-file", other.recovery_file)


def test_a_changed_passphrase_replaces_the_old_one(vault, workspace):
    new = workspace.path / "new"
    new.write_text("a new one")
    key(vault, "change", "--new-passphrase-file", new, "--kdf-cost", "low")
    fails(WRONG_SECRET, "ls", vault.path, "--passphrase-file", vault.passphrase_file)
    scrim("ls", vault.path, "--passphrase-file", new)
    assert kinds(vault) == ["passphrase", "recovery key"]


def test_a_key_file_opens_the_vault(vault, workspace):
    file = workspace.path / "key"
    file.write_bytes(bytes(range(64)))
    key(vault, "add", "--new-key-file", file, "--label", "the key on the stick")
    scrim("ls", vault.path, "--key-file", file)
    assert "the key on the stick" in scrim("key", "list", vault.path).stdout.decode()
    assert b"slot 2" in scrim("key", "test", vault.path, "--key-file", file).stdout
    file.write_bytes(bytes(range(63)) + b"x")
    fails(WRONG_SECRET, "ls", vault.path, "--key-file", file)
    file.write_bytes(b"short")
    fails(NO_PASSPHRASE, "ls", vault.path, "--key-file", file)


def test_the_last_slot_stays(vault):
    key(vault, "remove", "1")
    fails(SYSTEM, "key", "remove", vault.path, "0", "--passphrase-file", vault.passphrase_file)
    fails(SYSTEM, "key", "remove", vault.path, "7", "--passphrase-file", vault.passphrase_file)
    fails(WRONG_SECRET, "ls", vault.path, "--recovery-key-file", vault.recovery_file)
    assert kinds(vault) == ["passphrase"]


def test_keys_change_while_the_vault_is_mounted(workspace):
    vault = workspace.vault()
    with vault.mount() as mount:
        (mount / "file").write_bytes(b"kept")
        key(vault, "add", "--new-recovery-file", workspace.path / "second")
        assert (mount / "file").read_bytes() == b"kept"
    scrim("ls", vault.path, "--recovery-key-file", workspace.path / "second")


def test_nonsense_is_refused(vault, workspace):
    fails(USAGE, "ls", vault.path, "--passphrase-file", "a", "--key-file", "b")
    fails(NOT_EMPTY, "key", "add", vault.path, "--passphrase-file", vault.passphrase_file, "--new-recovery-file", vault.recovery_file)
    fails(USAGE, "key", "add", vault.path, "--label", "x" * 65)


def opens(vault, secret, code=None):
    """Which slot a passphrase opens, or that it opens none."""
    arguments = ["key", "test", vault.path, "--passphrase-file", "-"]
    if code:
        return fails(code, *arguments, input=secret)
    return int(re.search(rb"slot (\d+)", scrim(*arguments, input=secret).stdout)[1])


@offline
def test_a_new_passphrase_comes_from_a_command_or_a_descriptor(vault, workspace):
    key(vault, "add", "--new-passphrase-command", "echo printed", "--label", "pass", "--kdf-cost", "low")
    assert opens(vault, b"printed") == 2
    scrim("ls", vault.path, "--passphrase-command", "echo printed")
    file = workspace.path / "new"
    file.write_bytes(NEW + b"\n")
    with open(file, "rb") as new:
        key(vault, "change", "--new-passphrase-fd", str(new.fileno()), "--kdf-cost", "low", pass_fds=[new.fileno()])
    assert opens(vault, NEW) == 0
    assert kinds(vault) == ["passphrase", "recovery key", "command"]
    assert 'command "pass"' in scrim("key", "list", vault.path).stdout.decode()
    fails(NO_PASSPHRASE, "key", "add", vault.path, "--passphrase-file", file, "--new-passphrase-command", "false")
    fails(USAGE, "key", "add", vault.path, "--new-passphrase-command", "true", "--new-key-file", file)


@offline
def test_init_takes_its_passphrase_from_a_command_and_a_label(workspace):
    made = ["init", workspace.path / "v", "--passphrase-command", "echo printed", "--label", "laptop", "--kdf-cost", "low"]
    scrim(*made, "--recovery-file", workspace.path / "key")
    [first, _] = json.loads(scrim("key", "list", workspace.path / "v", "--json").stdout)
    assert (first["kind"], first["label"]) == ("command", "laptop")
    fails(USAGE, "init", workspace.path / "w", "--label", "x" * 65)


@offline
def test_a_cost_can_be_a_time_and_the_list_shows_what_came_of_it(vault):
    told = key(vault, "change", "--new-passphrase-command", "echo printed", "--kdf-cost", "100ms").stdout.decode()
    listed = json.loads(scrim("key", "list", vault.path, "--json").stdout)[0]["kdf"]
    assert listed in told
    # 16 MiB is the least that a measured cost takes, 1 GiB the most.
    assert 14 <= int(re.search(r"N=2\^(\d+) ", listed)[1]) <= 20
    for nonsense in ("5ms", "0s", "2h", "-1s", "fast", "ms", "+100ms"):
        fails(USAGE, "key", "add", vault.path, f"--kdf-cost={nonsense}")


@offline
def test_a_new_passphrase_is_judged_before_it_is_confirmed(workspace):
    def make(passphrase):
        folder = workspace.path / f"v{len(passphrase)}"
        command = [SCRIM, "init", folder, "--kdf-cost", "low", "--recovery-file", f"{folder}.key"]
        return talk(command, [(b"New passphrase", passphrase + b"\n"), (b"Once more", passphrase + b"\n")])

    assert b"strength: weak" in make(b"banana12")
    assert b"strength: weak" in make(b"a" * 40)
    assert b"strength: strong" in make(b"orbit walnut pencil cradle violet")


def pinentry(workspace, script):
    """A program that speaks Assuan as pinentry does: SCRIPT answers GETPIN, and all it was told goes to a file."""
    program = workspace.path / "pinentry-fake"
    told = workspace.path / "told"
    program.write_text(
        f"""#!/bin/sh
echo "OK Pleased to meet you"
while read -r line; do
  printf '%s\\n' "$line" >>'{told}'
  case $line in
    GETPIN) {script} ;;
    OPTION*) echo 'ERR 83886254 Unknown option <Pinentry>' ;;
    *) echo OK ;;
  esac
done
"""
    )
    program.chmod(0o755)
    return program, told


@offline
def test_pinentry_gives_the_passphrase(vault, workspace):
    program, told = pinentry(workspace, "echo '# a comment'; echo 'D correct%20horse battery'; echo 'D  staple'; echo OK")
    scrim("ls", vault.path, "--pinentry", program, start_new_session=True)
    text = told.read_text()
    assert f"SETDESC Passphrase for {vault.path}" in text and text.count("GETPIN") == 1
    # A new one is asked for twice, and the second time with what it looks worth.
    key(vault, "add", "--pinentry", program, "--kdf-cost", "low")
    assert told.read_text().count("GETPIN") == 3 and "SETDESC strength: fair" in told.read_text()
    assert len(kinds(vault)) == 3


@offline
def test_what_goes_wrong_with_pinentry_is_told(vault, workspace):
    program, _ = pinentry(workspace, "echo 'ERR 83886179 Operation cancelled <Pinentry>'")
    assert "no passphrase was given" in fails(NO_PASSPHRASE, "ls", vault.path, "--pinentry", program)
    program, _ = pinentry(workspace, "echo 'ERR 83918950 Inappropriate ioctl for device <Pinentry>'")
    assert "Inappropriate ioctl" in fails(NO_PASSPHRASE, "ls", vault.path, "--pinentry", program)
    program, _ = pinentry(workspace, "exit 0")
    assert "ended" in fails(NO_PASSPHRASE, "ls", vault.path, "--pinentry", program)
    program, _ = pinentry(workspace, "echo OK")
    assert "empty" in fails(NO_PASSPHRASE, "ls", vault.path, "--pinentry", program)
    fails(NO_PASSPHRASE, "ls", vault.path, "--pinentry", "/bin/false")
    fails(NO_PASSPHRASE, "ls", vault.path, "--pinentry", workspace.path / "missing")


@offline
def test_without_a_terminal_a_display_has_pinentry_asked(vault, workspace):
    pinentry(workspace, "echo 'D correct horse battery staple'; echo OK")[0].rename(workspace.path / "pinentry")
    path = f"{workspace.path}:{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    scrim("ls", vault.path, env={**environment, "PATH": path, "DISPLAY": ":9"}, start_new_session=True)
    fails(NO_PASSPHRASE, "ls", vault.path, env={**environment, "PATH": path}, start_new_session=True)


@offline
def test_a_real_pinentry_asks_on_the_terminal(vault):
    shown, status = on_terminal(
        [SCRIM, "key", "test", vault.path, "--pinentry", "pinentry-curses"],
        once(b"correct horse battery staple\r", lambda shown: b"Passphrase for" in shown and b"Cancel" in shown),
    )
    assert status == 0 and b"it opens slot 0" in shown, shown
    assert b"correct horse" not in shown


@offline
def test_a_removed_slot_is_gone_from_the_header(vault, workspace):
    file = workspace.path / "key"
    file.write_bytes(os.urandom(64))
    key(vault, "add", "--new-key-file", file, "--label", "gone soon")
    assert b"gone soon" in (vault.path / "scrim.vault").read_bytes()
    key(vault, "remove", "2")
    assert b"gone soon" not in (vault.path / "scrim.vault").read_bytes()
    left = [path.name for path in vault.path.iterdir()]
    assert sorted(left) == ["scrim.lock", "scrim.session", "scrim.vault", "tree"]
    assert "key list" in fails(SYSTEM, "key", "remove", vault.path, "2", "--passphrase-file", vault.passphrase_file)
    run("rm", file)
    fails(NO_PASSPHRASE, "ls", vault.path, "--key-file", file)
