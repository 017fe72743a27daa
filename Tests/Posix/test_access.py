"""Who may open, search and change what: mode bits, supplementary groups, ACLs."""

import errno
import itertools
import os
import shutil
import subprocess

import pytest

from .calls import ACL_ACCESS, ACL_DEFAULT, ACL_MASK, acl, acl_entries
from .place import mode, moved_times, owner
from .users import ALICE, BOB, CAROL, User, raises, refused, run_as

OPENINGS = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR}


def openings(path):
    """Which of "r", "w", "rw" the caller may open, and whether he may execute."""
    allowed = set()
    for name, flags in OPENINGS.items():
        try:
            os.close(os.open(path, flags | os.O_NONBLOCK))
            allowed.add(name)
        except PermissionError:
            pass
    if os.access(path, os.X_OK, effective_ids=True):
        allowed.add("x")
    return allowed


def granted(bits):
    wanted = set()
    if bits & 4:
        wanted.add("r")
    if bits & 2:
        wanted.add("w")
    if bits & 6 == 6:
        wanted.add("rw")
    if bits & 1:
        wanted.add("x")
    return wanted


@pytest.mark.smoke
@pytest.mark.parametrize("kind", ("regular", "fifo"))
def test_mode_bits_decide_who_opens(fs, kind):
    path = fs.make(kind, owner=ALICE)
    reader = os.open(path, os.O_RDWR) if kind == "fifo" else None

    def matrix():
        return openings(path)

    for bits in (0, 1, 2, 4, 5, 6, 7):
        for shift, user in ((6, ALICE), (3, User(2000, ALICE.gid)), (3, CAROL), (0, BOB)):
            os.chmod(path, bits << shift)
            assert run_as(user, matrix) == granted(bits), f"mode {bits << shift:03o} as {user}"
    if reader is not None:
        os.close(reader)


def test_the_owner_class_wins_over_group_and_other(fs):
    path = fs.file(mode=0o077, owner=ALICE)
    refused(ALICE, errno.EACCES, os.open, path, os.O_RDONLY)
    path = fs.file("second", mode=0o707, owner=BOB)
    os.chown(path, BOB.uid, ALICE.gid)
    refused(CAROL, errno.EACCES, os.open, path, os.O_RDONLY)


@pytest.mark.smoke
def test_a_supplementary_group_opens_the_door(fs):
    path = fs.file(data=b"secret", mode=0o640)
    os.chown(path, 0, 7777)

    def read():
        with open(path, "rb") as stream:
            return stream.read()

    assert run_as(User(3000, 3000, (5, 7777, 9)), read) == b"secret"
    refused(User(3000, 3000, (5, 9)), errno.EACCES, read)


def test_many_supplementary_groups_are_all_seen(fs):
    path = fs.file(mode=0o060)
    os.chown(path, 0, 9499)
    groups = tuple(range(9000, 9500))

    def use():
        os.close(os.open(path, os.O_RDWR))

    run_as(User(3000, 3000, groups), use)
    folder = fs.mkdir("shared", mode=0o070)
    os.chown(folder, 0, 9499)
    run_as(User(3000, 3000, groups), lambda: os.mkdir(folder + "/sub"))


def directory_rights(path):
    rights = set()
    probes = {
        "list": lambda: os.listdir(path),
        "search": lambda: os.lstat(path + "/inside"),
        "make": lambda: os.close(os.open(path + "/new", os.O_CREAT | os.O_EXCL)),
    }
    for name, probe in probes.items():
        try:
            probe()
            rights.add(name)
        except PermissionError:
            pass
    if "make" in rights:
        os.unlink(path + "/new")
    return rights


def test_mode_bits_of_a_directory_decide_who_lists_searches_and_makes(fs):
    folder = fs.mkdir(owner=ALICE)
    fs.file("dir/inside")
    wanted = {0: set(), 1: {"search"}, 4: {"list"}, 5: {"list", "search"}, 2: set(),
              3: {"search", "make"}, 7: {"list", "search", "make"}}
    for bits, rights in wanted.items():
        for shift, user in ((6, ALICE), (3, CAROL), (0, BOB)):
            os.chmod(folder, bits << shift)
            assert run_as(user, directory_rights, folder) == rights, f"{bits << shift:03o} {user}"
    os.chmod(folder, 0o755)


