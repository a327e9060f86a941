// Packed outputs: whole when they have their name, the same whenever somebody asked for what is
// safe, readable along the way for a stream; and what --resume finds in outputs, packed or not.

#include "pipeline/byte_reader.h"
#include "pipeline/file_sink.h"
#include "tests/packed_case.h"
#include "tests/temp_folder.h"

#include <sys/stat.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#define MANY 20000 // lines: several times what is gathered for one write

static const enum packing packings[] = CASE_PACKINGS;

struct fixture {
    struct temp_folder folder;
    struct inputs inputs;
    struct file_sink_settings settings;
    struct sink *sink;
    char path[600];
};

static int set_up(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    temp_folder_make(&f->folder);
    f->settings.inputs = &f->inputs;
    f->settings.ids = (struct result_ids){1, 2, 3};
    temp_text(&f->folder, "in", "");
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    inputs_free(&f->inputs);
    temp_folder_remove(&f->folder);
    free(f);
    return 0;
}

static void output_to(struct fixture *f, const char *name, enum packing packing) {
    snprintf(f->path, sizeof f->path, "%s/%s%s", f->folder.path, name, packing_extension(packing));
    f->settings.path = f->path;
}

static void put(struct fixture *f, int number) {
    char id[32];
    snprintf(id, sizeof id, "document-%d", number);
    const struct document_score score = {
        .id = id, .id_bytes = strlen(id), .scored = 1, .nll = 1.0 / number, .text_bytes = -1};
    assert_int_equal(f->sink->table->score(f->sink, &score), STATUS_OK);
}

static void confirm(struct fixture *f) {
    int64_t count = 0;
    assert_int_equal(f->sink->table->confirmed(f->sink, &count), STATUS_OK);
}

// All of a file, unpacked. Errors: those of the reader, with *all as far as it came.
static enum status read_all(const char *path, struct bytes *all) {
    struct byte_reader reader = {0};
    enum status status = byte_reader_open(&reader, path);
    all->count = 0;
    while (status == STATUS_OK && !(reader.ended && reader.begin == reader.end)) {
        status = byte_reader_fill(&reader, 1, INT64_MAX);
        const size_t bytes = reader.end - reader.begin;
        if (bytes > 0) {
            assert_int_equal(bytes_put(all, reader.data + reader.begin, bytes), STATUS_OK);
        }
        reader.begin = reader.end;
    }
    byte_reader_free(&reader);
    return status;
}

static void raw_bytes(const char *path, struct bytes *all) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    all->count = 0;
    for (int byte = 0; (byte = fgetc(file)) != EOF;) {
        assert_int_equal(bytes_put(all, &(char){(char)byte}, 1), STATUS_OK);
    }
    fclose(file);
}

static void write_many(struct fixture *f, int asked_after) {
    assert_int_equal(file_sink_open(&f->settings, &f->sink), STATUS_OK);
    for (int i = 1; i <= MANY; i++) {
        put(f, i);
        if (i % asked_after == 0) confirm(f);
    }
    assert_int_equal(f->sink->table->finish(f->sink, 0), STATUS_OK);
    assert_int_equal(f->sink->table->close(f->sink, true), STATUS_OK);
}

static void there_and_back(void **state) {
    struct fixture *f = *state;
    struct bytes plain = {0}, unpacked = {0}, first = {0}, second = {0};
    assert_int_equal(inputs_expand(temp_name(&f->folder, "in"), &f->inputs), STATUS_OK);
    output_to(f, "plain.jsonl", PACKING_NONE);
    write_many(f, MANY + 1);
    assert_int_equal(read_all(f->path, &plain), STATUS_OK);
    for (size_t i = 0; i < 2; i++) {
        output_to(f, "a.jsonl", packings[i]);
        write_many(f, MANY + 1);
        raw_bytes(f->path, &first);
        assert_int_equal(read_all(f->path, &unpacked), STATUS_OK);
        assert_int_equal(unpacked.count, plain.count);
        assert_memory_equal(unpacked.data, plain.data, plain.count);
        assert_in_range(first.count, 1, plain.count / 3);
        write_many(f, 777);
        raw_bytes(f->path, &second);
        assert_int_equal(first.count, second.count);
        assert_memory_equal(first.data, second.data, first.count);
    }
    bytes_free(&plain);
    bytes_free(&unpacked);
    bytes_free(&first);
    bytes_free(&second);
}

