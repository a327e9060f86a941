#pragma once
// What the control groups of this process allow, as a container's limits do.

#include "ops/base/linkage.h"

#include <stdbool.h>
#include <stdint.h>

C_BEGIN

// Version 2: the least of file `name`, such as "cpu.max", in the process's own group and all above it, as
// far as they can be seen. read: its line as a limit; 0: it sets none. 0: nobody does.
int64_t cgroup_least(const char *name, int64_t (*read)(const char *line));
// Version 1: the whole number in controller/name; false: there is none.
bool cgroup_number(const char *controller, const char *name, int64_t *value);
// The whole number at *at, which moves behind it; false where there is none, as in "max".
bool cgroup_take_number(const char **at, int64_t *value);

C_END
