"""Where two policies meet, passthrough, remounts, and read-only mounts."""

import errno
import mmap
import os
import subprocess
import time

import pytest

from .calls import RENAME_EXCHANGE, renameat2, utimensat
from .place import FILE_TYPES, FORMATS, mode, moved_times, read, with_fd, write
from .test_files import content
from .test_modes import WAYS_TO_WRITE
from .users import ALICE, Task, raises, run_as

OTHER = {"sealed": "plain", "compressed": "plain", "sealed-compressed": "sealed", "plain": "sealed"}
FULL_SCRIM = [pytest.mark.scrim_only, pytest.mark.smoke]


def marked(fs, name="other", policy=None):
    """A new directory of another content policy than its parent's."""
    path = fs.mkdir(name, mode=0o777)
    fs.mount.mark(path, policy or OTHER[fs.content])
    return path


class TestBetweenPolicies:
    pytestmark = FULL_SCRIM

    def test_rename_and_link_of_a_file_are_exdev(self, fs):
        other = marked(fs)
        path = fs.file(data=content(5000))
        for act in (os.rename, os.link):
            with raises(errno.EXDEV):
                act(path, other + "/f")
        inside = fs.file("other/g", data=b"x")
        for act in (os.rename, os.link):
            with raises(errno.EXDEV):
                act(inside, fs / "g")
        with raises(errno.EXDEV):
            renameat2(path, inside, RENAME_EXCHANGE)
        assert read(path) == content(5000)
        assert read(inside) == b"x"
        assert os.listdir(other) == ["g"]

    def test_mv_copies_across_and_keeps_everything(self, fs):
        other = marked(fs)
        path = fs.file(data=content(200_000), mode=0o640)
        os.chown(path, 5, 6)
        os.setxattr(path, "user.k", b"v")
        utimensat(path, (1, 2), (3, 4))
        subprocess.run(["mv", path, other + "/moved"], check=True)
        status = os.stat(other + "/moved")
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (5, 6, 0o640)
        assert status.st_mtime_ns == 3 * 10**9 + 4
        assert read(other + "/moved") == content(200_000)
        assert not os.path.exists(path)
        subprocess.run(["mv", other + "/moved", path], check=True)
        assert read(path) == content(200_000)

    def test_a_directory_moves_with_its_policy(self, fs):
        other = marked(fs)
        fs.file("other/f", data=content(10_000))
        fs.mkdir("deep")
        os.rename(other, fs / "deep/moved")
        assert read(fs / "deep/moved/f") == content(10_000)
        fs.file("deep/moved/g", data=b"new")
        os.rename(fs / "deep/moved/g", fs / "deep/moved/h")
        with raises(errno.EXDEV):
            os.rename(fs / "deep/moved/h", fs / "deep/h")

    def test_special_files_cross_freely(self, fs):
        other = marked(fs)
        for kind in ("fifo", "socket", "char", "symlink"):
            path = fs.make(kind, kind)
            os.rename(path, f"{other}/{kind}")
            assert os.lstat(f"{other}/{kind}").st_mode & 0o170000 == FORMATS[kind]
        assert os.readlink(other + "/symlink") == "nowhere"

    def test_a_subdirectory_inherits_the_mark(self, fs):
        marked(fs)
        fs.mkdir("other/sub")
        fs.mkdir("other/sub/sub")
        path = fs.file("other/sub/sub/f", data=b"abc")
        os.rename(path, fs / "other/g")
        assert read(fs / "other/g") == b"abc"
        with raises(errno.EXDEV):
            os.rename(fs / "other/g", fs / "g")

    def test_files_of_both_modes_live_in_one_directory(self, fs):
        folder = fs.mkdir("mixed")
        old = fs.file("mixed/old", data=content(20_000))
        fd = os.open(old, os.O_RDWR)
        fs.mount.mark(folder, OTHER[fs.content])
        new = fs.file("mixed/new", data=content(30_000))
        os.pwrite(fd, b"still", 0)
        os.close(fd)
        assert read(old) == b"still" + content(20_000)[5:]
        assert read(new) == content(30_000)
        write(old, b"more", os.O_WRONLY | os.O_APPEND)
        os.truncate(new, 10)
        os.rename(old, fs / "mixed/renamed")
        os.link(new, fs / "mixed/linked")
        assert sorted(os.listdir(folder)) == ["linked", "new", "renamed"]
        os.rename(fs / "mixed/renamed", new)
        assert read(new) == b"still" + content(20_000)[5:] + b"more"
        assert read(fs / "mixed/linked") == content(30_000)[:10]
        for name in ("new", "linked"):
            os.unlink(f"{folder}/{name}")
        os.rmdir(folder)


