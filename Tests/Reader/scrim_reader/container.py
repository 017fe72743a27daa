"""Containers (format.md section 8): slots, the tree of references, free pages, verification."""

import struct
from collections import namedtuple

from .header import container_key
from .primitives import (
    PAGE,
    Damaged,
    aead_open,
    aead_seal,
    is_zero,
    require,
    u16,
    u32,
    u64,
    zstd_decompress,
)

MAGIC = b"SCRIMCTR"
SEALED, COMPRESSED, SEALED_COMPRESSED = 1, 2, 3
BLOCK_LOG = {SEALED: 12, COMPRESSED: 17, SEALED_COMPRESSED: 17}
RAW, ZSTD = 0, 1
INLINE, TREE, PACKED = 0, 1, 2
MORE_LINKS, SOLE_SLOT = 1, 2
ROOTS, FANOUT = 80, 102
BODY = 4016
PACKED_HEAD = 44


class Reference(namedtuple("Reference", "page length codec epoch nonce tag")):
    __slots__ = ()

    def encode(self):
        out = self.page.to_bytes(6, "little") + self.length.to_bytes(3, "little")
        return out + bytes([self.codec]) + struct.pack("<H", self.epoch) + self.nonce + self.tag

    def page_count(self):
        return -(-self.length // PAGE)


HOLE = bytes(40)


def parse_reference(data, slot, inner):
    """None for a hole. `inner` references name nodes or free-list pages."""
    if is_zero(data):
        return None
    page = int.from_bytes(data[0:6], "little")
    length = int.from_bytes(data[6:9], "little")
    ref = Reference(page, length, data[9], u16(data, 10), data[12:24], data[24:40])
    require(ref.page >= 2, "reference: page of a slot")
    require(1 <= ref.length <= slot.block_size, "reference: stored length")
    require(ref.codec in (RAW, ZSTD), "reference: unknown codec")
    require(1 <= ref.epoch <= slot.epoch, "reference: key epoch")
    require(ref.page + ref.page_count() <= slot.page_count, "reference: beyond the page count")
    if inner or slot.policy == SEALED:
        require(ref.length == PAGE and ref.codec == RAW, "reference: not one raw page")
    return ref


class Slot(namedtuple("Slot", "policy suite block_log epoch file_id commit session size page_count "
                      "layout depth bindings flags free held seals held_commit free_list content")):
    """A decoded header slot. `content`: inline bytes, 80 encoded references, or a packed block."""

    __slots__ = ()

    @property
    def block_size(self):
        return 1 << self.block_log

    def packed(self):
        """The reference of the whole pages (None for none), codec, and tail of a packed block."""
        ref = parse_reference(self.content[:40], self, False)
        return ref, self.content[42], self.content[PACKED_HEAD:]

    def clear_part(self):
        return MAGIC + struct.pack("<BBBBHH16sQQ", self.policy, self.suite, self.block_log, 0,
                                   self.epoch, 0, self.file_id, self.commit, self.session)

    def body(self):
        out = struct.pack("<QQBBBBHHQQ40s", self.size, self.page_count, self.layout, self.depth,
                          len(self.bindings), self.flags, len(self.free), len(self.held),
                          self.seals, self.held_commit, self.free_list)
        out += b"".join(self.bindings) + encode_extents(self.free + self.held) + self.content
        return out + bytes(BODY - len(out))


def encode_extents(extents):
    return b"".join(p.to_bytes(6, "little") + struct.pack("<I", n) for p, n in extents)


def parse_extents(data, page_count):
    out = []
    for at in range(0, len(data), 10):
        first, count = int.from_bytes(data[at : at + 6], "little"), u32(data, at + 6)
        require(first >= 2, "extent: page of a slot")
        require(count >= 1, "extent: empty")
        require(first + count <= page_count, "extent: beyond the page count")
        out.append((first, count))
    return out


def seal_bytes(policy, suite, key, nonce, data, ad=b""):
    """Returns (stored bytes, tag) by the rule of the policy."""
    if policy == COMPRESSED:
        return data, aead_seal(suite, key, nonce, b"", ad + data)[1]
    return aead_seal(suite, key, nonce, data, ad)


def open_bytes(policy, suite, key, nonce, tag, stored, what, ad=b""):
    if policy == COMPRESSED:
        aead_open(suite, key, nonce, b"", tag, ad + stored, what)
        return stored
    return aead_open(suite, key, nonce, stored, tag, ad, what)


def seal_slot(content_root, slot, nonce, body=None):
    """The page of a slot; `body` replaces the encoded one (for broken examples)."""
    head = slot.clear_part()
    key = container_key(content_root, slot.file_id, slot.epoch)
    body = slot.body() if body is None else body
    stored, tag = seal_bytes(slot.policy, slot.suite, key, nonce, body, head)
    return head + nonce + tag + bytes(4) + stored


def open_slot(content_root, page, suite):
    """Decodes and authenticates one header page."""
    require(len(page) == PAGE and page[:8] == MAGIC, "slot: not a container header")
    policy, block_log, epoch = page[8], page[10], u16(page, 12)
    require(policy in BLOCK_LOG, "slot: content policy")
    require(page[9] == suite, "slot: suite is not the vault's")
    require(block_log == BLOCK_LOG[policy], "slot: block size")
    require(page[11] == 0 and u16(page, 14) == 0 and u32(page, 76) == 0, "slot: zero field")
    require(epoch >= 1, "slot: key epoch")
    require(u64(page, 32) >= 1, "slot: commit number")
    file_id = page[16:32]
    key = container_key(content_root, file_id, epoch)
    body = open_bytes(policy, suite, key, page[48:60], page[60:76], page[80:], "slot", page[:48])
    head = (policy, suite, block_log, epoch, file_id, u64(page, 32), u64(page, 40))
    return _parse_body(head, body)


def _parse_body(head, body):
    size, page_count, layout, depth = u64(body, 0), u64(body, 8), body[16], body[17]
    n, flags, f, h = body[18], body[19], u16(body, 20), u16(body, 22)
    require(size <= 1 << 57, "slot: logical size")
    require(1 <= page_count < 1 << 48, "slot: page count")
    require(layout in (INLINE, TREE, PACKED), "slot: layout")
    require(depth <= 7 and (layout == TREE or depth == 0), "slot: depth")
    require(n <= 16, "slot: number of bindings")
    require(flags & ~3 == 0, "slot: unknown flags")
    require(f + h <= 40, "slot: number of extents")
    at = 80 + 16 * n
    bindings = [body[i : i + 16] for i in range(80, at, 16)]
    extents = parse_extents(body[at : at + 10 * (f + h)], page_count)
    at += 10 * (f + h)
    if layout == PACKED:
        require(at + PACKED_HEAD <= BODY, "slot: no room for a packed block")
        length = PACKED_HEAD + u16(body, at + 40)
    else:
        length = size if layout == INLINE else 40 * ROOTS
    require(at + length <= BODY, "slot: inline content too long")
    require(is_zero(body[at + length :]), "slot: bytes after the content")
    if layout == TREE:
        require(ROOTS * FANOUT**depth << head[2] >= size, "slot: depth too small")
    slot = Slot(*head, size, page_count, layout, depth, bindings, flags, extents[:f], extents[f:],
                u64(body, 24), u64(body, 32), body[40:80], body[at : at + length])
    parse_reference(slot.free_list, slot, True)
    if layout == PACKED:
        require(slot.policy != SEALED, "slot: packed under a policy of small blocks")
        require(1 <= size <= slot.block_size, "slot: packed but not one block")
        ref, codec, tail = slot.packed()
        require(codec in (RAW, ZSTD) and slot.content[43] == 0, "slot: codec of a packed block")
        stored = len(tail)
        if ref is not None:
            require(ref.codec == RAW and ref.length % PAGE == 0, "slot: pages of a packed block")
            stored += ref.length
        require(len(tail) >= 1 and stored <= slot.block_size, "slot: length of a packed block")
    return slot


class Container:
    """One container. `source` has pread(count, offset) and length(); `unclean` are ranges of sessions."""

    def __init__(self, content_root, source, suite, excused=False, unclean=()):
        self.root, self.source, self.unclean = content_root, source, unclean
        self.healed = None
        self._keys = {}
        self._opening = None
        self.slot, self.other = self._choose(suite, excused)

    def _choose(self, suite, excused):
        pages = [self.source.pread(PAGE, at).ljust(PAGE, b"\0") for at in (0, PAGE)]
        slots, reasons = [], []
        for page in pages:
            try:
                slots.append(open_slot(self.root, page, suite))
            except Damaged as error:
                if not is_zero(page):
                    reasons.append(str(error))
        slots.sort(key=lambda slot: slot.commit, reverse=True)
        if len(slots) == 2:
            return self._choose_of_two(slots, excused)
        if len(slots) == 1:
            if reasons or not slots[0].flags & SOLE_SLOT:
                self._excuse(excused, reasons[0] if reasons else "slot: one is missing")
            elif excused and self._is_half_written(slots[0]):
                self._excuse(True, "slot: its tree is half written")
                return None, None
            return slots[0], None
        why = reasons[0] if reasons else "slot: none is there"
        require(is_zero(pages[1]), why)
        self._excuse(excused, why)
        return None, None

    def _choose_of_two(self, slots, excused):
        new, old = slots
        require(new.commit != old.commit, "slot: both have the same commit number")
        same = new.file_id == old.file_id and new.policy == old.policy
        require(same and new.block_log == old.block_log, "slot: they are of different files")
        if excused or any(first <= new.session <= last for first, last in self.unclean):
            self.slot = new
            try:
                self.verify_tree()
            except Damaged as error:
                self._excuse(True, str(error))
                return old, new
        return new, old

    def _is_half_written(self, slot):
        """Whether what does not verify has pages missing, or a sector that was never written."""
        self.slot = slot
        try:
            self.verify_tree()
        except Damaged:
            if self._opening is None:
                return False
            count = self._opening.page_count() * PAGE
            stored = self.source.pread(count, self._opening.page * PAGE)
            sectors = range(0, count, 512)
            return len(stored) < count or any(is_zero(stored[i : i + 512]) for i in sectors)
        return False

    def _excuse(self, excused, why):
        require(excused, why)
        self.healed = why

    @property
    def size(self):
        return self.slot.size if self.slot else 0

    def _key(self, epoch):
        if epoch not in self._keys:
            self._keys[epoch] = container_key(self.root, self.slot.file_id, epoch)
        return self._keys[epoch]

    def open_pages(self, ref, what):
        """The pages that a reference names, opened, without their padding."""
        self._opening = ref
        count = ref.page_count() * PAGE
        stored = self.source.pread(count, ref.page * PAGE)
        require(len(stored) == count, what + ": beyond the end of the file")
        slot, key = self.slot, self._key(ref.epoch)
        plain = open_bytes(slot.policy, slot.suite, key, ref.nonce, ref.tag, stored, what)
        return plain[: ref.length]

    def block(self, ref):
        """A block's content, zero-extended. None: a packed block that has no pages."""
        data, codec = b"", None
        if ref is not None:
            data, codec = self.open_pages(ref, "block"), ref.codec
        if self.slot.layout == PACKED:
            _, codec, tail = self.slot.packed()
            data += tail
        if codec == ZSTD:
            data = zstd_decompress(data, self.slot.block_size)
        return data + bytes(self.slot.block_size - len(data))

    def node(self, ref):
        return parse_node(self.open_pages(ref, "node"))

    def _walk(self, data, index, level, see_node):
        """Yields (block index, reference) below one encoded reference."""
        span = FANOUT**level
        if index * span * self.slot.block_size >= self.slot.size:
            return
        ref = parse_reference(data, self.slot, level > 0)
        if ref is None:
            return
        if level == 0:
            yield index, ref
            return
        if see_node:
            see_node(ref)
        for i, child in enumerate(self.node(ref)):
            yield from self._walk(child, index * FANOUT + i, level - 1, see_node)

    def references(self, see_node=None):
        """Yields (block index, reference) of all blocks that are not holes, in order."""
        if self.slot is None or self.slot.layout == INLINE:
            return
        if self.slot.layout == PACKED:
            yield 0, self.slot.packed()[0]
            return
        for r in range(ROOTS):
            data = self.slot.content[40 * r : 40 * r + 40]
            yield from self._walk(data, r, self.slot.depth, see_node)

    def extents(self):
        """Yields (offset, bytes) of the content that is not holes, in order."""
        if self.slot is not None and self.slot.layout == INLINE:
            yield 0, self.slot.content
        for index, ref in self.references():
            at = index * self.slot.block_size
            yield at, self.block(ref)[: self.slot.size - at]

    def read_all(self):
        require(self.size <= 1 << 30, "container: too large for memory")
        out = bytearray(self.size)
        for at, data in self.extents():
            out[at : at + len(data)] = data
        return bytes(out)

    def verify_tree(self):
        for _, ref in self.references():
            self.block(ref)

    def free_lists(self):
        """Yields (reference, extents, held commit) of the chain of free-list pages."""
        data, seen = self.slot.free_list, set()
        while (ref := parse_reference(data, self.slot, True)) is not None:
            require(ref.page not in seen, "free list: goes in circles")
            seen.add(ref.page)
            page = self.open_pages(ref, "free list")
            data, extents, held = parse_free_list(page, self.slot.page_count)
            yield ref, extents, held

    def verify(self):
        """Everything a writer relies on: the whole tree, free pages, and no overlap."""
        if self.slot is None:
            return
        used = []
        for _, ref in self.references(lambda node: used.append((node.page, 1))):
            if ref is not None:
                used.append((ref.page, ref.page_count()))
            self.block(ref)
        for ref, extents, _ in self.free_lists():
            used.append((ref.page, 1))
            used += extents
        check_overlaps(used + self.slot.free + self.slot.held)


def check_overlaps(extents):
    end = 2
    for first, count in sorted(extents):
        require(first >= end, "extent: overlaps another or a page in use")
        end = first + count


def parse_node(page):
    """The 102 encoded references of a node."""
    require(is_zero(page[40 * FANOUT :]), "node: bytes after the references")
    return [page[40 * i : 40 * i + 40] for i in range(FANOUT)]


def encode_free_list(following, extents, held_commit):
    page = following + struct.pack("<HHIQ", len(extents), 0, 0, held_commit)
    page += encode_extents(extents)
    return page + bytes(PAGE - len(page))


def parse_free_list(page, page_count):
    """Returns (encoded reference of the next page, extents, held commit)."""
    count = u16(page, 40)
    require(1 <= count <= 400, "free list: number of extents")
    require(is_zero(page[42:48]), "free list: zero field")
    end = 56 + 10 * count
    require(is_zero(page[end:]), "free list: bytes after the extents")
    return page[:40], parse_extents(page[56:end], page_count), u64(page, 48)
