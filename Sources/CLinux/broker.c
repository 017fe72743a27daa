#define _GNU_SOURCE
#include "CLinuxBroker.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { nobody = 65534 };

// Aligned for the header that the kernel puts there.
union control {
  struct cmsghdr header;
  char bytes[CMSG_SPACE(SCRIM_MOST_DESCRIPTORS * sizeof(int))];
};

int scrim_send_message(int socket, const void *bytes, size_t size, const int *descriptors, size_t count) {
  if (count > SCRIM_MOST_DESCRIPTORS) return -EINVAL;
  union control control = {0};
  struct iovec part = {.iov_base = (void *)bytes, .iov_len = size};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (count > 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(header), descriptors, count * sizeof(int));
  }
  ssize_t sent;
  do sent = sendmsg(socket, &message, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  return sent < 0 ? -errno : 0;
}

static void close_all(const int *descriptors, size_t count) {
  for (size_t i = 0; i < count; i++) close(descriptors[i]);
}

ssize_t scrim_receive_message(int socket, void *bytes, size_t size, int *descriptors, size_t *count) {
  union control control = {0};
  struct iovec part = {.iov_base = bytes, .iov_len = size};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
  *count = 0;
  ssize_t length;
  do length = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  while (length < 0 && errno == EINTR);
  if (length < 0) return -errno;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    // One header is all there is room for, so this cannot exceed the caller's array.
    size_t held = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    if (held > SCRIM_MOST_DESCRIPTORS - *count) held = SCRIM_MOST_DESCRIPTORS - *count;
    memcpy(descriptors + *count, CMSG_DATA(header), held * sizeof(int));
    *count += held;
  }
  if (message.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) {
    close_all(descriptors, *count);
    *count = 0;
    return -EMSGSIZE;
  }
  return length;
}

static int set_patience(int socket, int seconds) {
  struct timeval patience = {.tv_sec = seconds};
  if (setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0) return -errno;
  return setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) == 0 ? 0 : -errno;
}

int scrim_socket_pair(int ends[2], int seconds) {
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return -errno;
  int result = set_patience(ends[0], seconds);
  if (result < 0) close_all(ends, 2);
  return result;
}

int scrim_connect(const char *path, int seconds) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) return -ENAMETOOLONG;
  strcpy(address.sun_path, path);
  int end = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (end < 0) return -errno;
  int result = set_patience(end, seconds);
  if (result == 0 && connect(end, (struct sockaddr *)&address, sizeof address) != 0) result = -errno;
  if (result == 0) return end;
  close(end);
  return result;
}

static int add_actions(posix_spawn_file_actions_t *actions, int channel) {
  // First, as the channel may itself be one of the standard streams' numbers.
  int error = posix_spawn_file_actions_adddup2(actions, channel, 3);
  for (int stream = 0; stream < 3 && error == 0; stream++)
    error = posix_spawn_file_actions_addopen(actions, stream, "/dev/null", O_RDWR, 0);
  if (error == 0) error = posix_spawn_file_actions_addclosefrom_np(actions, 4);
  if (error == 0) error = posix_spawn_file_actions_addchdir_np(actions, "/");
  return error;
}

static int add_attributes(posix_spawnattr_t *attributes) {
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  int error = posix_spawnattr_setsigmask(attributes, &none);
  if (error == 0) error = posix_spawnattr_setsigdefault(attributes, &all);
  // A ^C in the daemon's terminal is for the daemon, which unmounts first.
  if (error == 0) error = posix_spawnattr_setpgroup(attributes, 0);
  if (error == 0)
    error = posix_spawnattr_setflags(
        attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  return error;
}

int scrim_spawn_helper(const char *path, int channel, pid_t *process) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  int error = posix_spawn_file_actions_init(&actions);
  if (error != 0) return -error;
  error = posix_spawnattr_init(&attributes);
  if (error == 0) {
    char *arguments[] = {(char *)path, NULL}, *environment[] = {NULL};
    error = add_actions(&actions, channel);
    if (error == 0) error = add_attributes(&attributes);
    if (error == 0) error = posix_spawn(process, path, &actions, &attributes, arguments, environment);
    posix_spawnattr_destroy(&attributes);
  }
  posix_spawn_file_actions_destroy(&actions);
  return -error;
}

int scrim_peer_process(int socket) {
  struct ucred peer;
  socklen_t size = sizeof peer;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return -errno;
  if (peer.pid <= 0) return -ESRCH;
  int descriptor = (int)syscall(SYS_pidfd_open, peer.pid, 0);
  return descriptor < 0 ? -errno : descriptor;
}

static int set_capabilities(uint32_t mask) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2] = {{.effective = mask, .permitted = mask}};
  return syscall(SYS_capset, &header, data) == 0 ? 0 : -errno;
}

// Root's user ID is a privilege of its own: it owns files. Gives it up and keeps the permitted capabilities.
static int leave_root(void) {
  uid_t real, effective, saved;
  if (getresuid(&real, &effective, &saved) != 0) return -errno;
  if (real != 0 && effective != 0 && saved != 0) return 0;
  // Set-user-ID root belongs to who started it, root itself becomes nobody.
  uid_t user = real != 0 ? real : nobody;
  gid_t group = real != 0 ? getgid() : nobody;
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) return -errno;
  if (real == 0 && setgroups(0, NULL) != 0) return -errno;
  if (setresgid(group, group, group) != 0 || setresuid(user, user, user) != 0) return -errno;
  return prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) == 0 ? 0 : -errno;
}

int scrim_keep_only_sys_admin(void) {
  int result = leave_root();
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 && result == 0) result = -errno;
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 && result == 0) result = -errno;
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 && result == 0) result = -errno;
  if (result == 0) result = set_capabilities(1u << CAP_SYS_ADMIN);
  if (result != 0) (void)set_capabilities(0);
  return result;
}

int scrim_is_fuse_device(int descriptor) {
  struct stat status;
  if (fstat(descriptor, &status) != 0) return -errno;
  // Fixed in the kernel's devices.txt: miscellaneous devices are major 10, FUSE is minor 229.
  return S_ISCHR(status.st_mode) && status.st_rdev == makedev(10, 229);
}

int scrim_may_gain_privileges(void) {
  int result = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
  return result < 0 ? -errno : result == 0;
}
