// What Swift cannot import from libc: variadics, macros, ioctl numbers, newer kernel structures.
// Unless said otherwise a function returns -1 and sets errno on failure, and does not retry EINTR.
#pragma once
#include "CLinuxBroker.h"
#include "CLinuxIdentity.h"
#include "CLinuxTransport.h"
#include <pthread.h>
#include <stdint.h>
#include <sys/types.h>

// open(2)
extern const int scrim_O_PATH;
extern const int scrim_O_TMPFILE;
extern const int scrim_O_DIRECT;
extern const int scrim_O_NOATIME;

// The AT_ flags that only _GNU_SOURCE shows.
extern const int scrim_AT_EMPTY_PATH;
extern const int scrim_AT_STATX_DONT_SYNC;

// renameat2(2)
extern const unsigned scrim_RENAME_NOREPLACE;
extern const unsigned scrim_RENAME_EXCHANGE;
extern const unsigned scrim_RENAME_WHITEOUT;

// fallocate(2)
extern const int scrim_FALLOC_FL_KEEP_SIZE;
extern const int scrim_FALLOC_FL_PUNCH_HOLE;
extern const int scrim_FALLOC_FL_COLLAPSE_RANGE;
extern const int scrim_FALLOC_FL_ZERO_RANGE;
extern const int scrim_FALLOC_FL_INSERT_RANGE;
extern const int scrim_FALLOC_FL_UNSHARE_RANGE;

// lseek(2)
extern const int scrim_SEEK_DATA;
extern const int scrim_SEEK_HOLE;

// statx(2): the fields a caller asks for.
extern const unsigned scrim_STATX_TYPE;
extern const unsigned scrim_STATX_MODE;
extern const unsigned scrim_STATX_INO;
extern const unsigned scrim_STATX_SIZE;
extern const unsigned scrim_STATX_MTIME;
extern const unsigned scrim_STATX_BASIC_STATS;
extern const unsigned scrim_STATX_BTIME;
extern const unsigned scrim_STATX_MNT_ID;

// struct statx with its device numbers joined, in a shape that needs no _GNU_SOURCE.
struct scrim_status {
  uint64_t device, inode, rdevice, size, blocks, attributes, mount_id;
  uint32_t mask, mode, links, uid, gid, block_size;
  int64_t access_seconds, modification_seconds, change_seconds, birth_seconds;
  uint32_t access_nanoseconds, modification_nanoseconds, change_nanoseconds, birth_nanoseconds;
};

struct scrim_filesystem {
  uint64_t type, blocks, free_blocks, available_blocks, files, free_files, id;
  uint64_t block_size, fragment_size, name_length, flags;
};

int scrim_openat(int dirfd, const char *path, int flags, mode_t mode);
int scrim_statx(int dirfd, const char *path, int flags, unsigned mask, struct scrim_status *out);
int scrim_fstatfs(int fd, struct scrim_filesystem *out);
int scrim_renameat2(int olddir, const char *old, int newdir, const char *new, unsigned flags);
int scrim_faccessat2(int dirfd, const char *path, int mode, int flags);
int scrim_fallocate(int fd, int mode, off_t offset, off_t length);
int scrim_syncfs(int fd);
ssize_t scrim_copy_file_range(int in, off_t *in_offset, int out, off_t *out_offset, size_t length);
int scrim_ficlone(int destination, int source);
ssize_t scrim_getdents64(int fd, void *buffer, size_t size);
int scrim_fadvise(int fd, off_t offset, off_t length, int advice);

// futimens/utimensat with the two special values; kind 0 sets, 1 is UTIME_NOW, 2 is UTIME_OMIT.
// A null path acts on `fd` itself, an O_PATH descriptor included.
struct scrim_time_update {
  int64_t seconds;
  uint32_t nanoseconds;
  int kind;
};
int scrim_utimens(int fd, const char *path, int flags, struct scrim_time_update access,
                  struct scrim_time_update modification);

// What takes only a path, on the object an O_PATH descriptor stands for (/proc/self/fd/N).
int scrim_reopen(int fd, int flags);
int scrim_chmod_descriptor(int fd, mode_t mode);
int scrim_link_descriptor(int fd, int newdir, const char *name);
ssize_t scrim_getxattr_descriptor(int fd, const char *name, void *value, size_t size);
int scrim_setxattr_descriptor(int fd, const char *name, const void *value, size_t size, int flags);
ssize_t scrim_listxattr_descriptor(int fd, char *list, size_t size);
int scrim_removexattr_descriptor(int fd, const char *name);

// lgetxattr of "/proc/self/fd/<dirfd>/<name>": by directory and name without opening the file.
ssize_t scrim_getxattr_at(int dirfd, const char *name, const char *attribute, void *value,
                          size_t size);

ssize_t scrim_fgetxattr(int fd, const char *name, void *value, size_t size);
int scrim_fsetxattr(int fd, const char *name, const void *value, size_t size, int flags);
ssize_t scrim_flistxattr(int fd, char *list, size_t size);
int scrim_fremovexattr(int fd, const char *name);

// Open-file-description locks; type is F_RDLCK, F_WRLCK or F_UNLCK. The query stores the lock that
// is in the way (type F_UNLCK: none) into the same fields.
struct scrim_record_lock {
  int64_t start, length;
  int32_t pid;
  int16_t type;
};
int scrim_ofd_set(int fd, const struct scrim_record_lock *lock, int wait);
int scrim_ofd_query(int fd, struct scrim_record_lock *lock);

// Swift takes `flock` for the structure.
int scrim_flock(int fd, int operation);

int scrim_fcntl(int fd, int command, int argument);

// FUSE_DEV_IOC_BACKING_OPEN and _CLOSE on a session's descriptor; open returns the backing ID.
int scrim_fuse_backing_open(int session, int backing);
int scrim_fuse_backing_close(int session, int32_t backing_id);

// The calling thread only, as the kernel has it; the previous ID is returned, never an error.
uint32_t scrim_setfsuid(uint32_t uid);
uint32_t scrim_setfsgid(uint32_t gid);
int scrim_set_thread_groups(size_t count, const uint32_t *groups);

int scrim_set_dumpable(int dumpable);
int scrim_set_thread_name(const char *name);

// Anonymous private memory; NULL and errno on failure.
void *scrim_map_anonymous(size_t size);
int scrim_exclude_from_dumps(void *start, size_t size);
int scrim_wipe_on_fork(void *start, size_t size);
ssize_t scrim_getrandom(void *buffer, size_t size);

// 1 when the processor multiplies and encrypts for AES-GCM in hardware.
int scrim_has_aes_instructions(void);

// A lock that lets a waiting writer go before new readers; returns the error, as pthread does.
int scrim_rwlock_init(pthread_rwlock_t *lock);
