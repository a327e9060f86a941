// pytorch_model.bin: what torch.save writes is read to the last bit, and every zip and pickle that
// lies is refused before anything is believed.

#include "ops/model/torch_file.h"

#include "ops/model/pickle.h"
#include "ops/model/zip.h"
#include "tests/torch_case.h"

#include <stdio.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

static const float floats[6] = {1, 2, 3, 4, 5, 6};
static const uint16_t halves[4] = {0x3C00, 0x4000, 0xBC00, 0x3800}; // 1, 2, -1, 0.5 in f16

// Two storages; the second's tensors are tied, and a part of it.
static const struct tensor_case good[] = {
    {"a.weight",    "FloatStorage", "0", 6, 0, {2, 3}, {3, 1}, 2},
    {"tied.weight", "HalfStorage",  "1", 4, 0, {2, 2}, {2, 1}, 2},
    {"b.weight",    "HalfStorage",  "1", 4, 0, {2, 2}, {2, 1}, 2},
    {"part",        "HalfStorage",  "1", 4, 1, {1, 3}, {9, 1}, 2}, // strides of one row: any
    {"none",        "HalfStorage",  "1", 4, 4, {0, 3}, {3, 1}, 2},
};
#define GOOD ((int)(sizeof good / sizeof good[0]))

// What a case changes of a right file; all zero: nothing.
struct making {
    const struct tensor_case *tensors; // in place of the good ones
    int count;
    struct entry_lie pickle, data, last;
    struct end_lie end;
    const char *extra, *extra_data; // one more entry
    bool one_missing;               // the second storage's entry
};

static void make_zip(const struct making *making, const struct blob *pickle, struct zip_case *zip) {
    const struct entry_lie none = {0};
    memset(zip, 0, sizeof *zip);
    zip_add(zip, "model/data.pkl", pickle->bytes, pickle->count, &making->pickle);
    zip_add(zip, "model/byteorder", "little", 6, &none);
    zip_add(zip, "model/data/0", floats, sizeof floats, &making->data);
    if (!making->one_missing) zip_add(zip, "model/data/1", halves, sizeof halves, &none);
    if (making->extra_data != NULL) {
        zip_add(zip, making->extra, making->extra_data, strlen(making->extra_data), &none);
    }
    zip_add(zip, "model/version", "3\n", 2, &making->last);
    zip_end(zip, &making->end);
}

// Parsed from memory without a byte to spare, so that a sanitizer sees a step past the end.
static enum status parse(const char *bytes, size_t size, struct tensors *parsed, char **copy) {
    *copy = malloc(size > 0 ? size : 1);
    assert_non_null(*copy);
    if (size > 0) memcpy(*copy, bytes, size);
    return torch_parse("model.bin", *copy, size, parsed);
}

// The same file as a zip alone, so that no later check hides that an earlier one is missing.
static enum status make_and_unzip(const struct making *making) {
    struct blob *pickle = calloc(1, sizeof *pickle);
    struct zip_case *zip = calloc(1, sizeof *zip);
    struct zip parsed = {0};
    assert_non_null(pickle);
    assert_non_null(zip);
    pickle_dict(pickle, good, GOOD);
    make_zip(making, pickle, zip);
    char *copy = malloc(zip->file.count);
    assert_non_null(copy);
    memcpy(copy, zip->file.bytes, zip->file.count);
    const enum status status = zip_parse("model.bin", copy, zip->file.count, &parsed);
    zip_free(&parsed);
    free(copy);
    free(pickle);
    free(zip);
    return status;
}

static enum status make(const struct making *making, struct tensors *parsed, char **copy) {
    struct blob *pickle = calloc(1, sizeof *pickle);
    struct zip_case *zip = calloc(1, sizeof *zip);
    assert_non_null(pickle);
    assert_non_null(zip);
    pickle_dict(pickle, making->tensors != NULL ? making->tensors : good,
                making->tensors != NULL ? making->count : GOOD);
    make_zip(making, pickle, zip);
    const enum status status = parse(zip->file.bytes, zip->file.count, parsed, copy);
    free(pickle);
    free(zip);
    return status;
}

static void refuses(const struct making *making, const char *what) {
    struct tensors parsed = {0};
    char *copy;
    if (make(making, &parsed, &copy) != STATUS_MISMATCH) fail_msg("taken: %s", what);
    assert_null(parsed.items);
    free(copy);
}

