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

void cpu_seat_here(struct cpu_seat *seat) {
    cpu_set_t set;
    *seat = (struct cpu_seat){.machine = cpu_machine_id()};
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) seat->machine = 0;
    _Static_assert(sizeof seat->cores * 8 == CPU_SETSIZE, "a bit a core");
    for (size_t core = 0; core < CPU_SETSIZE; core++) {
        if (CPU_ISSET(core, &set)) seat->cores[core / 64] |= UINT64_C(1) << core % 64;
    }
}

int32_t cpu_seats_shared(const struct cpu_seat *seats, int32_t count, int32_t own) {
    int32_t shared = 0;
    if (seats[own].machine == 0) return 0;
    for (int32_t i = 0; i < count; i++) {
        uint64_t both = 0;
        for (size_t word = 0; word < sizeof seats->cores / sizeof seats->cores[0]; word++) {
            both |= seats[i].cores[word] & seats[own].cores[word];
        }
        if (seats[i].machine == seats[own].machine && both != 0) shared++;
    }
    return shared;
}

int64_t cpu_cores_share(int64_t bound, int32_t mask_ranks, int64_t granted, int32_t machine_ranks) {
    const int64_t cores = bound / mask_ranks, quota = granted / machine_ranks;
    const int64_t share = granted > 0 && quota < cores ? quota : cores;
    return share > 0 ? share : 1;
}
