// Files of states: damage and full disks are named, saved states come back bit for bit and are refused
// wherever they do not fit.

#include "tests/slots_case.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

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
        put(slots, 1, 1);
        put(slots, 2, 2);
        spill_file(*state, 0, path, sizeof path);
        flip(path, places[i]);
        assert_refused(slots, 1);
        slots_drop(slots, 1); // two has gone down in the attempt, and is whole
        assert_taken(slots, 2, 2);
        slots_close(slots);
    }
    struct slots *slots = slots_of(*state, 1, 0);
    put(slots, 1, 1);
    put(slots, 2, 2);
    spill_file(*state, 0, path, sizeof path);
    assert_int_equal(truncate(path, 5000), 0);
    assert_refused(slots, 1);
    assert_int_equal(truncate(path, 0), 0);
    assert_refused(slots, 1);
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
        assert_taken(slots, key, key);
    }
    slots_close(slots);
}

static const struct slot_image good = {
    .model_hash = 0x1234, .numerics = "f32 fma tile=64", .position = 4096};

static void saved_is_loaded_bit_for_bit(void **state) {
    const struct place *place = *state;
    struct slots *slots = slots_of(*state, 1, 1);
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
        assert_taken(others, 70, key);
        slots_close(others);
    }
    assert_int_equal(slot_save(slots, 99, &good, place->file), STATUS_MISMATCH);
    assert_int_equal(slot_save(slots, 1, &good, "/nonexistent/state"), STATUS_IO);
    slots_close(slots);
}

static void assert_not_loaded(struct slots *slots, const struct slot_image *image,
                              const char *path) {
    assert_int_equal(slot_load(slots, 2, image, path), STATUS_MISMATCH);
    assert_refused(slots, 2);
}

static void what_does_not_fit_is_refused(void **state) {
    const struct place *place = *state;
    struct slots *slots = slots_of(*state, 4, 1);
    struct slot_image image = good;
    put(slots, 1, 1);
    assert_int_equal(slot_load(slots, 2, &good, place->file), STATUS_IO); // not there
    assert_int_equal(slot_save(slots, 1, &good, place->file), STATUS_OK);
    image.model_hash++;
    assert_not_loaded(slots, &image, place->file);
    image = good;
    image.numerics[0] = 'g';
    assert_not_loaded(slots, &image, place->file);
    image = good;
    image.position++;
    assert_not_loaded(slots, &image, place->file);

    const struct slots_settings other_size = {.slot_bytes = SLOT_BYTES - 1, .device_slots = 1};
    struct slots *others = NULL;
    assert_int_equal(slots_open(&backend, &other_size, &others), STATUS_OK);
    assert_not_loaded(others, &good, place->file);
    slots_close(others);

    for (off_t at = 0; at < HEADER_BYTES + SLOT_BYTES; at += at < HEADER_BYTES ? 1 : 997) {
        flip(place->file, at);
        assert_not_loaded(slots, &good, place->file);
        flip(place->file, at);
    }
    assert_int_equal(slot_load(slots, 2, &good, place->file), STATUS_OK);
    slots_drop(slots, 2);
    const int file = open(place->file, O_WRONLY | O_APPEND);
    assert_true(file >= 0 && write(file, "x", 1) == 1);
    close(file);
    assert_not_loaded(slots, &good, place->file); // longer
    for (off_t size = HEADER_BYTES + SLOT_BYTES - 1; size >= 0; size = size * 2 / 3 - 1) {
        assert_int_equal(truncate(place->file, size), 0);
        assert_not_loaded(slots, &good, place->file);
    }
    assert_not_loaded(slots, &good, place->folder);
    slots_close(slots);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(damage_is_found),
        TEST(full_disk_is_named_and_nothing_is_lost),
        TEST(saved_is_loaded_bit_for_bit),
        TEST(what_does_not_fit_is_refused),
    };
    log_setup(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
