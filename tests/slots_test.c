// Slots: states come back bit for bit through every tier, damage and full disks are named, saved
// states are refused wherever they do not fit.

#include "pipeline/slots.h"

#include "tests/host_backend.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { SLOT_BYTES = 10000, HEADER_BYTES = 192 };

static struct backend backend;

struct place {
    char folder[64];
    char spill[80];
    char file[80];
};

static int set_up(void **state) {
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

static int tear_down(void **state) {
    struct place *place = *state;
    (void)unlink(place->file);
    (void)rmdir(place->spill);
    const int left = rmdir(place->folder); // so that a file left behind is seen
    free(place);
    return left;
}

static struct slots *slots_of(const struct place *place, int64_t device, int64_t host) {
    const struct slots_settings settings = {.slot_bytes = SLOT_BYTES,
                                            .device_slots = device,
                                            .host_bytes = (size_t)host * SLOT_BYTES + 5,
                                            .folder = place->spill};
    struct slots *slots = NULL;
    assert_int_equal(slots_open(&backend, &settings, &slots), STATUS_OK);
    return slots;
}

static void fill(char *state, uint64_t seed) {
    for (size_t i = 0; i < SLOT_BYTES; i++) {
        state[i] = (char)((seed * 0x9e3779b97f4a7c15u + i * (seed + 3)) >> 13);
    }
}

static bool filled(const char *state, uint64_t seed) {
    static char should[SLOT_BYTES];
    fill(should, seed);
    return memcmp(state, should, SLOT_BYTES) == 0;
}

static void put(struct slots *slots, uint64_t key, uint64_t seed) {
    char *state = NULL;
    assert_int_equal(slots_make(slots, &state), STATUS_OK);
    fill(state, seed);
    assert_int_equal(slots_keep(slots, key, state), STATUS_OK);
}

static void assert_counts(const struct slots *slots, int64_t device, int64_t host, int64_t file) {
    const struct slots_counts counts = slots_counts(slots);
    assert_int_equal(counts.device, device);
    assert_int_equal(counts.host, host);
    assert_int_equal(counts.file, file);
}

// The path of the n-th spill file in the store's own folder, or "" if there are fewer.
static void spill_file(const struct place *place, int n, char *path, size_t room) {
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

static void oldest_goes_down(void **state) {
    char path[1024];
    struct slots *slots = slots_of(*state, 3, 2);
    char *taken = NULL;
    for (uint64_t key = 0; key < 3; key++) {
        put(slots, key, key);
    }
    assert_counts(slots, 3, 0, 0);
    assert_int_equal(slots_counts(slots).spills, 0);
    put(slots, 3, 3); // 0 to host
    put(slots, 4, 4); // 1 to host
    assert_counts(slots, 3, 2, 0);
    spill_file(*state, 0, path, sizeof path);
    assert_string_equal(path, "");
    put(slots, 5, 5); // 2 to host, 0 to a file
    assert_counts(slots, 3, 2, 1);
    spill_file(*state, 0, path, sizeof path);
    assert_non_null(strstr(path, "0000000000000000.state"));

    assert_int_equal(slots_take(slots, 0, &taken), STATUS_OK); // 3 to host, 1 to a file
    assert_true(filled(taken, 0));
    assert_counts(slots, 2, 2, 1);
    assert_int_equal(slots_take(slots, 9, &taken), STATUS_MISMATCH);
    assert_int_equal(slots_keep(slots, 0, taken), STATUS_OK); // the newest again
    assert_int_equal(slots_take(slots, 4, &taken), STATUS_OK);
    assert_int_equal(slots_counts(slots).loads, 1); // it was still on the device
    assert_true(filled(taken, 4));
    slots_free(slots, taken);
    assert_int_equal(slots_take(slots, 4, &taken), STATUS_MISMATCH); // it has left
    slots_drop(slots, 1);
    slots_drop(slots, 1);
    spill_file(*state, 0, path, sizeof path);
    assert_string_equal(path, "");
    slots_close(slots);
}

static uint64_t draw(uint64_t *random) {
    uint64_t z = *random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    return z ^ (z >> 31);
}

static void pause_ms(long ms) {
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void assert_taken(struct slots *slots, uint64_t key, uint64_t seed) {
    char *taken = NULL;
    assert_int_equal(slots_take(slots, key, &taken), STATUS_OK);
    assert_true(filled(taken, seed));
    slots_free(slots, taken);
}

static void idle_states_go_to_files(void **state) {
    struct slots *slots = slots_of(*state, 4, 2);
    char *taken = NULL;
    for (uint64_t key = 0; key < 6; key++) {
        put(slots, key, key);
    }
    assert_counts(slots, 4, 2, 0); // 0 and 1 in host memory
    assert_int_equal(slots_spill_idle(slots, 3600 * 1000), STATUS_OK);
    assert_counts(slots, 4, 2, 0);

    pause_ms(200);
    const int64_t between_ms = now_ms();
    pause_ms(300);
    assert_int_equal(slots_take(slots, 3, &taken), STATUS_OK);
    assert_int_equal(slots_keep(slots, 3, taken), STATUS_OK); // used again
    assert_int_equal(slots_spill_idle(slots, now_ms() - between_ms), STATUS_OK);
    assert_counts(slots, 1, 0, 5);
    assert_int_equal(slots_counts(slots).idle, 5);
    assert_int_equal(slots_counts(slots).spills, 2 + 3); // off the device
    assert_int_equal(slots_counts(slots).loads, 0);
    assert_int_equal(slots_spill_idle(slots, 3600 * 1000), STATUS_OK);
    assert_counts(slots, 1, 0, 5);

    put(slots, 6, 6); // into a slot that was left: nobody has to go
    put(slots, 7, 7);
    put(slots, 8, 8);
    assert_counts(slots, 4, 0, 5);
    for (uint64_t key = 0; key < 9; key++) {
        assert_taken(slots, key, key);
    }
    assert_counts(slots, 0, 0, 0);
    assert_int_equal(slots_counts(slots).loads, 6); // one made room for the first
    slots_close(slots);
}

static void idle_states_go_some_at_a_time(void **state) {
    const struct place *place = *state;
    const struct slots_settings settings = {
        .slot_bytes = (size_t)30 << 20, .device_slots = 5, .folder = place->spill};
    struct slots *slots = NULL;
    char *made = NULL;
    assert_int_equal(slots_open(&backend, &settings, &slots), STATUS_OK);
    for (uint64_t key = 0; key < 5; key++) {
        assert_int_equal(slots_make(slots, &made), STATUS_OK);
        memset(made, (int)key, settings.slot_bytes);
        assert_int_equal(slots_keep(slots, key, made), STATUS_OK);
    }
    assert_int_equal(slots_spill_idle(slots, 0), STATUS_OK);
    assert_counts(slots, 3, 0, 2); // the oldest, 60 MiB
    assert_int_equal(slots_spill_idle(slots, 0), STATUS_OK);
    assert_int_equal(slots_spill_idle(slots, 0), STATUS_OK);
    assert_counts(slots, 0, 0, 5);
    for (uint64_t key = 0; key < 5; key++) {
        assert_int_equal(slots_take(slots, key, &made), STATUS_OK);
        assert_int_equal(made[0], (char)key);
        assert_memory_equal(made, made + 1, settings.slot_bytes - 1);
        slots_free(slots, made);
    }
    slots_close(slots);
}

static void idle_states_stay_where_the_disk_is_full(void **state) {
    struct rlimit before, tiny;
    struct slots *slots = slots_of(*state, 1, 1);
    void (*const handler)(int) = signal(SIGXFSZ, SIG_IGN);
    put(slots, 1, 1);
    put(slots, 2, 2);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    tiny = before;
    tiny.rlim_cur = 4000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tiny), 0);
    assert_int_equal(slots_spill_idle(slots, 0), STATUS_IO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, handler);
    assert_counts(slots, 1, 1, 0);
    assert_int_equal(slots_counts(slots).idle, 0);
    assert_taken(slots, 1, 1);
    assert_taken(slots, 2, 2);
    slots_close(slots);
}

// Thousands of random calls against a plain array of what each key should hold.
static void random_use_loses_nothing(void **state) {
    enum { KEYS = 150 };
    static const int64_t shapes[][2] = {
        {1,   0 },
        {2,   1 },
        {4,   7 },
        {40,  20},
        {200, 0 }
    };
    uint64_t random = 9;
    for (size_t shape = 0; shape < sizeof shapes / sizeof shapes[0]; shape++) {
        uint64_t holds[KEYS] = {0};
        struct slots *slots = slots_of(*state, shapes[shape][0], shapes[shape][1]);
        int64_t states = 0;
        for (int turn = 0; turn < 1500; turn++) {
            const uint64_t key = draw(&random) % KEYS;
            const uint64_t what = draw(&random) % 8;
            char *taken = NULL;
            if (what == 0) {
                slots_drop(slots, key);
                holds[key] = 0;
            } else if (what == 1 && turn % 7 == 0) {
                assert_int_equal(slots_spill_idle(slots, turn % 2), STATUS_OK);
            } else if (what < 4 || holds[key] == 0) {
                holds[key] = draw(&random) | 1;
                put(slots, key, holds[key]);
            } else {
                assert_int_equal(slots_take(slots, key, &taken), STATUS_OK);
                assert_true(filled(taken, holds[key]));
                if (what == 4) {
                    slots_free(slots, taken);
                    holds[key] = 0;
                } else {
                    holds[key]++;
                    fill(taken, holds[key]);
                    assert_int_equal(slots_keep(slots, key, taken), STATUS_OK);
                }
            }
        }
        for (int key = 0; key < KEYS; key++) {
            states += holds[key] != 0;
        }
        const struct slots_counts counts = slots_counts(slots);
        assert_int_equal(counts.device + counts.host + counts.file, states);
        assert_true(counts.device <= shapes[shape][0] && counts.host <= shapes[shape][1]);
        slots_close(slots);
    }
}

static void too_few_slots_are_a_setting(void **state) {
    struct slots *slots = slots_of(*state, 2, 4);
    char *a = NULL, *b = NULL, *c = NULL;
    put(slots, 1, 1);
    assert_int_equal(slots_make(slots, &a), STATUS_OK);
    assert_int_equal(slots_make(slots, &b), STATUS_OK);
    assert_int_equal(slots_make(slots, &c), STATUS_USAGE);
    assert_int_equal(slots_take(slots, 1, &c), STATUS_USAGE);
    slots_free(slots, a);
    assert_int_equal(slots_take(slots, 1, &c), STATUS_OK);
    assert_true(filled(c, 1));
    slots_close(slots);

    const struct slots_settings none = {.slot_bytes = SLOT_BYTES};
    assert_int_equal(slots_open(&backend, &none, &slots), STATUS_USAGE);
    const struct slots_settings nowhere = {.slot_bytes = SLOT_BYTES, .device_slots = 1};
    assert_int_equal(slots_open(&backend, &nowhere, &slots), STATUS_OK);
    put(slots, 1, 1);
    assert_int_equal(slots_make(slots, &a), STATUS_USAGE);
    slots_close(slots);
}

static void flip(const char *path, off_t at) {
    const int file = open(path, O_RDWR);
    unsigned char byte = 0;
    assert_true(file >= 0 && pread(file, &byte, 1, at) == 1);
    byte ^= 4;
    assert_int_equal(pwrite(file, &byte, 1, at), 1);
    close(file);
}

static void damage_is_found(void **state) {
    static const off_t places[] = {0, 9, 17, 100, HEADER_BYTES, HEADER_BYTES + SLOT_BYTES - 1};
    char path[1024];
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        struct slots *slots = slots_of(*state, 1, 0);
        char *taken = NULL;
        put(slots, 1, 1);
        put(slots, 2, 2);
        spill_file(*state, 0, path, sizeof path);
        flip(path, places[i]);
        assert_int_equal(slots_take(slots, 1, &taken), STATUS_MISMATCH);
        slots_drop(slots, 1); // two has gone down in the attempt, and is whole
        assert_int_equal(slots_take(slots, 2, &taken), STATUS_OK);
        assert_true(filled(taken, 2));
        slots_close(slots);
    }
    struct slots *slots = slots_of(*state, 1, 0);
    char *taken = NULL;
    put(slots, 1, 1);
    put(slots, 2, 2);
    spill_file(*state, 0, path, sizeof path);
    assert_int_equal(truncate(path, 5000), 0);
    assert_int_equal(slots_take(slots, 1, &taken), STATUS_MISMATCH);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(slots_take(slots, 1, &taken), STATUS_MISMATCH);
    slots_close(slots);
}

