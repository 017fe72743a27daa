"""Vectors of whole containers: which slot counts, trees of every depth, and their faults."""

from scrim_reader import container as fmt
from scrim_reader.primitives import PAGE

from .cases_containers import ROOT
from .containers import Builder, flip, sparse
from .seeded import Seeded, zstd_frame


class _Cases:
    def __init__(self):
        self.cases = []

    def add(self, name, builder, length=None, excused=False, sessions=(), **outcome):
        pages = builder if isinstance(builder, dict) else builder.pages
        self.cases.append({"name": name, "content_root": ROOT.hex(), "suite": 1,
                           "excused": excused, **({"sessions": sessions} if sessions else {}),
                           "file": sparse(pages, length), **outcome})


def _is(size, commit, *data, **more):
    """What is expected of a good one: the data that is not zero, as [offset, hex, repetitions]."""
    pieces = []
    for offset, piece in data:
        same = piece == piece[:1] * len(piece)
        pieces.append([offset, piece[:1].hex(), len(piece)] if same else [offset, piece.hex(), 1])
    return {"expect": {"size": size, "commit": commit, "data": pieces, **more}}


def contents():
    """Good containers of each policy."""
    out = _Cases()
    for policy in (1, 2, 3):
        rng = Seeded("contents %d" % policy)

        def new():
            return Builder(ROOT, 1, policy, rng)

        title = "policy %d: " % policy
        b = new()
        b.commit(b"inline")
        out.add(title + "inline", b, **_is(6, 1, (0, b"inline")))
        b = new()
        b.commit(b"", tree=True)
        out.add(title + "tree of nothing", b, **_is(0, 1))
        b, data = new(), rng.take(5000) if policy == 2 else b"-" * 5000
        b.commit(data, commit=8, flags=fmt.SOLE_SLOT)
        out.add(title + "two pages, alone after commits never synced", b, **_is(5000, 8, (0, data)))
        if policy > 1:
            for name, data in (("in the header", b"=" * 5000), ("with a page", rng.take(5000)),
                               ("with pages", rng.take(20000) + bytes(2**17 - 20000))):
                b = new()
                b.commit(data, pack=True)
                out.add(title + "packed, " + name, b, **_is(len(data), 1, (0, data)))
        if policy == 3:
            continue
        b, size = new(), 40 * b.block_size + 7
        b.commit({0: b"start", 3 * b.block_size + 5: b"middle", size - 1: b"e"}, size=size)
        out.add(title + "holes", b, **_is(
            size, 1, (0, b"start"), (3 * b.block_size + 5, b"middle"), (size - 1, b"e")))
        if policy != 2:
            continue
        b, size = new(), 2**50 + 1
        b.commit({2**40: b"far", 2**50: b"x"}, size=size)
        out.add(title + "a petabyte of holes", b, **_is(size, 1, (2**40, b"far"), (2**50, b"x")))
        b = new()
        b.commit({0: b"deep"}, size=4, depth=3)
        out.add(title + "deeper than it has to be", b, **_is(4, 1, (0, b"deep")))
    b = Builder(ROOT, 1, 1, Seeded("depth 2"))
    b.commit({2**25: b"x"}, size=2**25 + 1)
    out.add("policy 1: depth 1", b, **_is(2**25 + 1, 1, (2**25, b"x")))
    b = Builder(ROOT, 1, 3, Seeded("runs"))
    data = b"z" * 150000
    b.commit(data)
    out.add("policy 3: compressible", b, **_is(150000, 1, (0, data)))
    return out.cases


def _two_commits(label, policy=2, **fields):
    b = Builder(ROOT, 1, policy, Seeded(label))
    b.commit(b"1" * 6000, 0, commit=fields.pop("first", 1))
    b.commit(b"2" * 7000, 1, commit=fields.pop("second", 2), **fields)
    return b


FIRST, SECOND = (0, b"1" * 6000), (0, b"2" * 7000)


