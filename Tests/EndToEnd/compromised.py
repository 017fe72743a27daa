"""A mount's daemon that does not keep to the rules: asks the broker for passthrough to what its user may not write.

Run as an ordinary user: BROKER VAULT MOUNTPOINT FOREIGN, where FOREIGN is a file in VAULT that the user may only read.
Prints an object of what the broker said to each descriptor.
"""

import ctypes
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys

GREET, REGISTER, UNREGISTER = 1, 2, 3
broker, vault, point, foreign = sys.argv[1:]


def mount():
    """The descriptor of a FUSE mount made through fusermount3, with passthrough agreed."""
    ours, theirs = socket.socketpair()
    subprocess.run(
        ["fusermount3", "-o", "rw,nosuid,nodev,fsname=compromised,subtype=scrimtest", "--", point],
        env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
        pass_fds=[theirs.fileno()],
        check=True,
    )
    device = socket.recv_fds(ours, 1, 1)[1][0]
    unique = struct.unpack_from("<IIQ", os.read(device, 1 << 21))[2]
    # struct fuse_init_out of 7.40: FUSE_INIT_EXT, FUSE_PASSTHROUGH and a stack depth of one
    body = struct.pack("<IIIIHHIIHHII24x", 7, 40, 131072, 1 << 30, 12, 9, 1 << 20, 1, 256, 0, 1 << 5, 1)
    os.write(device, struct.pack("<IiQ", 16 + len(body), 0, unique) + body)
    return device


class Broker:
    """One that was started as a daemon starts it, with the limits and the environment that the daemon chooses."""

    def __init__(self, files=None, **environment):
        def prepare():
            os.dup2(end.fileno(), 3)
            if files:
                resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

        self.channel, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.process = subprocess.Popen([broker], preexec_fn=prepare, pass_fds=[3], env={**os.environ, **environment})
        end.close()
        self.greeting = self.ask(GREET, [folder, os.open(f"{vault}/scrim.vault", os.O_RDONLY)])

    def ask(self, kind, descriptors, value=0):
        socket.send_fds(self.channel, [struct.pack("=Ii", kind, value)], descriptors)
        return struct.unpack("=Ii", self.channel.recv(8))

    def end(self):
        self.channel.close()
        return self.process.wait(timeout=60)


device = mount()
folder = os.open(vault, os.O_PATH | os.O_DIRECTORY)
first = Broker()
ask = first.ask
answers = {"greeting": first.greeting}


def register(name, descriptor):
    answers[name] = ask(REGISTER, [device, descriptor])


own = os.open(f"{vault}/own", os.O_RDWR | os.O_CREAT, 0o600)
register("own", own)
answers["returned"] = ask(UNREGISTER, [device], answers["own"][1])
register("foreign read-only", os.open(foreign, os.O_RDONLY))
register("foreign path", os.open(foreign, os.O_PATH))
register("append-only", os.open(f"{vault}/own", os.O_RDWR | os.O_APPEND))
register("elsewhere", os.open("/proc/self/oom_score_adj", os.O_RDWR))
register("directory", os.open(vault, os.O_RDONLY))
register("pipe", os.pipe()[1])
register("socket", first.channel.fileno())
register("memory", os.memfd_create("file"))
register("device", device)
try:
    os.open(foreign, os.O_RDWR)
    answers["foreign writable"] = True
except PermissionError:
    answers["foreign writable"] = False
# And without the broker: the kernel asks for the capability itself.
import fcntl  # noqa: E402

try:
    fcntl.ioctl(device, 0x4010E501, struct.pack("=iIQ", own, 0, 0))
    answers["without the broker"] = 0
except OSError as error:
    answers["without the broker"] = error.errno

# The broker's memory, where the capability is.
libc = ctypes.CDLL(None, use_errno=True)
PTRACE_ATTACH = 16
answers["traced"] = libc.ptrace(PTRACE_ATTACH, first.process.pid, 0, 0)
try:
    os.open(f"/proc/{first.process.pid}/mem", os.O_RDWR)
    answers["memory open"] = 0
except OSError as error:
    answers["memory open"] = error.errno

# More files than it may have open itself: the kernel holds what is registered, and counts it for nobody.
few = Broker(files=30)
ids = []
while len(ids) <= 30:
    kind, backing_id = few.ask(REGISTER, [device, own])
    if kind != 0:
        answers["too many"] = [len(ids), kind, backing_id]
        break
    ids.append(backing_id)
few.ask(UNREGISTER, [device], ids[0])
answers["again"] = few.ask(REGISTER, [device, own])[0]
few.end()

# What it would load and run if it believed its environment.
evil = f"{vault}/evil"
with open(evil, "w") as file:
    file.write(f"#!/bin/sh\ngrep CapPrm /proc/self/status >{vault}/ran\n")
os.chmod(evil, 0o755)
trusting = Broker(
    LD_PRELOAD=f"{vault}/missing.so", LD_AUDIT=f"{vault}/missing.so", LD_LIBRARY_PATH=vault,
    SWIFT_BACKTRACE=f"enable=yes,interactive=no,color=no,swift-backtrace={evil}",
)  # fmt: skip
trusting.process.send_signal(signal.SIGSEGV)
trusting.process.wait(timeout=60)
answers["ran"] = open(f"{vault}/ran").read() if os.path.exists(f"{vault}/ran") else "nothing"

subprocess.run(["fusermount3", "-u", "-z", point], check=True)
answers["status"] = first.end()
print(json.dumps(answers))