def test_removing_needs_write_permission_on_the_directory(fs):
    fs.mkdir(mode=0o755)
    path = fs.file("dir/entry", mode=0o666, owner=ALICE)
    refused(ALICE, errno.EACCES, os.unlink, path)
    refused(ALICE, errno.EACCES, os.rename, path, path + "2")
    refused(ALICE, errno.EACCES, os.link, path, path + "2")
    refused(ALICE, errno.EACCES, os.symlink, path, path + "2")
    refused(ALICE, errno.EACCES, os.mkdir, path + "2")


def test_a_directory_that_moves_to_another_parent_needs_write_permission_itself(fs):
    fs.mkdir("from", mode=0o777)
    fs.mkdir("to", mode=0o777)
    fs.mkdir("from/dir", mode=0o755, owner=BOB)
    refused(ALICE, errno.EACCES, os.rename, fs / "from/dir", fs / "to/dir")
    run_as(ALICE, os.rename, fs / "from/dir", fs / "from/renamed")


def test_permissions_are_checked_anew_after_a_change(fs):
    folder = fs.mkdir(mode=0o755)
    path = fs.file("dir/entry", mode=0o644)
    for _ in range(3):
        run_as(ALICE, os.stat, path)
        os.chmod(folder, 0o700)
        refused(ALICE, errno.EACCES, os.stat, path)
        os.chmod(folder, 0o755)
        run_as(ALICE, lambda: os.close(os.open(path, os.O_RDONLY)))
        os.chmod(path, 0o600)
        refused(ALICE, errno.EACCES, os.open, path, os.O_RDONLY)
        os.chmod(path, 0o644)


def test_an_open_descriptor_outlives_the_permission(fs):
    path = fs.file(data=b"abc", mode=0o644)

    def keep():
        fd = os.open(path, os.O_RDONLY)
        return os.pread(fd, 3, 0)

    fd = os.open(path, os.O_RDWR)
    os.chmod(path, 0)

    def use():
        os.pwrite(fd, b"X", 0)
        return os.pread(fd, 3, 0)

    assert run_as(ALICE, use) == b"Xbc"
    refused(ALICE, errno.EACCES, keep)
    os.close(fd)


def test_creating_a_read_only_file_gives_a_writable_descriptor(fs):
    folder = fs.mkdir(mode=0o777)

    def create():
        fd = os.open(folder + "/locked", os.O_CREAT | os.O_RDWR, 0o444)
        os.write(fd, b"data")
        os.fsync(fd)
        os.close(fd)
        os.close(os.open(folder + "/none", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0))
        return openings(folder + "/locked"), openings(folder + "/none")

    assert run_as(ALICE, create) == ({"r"}, set())


def test_o_noatime_is_for_the_owner(fs):
    path = fs.file(mode=0o644, owner=ALICE)
    run_as(ALICE, lambda: os.close(os.open(path, os.O_RDONLY | os.O_NOATIME)))
    refused(BOB, errno.EPERM, os.open, path, os.O_RDONLY | os.O_NOATIME)


def test_access_speaks_for_the_real_user(fs):
    path = fs.file(mode=0o640, owner=ALICE)

    def ask():
        os.setresuid(BOB.uid, ALICE.uid, 0)
        return os.access(path, os.R_OK), os.access(path, os.R_OK, effective_ids=True)

    assert run_as(User(0, 0), ask) == (False, True)


@pytest.mark.smoke
def test_an_acl_is_kept_and_enforced(fs):
    path = fs.file(data=b"x", mode=0o600)
    entries = acl(user=6, group=0, other=0, mask=6, users=[(ALICE.uid, 4)], groups=[(BOB.gid, 6)])
    os.setxattr(path, ACL_ACCESS, entries)
    assert os.getxattr(path, ACL_ACCESS) == entries
    assert run_as(ALICE, openings, path) == granted(4)
    assert run_as(BOB, openings, path) == granted(6)
    assert run_as(User(5, 5), openings, path) == set()
    assert run_as(User(5, 5, (BOB.gid,)), openings, path) == granted(6)
    assert mode(path) == 0o660


