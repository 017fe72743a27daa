"""atime, mtime, ctime, birth time."""

import errno
import mmap
import os

import pytest

from .calls import STATX_BTIME, UTIME_NOW, UTIME_OMIT, futimens, statx, utimensat
from .place import FILE_TYPES, moved_times, read, tick, times, with_fd, write
from .users import ALICE, BOB, ROOT, refused, run_as

OLD = (1_000_000_000, 123_456_789)
NOW, OMIT = (0, UTIME_NOW), (0, UTIME_OMIT)


def ns(pair):
    return pair[0] * 10**9 + pair[1]


@pytest.mark.smoke
@pytest.mark.parametrize("kind", FILE_TYPES)
def test_times_are_set_to_the_nanosecond(fs, kind):
    path = fs.make(kind)
    utimensat(path, (12345, 1), (67890, 999_999_999), follow=False)
    got = times(path)
    assert (got["a"], got["m"]) == (12345 * 10**9 + 1, 67890 * 10**9 + 999_999_999)


@pytest.mark.parametrize("kind", FILE_TYPES)
def test_setting_times_moves_ctime(fs, kind):
    path = fs.make(kind)
    assert "c" in moved_times(path, utimensat, path, OLD, OLD, False)


@pytest.mark.parametrize("seconds", (0, -1, -86400 * 365 * 50, 2**31 - 1, 2**31, 2**32 + 5,
                                     15_000_000_000))
def test_times_outside_32_bits_are_kept(fs, seconds):
    path = fs.file()
    utimensat(path, (seconds, 5), (seconds, 7))
    got = times(path)
    assert (got["a"], got["m"]) == (seconds * 10**9 + 5, seconds * 10**9 + 7)


@pytest.mark.smoke
def test_utime_omit_leaves_one_time_alone(fs):
    path = fs.file()
    utimensat(path, OLD, OLD)
    utimensat(path, (5, 5), OMIT)
    assert (times(path)["a"], times(path)["m"]) == (ns((5, 5)), ns(OLD))
    utimensat(path, OMIT, (6, 6))
    assert (times(path)["a"], times(path)["m"]) == (ns((5, 5)), ns((6, 6)))


@pytest.mark.smoke
def test_utime_now_is_now(fs):
    path = fs.file()
    probe = fs.file("probe")
    utimensat(path, OLD, OLD)
    utimensat(path, NOW, OMIT)
    assert times(path)["a"] >= times(probe)["m"]
    assert times(path)["m"] == ns(OLD)
    utimensat(path, OMIT, NOW)
    assert times(path)["m"] >= times(probe)["m"]
    utimensat(path, OLD, OLD)
    utimensat(path, None, None)
    assert min(times(path)["a"], times(path)["m"]) >= times(probe)["m"]


def test_omitting_both_times_changes_nothing(fs):
    path = fs.file()
    before = times(path)
    tick()
    utimensat(path, OMIT, OMIT)
    assert times(path) == before
    run_as(BOB, utimensat, path, OMIT, OMIT)


@pytest.mark.parametrize("wrong", (10**9, -1, UTIME_NOW + 1))
def test_nanoseconds_out_of_range_are_refused(fs, wrong):
    path = fs.file()
    refused(ALICE, errno.EINVAL, utimensat, path, (0, wrong), (0, 0))


def test_a_writer_may_set_the_times_to_now_only(fs):
    path = fs.file(mode=0o666, owner=ALICE)
    run_as(BOB, utimensat, path, None, None)
    run_as(BOB, utimensat, path, NOW, NOW)
    for atime, mtime in ((OLD, OLD), (NOW, OMIT), (OMIT, NOW), (OLD, NOW), (OMIT, OLD)):
        refused(BOB, errno.EPERM, utimensat, path, atime, mtime)
    run_as(ALICE, utimensat, path, OLD, OLD)


def test_a_stranger_may_not_touch(fs):
    path = fs.file(mode=0o644, owner=ALICE)
    refused(BOB, errno.EACCES, utimensat, path, None, None)
    refused(BOB, errno.EACCES, utimensat, path, NOW, NOW)
    refused(BOB, errno.EPERM, utimensat, path, NOW, OMIT)


def test_the_owner_may_set_times_without_write_permission(fs):
    path = fs.file(mode=0o444, owner=ALICE)
    run_as(ALICE, utimensat, path, OLD, OLD)
    run_as(ALICE, utimensat, path, None, None)


def test_times_of_a_symlink_are_its_own(fs):
    target = fs.file()
    os.symlink(target, fs / "link")
    utimensat(target, (1, 1), (1, 1))
    utimensat(fs / "link", (2, 2), (2, 2), follow=False)
    assert times(target)["m"] == ns((1, 1))
    assert times(fs / "link")["m"] == ns((2, 2))
    utimensat(fs / "link", (3, 3), (3, 3))
    assert times(target)["m"] == ns((3, 3))
    assert times(fs / "link")["m"] == ns((2, 2))


