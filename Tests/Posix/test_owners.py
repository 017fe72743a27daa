"""chown, the owner and group of what is made, sticky directories, umask."""

import errno
import itertools
import os
import socket

import pytest

from .place import FILE_TYPES, FORMATS, NOT_DIR, mode, moved_times, owner, remove, tick, times
from .users import ALICE, BOB, CAROL, NOBODY, User, raises, refused, run_as


@pytest.mark.smoke
@pytest.mark.parametrize("kind", FILE_TYPES)
def test_root_gives_a_file_away(fs, kind):
    path = fs.make(kind)
    for uid, gid in ((1, 2), (65534, 65534), (70000, 4000000000)):
        os.lchown(path, uid, gid)
        assert owner(path) == (uid, gid)


@pytest.mark.parametrize("kind", FILE_TYPES)
def test_chown_leaves_out_what_is_minus_one(fs, kind):
    path = fs.make(kind, owner=ALICE)
    os.lchown(path, -1, 7)
    assert owner(path) == (ALICE.uid, 7)
    os.lchown(path, 8, -1)
    assert owner(path) == (8, 7)


@pytest.mark.parametrize("kind", FILE_TYPES)
def test_chown_moves_ctime_only(fs, kind):
    path = fs.make(kind)
    assert moved_times(path, os.lchown, path, 1, 1) == {"c"}


def test_chown_follows_a_symlink_and_lchown_does_not(fs):
    target = fs.file()
    os.symlink(target, fs / "link")
    os.chown(fs / "link", 5, 6)
    assert owner(target) == (5, 6)
    os.lchown(fs / "link", 7, 8)
    assert owner(target) == (5, 6)
    assert owner(fs / "link") == (7, 8)


@pytest.mark.parametrize("kind", FILE_TYPES)
def test_chown_by_another_user_is_refused_and_moves_nothing(fs, kind):
    path = fs.make(kind, owner=ALICE)
    for uid, gid in ((BOB.uid, -1), (-1, BOB.gid), (BOB.uid, BOB.gid)):
        assert moved_times(path, refused, BOB, errno.EPERM, os.lchown, path, uid, gid) == set()
    assert owner(path) == (ALICE.uid, ALICE.gid)


@pytest.mark.parametrize("kind", FILE_TYPES)
def test_an_owner_may_pass_the_file_to_a_group_of_his_own_only(fs, kind):
    path = fs.make(kind, owner=CAROL)
    run_as(CAROL, os.lchown, path, -1, ALICE.gid)
    assert owner(path) == (CAROL.uid, ALICE.gid)
    run_as(CAROL, os.lchown, path, CAROL.uid, CAROL.gid)
    assert owner(path) == (CAROL.uid, CAROL.gid)
    refused(CAROL, errno.EPERM, os.lchown, path, -1, BOB.gid)
    refused(CAROL, errno.EPERM, os.lchown, path, ALICE.uid, -1)


@pytest.mark.parametrize("user", ("root", "owner"))
def test_chown_clears_set_id_bits_of_an_executable(fs, user):
    path = fs.file(mode=0o6755, owner=CAROL)
    if user == "root":
        os.chown(path, 7, 8)
    else:
        run_as(CAROL, os.chown, path, -1, ALICE.gid)
    assert mode(path) == 0o755


def test_chown_keeps_setgid_without_group_execute(fs):
    path = fs.file(mode=0o2640, owner=ALICE)
    os.chown(path, 7, -1)
    assert mode(path) == 0o2640


def test_chown_keeps_set_id_bits_of_a_directory(fs):
    path = fs.mkdir(mode=0o6755)
    os.chown(path, 7, 8)
    assert mode(path) == 0o6755


@pytest.mark.parametrize("kind", ("regular", "dir", "fifo"))
def test_chown_of_nothing_behaves_as_on_ext4(fs, kind):
    path = fs.make(kind, mode=0o6755, owner=ALICE)
    os.chown(path, -1, -1)
    assert owner(path) == (ALICE.uid, ALICE.gid)
    assert mode(path) == (0o6755 if kind == "dir" else 0o755)


