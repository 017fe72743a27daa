"""What `make install` puts into place, and that taking it away leaves nothing."""

import os
import pty
import re
import select
import shutil
import signal
import subprocess

import harness
import pytest

PAGES = ["man1/scrim.1", "man5/scrim-format.5", "man8/mount.scrim.8"]
COMPLETIONS = {
    "bash": "bash-completion/completions/scrim",
    "zsh": "zsh/site-functions/_scrim",
    "fish": "fish/vendor_completions.d/scrim.fish",
}


def install(*arguments, root, prefix="/usr"):
    environment = {**os.environ, "DESTDIR": str(root), "PREFIX": prefix, "BUILD": str(harness.SCRIM.parent)}
    return harness.run(harness.REPOSITORY / "Package/install", *arguments, env=environment)


def files(root):
    return {os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names}


@pytest.fixture
def installed(workspace):
    root = workspace.path / "root"
    root.mkdir()
    install(root=root)
    return root


@pytest.mark.offline
def test_what_is_installed_works_and_is_taken_away_again(installed):
    assert len(files(installed)) == 13
    shown = harness.run(installed / "usr/bin/scrim", "--version").stdout
    assert shown == harness.scrim("--version").stdout
    for program in ("usr/bin/scrim", "usr/libexec/scrim/scrim-broker"):
        needed = harness.run("ldd", installed / program).stdout
        assert b"swift" not in needed and b"not found" not in needed, needed
    unit = (installed / "usr/lib/systemd/system/scrim-broker@.service").read_text()
    assert "ExecStart=/usr/libexec/scrim/scrim-broker\n" in unit
    install("--uninstall", root=installed)
    assert files(installed) == set()


@pytest.mark.offline
def test_make_installs_and_uninstalls_where_it_is_told(workspace):
    root = workspace.path / "root"
    # What is to be installed has been built: "-o build" keeps make from doing so again.
    command = ["make", "-o", "build", f"DESTDIR={root}", "PREFIX=/opt/scrim"]
    environment = {**os.environ, "BUILD": str(harness.SCRIM.parent)}
    harness.run(*command, "install", cwd=harness.REPOSITORY, env=environment)
    assert len(files(root)) == 13 and (root / "opt/scrim/share/man/man1/scrim.1").exists()
    assert os.readlink(root / "sbin/mount.scrim") == "/opt/scrim/bin/scrim"
    assert "/opt/scrim/bin/scrim mount" in (root / "opt/scrim/lib/systemd/user/scrim@.service").read_text()
    harness.run(*command, "uninstall", cwd=harness.REPOSITORY, env=environment)
    assert files(root) == set()


@pytest.mark.offline
def test_systemd_takes_the_units(installed, workspace):
    units = workspace.path / "units"
    units.mkdir()
    for folder in ("system", "user"):
        for unit in (installed / "usr/lib/systemd" / folder).iterdir():
            text = unit.read_text().replace("=/usr/", f"={installed}/usr/")
            (units / unit.name).write_text(text)
            # A template is verified as one of its instances.
            (units / unit.name.replace("@", "@one")).write_text(text)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(workspace.path)}
    for scope, name in (("--system", "scrim-broker.socket"), ("--system", "scrim-broker@one.service"), ("--user", "scrim@one.service")):
        result = harness.run("systemd-analyze", scope, "--man=no", "verify", units / name, env=environment)
        assert b"units/" not in result.stderr, result.stderr


