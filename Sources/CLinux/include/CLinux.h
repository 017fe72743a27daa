// What Swift cannot import from libc: variadics, macros, ioctl numbers, newer kernel structures.
#pragma once
#include <stdint.h>
#include <sys/types.h>

int scrim_openat(int dirfd, const char *path, int flags, mode_t mode);