MAKERS = {
    "open": lambda path, bits: os.close(os.open(path, os.O_CREAT | os.O_WRONLY, bits)),
    "mkdir": os.mkdir,
    "mkfifo": os.mkfifo,
    "mknod": lambda path, bits: os.mknod(path, FORMATS["regular"] | bits),
    "mknod socket": lambda path, bits: os.mknod(path, FORMATS["socket"] | bits),
}


@pytest.mark.smoke
@pytest.mark.parametrize("how", MAKERS)
def test_a_new_file_belongs_to_its_maker(fs, how):
    folder = fs.mkdir(mode=0o777)
    path = folder + "/new"
    for user in (ALICE, BOB, NOBODY):
        run_as(user, MAKERS[how], path, 0o750, umask=0)
        assert owner(path) == (user.uid, user.gid)
        assert mode(path) == 0o750
        remove(path)


@pytest.mark.parametrize("how", MAKERS)
def test_umask_takes_bits_away(fs, how):
    path = fs / "new"
    for mask, bits in ((0o022, 0o777), (0o077, 0o666), (0o777, 0o777), (0o501, 0o345)):
        run_as(User(0, 0, ()), MAKERS[how], path, bits, umask=mask)
        assert mode(path) == bits & ~mask
        remove(path)


@pytest.mark.parametrize("how", MAKERS)
def test_set_id_bits_given_at_creation_are_kept(fs, how):
    folder = fs.mkdir(mode=0o777)
    for user in (User(0, 0), ALICE):
        run_as(user, MAKERS[how], folder + "/new", 0o6755, umask=0)
        # mkdir(2) takes no set-ID bits.
        assert mode(folder + "/new") == (0o755 if how == "mkdir" else 0o6755)
        remove(folder + "/new")


def test_a_new_symlink_belongs_to_its_maker(fs):
    folder = fs.mkdir(mode=0o777)
    run_as(BOB, os.symlink, "x", folder + "/link", umask=0o077)
    assert owner(folder + "/link") == (BOB.uid, BOB.gid)
    assert mode(folder + "/link") == 0o777


@pytest.mark.smoke
@pytest.mark.parametrize("how", MAKERS)
def test_a_setgid_directory_gives_its_group_to_what_is_made_in_it(fs, how):
    folder = fs.mkdir()
    os.chown(folder, 0, 4321)
    os.chmod(folder, 0o2777)
    path = folder + "/new"
    run_as(ALICE, MAKERS[how], path, 0o755, umask=0)
    assert owner(path) == (ALICE.uid, 4321)
    assert mode(path) == (0o2755 if how == "mkdir" else 0o755)


def test_a_symlink_in_a_setgid_directory_gets_its_group(fs):
    folder = fs.mkdir()
    os.chown(folder, 0, 4321)
    os.chmod(folder, 0o2777)
    run_as(ALICE, os.symlink, "x", folder + "/link")
    assert owner(folder + "/link") == (ALICE.uid, 4321)


def test_an_open_temporary_in_a_setgid_directory_gets_its_group(fs):
    folder = fs.mkdir()
    os.chown(folder, 0, 4321)
    os.chmod(folder, 0o2777)

    def make():
        fd = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o640)
        status = os.fstat(fd)
        return status.st_uid, status.st_gid, status.st_mode & 0o7777

    assert run_as(ALICE, make, umask=0) == (ALICE.uid, 4321, 0o640)


@pytest.mark.parametrize("how", ("open", "mknod"))
def test_a_stranger_cannot_make_a_setgid_executable_in_a_setgid_directory(fs, how):
    folder = fs.mkdir()
    os.chown(folder, 0, 4321)
    os.chmod(folder, 0o2777)
    run_as(ALICE, MAKERS[how], folder + "/new", 0o2775, umask=0)
    assert mode(folder + "/new") == 0o775


def test_setgid_is_inherited_through_levels(fs):
    folder = fs.mkdir()
    os.chown(folder, 0, 4321)
    os.chmod(folder, 0o2777)

    def deep():
        path = folder
        for level in "abc":
            path += "/" + level
            os.mkdir(path, 0o700)
        return path

    path = run_as(BOB, deep)
    assert owner(path) == (BOB.uid, 4321)
    assert mode(path) == 0o2700


