// One copy of the weights for all ranks of a machine. The first of them, the owner, lays them out in
// memory without a name (memfd), which lives as long as anyone has it open or mapped: nothing is left
// behind however the ranks end, and no limit of /dev/shm is in the way. The others open it through
// /proc and read what the owner has written.
//
// All place the same weights in the same order, so a weight's place is known without being told. Only
// the owner writes; the others count along, and must not read before they have agreed with the owner
// that both have placed the same model (pipeline_agree), which it says after its last write.

#define _GNU_SOURCE // memfd_create, fallocate; before any header of the system

#include "ops/base/check.h"
#include "ops/base/hash.h"
#include "ops/cpu/kernels.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ALIGNMENT ((size_t)4096)

// Ranks that are threads have one mapping together.
struct shared_weights {
    struct shared_weights *next;
    uint64_t device, inode;
    int fd;
    char *base; // room bytes of addresses; behind them as much memory as the owner has placed
    size_t room;
    int64_t users;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct shared_weights *mappings; // of this process

uint64_t cpu_machine_id(void) {
    char text[64] = "";
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (file == NULL) return 0;
    const bool got = fgets(text, sizeof text, file) != NULL;
    fclose(file);
    return got ? hash_bytes(text, strlen(text)) : 0;
}

// Addresses for all the memory there is: how much the weights will need is not known yet.
static size_t machine_room(void) {
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (size_t)pages * (size_t)page : 0;
}

// Takes the fd over. NULL: errno says why.
static struct shared_weights *map(int fd, bool owner) {
    struct stat about;
    struct shared_weights *made = calloc(1, sizeof *made);
    void *base = MAP_FAILED;
    const size_t room = machine_room();
    const int access = owner ? PROT_READ | PROT_WRITE : PROT_READ;
    if (made != NULL && fstat(fd, &about) == 0) {
        base = mmap(NULL, room, access, MAP_SHARED | MAP_NORESERVE, fd, 0);
    }
    if (base == MAP_FAILED) {
        const int why = errno;
        free(made);
        close(fd);
        errno = why;
        return NULL;
    }
    (void)madvise(base, room, MADV_HUGEPAGE);
    *made = (struct shared_weights){.device = about.st_dev,
                                    .inode = about.st_ino,
                                    .fd = fd,
                                    .base = base,
                                    .room = room,
                                    .users = 1};
    pthread_mutex_lock(&lock);
    made->next = mappings;
    mappings = made;
    pthread_mutex_unlock(&lock);
    return made;
}

static struct shared_weights *find_here(const struct cpu_offer *offer) {
    pthread_mutex_lock(&lock);
    struct shared_weights *found = mappings;
    while (found != NULL && (found->device != offer->device || found->inode != offer->inode)) {
        found = found->next;
    }
    if (found != NULL) found->users++;
    pthread_mutex_unlock(&lock);
    return found;
}

static struct shared_weights *find_there(const struct cpu_offer *offer) {
    char path[64];
    struct stat about;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", offer->process, offer->fd);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return NULL;
    // Another process may have that number where /proc is not the owner's.
    if (fstat(fd, &about) != 0 || about.st_dev != offer->device || about.st_ino != offer->inode) {
        close(fd);
        errno = ESRCH;
        return NULL;
    }
    return map(fd, false);
}

void cpu_share_offer(struct backend *backend, bool first, struct cpu_offer *offer) {
    struct cpu_backend *cpu = cpu_backend_of(backend);
    memset(offer, 0, sizeof *offer); // it is sent as bytes
    offer->machine = cpu_machine_id();
    snprintf(offer->layout, sizeof offer->layout, "%s %d", cpu_layout(cpu), (int)cpu->parts);
    if (!first || offer->machine == 0) return;
    const int fd = memfd_create("longscan-weights", MFD_CLOEXEC);
    cpu->share.memory = fd < 0 ? NULL : map(fd, true);
    if (cpu->share.memory == NULL) {
        LOG(INFO, "every rank keeps a copy of the weights: shared memory cannot be made: %s",
            strerror(errno));
        return;
    }
    cpu->share.owner = true;
    offer->process = getpid();
    offer->fd = fd;
    offer->device = cpu->share.memory->device;
    offer->inode = cpu->share.memory->inode;
}

static bool fits(const struct cpu_offer *offer, const struct cpu_offer *own) {
    return offer->process != 0 && offer->machine == own->machine &&
           memcmp(offer->layout, own->layout, sizeof own->layout) == 0;
}

bool cpu_share_begin(struct backend *backend, const struct cpu_offer *offers, int32_t count,
                     int32_t own) {
    struct cpu_backend *cpu = cpu_backend_of(backend);
    if (!cpu->share.owner) {
        int32_t from = 0;
        while (from < count && !fits(&offers[from], &offers[own])) {
            from++;
        }
        if (from == count) return false; // nobody offers
        cpu->share.memory = find_here(&offers[from]);
        if (cpu->share.memory == NULL) cpu->share.memory = find_there(&offers[from]);
        if (cpu->share.memory == NULL) {
            LOG(INFO, "rank %d keeps a copy of the weights, for it cannot reach rank %d's: %s", own,
                from, strerror(errno));
        }
    }
    cpu->share.open = cpu->share.memory != NULL;
    return cpu->share.open;
}

size_t cpu_share_end(struct backend *backend) {
    struct cpu_backend *cpu = cpu_backend_of(backend);
    cpu->share.open = false;
    return cpu->share.used;
}

// Real memory, so that a lack of it is an error here and not a signal later. A signal interrupts it.
static int grow(const struct shared_weights *shared, size_t from, size_t bytes) {
    int failed = EINTR;
    while (bytes > 0 && failed == EINTR) {
        failed = posix_fallocate(shared->fd, (off_t)from, (off_t)bytes);
    }
    return bytes > 0 ? failed : 0;
}

enum status cpu_share_place(struct cpu_backend *cpu, size_t bytes, void **memory, bool *written) {
    struct shared_weights *shared = cpu->share.memory;
    const size_t whole = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (bytes > shared->room - cpu->share.used || whole > shared->room - cpu->share.used) {
        return FAIL(NO_MEMORY, "%zu bytes of weights: more than the machine's memory", bytes);
    }
    const int failed = cpu->share.owner ? grow(shared, cpu->share.used, whole) : 0;
    if (failed != 0) {
        return FAIL(NO_MEMORY, "%zu bytes of weights that the ranks of this machine share: %s",
                    bytes, strerror(failed));
    }
    *memory = shared->base + cpu->share.used;
    *written = !cpu->share.owner;
    cpu->share.used += whole;
    return STATUS_OK;
}

bool cpu_share_holds(const struct cpu_backend *cpu, const void *memory) {
    const struct shared_weights *shared = cpu->share.memory;
    const uintptr_t at = (uintptr_t)memory;
    return shared != NULL && at >= (uintptr_t)shared->base &&
           at - (uintptr_t)shared->base < shared->room;
}

void cpu_share_close(struct cpu_backend *cpu) {
    struct shared_weights *shared = cpu->share.memory;
    if (shared == NULL) return;
    pthread_mutex_lock(&lock);
    struct shared_weights **at = &mappings;
    while (*at != shared) {
        at = &(*at)->next;
    }
    const bool last = --shared->users == 0;
    if (last) *at = shared->next;
    pthread_mutex_unlock(&lock);
    if (last) {
        (void)munmap(shared->base, shared->room);
        close(shared->fd);
        free(shared);
    }
    cpu->share.memory = NULL;
}
