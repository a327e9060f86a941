// Packed inputs: what they hold comes out, whole or not at all, however they are cut or damaged.

#include "tests/file_source_case.h"
#include "tests/packed_case.h"

static const enum packing packings[] = CASE_PACKINGS;

static const char *packed_file(struct fixture *f, const char *name, enum packing packing,
                               const struct bytes *packed) {
    char whole[64];
    snprintf(whole, sizeof whole, "%s%s", name, packing_extension(packing));
    return temp_file(&f->folder, whole, packed->data, packed->count);
}

static void names(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *name;
        enum packing packing;
        size_t stem;
    } rows[] = {
        {"a.jsonl.gz", PACKING_GZIP, 7},
        {"a.ZST",      PACKING_ZSTD, 1},
        {".gz",        PACKING_GZIP, 0},
        {"gz",         PACKING_NONE, 2},
        {"a.gz.txt",   PACKING_NONE, 8},
        {"",           PACKING_NONE, 0}
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(packing_of(rows[i].name), rows[i].packing);
        assert_int_equal(packing_stem(rows[i].name), rows[i].stem);
        assert_null(packing_unsupported(rows[i].name));
    }
    static const char *const unknown[] = {"a.jsonl.bz2", "a.XZ", "x/a.lz4", "a.br", "a.Z"};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        struct inputs inputs = {0};
        const char *path = temp_text(&f->folder, strchr(unknown[i], 'a'), "{}");
        assert_string_equal(packing_unsupported(unknown[i]), strrchr(path, '.'));
        assert_int_equal(inputs_expand(path, &inputs), STATUS_USAGE);
        assert_int_equal(inputs_expand(f->folder.path, &inputs), STATUS_USAGE); // among others
        unlink(path);
    }
}

static void every_format(void **state) {
    struct fixture *f = *state;
    for (size_t i = 0; i < 2; i++) {
        struct bytes packed = {0};
        char id[32];
        pack_behind(packings[i], "{\"text\":\"ab\"}\n{\"id\":\"b\",\"text\":\"c\"}", 35, &packed);
        open_source(f, packed_file(f, "a.jsonl", packings[i], &packed));
        snprintf(id, sizeof id, "a.jsonl%s:1", packing_extension(packings[i]));
        expect_document(f, 0, id, "ab");
        expect_document(f, 1, "b", "c");
        expect_partition_end(f, 0);
        open_source(f, packed_file(f, "t.txt", packings[i], &packed));
        struct record *record = next(f);
        assert_true(record->last);
        assert_int_equal(record->tokens, 35);
        record_free(record);
        packed.count = 0;
        pack_behind(packings[i], "\1\0\2\1", 4, &packed);
        static const int32_t wanted[2][2] = {
            {1,          258},
            {0x01020001, 0  }
        };
        for (int wide = 0; wide < 2; wide++) {
            open_source(f, packed_file(f, wide == 1 ? "r.u32" : "r.u16", packings[i], &packed));
            record = next(f);
            assert_int_equal(record->tokens, wide == 1 ? 1 : 2);
            assert_memory_equal(record->token, wanted[wide], wide == 1 ? 4 : 8);
            record_free(record);
        }
        packed.count = 0;
        pack_behind(packings[i], "abc", 3, &packed);
        open_source(f, packed_file(f, "odd.u16", packings[i], &packed));
        expect_fault(f, 0, "odd.u16", "cut off: 1 bytes of 2");
        bytes_free(&packed);
    }
}

// Three streams, one of them empty, as one file; larger than every buffer.
static void streams_in_a_row(void **state) {
    struct fixture *f = *state;
    const size_t bytes = 3000000;
    char *text = malloc(bytes);
    assert_non_null(text);
    uint32_t draw = 1;
    for (size_t i = 0; i < bytes; i++) {
        draw = draw * 1664525 + 1013904223;
        text[i] = (char)(draw >> 24); // packs badly, so that the packed bytes are many too
    }
    for (size_t i = 0; i < 2; i++) {
        struct bytes packed = {0};
        pack_behind(packings[i], text, 1000001, &packed);
        pack_behind(packings[i], "", 0, &packed);
        pack_behind(packings[i], text + 1000001, bytes - 1000001, &packed);
        open_source(f, packed_file(f, "t.txt", packings[i], &packed));
        size_t at = 0;
        for (bool last = false; !last;) {
            struct record *record = next(f);
            assert_int_equal(record->kind, RECORD_TOKENS);
            for (int64_t t = 0; t < record->tokens; t++) {
                assert_int_equal(record->token[t], (unsigned char)text[at + (size_t)t]);
            }
            at += (size_t)record->tokens;
            last = record->last;
            record_free(record);
        }
        assert_int_equal(at, bytes);
        bytes_free(&packed);
    }
    free(text);
}

