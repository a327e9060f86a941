// Everything that can be wrong with a file of documents: faults at their place, and the rest is read.

#include "tests/file_source_case.h"

#include <sys/stat.h>

static void hostile_lines(void **state) {
    struct fixture *f = *state;
    char *lines = malloc(4 << 20);
    assert_non_null(lines);
    size_t at = 0;
    f->settings.shard.max_line = 100000;
    // One byte too long, just short enough, far too long, cut off with a NUL, too long at the end.
    const size_t sizes[] = {100001, 100000, 1500000};
    for (int i = 0; i < 3; i++) {
        memset(lines + at, 'x', sizes[i]);
        memcpy(lines + at, "{\"text\":\"", 9);
        memcpy(lines + at + sizes[i] - 2, "\"}\n", 3);
        at += sizes[i] + 1;
    }
    memcpy(lines + at, "{\"text\":\"a\0b\"}\n{\"text\":\"ok\"}\n", 30);
    at += 30;
    memset(lines + at, '[', 300000);
    at += 300000;
    open_source(f, temp_file(&f->folder, "h.jsonl", lines, at));
    free(lines);
    expect_fault(f, 0, "h.jsonl:1: ", "longer than 100000");
    int64_t tokens = 0;
    for (bool last = false; !last;) {
        struct record *record = next(f);
        assert_int_equal(record->offset, 1);
        assert_int_equal(record->first, tokens);
        tokens += record->tokens;
        last = record->last;
        record_free(record);
    }
    assert_int_equal(tokens, 100000 - 11);
    expect_fault(f, 2, "h.jsonl:3: ", "longer than 100000");
    expect_fault(f, 3, "h.jsonl:4: ", "control character");
    expect_document(f, 4, "h.jsonl:5", "ok");
    expect_fault(f, 5, "h.jsonl:6: ", "longer than 100000");
    expect_partition_end(f, 0);
    expect_end(f);
}

static void expect_kept(struct fixture *f, const char *line, size_t bytes) {
    struct record *record = next(f);
    assert_int_equal(record->kind, RECORD_FAULT);
    assert_int_equal(record->first, -1);
    if (line == NULL) {
        assert_null(record->message);
    } else {
        assert_int_equal(record->message_bytes, bytes);
        assert_memory_equal(record->message, line, bytes);
    }
    record_free(record);
}

// A dead letter gets the line as it came; what stood before it is not its position.
static void lines_for_letters(void **state) {
    struct fixture *f = *state;
    static char id[8000], longest[SHARD_LINE_KEPT + 3];
    snprintf(id, sizeof id, "{\"id\":\"a\\u0041%01100d\",\"text\":\"\\n\"}", 7);
    memset(longest, '[', sizeof longest - 1);
    longest[SHARD_LINE_KEPT] = '\n'; // the next is one byte longer
    const char *const lines[] = {"{\"id\":\"\\u0041\"}", "no", id};
    char *text = calloc(1, 4 * sizeof longest);
    assert_non_null(text);
    for (int keep = 1; keep >= 0; keep--) {
        f->settings.shard.keep_lines = keep == 1;
        int at = sprintf(text, "{\"text\":\"good\"}\n%s\n%s\n%s\n", lines[0], lines[1], lines[2]);
        memcpy(text + at, longest, SHARD_LINE_KEPT + 1);
        memset(text + at + SHARD_LINE_KEPT + 1, '[', SHARD_LINE_KEPT + 1);
        open_source(f,
                    temp_file(&f->folder, "l.jsonl", text, (size_t)at + 2 * SHARD_LINE_KEPT + 2));
        expect_document(f, 0, "l.jsonl:1", "good");
        for (int i = 0; i < 3; i++) {
            expect_kept(f, keep ? lines[i] : NULL, strlen(lines[i]));
        }
        expect_kept(f, keep ? longest : NULL, SHARD_LINE_KEPT);
        expect_kept(f, NULL, 0);
        expect_partition_end(f, 0);
    }
    free(text);
}

static void wrong_raw_files(void **state) {
    struct fixture *f = *state;
    open_source(f, temp_file(&f->folder, "odd.u16", "abcde", 5));
    expect_fault(f, 0, "odd.u16", "cut off: 1 bytes of 2");
    expect_partition_end(f, 0);
    open_source(f, temp_file(&f->folder, "odd.u32", "abcdefg", 7));
    expect_fault(f, 0, "odd.u32", "cut off: 3 bytes of 4");
    expect_partition_end(f, 0);
    f->settings.shard.record_tokens = 1;
    open_source(f, temp_file(&f->folder, "big.u32", "\1\0\0\0\0\0\0\x80", 8));
    record_free(next(f));
    struct record *fault = next(f);
    assert_int_equal(fault->kind, RECORD_FAULT);
    assert_int_equal(fault->serial, 1); // of the document that has begun
    assert_true(is_text(fault->id, fault->id_bytes, "big.u32"));
    assert_non_null(strstr(fault->fault, "token 1 is larger"));
    record_free(fault);
    expect_partition_end(f, 0);
    expect_end(f);
}