// A limit on the size of files stands in for a full disk: write() fails half-way.
static void full_disk_is_named_and_nothing_is_lost(void **state) {
    struct rlimit before, tiny;
    char path[1024];
    char *taken = NULL;
    const struct slot_image image = {.model_hash = 1};
    const struct place *place = *state;
    struct slots *slots = slots_of(*state, 1, 1);
    void (*const handler)(int) = signal(SIGXFSZ, SIG_IGN);
    put(slots, 1, 1);
    put(slots, 2, 2);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    tiny = before;
    tiny.rlim_cur = 4000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tiny), 0);
    assert_int_equal(slots_make(slots, &taken), STATUS_IO);
    assert_counts(slots, 1, 1, 0);
    assert_int_equal(slot_save(slots, 1, &image, place->file), STATUS_IO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, handler);
    spill_file(*state, 0, path, sizeof path);
    assert_string_equal(path, "");
    assert_int_equal(access(place->file, F_OK), -1);
    assert_int_equal(slots_make(slots, &taken), STATUS_OK); // there is room again
    slots_free(slots, taken);
    for (uint64_t key = 1; key <= 2; key++) {
        assert_int_equal(slots_take(slots, key, &taken), STATUS_OK);
        assert_true(filled(taken, key));
        slots_free(slots, taken);
    }
    slots_close(slots);
}

