// What the passthrough broker and its client need of Linux. Each call returns a negative errno on failure.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SCRIM_MOST_DESCRIPTORS 4

/// Sends one message with `count` descriptors, at most SCRIM_MOST_DESCRIPTORS, over a SOCK_SEQPACKET socket.
int scrim_send_message(int socket, const void *bytes, size_t size, const int *descriptors, size_t count);

/// Receives one message of at most `size` bytes: its length, 0 when the other side is gone.
///
/// `descriptors` has room for SCRIM_MOST_DESCRIPTORS; they are close-on-exec and the caller's to close. A message
/// that is longer, or carries more of them, is dropped with all it carries: -EMSGSIZE.
ssize_t scrim_receive_message(int socket, void *bytes, size_t size, int *descriptors, size_t *count);

/// A pair of connected SOCK_SEQPACKET sockets, close-on-exec. Calls on the first give up after `seconds`.
int scrim_socket_pair(int ends[2], int seconds);

/// A socket connected to the SOCK_SEQPACKET one at `path`, close-on-exec, whose calls give up after `seconds`.
int scrim_connect(const char *path, int seconds);

/// Runs the program with `channel` as descriptor 3, null standard streams, nothing else open, no environment, no
/// blocked signals and a process group of its own. 0 and its ID.
int scrim_spawn_helper(const char *path, int channel, pid_t *process);

/// A descriptor that polls readable once the process at the other end of a socket pair has ended.
int scrim_peer_process(int socket);

/// Leaves the whole process with CAP_SYS_ADMIN as its only capability, and not root's user ID; single-threaded only.
///
/// -EPERM where the process does not have that capability; then it is left with none.
int scrim_keep_only_sys_admin(void);

/// 1 when the descriptor is an open /dev/fuse, by its device number.
int scrim_is_fuse_device(int descriptor);

/// Whether file capabilities work for programs of this process: 1, or 0 with no_new_privs set.
int scrim_may_gain_privileges(void);
