#include "ops/base/cgroup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOT "/sys/fs/cgroup"

static bool read_line(const char *path, char *line, int bytes) {
    FILE *file = fopen(path, "re");
    if (file == NULL) return false;
    const bool got = fgets(line, bytes, file) != NULL;
    fclose(file);
    return got;
}

bool cgroup_take_number(const char **at, int64_t *value) {
    char *end = NULL;
    errno = 0;
    *value = strtoll(*at, &end, 10);
    if (end == *at || errno != 0) return false;
    *at = end;
    return true;
}

static int64_t limit_of(const char *folder, const char *name, int64_t (*read)(const char *line)) {
    char path[512];
    char line[128];
    const int length = snprintf(path, sizeof path, ROOT "%s/%s", folder, name);
    if (length < 0 || (size_t)length >= sizeof path) return 0;
    return read_line(path, line, sizeof line) ? read(line) : 0;
}

static void keep_least(int64_t *least, int64_t limit) {
    if (limit > 0 && (*least == 0 || limit < *least)) *least = limit;
}

int64_t cgroup_least(const char *name, int64_t (*read)(const char *line)) {
    char line[512];
    int64_t least = 0;
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "0::", 3) != 0) continue;
        char *folder = line + 3;
        folder[strcspn(folder, "\n")] = '\0';
        for (char *cut = strrchr(folder, '/'); cut != NULL; cut = strrchr(folder, '/')) {
            keep_least(&least, limit_of(folder, name, read));
            *cut = '\0';
        }
    }
    if (file != NULL) fclose(file);
    keep_least(&least, limit_of("", name, read));
    return least;
}

bool cgroup_number(const char *controller, const char *name, int64_t *value) {
    char path[128];
    char line[128];
    const char *at = line;
    snprintf(path, sizeof path, ROOT "/%s/%s", controller, name);
    return read_line(path, line, sizeof line) && cgroup_take_number(&at, value);
}