static const struct slot_image good = {
    .model_hash = 0x1234, .numerics = "f32 fma tile=64", .position = 4096};

static void saved_is_loaded_bit_for_bit(void **state) {
    const struct place *place = *state;
    struct slots *slots = slots_of(*state, 1, 1);
    char *taken = NULL;
    struct stat about;
    for (uint64_t key = 1; key <= 3; key++) {
        put(slots, key, key);
    }
    assert_counts(slots, 1, 1, 1);
    for (uint64_t key = 1; key <= 3; key++) { // from a file, from host memory, from the device
        assert_int_equal(slot_save(slots, key, &good, place->file), STATUS_OK);
        assert_counts(slots, 1, 1, 1);
        assert_int_equal(stat(place->file, &about), 0);
        assert_int_equal(about.st_size, HEADER_BYTES + SLOT_BYTES);
        struct slots *others = slots_of(*state, 1, 0);
        assert_int_equal(slot_load(others, 70, &good, place->file), STATUS_OK);
        assert_int_equal(slot_load(others, 71, &good, place->file), STATUS_OK);
        assert_int_equal(slots_take(others, 70, &taken), STATUS_OK);
        assert_true(filled(taken, key));
        slots_close(others);
    }
    assert_int_equal(slot_save(slots, 99, &good, place->file), STATUS_MISMATCH);
    assert_int_equal(slot_save(slots, 1, &good, "/nonexistent/state"), STATUS_IO);
    slots_close(slots);
}

