"""Trees of files with everything a filesystem has to keep, and telling whether two are the same."""

import os

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
    # diff calls two FIFOs different; rsync compares them.
    run("diff", "-r", "--no-dereference", "-x", "fifo", left, right, timeout=300)
    listing = run("rsync", "-aHAXn", "--checksum", "--delete", "-i", f"{left}/", f"{right}/", timeout=300)
    assert listing.stdout == b"", listing.stdout[:4000].decode(errors="replace")