static void check_good(const struct making *making) {
    struct tensors parsed;
    char *copy;
    float room[6];
    const float *values;
    assert_int_equal(make(making, &parsed, &copy), STATUS_OK);
    assert_int_equal(parsed.count, GOOD);
    const struct tensor *a = tensors_find(&parsed, "a.weight");
    const struct tensor *b = tensors_find(&parsed, "b.weight");
    const struct tensor *part = tensors_find(&parsed, "part");
    assert_true(a->dims == 2 && a->shape[0] == 2 && a->shape[1] == 3 && a->dtype == DTYPE_F32);
    tensor_f32(a, room, &values);
    assert_memory_equal(values, floats, sizeof floats);
    assert_true(b->dtype == DTYPE_F16 && b->data == tensors_find(&parsed, "tied.weight")->data);
    tensor_f32(part, room, &values);
    assert_true(part->count == 3 && values[0] == 2 && values[1] == -1 && values[2] == 0.5F);
    assert_int_equal(tensors_find(&parsed, "none")->bytes, 0);
    tensors_free(&parsed);
    free(copy);
}

static void right_files_are_read(void **state) {
    (void)state;
    check_good(&(struct making){0});
    check_good(&(struct making){.end = {.wide = true}});
    check_good(&(struct making){
        .end = {.wide = true, .full = true}
    });
    check_good(&(struct making){.data = {.wide = true}, .end = {.wide = true}});
    check_good(
        &(struct making){.data = {.flags = 0x808}}); // sizes behind the data, as torch has it
    check_good(&(struct making){.data = {.wrong_crc = true}}); // torch can leave those out
}

static void zips_that_lie_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *what;
        struct making making;
        bool later; // the zip is right, the rest is not
    } cases[] = {
        {"one whose own header says so",    {.data = {.method_here = 8}},                              false},
        {"the last entry too long",         {.last = {.longer = 1}},                                   false},
        {"a narrow end that differs",       {.end = {.wide = true, .narrow_entries = 1}},              false},
        {"a compressed storage",            {.data = {.method = 8}},                                   false},
        {"a compressed pickle",             {.pickle = {.method = 8}},                                 false},
        {"an encrypted entry",              {.data = {.flags = 1}},                                    false},
        {"another name in the entry",       {.data = {.other_name = true}},                            false},
        {"no entry there",                  {.data = {.other_header = true}},                          false},
        {"a pickle of another CRC",         {.pickle = {.wrong_crc = true}},                           true },
        {"two sizes",                       {.data = {.packed = 1}},                                   false},
        {"too long",                        {.data = {.longer = 1 << 20}},                             false},
        {"into the next entry",             {.data = {.longer = 8}},                                   false},
        {"outside the file",                {.data = {.at = 1 << 30}},                                 false},
        {"at another place",                {.data = {.at = 1}},                                       false},
        {"outside by 2^63",                 {.data = {.wide = true, .at = UINT64_C(1) << 63}},         false},
        {"past the end by overflow",        {.data = {.wide = true, .longer = UINT64_MAX - 30}},       false},
        {"a zip64 field that is too short", {.data = {.wide = true, .wide_cut = true}},                false},
        {"more entries",                    {.end = {.entries = 1}},                                   false},
        {"fewer entries",                   {.end = {.entries = UINT64_MAX}},                          false},
        {"millions of entries",             {.end = {.wide = true, .full = true, .entries = 1 << 30}}, false},
        {"2^63 entries",
         {.end = {.wide = true, .full = true, .entries = UINT64_C(1) << 63}},
         false                                                                                              },
        {"a longer directory",              {.end = {.bytes = 1}},                                     false},
        {"a directory elsewhere",           {.end = {.at = 1}},                                        false},
        {"a directory before the file",     {.end = {.at = UINT64_MAX - 8}},                           false},
        {"two ends",                        {.end = {.wide = true, .wide_entries = 1}},                false},
        {"a zip64 end elsewhere",           {.end = {.wide = true, .wide_at = 1}},                     false},
        {"a zip64 end outside",             {.end = {.wide = true, .wide_at = UINT64_C(1) << 62}},     false},
        {"a longer zip64 end",              {.end = {.wide = true, .wide_bytes = 1}},                  false},
        {"a second disk",                   {.end = {.disk = 1}},                                      false},
        {"a byte behind",                   {.end = {.behind = "x"}},                                  false},
        {"a name twice",                    {.extra = "model/data/1", .extra_data = "12345678"},       false},
        {"two pickles",                     {.extra = "other/data.pkl", .extra_data = "\x80\x02}."},   true },
        {"a storage missing",               {.one_missing = true},                                     true },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if ((make_and_unzip(&cases[i].making) == STATUS_OK) != cases[i].later) {
            fail_msg("zip: %s", cases[i].what);
        }
        refuses(&cases[i].making, cases[i].what);
    }
}

