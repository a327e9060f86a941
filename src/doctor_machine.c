// Cores, memory and the system's limits.

#include "ops/base/cgroup.h"
#include "ops/cpu/cpu_backend.h"
#include "src/doctor.h"
#include "src/job_folder.h"

#include <dirent.h>
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#define MIB            ((int64_t)1 << 20)
#define MEMORY_LEAST   (512 * MIB) // a small model, its rows and the program
#define SHARED_LEAST   (64 * MIB)  // what ranks of one machine pass through it; Docker's default
#define LOCKED_LEAST   (64 * MIB)  // registered with a network adapter
#define FILES_LEAST    1024        // shards, partitions, ranks
#define INFINIBAND     "/sys/class/infiniband"
#define SHARED_MEMORY  JOB_FOLDERS
#define UNLIMITED_FROM ((int64_t)1 << 60) // how version 1 says "none"

bool doctor_proc_line(const char *path, const char *name, char *value, size_t bytes) {
    char line[512];
    const size_t length = strlen(name);
    bool found = false;
    FILE *file = fopen(path, "re");
    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, length) != 0) continue;
        const char *at = line + length;
        at += strspn(at, " \t:");
        snprintf(value, bytes, "%.*s", (int)strcspn(at, "\n"), at);
        found = true;
    }
    if (file != NULL) fclose(file);
    return found;
}

// "1.5 GiB"; 0 of it for what is not known.
static const char *size_text(int64_t size, char *text, size_t bytes) {
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
    double amount = (double)size / 1024;
    size_t unit = 0;
    while (amount >= 1024 && unit + 1 < sizeof units / sizeof units[0]) {
        amount /= 1024;
        unit++;
    }
    snprintf(text, bytes, "%.4g %s", amount, units[unit]);
    return text;
}

static void find_kernels(struct findings *findings) {
    const char *names[CPU_ISAS_MOST];
    char model[128] = "a processor that /proc/cpuinfo does not name", others[64] = "";
    const size_t count = cpu_isa_list(names, CPU_ISAS_MOST);
    (void)doctor_proc_line("/proc/cpuinfo", "model name", model, sizeof model);
    for (size_t i = 1; i < count; i++) {
        const size_t at = strlen(others);
        snprintf(others + at, sizeof others - at, "%s%s", i == 1 ? ", also " : " ", names[i]);
    }
    const bool slow = strcmp(names[0], "scalar") == 0;
    finding_add(findings, slow ? VERDICT_WARN : VERDICT_OK, "kernels",
                slow ? "fast ones need AVX2 with FMA, AVX-512 or NEON; results are the same" : NULL,
                "%s on %s%s", names[0], model, others);
}

static void find_cores(struct findings *findings) {
    const int64_t bound = cpu_cores_bound(), granted = cpu_cores_granted();
    char list[64] = "not told which";
    (void)doctor_proc_line("/proc/self/status", "Cpus_allowed_list", list, sizeof list);
    if (granted > 0) {
        finding_add(findings, VERDICT_OK, "cores", NULL,
                    "%" PRId64 " used: bound to %" PRId64 " (%s), the cgroup grants %" PRId64,
                    cpu_cores(), bound, list, granted);
    } else {
        finding_add(findings, VERDICT_OK, "cores", NULL,
                    "%" PRId64 " used: bound to them (%s), no cgroup limit", bound, list);
    }
}

static int64_t memory_line(const char *line) {
    int64_t limit = 0;
    return cgroup_take_number(&line, &limit) ? limit : 0; // "max"
}

static int64_t memory_limit(void) {
    int64_t limit = cgroup_least("memory.max", memory_line), old = 0;
    if (limit == 0 && cgroup_number("memory", "memory.limit_in_bytes", &old)) limit = old;
    return limit < UNLIMITED_FROM ? limit : 0;
}

static int64_t memory_kib(const char *name) {
    char value[64];
    const char *at = value;
    int64_t kib = 0;
    return doctor_proc_line("/proc/meminfo", name, value, sizeof value) &&
                   cgroup_take_number(&at, &kib)
               ? kib * 1024
               : 0;
}

static void find_memory(struct findings *findings) {
    char total[32], free[32], limit[32] = "no cgroup limit";
    const int64_t allowed = memory_limit(), available = memory_kib("MemAvailable");
    const int64_t usable = allowed > 0 && allowed < available ? allowed : available;
    const bool little = usable < MEMORY_LEAST;
    if (available == 0) {
        finding_add(findings, VERDICT_OK, "memory", NULL, "not known: /proc/meminfo does not say");
        return;
    }
    size_text(memory_kib("MemTotal"), total, sizeof total);
    size_text(available, free, sizeof free);
    if (allowed > 0) size_text(allowed, limit, sizeof limit);
    finding_add(
        findings, little ? VERDICT_WARN : VERDICT_OK, "memory",
        little ? "give the container or the machine more, or take a smaller --step-tokens" : NULL,
        "%s, %s of it available; %s%s", total, free, allowed > 0 ? "cgroup limit " : "", limit);
}

static void find_shared_memory(struct findings *findings) {
    static const char advice[] =
        "ranks of one machine pass states through it: mount a tmpfs there, "
        "in Docker --shm-size=1g";
    struct statvfs about;
    char size[32], free[32];
    if (statvfs(SHARED_MEMORY, &about) != 0) {
        finding_add(findings, VERDICT_WARN, SHARED_MEMORY, advice, "not there");
        return;
    }
    const int64_t block = (int64_t)about.f_frsize;
    const int64_t free_bytes = block * (int64_t)about.f_bavail;
    const bool little = free_bytes < SHARED_LEAST;
    finding_add(findings, little ? VERDICT_WARN : VERDICT_OK, SHARED_MEMORY, little ? advice : NULL,
                "%s, %s of it free", size_text(block * (int64_t)about.f_blocks, size, sizeof size),
                size_text(free_bytes, free, sizeof free));
}

static bool has_infiniband(void) {
    const struct dirent *entry = NULL;
    DIR *folder = opendir(INFINIBAND);
    bool found = false;
    while (folder != NULL && !found && (entry = readdir(folder)) != NULL) {
        found = entry->d_name[0] != '.';
    }
    if (folder != NULL) closedir(folder);
    return found;
}

static void find_limits(struct findings *findings) {
    struct rlimit locked, files;
    char text[32] = "unlimited";
    if (getrlimit(RLIMIT_MEMLOCK, &locked) == 0) {
        const bool unlimited = locked.rlim_cur == RLIM_INFINITY;
        const bool fabric = has_infiniband();
        const bool little = fabric && !unlimited && (int64_t)locked.rlim_cur < LOCKED_LEAST;
        if (!unlimited) size_text((int64_t)locked.rlim_cur, text, sizeof text);
        finding_add(findings, little ? VERDICT_WARN : VERDICT_OK, "locked memory",
                    little ? "the network adapter needs more: ulimit -l unlimited" : NULL, "%s%s",
                    text, fabric ? "" : "; no InfiniBand adapter wants any");
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        const bool little = files.rlim_cur < FILES_LEAST;
        finding_add(findings, little ? VERDICT_WARN : VERDICT_OK, "open files",
                    little ? "ulimit -n 4096" : NULL, "%llu, could be raised to %llu",
                    (unsigned long long)files.rlim_cur, (unsigned long long)files.rlim_max);
    }
}

void doctor_machine(struct findings *findings) {
    find_kernels(findings);
    find_cores(findings);
    find_memory(findings);
    find_shared_memory(findings);
    find_limits(findings);
}