@pytest.mark.smoke
@pytest.mark.contents("ext4", "plain")
class TestPassthrough:
    """Handles and names of one plain file agree at once, whoever serves the call."""

    def test_size_and_times_follow_a_write_at_once(self, fs):
        path = fs.file()
        fd = os.open(path, os.O_RDWR)
        for step in range(1, 30):
            os.write(fd, b"x" * 1000)
            assert os.stat(path).st_size == os.fstat(fd).st_size == step * 1000
            assert os.stat(path).st_mtime_ns == os.fstat(fd).st_mtime_ns
        assert moved_times(path, os.pwrite, fd, b"y", 0) == {"m", "c"}
        os.close(fd)

    def test_appends_truncates_and_positions_of_two_handles_agree(self, fs):
        path = fs.file(data=b"0" * 5000)
        one = os.open(path, os.O_RDWR | os.O_APPEND)
        two = os.open(path, os.O_RDWR)
        os.write(one, b"A")
        assert os.pread(two, 5, 5000) == b"A"
        os.ftruncate(two, 3)
        os.write(one, b"B")
        assert os.pread(two, 10, 0) == b"000B"
        assert os.lseek(one, 0, os.SEEK_END) == 4
        os.truncate(path, 100)
        assert os.fstat(one).st_size == 100
        os.write(one, b"C")
        assert os.pread(two, 1, 100) == b"C"
        os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
        assert os.fstat(two).st_size == 0
        os.write(one, b"D")
        assert read(path) == b"D"
        os.close(one)
        os.close(two)

    def test_mapping_and_direct_io_agree(self, fs):
        path = fs.file(data=bytes(16384))
        fd = os.open(path, os.O_RDWR)
        direct = os.open(path, os.O_RDWR | os.O_DIRECT)
        pages = mmap.mmap(fd, 16384)
        block = mmap.mmap(-1, 4096)
        block[:] = b"d" * 4096
        os.pwrite(direct, block, 4096)
        assert pages[4096:4098] == b"dd"
        pages[8192:8194] = b"mm"
        pages.flush()
        os.preadv(direct, [block], 8192)
        assert block[:2] == b"mm"
        os.pwrite(fd, b"ww", 12288)
        os.fsync(fd)
        os.preadv(direct, [block], 12288)
        assert block[:2] == b"ww" and pages[12288:12290] == b"ww"

    def test_advice_does_not_spoil_reads(self, fs):
        path = fs.file(data=content(1 << 20))
        fd = os.open(path, os.O_RDWR)
        for round_number in range(5):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
            os.pwrite(fd, bytes([round_number]) * 4096, round_number * 100_000)
            assert os.pread(fd, 4096, round_number * 100_000) == bytes([round_number]) * 4096
        os.close(fd)

    def test_many_opens_and_closes_at_once_never_fail(self, fs):
        path = fs.file(data=content(8192))

        def hammer():
            for number in range(300):
                fd = os.open(path, os.O_RDWR if number % 2 else os.O_RDONLY)
                assert len(os.pread(fd, 8192, 0)) == 8192
                os.close(fd)
            return True

        assert all(task.result() for task in [Task(hammer) for _ in range(4)])

    def test_direct_and_ordinary_opens_mix(self, fs):
        path = fs.file(data=content(8192))
        handles = [os.open(path, flags) for flags in
                   (os.O_RDONLY, os.O_RDWR | os.O_DIRECT, os.O_WRONLY, os.O_RDWR | os.O_SYNC)]
        assert os.pread(handles[0], 8192, 0) == content(8192)
        for fd in handles:
            os.close(fd)
        assert with_fd(path, os.O_RDONLY | os.O_DIRECT, lambda fd: os.fstat(fd).st_size) == 8192


