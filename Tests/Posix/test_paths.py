"""Names of every kind, and the errors that each path-taking call gives."""

import errno
import os

import pytest

from .calls import utimensat
from .place import FORMATS, mode, read
from .users import ALICE, raises, refused

LONGEST = 255

# Names that the vault uses for itself in some mode or other.
RESERVED = (
    b".scrim-dir", b"scrim.vault", b"scrim.session", b"scrim.lock", b".scrim-dir.new",
    b".scrim-new.abc", b".scrim-n.x", b".scrim-n..scrim-n.x", b".scrim-h.abc", b".scrim-h.abc.n",
    b".scrim-l.target", b"foo.scrim-c", b"foo.scrim-l", b".scrim-c", b".scrim-l", b".scrim-",
    b"x.scrim-c.scrim-c", b"~", b"~abc", b"~abc.n", b"a.p", b"a.s", b"a.l", b"a.n", b".p", b".n",
    b".scrim-n.foo.scrim-c", b"foo.scrim-l.scrim-c", b".scrim-dir (conflicted copy)",
)
ODD = (
    b" ", b"  x ", b"...", b"..x", b".x", b"-rf", b"new\nline", b"tab\t", b"\x01", b"\xff\xfe",
    b"\x80", "grüße".encode(), "e\u0301".encode(), "\u00e9".encode(), "日本語".encode(), b"*", b"?",
    b"\\", b"a\\b", b"'", b'"', b"$HOME", b"%2f", b"CON", b"A", b"a", b"x" * 16, b"x" * 15,
    b"x" * 17, b"x\x01",
)
LENGTHS = (1, 2, 15, 16, 17, 31, 32, 100, 127, 128, 140, 143, 144, 160, 170, 175, 176, 177, 190,
           200, 239, 240, 245, 246, 247, 248, 249, 250, 254, 255)


@pytest.mark.smoke
@pytest.mark.parametrize("kind", ("regular", "dir", "symlink", "fifo"))
def test_any_name_works_and_is_listed_as_given(fs, kind):
    folder = os.fsencode(fs.dir)
    names = set(RESERVED) | set(ODD) | {b"n" * length for length in LENGTHS}
    names |= {b"z" * (length - 8) + b".scrim-c" for length in LENGTHS if length > 8}
    for name in sorted(names):
        fs.make(kind, os.fsdecode(name))
    assert set(os.listdir(folder)) == names
    for name in names:
        assert FORMATS[kind] == os.lstat(folder + b"/" + name).st_mode & 0o170000
    if kind == "symlink":
        assert all(os.readlink(folder + b"/" + name) == b"nowhere" for name in names)
    for name in sorted(names):
        os.rename(folder + b"/" + name, folder + b"/moved")
        os.rename(folder + b"/moved", folder + b"/" + name)
    assert set(os.listdir(folder)) == names
    for name in names:
        path = folder + b"/" + name
        os.rmdir(path) if kind == "dir" else os.unlink(path)
    assert os.listdir(folder) == []
    os.rmdir(folder)


@pytest.mark.smoke
def test_reserved_names_hold_their_own_content(fs):
    for name in RESERVED:
        fs.file(os.fsdecode(name), data=name)
    for name in RESERVED:
        assert read(os.fsencode(fs.dir) + b"/" + name) == name
    for name in RESERVED:
        assert not os.path.exists(os.fsencode(fs.dir) + b"/" + name + b"x")


@pytest.mark.smoke
def test_reserved_names_do_not_exist_by_themselves(fs):
    fs.file("plain")
    fs.mkdir("sub")
    os.symlink("target", fs / "link")
    assert sorted(os.listdir(fs.dir)) == ["link", "plain", "sub"]
    for name in (b".scrim-dir", b"plain.scrim-c", b"link.scrim-l", b".scrim-n.plain", b"plain.p"):
        with raises(errno.ENOENT):
            os.lstat(os.fsencode(fs.dir) + b"/" + name)
        with raises(errno.ENOENT):
            os.unlink(os.fsencode(fs.dir) + b"/" + name)
    with raises(errno.ENOENT):
        os.stat(os.path.join(fs.mount.point, ".scrim-dir"))


