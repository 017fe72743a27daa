"""Trees of files with everything a filesystem has to keep, and telling whether two are the same."""

import os
import socket

from harness import run

BLOCK, PAGE, COMPRESSED_BLOCK, INLINE = 4096, 4096, 131072, 3904


def boundary_sizes():
    sizes = set()
    for edge in (INLINE - 16, INLINE, PAGE, 2 * PAGE, 80 * BLOCK, 16 * PAGE, COMPRESSED_BLOCK, 2 * COMPRESSED_BLOCK, 1 << 20):
        sizes.update((edge - 1, edge, edge + 1))
    sizes.update((0, 1, 15, 16, 17, 255, 256, 511, 512))
    return sorted(sizes)


def content(rng, size):
    """Half of all files shrink, half do not."""
    if rng.random() < 0.5:
        return rng.randbytes(size)
    line = b"%d lines of text that repeat themselves\n" % rng.randrange(1000)
    return (line * (size // len(line) + 1))[:size]


def build(root, rng, files=5200):
    """Makes the tree; returns how many files and links it holds."""
    root = os.fsencode(root)
    os.makedirs(root, exist_ok=True)
    directories = [root]
    for i in range(150):
        parent = rng.choice(directories[-40:])
        path = os.path.join(parent, b"directory %d" % i)
        os.mkdir(path)
        directories.append(path)

    made = []

    def write(path, data):
        with open(path, "wb") as f:
            f.write(data)
        os.utime(path, ns=(10**18 + rng.randrange(10**17), 10**18 + rng.randrange(10**17)))
        made.append(path)

    for size in boundary_sizes():
        write(os.path.join(root, b"size-%d" % size), content(rng, size))
    for name in odd_names():
        write(os.path.join(rng.choice(directories), name), content(rng, rng.randrange(200)))
    while len(made) < files - 300:
        size = rng.choice((0, 10, 100, 1000, 3000, 5000, 9000))
        write(os.path.join(rng.choice(directories), b"file %d.txt" % len(made)), content(rng, size))
    files = list(made)
    add_links(rng, directories, files, made)
    add_holes(root, made)
    add_specials(root, rng, files)
    made.append(os.path.join(root, b"fifo"))
    for path in reversed(directories):
        os.utime(path, ns=(10**18 + rng.randrange(10**17), 10**18 + rng.randrange(10**17)))
    return len(made)


def odd_names():
    yield from (b"n" * n for n in (1, 15, 16, 17, 143, 144, 175, 176, 177, 254, 255))
    yield from (b"\xff\xfe not UTF-8", b"latin \xe9", b"\x01\x02", b"new\nline", b" blank ", b"-dash", b"...", b"\\back")
    yield from ("Ünïcödé ✓".encode(), ("é" * 127).encode(), b".hidden", b".scrim-like", b"~tilde", b"name.scrim-c")


def add_links(rng, directories, files, made):
    for i in range(150):
        target = rng.choice(files) if i % 3 else b"../" * (i % 7) + b"nowhere %d" % i
        path = os.path.join(rng.choice(directories), b"link %d" % i)
        os.symlink(target[:4095], path)
        made.append(path)
    path = os.path.join(directories[0], b"long link")
    os.symlink(b"t" * 4095, path)
    made.append(path)
    for i in range(60):
        path = os.path.join(rng.choice(directories), b"hard link %d" % i)
        # Of files only: a link to a symbolic link is a copy of it (docs/limits.md).
        os.link(rng.choice(files), path)
        made.append(path)


def add_holes(root, made):
    for i, size in enumerate((1 << 14, 1 << 20, (1 << 20) + 1, 1 << 24)):
        path = os.path.join(root, b"holes %d" % i)
        with open(path, "wb") as f:
            f.truncate(size)
            f.seek(size // 2)
            f.write(b"in the middle")
        made.append(path)


def add_specials(root, rng, files):
    os.mkfifo(os.path.join(root, b"fifo"))
    for i in range(20):
        path = rng.choice(files)
        os.chmod(path, rng.choice((0o600, 0o644, 0o755, 0o400)))
        os.setxattr(path, b"user.note %d" % i, rng.randbytes(rng.randrange(100)))
    directory = os.path.join(root, b"attributes")
    os.mkdir(directory, 0o750)
    os.setxattr(directory, b"user.of.a.directory", b"value")


def copy(source, target):
    run("cp", "-a", "--", f"{os.fspath(source)}/.", target, timeout=300)


def assert_same(left, right):
    """diff and rsync both see no difference: names, bytes, links, modes, owners, times, attributes."""
    # diff calls any two special files different; rsync compares them.
    special = [word for name in ("fifo", "socket", "null", "block") for word in ("-x", name)]
    run("diff", "-r", "--no-dereference", *special, left, right, timeout=300)
    listing = run("rsync", "-aHAXn", "--checksum", "--delete", "-i", f"{left}/", f"{right}/", timeout=300)
    assert listing.stdout == b"", listing.stdout[:4000].decode(errors="replace")


def assert_whole_in_one(before, *places):
    """Every file is in one of the places at least, and in each where it is it is what it was."""
    before = os.fsencode(before)
    for root, _, names in os.walk(before):
        for name in names:
            original = os.path.join(root, name)
            if not os.path.isfile(original) or os.path.islink(original):
                continue
            path = os.path.relpath(original, before)
            there = [c for c in (os.path.join(os.fsencode(p), path) for p in places) if os.path.lexists(c)]
            assert there, path
            with open(original, "rb") as f:
                content = f.read()
            for copy in there:
                with open(copy, "rb") as f:
                    assert f.read() == content, copy


def build_odd(root):
    """What few trees have: every kind of file and bit, times from before 1970, names and depths at the limit."""
    root = os.fsencode(root)
    os.makedirs(root)

    def write(name, data=b"x" * 5000):
        path = os.path.join(root, name)
        with open(path, "wb") as f:
            f.write(data)
        return path

    for name in (b"~" + b"a" * 43, b"~" + b"a" * 43 + b".n", b"x.p", b"x.s", b"x.l", b"a:b", b"*", b" ", b"\xff\n", b"n" * 255):
        write(name)
    for name in (b".scrim-dir", b".scrim-new.a", b".scrim-n.x_", b".scrim-h.x", b"f.scrim-l", b"a.sync-conflict-20200101-000000-ABCDEFG.txt"):
        write(name)
    for name in (b".scrim-new.folder", b"lost+found", b"empty"):
        os.mkdir(os.path.join(root, name))
    for number, bits in enumerate((0o4755, 0o2755, 0o6711, 0o1644, 0, 0o200, 0o111)):
        os.chmod(write(b"mode %d" % number), bits)
    for name, target in ((b"loop", b"loop"), (b"up", b"../up"), (b"dot", b"."), (b"far", b"x" * 4095), (b"l" * 255, b"\xff\n")):
        os.symlink(target, os.path.join(root, name))
    with open(write(b"sparse"), "r+b") as f:
        f.truncate(1 << 30)
        for offset in (1 << 20, (1 << 29) + 5, (1 << 30) - 9):
            f.seek(offset)
            f.write(b"data")
    for i in range(40):
        os.link(os.path.join(root, b"x.p"), os.path.join(root, b"name %d" % i))
    os.mkfifo(os.path.join(root, b"fifo"), 0o604)
    os.link(os.path.join(root, b"fifo"), os.path.join(root, b"lost+found", b"fifo"))
    place = os.getcwd()
    os.chdir(root)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(b"socket")
    os.chdir(place)
    os.mknod(os.path.join(root, b"null"), 0o020666, os.makedev(1, 3))
    os.mknod(os.path.join(root, b"block"), 0o060640, os.makedev(7, 200))
    for name in (b"null", b"fifo", b"loop", b"far", b"x.s"):
        os.setxattr(os.path.join(root, name), b"trusted.t", b"value of " + name, follow_symlinks=False)
    os.setxattr(write(b"capable"), b"security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    os.chown(write(b"owned"), 1234, 4321)
    os.lchown(os.path.join(root, b"up"), 77, 88)
    os.mkdir(os.path.join(root, b"list"))
    run("setfacl", "-m", "d:u:12345:rwx,u:12345:rx", os.path.join(root, b"list"))
    write(b"list/inherits")
    os.mkdir(os.path.join(root, b"closed"))
    write(b"closed/file")
    os.chmod(os.path.join(root, b"closed"), 0o3300)
    os.utime(write(b"old"), ns=(-(10**18), -(10**18) - 1))
    os.utime(write(b"future"), ns=(5 * 10**18, 5 * 10**18 + 999))
    deep = root
    for i in range(18):
        deep = os.path.join(deep, b"%d" % i + b"d" * 160)
    os.makedirs(deep)
    write(os.path.join(deep, b"bottom"))
