// Files as records: the documents, their cuts, and which group reads which.

#include "tests/file_source_case.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>

static void jsonl_lines(void **state) {
    struct fixture *f = *state;
    const char lines[] = "\xef\xbb\xbf{\"id\":\"a\",\"text\":\"one\"}\r\n"
                         "\n \t\r\n"
                         "{\"text\":\"\"}\n"
                         "oops\n"
                         "{\"id\":\"a\",\"text\":\"\\u00e4\",\"x\":1}";
    open_source(f, temp_text(&f->folder, "d.jsonl", lines));
    expect_document(f, 0, "a", "one");
    expect_document(f, 3, "d.jsonl:4", "");
    expect_fault(f, 4, "d.jsonl:5: ", "not a JSON object");
    struct record *record = next(f);
    assert_int_equal(record->serial, 6); // its id is not new, but it is another document
    assert_true(is_text(record->attributes, record->attributes_bytes, "\"x\":1"));
    assert_int_equal(record->text_bytes, 2);
    record_free(record);
    expect_partition_end(f, 0);
    expect_end(f);
}

// A document of n tokens in records of m: as many as there must be, in order, last on the last.
static void expect_cut(struct fixture *f, int64_t n, int64_t m, int32_t (*token_of)(int64_t)) {
    int64_t at = 0, offset = -1;
    bool last = false;
    while (!last) {
        struct record *record = next(f);
        if (record->kind == RECORD_FAULT) fail_msg("%s", record->fault);
        assert_int_equal(record->first, at);
        assert_int_equal(record->serial, 1);
        assert_true(record->offset >= offset);
        assert_int_equal(record->tokens, n - at < m ? n - at : m);
        for (int64_t i = 0; i < record->tokens; i++) {
            if (record->token[i] != token_of(at + i)) fail_msg("token %lld", (long long)(at + i));
        }
        at += record->tokens;
        offset = record->offset;
        last = record->last;
        assert_true(last == (at == n));
        record_free(record);
    }
    expect_partition_end(f, 0);
    expect_end(f);
}

static int32_t small_token(int64_t at) {
    return (int32_t)(at * 7 % 251);
}

static int32_t large_token(int64_t at) {
    return (int32_t)((uint64_t)at * 2654435761U % 0x80000000U);
}

static int32_t middle_token(int64_t at) {
    return large_token(at) & 0xffff;
}

// The same document in every format and cut.
static void cuts(void **state) {
    struct fixture *f = *state;
    static const int64_t sizes[][2] = {
        {100000, 1 << 19},
        {100000, 65536  },
        {1000,   1      },
        {1000,   1000   },
        {1001,   1000   },
        {2000,   1000   },
        {1,      1      },
        {0,      5      }
    };
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        const int64_t n = sizes[s][0];
        unsigned char *bytes = malloc((size_t)n * 12 + 64);
        assert_non_null(bytes);
        f->settings.shard.record_tokens = sizes[s][1];
        for (int width = 1; width <= 4; width *= 2) {
            static const char *const names[] = {"", "d.txt", "d.u16", "", "d.U32"};
            int32_t (*const token_of)(int64_t) = width == 1   ? small_token
                                                 : width == 2 ? middle_token
                                                              : large_token;
            for (int64_t i = 0; i < n * width; i++) {
                bytes[i] = (unsigned char)(token_of(i / width) >> i % width * 8);
            }
            open_source(f, temp_file(&f->folder, names[width], bytes, (size_t)(n * width)));
            expect_cut(f, n, sizes[s][1], token_of);
        }
        int at = sprintf((char *)bytes, "{\"tokens\":[");
        for (int64_t i = 0; i < n; i++) {
            at += sprintf((char *)bytes + at, i > 0 ? ",%d" : "%d", large_token(i));
        }
        at += sprintf((char *)bytes + at, "]}");
        f->settings.shard.max_line = 4 << 20;
        open_source(f, temp_file(&f->folder, "d.jsonl", bytes, (size_t)at));
        expect_cut(f, n, sizes[s][1], large_token);
        free(bytes);
    }
}