static void assert_refused(struct slots *slots, const struct slot_image *image, const char *path) {
    char *taken = NULL;
    assert_int_equal(slot_load(slots, 2, image, path), STATUS_MISMATCH);
    assert_int_equal(slots_take(slots, 2, &taken), STATUS_MISMATCH);
}

static void what_does_not_fit_is_refused(void **state) {
    const struct place *place = *state;
    struct slots *slots = slots_of(*state, 4, 1);
    struct slot_image image = good;
    put(slots, 1, 1);
    assert_int_equal(slot_load(slots, 2, &good, place->file), STATUS_IO); // not there
    assert_int_equal(slot_save(slots, 1, &good, place->file), STATUS_OK);
    image.model_hash++;
    assert_refused(slots, &image, place->file);
    image = good;
    image.numerics[0] = 'g';
    assert_refused(slots, &image, place->file);
    image = good;
    image.position++;
    assert_refused(slots, &image, place->file);

    const struct slots_settings other_size = {.slot_bytes = SLOT_BYTES - 1, .device_slots = 1};
    struct slots *others = NULL;
    assert_int_equal(slots_open(&backend, &other_size, &others), STATUS_OK);
    assert_refused(others, &good, place->file);
    slots_close(others);

    for (off_t at = 0; at < HEADER_BYTES + SLOT_BYTES; at += at < HEADER_BYTES ? 1 : 997) {
        flip(place->file, at);
        assert_refused(slots, &good, place->file);
        flip(place->file, at);
    }
    assert_int_equal(slot_load(slots, 2, &good, place->file), STATUS_OK);
    slots_drop(slots, 2);
    const int file = open(place->file, O_WRONLY | O_APPEND);
    assert_true(file >= 0 && write(file, "x", 1) == 1);
    close(file);
    assert_refused(slots, &good, place->file); // longer
    for (off_t size = HEADER_BYTES + SLOT_BYTES - 1; size >= 0; size = size * 2 / 3 - 1) {
        assert_int_equal(truncate(place->file, size), 0);
        assert_refused(slots, &good, place->file);
    }
    assert_refused(slots, &good, place->folder);
    slots_close(slots);
}

