// Save, load, continue: a document's state goes into a file after its second chunk, everything is
// closed, another process's worth of backend, model and store is opened, and the document goes on
// from the file. The seam that snapshots will be made of: the NLLs are those of one go, bit for bit.

#include "pipeline/slots.h"
#include "tests/model_bench.h"
#include "tests/temp_folder.h"

#define CUT (2 * CHUNK_TOKENS)

static struct slots *open_store(const struct bench *bench, const char *folder) {
    const struct model_info *info = model_info(bench->model);
    const struct slots_settings settings = {.slot_bytes = (size_t)info->layers * info->layer_bytes,
                                            .device_slots = 4,
                                            .host_bytes = 1 << 20,
                                            .folder = folder};
    struct slots *slots = NULL;
    assert_int_equal(slots_open(bench->backend, &settings, &slots), STATUS_OK);
    return slots;
}

static struct slot_image image_of(const struct bench *bench) {
    struct slot_image image = {.model_hash = model_info(bench->model)->hash, .position = CUT};
    memcpy(image.numerics, bench->backend->numerics, sizeof image.numerics);
    return image;
}

static void first_half(const struct golden *golden, const int32_t *target, const char *folder,
                       const char *path, float *nll) {
    struct bench bench = open_bench("models/passkey-1.8m", 0, 1);
    struct slots *slots = open_store(&bench, folder);
    const struct slot_image image = image_of(&bench);
    struct model_span span = {.rows = CUT};
    assert_int_equal(slots_make(slots, &span.state_out), STATUS_OK);
    run(&bench, golden->token, target, &span, 1, NULL, nll);
    assert_int_equal(slots_keep(slots, 9, span.state_out), STATUS_OK);
    assert_int_equal(slot_save(slots, 9, &image, path), STATUS_OK);
    slots_close(slots);
    close_bench(&bench);
}

static void second_half(const struct golden *golden, const int32_t *target, const char *folder,
                        const char *path, float *nll) {
    struct bench bench = open_bench("models/passkey-1.8m", 256, 2);
    struct slots *slots = open_store(&bench, folder);
    struct slot_image image = image_of(&bench);
    struct model_span span = {.rows = golden->tokens - CUT};
    struct entry *lent = NULL;
    image.position = CUT - CHUNK_TOKENS; // another place in the document is refused
    assert_int_equal(slot_load(slots, 4, &image, path), STATUS_MISMATCH);
    image.position = CUT;
    image.model_hash++; // so is another model
    assert_int_equal(slot_load(slots, 4, &image, path), STATUS_MISMATCH);
    image.model_hash--;
    assert_int_equal(slot_load(slots, 4, &image, path), STATUS_OK);
    assert_int_equal(slots_borrow(slots, 4, &lent, &span.state_in), STATUS_OK);
    run(&bench, golden->token + CUT, target + CUT, &span, 1, NULL, nll + CUT);
    slots_return(slots, lent);
    slots_close(slots);
    close_bench(&bench);
}

static void a_saved_state_goes_on_as_if_nothing_had_been(void **state) {
    static struct golden golden;
    static int32_t target[TEXT_MOST];
    static float whole[TEXT_MOST];
    static float halves[TEXT_MOST];
    struct temp_folder folder;
    char path[600];
    (void)state;
    read_golden("golden/passkey-1.8m/text.json", &golden);
    make_targets(&golden, target);
    struct bench bench = open_bench("models/passkey-1.8m", 0, 1);
    score_whole(&bench, &golden, whole);
    close_bench(&bench);

    temp_folder_make(&folder);
    snprintf(path, sizeof path, "%s", temp_name(&folder, "state"));
    first_half(&golden, target, folder.path, path, halves);
    second_half(&golden, target, folder.path, path, halves);
    assert_same_bits("resumed", halves, whole, golden.tokens);
    temp_folder_remove(&folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_saved_state_goes_on_as_if_nothing_had_been),
    };
    log_setup(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