@pytest.mark.parametrize("flags", (os.O_RDONLY, os.O_WRONLY))
def test_futimens_needs_no_write_descriptor(fs, flags):
    path = fs.file()
    with_fd(path, flags, lambda fd: futimens(fd, (1, 2), (3, 4)))
    assert (times(path)["a"], times(path)["m"]) == (ns((1, 2)), ns((3, 4)))


WRITES = {
    "write": lambda path: write(path, b"xyz"),
    "append": lambda path: write(path, b"xyz", os.O_WRONLY | os.O_APPEND),
    "large write": lambda path: write(path, b"x" * 300_000),
    "truncate shorter": lambda path: os.truncate(path, 1),
    "truncate longer": lambda path: os.truncate(path, 99999),
    "truncate to nothing": lambda path: os.truncate(path, 0),
    "O_TRUNC": lambda path: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC)),
    "ftruncate": lambda path: with_fd(path, os.O_WRONLY, lambda fd: os.ftruncate(fd, 7)),
}


@pytest.mark.smoke
@pytest.mark.parametrize("how", WRITES)
def test_changing_content_moves_mtime_and_ctime(fs, how):
    path = fs.file(data=b"some content")
    assert moved_times(path, WRITES[how], path) == {"m", "c"}


def test_o_trunc_of_an_empty_file_moves_the_times(fs):
    path = fs.file()
    assert moved_times(path, WRITES["O_TRUNC"], path) == {"m", "c"}


def test_ftruncate_to_the_same_size_moves_the_times(fs):
    path = fs.file(data=b"1234567")
    assert moved_times(path, WRITES["ftruncate"], path) == {"m", "c"}


def test_a_write_of_nothing_moves_nothing(fs):
    path = fs.file(data=b"abc")
    assert moved_times(path, write, path, b"") == set()


@pytest.mark.smoke
def test_a_write_is_seen_through_another_handle_at_once(fs):
    path = fs.file(data=b"abc")
    other = os.open(path, os.O_RDONLY)
    fd = os.open(path, os.O_WRONLY)
    for length in (4, 5000, 9000, 200_000):
        before = os.fstat(other)
        tick()
        os.pwrite(fd, b"z" * length, 0)
        after = os.fstat(other)
        assert after.st_size == length
        assert after.st_mtime_ns > before.st_mtime_ns
        assert after.st_ctime_ns > before.st_ctime_ns
        assert os.stat(path).st_mtime_ns == after.st_mtime_ns
    os.close(fd)
    os.close(other)


def test_closing_does_not_move_mtime_past_the_write(fs):
    path = fs.file()
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, b"data" * 5000)
    written = os.fstat(fd).st_mtime_ns
    tick()
    os.fsync(fd)
    tick()
    os.close(fd)
    assert os.stat(path).st_mtime_ns == written


@pytest.mark.smoke
def test_times_set_on_an_open_file_outlive_its_close(fs):
    path = fs.file()
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, b"data" * 5000)
    futimens(fd, (11, 22), (33, 44))
    os.close(fd)
    assert times(path)["m"] == ns((33, 44))
    with_fd(path, os.O_RDONLY, os.fsync)
    assert times(path)["m"] == ns((33, 44))


def test_reading_moves_neither_mtime_nor_ctime(fs):
    path = fs.file(data=b"abc")
    assert moved_times(path, read, path) == set()
    folder = fs.mkdir()
    assert moved_times(folder, os.listdir, folder) == set()


@pytest.mark.smoke
def test_stores_through_a_mapping_move_mtime(fs):
    path = fs.file(data=b"a" * 8192)
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 8192) as pages:
        before = times(path)
        tick()
        pages[5000] = 98
        pages.flush()
        after = times(path)
        assert after["m"] > before["m"] and after["c"] > before["c"]
    os.close(fd)


def test_stores_through_a_mapping_move_mtime_by_the_time_of_close(fs):
    path = fs.file(data=b"a" * 8192)
    before = times(path)
    tick()
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 8192) as pages:
        pages[5000] = 98
    os.fsync(fd)
    os.close(fd)
    assert times(path)["m"] > before["m"]


CTIME_ONLY = {
    "link": lambda fs, path: os.link(path, fs / "second"),
    "unlink of a second name": lambda fs, path: os.unlink(fs / "extra"),
    "rename": lambda fs, path: os.rename(path, fs / "moved"),
    "setxattr": lambda fs, path: os.setxattr(path, "user.k", b"v"),
    "removexattr": lambda fs, path: os.removexattr(path, "user.old"),
    "replaced second name": lambda fs, path: os.rename(fs / "spare", fs / "extra"),
}


@pytest.mark.smoke
@pytest.mark.parametrize("how", CTIME_ONLY)
def test_ctime_moves_with_every_change_of_the_inode(fs, how):
    path = fs.file()
    os.link(path, fs / "extra")
    fs.file("spare")
    os.setxattr(path, "user.old", b"v")
    fd = os.open(path, os.O_RDONLY)
    before = os.fstat(fd)
    tick()
    CTIME_ONLY[how](fs, path)
    after = os.fstat(fd)
    assert after.st_ctime_ns > before.st_ctime_ns
    assert after.st_mtime_ns == before.st_mtime_ns
    os.close(fd)