#define LINES "{\"id\":\"a\",\"text\":\"first\"}\n{\"id\":\"b\",\"text\":\"second\"}\n"

static bool is_wanted(const struct record *record, int documents) {
    static const char *const ids[] = {"a", "b"};
    static const char *const texts[] = {"first", "second"};
    if (record->kind != RECORD_TOKENS || documents > 1) return false;
    bool good = is_text(record->id, record->id_bytes, ids[documents]) &&
                record->tokens == (int64_t)strlen(texts[documents]);
    for (int64_t i = 0; good && i < record->tokens; i++) {
        good = record->token[i] == texts[documents][i];
    }
    return good;
}

// Reads the folder's one file: either it is lost in the end, or all of it was right.
static bool read_lines(struct fixture *f) {
    int documents = 0;
    bool lost = false, wrong = false;
    for (;;) {
        struct record *record = next(f);
        const bool ends = record->kind == RECORD_PARTITION_END;
        if (record->kind == RECORD_FAULT && record->last) {
            assert_false(lost);
            lost = true;
        } else if (!ends) {
            wrong = wrong || !is_wanted(record, documents++);
        }
        record_free(record);
        if (ends) break;
    }
    assert_int_equal(lost, f->inputs.input[0].unreadable);
    if (!lost) assert_true(!wrong && documents == 2);
    return !lost;
}

static void cut_at_every_byte(void **state) {
    struct fixture *f = *state;
    for (size_t i = 0; i < 2; i++) {
        struct bytes packed = {0};
        pack_behind(packings[i], LINES, strlen(LINES), &packed);
        const size_t whole = packed.count;
        for (packed.count = 0; packed.count < whole; packed.count++) {
            const char *path = packed_file(f, "a.jsonl", packings[i], &packed);
            open_source(f, f->folder.path);
            assert_false(read_lines(f));
            open_source(f, path); // alone it ends the run
            enum status status = STATUS_OK;
            while (status == STATUS_OK) {
                struct record *record = NULL;
                status = f->source->table->next(f->source, 10000, &record);
                record_free(record);
            }
            assert_int_equal(status, STATUS_BAD_INPUT);
        }
        char place[32];
        packed.count = whole - 1;
        packed_file(f, "a.jsonl", packings[i], &packed);
        open_source(f, f->folder.path);
        record_free(next(f));
        record_free(next(f));
        snprintf(place, sizeof place, "cut off: it ends at byte %zu", whole - 1);
        expect_lost(f, "a.jsonl", place);
        packed.count = whole;
        packed_file(f, "a.jsonl", packings[i], &packed);
        open_source(f, f->folder.path);
        assert_true(read_lines(f));
        unlink(f->folder.name);
        bytes_free(&packed);
    }
}

// Each bit turned: either it does not matter, or the file is lost.
static void damaged_at_every_bit(void **state) {
    struct fixture *f = *state;
    for (size_t i = 0; i < 2; i++) {
        struct bytes packed = {0};
        size_t harmless = 0;
        pack_behind(packings[i], LINES, strlen(LINES), &packed);
        for (size_t bit = 0; bit < packed.count * 8; bit++) {
            packed.data[bit / 8] ^= (char)(1 << bit % 8);
            packed_file(f, "a.jsonl", packings[i], &packed);
            open_source(f, f->folder.path);
            harmless += read_lines(f);
            packed.data[bit / 8] ^= (char)(1 << bit % 8);
        }
        assert_in_range(harmless, 0, 80); // gzip: time, flags, system; zstd: a window's size
        unlink(f->folder.name);
        bytes_free(&packed);
    }
}