@pytest.mark.scrim_only
class TestMarkedPlain:
    """A plain directory inside a vault of another policy."""

    @pytest.mark.smoke
    @pytest.mark.parametrize("how", WAYS_TO_WRITE)
    def test_writing_by_another_user_clears_set_id_bits(self, fs, how):
        if fs.content == "plain":
            return
        marked(fs, policy="plain")
        path = fs.file("other/f", data=b"12345678", mode=0o6777)
        run_as(ALICE, WAYS_TO_WRITE[how], path)
        assert mode(path) == 0o777

    @pytest.mark.parametrize("kind", FILE_TYPES)
    def test_every_type_is_made_renamed_and_removed(self, fs, kind):
        other = marked(fs, policy="plain")
        path = fs.make(kind, "other/node")
        os.rename(path, other + "/renamed")
        assert os.lstat(other + "/renamed").st_mode & 0o170000 == FORMATS[kind]
        os.rmdir(other + "/renamed") if kind == "dir" else os.unlink(other + "/renamed")
        assert os.listdir(other) == []

    @pytest.mark.contents("plain")
    def test_changes_in_the_backing_folder_are_seen(self, fs):
        if fs.names != "plain":
            return
        path = fs.file(data=b"mount")
        backing = fs.mount.vault / "tree/marked" / os.path.basename(fs.dir) / "file"
        assert read(backing) == b"mount"
        backing.write_bytes(b"changed behind the mount")
        deadline = time.monotonic() + 30
        while os.stat(path).st_size != 24 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert read(path) == b"changed behind the mount"
        (backing.parent / "new").write_bytes(b"n")
        assert read(fs / "new") == b"n"


def every_kind_of_entry(fs):
    """Makes a tree with something of everything; returns what `snapshot` must give for it."""
    for index, size in enumerate((0, 10, 3904, 5000, 140_000)):
        path = fs.file(f"file{index}", data=content(size), mode=0o600 + index)
        utimensat(path, (100 + index, 1), (200 + index, 2))
    fs.mkdir("sub", mode=0o2750)
    fs.file("sub/" + "l" * 255, data=b"long")
    os.link(fs / "file3", fs / "sub/linked")
    for index in range(20):
        os.link(fs / "file1", fs / f"sub/many{index}")
    os.symlink("target", fs / "link")
    os.symlink("t" * 4095, fs / "sub/longlink")
    for kind in ("fifo", "socket", "char"):
        fs.make(kind, f"sub/{kind}")
    os.setxattr(fs / "file2", "user.k", b"v")
    os.setxattr(fs / "sub", "user.d", b"w")
    os.truncate(fs.file("sparse"), 1 << 30)
    fs.file(".scrim-dir", data=b"reserved")
    fs.file("x.scrim-c", data=b"reserved")
    return snapshot(fs.dir)


def snapshot(top):
    """Everything that must not change: type, mode, owner, size, times, links, inode, content."""
    found = {}
    for folder, directories, files in os.walk(top):
        for name in [".", *directories, *files]:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            entry = [status.st_mode, status.st_uid, status.st_gid, status.st_nlink, status.st_ino,
                     status.st_mtime_ns]
            if not os.path.isdir(path) or os.path.islink(path):
                entry.append(status.st_size)
            if os.path.islink(path):
                entry.append(os.readlink(path))
            elif os.path.isfile(path) and status.st_size < 1 << 20:
                entry.append(read(path))
            if not os.path.islink(path):
                entry.append(sorted((key, os.getxattr(path, key)) for key in os.listxattr(path)))
            found[os.path.relpath(path, top)] = entry
    return found


@pytest.mark.smoke
def test_a_remount_changes_nothing(fs):
    wanted = every_kind_of_entry(fs)
    fs.mount.remount()
    assert snapshot(fs.dir) == wanted
    write(fs / "file3", b"changed", offset=10)
    assert read(fs / "sub/linked")[10:17] == b"changed"
    wanted = snapshot(fs.dir)
    fs.mount.remount()
    assert snapshot(fs.dir) == wanted


