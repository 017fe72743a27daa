"""link, rename, unlink, rmdir: every type over every other."""

import errno
import itertools
import os

import pytest

from .calls import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, is_unsupported, renameat2
from .place import FILE_TYPES, FORMATS, NOT_DIR, read, remove, with_fd, write
from .users import ALICE, raises, refused, run_as


def identity(path):
    status = os.lstat(path)
    return status.st_ino, status.st_mode


@pytest.mark.smoke
@pytest.mark.parametrize("kind", FILE_TYPES)
def test_renaming_keeps_the_inode(fs, kind):
    path = fs.make(kind)
    fs.mkdir("other")
    before = identity(path)
    os.rename(path, fs / "renamed")
    if kind != "symlink":  # a sealed target knows its name, so the link is made anew
        assert identity(fs / "renamed") == before
    os.rename(fs / "renamed", fs / "other/moved")
    assert not os.path.lexists(fs / "renamed")
    if kind != "symlink":
        assert identity(fs / "other/moved") == before
    assert os.listdir(fs / "other") == ["moved"]


@pytest.mark.parametrize("kind,over", itertools.product(FILE_TYPES, repeat=2))
def test_renaming_over_what_exists(fs, kind, over):
    source = fs.make(kind, "source")
    target = fs.make(over, "target")
    if kind == "dir" and over != "dir":
        with raises(errno.ENOTDIR):
            os.rename(source, target)
    elif kind != "dir" and over == "dir":
        with raises(errno.EISDIR):
            os.rename(source, target)
    else:
        os.rename(source, target)
        assert os.lstat(target).st_mode & 0o170000 == FORMATS[kind]
        assert os.listdir(fs.dir) == ["target"]
        return
    assert sorted(os.listdir(fs.dir)) == ["source", "target"]


@pytest.mark.smoke
def test_a_directory_replaces_an_empty_one_only(fs):
    fs.mkdir("a")
    fs.file("a/inside")
    fs.mkdir("empty")
    fs.mkdir("full")
    fs.file("full/x")
    with raises(errno.ENOTEMPTY, errno.EEXIST):
        os.rename(fs / "a", fs / "full")
    os.rename(fs / "a", fs / "empty")
    assert os.listdir(fs / "empty") == ["inside"]


@pytest.mark.smoke
def test_a_directory_does_not_move_into_itself(fs):
    fs.mkdir("a")
    fs.mkdir("a/b")
    fs.mkdir("a/b/c")
    for target in ("a/x", "a/b/x", "a/b/c/x"):
        with raises(errno.EINVAL):
            os.rename(fs / "a", fs / target)
    with raises(errno.EINVAL):
        os.rename(fs / "a", fs / "a/b")
    with raises(errno.ENOTEMPTY):
        os.rename(fs / "a/b/c", fs / "a")


def test_renaming_onto_itself_or_another_name_of_it_does_nothing(fs):
    path = fs.file(data=b"x")
    os.link(path, fs / "second")
    os.rename(path, path)
    os.rename(path, fs / "second")
    assert sorted(os.listdir(fs.dir)) == ["file", "second"]
    assert os.stat(path).st_nlink == 2


@pytest.mark.smoke
def test_a_directory_takes_its_link_to_the_new_parent(fs):
    for name in ("a", "b", "a/sub"):
        fs.mkdir(name)
    assert (os.stat(fs / "a").st_nlink, os.stat(fs / "b").st_nlink) == (3, 2)
    os.rename(fs / "a/sub", fs / "b/sub")
    assert (os.stat(fs / "a").st_nlink, os.stat(fs / "b").st_nlink) == (2, 3)
    assert os.stat(fs / "b/sub/..").st_ino == os.stat(fs / "b").st_ino


@pytest.mark.smoke
def test_a_moved_directory_keeps_what_is_in_it(fs):
    for name in ("a", "a/b", "a/b/c", "z"):
        fs.mkdir(name)
    fs.file("a/b/c/file", data=b"deep")
    fd = os.open(fs / "a/b/c/file", os.O_RDWR)
    os.rename(fs / "a/b", fs / "z/moved")
    assert read(fs / "z/moved/c/file") == b"deep"
    os.pwrite(fd, b"DEEP", 0)
    os.close(fd)
    fs.file("z/moved/c/new", data=b"n")
    os.rename(fs / "z/moved/c/file", fs / "a/file")
    assert read(fs / "a/file") == b"DEEP"
    assert os.listdir(fs / "z/moved/c") == ["new"]


