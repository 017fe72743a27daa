// Lets a test see and fail the system calls of its own thread.
#ifndef SYSTEM_CALL_SEAM_H
#define SYSTEM_CALL_SEAM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum seam_kind {
  seam_open,
  seam_status,
  seam_mkdir,
  seam_mknod,
  seam_unlink,
  seam_rename,
  seam_link,
  seam_symlink,
  seam_readlink,
  seam_chown,
  seam_chmod,
  seam_times,
  seam_get_attribute,
  seam_set_attribute,
  seam_remove_attribute,
  seam_list_attributes,
  seam_read,
  seam_write,
  seam_truncate,
  seam_allocate,
  seam_sync_data,
  seam_sync_file,
  seam_sync_filesystem,
  seam_list_directory,
};

// A call as it was made; what it does not have is zero. Pointers are good until the callback returns.
struct seam_call {
  enum seam_kind kind;
  int descriptor;        // of the file, or where `path` starts
  const char *path;      // NULL where the call is about a descriptor
  int other_descriptor;  // where `other_path` starts
  const char *other_path;
  const char *name;      // of an attribute
  const void *bytes;     // to be written, of an attribute's value, or a link's target
  size_t count;
  int64_t offset;        // also the length of a truncation
  int flags;             // as the call takes them
  uint32_t mode;
};

struct seam {
  void *context;
  // Before a call: zero lets it happen, anything else is the errno it fails with.
  int (*before)(void *context, const struct seam_call *call);
  // After a call that was made and succeeded.
  void (*after)(void *context, const struct seam_call *call, int64_t result);
};

// Watches the calls of this thread from now on; NULL stops it. Calls made by the callbacks are not seen.
void seam_watch(const struct seam *seam);

#endif