def test_names_that_differ_in_one_bit_are_different(fs):
    for name in ("a", "A", "a ", "a.", "a\u0301", "á"):
        fs.file(name, data=name.encode())
    for name in ("a", "A", "a ", "a.", "a\u0301", "á"):
        assert read(fs / name) == name.encode()


@pytest.mark.smoke
def test_long_names_take_part_in_every_operation(fs):
    long = ["abcdefghi"[index] * 255 for index in range(9)]
    path = fs.file(long[0], data=b"1")
    os.link(path, fs / long[1])
    os.rename(fs / long[1], fs / long[2])
    fs.mkdir(long[3])
    fs.file(f"{long[3]}/{long[4]}", data=b"2")
    os.rename(fs / f"{long[3]}/{long[4]}", fs / long[5])
    os.rename(fs / long[3], fs / long[6])
    os.symlink(long[0], fs / long[7])
    os.mkfifo(fs / long[8])
    os.rename(fs / long[0], fs / long[5])
    assert set(os.listdir(fs.dir)) == {long[2], long[5], long[6], long[7], long[8]}
    assert (read(fs / long[2]), read(fs / long[5])) == (b"1", b"1")
    os.rename(fs / long[2], fs / "short")
    os.rename(fs / "short", fs / long[2])
    assert read(fs / long[2]) == b"1"


@pytest.mark.smoke
def test_deep_directories_with_long_names_work(fs):
    depth = 40
    os.chdir(fs.dir)
    for level in range(depth):
        name = chr(97 + level % 26) * 200
        os.mkdir(name)
        os.chdir(name)
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY))
    for _ in range(depth):
        os.chdir("..")
    assert os.stat(".").st_ino == os.stat(fs.dir).st_ino


def _open(path):
    os.close(os.open(path, os.O_RDONLY))


def _create(path):
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))


def _utime(path):
    utimensat(path, None, None)


NEED_TARGET = {
    "open": _open, "stat": os.stat, "lstat": os.lstat, "chmod": lambda path: os.chmod(path, 0o600),
    "chown": lambda path: os.chown(path, 0, 0), "lchown": lambda path: os.lchown(path, 0, 0),
    "truncate": lambda path: os.truncate(path, 0), "utimensat": _utime, "unlink": os.unlink,
    "rmdir": os.rmdir, "readlink": os.readlink, "chdir": os.chdir, "statvfs": os.statvfs,
    "getxattr": lambda path: os.getxattr(path, "user.a"),
    "setxattr": lambda path: os.setxattr(path, "user.a", b"b"),
    "listxattr": os.listxattr, "removexattr": lambda path: os.removexattr(path, "user.a"),
    "access": lambda path: os.access(path, os.R_OK) or raise_last(path),
    "link from": lambda path: os.link(path, path + ".never"),
    "rename from": lambda path: os.rename(path, "/never"),
    "execve": lambda path: os.execv(path, ["x"]),
}


def raise_last(path):
    os.stat(path)
    raise OSError(errno.EACCES, "access")


MAKE_TARGET = {
    "create": _create, "mkdir": os.mkdir, "mkfifo": os.mkfifo,
    "mknod": lambda path: os.mknod(path, FORMATS["regular"] | 0o600),
    "symlink": lambda path: os.symlink("x", path),
}


def two_path_makers(fs):
    source = fs.file("source")
    return {"link to": lambda path: os.link(source, path),
            "rename to": lambda path: os.rename(source, path)}


def every_call(fs):
    calls = {**NEED_TARGET, **MAKE_TARGET, **two_path_makers(fs)}
    calls["rename from"] = lambda path: os.rename(path, fs / "never")
    calls["link from"] = lambda path: os.link(path, fs / "never")
    return calls


ALL_CALLS = [*NEED_TARGET, *MAKE_TARGET, "link to", "rename to"]