static void no_documents(void **state) {
    struct fixture *f = *state;
    struct bytes unpacked = {0};
    assert_int_equal(inputs_expand(temp_name(&f->folder, "in"), &f->inputs), STATUS_OK);
    for (size_t i = 0; i < 2; i++) {
        output_to(f, "a.jsonl", packings[i]);
        assert_int_equal(file_sink_open(&f->settings, &f->sink), STATUS_OK);
        assert_int_equal(f->sink->table->finish(f->sink, 0), STATUS_OK);
        assert_int_equal(f->sink->table->close(f->sink, true), STATUS_OK);
        assert_int_equal(read_all(f->path, &unpacked), STATUS_OK);
        assert_int_equal(unpacked.count, 0);
    }
    bytes_free(&unpacked);
}

// What goes into a stream's file is lost if the job dies before the file has its name.
static void streams(void **state) {
    static const enum packing all[] = {PACKING_NONE, PACKING_GZIP, PACKING_ZSTD};
    struct fixture *f = *state;
    struct bytes unpacked = {0};
    f->settings.inputs = NULL;
    for (size_t i = 0; i < 3; i++) {
        int64_t confirmed = -1;
        output_to(f, "a.jsonl", all[i]);
        assert_int_equal(file_sink_open(&f->settings, &f->sink), STATUS_OK);
        put(f, 1);
        put(f, 2);
        assert_int_equal(f->sink->table->confirmed(f->sink, &confirmed), STATUS_OK);
        assert_int_equal(confirmed, 0);
        assert_int_equal(f->sink->table->close(f->sink, true), STATUS_OK);
        assert_int_equal(read_all(f->path, &unpacked), STATUS_OK);
        if (unpacked.data == NULL) abort();
        assert_true(unpacked.count > 100);
        assert_int_equal(unpacked.data[unpacked.count - 1], '\n');
    }
    bytes_free(&unpacked);
}

#define SCORE                                                                     \
    "\"model\":\"xxh3:0000000000000001\",\"settings\":\"xxh3:0000000000000002\"," \
    "\"numerics\":\"xxh3:0000000000000003\""

static void outputs_of_before(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *text;
        enum status status;
    } rows[] = {
        {"",                                                               STATUS_OK      },
        {"{\"id\":\"a\",\"token_nll\":[]," SCORE "}\n",                    STATUS_OK      },
        {"{\"id\":\"a\"," SCORE "}\n",                                     STATUS_MISMATCH},
        {"{\"id\":\"a\",\"token_nll\":[1,2]}\n{\"id\":\"a\"," SCORE "}\n", STATUS_OK      },
        {"{\"id\":\"a\",\"token_nll\":[]," SCORE "}\nanything\n",          STATUS_OK      },
        {"{\"id\":\"a\",\"token_nll\":[]," SCORE "}",                      STATUS_MISMATCH},
        {"{\"id\":\"a\",\"token_nll\":[1,2]}\n",                           STATUS_MISMATCH},
        {"{\"id\":\"b\",\"token_nll\":[1]}\n{\"id\":\"b\",\"retracted\":true}\n"
         "{\"id\":\"a\",\"token_nll\":[]," SCORE "}\n",
         STATUS_OK                                                                        },
        {"{\"id\":\"a\"}\n",                                               STATUS_MISMATCH},
        {"\n",                                                             STATUS_MISMATCH},
        {"nonsense\n",                                                     STATUS_MISMATCH},
        {"{\"model\":1}\n",                                                STATUS_MISMATCH},
        {"{\"model\":\"xxh3:000000000000000\"}\n",                         STATUS_MISMATCH},
    };
    const bool complete[] = {true};
    struct bytes packed = {0};
    f->settings.token_nll = true;
    assert_int_equal(inputs_expand(temp_name(&f->folder, "in"), &f->inputs), STATUS_OK);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        output_to(f, "a.jsonl", PACKING_NONE);
        temp_text(&f->folder, "a.jsonl", rows[i].text);
        assert_int_equal(file_sink_verify(&f->settings, complete), rows[i].status);
        for (size_t p = 0; p < 2; p++) {
            char name[64];
            snprintf(name, sizeof name, "a.jsonl%s", packing_extension(packings[p]));
            packed.count = 0;
            pack_behind(packings[p], rows[i].text, strlen(rows[i].text), &packed);
            output_to(f, "a.jsonl", packings[p]);
            temp_file(&f->folder, name, packed.data, packed.count);
            assert_int_equal(file_sink_verify(&f->settings, complete), rows[i].status);
            temp_file(&f->folder, name, packed.data, packed.count / 2);
            assert_int_equal(file_sink_verify(&f->settings, complete), STATUS_MISMATCH);
        }
    }
    temp_text(&f->folder, "a.jsonl", rows[1].text);
    output_to(f, "a.jsonl", PACKING_NONE);
    for (int i = 0; i < 3; i++) {
        f->settings.ids = (struct result_ids){1 + (i == 0), 2 + (i == 1), 3 + (i == 2)};
        assert_int_equal(file_sink_verify(&f->settings, complete), STATUS_MISMATCH);
    }
    assert_int_equal(file_sink_verify(&f->settings, &(const bool){false}), STATUS_OK);
    bytes_free(&packed);
}