static void what_is_not_packed(void **state) {
    struct fixture *f = *state;
    struct bytes packed = {0};
    for (size_t i = 0; i < 2; i++) {
        temp_text(&f->folder, "keep.txt", "k");
        packed.count = 0;
        assert_int_equal(bytes_put(&packed, LINES, strlen(LINES)), STATUS_OK);
        packed_file(f, "a.jsonl", packings[i], &packed);
        open_source(f, f->folder.path);
        expect_lost(f, "a.jsonl", "is damaged at byte ");
        // The other packing's bytes, and bytes behind the stream's end.
        packed.count = 0;
        pack_behind(packings[1 - i], LINES, strlen(LINES), &packed);
        packed_file(f, "a.jsonl", packings[i], &packed);
        open_source(f, f->folder.path);
        expect_lost(f, "a.jsonl", "is damaged at byte ");
        packed.count = 0;
        pack_behind(packings[i], LINES, strlen(LINES), &packed);
        assert_int_equal(bytes_put(&packed, "\0behind", 7), STATUS_OK);
        packed_file(f, "a.jsonl", packings[i], &packed);
        open_source(f, f->folder.path);
        expect_document(f, 0, "a", "first");
        expect_document(f, 1, "b", "second");
        expect_lost(f, "a.jsonl", "is damaged at byte ");
        expect_partition_end(f, 0);
        expect_document(f, 0, "keep.txt", "k"); // the reader is as good as new
        unlink(temp_name(&f->folder, i == 0 ? "a.jsonl.gz" : "a.jsonl.zst"));
    }
    bytes_free(&packed);
}

// A frame that asks for 2 GiB to be unpacked.
static void a_window_too_large(void **state) {
    struct fixture *f = *state;
    temp_text(&f->folder, "b.txt", "b");
    temp_file(&f->folder, "a.txt.zst", "\x28\xb5\x2f\xfd\0\xa8\x01\0\0", 9);
    open_source(f, f->folder.path);
    expect_lost(f, "a.txt.zst", "window is larger than 128 MiB");
    expect_partition_end(f, 0);
    expect_document(f, 0, "b.txt", "b");
    temp_file(&f->folder, "a.txt.zst", "\x28\xb5\x2f\xfd\0\x88\x01\0\0", 9); // 128 MiB
    open_source(f, f->folder.path);
    expect_document(f, 0, "a.txt.zst", "");
}

// 1 GiB of zeros on one line, in a file of 1 MiB or less.
static void bombs(void **state) {
    struct fixture *f = *state;
    const size_t part = 16 << 20;
    char *zeros = calloc(1, part);
    assert_non_null(zeros);
    for (size_t i = 0; i < 2; i++) {
        struct bytes one = {0}, packed = {0};
        pack_behind(packings[i], zeros, part, &one);
        if (bytes_room(&packed, 64 * one.count) != STATUS_OK || packed.data == NULL) abort();
        for (int times = 0; times < 64; times++) {
            memcpy(packed.data + packed.count, one.data, one.count);
            packed.count += one.count;
        }
        const char *after = "\n{\"id\":\"b\",\"text\":\"after\"}\n";
        pack_behind(packings[i], after, strlen(after), &packed);
        assert_in_range(packed.count, 1, 2 << 20);
        open_source(f, packed_file(f, "a.jsonl", packings[i], &packed));
        struct record *record = NULL;
        int64_t begun_ms = clock_ms();
        assert_int_equal(f->source->table->next(f->source, 0, &record), STATUS_AGAIN);
        assert_in_range(clock_ms() - begun_ms, 0, 5000); // a stop would be seen
        enum status status = STATUS_AGAIN;
        while (status == STATUS_AGAIN) {
            status = f->source->table->next(f->source, 1000, &record);
        }
        assert_int_equal(status, STATUS_OK);
        assert_int_equal(record->kind, RECORD_FAULT);
        assert_non_null(strstr(record->fault, "a.jsonl"));
        assert_non_null(strstr(record->fault, ":1: the line is longer than 1048576 bytes"));
        record_free(record);
        expect_document(f, 1, "b", "after");
        expect_partition_end(f, 0);
        bytes_free(&packed);
        bytes_free(&one);
    }
    free(zeros);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(names),
        TEST(every_format),
        TEST(streams_in_a_row),
        TEST(cut_at_every_byte),
        TEST(damaged_at_every_bit),
        TEST(what_is_not_packed),
        TEST(a_window_too_large),
        TEST(bombs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