def test_the_mask_of_an_acl_limits_what_it_grants(fs):
    path = fs.file(mode=0o600)
    os.setxattr(path, ACL_ACCESS, acl(user=6, group=0, other=0, mask=7, users=[(ALICE.uid, 7)]))
    assert run_as(ALICE, openings, path) == granted(7)
    os.chmod(path, 0o640)
    assert run_as(ALICE, openings, path) == granted(4)
    masks = [perm for tag, perm, _ in acl_entries(os.getxattr(path, ACL_ACCESS)) if tag == ACL_MASK]
    assert masks == [4]


def test_an_acl_without_named_entries_is_just_the_mode(fs):
    path = fs.file(mode=0o600)
    os.setxattr(path, ACL_ACCESS, acl(user=6, group=4, other=1))
    assert mode(path) == 0o641
    with raises(errno.ENODATA):
        os.getxattr(path, ACL_ACCESS)


def test_removing_an_acl_leaves_the_mode(fs):
    path = fs.file(mode=0o600)
    os.setxattr(path, ACL_ACCESS, acl(user=6, group=0, other=0, mask=4, users=[(ALICE.uid, 4)]))
    os.removexattr(path, ACL_ACCESS)
    with raises(errno.ENODATA):
        os.getxattr(path, ACL_ACCESS)
    assert mode(path) == 0o640
    assert run_as(ALICE, openings, path) == set()


def test_an_acl_is_the_owners_to_set(fs):
    path = fs.file(mode=0o666, owner=ALICE)
    entries = acl(user=6, group=0, other=0, mask=6, users=[(BOB.uid, 6)])
    refused(BOB, errno.EPERM, os.setxattr, path, ACL_ACCESS, entries)
    run_as(ALICE, os.setxattr, path, ACL_ACCESS, entries)
    refused(BOB, errno.EPERM, os.removexattr, path, ACL_ACCESS)


def test_setting_an_acl_moves_ctime_only(fs):
    path = fs.file(mode=0o600)
    entries = acl(user=6, group=0, other=0, mask=6, users=[(BOB.uid, 6)])
    assert moved_times(path, os.setxattr, path, ACL_ACCESS, entries) == {"c"}


@pytest.mark.parametrize("bad", ("version", "order", "no mask", "tag"))
def test_a_malformed_acl_is_refused(fs, bad):
    good = acl(user=6, group=0, other=0, mask=6, users=[(BOB.uid, 6)])
    data = {
        "version": b"\x07" + good[1:],
        "order": good[:4] + good[12:20] + good[4:12] + good[20:],
        "no mask": acl(user=6, group=0, other=0, users=[(BOB.uid, 6)]),
        "tag": good[:4] + b"\x40" + good[5:],
    }[bad]
    code = errno.EOPNOTSUPP if bad == "version" else errno.EINVAL
    with raises(code):
        os.setxattr(fs.file(), ACL_ACCESS, data)


@pytest.mark.smoke
def test_a_default_acl_is_inherited(fs):
    folder = fs.mkdir(mode=0o777)
    default = acl(user=7, group=5, other=0, mask=7, users=[(ALICE.uid, 7)])
    os.setxattr(folder, ACL_DEFAULT, default)

    def make():
        os.close(os.open(folder + "/file", os.O_CREAT, 0o666))
        os.mkdir(folder + "/sub", 0o777)
        os.mkfifo(folder + "/fifo", 0o666)

    run_as(BOB, make, umask=0o077)
    got = acl_entries(os.getxattr(folder + "/file", ACL_ACCESS))
    assert got == acl_entries(acl(user=6, group=5, other=0, mask=6, users=[(ALICE.uid, 7)]))
    assert mode(folder + "/file") == 0o660
    assert mode(folder + "/fifo") == 0o660
    assert os.getxattr(folder + "/sub", ACL_DEFAULT) == default
    assert os.getxattr(folder + "/sub", ACL_ACCESS) == default
    assert run_as(ALICE, openings, folder + "/file") == granted(6)


