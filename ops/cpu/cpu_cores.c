// How many cores this process may use: the affinity mask, cut to what the cgroup grants, as in a
// container with a CPU limit, where more threads than the quota only wait for each other.

#define _GNU_SOURCE // sched_getaffinity, CPU_COUNT; before any header of the system

#include "ops/base/cgroup.h"
#include "ops/cpu/cpu_backend.h"

#include <sched.h>

int64_t cpu_cores_bound(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    // A machine with more than 1024 cores has no room in this set and fails here.
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    return CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
}

// The quota in cores, rounded up; 0: none.
static int64_t quota_of(int64_t quota_us, int64_t period_us) {
    if (quota_us <= 0 || period_us <= 0) return 0;
    return (quota_us + period_us - 1) / period_us;
}

// "max 100000" or "150000 100000".
static int64_t quota_v2(const char *line) {
    int64_t quota_us = 0;
    int64_t period_us = 0;
    if (!cgroup_take_number(&line, &quota_us) || !cgroup_take_number(&line, &period_us)) return 0;
    return quota_of(quota_us, period_us);
}

static int64_t quota_v1(const char *controller) {
    int64_t quota_us = 0;
    int64_t period_us = 0;
    if (!cgroup_number(controller, "cpu.cfs_quota_us", &quota_us) ||
        !cgroup_number(controller, "cpu.cfs_period_us", &period_us)) {
        return 0;
    }
    return quota_of(quota_us, period_us);
}

static int64_t lesser(int64_t a, int64_t b) {
    return a == 0 || (b > 0 && b < a) ? b : a;
}

int64_t cpu_cores_granted(void) {
    return lesser(lesser(cgroup_least("cpu.max", quota_v2), quota_v1("cpu")),
                  quota_v1("cpu,cpuacct"));
}

int64_t cpu_cores(void) {
    const int64_t bound = cpu_cores_bound();
    const int64_t granted = cpu_cores_granted();
    return granted > 0 && granted < bound ? granted : bound;
}