@pytest.mark.parametrize("call", ALL_CALLS)
def test_a_file_in_the_middle_of_a_path_is_enotdir(fs, call):
    fs.file("plain")
    with raises(errno.ENOTDIR):
        every_call(fs)[call](fs / "plain/x")


@pytest.mark.parametrize("call", ALL_CALLS)
def test_a_missing_directory_in_a_path_is_enoent(fs, call):
    with raises(errno.ENOENT):
        every_call(fs)[call](fs / "missing/x")


@pytest.mark.parametrize("call", NEED_TARGET)
def test_a_missing_target_is_enoent(fs, call):
    with raises(errno.ENOENT):
        every_call(fs)[call](fs / "missing")


@pytest.mark.smoke
@pytest.mark.parametrize("call", ALL_CALLS)
def test_a_name_of_256_bytes_is_enametoolong(fs, call):
    act = every_call(fs)[call]
    with raises(errno.ENAMETOOLONG):
        act(fs / ("n" * (LONGEST + 1)))
    with raises(errno.ENAMETOOLONG):
        act(fs / ("n" * (LONGEST + 1) + "/x"))


@pytest.mark.parametrize("call", ALL_CALLS)
def test_a_path_of_4096_bytes_is_enametoolong(fs, call):
    path = fs / "."
    path += "/." * ((4096 - len(path)) // 2 + 1)
    with raises(errno.ENAMETOOLONG):
        every_call(fs)[call](path)


@pytest.mark.parametrize("call", ALL_CALLS)
def test_a_loop_of_symlinks_is_eloop(fs, call):
    os.symlink("two", fs / "one")
    os.symlink("one", fs / "two")
    with raises(errno.ELOOP):
        every_call(fs)[call](fs / "one/x")


@pytest.mark.parametrize("call", ["open", "create", "stat", "chmod", "chown", "truncate", "chdir",
                                  "utimensat", "getxattr", "setxattr", "statvfs", "execve"])
def test_a_looping_symlink_as_target_is_eloop(fs, call):
    os.symlink("self", fs / "self")
    with raises(errno.ELOOP):
        every_call(fs)[call](fs / "self")


@pytest.mark.parametrize("call", ALL_CALLS)
def test_a_closed_directory_on_the_way_is_eacces(fs, call):
    fs.mkdir("closed", mode=0o700)
    fs.file("closed/x", mode=0o666)
    os.chmod(fs.dir, 0o777)
    os.chmod(fs.file("source"), 0o777)
    refused(ALICE, errno.EACCES, every_call(fs)[call], fs / "closed/x")


@pytest.mark.parametrize("call", MAKE_TARGET)
@pytest.mark.parametrize("kind", ("regular", "dir", "symlink", "fifo", "socket"))
def test_making_what_exists_is_eexist(fs, call, kind):
    path = fs.make(kind)
    if call == "create":
        with raises(errno.EEXIST):
            os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        return
    with raises(errno.EEXIST):
        MAKE_TARGET[call](path)


@pytest.mark.parametrize("call", ("create", "mkdir", "mkfifo", "mknod", "symlink"))
def test_making_needs_write_permission(fs, call):
    folder = fs.mkdir(mode=0o755)
    refused(ALICE, errno.EACCES, MAKE_TARGET[call], folder + "/new")


def test_dot_and_dot_dot_cannot_be_removed_or_renamed(fs):
    folder = fs.mkdir()
    fs.mkdir("dir/sub")
    with raises(errno.EINVAL):
        os.rmdir(folder + "/.")
    with raises(errno.ENOTEMPTY):
        os.rmdir(folder + "/sub/..")
    with raises(errno.EBUSY):
        os.rename(folder + "/.", fs / "x")
    with raises(errno.EISDIR, errno.EBUSY):
        os.unlink(folder + "/.")


def test_trailing_slashes_mean_a_directory(fs):
    path = fs.file()
    folder = fs.mkdir()
    with raises(errno.ENOTDIR):
        os.stat(path + "/")
    with raises(errno.ENOTDIR):
        os.unlink(path + "/")
    with raises(errno.EISDIR):
        _create(fs / "new/")
    os.mkdir(fs / "slash/")
    os.rename(folder + "/", fs / "moved/")
    os.rmdir(fs / "moved/")
    with raises(errno.ENOENT):
        os.symlink("x", fs / "l/")


def test_the_mount_point_is_busy(fs):
    with raises(errno.EBUSY):
        os.rmdir(fs.mount.point) if fs.is_scrim else os.rmdir(fs.mount.point.parent)


SYMLINK_LENGTHS = (1, 2, 15, 16, 17, 59, 60, 61, 100, 255, 256, 1000, 2047, 2048, 3000, 3029, 3030,
                   3040, 3050, 3056, 3057, 3060, 3072, 3500, 4000, 4080, 4090, 4093, 4094, 4095)


@pytest.mark.smoke
def test_symlink_targets_of_every_length_are_kept(fs):
    for length in SYMLINK_LENGTHS:
        target = ("/" + "t" * 99) * 41
        os.symlink(target[:length], fs / f"link{length}")
    for length in SYMLINK_LENGTHS:
        target = ("/" + "t" * 99) * 41
        assert os.readlink(fs / f"link{length}") == target[:length]
        status = os.lstat(fs / f"link{length}")
        assert status.st_size == length
        assert mode(fs / f"link{length}") == 0o777
    assert len(os.listdir(fs.dir)) == len(SYMLINK_LENGTHS)


def test_a_symlink_target_of_4096_bytes_is_enametoolong(fs):
    with raises(errno.ENAMETOOLONG):
        os.symlink("t" * 4096, fs / "link")
    with raises(errno.ENOENT):
        os.symlink("", fs / "link")


@pytest.mark.smoke
def test_symlink_targets_are_any_bytes(fs):
    targets = [b"\xff\xfe", b"a\nb", b"..", b".", b"/", b"//x//", b".scrim-l.abc", b" ",
               b".scrim-l." + b"A" * 4000, b"../../.scrim-dir"]
    for number, target in enumerate(targets):
        path = os.fsencode(fs / f"l{number}")
        os.symlink(target, path)
        assert os.readlink(path) == target


@pytest.mark.smoke
def test_symlinks_are_renamed_linked_and_removed(fs):
    for number, target in enumerate(("short", "x" * 4095)):
        path = fs / f"link{number}"
        os.symlink(target, path)
        fs.mkdir(f"sub{number}")
        os.rename(path, fs / f"sub{number}/renamed")
        os.link(fs / f"sub{number}/renamed", fs / f"again{number}", follow_symlinks=False)
        assert os.readlink(fs / f"sub{number}/renamed") == target
        assert os.readlink(fs / f"again{number}") == target
        os.unlink(fs / f"sub{number}/renamed")
        assert os.readlink(fs / f"again{number}") == target
        assert os.listdir(fs / f"sub{number}") == []


def test_symlinks_are_followed(fs):
    fs.mkdir("real")
    fs.file("real/file", data=b"content")
    os.symlink("real", fs / "alias")
    os.symlink("../real/file", fs / "real/relative")
    os.symlink(fs / "real/file", fs / "absolute")
    assert read(fs / "alias/file") == b"content"
    assert read(fs / "alias/relative") == b"content"
    assert read(fs / "absolute") == b"content"
    _create(fs / "alias/through")
    assert os.path.exists(fs / "real/through")
    with raises(errno.ELOOP):
        os.open(fs / "absolute", os.O_RDONLY | os.O_NOFOLLOW)
    with raises(errno.EINVAL):
        os.readlink(fs / "real/file")


def test_a_dangling_symlink_is_created_through(fs):
    os.symlink("later", fs / "link")
    with raises(errno.ENOENT):
        os.open(fs / "link", os.O_RDONLY)
    with raises(errno.EEXIST):
        os.open(fs / "link", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    _create(fs / "link")
    assert os.path.isfile(fs / "later")
