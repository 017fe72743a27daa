"""Whom the benchmark compares: each mounts a view of a folder of its own."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PASSWORD = "benchmark"
SCRIM = os.environ.get("SCRIM", str(REPOSITORY / ".build/release/scrim"))
EXAMPLE = Path("/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c")


class Skip(Exception):
    """Why a contender cannot take part; the text goes into the report."""


def call(command, stdin=None, environment=None, timeout=60):
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False,
        env={**os.environ, **(environment or {})})
    if done.returncode != 0:
        text = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise Skip(f"`{shlex.join(command)}` failed ({done.returncode}): {text[-1][:200]}")
    return done.stdout


class Contender:
    """`folder` is where the work is done, `backing` what it lands in."""

    family = "peer"
    program = None

    def __init__(self, name):
        self.name = name
        self.backing = self.folder = None

    def version(self):
        return ""

    def setup(self, scratch):
        if self.program and not shutil.which(self.program):
            raise Skip(f"{self.program} is not installed")
        self.scratch = scratch
        self.backing = scratch / f"{self.name}.backing"
        self.folder = scratch / f"{self.name}.mount"
        self.backing.mkdir()
        self.folder.mkdir()
        self.mount()
        if not os.path.ismount(self.folder):
            raise Skip("its command succeeded, but nothing is mounted")

    def mount(self):
        raise NotImplementedError

    def teardown(self):
        if self.folder and os.path.ismount(self.folder):
            for command in (["umount", str(self.folder)], ["umount", "-l", str(self.folder)]):
                if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                    break
        for path in (self.folder, self.backing):
            if path and not os.path.ismount(path):
                shutil.rmtree(path, ignore_errors=True)


class Bare(Contender):
    family = "bare"

    def setup(self, scratch):
        self.scratch = scratch
        self.backing = self.folder = scratch / "bare"
        self.folder.mkdir()


class PassthroughLL(Contender):
    """libfuse's own example of a server that passes everything through in userspace."""

    family = "ceiling"

    def mount(self):
        if not EXAMPLE.exists():
            raise Skip(f"{EXAMPLE} is not there (Debian's libfuse3-dev brings it)")
        program = self.scratch / "passthrough_ll"
        flags = call(["pkg-config", "--cflags", "--libs", "fuse3"]).split()
        call(["gcc", "-O2", "-w", str(EXAMPLE), "-o", str(program), *flags])
        call([str(program), "-o", f"source={self.backing},cache=always", str(self.folder)])


class Bindfs(Contender):
    family = "ceiling"
    program = "bindfs"

    def version(self):
        return call(["bindfs", "--version"]).strip().split()[-1]

    def mount(self):
        call(["bindfs", str(self.backing), str(self.folder)])


class Gocryptfs(Contender):
    program = "gocryptfs"

    def version(self):
        return call(["gocryptfs", "-version"]).split(";")[0].split()[-1]

    def mount(self):
        password = self.scratch / "gocryptfs.password"
        password.write_text(PASSWORD + "\n")
        call(["gocryptfs", "-q", "-init", "-scryptn", "10", "-passfile", str(password),
              str(self.backing)])
        call(["gocryptfs", "-q", "-passfile", str(password), str(self.backing), str(self.folder)])


class Securefs(Contender):
    program = "securefs"

    def version(self):
        return call(["securefs", "version"]).split()[1]

    def mount(self):
        call(["securefs", "create", "--pass", PASSWORD, "--pbkdf", "pkcs5-pbkdf2-hmac-sha256",
              "-r", "1", str(self.backing)])
        call(["securefs", "mount", "-b", "--pass", PASSWORD, str(self.backing), str(self.folder)])


class Encfs(Contender):
    program = "encfs"

    def version(self):
        done = subprocess.run(["encfs", "--version"], capture_output=True, text=True, check=False)
        return (done.stdout + done.stderr).split()[2]

    def mount(self):
        call(["encfs", "--standard", "--stdinpass", str(self.backing), str(self.folder)],
             stdin=PASSWORD + "\n")


class Cryfs(Contender):
    program = "cryfs"
    environment = {"CRYFS_FRONTEND": "noninteractive", "CRYFS_NO_UPDATE_CHECK": "true"}

    def version(self):
        return call(["cryfs", "--version"], environment=self.environment).split()[2]

    def mount(self):
        state = {**self.environment, "CRYFS_LOCAL_STATE_DIR": str(self.scratch / "cryfs.state")}
        call(["cryfs", str(self.backing), str(self.folder)], stdin=PASSWORD + "\n",
             environment=state)


class Scrim(Contender):
    family = "scrim"

    def __init__(self, name, content=None, options=()):
        super().__init__(name)
        self.content, self.options = content or name, options

    def version(self):
        return call([SCRIM, "--version"]).strip().split()[-1]

    def mount(self):
        if not os.access(SCRIM, os.X_OK):
            raise Skip(f"{SCRIM} is not built")
        password = self.scratch / "scrim.password"
        password.write_text(PASSWORD + "\n")
        is_plain = self.content == "plain"
        self.backing.rmdir()
        call([SCRIM, "init", str(self.backing), "--passphrase-file", str(password), "--kdf-cost",
              "low", "--content", "sealed" if is_plain else self.content,
              "--names", "plain" if is_plain else "sealed"])
        call([SCRIM, "mount", str(self.backing), str(self.folder), "--passphrase-file",
              str(password), *self.options])

    def setup(self, scratch):
        super().setup(scratch)
        self.point = self.folder
        if self.content == "plain":
            # The root of a vault is never plain; an owner marks a directory.
            self.folder = self.point / "marked"
            self.folder.mkdir()
            call([SCRIM, "mark", str(self.folder), "--content", "plain"])

    def teardown(self):
        self.folder = getattr(self, "point", self.folder)
        if self.folder and os.path.ismount(self.folder):
            subprocess.run([SCRIM, "umount", str(self.folder)], capture_output=True, check=False)
        super().teardown()


def everyone():
    return [Bare("bare"), PassthroughLL("passthrough_ll"), Bindfs("bindfs"),
            Gocryptfs("gocryptfs"), Securefs("securefs"), Encfs("encfs"), Cryfs("cryfs"),
            Scrim("plain"), Scrim("sealed"), Scrim("writeback", "sealed", ("-o", "writeback")),
            Scrim("compressed"), Scrim("sealed-compressed")]


PEERS = ("gocryptfs", "securefs", "encfs", "cryfs")
SCRIMS = ("plain", "sealed", "writeback", "compressed", "sealed-compressed")
