// Checkpoints in several files: a right one is one list of tensors, and every index that lies is
// refused. Folders of other layouts: which file is taken, and how names are spelled.

#include "ops/model/checkpoint.h"
#include "ops/model/shard_index.h"
#include "tests/temp_folder.h"
#include "tests/torch_case.h"

#include <sys/stat.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#define INDEX "model.safetensors.index.json"

static void good_indexes_are_read(void **state) {
    (void)state;
    static const char text[] =
        "{\"metadata\":{\"total_size\":12},\"weight_map\":{\"b\":\"two.safetensors\",\"a\":"
        "\"one.safetensors\",\"\\u0063\":\"two.safetensors\",\"d\":\"t\\u0077o.safetensors\"}}";
    struct shard_index index;
    assert_int_equal(shard_index_parse("index", text, sizeof text - 1, &index), STATUS_OK);
    assert_int_equal(index.count, 4);
    assert_int_equal(index.file_count, 2);
    assert_int_equal(shard_index_find(&index, "a"), 1);
    assert_int_equal(shard_index_find(&index, "c"), 0);
    assert_int_equal(shard_index_find(&index, "d"), 0);
    assert_int_equal(shard_index_find(&index, "e"), -1);
    assert_string_equal(index.files[0], "two.safetensors");
    shard_index_free(&index);
    for (size_t cut = 0; cut < sizeof text - 1; cut++) {
        char *copy = malloc(cut + 1);
        assert_non_null(copy);
        memcpy(copy, text, cut);
        assert_int_equal(shard_index_parse("cut", copy, cut, &index), STATUS_MISMATCH);
        free(copy);
    }
}

static void indexes_that_lie_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"weight_map\":{}}",
        "{\"weight_map\":[]}",
        "{\"weight_map\":{\"a\":1}}",
        "{\"weight_map\":{\"a\":null}}",
        "{\"weight_map\":{\"a\":[\"x\"]}}",
        "{\"weight_map\":{\"a\":\"\"}}",
        "{\"weight_map\":{\"a\":\".\"}}",
        "{\"weight_map\":{\"a\":\"..\"}}",
        "{\"weight_map\":{\"a\":\"/etc/passwd\"}}",
        "{\"weight_map\":{\"a\":\"../x.safetensors\"}}",
        "{\"weight_map\":{\"a\":\"x/../../y.safetensors\"}}",
        "{\"weight_map\":{\"a\":\"x/y.safetensors\"}}",
        "{\"weight_map\":{\"a\":\"x\\u002fy.safetensors\"}}",
        "{\"weight_map\":{\"a\":\"x\\\\y.safetensors\"}}",
        "{\"weight_map\":{\"a\":\"x\\u0000.safetensors\"}}",
        "{\"weight_map\":{\"a\\u0000\":\"x.safetensors\"}}",
        "{\"weight_map\":{\"a\":\"x.safetensors\",\"a\":\"y.safetensors\"}}",
        "{\"weight_map\":{\"a\":\"x.safetensors\",\"\\u0061\":\"x.safetensors\"}}",
        "{\"weight_map\":{\"a\":\"x.safetensors\"},\"weight_map\":{\"b\":\"y.safetensors\"}}",
        "{\"weight_map\":{\"a\":\"x.safetensors\"}} x",
        "{\"weight_map\":{\"a\":\"x.safetensors\"}",
    };
    struct shard_index index = {0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (shard_index_parse("bad", bad[i], strlen(bad[i]), &index) != STATUS_MISMATCH) {
            fail_msg("taken: %s", bad[i]);
        }
        assert_null(index.rows);
    }
}

static void names_are_bounded(void **state) {
    (void)state;
    struct shard_index index = {0};
    char *text = malloc((size_t)1 << 17);
    assert_non_null(text);
    int at = sprintf(text, "{\"weight_map\":{\"a\":\"");
    memset(text + at, 'x', 256);
    sprintf(text + at + 256, "\"}}");
    assert_int_equal(shard_index_parse("long", text, strlen(text), &index), STATUS_MISMATCH);
    at = sprintf(text, "{\"weight_map\":{\"a\":\"0\"");
    for (int i = 1; i <= 1024; i++) {
        at += sprintf(text + at, ",\"a%d\":\"%d\"", i, i);
    }
    sprintf(text + at, "}}");
    assert_int_equal(shard_index_parse("many", text, strlen(text), &index), STATUS_MISMATCH);
    free(text);
}

struct folder_case {
    struct temp_folder folder;
    char dir[512];
};

static void open_case(struct folder_case *c) {
    temp_folder_make(&c->folder);
    snprintf(c->dir, sizeof c->dir, "%s", c->folder.path);
}

// A safetensors file of tensors of one f32 each, `names` apart by spaces.
static void add_shard(struct folder_case *c, const char *file, const char *names, float value) {
    char header[4096], list[1024];
    char *rest = NULL;
    int at = sprintf(header, "{"), count = 0;
    snprintf(list, sizeof list, "%s", names);
    for (char *name = strtok_r(list, " ", &rest); name != NULL; name = strtok_r(NULL, " ", &rest)) {
        at += sprintf(header + at,
                      "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
                      count == 0 ? "" : ",", name, 4 * count, 4 * count + 4);
        count++;
    }
    at += sprintf(header + at, "}");
    struct blob *blob = calloc(1, sizeof *blob);
    assert_non_null(blob);
    blob_number(blob, (uint64_t)at, 8);
    blob_text(blob, header);
    for (int i = 0; i < count; i++) {
        blob_put(blob, &value, sizeof value);
        value += 1;
    }
    temp_file(&c->folder, file, blob->bytes, blob->count);
    free(blob);
}

