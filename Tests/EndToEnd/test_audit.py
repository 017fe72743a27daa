"""`scrim audit`: what can be read without a key, in text, as JSON and as a page that no name can break out of."""

import json
import os
from html.parser import HTMLParser

import pytest
from harness import NOT_A_VAULT, fails, scrim

HOSTILE = (b'"><img src=x onerror=alert(1)>', b"<script>alert(1)<", b"'&amp;\x1b[31m\xff", "\u202egnp.exe".encode(), b"new\nline")


def audit(place, *options):
    return json.loads(scrim("audit", place, "--json", *options).stdout)


def files(node):
    return {mode: share["files"] for mode, share in node["modes"].items()}


@pytest.fixture
def filled(vault):
    """A vault with some of everything, not mounted."""
    with vault.mount() as mount:
        for name in ("films", "mixed", "sealed"):
            (mount / name).mkdir()
        scrim("mark", mount / "films", "--content", "plain", "--names", "plain")
        scrim("mark", mount / "mixed", "--rule", "*.txt=sealed-compressed", "--rule", "*.mp4=plain")
        for i in range(4):
            (mount / "films" / f"film {i}.mp4").write_bytes(b"f" * 100_000 * (i + 1))
            for name in ("a.txt", "b.mp4", "c"):
                (mount / "mixed" / f"{i}{name}").write_bytes(b"m" * 5000)
            (mount / "sealed" / f"{i}").write_bytes(b"s" * 9000)
        (mount / "sealed" / ("n" * 200)).write_bytes(b"a long name")
        (mount / "films/link").symlink_to("in clear")
        (mount / "sealed/link").symlink_to("sealed")
        for name in HOSTILE:
            with open(os.path.join(os.fsencode(mount / "films"), name), "wb") as f:
                f.write(b"h" * 90_000)
        scrim("mark", mount / "sealed", "--content", "compressed")
    return vault


def test_a_stranger_sees_what_is_plain_and_nothing_else(filled):
    report = audit(filled.path)
    root = report["root"]
    assert report["view"] == "stranger"
    assert files(root) == {"plain": 8 + len(HOSTILE), "sealed": 9, "sealed-compressed": 4}
    assert (root["links"], root["readableTargets"]) == (2, 1)
    # Of the films directory the names, of everything else none.
    assert root["readableNames"] == 4 + len(HOSTILE) + 1
    text = json.dumps(report)
    assert "film 3.mp4" in text and "sealed/" not in text and "0a.txt" not in text
    assert root["readableBytes"] == sum(share["bytes"] for mode, share in root["modes"].items() if mode == "plain")
    with filled.mount() as mount:
        assert audit(mount.point)["root"]["files"] == root["files"]


def test_the_owner_sees_what_is_not_as_its_policy_says(filled):
    root = audit(filled.path, "--passphrase-file", filled.passphrase_file)["root"]
    directories = {d["name"]: d for d in root["directories"]}
    assert directories["films"]["state"] == "plain by policy"
    assert directories["mixed"]["state"] == "mixed by rules" and directories["mixed"]["rules"] == 2
    assert directories["sealed"]["unconverted"] == 5 and files(directories["sealed"]) == {"sealed": 5}
    scrim("convert", f"{filled.path}:sealed", "--content", "rules", "--recursive", "--passphrase-file", filled.passphrase_file)
    root = audit(filled.path, "--passphrase-file", filled.passphrase_file)["root"]
    assert {d["name"]: d["unconverted"] for d in root["directories"]} == {"films": 0, "mixed": 0, "sealed": 0}
    assert files(root)["compressed"] == 5


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = set(), set(), ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data


def test_the_page_is_one_file_that_no_name_breaks_out_of(filled, workspace):
    out = workspace.path / "page.html"
    for options in ((), ("--passphrase-file", filled.passphrase_file)):
        scrim("audit", filled.path, "--html", out, *options)
        text = out.read_text()
        page = Page(text)
        assert page.tags == {
            *("html", "head", "meta", "title", "style", "body", "h1", "p", "span", "svg", "g", "rect", "text"),
            *("table", "thead", "tbody", "tr", "th", "td"),
        }
        assert not [a for a in page.attributes if a.startswith("on") or a in ("src", "href", "style")]
        assert "default-src 'none'" in text and "://" not in text
        assert "film 3.mp4" in page.text and '"><img src=x' in page.text
        assert not set(text) & {"\x1b", "\u202e", "\0"}
        assert text.count('class="tile plain"') >= 5
    assert out.stat().st_mode & 0o077 == 0


def test_the_text_shows_hostile_names_harmlessly(filled):
    output = scrim("audit", filled.path).stdout
    assert b"can be read" in output and b"\x1b" not in output
    fails(NOT_A_VAULT, "audit", filled.path.parent)
