"""python3 -m scrim_reader VAULT --passphrase-file FILE ls|cat|extract|check …"""

import argparse
import os
import stat
import sys

from .primitives import Damaged, NotAVault, WrongSecret
from .tree import copy_out, describe
from .vault import Vault


def show(path):
    """A name on one line, bytes that are not printable UTF-8 escaped."""
    text = path.replace(b"\\", b"\\\\").decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def list_tree(vault, _):
    for path, item in describe(vault).items():
        line = "%s %12d %s" % (stat.filemode(item["mode"]), item.get("size", 0), show(path))
        print(line + (" -> " + show(item["target"]) if "target" in item else ""))


def print_file(vault, arguments):
    node = vault.find(os.fsencode(arguments.path))
    at, out = 0, sys.stdout.buffer
    for offset, data in vault.extents(node):
        while at < offset:
            at += out.write(bytes(min(offset - at, 1 << 20)))
        at += out.write(data)
    size = vault.size(node)
    while at < size:
        at += out.write(bytes(min(size - at, 1 << 20)))


def main():
    parser = argparse.ArgumentParser(prog="scrim_reader", description=__doc__)
    parser.add_argument("vault")
    parser.add_argument("--passphrase-file", required=True)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("ls")
    commands.add_parser("check")
    commands.add_parser("cat").add_argument("path")
    commands.add_parser("extract").add_argument("destination")
    arguments = parser.parse_args()
    with open(arguments.passphrase_file, "rb") as file:
        secret = file.read()
    try:
        vault = Vault(arguments.vault, secret.removesuffix(b"\n"))
        if arguments.command == "ls":
            list_tree(vault, arguments)
        elif arguments.command == "cat":
            print_file(vault, arguments)
        elif arguments.command == "extract":
            copy_out(vault, os.fsencode(arguments.destination))
        else:
            vault.verify()
    except KeyError as error:
        sys.exit("scrim_reader: no such entry: %s" % show(error.args[0]))
    except (Damaged, NotAVault, WrongSecret, OSError) as error:
        sys.exit("scrim_reader: %s" % error)
    for path, reason in vault.problems:
        print("%s: %s" % (show(path), reason), file=sys.stderr)
    sys.exit(1 if vault.problems else 0)


if __name__ == "__main__":
    main()