static void text_is_any_bytes(void **state) {
    struct fixture *f = *state;
    const char bytes[] = "\xef\xbb\xbf\0a\r\n\xff{\"id\"";
    open_source(f, temp_file(&f->folder, "any.md", bytes, sizeof bytes));
    struct record *record = next(f);
    assert_true(is_text(record->id, record->id_bytes, "any.md"));
    assert_int_equal(record->tokens, sizeof bytes);
    assert_int_equal(record->text_bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++) {
        assert_int_equal(record->token[i], (unsigned char)bytes[i]);
    }
    assert_true(record->last);
    record_free(record);
}

static void names_of_inputs(void **state) {
    struct fixture *f = *state;
    char path[1100];
    temp_text(&f->folder, "b.jsonl", "");
    temp_text(&f->folder, "a.txt", "12345");
    temp_text(&f->folder, ".hidden", "");
    temp_text(&f->folder, "c.jsonl.partial", "");
    mkdir(temp_name(&f->folder, "folder"), 0777);
    snprintf(path, sizeof path, "%s/link.u16", f->folder.path);
    assert_int_equal(symlink("a.txt", path), 0);
    assert_int_equal(inputs_expand(f->folder.path, &f->inputs), STATUS_OK);
    assert_int_equal(f->inputs.count, 3);
    assert_string_equal(f->inputs.input[0].name, "a.txt");
    assert_int_equal(f->inputs.input[0].bytes, 5);
    assert_string_equal(f->inputs.input[1].name, "b.jsonl");
    assert_string_equal(f->inputs.input[2].name, "link.u16");
    assert_int_equal(f->inputs.input[2].bytes, 5);
    inputs_free(&f->inputs);
    assert_int_equal(inputs_expand(temp_name(&f->folder, "[ab]*"), &f->inputs), STATUS_OK);
    assert_int_equal(f->inputs.count, 2);
    assert_string_equal(f->inputs.input[1].name, "b.jsonl");
    inputs_free(&f->inputs);
    // A file whose name looks like a pattern.
    assert_int_equal(inputs_expand(temp_text(&f->folder, "x[1]*.txt", ""), &f->inputs), STATUS_OK);
    assert_int_equal(f->inputs.count, 1);
    inputs_free(&f->inputs);
    // A list keeps its order, its ends of line are of any kind, and what is missing shows later.
    snprintf(path, sizeof path, "%s/b.jsonl\r\n\n%s/absent\n%s/a.txt", f->folder.path,
             f->folder.path, f->folder.path);
    temp_text(&f->folder, "list", path);
    snprintf(path, sizeof path, "@%s/list", f->folder.path);
    assert_int_equal(inputs_expand(path, &f->inputs), STATUS_OK);
    assert_int_equal(f->inputs.count, 3);
    assert_string_equal(f->inputs.input[0].name, "b.jsonl");
    assert_int_equal(f->inputs.input[1].bytes, -1);
    assert_string_equal(f->inputs.input[2].name, "a.txt");
}

// 200 shards over groups: each shard in one group, the loads even, the order that of the names.
static void groups(void **state) {
    struct fixture *f = *state;
    enum { SHARDS = 200, GROUPS = 3 };
    int seen[SHARDS] = {0};
    int64_t load[GROUPS] = {0}, all = 0;
    bool skip[SHARDS] = {false};
    char name[32], text[600];
    memset(text, 'x', sizeof text);
    for (int i = 0; i < SHARDS; i++) {
        snprintf(name, sizeof name, "%03d.txt", i);
        temp_file(&f->folder, name, text, (size_t)(i * 37 % 500));
        all += i * 37 % 500;
    }
    skip[7] = skip[199] = true;
    f->settings.skip = skip;
    f->settings.groups = GROUPS;
    for (f->settings.group = 0; f->settings.group < GROUPS; f->settings.group++) {
        int32_t before = -1;
        struct record *record = NULL;
        open_source(f, f->folder.path);
        while (f->source->table->next(f->source, 0, &record) == STATUS_OK) {
            if (record->kind == RECORD_PARTITION_END) {
                assert_true(record->partition > before);
                before = record->partition;
                seen[record->partition]++;
            } else {
                load[f->settings.group] += record->tokens;
            }
            record_free(record);
        }
        struct source_progress progress;
        f->source->table->progress(f->source, &progress);
        assert_int_equal(progress.done, progress.total);
        assert_int_equal(progress.done, load[f->settings.group]);
    }
    for (int i = 0; i < SHARDS; i++) {
        assert_int_equal(seen[i], skip[i] ? 0 : 1);
    }
    for (int g = 0; g < GROUPS; g++) {
        assert_true(load[g] > all / GROUPS - 1000 && load[g] < all / GROUPS + 1000);
    }
}

