"""Builds containers: copy-on-write trees of seeded content, and broken relatives of them."""

from scrim_reader import container as fmt
from scrim_reader.header import container_key
from scrim_reader.primitives import PAGE

from .seeded import zstd_frame

INLINE_LIMIT = 3904
TAIL_LIMIT = 3820


class Builder:
    """One container file under construction. Pages are bytes; what is missing is a hole."""

    def __init__(self, content_root, suite, policy, rng, epoch=1, session=1_700_000_000):
        self.root, self.suite, self.policy, self.rng = content_root, suite, policy, rng
        self.epoch, self.session = epoch, session
        self.file_id = rng.take(16)
        self.pages = {}
        self.next_page = 2
        self.seals = 0

    @property
    def block_size(self):
        return 1 << fmt.BLOCK_LOG[self.policy]

    def key(self):
        return container_key(self.root, self.file_id, self.epoch)

    def allocate(self, count):
        first, self.next_page = self.next_page, self.next_page + count
        return first

    def store(self, data, codec=fmt.RAW, page=None, length=None):
        """Seals `data` into pages; returns the reference."""
        length = len(data) if length is None else length
        count = -(-len(data) // PAGE)
        page = self.allocate(count) if page is None else page
        nonce = self.rng.take(12)
        padded = data + bytes(count * PAGE - len(data))
        stored, tag = fmt.seal_bytes(self.policy, self.suite, self.key(), nonce, padded)
        self.seals += 1
        for i in range(count):
            self.pages[page + i] = stored[i * PAGE : (i + 1) * PAGE]
        return fmt.Reference(page, length, codec, self.epoch, nonce, tag)

    def store_block(self, data):
        """One block of at most the block size, compressed where that saves a page."""
        if not any(data):
            return None
        if self.policy == fmt.SEALED:
            return self.store(data + bytes(self.block_size - len(data)))
        frame = zstd_frame(data)
        if -(-len(frame) // PAGE) < -(-len(data) // PAGE):
            return self.store(frame, fmt.ZSTD)
        return self.store(data)

    def packed(self, data):
        """The content of a slot that holds the end of the only block; None where none is left."""
        frame = zstd_frame(data)
        stored, codec = (frame, fmt.ZSTD) if len(frame) < len(data) else (data, fmt.RAW)
        rest = len(stored) if len(stored) <= TAIL_LIMIT else len(stored) % PAGE
        if not 1 <= rest <= TAIL_LIMIT:
            return None
        pages, tail = stored[: len(stored) - rest], stored[len(stored) - rest :]
        ref = self.store(pages).encode() if pages else fmt.HOLE
        return ref + len(tail).to_bytes(2, "little") + bytes([codec, 0]) + tail

    def node(self, references):
        """A node of {position: reference}; None if it holds only holes."""
        present = {i: r for i, r in references.items() if r is not None}
        if not present:
            return None
        page = b"".join(
            present[i].encode() if i in present else fmt.HOLE for i in range(fmt.FANOUT)
        )
        return self.store(page + bytes(16))

    def tree(self, blocks, depth):
        """The 80 encoded root references over {block index: reference}."""
        level = {i: r for i, r in blocks.items() if r is not None}
        for _ in range(depth):
            groups = {}
            for i, ref in level.items():
                groups.setdefault(i // fmt.FANOUT, {})[i % fmt.FANOUT] = ref
            level = {i: self.node(refs) for i, refs in groups.items()}
        return b"".join(level[i].encode() if i in level else fmt.HOLE for i in range(fmt.ROOTS))

    def depth_for(self, size):
        depth = 0
        while fmt.ROOTS * fmt.FANOUT**depth * self.block_size < size:
            depth += 1
        return depth

    def slot(self, size, content, layout=1, depth=0, commit=1, bindings=(), flags=None, **rest):
        """A decoded slot, ready to be sealed; `rest` overrides any field."""
        flags = (fmt.SOLE_SLOT if commit == 1 else 0) if flags is None else flags
        log = fmt.BLOCK_LOG[self.policy]
        made = fmt.Slot(self.policy, self.suite, log, self.epoch, self.file_id, commit,
                        self.session, size, max(self.next_page, 2), layout, depth,
                        list(bindings), flags, [], [], self.seals + 1, 0, fmt.HOLE, content)
        return made._replace(**rest)

    def put_slot(self, index, slot, body=None):
        self.seals += 1
        self.pages[index] = fmt.seal_slot(self.root, slot, self.rng.take(12), body)

    def commit(self, data, index=0, size=None, **fields):
        """Commits `data`: bytes, or {offset: bytes} for a sparse file of `size`."""
        parts = data if isinstance(data, dict) else {0: data}
        size = len(data) if size is None else size
        force_tree, pack = fields.pop("tree", False), fields.pop("pack", False)
        content = self.packed(data) if pack else None
        if not force_tree and isinstance(data, bytes) and len(data) <= INLINE_LIMIT:
            slot = self.slot(size, data, layout=fmt.INLINE, **fields)
        elif content:
            slot = self.slot(size, content, layout=fmt.PACKED, **fields)
        else:
            depth = fields.pop("depth", self.depth_for(size))
            blocks = self._blocks(parts)
            content = self.tree({i: self.store_block(b) for i, b in blocks.items()}, depth)
            slot = self.slot(size, content, depth=depth, **fields)
        self.put_slot(index, slot)
        return slot

    def _blocks(self, parts):
        blocks, size = {}, self.block_size
        for offset, data in sorted(parts.items()):
            while data:
                index, start = divmod(offset, size)
                piece = data[: size - start]
                old = blocks.get(index, b"").ljust(start, b"\0")
                blocks[index] = old[:start] + piece + old[start + len(piece) :]
                data, offset = data[len(piece) :], offset + len(piece)
        return blocks

    def bytes(self):
        last = max(self.pages)
        return b"".join(self.pages.get(i, bytes(PAGE)) for i in range(last + 1))


def sparse(pages, length=None):
    """The JSON form of a file of pages: zero bytes at the end of a page are left out."""
    length = (max(pages) + 1) * PAGE if length is None else length
    shown = {str(i): p.rstrip(b"\0").hex() for i, p in sorted(pages.items())}
    return {"length": length, "pages": {i: p for i, p in shown.items() if p}}


def flip(data, bit):
    """`data` with one bit the other way round."""
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]
