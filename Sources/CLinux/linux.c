#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

const int scrim_O_PATH = O_PATH;
const int scrim_O_TMPFILE = O_TMPFILE;
const int scrim_O_DIRECT = O_DIRECT;
const int scrim_O_NOATIME = O_NOATIME;
const int scrim_AT_EMPTY_PATH = AT_EMPTY_PATH;
const int scrim_AT_STATX_DONT_SYNC = AT_STATX_DONT_SYNC;
const unsigned scrim_RENAME_NOREPLACE = RENAME_NOREPLACE;
const unsigned scrim_RENAME_EXCHANGE = RENAME_EXCHANGE;
const unsigned scrim_RENAME_WHITEOUT = RENAME_WHITEOUT;
const int scrim_FALLOC_FL_KEEP_SIZE = FALLOC_FL_KEEP_SIZE;
const int scrim_FALLOC_FL_PUNCH_HOLE = FALLOC_FL_PUNCH_HOLE;
const int scrim_FALLOC_FL_COLLAPSE_RANGE = FALLOC_FL_COLLAPSE_RANGE;
const int scrim_FALLOC_FL_ZERO_RANGE = FALLOC_FL_ZERO_RANGE;
const int scrim_FALLOC_FL_INSERT_RANGE = FALLOC_FL_INSERT_RANGE;
const int scrim_FALLOC_FL_UNSHARE_RANGE = FALLOC_FL_UNSHARE_RANGE;
const int scrim_SEEK_DATA = SEEK_DATA;
const int scrim_SEEK_HOLE = SEEK_HOLE;
const unsigned scrim_STATX_TYPE = STATX_TYPE;
const unsigned scrim_STATX_MODE = STATX_MODE;
const unsigned scrim_STATX_INO = STATX_INO;
const unsigned scrim_STATX_SIZE = STATX_SIZE;
const unsigned scrim_STATX_MTIME = STATX_MTIME;
const unsigned scrim_STATX_BASIC_STATS = STATX_BASIC_STATS;
const unsigned scrim_STATX_BTIME = STATX_BTIME;
const unsigned scrim_STATX_MNT_ID = STATX_MNT_ID;

int scrim_openat(int dirfd, const char *path, int flags, mode_t mode) {
  return openat(dirfd, path, flags, mode);
}

int scrim_statx(int dirfd, const char *path, int flags, unsigned mask, struct scrim_status *out) {
  struct statx s;
  if (statx(dirfd, path, flags, mask, &s) != 0) return -1;
  *out = (struct scrim_status){
      .device = makedev(s.stx_dev_major, s.stx_dev_minor),
      .inode = s.stx_ino,
      .rdevice = makedev(s.stx_rdev_major, s.stx_rdev_minor),
      .size = s.stx_size,
      .blocks = s.stx_blocks,
      .attributes = s.stx_attributes & s.stx_attributes_mask,
      .mount_id = s.stx_mnt_id,
      .mask = s.stx_mask,
      .mode = s.stx_mode,
      .links = s.stx_nlink,
      .uid = s.stx_uid,
      .gid = s.stx_gid,
      .block_size = s.stx_blksize,
      .access_seconds = s.stx_atime.tv_sec,
      .modification_seconds = s.stx_mtime.tv_sec,
      .change_seconds = s.stx_ctime.tv_sec,
      .birth_seconds = s.stx_btime.tv_sec,
      .access_nanoseconds = s.stx_atime.tv_nsec,
      .modification_nanoseconds = s.stx_mtime.tv_nsec,
      .change_nanoseconds = s.stx_ctime.tv_nsec,
      .birth_nanoseconds = s.stx_btime.tv_nsec,
  };
  return 0;
}

int scrim_fstatfs(int fd, struct scrim_filesystem *out) {
  struct statfs s;
  if (fstatfs(fd, &s) != 0) return -1;
  uint64_t id = 0;
  memcpy(&id, &s.f_fsid, sizeof s.f_fsid < sizeof id ? sizeof s.f_fsid : sizeof id);
  *out = (struct scrim_filesystem){
      .type = (uint64_t)s.f_type,
      .blocks = s.f_blocks,
      .free_blocks = s.f_bfree,
      .available_blocks = s.f_bavail,
      .files = s.f_files,
      .free_files = s.f_ffree,
      .id = id,
      .block_size = (uint64_t)s.f_bsize,
      .fragment_size = (uint64_t)(s.f_frsize ? s.f_frsize : s.f_bsize),
      .name_length = (uint64_t)s.f_namelen,
      .flags = (uint64_t)s.f_flags,
  };
  return 0;
}

