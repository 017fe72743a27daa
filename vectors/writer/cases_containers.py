"""Vectors of header slots, references, nodes, blocks and free-list pages."""

from scrim_reader import container as fmt
from scrim_reader.primitives import PAGE

from .containers import Builder, flip
from .seeded import TEXT, TEXT_FRAME, Seeded, zstd_frame

ROOT = Seeded("content root").take(32)


def trimmed(page):
    """Pages are shown without the zero bytes at their end."""
    return page.rstrip(b"\0").hex()


def shown_slot(slot):
    shown = slot._asdict()
    for name in ("file_id", "free_list", "content"):
        shown[name] = shown[name].hex()
    shown["bindings"] = [b.hex() for b in slot.bindings]
    shown["free"], shown["held"] = [list(e) for e in slot.free], [list(e) for e in slot.held]
    if slot.layout == fmt.TREE:
        shown["content"] = shown["content"].rstrip("0")
    return shown


def slots():
    cases = []
    for policy in (1, 2, 3):
        for suite in (1, 2):
            rng = Seeded("slots %d %d" % (policy, suite))
            for name, slot in _good_slots(policy, suite, rng):
                page = fmt.seal_slot(ROOT, slot, rng.take(12))
                cases.append({"name": "policy %d, suite %d: %s" % (policy, suite, name),
                              "content_root": ROOT.hex(), "suite": suite,
                              "page": trimmed(page), "expect": shown_slot(slot)})
    for name, suite, page in _bad_slots():
        cases.append({"name": name, "content_root": ROOT.hex(), "suite": suite,
                      "page": trimmed(page), "reject": name})
    return cases


def _good_slots(policy, suite, rng):
    b = Builder(ROOT, suite, policy, rng)
    yield "inline", b.slot(11, b"hello world", layout=0, bindings=[rng.take(16)])
    if suite == 2 or policy == 3:
        return
    if policy == 1:
        yield "inline, all the room there is", b.slot(3936, b"=" * 3936, layout=0, page_count=1)
    else:
        yield "packed, all of it in the header", b.slot(
            5000, b.packed(b"=" * 5000), layout=fmt.PACKED, bindings=[rng.take(16)])
        text = rng.take(5000)
        yield "packed, raw, a page and a tail, free pages", b.slot(
            5000, b.packed(text), layout=fmt.PACKED, page_count=9, free=[(4, 5)], commit=3)
        yield "packed, zstd, sixteen pages and a tail", b.slot(
            2**17, b.packed(rng.take(2**16) + bytes(2**16)), layout=fmt.PACKED)
        yield "packed, all the room there is", b.slot(
            2**17, fmt.HOLE + (3892).to_bytes(2, "little") + b"\0\0" + b"=" * 3892,
            layout=fmt.PACKED, page_count=1)
    yield "inline, empty", b.slot(0, b"", layout=0)
    ref = fmt.Reference(2, PAGE, 0, 3, rng.take(12), rng.take(16))
    b.epoch, b.next_page = 3, 100
    roots = (ref.encode() + fmt.HOLE + ref._replace(page=99, epoch=1).encode()).ljust(3200, b"\0")
    extents = [(10 + 2 * i, 1) for i in range(40)]
    yield "tree, 16 bindings, 40 extents", b.slot(
        3 * b.block_size, roots, commit=77, bindings=[rng.take(16) for _ in range(16)],
        flags=fmt.MORE_LINKS, free=extents[:25], held=extents[25:], held_commit=76,
        free_list=ref._replace(page=98).encode(), seals=2**28)
    yield "tree, depth 7, the largest size", b.slot(2**57, roots, depth=7, commit=2**64 - 1)


def _slot_page(made_as, rng, at=None, new=b"", **fields):
    """A slot with one field of its body patched, or any field replaced."""
    b = Builder(ROOT, 1, made_as, rng)
    fields = {"bindings": [rng.take(16)], **fields}
    slot = b.slot(fields.pop("size", 5), fields.pop("content", b"hello"),
                  layout=fields.pop("layout", 0), **fields)
    body = slot.body()
    if at is not None:
        body = body[:at] + new + body[at + len(new) :]
    return fmt.seal_slot(ROOT, slot, rng.take(12), body[: fmt.BODY])