static enum status open_folder(const struct folder_case *c, struct checkpoint *checkpoint) {
    *checkpoint = (struct checkpoint){0};
    const enum status status = checkpoint_open(c->dir, checkpoint);
    if (status != STATUS_OK) assert_null(checkpoint->files);
    return status;
}

static float value_of(const struct checkpoint *checkpoint, const char *name) {
    const struct tensor *tensor = tensors_find(&checkpoint->tensors, name);
    float room[1];
    const float *values;
    assert_non_null(tensor);
    tensor_f32(tensor, room, &values);
    return values[0];
}

static void shards_are_one_list(void **state) {
    (void)state;
    struct folder_case c;
    struct checkpoint checkpoint;
    open_case(&c);
    temp_text(&c.folder, INDEX,
              "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\","
              "\"c\":\"1.safetensors\",\"model.lm_head.weight\":\"2.safetensors\"}}");
    add_shard(&c, "1.safetensors", "c a", 1);
    add_shard(&c, "2.safetensors", "b model.lm_head.weight", 11);
    assert_int_equal(open_folder(&c, &checkpoint), STATUS_OK);
    assert_int_equal(checkpoint.tensors.count, 4);
    assert_true(value_of(&checkpoint, "a") == 2 && value_of(&checkpoint, "b") == 11);
    assert_true(value_of(&checkpoint, "lm_head.weight") == 12);
    assert_non_null(strstr(tensors_find(&checkpoint.tensors, "b")->path, "2.safetensors"));
    checkpoint_close(&checkpoint);
    temp_folder_remove(&c.folder);
}

static void shards_that_do_not_fit_their_index_are_refused(void **state) {
    (void)state;
    static const char index[] =
        "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}}";
    static const struct {
        const char *one, *two; // what the shards hold; NULL: the shard is missing
        enum status status;
    } cases[] = {
        {"a",   "b",   STATUS_OK      },
        {"a",   NULL,  STATUS_USAGE   },
        {"a b", "b",   STATUS_MISMATCH}, // in two files
        {"a",   "b c", STATUS_MISMATCH}, // not in the index
        {"b",   "a",   STATUS_MISMATCH}, // the other way round
        {"a",   "",    STATUS_MISMATCH}, // claimed and not there
        {"a",   "x",   STATUS_MISMATCH},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct folder_case c;
        struct checkpoint checkpoint;
        open_case(&c);
        temp_text(&c.folder, INDEX, index);
        add_shard(&c, "1.safetensors", cases[i].one, 1);
        if (cases[i].two != NULL) add_shard(&c, "2.safetensors", cases[i].two, 2);
        assert_int_equal(open_folder(&c, &checkpoint), cases[i].status);
        checkpoint_close(&checkpoint);
        temp_folder_remove(&c.folder);
    }
}

static void folders_are_searched_in_order(void **state) {
    (void)state;
    struct folder_case c;
    struct checkpoint checkpoint;
    open_case(&c);
    assert_int_equal(open_folder(&c, &checkpoint), STATUS_USAGE); // nothing there
    add_shard(&c, "consolidated.safetensors", "model.backbone.embedding.weight model.x", 1);
    assert_int_equal(open_folder(&c, &checkpoint), STATUS_OK);
    assert_true(value_of(&checkpoint, "backbone.embeddings.weight") == 1);
    assert_true(value_of(&checkpoint, "model.x") == 2); // no prefix of ours
    checkpoint_close(&checkpoint);
    temp_text(&c.folder, "pytorch_model.bin", "no zip");
    assert_int_equal(open_folder(&c, &checkpoint), STATUS_MISMATCH);
    add_shard(&c, "model.safetensors", "a", 7);
    assert_int_equal(open_folder(&c, &checkpoint), STATUS_OK);
    assert_true(value_of(&checkpoint, "a") == 7);
    checkpoint_close(&checkpoint);
    add_shard(&c, "model.safetensors", "backbone.embedding.weight backbone.embeddings.weight", 1);
    assert_int_equal(open_folder(&c, &checkpoint), STATUS_MISMATCH); // one name, two spellings
    temp_folder_remove(&c.folder);
}

// A link whose target is gone, as a download that was cut off leaves it, is not passed over.
static void a_link_that_leads_nowhere_is_said(void **state) {
    (void)state;
    struct folder_case c;
    struct checkpoint checkpoint;
    open_case(&c);
    add_shard(&c, "consolidated.safetensors", "a", 1);
    assert_int_equal(symlink("gone", temp_name(&c.folder, "model.safetensors")), 0);
    assert_int_equal(open_folder(&c, &checkpoint), STATUS_USAGE);
    temp_folder_remove(&c.folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_indexes_are_read),
        cmocka_unit_test(indexes_that_lie_are_refused),
        cmocka_unit_test(names_are_bounded),
        cmocka_unit_test(shards_are_one_list),
        cmocka_unit_test(shards_that_do_not_fit_their_index_are_refused),
        cmocka_unit_test(folders_are_searched_in_order),
        cmocka_unit_test(a_link_that_leads_nowhere_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
