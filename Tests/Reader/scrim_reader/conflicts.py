"""Names that synchronising tools derive for conflicting copies (format.md section 11)."""

import re

_ADDITION = re.compile(
    rb"\.sync-conflict-[^./]*| \([^()/]*conflicted copy[^()/]*\)",
)


def split_addition(name):
    """Returns (name without the tool's addition, the addition), or None."""
    found = _ADDITION.search(name)
    if not found or found.start() == found.end():
        return None
    return name[: found.start()] + name[found.end() :], found.group()


def with_addition(name, addition):
    """The plain name to show: the addition before the last extension."""
    at = name.rfind(b".")
    return name[:at] + addition + name[at:] if at > 0 else name + addition


def is_alternate_record(backing):
    """Conflicting copies of `.scrim-dir`, whichever end the tool takes its dot for."""
    if backing.startswith(b".scrim-dir"):
        return backing not in (b".scrim-dir", b".scrim-dir.new")
    split = split_addition(backing)
    return split is not None and split[0] == b".scrim-dir"