@pytest.mark.parametrize("kind", FILE_TYPES)
def test_noreplace_does_not_replace(fs, kind):
    source = fs.make(kind, "source")
    fs.make(kind, "target")
    with raises(errno.EEXIST):
        renameat2(source, fs / "target", RENAME_NOREPLACE)
    renameat2(source, fs / "free", RENAME_NOREPLACE)
    assert sorted(os.listdir(fs.dir)) == ["free", "target"]


@pytest.mark.parametrize("kind,other", (("regular", "regular"), ("regular", "dir"), ("dir", "dir"),
                                        ("symlink", "regular"), ("fifo", "symlink")))
def test_exchange_swaps_two_entries(fs, kind, other):
    fs.mkdir("d")
    one, two = fs.make(kind, "one"), fs.make(other, "d/two")
    inodes = os.lstat(one).st_ino, os.lstat(two).st_ino
    renameat2(one, two, RENAME_EXCHANGE)
    assert os.lstat(one).st_mode & 0o170000 == FORMATS[other]
    assert os.lstat(two).st_mode & 0o170000 == FORMATS[kind]
    if "symlink" not in (kind, other):
        assert (os.lstat(two).st_ino, os.lstat(one).st_ino) == inodes
    with raises(errno.ENOENT):
        renameat2(one, fs / "missing", RENAME_EXCHANGE)


def test_exchanged_files_keep_their_content(fs):
    fs.file("one", data=b"1" * 10)
    fs.file("two", data=b"2" * 100_000)
    renameat2(fs / "one", fs / "two", RENAME_EXCHANGE)
    assert read(fs / "one") == b"2" * 100_000
    assert read(fs / "two") == b"1" * 10


def test_a_whiteout_is_made_or_refused(fs):
    path = fs.file()
    try:
        renameat2(path, fs / "new", RENAME_WHITEOUT)
    except OSError as error:
        assert is_unsupported(error.errno) or error.errno == errno.EINVAL
        assert os.path.exists(path)
    else:
        assert os.lstat(path).st_rdev == 0


@pytest.mark.smoke
@pytest.mark.parametrize("kind", NOT_DIR)
def test_a_link_is_another_name_of_the_same_inode(fs, kind):
    path = fs.make(kind)
    fs.mkdir("other")
    os.link(path, fs / "other/second", follow_symlinks=False)
    if kind != "symlink":
        assert identity(path) == identity(fs / "other/second")
        assert os.lstat(path).st_nlink == os.lstat(fs / "other/second").st_nlink == 2
    os.unlink(path)
    assert os.lstat(fs / "other/second").st_nlink == 1
    os.unlink(fs / "other/second")