def choices():
    """Which slot counts."""
    out = _Cases()
    out.add("both valid, the second is newer", _two_commits("both"), **_is(7000, 2, SECOND))
    b = _two_commits("swap", first=6, second=5)
    out.add("both valid, the first is newer", b, **_is(6000, 6, FIRST))
    for policy in (1, 2):
        b = _two_commits("torn %d" % policy, policy)
        b.pages[1] = flip(b.pages[1], 8 * 100)
        if policy == 2:
            out.add("newer slot torn", b, reject="a slot is present but invalid")
        out.add("policy %d: newer slot torn, excused" % policy, b, excused=True,
                **_is(6000, 1, FIRST, healed=True))
    b = _two_commits("older torn")
    b.pages[0] = flip(b.pages[0], 8 * 100)
    out.add("older slot torn", b, reject="a slot is present but invalid")
    out.add("older slot torn, excused", b, excused=True, **_is(7000, 2, SECOND, healed=True))
    b = _two_commits("zeroed")
    del b.pages[0]
    out.add("first slot zeroed", b, reject="a slot is missing that was written")
    out.add("first slot zeroed, excused", b, excused=True, **_is(7000, 2, SECOND, healed=True))
    b = _two_commits("both torn")
    b.pages[0], b.pages[1] = flip(b.pages[0], 800), flip(b.pages[1], 800)
    out.add("both torn", b, reject="no slot is valid")
    out.add("both torn, excused all the same", b, excused=True, reject="no slot is valid")
    for name, pages, length in (("empty file", {0: b""}, 0), ("all zero", {0: b""}, 3 * PAGE),
                                ("less than a page, zero", {0: b""}, 100)):
        out.add(name, pages, length, reject="no slot is there")
        out.add(name + ", excused: never committed", pages, length, True,
                expect={"size": 0, "commit": 0, "data": [], "healed": True})
    b = _two_commits("not committed")
    del b.pages[0], b.pages[1]
    out.add("no slot but data", b, reject="no slot is there")
    out.add("no slot but data, excused: never committed", b, excused=True, **_is(0, 0, healed=True))
    b = Builder(ROOT, 1, 2, Seeded("first commit"))
    b.commit(b"1" * 6000)
    whole = dict(b.pages)
    b.pages[0] = flip(b.pages[0], 8 * 100)
    out.add("first commit, header torn", b, reject="a slot is present but invalid")
    out.add("first commit, header torn, excused: never committed", b, excused=True,
            **_is(0, 0, healed=True))
    b.pages = {**whole, 2: whole[2][:12] + bytes(PAGE - 12)}
    b.pages[2] = flip(b.pages[2], 8)
    out.add("first commit, tree torn", b, reject="block")
    out.add("first commit, tree torn, excused: never committed", b, excused=True,
            **_is(0, 0, healed=True))
    out.add("duplicate commit numbers", _two_commits("duplicate", second=1), reject="duplicate")
    _foreign(out)
    _torn_tree(out)
    b = Builder(ROOT, 1, 2, Seeded("short"))
    b.commit(b"inline")
    out.add("shorter than a page: zeros follow", {0: b.pages[0]}, 4000, **_is(6, 1, (0, b"inline")))
    out.add("shorter than its content", {0: b.pages[0]}, 163, reject="no slot is valid")
    return out.cases


def _foreign(out):
    """Two valid slots that do not belong together."""
    for name, policy in (("file ID", 2), ("policy", 3)):
        b, other = _two_commits("foreign " + name), Builder(ROOT, 1, policy, Seeded("other"))
        if name == "policy":
            other.file_id = b.file_id
        other.commit(b"other", commit=3)
        b.pages[1] = other.pages[0]
        out.add("slots of another " + name, b, reject="slots do not agree")
        out.add("slots of another %s, excused all the same" % name, b, excused=True,
                reject="slots do not agree")


def _torn_tree(out):
    b = Builder(ROOT, 1, 2, Seeded("torn tree"))
    b.commit(b"1" * 6000, 0)
    before = set(b.pages)
    b.commit(b"2" * 7000, 1, commit=2)
    torn = min(set(b.pages) - before - {1})
    b.pages[torn] = bytes(PAGE)
    out.add("newer tree torn", b, reject="block")
    out.add("newer tree torn, excused: the older counts", b, excused=True,
            **_is(6000, 1, FIRST, healed=True))
    out.add("newer tree torn, its session ended uncleanly: the older counts", b,
            sessions=[[1, 5], [b.session, b.session]], **_is(6000, 1, FIRST, healed=True))
    out.add("newer tree torn, another session ended uncleanly", b,
            sessions=[[b.session + 1, b.session + 9]], reject="block")