static void limit(void **state) {
    struct fixture *f = *state;
    temp_text(&f->folder, "a.jsonl", "{\"id\":1,\"text\":\"a\"}\n{}\n");
    temp_text(&f->folder, "b.jsonl", "{\"id\":2,\"text\":\"b\"}\n{\"id\":3,\"text\":\"c\"}\n");
    temp_text(&f->folder, "c.jsonl", "{\"id\":4,\"text\":\"d\"}\n");
    f->settings.limit = 3;
    open_source(f, f->folder.path);
    expect_document(f, 0, "1", "a");
    expect_fault(f, 1, "a.jsonl:2", "neither");
    expect_partition_end(f, 0);
    assert_false(f->inputs.input[0].cut);
    expect_document(f, 0, "2", "b");
    expect_partition_end(f, 1);
    assert_true(f->inputs.input[1].cut);
    assert_false(f->inputs.input[2].cut); // not begun
    expect_end(f);
}

// An input of exactly so many documents is not cut.
static void limit_at_the_end(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *name, *text;
        int64_t limit;
        bool cut;
    } rows[] = {
        {"a.jsonl", "{\"text\":\"a\"}",                     1, false},
        {"a.jsonl", "{\"text\":\"a\"}\n \n\r\n",            1, false},
        {"a.jsonl", "{\"text\":\"a\"}\n\n{\"text\":\"b\"}", 1, true },
        {"a.jsonl", "{\"text\":\"a\"}\n\nbad",              1, true },
        {"a.jsonl", "{\"text\":\"a\"}\n{}\n",               2, false},
        {"a.jsonl", "bad\nbad\n{\"text\":\"a\"}\n",         1, true },
        {"a.jsonl", "bad\nbad\n",                           2, false},
        {"a.txt",   "text",                                 1, false},
        {"a.u16",   "odd",                                  1, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        f->settings.limit = rows[i].limit;
        open_source(f, temp_text(&f->folder, rows[i].name, rows[i].text));
        for (int64_t n = 0; n < rows[i].limit; n++) {
            record_free(next(f));
        }
        assert_false(f->inputs.input[0].cut);
        expect_partition_end(f, 0);
        assert_int_equal(f->inputs.input[0].cut, rows[i].cut);
        expect_end(f);
    }
}

// A named pipe: silence is AGAIN and nothing is lost; half a line waits for its other half.
static void pipes(void **state) {
    struct fixture *f = *state;
    char path[600];
    snprintf(path, sizeof path, "%s/pipe.jsonl", f->folder.path);
    assert_int_equal(mkfifo(path, 0600), 0);
    open_source(f, path);
    struct record *record = NULL;
    assert_int_equal(f->source->table->next(f->source, 10, &record), STATUS_AGAIN);
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "{\"id\":1,\"te", 11), 11);
    const int64_t before = clock_ms();
    assert_int_equal(f->source->table->next(f->source, 30, &record), STATUS_AGAIN);
    assert_true(clock_ms() - before >= 25);
    assert_int_equal(write(fd, "xt\":\"a\"}\n{\"id\":2,\"text\":\"b\"}", 28), 28);
    expect_document(f, 0, "1", "a");
    assert_int_equal(f->source->table->next(f->source, 10, &record), STATUS_AGAIN);
    close(fd);
    expect_document(f, 1, "2", "b");
    expect_partition_end(f, 0);
    expect_end(f);
    struct source_progress progress;
    f->source->table->progress(f->source, &progress);
    assert_int_equal(progress.total, -1);
}