@pytest.mark.smoke
def test_all_names_of_a_file_show_the_same_content(fs):
    path = fs.file(data=b"one")
    fs.mkdir("sub")
    names = [path]
    for number in range(40):
        name = fs / (f"sub/name{number}" if number % 2 else f"name{number}")
        os.link(names[number // 2], name)
        names.append(name)
    assert os.stat(path).st_nlink == 41
    write(names[7], b"changed content" * 1000)
    for name in names:
        assert os.stat(name).st_size == 15000
    assert read(names[20]) == b"changed content" * 1000
    for name in names[:-1]:
        os.unlink(name)
    assert os.stat(names[-1]).st_nlink == 1
    assert read(names[-1]) == b"changed content" * 1000


def test_linking_is_refused_where_it_must_be(fs):
    path = fs.file()
    fs.file("other")
    folder = fs.mkdir()
    with raises(errno.EPERM):
        os.link(folder, fs / "second")
    with raises(errno.EEXIST):
        os.link(path, fs / "other")
    with raises(errno.EEXIST):
        os.link(path, path)
    with raises(errno.EXDEV):
        os.link(path, "/dev/shm/never")
    with raises(errno.EXDEV):
        os.rename(path, "/dev/shm/never")


@pytest.mark.parametrize("kind", NOT_DIR)
def test_unlink_takes_any_file(fs, kind):
    path = fs.make(kind)
    os.unlink(path)
    with raises(errno.ENOENT):
        os.lstat(path)
    assert os.listdir(fs.dir) == []


def test_unlink_refuses_a_directory_and_rmdir_a_file(fs):
    folder, path = fs.mkdir(), fs.file()
    with raises(errno.EISDIR):
        os.unlink(folder)
    for kind in NOT_DIR:
        with raises(errno.ENOTDIR):
            os.rmdir(fs.make(kind, kind))
    with raises(errno.ENOTDIR):
        os.rmdir(path)


@pytest.mark.smoke
@pytest.mark.parametrize("kind", FILE_TYPES)
def test_rmdir_refuses_what_is_not_empty(fs, kind):
    folder = fs.mkdir()
    path = fs.make(kind, "dir/entry")
    with raises(errno.ENOTEMPTY, errno.EEXIST):
        os.rmdir(folder)
    remove(path)
    os.rmdir(folder)
    assert os.listdir(fs.dir) == []


def test_nlink_of_a_directory_counts_its_subdirectories(fs):
    folder = fs.mkdir()
    for number in range(5):
        fs.mkdir(f"dir/{number}")
        fs.file(f"dir/f{number}")
        assert os.stat(folder).st_nlink == 3 + number
    for number in range(5):
        os.rmdir(f"{folder}/{number}")
        assert os.stat(folder).st_nlink == 6 - number


def test_a_removed_directory_takes_no_more_entries(fs):
    folder = fs.mkdir()
    os.chdir(folder)
    fd = os.open(".", os.O_RDONLY)
    os.rmdir(folder)
    assert os.fstat(fd).st_nlink == 0
    for act in (lambda: os.open("new", os.O_CREAT | os.O_WRONLY), lambda: os.mkdir("new"),
                lambda: os.symlink("x", "new"), lambda: os.mkfifo("new"),
                lambda: os.stat("new")):
        with raises(errno.ENOENT):
            act()
    assert os.listdir(fd) == []
    os.close(fd)


@pytest.mark.smoke
def test_a_name_can_be_used_again_for_another_type(fs):
    path = fs / "again"
    for kind in (*FILE_TYPES, *reversed(FILE_TYPES)):
        fs.make(kind, "again")
        assert os.lstat(path).st_mode & 0o170000 == FORMATS[kind]
        remove(path)
        with raises(errno.ENOENT):
            os.lstat(path)


@pytest.mark.smoke
def test_a_replaced_file_shows_the_new_content_at_once(fs):
    path = fs.file(data=b"old")
    for number in range(20):
        content = b"%d" % number * (number * 977 + 1)
        fs.file("new", data=content)
        os.rename(fs / "new", path)
        assert read(path) == content
        assert os.stat(path).st_size == len(content)


def test_inode_numbers_are_unique_and_stay(fs):
    inodes = {}
    for number in range(200):
        path = fs.file(f"f{number}")
        inodes[path] = os.stat(path).st_ino
    assert len(set(inodes.values())) == 200
    listed = {entry.path: entry.inode() for entry in os.scandir(fs.dir)}
    assert listed == inodes
    for path, inode in inodes.items():
        assert os.stat(path).st_ino == inode
        assert with_fd(path, os.O_RDONLY, lambda fd: os.fstat(fd).st_ino) == inode


def test_a_file_made_where_one_was_removed_starts_anew(fs):
    for number in range(50):
        path = fs.file(data=b"x" * (number * 100), mode=0o600 + number % 8)
        os.setxattr(path, "user.number", str(number).encode())
        assert os.listxattr(path) == ["user.number"]
        assert os.stat(path).st_size == number * 100
        assert read(path) == b"x" * (number * 100)
        os.unlink(path)
    assert os.listxattr(fs.file()) == []


def test_removing_the_last_name_needs_no_permission_on_the_file(fs):
    fs.mkdir("d", mode=0o777)
    path = fs.file("d/f", mode=0)
    refused(ALICE, errno.EACCES, os.open, path, os.O_RDONLY)
    run_as(ALICE, os.unlink, path)


def test_changes_of_a_removed_file_go_to_nobody(fs):
    path = fs.file(data=b"old")
    fd = os.open(path, os.O_RDWR)
    os.unlink(path)
    fs.file(data=b"new")
    os.pwrite(fd, b"OLD and longer", 0)
    os.ftruncate(fd, 5)
    os.fchmod(fd, 0o600)
    os.utime(fd, (5, 5))
    assert os.fstat(fd).st_nlink == 0
    os.close(fd)
    assert read(path) == b"new"
    assert os.stat(path).st_mtime != 5