def faults():
    """Trees that lie, and what only writers and checks look at."""
    out = _Cases()

    def builder(label, policy=2):
        return Builder(ROOT, 1, policy, Seeded("faults " + label))

    def rooted(b, *refs, size=None, depth=0, **fields):
        content = b"".join(r.encode() if r else fmt.HOLE for r in refs).ljust(3200, b"\0")
        size = len(refs) * b.block_size if size is None else size
        b.put_slot(0, b.slot(size, content, depth=depth, **fields))
        return b

    b = builder("flip")
    b.commit(b"x" * 5000 + b"y" * 5000)
    b.pages[2] = flip(b.pages[2], 9)
    out.add("a block's byte flipped", b, reject="block")
    b = builder("swap", 1)
    one, two = b.store(b"1" * PAGE), b.store(b"2" * PAGE)
    rooted(b, one, two)
    b.pages[2], b.pages[3] = b.pages[3], b.pages[2]
    out.add("two blocks swapped", b, reject="block")
    b = builder("short")
    b.commit(b"ab" * 3000)
    out.add("file cut short", {0: b.pages[0], 2: b.pages[2]}, 3 * PAGE, reject="beyond the end")
    b = builder("beyond")
    rooted(b, b.store(b"data"), size=4, page_count=2)
    out.add("reference beyond the page count", b, reject="page count")
    b = builder("as block")
    ref = b.store(b"just data".ljust(PAGE, b"n"))
    rooted(b, ref, size=4, depth=1)
    out.add("a block where a node belongs", b, reject="node")
    b = builder("epoch")
    rooted(b, b.store(b"data")._replace(epoch=2), size=4)
    out.add("reference of a later epoch", b, reject="epoch")
    b = builder("beyond size")
    rooted(b, b.store(b"data"), b.store(b"more"), size=4)
    out.add("block beyond the size", b, **_is(4, 1, (0, b"data")))
    _packed(out, builder)
    _lists(out, builder, rooted)
    return out.cases


def _packed(out, builder):
    b = builder("packed")
    b.commit(b.rng.take(9000), pack=True)
    b.pages[3] = flip(b.pages[3], 9)
    out.add("packed: a page's byte flipped", b, reject="block")
    del b.pages[3]
    out.add("packed: pages missing", b, reject="beyond the end")
    frame = zstd_frame(b"=" * 5000)
    for name, stored, size in (
        ("not a frame", b"just bytes", 10),
        ("frame cut short", frame[:-1], 5000),
        ("bytes after the frame", frame + b"\0", 5000),
        ("more than a block", zstd_frame(bytes(2**17 + 1)), 2**17),
    ):
        b = builder("packed: " + name)
        content = fmt.HOLE + len(stored).to_bytes(2, "little") + bytes([fmt.ZSTD, 0]) + stored
        b.put_slot(0, b.slot(size, content, layout=fmt.PACKED))
        out.add("packed: " + name, b, reject=name)


def _lists(out, builder, rooted):
    data = (0, b"data")

    def case(name, writer, **fields):
        b = builder(name)
        refs = fields.pop("refs", None)
        ref = b.store(b"data", page=4)
        b.next_page = 9
        rooted(b, *(refs(ref) if refs else [ref]), size=4, **fields)
        out.add(name, b, 9 * PAGE, **_is(4, 1, data), writer=writer)

    case("free extents overlap each other", "overlap", free=[(5, 3), (7, 1)])
    case("free and held extents overlap", "overlap", free=[(5, 2)], held=[(6, 1)], held_commit=1)
    case("a free extent is in use", "overlap", free=[(3, 2)])
    b = builder("two blocks in one page")
    ref = b.store(b"data")
    b.next_page = 9
    rooted(b, ref, ref, size=2**17 + 4)
    out.add("two blocks in one page", b, **_is(2**17 + 4, 1, data, (2**17, b"data")), writer="overlap")
    for name, extents, writer in (
        ("free list", [(6, 2)], None),
        ("free list overlaps the header's extents", [(8, 1)], "overlap"),
        ("free list calls its own page free", [(5, 1)], "overlap"),
    ):
        b = builder(name)
        ref = b.store(b"data", page=4)
        listed = b.store(fmt.encode_free_list(fmt.HOLE, extents, 0), page=5)
        b.next_page = 9
        rooted(b, ref, size=4, free=[(8, 1)], free_list=listed.encode())
        out.add(name, b, 9 * PAGE, **_is(4, 1, data), writer=writer)
        if writer is None:
            b.pages[5] = flip(b.pages[5], 333)
            out.add("free list flipped", b, **_is(4, 1, data), writer="free list")


def files():
    return {
        "container/content.json": ("Whole containers", contents()),
        "container/slots.json": ("Which of a container's slots counts", choices()),
        "container/faults.json": ("Containers with one fault behind a good header", faults()),
    }