// What is freed while steps are queued is not given to others until the queue has passed it.
static void freed_slots_rest_until_the_queue_has_passed(void **state) {
    struct slots *slots = slots_of(*state, 3, 1);
    char *a = NULL, *b = NULL, *c = NULL, *next = NULL;
    assert_int_equal(slots_make(slots, &a), STATUS_OK);
    slots_queued(slots, 1);
    slots_free(slots, a);
    assert_int_equal(slots_make(slots, &b), STATUS_OK);
    assert_ptr_not_equal(a, b);
    slots_queued(slots, 2);
    slots_free(slots, b);
    assert_int_equal(slots_make(slots, &c), STATUS_OK);
    assert_true(c != a && c != b);
    slots_reached(slots, 1);
    assert_int_equal(slots_make(slots, &next), STATUS_OK);
    assert_ptr_equal(next, a);
    slots_free(slots, next);
    // none is left: it waits for the queue, and then all that was freed is there
    assert_int_equal(slots_make(slots, &a), STATUS_OK);
    assert_int_equal(slots_make(slots, &b), STATUS_OK);
    assert_true(a != b && a != c && b != c);
    assert_int_equal(slots_make(slots, &next), STATUS_USAGE);
    slots_reached(slots, 2);
    slots_free(slots, a); // nothing is queued, so at once
    assert_int_equal(slots_make(slots, &next), STATUS_OK);
    assert_ptr_equal(next, a);
    slots_close(slots);
}

static int64_t pinned;

static enum status pin(struct backend *of, size_t bytes, void **memory) {
    pinned++;
    return host_backend_alloc(of, bytes, memory);
}

static void unpin(struct backend *of, void *memory) {
    if (memory != NULL) pinned--;
    host_backend_release(of, memory);
}

// On a device: dear to make, so it is kept, but never more than the budget.
static void pinned_memory_is_used_again(void **state) {
    struct backend_table table = host_backend_table;
    table.host_memory = false;
    table.host_alloc = pin;
    table.host_release = unpin;
    backend.table = &table;
    struct slots *slots = slots_of(*state, 2, 3);
    for (uint64_t round = 0; round < 4; round++) {
        for (uint64_t key = 1; key <= 8; key++) {
            put(slots, key, key + round);
        }
        assert_counts(slots, 2, 3, 3);
        assert_true(pinned <= 3 + 1); // and one that files pass through
        for (uint64_t key = 1; key <= 8; key++) {
            char *found = NULL;
            assert_int_equal(slots_take(slots, key, &found), STATUS_OK);
            assert_true(filled(found, key + round));
            slots_free(slots, found);
        }
    }
    slots_close(slots);
    assert_int_equal(pinned, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(oldest_goes_down),
        TEST(freed_slots_rest_until_the_queue_has_passed),
        TEST(pinned_memory_is_used_again),
        TEST(random_use_loses_nothing),
        TEST(idle_states_go_to_files),
        TEST(idle_states_go_some_at_a_time),
        TEST(idle_states_stay_where_the_disk_is_full),
        TEST(too_few_slots_are_a_setting),
        TEST(damage_is_found),
        TEST(full_disk_is_named_and_nothing_is_lost),
        TEST(saved_is_loaded_bit_for_bit),
        TEST(what_does_not_fit_is_refused),
    };
    log_setup(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
