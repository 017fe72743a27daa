#define _GNU_SOURCE
#include "CLinuxTransport.h"

#include <dirent.h>
#include <errno.h>
#include <linux/capability.h>
#include <linux/ioprio.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

int scrim_pin_thread(int processor) {
  if (processor < 0) return -EINVAL;
  size_t size = CPU_ALLOC_SIZE(processor + 1);
  cpu_set_t *set = CPU_ALLOC(processor + 1);
  if (set == NULL) return -ENOMEM;
  CPU_ZERO_S(size, set);
  CPU_SET_S(processor, size, set);
  int result = sched_setaffinity(0, size, set) == 0 ? 0 : -errno;
  CPU_FREE(set);
  return result;
}

int scrim_unpin_thread(void) {
  // Room for more processors than any kernel is built for.
  cpu_set_t own[64], first[64];
  if (sched_getaffinity(0, sizeof own, own) != 0 || sched_getaffinity(getpid(), sizeof first, first) != 0)
    return -errno;
  // To set the same again would keep the thread from processors that come later.
  if (memcmp(own, first, sizeof own) == 0) return 0;
  return sched_setaffinity(0, sizeof first, first) == 0 ? 0 : -errno;
}

static int set_policy(int thread, int policy) {
  struct sched_param none = {0};
  return sched_setscheduler(thread, policy, &none) == 0 ? 0 : -errno;
}

// A thread without an I/O priority of its own has the one of its policy; SCHED_IDLE's would starve it.
static int keep_io_priority(int thread) {
  long priority = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, thread);
  if (priority < 0) return -errno;
  if (IOPRIO_PRIO_CLASS(priority) != IOPRIO_CLASS_NONE) return 0;
  // As ioprio_set(2) has it for other policies.
  int level = (getpriority(PRIO_PROCESS, thread) + 20) / 5;
  priority = IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, level);
  return syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, thread, priority) == 0 ? 0 : -errno;
}

int scrim_set_idle_policy(int idle) {
  DIR *threads = opendir("/proc/self/task");
  if (threads == NULL) return -errno;
  int failure = 0, changed;
  // Again while there are any, since threads not yet seen may have started others.
  do {
    changed = 0;
    rewinddir(threads);
    for (struct dirent *entry; (entry = readdir(threads)) != NULL;) {
      int thread = atoi(entry->d_name);
      // Another policy is somebody's choice.
      if (thread == 0 || thread == gettid() || sched_getscheduler(thread) != (idle ? SCHED_OTHER : SCHED_IDLE)) continue;
      int result = idle ? keep_io_priority(thread) : 0;
      if (result == 0) result = set_policy(thread, idle ? SCHED_IDLE : SCHED_OTHER);
      if (result == 0) changed = 1;
      // A thread that has ended meanwhile is no failure.
      else if (failure == 0 && result != -ESRCH) failure = result;
    }
  } while (changed);
  closedir(threads);
  return failure;
}

int scrim_try_idle_policy(void) {
  if (sched_getscheduler(0) != SCHED_OTHER) return -EPERM;
  int result = set_policy(0, SCHED_IDLE);
  return result == 0 ? set_policy(0, SCHED_OTHER) : result;
}

static int get_capabilities(struct __user_cap_data_struct data[2]) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  return syscall(SYS_capget, &header, data) == 0 ? 0 : -errno;
}

// The raw call changes this thread only, which is the point: glibc has no wrapper that spreads it.
static int set_capabilities(const struct __user_cap_data_struct data[2]) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  return syscall(SYS_capset, &header, data) == 0 ? 0 : -errno;
}

int scrim_has_capability(int capability) {
  struct __user_cap_data_struct data[2];
  int result = get_capabilities(data);
  if (result < 0) return result;
  return (data[capability / 32].effective >> (capability % 32)) & 1;
}

int scrim_drop_capability(int capability) {
  struct __user_cap_data_struct data[2];
  int result = get_capabilities(data);
  if (result < 0) return result;
  uint32_t bit = 1u << (capability % 32);
  if (!(data[capability / 32].effective & bit)) return 0;
  data[capability / 32].effective &= ~bit;
  result = set_capabilities(data);
  return result < 0 ? result : 1;
}

int scrim_raise_capability(int capability) {
  struct __user_cap_data_struct data[2];
  int result = get_capabilities(data);
  if (result < 0) return result;
  data[capability / 32].effective |= 1u << (capability % 32);
  return set_capabilities(data);
}
