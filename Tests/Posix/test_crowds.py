"""Many processes at once, large directories, listings that change under way."""

import errno
import os
import random
import threading

import pytest

from .calls import getdents
from .place import read
from .test_files import content
from .users import Task, in_child


def list_by_calls(path, size=4096):
    """Names in the order that getdents gives them, in small pieces."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    names = []
    while piece := getdents(fd, size):
        names += [name for _, _, _, name in piece]
    os.close(fd)
    return names


@pytest.mark.smoke
@pytest.mark.parametrize("count", (0, 1, 100, 2000))
def test_a_listing_is_complete_and_has_no_doubles(fs, count):
    names = {b"entry %d" % number + b"x" * (number % 200) for number in range(count)}
    for name in names:
        os.close(os.open(os.fsencode(fs.dir) + b"/" + name, os.O_CREAT))
    for size in (512, 4096, 200_000):
        listed = list_by_calls(fs.dir, size)
        assert len(listed) == count + 2
        assert set(listed) == names | {b".", b".."}


def test_a_listing_knows_types_and_inodes(fs):
    for kind in ("regular", "dir", "fifo", "socket", "char", "symlink"):
        fs.make(kind, kind)
    fs.make("regular", "r" * 255)
    wanted = {b"regular": 8, b"dir": 4, b"fifo": 1, b"socket": 12, b"char": 2, b"symlink": 10,
              b"r" * 255: 8, b".": 4, b"..": 4}
    fd = os.open(fs.dir, os.O_RDONLY)
    entries = getdents(fd)
    assert {name: kind for _, _, kind, name in entries} == wanted
    for inode, _, _, name in entries:
        if name not in (b".", b".."):
            assert inode == os.lstat(os.fsencode(fs.dir) + b"/" + name).st_ino
    os.close(fd)


def test_a_listing_resumes_where_seekdir_says(fs):
    for number in range(500):
        fs.file(f"entry{number}")
    fd = os.open(fs.dir, os.O_RDONLY)
    entries = []
    while piece := getdents(fd, 2048):
        entries += piece
    names = [name for _, _, _, name in entries]
    for index in random.Random(4).sample(range(len(entries) - 1), 40):
        os.lseek(fd, entries[index][1], os.SEEK_SET)
        rest = []
        while piece := getdents(fd, 2048):
            rest += [name for _, _, _, name in piece]
        assert rest == names[index + 1:]
    os.lseek(fd, 0, os.SEEK_SET)
    assert getdents(fd, 2048)[0][3] == names[0]
    os.close(fd)


def test_a_rewound_listing_sees_what_is_new(fs):
    fs.file("one")
    fd = os.open(fs.dir, os.O_RDONLY)
    assert len(getdents(fd)) == 3
    assert getdents(fd) == []
    fs.file("two")
    os.unlink(fs / "one")
    os.lseek(fd, 0, os.SEEK_SET)
    assert {name for _, _, _, name in getdents(fd)} == {b".", b"..", b"two"}
    os.close(fd)


@pytest.mark.smoke
def test_survivors_are_listed_once_while_others_come_and_go(fs):
    survivors = {f"survivor{number}" for number in range(300)}
    for name in survivors:
        fs.file(name)
    stop = fs / "stop"

    def churn(letter):
        number = 0
        while not os.path.exists(stop):
            fs.file(f"{letter}{number % 40}{'y' * (number % 90)}")
            os.unlink(fs / f"{letter}{number % 40}{'y' * (number % 90)}")
            number += 1

    tasks = [Task(churn, letter) for letter in "ab"]
    try:
        for round_number in range(25):
            listed = list_by_calls(fs.dir, 1024 + round_number * 100)
            assert len(listed) == len(set(listed))
            assert survivors <= {os.fsdecode(name) for name in listed}
    finally:
        fs.file("stop")
        for task in tasks:
            task.result()


def test_removing_while_listing_empties_a_directory(fs):
    for number in range(1500):
        fs.file(f"entry{number}")
    fd = os.open(fs.dir, os.O_RDONLY)
    while piece := getdents(fd, 4096):
        for _, _, _, name in piece:
            if name not in (b".", b".."):
                os.unlink(os.fsencode(fs.dir) + b"/" + name)
    os.close(fd)
    assert os.listdir(fs.dir) == []


def test_renaming_while_listing_ends(fs):
    for number in range(300):
        fs.file(f"e{number}")
    fd = os.open(fs.dir, os.O_RDONLY)
    seen = 0
    while piece := getdents(fd, 1024):
        for _, _, _, name in piece:
            if name in (b".", b".."):
                continue
            seen += 1
            assert seen < 5000, "the listing does not end"
            os.rename(os.fsencode(fs.dir) + b"/" + name, os.fsencode(fs.dir) + b"/R%d" % seen)
    os.close(fd)
    assert len(os.listdir(fs.dir)) == 300


@pytest.mark.smoke
def test_a_name_swapped_by_rename_always_exists(fs):
    path = fs.file("current", data=b"0" * 100)

    def swap():
        for number in range(150):
            fs.file("next", data=b"%d" % (number % 10) * (number * 50 + 100))
            os.rename(fs / "next", path)

    def look():
        for _ in range(400):
            data = read(path)
            assert len(set(data)) == 1, "a mixture of two versions"
        return True

    writer, readers = Task(swap), [Task(look) for _ in range(2)]
    writer.result()
    assert all(reader.result() for reader in readers)


@pytest.mark.smoke
def test_renames_between_directories_from_both_sides_lose_nothing(fs):
    for name in ("a", "b"):
        fs.mkdir(name)
    for number in range(20):
        fs.file(f"a/f{number}", data=b"%d" % number)

    def shuffle(seed):
        rng = random.Random(seed)
        for _ in range(300):
            source, target = rng.sample(("a", "b"), 2)
            number = rng.randrange(20)
            try:
                os.rename(fs / f"{source}/f{number}", fs / f"{target}/f{number}")
            except FileNotFoundError:
                pass

    for task in [Task(shuffle, seed) for seed in range(3)]:
        task.result()
    listed = sorted(os.listdir(fs / "a") + os.listdir(fs / "b"))
    assert listed == sorted(f"f{number}" for number in range(20))
    for folder in ("a", "b"):
        for name in os.listdir(fs / folder):
            assert read(fs / f"{folder}/{name}") == name[1:].encode()


def test_directories_moved_into_each_other_never_make_a_loop(fs):
    fs.mkdir("x")
    fs.mkdir("y")
    for number in range(5):
        fs.file(f"x/x{number}")
        fs.file(f"y/y{number}")

    def move(first, second):
        outcomes = set()
        for _ in range(200):
            for source, target in ((f"{first}", f"{second}/{first}"), (f"{second}/{first}", first)):
                try:
                    os.rename(fs / source, fs / target)
                except OSError as error:
                    outcomes.add(error.errno)
        return outcomes

    tasks = [Task(move, "x", "y"), Task(move, "y", "x")]
    allowed = {errno.ENOENT, errno.EINVAL, errno.ENOTEMPTY, errno.EEXIST}
    for task in tasks:
        assert task.result() <= allowed
    found = [name for _, _, files in os.walk(fs.dir) for name in files]
    assert sorted(found) == sorted([f"x{n}" for n in range(5)] + [f"y{n}" for n in range(5)])


def test_one_mkdir_one_rmdir_one_unlink_wins(fs):
    def compete(make, take):
        made = taken = 0
        for number in range(60):
            for act, path in ((make, fs / f"n{number}"), (take, fs / f"n{number}")):
                try:
                    act(path)
                    made, taken = made + (act is make), taken + (act is take)
                except (FileExistsError, FileNotFoundError):
                    pass
        return made, taken

    def make_file(path):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))

    for make, take in ((os.mkdir, os.rmdir), (make_file, os.unlink)):
        results = [task.result() for task in [Task(compete, make, take) for _ in range(3)]]
        made, taken = (sum(column) for column in zip(*results))
        assert made == taken
        assert os.listdir(fs.dir) == []


@pytest.mark.smoke
def test_links_made_and_removed_by_many_count_right(fs):
    path = fs.file(data=b"shared")

    def link(letter):
        for number in range(80):
            os.link(path, fs / f"{letter}{number}")
            if number % 2:
                os.unlink(fs / f"{letter}{number - 1}")

    for task in [Task(link, letter) for letter in "abc"]:
        task.result()
    assert os.stat(path).st_nlink == 1 + 3 * 40
    assert read(fs / "a79") == b"shared"


@pytest.mark.smoke
def test_readers_see_whole_blocks_of_a_writer(fs):
    path = fs.file(data=b"0" * 4096)

    def rewrite():
        fd = os.open(path, os.O_RDWR)
        for number in range(400):
            os.pwrite(fd, b"%d" % (number % 10) * 4096, 0)
        os.close(fd)

    def look():
        fd = os.open(path, os.O_RDONLY)
        for _ in range(400):
            assert len(os.pread(fd, 4096, 0)) == 4096
        os.close(fd)
        return True

    tasks = [Task(rewrite), Task(look), Task(look)]
    for task in tasks:
        task.result()
    assert len(set(read(path))) == 1


@pytest.mark.smoke
def test_writers_of_different_regions_do_not_disturb_each_other(fs):
    path = fs.file()

    def fill(number):
        rng = random.Random(number)
        fd = os.open(path, os.O_RDWR)
        for block in rng.sample(range(60), 60):
            os.pwrite(fd, bytes([number + 1]) * 1000, block * 4000 + number * 1000)
            if block % 20 == 0:
                os.fsync(fd)
        os.close(fd)

    for task in [Task(fill, number) for number in range(4)]:
        task.result()
    assert read(path) == (b"\1" * 1000 + b"\2" * 1000 + b"\3" * 1000 + b"\4" * 1000) * 60


def test_threads_of_one_process_share_a_handle(fs):
    data = content(400_000)
    fd = os.open(fs.file(data=data), os.O_RDWR)
    failures = []

    def work(seed):
        rng = random.Random(seed)
        for _ in range(200):
            at = rng.randrange(390_000)
            if os.pread(fd, 5000, at) != data[at:at + 5000]:
                failures.append(at)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(fd)
    assert not failures


def test_creating_and_deleting_trees_at_once(fs):
    def grow(letter):
        for number in range(10):
            top = fs / f"{letter}{number}"
            os.mkdir(top)
            for name in "pq":
                os.mkdir(f"{top}/{name}")
                with open(f"{top}/{name}/file", "wb") as stream:
                    stream.write(content(3000))
            for name in "pq":
                os.unlink(f"{top}/{name}/file")
                os.rmdir(f"{top}/{name}")
            os.rmdir(top)

    for task in [Task(grow, letter) for letter in "abcd"]:
        task.result()
    assert os.listdir(fs.dir) == []


def test_a_process_that_is_killed_while_writing_harms_nobody(fs):
    path = fs / "victim"

    def write_forever():
        fd = os.open(path, os.O_CREAT | os.O_RDWR)
        while True:
            os.write(fd, b"v" * 10_000)
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)

    for _ in range(5):
        task = Task(write_forever)
        while not os.path.exists(path):
            pass
        in_child(fs.file, "other", content(5000))
        task.kill()
        with pytest.raises(ChildProcessError):
            task.result()
        assert set(read(path)) <= {ord("v")}
        assert read(fs / "other") == content(5000)
        os.unlink(path)
