#define _GNU_SOURCE
#include "CLinux.h"

#include <fcntl.h>

int scrim_openat(int dirfd, const char *path, int flags, mode_t mode) {
  return openat(dirfd, path, flags, mode);
}
