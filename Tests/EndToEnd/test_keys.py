"""Passphrases, key files and recovery keys come and go without touching data."""

import json

from harness import fails, scrim
from harness import NOT_EMPTY, NO_PASSPHRASE, SYSTEM, USAGE, WRONG_SECRET


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