static void tensors_that_lie_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *what;
        struct tensor_case tensor;
    } cases[] = {
        {"a negative stride",               {"a", "FloatStorage", "0", 6, 0, {2, 3}, {-3, 1}, 2}       },
        {"a transposed one",                {"a", "FloatStorage", "0", 6, 0, {3, 2}, {1, 3}, 2}        },
        {"a stride of zero",                {"a", "FloatStorage", "0", 6, 0, {6, 1}, {0, 1}, 2}        },
        {"a stride that overflows",         {"a", "FloatStorage", "0", 6, 0, {2, 3}, {INT64_MAX, 1}, 2}},
        {"a negative size",                 {"a", "FloatStorage", "0", 6, 0, {-2, 3}, {3, 1}, 2}       },
        {"a negative offset",               {"a", "FloatStorage", "0", 6, -1, {2, 3}, {3, 1}, 2}       },
        {"an offset past the end",          {"a", "FloatStorage", "0", 6, 1, {2, 3}, {3, 1}, 2}        },
        {"an offset of 2^63 - 1",           {"a", "FloatStorage", "0", 6, INT64_MAX, {2, 3}, {3, 1}, 2}},
        {"more than the storage",           {"a", "FloatStorage", "0", 6, 0, {3, 3}, {3, 1}, 2}        },
        {"2^64 elements",
         {"a",
          "FloatStorage",
          "0",
          6,
          0,
          {INT64_C(1) << 32, INT64_C(1) << 32},
          {INT64_C(1) << 32, 1},
          2}                                                                                           },
        {"a storage longer than its entry", {"a", "FloatStorage", "0", 7, 0, {2, 3}, {3, 1}, 2}        },
        {"a shorter one",                   {"a", "FloatStorage", "0", 5, 0, {2, 2}, {2, 1}, 2}        },
        {"one of 2^62 elements",
         {"a", "FloatStorage", "0", INT64_C(1) << 62, 0, {2, 3}, {3, 1}, 2}                            },
        {"a negative storage",              {"a", "FloatStorage", "0", -6, 0, {2, 3}, {3, 1}, 2}       },
        {"another type",                    {"a", "DoubleStorage", "0", 6, 0, {2, 3}, {3, 1}, 2}       },
        {"a type that is none",             {"a", "UntypedStorage", "0", 24, 0, {2, 3}, {3, 1}, 2}     },
        {"a key that leads away",           {"a", "FloatStorage", "../0", 6, 0, {2, 3}, {3, 1}, 2}     },
        {"a key that is not there",         {"a", "FloatStorage", "7", 6, 0, {2, 3}, {3, 1}, 2}        },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct making making = {.tensors = &cases[i].tensor, .count = 1};
        refuses(&making, cases[i].what);
    }
    const struct tensor_case twice[] = {good[0], good[0]};
    refuses(&(struct making){.tensors = twice, .count = 2}, "a name twice");
    struct making long_key = {
        .tensors = &(struct tensor_case){.name = "a", .type = "FloatStorage"},
           .count = 1
    };
    char key[2000];
    memset(key, 'k', sizeof key - 1);
    key[sizeof key - 1] = '\0';
    const struct tensor_case long_one = {
        "a", "FloatStorage", key, 6, 0, {2, 3},
             {3, 1},
             2
    };
    long_key.tensors = &long_one;
    refuses(&long_key, "a key of 2000 characters");
}

#define PICKLE(text) \
    { text, sizeof(text) - 1 }