@pytest.mark.parametrize("kind", FILE_TYPES)
def test_renaming_moves_ctime_of_what_is_renamed(fs, kind):
    path = fs.make(kind)
    before = times(path)
    tick()
    os.rename(path, fs / "new")
    after = times(fs / "new")
    assert after["c"] > before["c"]
    assert after["m"] == before["m"]


DIRECTORY_CHANGES = {
    "create": lambda fs: fs.file("dir/new"),
    "mkdir": lambda fs: fs.mkdir("dir/new"),
    "unlink": lambda fs: os.unlink(fs / "dir/file"),
    "rmdir": lambda fs: os.rmdir(fs / "dir/sub"),
    "rename within": lambda fs: os.rename(fs / "dir/file", fs / "dir/else"),
    "rename in": lambda fs: os.rename(fs / "other/file", fs / "dir/else"),
    "rename out": lambda fs: os.rename(fs / "dir/file", fs / "other/else"),
    "rename over": lambda fs: os.rename(fs / "other/file", fs / "dir/file"),
    "link": lambda fs: os.link(fs / "other/file", fs / "dir/linked"),
    "symlink": lambda fs: os.symlink("x", fs / "dir/link"),
}


@pytest.mark.parametrize("how", DIRECTORY_CHANGES)
def test_changing_entries_moves_the_directory(fs, how):
    folder = fs.mkdir()
    fs.mkdir("other")
    fs.mkdir("dir/sub")
    fs.file("dir/file")
    fs.file("other/file")
    assert moved_times(folder, DIRECTORY_CHANGES[how], fs) == {"m", "c"}


def test_a_failed_change_moves_nothing(fs):
    folder = fs.mkdir(mode=0o755)
    fs.file("dir/file")
    fs.mkdir("dir/sub")

    def try_all():
        for code, act in (
            (errno.EEXIST, lambda: os.mkdir(folder + "/sub")),
            (errno.EEXIST, lambda: os.symlink("x", folder + "/file")),
            (errno.ENOENT, lambda: os.unlink(folder + "/missing")),
            (errno.EISDIR, lambda: os.rename(folder + "/file", folder + "/sub")),
            (errno.ENOTDIR, lambda: os.rename(folder + "/sub", folder + "/file")),
        ):
            refused(ROOT, code, act)

    assert moved_times(folder, try_all) == set()


def test_the_birth_time_is_that_of_creation(fs):
    probe = fs.file("probe")
    tick()
    path = fs.file()
    told, _, _, born = statx(path)
    assert told & STATX_BTIME
    assert born > times(probe)["c"]
    tick()
    write(path, b"data")
    os.rename(path, fs / "renamed")
    assert statx(fs / "renamed")[3] == born


@pytest.mark.smoke
def test_attributes_that_come_with_the_birth_time_are_the_same(fs):
    def attributes():
        # What the kernel was told last, for the birth time, is what it shows now.
        shown = [(statx(path), os.lstat(path)) for path in paths]
        assert [told[2] for told, _ in shown] == [status.st_blocks for _, status in shown]
        return [(told[0] & STATX_BTIME, status.st_mode, status.st_ino, status.st_nlink, status.st_uid, status.st_gid,
                 status.st_size, status.st_rdev, status.st_mtime_ns, status.st_ctime_ns)
                for told, status in shown]

    paths = [fs.make(kind, kind, 0o640, ALICE) for kind in FILE_TYPES]
    paths.append(fs.file("content", b"content" * 3000, 0o604, BOB))
    for path in paths:
        utimensat(path, (5, 6), (2**33, 8), follow=False)
    with_fd(paths[-1], os.O_RDONLY, os.fsync)
    before = [tuple(getattr(os.lstat(path), name) for name in (
        "st_mode", "st_ino", "st_nlink", "st_uid", "st_gid", "st_size", "st_rdev", "st_mtime_ns",
        "st_ctime_ns")) for path in paths]
    fs.mount.remount()
    assert attributes() == [(STATX_BTIME, *status) for status in before]


@pytest.mark.parametrize("kind", FILE_TYPES)
def test_removing_one_of_two_names_moves_ctime_and_the_directory(fs, kind):
    if kind == "dir":
        return
    path = fs.make(kind)
    folder = fs.mkdir()
    os.link(path, folder + "/second", follow_symlinks=False)
    before, of_folder = times(path), times(folder)
    tick()
    os.unlink(folder + "/second")
    if kind != "symlink":  # a sealed link's second name is a copy of its own
        assert times(path)["c"] > before["c"]
    assert times(folder)["m"] > of_folder["m"]


def test_atime_moves_when_a_changed_file_is_read(fs):
    path = fs.file(data=b"abc")
    utimensat(path, (5, 0), (10, 0))
    # What is read from memory reaches no backing file, and so moves nothing.
    fs.mount.remount()
    read(path)
    assert times(path)["a"] > ns((10, 0))