@pytest.mark.offline
def test_man_pages_have_no_warnings_and_completions_no_errors(installed):
    for page in PAGES:
        file = installed / "usr/share/man" / page
        result = harness.run("man", "--warnings=w", "-E", "UTF-8", "-l", "-Tutf8", "-Z", file)
        assert result.stderr == b"", page
        text = harness.run("man", "-l", file, env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"}).stdout
        assert b"NAME" in text and b"SEE ALSO" in text and len(text) > 2000, page
    for shell, path in COMPLETIONS.items():
        file = installed / "usr/share" / path
        assert b"umount" in file.read_bytes()
        if shutil.which(shell):
            harness.run(shell, "-n", file)


def bash_completes(installed, environment, line, _):
    script = """
        source "$1"
        read -ra COMP_WORDS <<<"$2"
        [[ $2 != *' ' ]] || COMP_WORDS+=('')
        COMP_LINE=$2 COMP_POINT=${#2} COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        [[ $(complete -p scrim) =~ -F\\ ([^ ]+) ]]
        ${BASH_REMATCH[1]} scrim "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" 2>/dev/null
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    file = installed / "usr/share" / COMPLETIONS["bash"]
    return harness.run("bash", "-c", script, "bash", file, line, env=environment).stdout.decode().split()


def fish_completes(installed, environment, line, _):
    file = installed / "usr/share" / COMPLETIONS["fish"]
    output = harness.run("fish", "--no-config", "-c", f"source {file}; complete -C '{line}'", env=environment).stdout
    return [each.split("\t")[0] for each in output.decode().splitlines()]


def zsh_completes(installed, environment, line, wanted):
    """zsh completes only what somebody types, and lists only while nothing more is typed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe("zsh", ["zsh", "-f", "-i"], environment)

    def read_until(words):
        shown = ""
        while not words <= set(re.findall(r"[\w-]+", shown)):
            if not select.select([terminal], [], [], 20)[0]:
                break
            shown += os.read(terminal, 65536).decode(errors="replace")
        return set(re.findall(r"[\w-]+", shown))

    folder = (installed / "usr/share" / COMPLETIONS["zsh"]).parent
    os.write(terminal, f"fpath=({folder} $fpath); autoload -U compinit; compinit -u -D; unsetopt beep; echo is''ready\n".encode())
    read_until({"isready"})
    os.write(terminal, line.encode() + b"\t\t")
    found = read_until(wanted)
    os.close(terminal)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return found


@pytest.mark.offline
@pytest.mark.parametrize("completes", [bash_completes, fish_completes, zsh_completes], ids=["bash", "fish", "zsh"])
def test_shells_complete_commands_options_and_values(completes, installed, workspace):
    shell = completes.__name__.split("_")[0]
    if shutil.which(shell) is None:
        pytest.fail(f"{shell} is not installed: see .ci/deps.sh")
    environment = {**os.environ, "PATH": f"{installed}/usr/bin:{os.environ['PATH']}", "HOME": str(workspace.path)}
    environment |= {"TERM": "dumb", "PS1": "> ", "COLUMNS": "200", "LC_ALL": "C.UTF-8"}
    for line, wanted in (
        ("scrim mou", {"mount", "mounts"}),
        ("scrim key ", {"list", "add", "change", "remove", "test", "recover"}),
        ("scrim mount --passphrase-", {"--passphrase-file", "--passphrase-command", "--passphrase-fd"}),
        ("scrim init v --content seal", {"sealed", "sealed-compressed"}),
    ):
        found = set(completes(installed, environment, line, wanted))
        assert wanted <= found, (line, found)


@pytest.mark.offline
def test_the_helper_of_mount_takes_its_words(installed, workspace):
    helper = installed / "sbin/mount.scrim"
    assert os.readlink(helper) == "/usr/bin/scrim"
    local = workspace.path / "mount.fuse.scrim"
    local.symlink_to(harness.SCRIM)
    assert harness.run(local, "/vault", "/mnt", "-f", "-o", "rw").stdout == b""
    for words in (["/vault"], ["/vault", "/mnt", "-o"], ["/vault", "/mnt", "-z"]):
        result = harness.run(local, *words, check=False)
        assert result.returncode == harness.USAGE and b"mount -t fuse.scrim" in result.stderr
    missing = harness.run(local, "/nonexistent/vault", "/mnt", "-sn", "-t", "fuse.scrim", check=False)
    assert missing.returncode == harness.NOT_A_VAULT, missing.stderr


def test_mount_asks_for_nothing_where_its_options_say_it_all(workspace):
    vault = workspace.vault()
    point = workspace.path / "point, with a comma"
    point.mkdir()
    secret = workspace.path / "secret, with a comma"
    shutil.copy(vault.passphrase_file, secret)
    local = workspace.path / "mount.scrim"
    local.symlink_to(harness.SCRIM)
    written = str(secret).replace(",", "\\,")
    log = workspace.path / "log"
    harness.run(local, vault.path, point, "-o", f"rw,noexec,passphrase_file={written},log_file={log},_netdev", "-v")
    try:
        (point / "file").write_text("words")
        assert harness.mounted_at(point) and log.exists()
        with open("/proc/self/mountinfo") as table:
            [line] = [line for line in table if "with\\040a\\040comma" in line]
        assert "noexec" in line and "nosuid" in line
    finally:
        subprocess.run([harness.SCRIM, "umount", point], check=True)