static const struct {
    const char *bytes;
    size_t count;
} bad_pickles[] = {
    PICKLE(""),
    PICKLE("\x80"),
    PICKLE("\x80\x02"),
    PICKLE("\x80\x02."),                      // nothing on the stack
    PICKLE("\x80\x02K\1."),                   // no dict
    PICKLE("\x80\x02}}."),                    // two
    PICKLE("\x80\x02}.x"),                    // bytes behind
    PICKLE("\x80\x04\x95\0\0\0\0\0\0\0\0}."), // protocol 4
    PICKLE("\x80\x02"
           "cposix\nsystem\nX\2\0\0\0id\x85R."), // os.system("id")
    PICKLE("\x80\x02"
           "cbuiltins\neval\nX\1\0\0\0"
           "1\x85R."), // eval("1")
    PICKLE("\x80\x02"
           "c__builtin__\ngetattr\n."),
    PICKLE("\x80\x02"
           "ctorch\nload\n."),
    PICKLE("\x80\x02"
           "ctorch._utils\n_rebuild_tensor_v3\n."),
    PICKLE("\x80\x02"
           "ccollections\nOrderedDict"), // a name without an end
    PICKLE("\x80\x02"
           "ccollections\nOrderedDict\nK\1\x85R."), // with an argument
    PICKLE("\x80\x02"
           "ctorch\nFloatStorage\n)R."), // a storage is not called
    PICKLE("\x80\x02"
           "ctorch._utils\n_rebuild_tensor_v2\n)R."),
    PICKLE("\x80\x02"
           "ctorch._utils\n_rebuild_parameter\n)R."),
    PICKLE("\x80\x02(ios\nsystem\n."), // INST
    PICKLE("\x80\x02"
           "cos\nsystem\n."),
    PICKLE("\x80\x02}r\xff\xff\xff\xff."), // a memo of four billion places
    PICKLE("\x80\x02}r\0\0\x10\0."),       // of a million and one
    PICKLE("\x80\x02h\0."),                // never put there
    PICKLE("\x80\x02}q\1h\0."),            // nor this
    PICKLE("\x80\x02q\0."),                // nothing to put
    PICKLE("\x80\x02(q\0t."),              // a mark is no value
    PICKLE("\x80\x02t."),                  // no mark
    PICKLE("\x80\x02}K\1u."),
    PICKLE("\x80\x02\x85."),
    PICKLE("\x80\x02}(K\1u."),          // a key without a value
    PICKLE("\x80\x02(K\1K\2u."),        // nothing to put it into
    PICKLE("\x80\x02K\1K\2K\3s."),      // nor here
    PICKLE("\x80\x02}K\1N\x73."),       // a key that is no text
    PICKLE("\x80\x02}X\1\0\0\0aK\1s."), // a value that is no tensor
    PICKLE("\x80\x02}X\1\0\0\0a}s."),   // a dict in the dict
    PICKLE("\x80\x02}K\1b."),           // attributes that are no dict
    PICKLE("\x80\x02N}b."),             // of what is no dict
    PICKLE("\x80\x02X\xff\xff\xff\xff"
           "a."), // a text of four billion bytes
    PICKLE("\x80\x02\x8a\xff"
           "a."), // a number of 255 bytes
    PICKLE("\x80\x02\x8a\x09"
           "aaaaaaaaa."),  // of nine
    PICKLE("\x80\x02NQ."), // an id that is no storage
    PICKLE("\x80\x02(X\7\0\0\0storageNX\1\0\0\0"
           "0X\3\0\0\0cpuK\1tQ."),
    PICKLE("\x80\x02"
           "]."),                            // a list: no opcode here
    PICKLE("\x80\x02}}X\1\0\0\0aq\1h\0sb."), // never put there, and used where nobody looks
    PICKLE("\x80\x02}}X\1\0\0\0a(X\7\0\0\0storageccollections\nOrderedDict\nX\1\0\0\0"
           "0X\3\0\0\0cpuK\1tQsb."), // a dict as a storage's type
    PICKLE("\x80\x02}\x82\1."),      // nor EXT1
    PICKLE("\x80\x02}\x81."),        // nor NEWOBJ
};

static void pickles_that_lie_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bad_pickles / sizeof bad_pickles[0]; i++) {
        struct state_dict dict = {0};
        char *copy = malloc(bad_pickles[i].count + 1);
        assert_non_null(copy);
        memcpy(copy, bad_pickles[i].bytes, bad_pickles[i].count);
        if (pickle_parse("bad", copy, bad_pickles[i].count, &dict) != STATUS_MISMATCH) {
            fail_msg("taken: pickle %zu", i);
        }
        free(copy);
    }
}

