#!/usr/bin/python3
"""Writes the vectors anew, or with --check says which of them differ from what it would write."""

import argparse
import gzip
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "Tests" / "Reader")]

from writer import (  # noqa: E402 (needs the path set above)
    cases_containers,
    cases_files,
    cases_keys,
    cases_names,
    cases_state,
    cases_vaults,
)


def encoded(about, cases):
    """One case a line, so that a difference names its case."""
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    return ('{"about": %s, "cases": [\n%s\n]}\n' % (json.dumps(about), lines)).encode()


def make():
    out = {}
    for module in (cases_keys, cases_names, cases_containers, cases_files, cases_state):
        for path, (about, cases) in module.files().items():
            out[path] = encoded(about, cases)
    out.update(cases_vaults.files())
    return out


def present():
    found = [p for suffix in ("json", "tar.gz") for p in HERE.rglob("*." + suffix)]
    return {str(p.relative_to(HERE)): p for p in found}


def plain(path, data):
    """What is compared: the archive, however this version of zlib compresses it."""
    return gzip.decompress(data) if path.endswith(".gz") else data


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    made, old = make(), present()
    if check:
        wrong = sorted(set(made) ^ set(old))
        both = sorted(set(made) & set(old))
        wrong += [p for p in both if plain(p, old[p].read_bytes()) != plain(p, made[p])]
        for path in wrong:
            print("differs: " + path)
        sys.exit(1 if wrong else 0)
    for path in set(old) - set(made):
        old[path].unlink()
    for path, data in made.items():
        (HERE / path).parent.mkdir(parents=True, exist_ok=True)
        (HERE / path).write_bytes(data)
    print("%d files, %d bytes" % (len(made), sum(map(len, made.values()))))


if __name__ == "__main__":
    main()
