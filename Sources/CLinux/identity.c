#define _GNU_SOURCE
#include "CLinuxIdentity.h"

#include <errno.h>
#include <grp.h>
#include <pthread.h>
#include <pwd.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

// glibc's calls change every thread of the process, the kernel's own only the one that makes them.

static int take_groups(uid_t user, gid_t group) {
  struct passwd entry, *found = NULL;
  char text[16384];
  if (getpwuid_r(user, &entry, text, sizeof text, &found) == 0 && found) return initgroups(found->pw_name, group);
  return setgroups(1, &group);
}

int scrim_serve_as(uint32_t user, uint32_t group) {
  if (take_groups(user, group) != 0 || setresgid(group, group, group) != 0) return -errno;
  return setresuid(user, user, 0) == 0 ? 0 : -errno;
}

int scrim_raise_root(void) { return setresuid((uid_t)-1, 0, (uid_t)-1) == 0 ? 0 : -errno; }

int scrim_renounce_root(uint32_t user) {
  if (setresuid(user, user, user) != 0) return -errno;
  // What cannot be taken back is what was given up.
  return setresuid((uid_t)-1, 0, (uid_t)-1) == 0 ? -EPERM : 0;
}

struct question {
  uint32_t user, group;
  const char *path, *name;
  void *value;
  size_t size;
  ssize_t result;
};

static void *ask(void *argument) {
  struct question *question = argument;
  gid_t group = question->group;
  uid_t user = question->user;
  if (syscall(SYS_setgroups, 1, &group) == 0 && syscall(SYS_setresgid, group, group, group) == 0 &&
      syscall(SYS_setresuid, user, user, user) == 0)
    question->result = getxattr(question->path, question->name, question->value, question->size);
  else
    question->result = -1;
  if (question->result < 0) question->result = -errno;
  return NULL;
}

ssize_t scrim_getxattr_as(
    uint32_t user, uint32_t group, const char *path, const char *name, void *value, size_t size) {
  struct question question = {user, group, path, name, value, size, 0};
  pthread_t thread;
  int error = pthread_create(&thread, NULL, ask, &question);
  if (error == 0) error = pthread_join(thread, NULL);
  return error == 0 ? question.result : -error;
}