@pytest.mark.parametrize("how", [*MAKERS, "symlink", "bind"])
def test_making_moves_the_times_of_the_directory(fs, how):
    folder = fs.mkdir()

    def act():
        if how == "symlink":
            os.symlink("x", folder + "/new")
        elif how == "bind":
            os.chdir(folder)
            with socket.socket(socket.AF_UNIX) as server:
                server.bind("new")
        else:
            MAKERS[how](folder + "/new", 0o700)

    before = times(folder)
    tick()
    act()
    after, new = times(folder), times(folder + "/new")
    assert after["m"] > before["m"] and after["c"] > before["c"]
    assert all(new[which] > before["m"] for which in "amc")


@pytest.mark.parametrize("kind", ("block", "char"))
def test_only_root_makes_devices(fs, kind):
    folder = fs.mkdir(mode=0o777)
    refused(ALICE, errno.EPERM, os.mknod, folder + "/d", FORMATS[kind] | 0o600, os.makedev(1, 3))


def ways_to_take(kind):
    """Calls that take an entry away from a directory, each given (path, scratch folder)."""
    takers = {
        "remove": lambda path, other: remove(path),
        "rename from": lambda path, other: os.rename(path, other + "/moved"),
    }

    def rename_over(path, other):
        source = other + "/source"
        if kind == "dir":
            os.mkdir(source)
        else:
            os.close(os.open(source, os.O_CREAT))
        os.rename(source, path)

    takers["rename over"] = rename_over
    return takers


STICKY_CASES = list(itertools.product(FILE_TYPES, ("remove", "rename from", "rename over")))


@pytest.mark.parametrize("kind,how", STICKY_CASES)
def test_a_sticky_directory_protects_the_files_of_others(fs, kind, how):
    take = ways_to_take(kind)[how]
    scratch = fs.mkdir("scratch", mode=0o777, owner=ALICE)
    for number, (folder_owner, file_owner) in enumerate(itertools.product((ALICE, BOB), repeat=2)):
        folder = fs.mkdir(f"sticky{number}", mode=0o1777, owner=folder_owner)
        path = fs.make(kind, f"sticky{number}/entry", owner=file_owner, mode=0o755)
        other = fs.mkdir(f"scratch/{number}", mode=0o777, owner=ALICE)
        if ALICE in (folder_owner, file_owner):
            # A directory that moves to another parent needs write permission itself.
            if kind == "dir" and file_owner != ALICE and how == "rename from":
                refused(ALICE, errno.EACCES, take, path, other)
            else:
                run_as(ALICE, take, path, other)
        else:
            refused(ALICE, errno.EPERM, take, path, other)
            assert os.path.lexists(path)
        assert os.path.isdir(folder) and os.path.isdir(scratch)


@pytest.mark.parametrize("kind", NOT_DIR)
def test_without_sticky_write_permission_on_the_directory_suffices(fs, kind):
    fs.mkdir("open", mode=0o777)
    path = fs.make(kind, "open/entry", owner=BOB)
    run_as(ALICE, os.unlink, path)
    assert not os.path.lexists(path)


@pytest.mark.parametrize("kind,name", (("regular", "regular"), ("fifo", "fifos")))
def test_protected_creation_in_a_sticky_directory_is_as_the_kernel_says(fs, kind, name):
    """Opening with O_CREAT what someone else owns in a sticky directory may be restricted."""
    with open(f"/proc/sys/fs/protected_{name}", encoding="ascii") as setting:
        level = int(setting.read())
    fs.mkdir("sticky", mode=0o1777, owner=CAROL)
    path = fs.make(kind, "sticky/entry", mode=0o666, owner=BOB)

    def create():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_NONBLOCK))

    if level:
        refused(ALICE, errno.EACCES, create)
    else:
        run_as(ALICE, create)


def test_the_owner_of_a_file_that_was_given_away_loses_it(fs):
    path = fs.file(mode=0o600, owner=ALICE)
    os.chown(path, BOB.uid, BOB.gid)
    refused(ALICE, errno.EACCES, os.open, path, os.O_RDONLY)
    refused(ALICE, errno.EPERM, os.chmod, path, 0o666)
    with raises(errno.EPERM):
        run_as(ALICE, os.utime, path, (1, 1))