def _bad_slots():
    rng = Seeded("bad slots")
    sealed = _slot_page(1, rng)
    clear = _slot_page(2, rng)
    for name, bit in (("magic", 0), ("file ID", 8 * 17), ("commit number", 8 * 33),
                      ("session", 8 * 41), ("nonce", 8 * 50), ("tag", 8 * 70),
                      ("body", 8 * 90), ("last bit", 8 * PAGE - 1)):
        if name in ("magic", "nonce", "tag", "last bit"):
            yield "sealed: %s flipped" % name, 1, flip(sealed, bit)
        if name not in ("magic", "nonce"):
            yield "compressed: %s flipped" % name, 1, flip(clear, bit)
    yield "the vault has another suite", 2, clear
    yield "all zero", 1, bytes(PAGE)
    yield from _bad_heads(rng)
    yield from _bad_bodies(rng)


def _bad_heads(rng):
    yield "policy 0", 1, _slot_page(2, rng, policy=0)
    yield "policy 4", 1, _slot_page(2, rng, policy=4)
    yield "policy 3 made 2", 1, _relabelled(_slot_page(3, rng))
    yield "sealed with blocks of 128 KiB", 1, _slot_page(1, rng, block_log=17)
    yield "compressed with blocks of 4 KiB", 1, _slot_page(2, rng, block_log=12)
    yield "epoch 0", 1, _slot_page(2, rng, epoch=0)
    yield "commit 0", 1, _slot_page(2, rng, commit=0)
    for at in (11, 14):
        yield "zero field at %d" % at, 1, _reheaded(rng, at)
    clear = _slot_page(2, rng)
    yield "zero field at 76", 1, clear[:76] + b"\1" + clear[77:]


def _relabelled(page):
    return page[:8] + b"\2" + page[9:]


def _reheaded(rng, at):
    """A policy 2 slot whose tag is right over a head with a byte set that has to be zero."""
    page = _slot_page(2, rng)
    head = page[:at] + b"\1" + page[at + 1 : 48]
    key = fmt.container_key(ROOT, page[16:32], 1)
    _, tag = fmt.seal_bytes(2, 1, key, page[48:60], page[80:], head)
    return head + page[48:60] + tag + page[76:]


def _bad_bodies(rng):
    def bad(name, at=None, new=b"", policy=2, **fields):
        return name, 1, _slot_page(policy, rng, at, new, **fields)

    tree = {"layout": 1, "content": bytes(3200), "size": 0}
    ref = fmt.Reference(2, PAGE, 0, 1, rng.take(12), rng.take(16))
    yield bad("size over 2^57", size=2**57 + 1, layout=1, content=bytes(3200), depth=7)
    yield bad("page count 0", page_count=0)
    yield bad("page count 2^48", page_count=2**48)
    yield bad("layout 3", 16, b"\3")
    yield from _bad_packed(rng, bad)
    yield bad("depth 8", **tree, depth=8)
    yield bad("inline with a depth", depth=1)
    yield bad("depth too small", **{**tree, "size": 80 * 2**17 + 1})
    yield bad("depth too small, sealed", policy=1, **{**tree, "size": 80 * 102 * 4096 + 1, "depth": 1})
    yield bad("17 bindings", bindings=[rng.take(16)] * 17)
    yield bad("unknown flag", flags=4)
    yield bad("41 extents", page_count=200, free=[(2 + i, 1) for i in range(21)],
              held=[(50 + i, 1) for i in range(20)])
    yield bad("extent: of a slot's page", page_count=9, free=[(1, 2)])
    yield bad("extent: empty", page_count=9, free=[(3, 0)])
    yield bad("extent: beyond the page count", page_count=9, held=[(8, 2)])
    yield bad("extent: overflows 48 bits", page_count=9, free=[(2**48 - 1, 2**32 - 1)])
    yield bad("inline longer than the room", size=3921)
    yield bad("inline of 2^57 bytes", size=2**57)
    yield bad("bytes after inline content", 80 + 16 + 5, b"\1")
    yield bad("bytes after the references", fmt.BODY - 1, b"\1", **tree)
    yield bad("free-list reference beyond the page count", free_list=ref.encode())
    yield bad("free-list reference is not a page", page_count=9,
              free_list=ref._replace(length=100).encode())


