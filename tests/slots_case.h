#pragma once
// A store of slots in a folder of its own, and states that are told apart by a number.

#include "pipeline/slots.h"
#include "tests/host_backend.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

enum { SLOT_BYTES = 10000, HEADER_BYTES = 192 };

static struct backend backend;

struct place {
    char folder[64];
    char spill[80];
    char file[80];
};

static inline int set_up(void **state) {
    struct place *place = calloc(1, sizeof *place);
    if (place == NULL) return 1;
    backend = host_backend();
    (void)snprintf(place->folder, sizeof place->folder, "/tmp/slots_test-XXXXXX");
    if (mkdtemp(place->folder) == NULL) return 1;
    (void)snprintf(place->spill, sizeof place->spill, "%s/spill", place->folder);
    (void)snprintf(place->file, sizeof place->file, "%s/state", place->folder);
    *state = place;
    return 0;
}

static inline int tear_down(void **state) {
    struct place *place = *state;
    (void)unlink(place->file);
    (void)rmdir(place->spill);
    const int left = rmdir(place->folder); // so that a file left behind is seen
    free(place);
    return left;
}

static inline struct slots *slots_of(const struct place *place, int64_t device, int64_t host) {
    const struct slots_settings settings = {.slot_bytes = SLOT_BYTES,
                                            .device_slots = device,
                                            .host_bytes = (size_t)host * SLOT_BYTES + 5,
                                            .folder = place->spill};
    struct slots *slots = NULL;
    assert_int_equal(slots_open(&backend, &settings, &slots), STATUS_OK);
    return slots;
}

static inline void fill(char *state, uint64_t seed) {
    for (size_t i = 0; i < SLOT_BYTES; i++) {
        state[i] = (char)((seed * 0x9e3779b97f4a7c15u + i * (seed + 3)) >> 13);
    }
}

static inline bool filled(const char *state, uint64_t seed) {
    static char should[SLOT_BYTES];
    fill(should, seed);
    return memcmp(state, should, SLOT_BYTES) == 0;
}

static inline void put(struct slots *slots, uint64_t key, uint64_t seed) {
    char *state = NULL;
    assert_int_equal(slots_make(slots, &state), STATUS_OK);
    fill(state, seed);
    assert_int_equal(slots_keep(slots, key, state), STATUS_OK);
}

// The state is what it should be, and leaves.
static inline void assert_taken(struct slots *slots, uint64_t key, uint64_t seed) {
    struct entry *lent = NULL;
    const char *found = NULL;
    assert_int_equal(slots_borrow(slots, key, &lent, &found), STATUS_OK);
    slots_drop(slots, key);
    assert_true(filled(found, seed));
    slots_return(slots, lent);
}

// Unknown, or damaged.
static inline void assert_refused(struct slots *slots, uint64_t key) {
    struct entry *lent = NULL;
    const char *found = NULL;
    assert_int_equal(slots_borrow(slots, key, &lent, &found), STATUS_MISMATCH);
}

static inline void assert_counts(const struct slots *slots, int64_t device, int64_t host,
                                 int64_t file) {
    const struct slots_counts counts = slots_counts(slots);
    assert_int_equal(counts.device, device);
    assert_int_equal(counts.host, host);
    assert_int_equal(counts.file, file);
}

// The path of the n-th spill file in the store's own folder, or "" if there are fewer.
static inline void spill_file(const struct place *place, int n, char *path, size_t room) {
    DIR *outer = opendir(place->spill);
    path[0] = '\0';
    if (outer == NULL) return;
    for (struct dirent *own = readdir(outer); own != NULL; own = readdir(outer)) {
        char folder[400];
        if (own->d_name[0] == '.') continue;
        (void)snprintf(folder, sizeof folder, "%s/%s", place->spill, own->d_name);
        DIR *inner = opendir(folder);
        for (struct dirent *f = readdir(inner); f != NULL; f = readdir(inner)) {
            if (f->d_name[0] == '.' || n-- != 0) continue;
            (void)snprintf(path, room, "%s/%s", folder, f->d_name);
        }
        closedir(inner);
    }
    closedir(outer);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
