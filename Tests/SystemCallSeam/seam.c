// Definitions of libc's file functions for programs of tests: an executable's own symbols come before those of a shared
// library, so the code under test calls these, and the products know nothing of it.
#define _GNU_SOURCE
#include "SystemCallSeam.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

static _Thread_local const struct seam *watching;

void seam_watch(const struct seam *seam) { watching = seam; }

static int enter(const struct seam_call *call) {
  const struct seam *seam = watching;
  if (seam == NULL) return 1;
  watching = NULL;
  int error = seam->before(seam->context, call);
  watching = seam;
  if (error == 0) return 1;
  errno = error;
  return 0;
}

static int64_t leave(const struct seam_call *call, int64_t result) {
  const struct seam *seam = watching;
  if (seam == NULL || result == -1) return result;
  int error = errno;
  watching = NULL;
  seam->after(seam->context, call, result);
  watching = seam;
  errno = error;
  return result;
}

// The next definition of a function, which is libc's.
#define REAL(name)                                                              \
  ({                                                                            \
    static __typeof__(&name) real;                                              \
    if (__atomic_load_n(&real, __ATOMIC_RELAXED) == NULL)                       \
      __atomic_store_n(&real, (__typeof__(&name))dlsym(RTLD_NEXT, #name), __ATOMIC_RELAXED); \
    __atomic_load_n(&real, __ATOMIC_RELAXED);                                   \
  })

#define WATCHED(type, call, ...)                             \
  do {                                                       \
    struct seam_call seen = {__VA_ARGS__};                   \
    return enter(&seen) ? (type)leave(&seen, call) : -1;     \
  } while (0)

int openat(int dirfd, const char *path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(list, mode_t) : 0;
  va_end(list);
  WATCHED(int, REAL(openat)(dirfd, path, flags, mode), .kind = seam_open, .descriptor = dirfd, .path = path,
          .flags = flags, .mode = mode);
}

int statx(int dirfd, const char *restrict path, int flags, unsigned mask, struct statx *restrict out) {
  WATCHED(int, REAL(statx)(dirfd, path, flags, mask, out), .kind = seam_status, .descriptor = dirfd, .path = path);
}

int mkdirat(int dirfd, const char *path, mode_t mode) {
  WATCHED(int, REAL(mkdirat)(dirfd, path, mode), .kind = seam_mkdir, .descriptor = dirfd, .path = path,
          .mode = mode);
}

int mknodat(int dirfd, const char *path, mode_t mode, dev_t device) {
  WATCHED(int, REAL(mknodat)(dirfd, path, mode, device), .kind = seam_mknod, .descriptor = dirfd, .path = path,
          .mode = mode);
}

int unlinkat(int dirfd, const char *path, int flags) {
  WATCHED(int, REAL(unlinkat)(dirfd, path, flags), .kind = seam_unlink, .descriptor = dirfd, .path = path,
          .flags = flags);
}

int renameat2(int olddir, const char *old, int newdir, const char *new, unsigned flags) {
  WATCHED(int, REAL(renameat2)(olddir, old, newdir, new, flags), .kind = seam_rename, .descriptor = olddir,
          .path = old, .other_descriptor = newdir, .other_path = new, .flags = (int)flags);
}

int linkat(int olddir, const char *old, int newdir, const char *new, int flags) {
  WATCHED(int, REAL(linkat)(olddir, old, newdir, new, flags), .kind = seam_link, .descriptor = olddir, .path = old,
          .other_descriptor = newdir, .other_path = new, .flags = flags);
}

int symlinkat(const char *target, int dirfd, const char *path) {
  WATCHED(int, REAL(symlinkat)(target, dirfd, path), .kind = seam_symlink, .descriptor = dirfd, .path = path,
          .bytes = target, .count = strlen(target));
}

ssize_t readlinkat(int dirfd, const char *restrict path, char *restrict buffer, size_t size) {
  WATCHED(ssize_t, REAL(readlinkat)(dirfd, path, buffer, size), .kind = seam_readlink, .descriptor = dirfd,
          .path = path);
}

int fchownat(int dirfd, const char *path, uid_t uid, gid_t gid, int flags) {
  WATCHED(int, REAL(fchownat)(dirfd, path, uid, gid, flags), .kind = seam_chown, .descriptor = dirfd,
          .path = path);
}

int fchmod(int fd, mode_t mode) {
  WATCHED(int, REAL(fchmod)(fd, mode), .kind = seam_chmod, .descriptor = fd, .mode = mode);
}

int utimensat(int dirfd, const char *path, const struct timespec times[2], int flags) {
  WATCHED(int, REAL(utimensat)(dirfd, path, times, flags), .kind = seam_times, .descriptor = dirfd, .path = path);
}

ssize_t fgetxattr(int fd, const char *name, void *value, size_t size) {
  WATCHED(ssize_t, REAL(fgetxattr)(fd, name, value, size), .kind = seam_get_attribute, .descriptor = fd,
          .name = name);
}

int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags) {
  WATCHED(int, REAL(fsetxattr)(fd, name, value, size, flags), .kind = seam_set_attribute, .descriptor = fd,
          .name = name, .bytes = value, .count = size);
}

int fremovexattr(int fd, const char *name) {
  WATCHED(int, REAL(fremovexattr)(fd, name), .kind = seam_remove_attribute, .descriptor = fd, .name = name);
}

ssize_t flistxattr(int fd, char *list, size_t size) {
  WATCHED(ssize_t, REAL(flistxattr)(fd, list, size), .kind = seam_list_attributes, .descriptor = fd);
}

// The paths below lead through /proc/self/fd, as CLinux makes them.
ssize_t getxattr(const char *path, const char *name, void *value, size_t size) {
  WATCHED(ssize_t, REAL(getxattr)(path, name, value, size), .kind = seam_get_attribute, .descriptor = AT_FDCWD,
          .path = path, .name = name);
}

ssize_t lgetxattr(const char *path, const char *name, void *value, size_t size) {
  WATCHED(ssize_t, REAL(lgetxattr)(path, name, value, size), .kind = seam_get_attribute, .descriptor = AT_FDCWD,
          .path = path, .name = name);
}

int setxattr(const char *path, const char *name, const void *value, size_t size, int flags) {
  WATCHED(int, REAL(setxattr)(path, name, value, size, flags), .kind = seam_set_attribute, .descriptor = AT_FDCWD,
          .path = path, .name = name, .bytes = value, .count = size);
}

int removexattr(const char *path, const char *name) {
  WATCHED(int, REAL(removexattr)(path, name), .kind = seam_remove_attribute, .descriptor = AT_FDCWD, .path = path,
          .name = name);
}

ssize_t listxattr(const char *path, char *list, size_t size) {
  WATCHED(ssize_t, REAL(listxattr)(path, list, size), .kind = seam_list_attributes, .descriptor = AT_FDCWD,
          .path = path);
}

int chmod(const char *path, mode_t mode) {
  WATCHED(int, REAL(chmod)(path, mode), .kind = seam_chmod, .descriptor = AT_FDCWD, .path = path, .mode = mode);
}

ssize_t pread(int fd, void *buffer, size_t count, off_t offset) {
  WATCHED(ssize_t, REAL(pread)(fd, buffer, count, offset), .kind = seam_read, .descriptor = fd, .count = count,
          .offset = offset);
}

ssize_t preadv(int fd, const struct iovec *buffers, int count, off_t offset) {
  WATCHED(ssize_t, REAL(preadv)(fd, buffers, count, offset), .kind = seam_read, .descriptor = fd,
          .offset = offset);
}

ssize_t pwrite(int fd, const void *buffer, size_t count, off_t offset) {
  WATCHED(ssize_t, REAL(pwrite)(fd, buffer, count, offset), .kind = seam_write, .descriptor = fd, .bytes = buffer,
          .count = count, .offset = offset);
}

int ftruncate(int fd, off_t length) {
  WATCHED(int, REAL(ftruncate)(fd, length), .kind = seam_truncate, .descriptor = fd, .offset = length);
}

int fallocate(int fd, int mode, off_t offset, off_t length) {
  WATCHED(int, REAL(fallocate)(fd, mode, offset, length), .kind = seam_allocate, .descriptor = fd, .flags = mode,
          .offset = offset, .count = (size_t)length);
}

int fsync(int fd) { WATCHED(int, REAL(fsync)(fd), .kind = seam_sync_file, .descriptor = fd); }

int fdatasync(int fd) { WATCHED(int, REAL(fdatasync)(fd), .kind = seam_sync_data, .descriptor = fd); }

int syncfs(int fd) { WATCHED(int, REAL(syncfs)(fd), .kind = seam_sync_filesystem, .descriptor = fd); }

long syscall(long number, ...) {
  long a[6];
  va_list list;
  va_start(list, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
  va_end(list);
  if (number != SYS_getdents64 || watching == NULL)
    return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  WATCHED(long, REAL(syscall)(number, a[0], a[1], a[2]), .kind = seam_list_directory, .descriptor = (int)a[0]);
}