int scrim_renameat2(int olddir, const char *old, int newdir, const char *new, unsigned flags) {
  return renameat2(olddir, old, newdir, new, flags);
}

int scrim_faccessat2(int dirfd, const char *path, int mode, int flags) {
  // The system call itself: glibc's faccessat emulates AT_EACCESS with the process's IDs, which
  // is wrong for a thread that has set its filesystem IDs.
  return (int)syscall(SYS_faccessat2, dirfd, path, mode, flags);
}

int scrim_fallocate(int fd, int mode, off_t offset, off_t length) {
  return fallocate(fd, mode, offset, length);
}

int scrim_syncfs(int fd) { return syncfs(fd); }

ssize_t scrim_copy_file_range(int in, off_t *in_offset, int out, off_t *out_offset, size_t length) {
  return copy_file_range(in, in_offset, out, out_offset, length, 0);
}

int scrim_ficlone(int destination, int source) { return ioctl(destination, FICLONE, source); }

ssize_t scrim_getdents64(int fd, void *buffer, size_t size) {
  return syscall(SYS_getdents64, fd, buffer, size);
}

int scrim_fadvise(int fd, off_t offset, off_t length, int advice) {
  int error = posix_fadvise(fd, offset, length, advice);
  if (error == 0) return 0;
  errno = error;
  return -1;
}

static struct timespec time_update(struct scrim_time_update t) {
  if (t.kind == 1) return (struct timespec){.tv_nsec = UTIME_NOW};
  if (t.kind == 2) return (struct timespec){.tv_nsec = UTIME_OMIT};
  return (struct timespec){.tv_sec = t.seconds, .tv_nsec = t.nanoseconds};
}

int scrim_utimens(int fd, const char *path, int flags, struct scrim_time_update access,
                  struct scrim_time_update modification) {
  struct timespec times[2] = {time_update(access), time_update(modification)};
  if (path == NULL) return utimensat(fd, "", times, AT_EMPTY_PATH);
  return utimensat(fd, path, times, flags);
}

// "/proc/self/fd/" and the ten digits of an int, sign and terminator with room to spare.
struct descriptor_path {
  char text[32];
};

static struct descriptor_path path_of(int fd) {
  struct descriptor_path path;
  snprintf(path.text, sizeof path.text, "/proc/self/fd/%d", fd);
  return path;
}

int scrim_reopen(int fd, int flags) {
  struct descriptor_path path = path_of(fd);
  return open(path.text, flags & ~O_NOFOLLOW);
}

int scrim_chmod_descriptor(int fd, mode_t mode) {
  struct descriptor_path path = path_of(fd);
  return chmod(path.text, mode);
}

int scrim_link_descriptor(int fd, int newdir, const char *name) {
  struct descriptor_path path = path_of(fd);
  return linkat(AT_FDCWD, path.text, newdir, name, AT_SYMLINK_FOLLOW);
}

ssize_t scrim_getxattr_descriptor(int fd, const char *name, void *value, size_t size) {
  struct descriptor_path path = path_of(fd);
  return getxattr(path.text, name, value, size);
}

int scrim_setxattr_descriptor(int fd, const char *name, const void *value, size_t size, int flags) {
  struct descriptor_path path = path_of(fd);
  return setxattr(path.text, name, value, size, flags);
}

ssize_t scrim_listxattr_descriptor(int fd, char *list, size_t size) {
  struct descriptor_path path = path_of(fd);
  return listxattr(path.text, list, size);
}

int scrim_removexattr_descriptor(int fd, const char *name) {
  struct descriptor_path path = path_of(fd);
  return removexattr(path.text, name);
}

// Linux 6.13; neither may be in the headers of the build machine.
enum { GETXATTRAT = 464 };
struct getxattrat_arguments {
  uint64_t value __attribute__((aligned(8)));
  uint32_t size;
  uint32_t flags;
};