def test_sizes_after_a_remount_are_right_before_any_open(fs):
    sizes = {}
    for index in range(40):
        size = index * index * 100
        sizes[f"f{index}"] = size
        path = fs.file(f"f{index}", data=content(size))
        if index % 3 == 0:
            os.rename(path, path + "r")
            os.rename(path + "r", path)
        if index % 5 == 0:
            os.link(path, path + "l")
            sizes[f"f{index}l"] = size
    fs.mount.remount()
    assert {entry.name: entry.stat().st_size for entry in os.scandir(fs.dir)} == sizes


def backing_state(folder):
    """Names, sizes and times of everything below a folder."""
    state = {}
    for parent, directories, files in os.walk(folder):
        for name in [".", *directories, *files]:
            path = os.path.join(parent, name)
            status = os.lstat(path)
            attributes = [(key, os.getxattr(path, key, follow_symlinks=False))
                          for key in os.listxattr(path, follow_symlinks=False)]
            state[path] = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode,
                           status.st_ino, attributes)
    return state


@pytest.mark.smoke
def test_a_read_only_mount_reads_everything_and_takes_no_change(fs):
    wanted = every_kind_of_entry(fs)
    with fs.mount.read_only() as point:
        top = os.path.join(point, os.path.basename(fs.dir))
        assert snapshot(top) == wanted
        expect_read_only(top)
    assert snapshot(fs.dir) == wanted


@pytest.mark.scrim_only
@pytest.mark.smoke
def test_a_read_only_mount_leaves_the_backing_folder_alone(fs):
    every_kind_of_entry(fs)
    fs.mount.close()
    before = backing_state(fs.mount.vault)
    try:
        fs.mount.mount("ro")
        snapshot(fs.dir)
        expect_read_only(fs.dir)
        subprocess.run(["ls", "-lR", fs.dir], check=True, stdout=subprocess.DEVNULL)
        os.statvfs(fs.dir)
        fs.mount.close()
        assert backing_state(fs.mount.vault) == before
    finally:
        fs.mount.close()
        fs.mount.mount()


def expect_read_only(top):
    """Every call that would change something gives EROFS."""
    path = top + "/file3"
    calls = {
        "open for writing": lambda: os.open(path, os.O_RDWR),
        "open truncating": lambda: os.open(path, os.O_WRONLY | os.O_TRUNC),
        "create": lambda: os.open(top + "/new", os.O_CREAT | os.O_WRONLY),
        "temporary": lambda: os.open(top, os.O_TMPFILE | os.O_RDWR),
        "mkdir": lambda: os.mkdir(top + "/new"), "mkfifo": lambda: os.mkfifo(top + "/new"),
        "symlink": lambda: os.symlink("x", top + "/new"),
        "link": lambda: os.link(path, top + "/new"),
        "rename": lambda: os.rename(path, top + "/new"), "unlink": lambda: os.unlink(path),
        "rmdir": lambda: os.rmdir(top + "/sub"), "chmod": lambda: os.chmod(path, 0o600),
        "chown": lambda: os.chown(path, 1, 1), "truncate": lambda: os.truncate(path, 1),
        "utime": lambda: os.utime(path, (1, 1)),
        "setxattr": lambda: os.setxattr(path, "user.new", b"v"),
        "removexattr": lambda: os.removexattr(top + "/file2", "user.k"),
    }
    for name, call in calls.items():
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EROFS, f"{name}: {caught.value.strerror}"
    with raises(errno.EEXIST):
        os.mkdir(top + "/sub")
    for folder, _, files in os.walk(top):
        for name in files:
            if os.path.isfile(os.path.join(folder, name)):
                with_fd(os.path.join(folder, name), os.O_RDONLY, os.fsync)
    assert not os.access(path, os.W_OK)


@pytest.mark.scrim_only
@pytest.mark.smoke
def test_a_large_directory_is_listed_and_removed(fs):
    count = 3000
    for number in range(count):
        os.close(os.open(fs / f"entry{number}", os.O_CREAT))
    assert len(os.listdir(fs.dir)) == count
    fs.mount.remount()
    subprocess.run(["rm", "-rf", fs.dir], check=True)
    assert not os.path.exists(fs.dir)
    os.mkdir(fs.dir)
