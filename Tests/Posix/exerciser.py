"""A random stream of everything that reads or changes content, checked against a model in memory.

Reads of every way, through handles that were open all along and through new ones, see what the writes of
every other way left: coherence is what this is about.
"""

import errno
import mmap
import os
import random

from .calls import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, fallocate

PAGE = 4096
LIMIT = 600_000


class Mismatch(AssertionError):
    pass


class Exerciser:
    """One file and its model. `top` is an existing directory."""

    def __init__(self, top, seed):
        self.rng = random.Random(seed)
        self.path = os.path.join(top, "exercised")
        self.model = bytearray()
        self.history = []
        os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        self.fd = os.open(self.path, os.O_RDWR)
        self.reader = os.open(self.path, os.O_RDONLY)
        self.direct = os.open(self.path, os.O_RDWR | os.O_DIRECT)
        self.memory = mmap.mmap(-1, 64 * PAGE)
        self.mapping = None

    def run(self, steps):
        try:
            for step in range(steps):
                name = self.rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
                self.history.append(f"{step} {name}")
                getattr(self, name)()
                if step % 50 == 49:
                    self.check_everything()
            self.check_everything()
        except (AssertionError, OSError) as error:
            raise Mismatch("last calls:\n  " + "\n  ".join(self.history[-25:])) from error
        finally:
            self.drop_mapping()
            for fd in (self.fd, self.reader, self.direct):
                os.close(fd)

    # Choosing

    def note(self, text):
        self.history[-1] += " " + text

    def span(self, limit=LIMIT):
        """An offset and a length, often at borders of pages and blocks."""
        rng = self.rng
        offset = rng.randrange(limit)
        if rng.random() < 0.4:
            offset = offset // PAGE * PAGE + rng.choice((-1, 0, 0, 1))
        if rng.random() < 0.2:
            offset = len(self.model) + rng.choice((-5000, -1, 0, 0, 1, 5000))
        offset = max(0, min(offset, limit - 1))
        length = rng.choice((1, 7, 300, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, rng.randrange(1, 80_000)))
        length = min(length, limit - offset)
        self.note(f"{offset}+{length} of {len(self.model)}")
        return offset, length

    def data(self, length):
        if self.rng.random() < 0.4:
            return (b"%07d " % self.rng.randrange(10**7) * (length // 8 + 1))[:length]
        return self.rng.randbytes(length)

    def put(self, offset, data):
        if offset > len(self.model):
            self.model.extend(bytes(offset - len(self.model)))
        self.model[offset:offset + len(data)] = data

    # Writing

    def write(self):
        offset, length = self.span()
        data = self.data(length)
        assert os.pwrite(self.fd, data, offset) == length
        self.put(offset, data)

    def append(self):
        if len(self.model) > LIMIT:
            return
        data = self.data(self.rng.choice((1, 100, PAGE, 20_000)))
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        assert os.write(fd, data) == len(data)
        os.close(fd)
        self.put(len(self.model), data)

    def direct_write(self):
        pages = self.rng.randrange(1, 64)
        offset = self.rng.randrange(LIMIT // PAGE - pages) * PAGE
        self.note(f"{offset}+{pages * PAGE}")
        data = self.data(pages * PAGE)
        self.memory[:len(data)] = data
        assert os.pwritev(self.direct, [memoryview(self.memory)[:len(data)]], offset) == len(data)
        self.put(offset, data)

    def map_write(self):
        self.map_anew()
        if self.mapping is None:
            return
        length = self.rng.randrange(1, min(len(self.mapping), 50_000) + 1)
        offset = self.rng.randrange(len(self.mapping) - length + 1)
        self.note(f"{offset}+{length}")
        data = self.data(length)
        self.mapping[offset:offset + length] = data
        self.put(offset, data)
        if self.rng.random() < 0.5:
            self.note("flushed")
            self.mapping.flush()

    def truncate(self):
        size = self.rng.choice((0, 1, PAGE, PAGE - 1, len(self.model) // 2, self.rng.randrange(LIMIT)))
        self.note(f"to {size} of {len(self.model)}")
        self.drop_mapping()  # what lies beyond the end must not be touched
        if self.rng.random() < 0.5:
            os.ftruncate(self.fd, size)
        else:
            os.truncate(self.path, size)
        del self.model[size:]
        self.model.extend(bytes(size - len(self.model)))

    def allocate(self):
        offset, length = self.span()
        keeps = self.rng.random() < 0.5
        fallocate(self.fd, KEEP_SIZE if keeps else 0, offset, length)
        if not keeps and offset + length > len(self.model):
            self.model.extend(bytes(offset + length - len(self.model)))

    def clear(self, bits, keeps):
        offset, length = self.span()
        fallocate(self.fd, bits | (KEEP_SIZE if keeps else 0), offset, length)
        if not keeps and offset + length > len(self.model):
            self.model.extend(bytes(offset + length - len(self.model)))
        end = min(offset + length, len(self.model))
        if offset < end:
            self.model[offset:end] = bytes(end - offset)

    def punch(self):
        self.clear(PUNCH_HOLE, True)

    def zero(self):
        self.clear(ZERO_RANGE, self.rng.random() < 0.5)

    def copy(self):
        source, length = self.span()
        target = self.rng.randrange(LIMIT)
        length = min(length, max(len(self.model) - source, 0), abs(source - target))
        self.note(f"{length} to {target}")
        if length == 0:
            return
        done = 0
        while done < length:
            count = os.copy_file_range(self.reader, self.fd, length - done, source + done, target + done)
            assert count > 0
            done += count
        self.put(target, bytes(self.model[source:source + length]))

    # Reading

    def same(self, got, offset, length):
        wanted = bytes(self.model[offset:offset + length])
        if got == wanted:
            return
        assert len(got) == len(wanted), f"{len(got)} bytes at {offset}, wanted {len(wanted)}"
        at = next(i for i, (one, two) in enumerate(zip(got, wanted)) if one != two)
        raise AssertionError(f"wrong from {offset + at}: {got[at:at + 8]} instead of {wanted[at:at + 8]}")

    def read(self):
        offset, length = self.span(LIMIT + PAGE)
        fd = self.rng.choice((self.fd, self.reader))
        self.same(os.pread(fd, length, offset), offset, length)

    def direct_read(self):
        offset, _ = self.span()
        offset = offset // PAGE * PAGE
        count = os.preadv(self.direct, [memoryview(self.memory)], offset)
        self.same(self.memory[:count], offset, len(self.memory))

    def map_read(self):
        self.map_anew()
        if self.mapping is not None:
            self.same(self.mapping[:], 0, len(self.mapping))

    def map_anew(self):
        """Maps what there is, or keeps the mapping of before, which shows the same file."""
        if self.mapping is not None and self.rng.random() < 0.6:
            return
        self.drop_mapping()
        if self.model:
            fd = os.open(self.path, os.O_RDWR) if self.rng.random() < 0.5 else self.fd
            self.mapping = mmap.mmap(fd, len(self.model))
            if fd != self.fd:
                os.close(fd)

    def drop_mapping(self):
        if self.mapping is not None:
            self.mapping.close()
            self.mapping = None

    # Around it

    def sync(self):
        (os.fsync if self.rng.random() < 0.5 else os.fdatasync)(self.fd)

    def reopen(self):
        os.close(self.fd)
        self.fd = os.open(self.path, os.O_RDWR)

    def advise(self):
        os.posix_fadvise(self.fd, 0, 0, self.rng.choice((os.POSIX_FADV_DONTNEED, os.POSIX_FADV_WILLNEED)))

    def rename(self):
        os.rename(self.path, self.path + "-")
        os.rename(self.path + "-", self.path)

    def seek(self):
        """What is said to be a hole is all zeros, and the end is where it is."""
        offset, _ = self.span()
        if offset >= len(self.model):
            return
        if self.mapping is not None:
            self.mapping.flush()  # of what is not, FUSE tells nobody: see docs/limits.md
        try:
            data = os.lseek(self.reader, offset, os.SEEK_DATA)
        except OSError as error:
            assert error.errno == errno.ENXIO
            data = len(self.model)
        assert not any(self.model[offset:data]), f"bytes in the hole {offset} to {data}"
        assert os.lseek(self.reader, offset, os.SEEK_HOLE) <= len(self.model)

    def check_size(self):
        for status in (os.fstat(self.fd), os.stat(self.path), os.fstat(self.reader)):
            assert status.st_size == len(self.model)

    def check_everything(self):
        self.check_size()
        fd = os.open(self.path, os.O_RDONLY)
        self.same(os.pread(fd, LIMIT * 2, 0), 0, LIMIT * 2)
        os.close(fd)
        self.map_read()


WEIGHTS = {
    "write": 14, "append": 4, "direct_write": 5, "map_write": 9, "truncate": 6, "allocate": 3, "punch": 5,
    "zero": 5, "copy": 5, "read": 14, "direct_read": 5, "map_read": 6, "sync": 3, "reopen": 3,
    "advise": 2, "rename": 2, "seek": 4, "check_size": 4,
}
