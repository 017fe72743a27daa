"""Each `--json` of docs/cli.md by a real call: the members that the page names, and no others it does not."""

import json
import os
import re

import harness
from harness import run, scrim

CLI = (harness.REPOSITORY / "docs/cli.md").read_text()


def documented(section, *members):
    """Members that a section of the page names, as they are in a result; each has to be named there."""
    text = CLI.split(f"\n## {section}\n")[1].split("\n## ")[0]
    for member in members:
        assert re.search(rf"`[^`]*\b{member}\b[^`]*`", text), f"docs/cli.md#{section} does not name {member}"
    return set(members)


def lines(*arguments):
    result = scrim(*arguments, check=False)
    assert result.stderr == b"", result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_json_has_the_documented_members(workspace):
    vault = workspace.vault("--label", "laptop")
    secret = ["--passphrase-file", vault.passphrase_file]
    source = workspace.path / "source"
    source.mkdir()
    (source / "file").write_text("words " * 1000)
    os.mkfifo(source / "pipe")

    migrated = lines("migrate", source, vault.path, "--json", "--dry-run", *secret)
    migrated += lines("migrate", source, vault.path, "--json", *secret)
    events = {line["event"]: set(line) - {"event"} for line in migrated}
    assert events["plan"] == documented("migrate", "modes", "excluded", "directories", "others", "unreadable", "spaceNeeded")
    assert events["file"] == documented("migrate", "path", "outcome", "bytes")
    assert events["end"] == documented("migrate", "outcome", "counts", "bytes", "problems")
    exported = lines("export", vault.path, "/source", workspace.path / "out", "--json", *secret)
    assert {line["event"] for line in exported} == {"file", "end"}

    info = json.loads(scrim("info", vault.path, "--json").stdout)
    assert set(info) == documented("info", "vaultID", "formatVersion", "suite", "slots")
    slots = json.loads(scrim("key", "list", vault.path, "--json").stdout)
    assert slots == info["slots"] and [slot["label"] for slot in slots] == ["laptop", ""]
    assert all(set(slot) == documented("key", "kind", "label", "kdf") for slot in slots)

    listed = json.loads(scrim("ls", vault.path, "/source", "--json", *secret).stdout)
    members = documented("ls, cat", "name", "type", "mode", "size", "permissions", "uid", "gid", "modified")
    assert all(set(entry) == members for entry in listed), listed
    assert [entry["type"] for entry in listed] == ["file", "special"]
    checked = json.loads(scrim("check", vault.path, "--json", *secret).stdout)
    assert set(checked) == documented("check", "vault", "deep", "repair", "directories", "files", "bytes", "findings")
    (vault.tree / "somebody's").write_text("not of this vault")
    [finding] = json.loads(scrim("check", vault.path, "--json", *secret, check=False).stdout)["findings"]
    assert set(finding) <= documented("check", "severity", "path", "reason", "repaired", "repair"), finding
    (vault.tree / "somebody's").unlink()
    audit = json.loads(scrim("audit", vault.path, "--json", *secret).stdout)
    assert set(audit) == documented("audit", "vault", "view", "root") and audit["view"] == "owner"
    named = documented(
        "audit", "name", "files", "bytes", "readableBytes", "entries", "readableNames", "links", "readableTargets", "modes",
        "plainFiles", "directories", "content", "names", "rules", "unconverted", "state",
    )  # fmt: skip
    assert set(audit["root"]) <= named, set(audit["root"]) - named
    doctor = json.loads(scrim("doctor", "--json", check=False).stdout)
    for each in doctor:
        assert set(each) == documented("doctor", "name", "ok", "needed", "detail") | (set() if each["ok"] else {"remedy"})
    for section in json.loads(scrim("bench", "--json", "--milliseconds", "1").stdout):
        assert set(section) == documented("bench", "title", "figures")
        for figure in section["figures"]:
            assert set(figure) <= documented("bench", "name", "mibPerSecond", "seconds", "note")


def test_json_of_a_mount_has_the_documented_members(workspace):
    vault = workspace.vault()
    with vault.mount() as mount:
        (mount / "file").write_text("words")
        (mount / "folder").mkdir()
        with open(mount / "file"):
            status = json.loads(scrim("status", mount.point, "--json").stdout)
        table = CLI.split("\n## status\n")[1].split("\n## ")[0]
        rows = [row for row in table.splitlines() if row.startswith("| `")]
        named = {name for row in rows for name in re.findall(r"`([\w.]+)`", row.split("|")[1])}
        for name in named:
            value = status
            for part in name.split("."):
                assert part in value, name
                value = value[part]
        assert set(status) == {name.split(".")[0] for name in named}
        [opened] = status["openFiles"]
        assert {"path", "backing", "mode", "opens"} <= set(opened)
        [mounted] = [each for each in json.loads(scrim("mounts", "--json").stdout) if each["mountpoint"] == str(mount.point)]
        assert mounted == {"vault": str(vault.path), "mountpoint": str(mount.point)}
        scrim("mark", mount / "folder", "--rule", "*.mp4=plain")
        shown = json.loads(scrim("mark", mount.point, "--show", "--recursive", "--json").stdout)
        for each in shown:
            wanted = documented("mark", "path", "content") | (documented("mark", "names", "rules") if "names" in each else set())
            assert set(each) == wanted, each
        assert {"pattern": "*.mp4", "policy": "plain"} in [rule for each in shown for rule in each.get("rules", [])]
        end = lines("convert", mount / "file", "--content", "compressed", "--json")[-1]
        assert end["event"] == "end" and end["counts"] == {"converted": 1}


def test_names_that_are_no_text_are_told_in_base64(workspace):
    vault = workspace.vault("--names", "plain")
    secret = ["--passphrase-file", vault.passphrase_file]
    with vault.mount() as mount:
        with open(os.fsencode(mount.point) + b"/caf\xe9", "w"):
            pass
    [entry] = json.loads(scrim("ls", vault.path, "--json", *secret).stdout)
    assert entry["nameBase64"] == "Y2Fm6Q==" and "name" not in entry
    source = workspace.path / "source"
    source.mkdir()
    run("sh", "-c", 'printf x >"$1/$(printf "caf\\351")"', "sh", source)
    told = lines("migrate", f"{source}/", vault.path, "--json", *secret)
    assert [line["pathBase64"] for line in told if line["event"] == "file"] == ["Y2Fm6Q=="]
