"""Whatever somebody did to the backing folder: a clear refusal of what it touches, and the rest is served."""

import errno
import os

import pytest
from harness import fails, scrim
from harness import DAMAGED, NOT_A_VAULT, UNSUPPORTED


def flip(path, offset):
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)
        f.seek(offset)
        f.write(bytes([byte[0] ^ 0x40]))


def refuses_to_open(vault, code):
    text = fails(code, "ls", vault.path, "--passphrase-file", vault.passphrase_file)
    point = vault.folder / "mnt"
    point.mkdir(exist_ok=True)
    fails(code, "mount", vault.path, point, "--passphrase-file", vault.passphrase_file)
    return text


@pytest.mark.offline
@pytest.mark.parametrize("length", [9, 31, 100, -1])
def test_a_truncated_header_is_damage(vault, length):
    header = vault.path / "scrim.vault"
    size = header.stat().st_size
    os.truncate(header, length % size)
    assert "scrim.vault" in refuses_to_open(vault, DAMAGED)


@pytest.mark.offline
def test_a_flipped_byte_in_the_header_is_damage(vault):
    flip(vault.path / "scrim.vault", -1 + (vault.path / "scrim.vault").stat().st_size)
    assert "scrim.vault" in refuses_to_open(vault, DAMAGED)


@pytest.mark.offline
def test_an_empty_or_missing_header_is_no_vault(vault):
    os.truncate(vault.path / "scrim.vault", 0)
    text = scrim("info", vault.path, check=False)
    assert text.returncode in (DAMAGED, NOT_A_VAULT)
    os.unlink(vault.path / "scrim.vault")
    refuses_to_open(vault, NOT_A_VAULT)


@pytest.mark.offline
def test_a_later_format_is_named_as_such(vault):
    with open(vault.path / "scrim.vault", "r+b") as f:
        f.seek(8)
        f.write(b"\x63\x00")
    assert "99" in refuses_to_open(vault, UNSUPPORTED)


@pytest.fixture
def filled(vault):
    """Three directories of files; returns the folder whose backing is about to be harmed, too."""
    with vault.mount() as mount:
        for folder in ("one", "two"):
            (mount / folder).mkdir()
            for i in range(5):
                (mount / folder / f"file {i}").write_bytes(f"{folder} {i} ".encode() * 20000)
    return vault


def backing_folders(vault):
    return sorted(p for p in vault.tree.iterdir() if p.is_dir())


def readable(folder, names):
    good = 0
    for name in names:
        try:
            good += (folder / name).read_bytes() == f"{folder.name} {name[-1]} ".encode() * 20000
        except OSError as error:
            assert error.errno == errno.EIO
    return good


NAMES = [f"file {i}" for i in range(5)]


@pytest.mark.parametrize("offset", [3, 60, 200, 4096 * 3 + 17, -5])
def test_a_flipped_byte_in_a_container_harms_that_file_only(filled, offset):
    victim = next(p for p in backing_folders(filled)[0].iterdir() if p.stat().st_size > 50000)
    size = victim.stat().st_size
    flip(victim, offset % size)
    with filled.mount() as mount:
        counts = [readable(mount / folder, NAMES) for folder in ("one", "two")]
        if offset in (3, 60, 200):
            assert sorted(counts) == [4, 5], "one header slot is all there is, or the file is refused"
        else:
            assert sum(counts) in (9, 10)
        if sum(counts) == 9:
            assert "file" in mount.log_text()
        (mount / "one" / "new").write_bytes(b"life goes on")
        assert (mount / "one" / "new").read_bytes() == b"life goes on"


def test_a_flipped_record_makes_one_directory_unreadable(filled):
    folder = backing_folders(filled)[0]
    flip(folder / ".scrim-dir", 50)
    for name in os.listxattr(folder):
        os.removexattr(folder, name)
    with filled.mount() as mount:
        failed = []
        for name in ("one", "two"):
            try:
                assert sorted(os.listdir(mount / name)) == NAMES
            except OSError as error:
                assert error.errno == errno.EIO
                failed.append(name)
        assert len(failed) == 1
        other = "two" if failed == ["one"] else "one"
        assert readable(mount / other, NAMES) == 5
        assert mount.log_text().strip()


def test_a_plaintext_file_dropped_into_a_sealed_directory_is_refused(filled):
    folder = backing_folders(filled)[0]
    victim = next(p for p in folder.iterdir() if p.stat().st_size > 50000)
    (folder / "readme.txt").write_bytes(b"trust me")
    os.rename(victim, folder / (victim.name + ".p"))
    with filled.mount() as mount:
        counts = sorted(readable(mount / name, set(os.listdir(mount / name)) & set(NAMES)) for name in ("one", "two"))
        assert counts == [4, 5]
        assert "readme.txt" not in os.listdir(mount / "one") + os.listdir(mount / "two")


def test_swapped_containers_and_moved_records_are_refused(filled):
    first, second = backing_folders(filled)
    a, b = [p for p in first.iterdir() if p.stat().st_size > 50000][:2]
    os.rename(a, first / "t")
    os.rename(b, a)
    os.rename(first / "t", b)
    with filled.mount() as mount:
        assert sorted(readable(mount / name, NAMES) for name in ("one", "two")) == [3, 5]
    for folder in (first, second):
        for name in os.listxattr(folder):
            os.removexattr(folder, name)
    (first / ".scrim-dir").write_bytes((second / ".scrim-dir").read_bytes())
    with filled.mount() as mount:
        listed = []
        for name in ("one", "two"):
            try:
                listed.append(len(os.listdir(mount / name)))
            except OSError as error:
                assert error.errno == errno.EIO
        assert listed == [5]


def test_truncated_and_emptied_containers_are_damage_after_a_clean_end(filled):
    files = [p for p in backing_folders(filled)[0].iterdir() if p.stat().st_size > 50000]
    os.truncate(files[0], 0)
    os.truncate(files[1], files[1].stat().st_size - 4096)
    os.truncate(files[2], 2048)
    with filled.mount() as mount:
        counts = sorted(readable(mount / name, NAMES) for name in ("one", "two"))
        assert counts == [2, 5]