static void wrong_inputs(void **state) {
    struct fixture *f = *state;
    struct inputs none;
    struct source *source = NULL;
    assert_int_equal(inputs_expand(temp_name(&f->folder, "absent"), &none), STATUS_USAGE);
    assert_int_equal(inputs_expand(temp_name(&f->folder, "no*match"), &none), STATUS_USAGE);
    assert_int_equal(inputs_expand(f->folder.path, &none), STATUS_USAGE); // empty
    assert_int_equal(inputs_expand("", &none), STATUS_USAGE);
    assert_int_equal(inputs_expand("@/nowhere/at/all", &none), STATUS_USAGE);

    f->settings.shard.tokenizer = NULL;
    assert_int_equal(inputs_expand(temp_text(&f->folder, "t.txt", "x"), &f->inputs), STATUS_OK);
    assert_int_equal(file_source_open(&f->inputs, &f->settings, &source), STATUS_USAGE);
    open_source(f, temp_text(&f->folder, "t.jsonl", "{\"text\":\"x\"}"));
    struct record *record = NULL;
    assert_int_equal(f->source->table->next(f->source, 0, &record), STATUS_USAGE);
}

static void missing_among_others(void **state) {
    struct fixture *f = *state;
    char path[1100];
    temp_text(&f->folder, "a.txt", "x");
    snprintf(path, sizeof path, "%s/absent.jsonl\n%s/a.txt\n", f->folder.path, f->folder.path);
    temp_text(&f->folder, "list", path);
    snprintf(path, sizeof path, "@%s/list", f->folder.path);
    open_source(f, path);
    expect_lost(f, "absent.jsonl is left out", "No such file");
    expect_partition_end(f, 0);
    assert_true(f->inputs.input[0].unreadable);
    expect_document(f, 0, "a.txt", "x");
    expect_partition_end(f, 1);
    assert_false(f->inputs.input[1].unreadable);
    expect_end(f);

    // Alone it ends the run.
    open_source(f, temp_text(&f->folder, "alone.txt", "x"));
    unlink(f->folder.name);
    struct record *record = NULL;
    assert_int_equal(f->source->table->next(f->source, 0, &record), STATUS_BAD_INPUT);
}

// A folder in a list, and a file that became one after it was listed.
static void folders_for_files(void **state) {
    struct fixture *f = *state;
    char path[1100];
    mkdir(temp_name(&f->folder, "a"), 0777);
    temp_text(&f->folder, "b.txt", "b");
    temp_text(&f->folder, "c.txt", "c");
    snprintf(path, sizeof path, "%s/a\n%s/b.txt\n%s/c.txt\n", f->folder.path, f->folder.path,
             f->folder.path);
    temp_text(&f->folder, "list", path);
    snprintf(path, sizeof path, "@%s/list", f->folder.path);
    open_source(f, path);
    unlink(temp_name(&f->folder, "b.txt"));
    mkdir(f->folder.name, 0777);
    expect_lost(f, "/a is left out", "it is a folder");
    expect_partition_end(f, 0);
    expect_lost(f, "b.txt is left out", "it is a folder");
    expect_partition_end(f, 1);
    expect_document(f, 0, "c.txt", "c");
    expect_partition_end(f, 2);
    expect_end(f);
}

// What holds no document in its first lines is one fault, however long it is.
static void no_jsonl_at_all(void **state) {
    struct fixture *f = *state;
    char text[16384] = "";
    for (int i = 0; i < SHARD_HELD; i++) {
        strcat(text, i % 2 == 0 ? "%PDF-1.7: obj\n" : "\n\x01\x02\n");
    }
    temp_text(&f->folder, "a.jsonl", text);
    strcat(text, "{\"text\":\"late\"}\n");
    temp_text(&f->folder, "b.jsonl", text);
    // One line less, and it is a file with bad lines.
    char *start = text + strlen("%PDF-1.7: obj\n");
    temp_text(&f->folder, "c.jsonl", start);
    start[strlen(start) - strlen("{\"text\":\"late\"}\n")] = '\0';
    temp_text(&f->folder, "d.jsonl", start);
    open_source(f, f->folder.path);
    for (int32_t i = 0; i < 2; i++) {
        expect_lost(f, i == 0 ? "a.jsonl is left out" : "b.jsonl is left out",
                    "no JSONL: its first 100 lines are all no documents; line 1: it is not a JSON");
        expect_partition_end(f, i);
    }
    for (int32_t i = 2; i < 4; i++) {
        struct record *record = NULL;
        for (int line = 1; line < SHARD_HELD; line++) {
            record = next(f);
            assert_int_equal(record->kind, RECORD_FAULT);
            assert_false(record->last);
            record_free(record);
        }
        if (i == 2) expect_document(f, 149, "c.jsonl:150", "late");
        expect_partition_end(f, i);
    }
    expect_end(f);
}

static void shrinking_files(void **state) {
    struct fixture *f = *state;
    char path[600];
    char *text = calloc(1, 3000000);
    assert_non_null(text);
    temp_file(&f->folder, "s.txt", text, 3000000);
    free(text);
    snprintf(path, sizeof path, "%s", f->folder.name);
    temp_text(&f->folder, "t.txt", "t");
    open_source(f, f->folder.path);
    record_free(next(f));
    assert_int_equal(truncate(path, 1000000), 0);
    struct record *record = next(f);
    while (record->kind == RECORD_TOKENS) {
        assert_false(record->last);
        record_free(record);
        record = next(f);
    }
    assert_int_equal(record->kind, RECORD_FAULT);
    assert_int_equal(record->serial, 1);
    assert_true(is_text(record->id, record->id_bytes, "s.txt"));
    assert_true(record->last);
    record_free(record);
    expect_partition_end(f, 0);
    expect_document(f, 0, "t.txt", "t");
    expect_partition_end(f, 1);
    expect_end(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(hostile_lines),        TEST(wrong_raw_files),   TEST(wrong_inputs),
        TEST(missing_among_others), TEST(shrinking_files),   TEST(folders_for_files),
        TEST(no_jsonl_at_all),      TEST(lines_for_letters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
