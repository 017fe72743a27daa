// Preloaded into a daemon: the calls of the kinds that are set in the file that SCRIM_TEST_FAILURES names fail.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LIST = 1, MKDIR = 2, RENAME = 4, SYNC = 8, UNLINK = 16, SYMLINK = 32, LINK = 64, CREATE = 128, LOCK = 256 };

static volatile struct {
  uint32_t kinds;
  int32_t error;
  uint32_t failed;
} *control;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("SCRIM_TEST_FAILURES");
  int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *map = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (map != MAP_FAILED) control = map;
}

static int fails(uint32_t kind) {
  if (control == NULL || !(control->kinds & kind)) return 0;
  __atomic_add_fetch(&control->failed, 1, __ATOMIC_RELAXED);
  errno = control->error;
  return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int mkdirat(int folder, const char *path, mode_t mode) {
  return fails(MKDIR) ? -1 : REAL(mkdirat)(folder, path, mode);
}

int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
  return fails(RENAME) ? -1 : REAL(renameat2)(from, old, to, new, flags);
}

int fsync(int file) { return fails(SYNC) ? -1 : REAL(fsync)(file); }

int unlinkat(int folder, const char *path, int flags) {
  return fails(UNLINK) ? -1 : REAL(unlinkat)(folder, path, flags);
}

int symlinkat(const char *target, int folder, const char *path) {
  return fails(SYMLINK) ? -1 : REAL(symlinkat)(target, folder, path);
}

int linkat(int from, const char *old, int to, const char *new, int flags) {
  return fails(LINK) ? -1 : REAL(linkat)(from, old, to, new, flags);
}

int fcntl64(int file, int command, ...) {
  va_list list;
  va_start(list, command);
  void *argument = va_arg(list, void *);
  va_end(list);
  int isLock = command == F_OFD_SETLK || command == F_OFD_SETLKW;
  return isLock && fails(LOCK) ? -1 : REAL(fcntl64)(file, command, argument);
}

int fcntl(int file, int command, ...) __attribute__((alias("fcntl64")));

int openat(int folder, const char *path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(list, mode_t) : 0;
  va_end(list);
  return flags & O_CREAT && fails(CREATE) ? -1 : REAL(openat)(folder, path, flags, mode);
}

long syscall(long number, ...) {
  long a[6];
  va_list list;
  va_start(list, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
  va_end(list);
  if (number == SYS_getdents64 && fails(LIST)) return -1;
  return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
