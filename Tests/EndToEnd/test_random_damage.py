"""Random harm to the backing folder: never wrong content, and one repair leaves a vault in which a check finds nothing more."""

import json
import os
import random
import shutil
import stat

import harness
import pytest
from harness import DAMAGED, HARMLESS, OK, scrim, seeded
from test_hostile import FILES, LARGE, MEDIUM, SMALL, copy_in, foreign, module_workspace, original  # noqa: F401

ROUNDS = 6 * int(os.environ.get("SCRIM_ROUNDS", "1"))
# Contents that the files had at some time; of a salvaged file pages may be zero.
VERSIONS = {content for content in FILES.values()} | {b"changed later\n"}
CHANGED = MEDIUM[: 5 * 4096] + b"\x55" * 4096 + b"\x66" * 4096 + MEDIUM[7 * 4096 :]


def entries(tree):
    found = []
    for root, folders, files in os.walk(tree):
        found += [os.path.join(root, name) for name in folders + files]
    return sorted(found)


def harm(scene, other, rng):
    """One change; returns what it was."""
    path = rng.choice(entries(scene.tree) + [str(scene.path / "scrim.session")])
    kind = rng.choice(("flip", "flip", "cut", "zero", "remove", "rename", "swap", "copy", "link", "turn", "attribute", "chmod", "foreign"))
    targets = [p for p in entries(scene.tree) if p != path]
    target = rng.choice(targets)
    is_file = stat.S_ISREG(os.lstat(path).st_mode)
    size = os.lstat(path).st_size
    if kind in ("flip", "zero") and is_file and size:
        with open(path, "r+b") as file:
            place = rng.randrange(size)
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ (1 << rng.randrange(8))]) if kind == "flip" else bytes(min(rng.choice((1, 512, 4096)), size - place)))
    elif kind == "cut" and is_file:
        os.truncate(path, rng.choice((0, size // 2, max(0, size - 1), size + 1, size + 4096)))
    elif kind == "remove":
        shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
    elif kind == "rename" and not target.startswith(path):
        folder = os.path.dirname(target)
        name = rng.choice((os.path.basename(path), "stray", ".scrim-new.stray", "~" + "A" * 43 + ".n", os.path.basename(path) + ".p"))
        if not os.path.lexists(os.path.join(folder, name)):
            os.rename(path, os.path.join(folder, name))
    elif kind == "swap" and not target.startswith(path + "/") and not path.startswith(target + "/"):
        aside = os.path.join(os.path.dirname(path), "aside")
        os.rename(path, aside)
        os.rename(target, path)
        os.rename(aside, target)
    elif kind in ("copy", "foreign") and is_file:
        source = rng.choice([p for p in entries(other.tree if kind == "foreign" else scene.tree) if os.path.isfile(p) and not os.path.islink(p)])
        if source != path:
            shutil.copy2(source, path)
    elif kind == "link" and is_file:
        new = os.path.join(os.path.dirname(target), "linked")
        if not os.path.lexists(new):
            os.link(path, new)
    elif kind == "turn" and is_file:
        os.unlink(path)
        rng.choice((os.mkdir, os.mkfifo, lambda p: os.symlink("/etc/passwd", p)))(path)
    elif kind == "attribute" and not os.path.islink(path):
        for name in os.listxattr(path):
            if name.startswith("user.scrim.") and rng.random() < 0.7:
                value = bytearray(os.getxattr(path, name))
                if rng.random() < 0.4:
                    os.removexattr(path, name)
                else:
                    value[rng.randrange(len(value))] ^= 1
                    os.setxattr(path, name, bytes(value))
    elif kind == "chmod" and not os.path.islink(path):
        os.chmod(path, rng.choice((0, 0o777, 0o4755)))
    else:
        return None
    return f"{kind} {os.path.relpath(path, scene.path)}, {os.path.relpath(target, scene.path)}"


def is_known(content, name):
    if name.startswith("plain/") or content in VERSIONS or content in (CHANGED, b""):
        return True
    for known in (*VERSIONS, CHANGED):
        if ".salvaged" in name and len(known) == len(content):
            pages = range(0, len(known), 4096)
            if all(content[i : i + 4096] in (known[i : i + 4096], bytes(len(content[i : i + 4096]))) for i in pages):
                return True
    return False


@pytest.mark.limit(120 + 20 * ROUNDS)
def test_random_damage_is_never_wrong_content_and_repaired_at_once(original, foreign, workspace):
    rng = seeded("random damage")
    for number in range(ROUNDS):
        scene = copy_in(workspace, original, f"round {number}")
        done = [text for text in (harm(scene, foreign, rng) for _ in range(rng.choice((1, 1, 2, 5)))) if text]
        harness.count("random changes", len(done))
        secret = ["--passphrase-file", scene.passphrase_file]
        said = []
        for arguments in (["--deep"], ["--deep", "--repair"], ["--deep"]):
            result = scrim("check", scene.path, "--json", *arguments, *secret, check=False, timeout=60)
            assert result.returncode in (OK, DAMAGED, HARMLESS), (done, arguments, result)
            said.append([f for f in json.loads(result.stdout)["findings"] if f["severity"] != "note"])
        if any(f["path"] == "/" for f in said[1]):
            continue  # without the root's record there is nothing to go by
        assert all(f["repaired"] or "full form is lost" in f["reason"] for f in said[1]), (done, said[1])
        assert [f for f in said[2] if "full form is lost" not in f["reason"]] == [], (done, said)
        with scene.mount() as mount:
            for root, _, names in os.walk(mount.point):
                for name in names:
                    path = os.path.join(root, name)
                    if os.path.islink(path):
                        assert os.readlink(path) in ("target of the link", "target of the second link"), done
                    elif os.path.isfile(path):
                        with open(path, "rb") as file:
                            assert is_known(file.read(), os.path.relpath(path, mount.point)), (done, path)
        shutil.rmtree(scene.folder)
