#define _GNU_SOURCE
#include "CLinuxTransport.h"

#include <dirent.h>
#include <errno.h>
#include <linux/capability.h>
#include <linux/ioprio.h>
#include <sched.h>
#include <stdlib.h>
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
  cpu_set_t set[64];
  int size = sched_getaffinity(getpid(), sizeof set, set);
  return size >= 0 && sched_setaffinity(0, sizeof set, set) == 0 ? 0 : -errno;
}

static int step_behind(int thread) {
  // Another policy is somebody's choice.
  if (sched_getscheduler(thread) != SCHED_OTHER) return 0;
  long priority = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, thread);
  if (priority < 0) return -errno;
  if (IOPRIO_PRIO_CLASS(priority) == IOPRIO_CLASS_NONE) priority = IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, IOPRIO_BE_NORM);
  if (syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, thread, priority) != 0) return -errno;
  struct sched_param none = {0};
  return sched_setscheduler(thread, SCHED_IDLE, &none) == 0 ? 1 : -errno;
}

int scrim_step_behind(void) {
  DIR *threads = opendir("/proc/self/task");
  if (threads == NULL) return -errno;
  int result;
  // Again while there are any, since threads not yet seen may have started others.
  do {
    result = 0;
    rewinddir(threads);
    for (struct dirent *entry; result >= 0 && (entry = readdir(threads)) != NULL;) {
      int thread = atoi(entry->d_name);
      if (thread == 0) continue;
      int one = step_behind(thread);
      // A thread that has ended meanwhile is no failure.
      if (one == 1 || (one < 0 && one != -ESRCH)) result = one;
    }
  } while (result == 1);
  closedir(threads);
  return result;
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
