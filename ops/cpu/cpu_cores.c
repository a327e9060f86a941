// How many cores this process may use: the affinity mask, cut to what the cgroup grants, as in a
// container with a CPU limit, where more threads than the quota only wait for each other.

#define _GNU_SOURCE // sched_getaffinity, CPU_COUNT; before any header of the system

#include "ops/cpu/cpu_backend.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t affinity_cores(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    // A machine with more than 1024 cores has no room in this set and fails here.
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    return CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
}

static bool read_line(const char *path, char *line, int bytes) {
    FILE *file = fopen(path, "re");
    if (file == NULL) return false;
    const bool got = fgets(line, bytes, file) != NULL;
    fclose(file);
    return got;
}

// The whole number at *at, which moves behind it; false where there is none, as in "max".
static bool take_number(const char **at, int64_t *value) {
    char *end = NULL;
    errno = 0;
    *value = strtoll(*at, &end, 10);
    if (end == *at || errno != 0) return false;
    *at = end;
    return true;
}

// The quota in cores, rounded up; 0: none. Version 2: "max 100000" or "150000 100000".
static int64_t quota_of(int64_t quota_us, int64_t period_us) {
    if (quota_us <= 0 || period_us <= 0) return 0;
    return (quota_us + period_us - 1) / period_us;
}

static int64_t quota_v2(const char *folder) {
    char path[512];
    char line[128];
    const char *at = line;
    int64_t quota_us = 0;
    int64_t period_us = 0;
    const int length = snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", folder);
    if (length < 0 || (size_t)length >= sizeof path) return 0;
    if (!read_line(path, line, sizeof line)) return 0;
    if (!take_number(&at, &quota_us) || !take_number(&at, &period_us)) return 0;
    return quota_of(quota_us, period_us);
}

static bool read_number(const char *controller, const char *name, int64_t *value) {
    char path[128];
    char line[128];
    const char *at = line;
    snprintf(path, sizeof path, "/sys/fs/cgroup/%s/%s", controller, name);
    return read_line(path, line, sizeof line) && take_number(&at, value);
}

static int64_t quota_v1(const char *controller) {
    int64_t quota_us = 0;
    int64_t period_us = 0;
    if (!read_number(controller, "cpu.cfs_quota_us", &quota_us) ||
        !read_number(controller, "cpu.cfs_period_us", &period_us)) {
        return 0;
    }
    return quota_of(quota_us, period_us);
}

static void keep_least(int64_t *least, int64_t quota) {
    if (quota > 0 && (*least == 0 || quota < *least)) *least = quota;
}

// The tightest quota of the process's own group and all above it, as far as they can be seen.
static int64_t quota_cores(void) {
    char line[512];
    int64_t least = 0;
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "0::", 3) != 0) continue;
        char *folder = line + 3;
        folder[strcspn(folder, "\n")] = '\0';
        for (char *cut = strrchr(folder, '/'); cut != NULL; cut = strrchr(folder, '/')) {
            keep_least(&least, quota_v2(folder));
            *cut = '\0';
        }
    }
    if (file != NULL) fclose(file);
    keep_least(&least, quota_v2(""));
    keep_least(&least, quota_v1("cpu"));
    keep_least(&least, quota_v1("cpu,cpuacct"));
    return least;
}

int64_t cpu_cores(void) {
    const int64_t cores = affinity_cores();
    const int64_t quota = quota_cores();
    return quota > 0 && quota < cores ? quota : cores;
}