// Outputs that lack the arrays this run is asked for, or hold others.
static void arrays_of_before(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *arrays;
        int64_t every; // the only lengths of windows that it may be: least to most; 0: none
        int64_t most;
        bool token_nll;
    } rows[] = {
        {"",                                                                      0,   0,   false},
        {"\"token_nll\":[1],",                                                    0,   0,   true },
        {"\"windows\":[],",                                                       1,   900, false},
        {"\"windows\":[{\"first\":0,\"scored\":99,\"nll\":1}],",                  99,  900, false},
        {"\"windows\":[{\"first\":1,\"scored\":1},{\"first\":2,\"scored\":1}],",  1,   1,   false},
        {"\"windows\":[{\"first\":0,\"scored\":99},{\"first\":100,\"scored\":7},"
         "{\"first\":200,\"scored\":7,\"nll\":1}],\"token_nll\":[1,2],", 100, 100, true },
    };
    static const int64_t lengths[] = {0, 1, 2, 98, 99, 100, 101, 900};
    assert_int_equal(inputs_expand(temp_name(&f->folder, "in"), &f->inputs), STATUS_OK);
    output_to(f, "a.jsonl", PACKING_NONE);
    for (size_t i = 0; i < 2 * (sizeof rows / sizeof rows[0]); i++) {
        const char *arrays = rows[i / 2].arrays;
        char text[600];
        if (i % 2 == 0) {
            snprintf(text, sizeof text, "{\"id\":\"a\",%s" SCORE "}\n", arrays);
        } else { // in a piece
            snprintf(text, sizeof text, "{\"id\":\"a\",%s\"x\":0}\n{\"id\":\"a\"," SCORE "}\n",
                     arrays);
            if (arrays[0] == '\0') continue;
        }
        temp_text(&f->folder, "a.jsonl", text);
        for (size_t e = 0; e < 2 * (sizeof lengths / sizeof lengths[0]); e++) {
            f->settings.score_every = lengths[e / 2];
            f->settings.token_nll = e % 2 == 1;
            const bool fits = f->settings.token_nll == rows[i / 2].token_nll &&
                              f->settings.score_every >= rows[i / 2].every &&
                              f->settings.score_every <= rows[i / 2].most;
            assert_int_equal(file_sink_verify(&f->settings, &(const bool){true}),
                             fits ? STATUS_OK : STATUS_MISMATCH);
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(there_and_back),    TEST(no_documents),     TEST(streams),
        TEST(outputs_of_before), TEST(arrays_of_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