static void limit_of_a_pipe(void **state) {
    struct fixture *f = *state;
    static const char line[] = "{\"id\":1,\"text\":\"a\"}\n";
    struct record *record = NULL;
    assert_int_equal(mkfifo(temp_name(&f->folder, "p.jsonl"), 0600), 0);
    const int fd = open(f->folder.name, O_RDWR);
    assert_int_equal(write(fd, line, sizeof line - 1), sizeof line - 1);
    f->settings.limit = 1;
    open_source(f, f->folder.name);
    expect_document(f, 0, "1", "a");
    assert_int_equal(f->source->table->next(f->source, 0, &record), STATUS_OK); // without waiting
    assert_int_equal(record->kind, RECORD_PARTITION_END);
    record_free(record);
    assert_true(f->inputs.input[0].cut); // for all that is known
    expect_end(f);
    close(fd);
}

#define FLOOD_BYTES ((int64_t)300 << 20)

static void *flood(void *path) {
    static const char block[1 << 20] = {'l', 'o', 'n', 'g'};
    int fd = open(path, O_WRONLY);
    for (int64_t sent = 0; fd >= 0 && sent < FLOOD_BYTES;) {
        ssize_t written = write(fd, block, sizeof block);
        if (written < 0) break;
        sent += written;
    }
    close(fd);
    return NULL;
}

static int64_t peak_kib(void) {
    struct rusage usage;
    assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
    return usage.ru_maxrss;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#    define SANITIZED true
#elif defined(__has_feature)
#    define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#    define SANITIZED false
#endif

// 300 MB of text, and a line of 300 MB, through a pipe in the memory of a record.
static void memory_is_bounded(void **state) {
    struct fixture *f = *state;
    char path[600];
    snprintf(path, sizeof path, "%s/flood", f->folder.path);
    assert_int_equal(mkfifo(path, 0600), 0);
    if (SANITIZED) skip(); // sanitizers keep what is freed
    int64_t before = peak_kib();
    for (int lines = 0; lines < 2; lines++) {
        pthread_t thread;
        int64_t tokens = 0;
        f->settings.shard.format = lines ? FILE_JSONL : FILE_TEXT;
        open_source(f, path);
        assert_int_equal(pthread_create(&thread, NULL, flood, path), 0);
        struct record *record = next(f);
        while (record->kind == RECORD_TOKENS) {
            tokens += record->tokens;
            record_free(record);
            record = next(f);
        }
        assert_int_equal(record->kind, lines ? RECORD_FAULT : RECORD_PARTITION_END);
        record_free(record);
        assert_int_equal(tokens, lines ? 0 : FLOOD_BYTES);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
    int64_t grown = peak_kib() - before;
    if (grown > 30 << 10) fail_msg("memory grew by %lld KiB", (long long)grown);
}

static void formats(void **state) {
    (void)state;
    static const struct {
        const char *name;
        enum file_format format;
    } rows[] = {
        {"a.jsonl",  FILE_JSONL},
        {"a.NDJSON", FILE_JSONL},
        {"a.u16",    FILE_U16  },
        {"a.u32",    FILE_U32  },
        {"a.txt",    FILE_TEXT },
        {"a",        FILE_TEXT },
        {".jsonl.c", FILE_TEXT }
    };
    enum file_format format = FILE_AUTO;
    char path[] = "x";
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct input input = {.path = path, .name = rows[i].name};
        assert_int_equal(file_format_of(&input, FILE_AUTO), rows[i].format);
        assert_int_equal(file_format_of(&input, FILE_U32), FILE_U32);
    }
    assert_int_equal(file_format_parse("u32", &format), STATUS_OK);
    assert_int_equal(format, FILE_U32);
    assert_int_equal(file_format_parse("csv", &format), STATUS_USAGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(memory_is_bounded), // first: the peak is the process's
        TEST(jsonl_lines),         TEST(cuts),   TEST(text_is_any_bytes),
        TEST(names_of_inputs),     TEST(groups), TEST(limit),
        TEST(limit_at_the_end),    TEST(pipes),  TEST(limit_of_a_pipe),
        cmocka_unit_test(formats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
