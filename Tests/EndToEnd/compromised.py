"""A mount's daemon that does not keep to the rules: asks the broker for passthrough to what its user may not write.

Run as an ordinary user: BROKER VAULT MOUNTPOINT FOREIGN, where FOREIGN is a file in VAULT that the user may only read.
Prints an object of what the broker said to each descriptor.
"""

import json
import os
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


device = mount()
channel, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
process = subprocess.Popen([broker], preexec_fn=lambda: os.dup2(end.fileno(), 3), pass_fds=[3])
end.close()


def ask(kind, descriptors, value=0):
    socket.send_fds(channel, [struct.pack("=Ii", kind, value)], descriptors)
    return struct.unpack("=Ii", channel.recv(8))


folder = os.open(vault, os.O_PATH | os.O_DIRECTORY)
answers = {"greeting": ask(GREET, [folder, os.open(f"{vault}/scrim.vault", os.O_RDONLY)])}


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
register("socket", channel.fileno())
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
subprocess.run(["fusermount3", "-u", "-z", point], check=True)
channel.close()
answers["status"] = process.wait(timeout=60)
print(json.dumps(answers))
