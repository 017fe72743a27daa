"""Every command of the front page, the guides and the reference is run, and what is shown below it has to be what it prints."""

import re
from pathlib import Path

import console
import harness
import pytest

DOCS = harness.REPOSITORY / "docs"
PAGES = [harness.REPOSITORY / "README.md", *sorted((DOCS / "guides").glob("*.md")), DOCS / "cli.md"]
ALL = [harness.REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")] + sorted(DOCS.rglob("*.md"))
# Commands that are shown and not run, over all pages; each has its reason.
MOST_NOT_RUN = 6


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_work(page, workspace):
    follow(console.Home(workspace.path), page, workspace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_work_for_an_ordinary_user(page, workspace, unprivileged):
    follow(console.Home(workspace.path, unprivileged), page, workspace)


def follow(home, page, workspace):
    try:
        console.follow(page, home)
    finally:
        leave(workspace.path)


def leave(folder):
    """Unmounts whatever a page left mounted: it ends there, and so does its reader's session."""
    points = []
    with open("/proc/self/mountinfo") as table:
        points = [line.split(" ")[4] for line in table if line.split(" ")[4].startswith(f"{folder}/")]
    for point in reversed(points):
        harness.run(harness.SCRIM, "lock", point.replace("\\040", " "), check=False)


@pytest.mark.offline
def test_few_commands_are_not_run_and_each_says_why():
    shown = []
    for page in PAGES + [DOCS / "faq.md", DOCS / "installing.md"]:
        for block in console.blocks(page):
            if block.language == "console":
                assert block.reason is None, f"{page.name}:{block.line}"
                continue
            commands = [line for line in block.lines if console.COMMAND.match(line)]
            assert not commands or block.reason, f"{page.name}:{block.line}: shown, not run, and no reason: {commands}"
            if block.reason:
                shown.append(f"{page.name}:{block.line}: {block.reason}")
    assert len(shown) <= MOST_NOT_RUN, "\n".join(shown)


@pytest.mark.offline
def test_links_between_pages_lead_somewhere():
    broken = []
    for page in ALL:
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if not file.exists():
                broken.append(f"{page.relative_to(harness.REPOSITORY)}: {target}")
            elif anchor and file.suffix == ".md" and anchor not in anchors(file):
                broken.append(f"{page.relative_to(harness.REPOSITORY)}: {target} (no such heading)")
    assert broken == []


def anchors(page):
    """As GitHub makes them of headings."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.offline
def test_every_page_is_in_the_index():
    index = (DOCS / "README.md").read_text()
    missing = [str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md") if str(page.relative_to(DOCS)) not in index]
    assert set(missing) <= {"README.md"}