// What torch hangs on a state dict, parameters, memo, and a dict that grows one by one.
static void other_right_pickles_are_read(void **state) {
    (void)state;
    struct blob *pickle = calloc(1, sizeof *pickle);
    struct state_dict dict;
    assert_non_null(pickle);
    blob_put(pickle,
             "\x80\x02"
             "ccollections\nOrderedDict\n)Rr\xff\xff\0\0",
             34);
    pickle_tensor(pickle, &good[0]);
    blob_text(pickle, "s");
    pickle_text(pickle, "parameter");
    blob_text(pickle, "ctorch._utils\n_rebuild_parameter\n(");
    struct blob *tensor = calloc(1, sizeof *tensor);
    assert_non_null(tensor);
    pickle_tensor(tensor, &good[1]);
    const size_t key = 1 + 4 + strlen(good[1].name);
    blob_put(pickle, tensor->bytes + key, tensor->count - key);
    blob_text(pickle, "\x88}tRs}X\t");
    blob_put(pickle, "\0\0\0_metadata}X\1\0\0\0x}X\7\0\0\0versionK\1sssb.", 39);
    for (size_t cut = 0; cut < pickle->count; cut++) {
        char *copy = malloc(cut + 1);
        assert_non_null(copy);
        memcpy(copy, pickle->bytes, cut);
        assert_int_equal(pickle_parse("cut", copy, cut, &dict), STATUS_MISMATCH);
        free(copy);
    }
    assert_int_equal(pickle_parse("good", pickle->bytes, pickle->count, &dict), STATUS_OK);
    assert_int_equal(dict.item_count, 2);
    assert_memory_equal(dict.items[1].name, "parameter", 9);
    assert_int_equal(dict.tensors[dict.items[1].tensor].shape[1], 2);
    state_dict_free(&dict);
    free(tensor);
    free(pickle);
}

// A pickle that is right but for its stack, which grows too deep, and one that is too long.
static void deep_pickles_are_refused(void **state) {
    (void)state;
    static const int pairs[] = {1000, 40000};
    const size_t count = (size_t)5 << 20;
    struct state_dict dict;
    char *bytes = malloc(count);
    assert_non_null(bytes);
    for (int i = 0; i < 2; i++) {
        size_t at = 5;
        memcpy(bytes, "\x80\x02}}(", at);
        for (int pair = 0; pair < pairs[i]; pair++) {
            memcpy(bytes + at, "X\0\0\0\0N", 6);
            at += 6;
        }
        memcpy(bytes + at, "ub.", 3);
        assert_int_equal(pickle_parse("deep", bytes, at + 3, &dict),
                         i == 0 ? STATUS_OK : STATUS_MISMATCH);
        if (i == 0) state_dict_free(&dict);
    }
    memset(bytes, 'N', count);
    memcpy(bytes, "\x80\x02(", 3);
    assert_int_equal(pickle_parse("long", bytes, count, &dict), STATUS_MISMATCH);
    free(bytes);
}

static void cut_and_flipped_files_do_no_harm(void **state) {
    (void)state;
    struct blob *pickle = calloc(1, sizeof *pickle);
    struct zip_case *zip = calloc(1, sizeof *zip);
    struct tensors parsed;
    char *copy;
    assert_non_null(pickle);
    assert_non_null(zip);
    pickle_dict(pickle, good, GOOD);
    make_zip(&(struct making){.end = {.wide = true}}, pickle, zip);
    for (size_t cut = 0; cut < zip->file.count; cut++) {
        assert_int_equal(parse(zip->file.bytes, cut, &parsed, &copy), STATUS_MISMATCH);
        free(copy);
    }
    for (size_t at = 0; at < zip->file.count; at++) {
        const char flip = (char)(1 << at % 8);
        zip->file.bytes[at] ^= flip;
        if (parse(zip->file.bytes, zip->file.count, &parsed, &copy) == STATUS_OK) {
            for (int64_t i = 0; i < parsed.count; i++) {
                const struct tensor *tensor = &parsed.items[i];
                assert_true(tensor->data >= copy && tensor->bytes <= zip->file.count);
                assert_true(tensor->data + tensor->bytes <= copy + zip->file.count);
            }
            tensors_free(&parsed);
        }
        free(copy);
        zip->file.bytes[at] ^= flip;
    }
    free(pickle);
    free(zip);
}

static void the_old_format_is_refused_by_name(void **state) {
    (void)state;
    static const char old[] = "\x80\x02\x8a\nl\xfc\x9c"
                              "F\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.";
    struct tensors parsed;
    assert_int_equal(torch_parse("old.bin", old, sizeof old - 1, &parsed), STATUS_MISMATCH);
    assert_int_equal(torch_parse("empty.bin", old, 0, &parsed), STATUS_MISMATCH);
    refuses(
        &(struct making){.extra = "model/data/x", .extra_data = "", .pickle = {.other_name = true}},
        "a pickle of another name");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(right_files_are_read),
        cmocka_unit_test(zips_that_lie_are_refused),
        cmocka_unit_test(tensors_that_lie_are_refused),
        cmocka_unit_test(pickles_that_lie_are_refused),
        cmocka_unit_test(other_right_pickles_are_read),
        cmocka_unit_test(deep_pickles_are_refused),
        cmocka_unit_test(cut_and_flipped_files_do_no_harm),
        cmocka_unit_test(the_old_format_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