ssize_t scrim_getxattr_at(int dirfd, const char *name, const char *attribute, void *value,
                          size_t size) {
  static int lacks_call;
  if (!__atomic_load_n(&lacks_call, __ATOMIC_RELAXED)) {
    struct getxattrat_arguments arguments = {.value = (uintptr_t)value, .size = (uint32_t)size};
    ssize_t result = syscall(GETXATTRAT, dirfd, name, AT_SYMLINK_NOFOLLOW, attribute, &arguments,
                             sizeof arguments);
    // EPERM is how filters of system calls refuse one they do not know.
    if (result >= 0 || (errno != ENOSYS && errno != EPERM)) return result;
    if (errno == ENOSYS) __atomic_store_n(&lacks_call, 1, __ATOMIC_RELAXED);
  }
  // A name of 255 bytes after the directory's link.
  char path[32 + 256];
  int length = snprintf(path, sizeof path, "/proc/self/fd/%d/%s", dirfd, name);
  if (length < 0 || (size_t)length >= sizeof path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  return lgetxattr(path, attribute, value, size);
}

ssize_t scrim_fgetxattr(int fd, const char *name, void *value, size_t size) {
  return fgetxattr(fd, name, value, size);
}

int scrim_fsetxattr(int fd, const char *name, const void *value, size_t size, int flags) {
  return fsetxattr(fd, name, value, size, flags);
}

ssize_t scrim_flistxattr(int fd, char *list, size_t size) { return flistxattr(fd, list, size); }

int scrim_fremovexattr(int fd, const char *name) { return fremovexattr(fd, name); }

static struct flock kernel_lock(const struct scrim_record_lock *lock) {
  // l_pid must be zero for open-file-description locks.
  return (struct flock){
      .l_type = lock->type,
      .l_whence = SEEK_SET,
      .l_start = lock->start,
      .l_len = lock->length,
  };
}

int scrim_ofd_set(int fd, const struct scrim_record_lock *lock, int wait) {
  struct flock f = kernel_lock(lock);
  return fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &f);
}

int scrim_ofd_query(int fd, struct scrim_record_lock *lock) {
  struct flock f = kernel_lock(lock);
  if (fcntl(fd, F_OFD_GETLK, &f) != 0) return -1;
  *lock = (struct scrim_record_lock){
      .start = f.l_start, .length = f.l_len, .pid = f.l_pid, .type = f.l_type};
  return 0;
}

int scrim_flock(int fd, int operation) { return flock(fd, operation); }

int scrim_fcntl(int fd, int command, int argument) { return fcntl(fd, command, argument); }

// linux/fuse.h of the distributions in use is older than these two.
struct fuse_backing_map {
  int32_t fd;
  uint32_t flags;
  uint64_t padding;
};
#define SCRIM_FUSE_BACKING_OPEN _IOW(229, 1, struct fuse_backing_map)
#define SCRIM_FUSE_BACKING_CLOSE _IOW(229, 2, uint32_t)

int scrim_fuse_backing_open(int session, int backing) {
  struct fuse_backing_map map = {.fd = backing};
  return ioctl(session, SCRIM_FUSE_BACKING_OPEN, &map);
}

int scrim_fuse_backing_close(int session, int32_t backing_id) {
  uint32_t id = (uint32_t)backing_id;
  return ioctl(session, SCRIM_FUSE_BACKING_CLOSE, &id);
}

uint32_t scrim_setfsuid(uint32_t uid) { return (uint32_t)setfsuid(uid); }

uint32_t scrim_setfsgid(uint32_t gid) { return (uint32_t)setfsgid(gid); }

int scrim_set_thread_groups(size_t count, const uint32_t *groups) {
  // The system call itself: glibc's wrapper changes every thread of the process.
  return (int)syscall(SYS_setgroups, count, groups);
}

int scrim_set_dumpable(int dumpable) { return prctl(PR_SET_DUMPABLE, dumpable, 0, 0, 0); }

int scrim_set_thread_name(const char *name) { return prctl(PR_SET_NAME, name, 0, 0, 0); }

void *scrim_map_anonymous(size_t size) {
  void *start = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return start == MAP_FAILED ? NULL : start;
}

int scrim_exclude_from_dumps(void *start, size_t size) {
  return madvise(start, size, MADV_DONTDUMP);
}

int scrim_wipe_on_fork(void *start, size_t size) { return madvise(start, size, MADV_WIPEONFORK); }

ssize_t scrim_getrandom(void *buffer, size_t size) { return getrandom(buffer, size, 0); }

int scrim_has_aes_instructions(void) {
#if defined(__x86_64__)
  return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
  unsigned long features = getauxval(AT_HWCAP);
  return (features & HWCAP_AES) != 0 && (features & HWCAP_PMULL) != 0;
#else
  return 0;
#endif
}

int scrim_rwlock_init(pthread_rwlock_t *lock) {
  pthread_rwlockattr_t attributes;
  int error = pthread_rwlockattr_init(&attributes);
  if (error != 0) return error;
  // The default lets readers starve a writer for as long as they overlap.
  error = pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
  if (error == 0) error = pthread_rwlock_init(lock, &attributes);
  pthread_rwlockattr_destroy(&attributes);
  return error;
}
