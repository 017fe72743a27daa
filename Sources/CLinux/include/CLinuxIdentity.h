#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// Takes the real and effective identity of a user in the whole process, with the groups of the user database. Root's is
/// kept aside for scrim_raise_root(). Only root can.
int scrim_serve_as(uint32_t user, uint32_t group);

/// Takes root's identity, put aside by scrim_serve_as(), as the effective one. The real one stays the user's.
int scrim_raise_root(void);

/// Gives root's identity up for good, and with it every capability.
int scrim_renounce_root(uint32_t user);

/// getxattr(2) by a thread of its own that is the given user, for root, whom FUSE mounts of others keep out.
ssize_t scrim_getxattr_as(
    uint32_t user, uint32_t group, const char *path, const char *name, void *value, size_t size);