def test_a_default_acl_of_plain_entries_replaces_the_umask(fs):
    folder = fs.mkdir(mode=0o777)
    os.setxattr(folder, ACL_DEFAULT, acl(user=7, group=5, other=1))
    run_as(BOB, lambda: os.close(os.open(folder + "/f", os.O_CREAT, 0o666)), umask=0o777)
    assert mode(folder + "/f") == 0o640
    run_as(BOB, os.mkdir, folder + "/d", umask=0o777)
    assert mode(folder + "/d") == 0o751


def test_a_temporary_inherits_the_default_acl(fs):
    folder = fs.mkdir(mode=0o777)
    os.setxattr(folder, ACL_DEFAULT, acl(user=7, group=0, other=0, mask=4, users=[(ALICE.uid, 6)]))
    fd = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666)
    assert (ALICE.uid in [who for _, _, who in acl_entries(os.getxattr(fd, ACL_ACCESS))])
    os.close(fd)


def test_only_directories_have_a_default_acl(fs):
    with raises(errno.EACCES, errno.EPERM):
        os.setxattr(fs.file(), ACL_DEFAULT, acl())
    folder = fs.mkdir()
    os.setxattr(folder, ACL_DEFAULT, acl(other=0))
    assert mode(folder) == 0o755
    os.removexattr(folder, ACL_DEFAULT)
    with raises(errno.ENODATA):
        os.getxattr(folder, ACL_DEFAULT)


def test_setting_an_acl_as_a_stranger_to_the_group_drops_setgid(fs):
    path = fs.file(mode=0o2755, owner=ALICE)
    os.chown(path, ALICE.uid, BOB.gid)
    os.chmod(path, 0o2755)
    run_as(ALICE, os.setxattr, path, ACL_ACCESS,
           acl(user=7, group=5, other=5, mask=5, users=[(BOB.uid, 5)]))
    assert mode(path) == 0o755


def test_an_acl_survives_rename_and_link(fs):
    path = fs.file(mode=0o600)
    entries = acl(user=6, group=0, other=0, mask=4, users=[(ALICE.uid, 4)])
    os.setxattr(path, ACL_ACCESS, entries)
    os.rename(path, fs / "renamed")
    os.link(fs / "renamed", fs / "linked")
    assert os.getxattr(fs / "linked", ACL_ACCESS) == entries
    assert run_as(ALICE, openings, fs / "linked") == granted(4)


def test_an_acl_opens_and_closes_a_directory(fs):
    folder = fs.mkdir(mode=0o700)
    fs.file("dir/inside", mode=0o644)
    os.setxattr(folder, ACL_ACCESS, acl(user=7, group=0, other=0, mask=7, users=[(ALICE.uid, 5)]))
    assert run_as(ALICE, directory_rights, folder) == {"list", "search"}
    assert run_as(BOB, directory_rights, folder) == set()


@pytest.mark.skipif(not shutil.which("setfacl"), reason="the acl tools are not installed")
def test_the_acl_tools_work(fs):
    path = fs.file(mode=0o600)
    subprocess.run(["setfacl", "-m", f"u:{ALICE.uid}:rw,g:{BOB.gid}:r", path], check=True)
    shown = subprocess.run(["getfacl", "-nc", path], check=True, capture_output=True, text=True)
    assert shown.stdout.split() == [
        "user::rw-", f"user:{ALICE.uid}:rw-", "group::---", f"group:{BOB.gid}:r--", "mask::rw-",
        "other::---"]
    subprocess.run(["setfacl", "-b", path], check=True)
    assert mode(path) == 0o600


def test_root_passes_every_check_but_execution(fs):
    folder = fs.mkdir(mode=0, owner=ALICE)
    path = fs.file("dir/f", data=b"x", mode=0, owner=ALICE)
    assert openings(path) == {"r", "w", "rw"}
    assert os.listdir(folder) == ["f"]
    with raises(errno.EACCES):
        os.execv(path, ["f"])
    assert owner(path) == (ALICE.uid, ALICE.gid)


def test_each_class_of_a_linked_file_is_the_same(fs):
    path = fs.file(mode=0o640, owner=ALICE)
    os.link(path, fs / "second")
    os.chmod(fs / "second", 0o600)
    for name, user in itertools.product((path, fs / "second"), (BOB, CAROL)):
        refused(user, errno.EACCES, os.open, name, os.O_RDONLY)