def _bad_packed(rng, bad):
    ref = fmt.Reference(2, PAGE, 0, 1, rng.take(12), rng.take(16))

    def packed(name, ref=ref, codec=0, tail=b"tail", zero=0, count=None, **fields):
        pages = ref if isinstance(ref, bytes) else ref.encode()
        head = (len(tail) if count is None else count).to_bytes(2, "little") + bytes([codec, zero])
        fields = {"layout": fmt.PACKED, "page_count": 99, "size": 5000, **fields}
        return bad("packed: " + name, content=pages + head + tail, **fields)

    yield packed("under policy 1", ref=fmt.HOLE, policy=1, size=4)
    yield packed("a depth", depth=1)
    yield packed("size 0", size=0)
    yield packed("more than a block", size=2**17 + 1)
    yield packed("no tail", tail=b"")
    yield packed("tail longer than the room", count=3877)
    yield packed("no room", bindings=[rng.take(16)] * 16, ref=fmt.HOLE, count=3637)
    yield packed("bytes after the tail", count=3)
    yield packed("codec 2", codec=2)
    yield packed("zero field", zero=1)
    yield packed("half a page in pages", ref=ref._replace(length=PAGE // 2))
    yield packed("codec in the reference", ref=ref._replace(codec=1))
    yield packed("page of a slot", ref=ref._replace(page=1))
    yield packed("beyond the page count", ref=ref._replace(page=99))
    yield packed("key epoch above the header's", ref=ref._replace(epoch=2))
    yield packed("longer than a block", ref=ref._replace(length=2**17))


class _Piece:
    """One reference and the pages it names, of a container of ten pages."""

    def __init__(self, policy, label, suite=1):
        self.b = Builder(ROOT, suite, policy, Seeded("%s %d" % (label, policy)), epoch=2)
        self.b.next_page = 4

    def case(self, name, ref, stored=None, **outcome):
        b = self.b
        if stored is None:
            count = ref.page_count()
            stored = b"".join(b.pages[ref.page + i] for i in range(count))
        reference = ref if isinstance(ref, bytes) else ref.encode()
        return {"name": "policy %d: %s" % (b.policy, name), "content_root": ROOT.hex(),
                "suite": b.suite, "policy": b.policy, "file_id": b.file_id.hex(),
                "epoch": 2, "page_count": 10, "reference": reference.hex(),
                "stored": trimmed(stored), **outcome}


def nodes():
    cases = []
    for policy in (1, 2, 3):
        p = _Piece(policy, "node")
        child = fmt.Reference(3, PAGE, 0, 1, p.b.rng.take(12), p.b.rng.take(16))
        last = 2 if policy == 2 else 101
        page = child.encode() + fmt.HOLE * (last - 1) + child._replace(page=9).encode()
        expect = {"0": page[:40].hex(), str(last): page[-40:].hex()}
        page = page.ljust(PAGE - 16, b"\0")
        ref = p.b.store(page + bytes(16))
        cases.append(p.case("two references", ref, expect=expect))
        cases.append(p.case("flipped tag", ref._replace(tag=flip(ref.tag, 5)), reject="tag"))
        if policy == 2:
            cases += _bad_nodes(p, page, ref)
    return cases


def _bad_nodes(p, page, ref):
    stored = p.b.pages[ref.page]
    after = p.b.store(page + b"\1".ljust(16, b"\0"), page=4)
    out = [
        p.case("bytes after the references", after, reject="zero bytes"),
        p.case("another page in its place", ref, bytes(PAGE), reject="tag"),
        p.case("a flipped reference", ref, flip(stored, 100), reject="tag"),
        p.case("page missing", ref, b"", reject="tag"),
    ]
    for name, fields in (
        ("stored length below a page", {"length": 4095}),
        ("stored length over a page", {"length": 8192}),
        ("codec zstd", {"codec": 1}),
    ):
        out.append(p.case(name, ref._replace(**fields), stored, reject=name))
    return out


def blocks():
    cases = []
    for policy, suite in ((1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)):
        p = _Piece(policy, "block", suite)
        data = p.b.rng.take(PAGE if policy == 1 else 5000 if policy == 2 else 100)
        ref = p.b.store(data)
        cases.append(p.case("raw, suite %d" % suite, ref, expect=data.hex()))
        if suite == 2:
            continue
        cases.append(p.case("flipped tag", ref._replace(tag=flip(ref.tag, 0)), reject="tag"))
        if policy == 1:
            other = ref._replace(nonce=flip(ref.nonce, 0))
            cases.append(p.case("flipped nonce", other, reject="tag"))
        if policy == 1:
            cases.append(p.case("key of another epoch", ref._replace(epoch=1), reject="tag"))
            short = p.b.store(data[:4000], page=4)
            cases.append(p.case("stored length below a page", short, reject="stored length"))
            frame = p.b.store(zstd_frame(b"x" * 4096), fmt.ZSTD, page=4)
            cases.append(p.case("zstd", frame._replace(length=4096), reject="codec"))
        elif policy == 2:
            cases += _compressed_blocks(p)
        else:
            text = p.b.store(TEXT_FRAME, fmt.ZSTD, page=4)
            cases.append(p.case("zstd, Huffman literals", text, expect=TEXT.hex()))
    return cases + _bad_references()


def _compressed_blocks(p):
    def block(name, stored, codec=fmt.ZSTD, length=None, **outcome):
        ref = p.b.store(stored, codec, page=4, length=length)
        return p.case(name, ref, **outcome)

    full = b"a" * 100000 + b"b" * 31072
    big = zstd_frame(full + b"c")
    frame = zstd_frame(b"short")
    out = [
        block("zstd, runs, a whole block", zstd_frame(full), runs=[["61", 100000], ["62", 31072]]),
        block("zstd, Huffman literals", TEXT_FRAME, expect=TEXT.hex()),
        block("zstd, short: zero-extended", frame, expect=b"short".hex()),
        block("zstd, empty content", zstd_frame(b""), expect=""),
        block("over-long zstd output", big, reject="more than a block"),
        block("two zstd frames", frame + frame, reject="not one frame"),
        block("bytes after the frame", frame + b"\0", reject="not one frame"),
        block("frame cut short", frame[:-1], reject="not one frame"),
        block("stored length beyond the frame", frame, length=len(frame) + 7, reject="not one frame"),
        block("not a zstd frame", b"plain bytes", reject="not one frame"),
        block("a skippable frame", b"\x50\x2a\x4d\x18\4\0\0\0abcd", reject="not a zstd frame"),
        block("a frame that does not state its size",
              frame[:4] + b"\0\x38" + frame[9:], reject="content size"),
        block("a frame that needs a dictionary", _with_dictionary(frame), reject="dictionary"),
    ]
    return out


def _with_dictionary(frame):
    """The same frame with dictionary ID 7 in its header."""
    return frame[:4] + b"\xa1\7" + frame[5:]


def _bad_references():
    p = _Piece(2, "reference")
    ref = p.b.store(b"content")
    stored = p.b.pages[ref.page]
    cases = [p.case("a hole", fmt.HOLE, b"", expect="")]
    for name, fields in (
        ("page 1", {"page": 1}),
        ("page 0", {"page": 0}),
        ("beyond the page count", {"page": 10}),
        ("last page beyond the page count", {"page": 9, "length": 4097}),
        ("largest page", {"page": 2**48 - 1}),
        ("stored length 0", {"length": 0}),
        ("stored length over a block", {"length": 131073, "page": 4}),
        ("codec 2", {"codec": 2}),
        ("epoch 0", {"epoch": 0}),
        ("epoch above the header's", {"epoch": 3}),
    ):
        cases.append(p.case("reference: " + name, ref._replace(**fields), stored, reject=name))
    return cases


def free_lists():
    cases = []
    for policy in (1, 2, 3):
        p = _Piece(policy, "free list")
        following = fmt.Reference(9, PAGE, 0, 2, p.b.rng.take(12), p.b.rng.take(16)).encode()
        extents = [(6, 2), (5, 1)]
        page = fmt.encode_free_list(following, extents, 41)
        expect = {"next": following.hex(), "extents": [list(e) for e in extents], "held_commit": 41}
        cases.append(p.case("two extents", p.b.store(page), expect=expect))
        if policy != 2:
            continue
        ref = p.b.store(page, page=4)
        cases.append(p.case("flipped tag", ref._replace(tag=flip(ref.tag, 1)), reject="tag"))
        last = fmt.encode_free_list(fmt.HOLE, [(4 + i % 6, 1) for i in range(400)], 0)
        cases.append(p.case("400 extents (that overlap: for writers only)", p.b.store(last, page=4),
                            expect={"next": fmt.HOLE.hex(), "held_commit": 0,
                                    "extents": [[4 + i % 6, 1] for i in range(400)]}))
        for name, bad in (
            ("no extents", page[:40] + b"\0\0" + page[42:56] + bytes(PAGE - 56)),
            ("401 extents", page[:40] + b"\x91\1" + page[42:]),
            ("65535 extents", page[:40] + b"\xff\xff" + page[42:]),
            ("zero field at 42", page[:42] + b"\1" + page[43:]),
            ("zero field at 44", page[:44] + b"\1" + page[45:]),
            ("bytes after the extents", page[:-1] + b"\1"),
            ("extent: of a slot's page", fmt.encode_free_list(following, [(1, 1)], 0)),
            ("extent: empty", fmt.encode_free_list(following, [(4, 0)], 0)),
            ("extent: beyond the page count", fmt.encode_free_list(following, [(9, 2)], 0)),
        ):
            cases.append(p.case(name, p.b.store(bad, page=4), reject=name))
    return cases


def files():
    return {
        "container/slot.json": ("Header slots: page 0 or 1 of a container", slots()),
        "node/node.json": ("A reference and the node it names", nodes()),
        "block/block.json": ("A reference and the block it names", blocks()),
        "freelist/freelist.json": ("A reference and the free-list page it names", free_lists()),
    }
