// Results into files: names, what is there when, and everything that can go wrong with a disk.

#include "pipeline/file_sink.h"

#include "tests/temp_folder.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

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

// Inputs NAMES, set apart by spaces, as files of the folder in/.
static void make_inputs(struct fixture *f, const char *names) {
    char name[64], all[1024];
    snprintf(all, sizeof all, "%s", names);
    mkdir(temp_name(&f->folder, "in"), 0777);
    for (char *left = all, *at = NULL; (at = strtok_r(left, " ", &left)) != NULL;) {
        snprintf(name, sizeof name, "in/%s", at);
        temp_text(&f->folder, name, "{}");
    }
    assert_int_equal(inputs_expand(temp_name(&f->folder, "in"), &f->inputs), STATUS_OK);
}

static void output_to(struct fixture *f, const char *name) {
    snprintf(f->path, sizeof f->path, "%s/%s", f->folder.path, name);
    f->settings.path = f->path;
}

static void open_sink(struct fixture *f) {
    assert_int_equal(file_sink_check(&f->settings), STATUS_OK);
    assert_int_equal(file_sink_open(&f->settings, &f->sink), STATUS_OK);
}

static enum status put_score(struct fixture *f, int32_t partition, const char *id) {
    const struct document_score score = {
        .partition = partition, .id = id, .id_bytes = strlen(id), .text_bytes = -1};
    return f->sink->table->score(f->sink, &score);
}

static enum status put_piece(struct fixture *f, int32_t partition, const char *id) {
    const float nll[] = {1};
    const struct document_piece piece = {.partition = partition,
                                         .id = id,
                                         .id_bytes = strlen(id),
                                         .token_nll = nll,
                                         .token_nll_count = 1};
    return f->sink->table->piece(f->sink, &piece);
}

static enum status finish(struct fixture *f, int32_t partition) {
    return f->sink->table->finish(f->sink, partition);
}

static enum status close_sink(struct fixture *f, bool complete) {
    enum status status = f->sink->table->close(f->sink, complete);
    f->sink = NULL;
    return status;
}

static bool exists(struct fixture *f, const char *name) {
    return access(temp_name(&f->folder, name), F_OK) == 0;
}

// The ids of a file's lines, one after another; a piece's with a star.
static void expect_ids(struct fixture *f, const char *name, const char *wanted) {
    char line[4096], ids[4096] = "";
    FILE *file = fopen(temp_name(&f->folder, name), "r");
    if (file == NULL) fail_msg("%s is not there", name);
    while (fgets(line, sizeof line, file) != NULL) {
        char *end = strchr(line + 7, '"');
        assert_memory_equal(line, "{\"id\":\"", 7);
        assert_int_equal(line[strlen(line) - 1], '\n');
        if (strstr(line, "\"token_nll\"") != NULL) strcat(ids, "*");
        strncat(ids, line + 7, (size_t)(end - line - 7));
    }
    fclose(file);
    assert_string_equal(ids, wanted);
}

static void one_file(void **state) {
    struct fixture *f = *state;
    make_inputs(f, "a.txt");
    output_to(f, "out.json");
    temp_text(&f->folder, "out.json", "old");
    open_sink(f);
    assert_int_equal(put_piece(f, 0, "x"), STATUS_OK);
    assert_int_equal(put_score(f, 0, "x"), STATUS_OK);
    assert_int_equal(put_score(f, 0, "y"), STATUS_OK);
    int64_t confirmed = -1;
    assert_int_equal(f->sink->table->confirmed(f->sink, &confirmed), STATUS_OK);
    assert_int_equal(confirmed, 3);
    expect_ids(f, "out.json.partial", "*xxy"); // confirmed is written
    assert_int_equal(put_score(f, 0, "z"), STATUS_OK);
    assert_int_equal(finish(f, 0), STATUS_OK);
    assert_false(exists(f, "out.json.partial"));
    expect_ids(f, "out.json", "*xxyz");
    assert_int_equal(close_sink(f, true), STATUS_OK);
    expect_ids(f, "out.json", "*xxyz");
}

static void not_complete(void **state) {
    struct fixture *f = *state;
    make_inputs(f, "a.txt b.txt c.txt");
    output_to(f, "out/");
    mkdir(f->path, 0777);
    temp_text(&f->folder, "out/b.jsonl", "{\"id\":\"old\"}\n");
    open_sink(f);
    assert_int_equal(put_score(f, 0, "x"), STATUS_OK);
    assert_int_equal(put_score(f, 1, "y"), STATUS_OK);
    assert_int_equal(finish(f, 0), STATUS_OK);
    assert_true(exists(f, "out/b.jsonl.partial"));
    assert_int_equal(close_sink(f, false), STATUS_OK);
    expect_ids(f, "out/a.jsonl", "x"); // was finished
    expect_ids(f, "out/b.jsonl", "old");
    assert_false(exists(f, "out/b.jsonl.partial"));
    assert_false(exists(f, "out/c.jsonl"));
}

// Three shards open at once, one without documents, one that could not be read.
static void shards(void **state) {
    struct fixture *f = *state;
    make_inputs(f, "a.txt b.jsonl c d.u16");
    output_to(f, "new"); // is made: there are several inputs
    open_sink(f);
    assert_int_equal(put_score(f, 2, "c1"), STATUS_OK);
    assert_int_equal(put_score(f, 0, "a1"), STATUS_OK);
    assert_int_equal(put_piece(f, 3, "d1"), STATUS_OK);
    assert_int_equal(put_score(f, 2, "c2"), STATUS_OK);
    assert_int_equal(finish(f, 2), STATUS_OK);
    assert_int_equal(finish(f, 1), STATUS_OK);
    f->inputs.input[3].unreadable = true;
    assert_int_equal(finish(f, 3), STATUS_OK);
    assert_int_equal(put_score(f, 0, "a2"), STATUS_OK);
    assert_int_equal(finish(f, 0), STATUS_OK);
    assert_int_equal(close_sink(f, true), STATUS_OK);
    expect_ids(f, "new/a.jsonl", "a1a2");
    expect_ids(f, "new/b.jsonl", "");
    expect_ids(f, "new/c.jsonl", "c1c2");
    assert_false(exists(f, "new/d.jsonl"));
    assert_false(exists(f, "new/d.jsonl.partial"));

    bool complete[4] = {false};
    int64_t older = -1;
    assert_int_equal(file_sink_complete(&f->settings, complete, &older), STATUS_OK);
    assert_true(complete[0] && complete[1] && complete[2] && !complete[3]);
    output_to(f, "other");
    assert_int_equal(file_sink_complete(&f->settings, complete, &older), STATUS_OK);
    assert_false(complete[0] || complete[1] || complete[2] || complete[3]);
}

static void many_shards(void **state) {
    struct fixture *f = *state;
    char name[64];
    mkdir(temp_name(&f->folder, "in"), 0777);
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "in/%03d.jsonl", i);
        temp_text(&f->folder, name, "{}");
    }
    assert_int_equal(inputs_expand(temp_name(&f->folder, "in"), &f->inputs), STATUS_OK);
    output_to(f, "out");
    open_sink(f);
    for (int32_t i = 0; i < 200; i++) {
        assert_int_equal(put_score(f, 199 - i, f->inputs.input[199 - i].name), STATUS_OK);
    }
    for (int32_t i = 0; i < 200; i++) {
        assert_int_equal(finish(f, i), STATUS_OK);
    }
    assert_int_equal(close_sink(f, true), STATUS_OK);
    expect_ids(f, "out/000.jsonl", "000.jsonl");
    expect_ids(f, "out/199.jsonl", "199.jsonl");
}

// Sets when NAME was changed last, in seconds and nanoseconds since 1970.
static void date(struct fixture *f, const char *name, time_t seconds, long nanoseconds) {
    const struct timespec times[2] = {
        {.tv_nsec = UTIME_OMIT  },
        { .tv_sec = seconds, .tv_nsec = nanoseconds}
    };
    assert_int_equal(utimensat(AT_FDCWD, temp_name(&f->folder, name), times, 0), 0);
}

static void expect_complete(struct fixture *f, const char *wanted, int64_t wanted_older) {
    bool complete[8] = {false};
    char found[9] = "";
    int64_t older = -1;
    assert_int_equal(file_sink_complete(&f->settings, complete, &older), STATUS_OK);
    for (int64_t i = 0; i < f->inputs.count; i++) {
        found[i] = complete[i] ? 'y' : 'n';
    }
    assert_string_equal(found, wanted);
    assert_int_equal(older, wanted_older);
}

static void older_than_inputs(void **state) {
    struct fixture *f = *state;
    make_inputs(f, "a b c d e");
    output_to(f, "out");
    mkdir(f->path, 0777);
    for (char name[] = "a"; name[0] < 'e'; name[0]++) {
        char path[32];
        snprintf(path, sizeof path, "in/%s", name);
        date(f, path, 1000, 500);
        snprintf(path, sizeof path, "out/%s.jsonl", name);
        temp_text(&f->folder, path, "");
    }
    date(f, "out/a.jsonl", 1000, 500);
    date(f, "out/b.jsonl", 1000, 499);
    date(f, "out/c.jsonl", 999, 900);
    date(f, "out/d.jsonl", 1001, 0);
    expect_complete(f, "ynnyn", 2);
    unlink(temp_name(&f->folder, "in/b")); // gone: what was made of it stays
    unlink(temp_name(&f->folder, "in/d"));
    mkfifo(f->folder.name, 0600); // what comes out of it is not known
    expect_complete(f, "yynnn", 1);

    bool complete[5];
    int64_t older = 0;
    f->settings.no_clobber = true;
    assert_int_equal(file_sink_complete(&f->settings, complete, &older), STATUS_USAGE);
    date(f, "out/c.jsonl", 1000, 500);
    expect_complete(f, "yyynn", 0);
}

// What a limit cut is left out among others, and alone it is never complete.
static void cut_by_limit(void **state) {
    struct fixture *f = *state;
    make_inputs(f, "a b c");
    output_to(f, "out");
    open_sink(f);
    assert_int_equal(put_score(f, 0, "a1"), STATUS_OK);
    assert_int_equal(finish(f, 0), STATUS_OK);
    assert_int_equal(put_score(f, 1, "b1"), STATUS_OK);
    f->inputs.input[1].cut = true;
    assert_int_equal(finish(f, 1), STATUS_OK);
    assert_int_equal(close_sink(f, true), STATUS_OK);
    expect_ids(f, "out/a.jsonl", "a1");
    assert_false(exists(f, "out/b.jsonl"));
    assert_false(exists(f, "out/b.jsonl.partial"));
    expect_complete(f, "ynn", 0);

    for (int packed = 0; packed < 2; packed++) {
        for (int cut = 1; cut >= 0; cut--) {
            char one[600];
            snprintf(one, sizeof one, "%s/in/a", f->folder.path);
            inputs_free(&f->inputs);
            assert_int_equal(inputs_expand(one, &f->inputs), STATUS_OK);
            f->inputs.input[0].cut = cut == 1;
            output_to(f, packed == 1 ? "one.gz" : "one");
            open_sink(f);
            assert_int_equal(put_score(f, 0, "a1"), STATUS_OK);
            assert_int_equal(finish(f, 0), STATUS_OK);
            assert_int_equal(close_sink(f, true), STATUS_OK);
            if (packed == 0) expect_ids(f, "one", "a1");
            expect_complete(f, cut == 1 ? "n" : "y", cut);
        }
    }
}

static void refused_names(void **state) {
    struct fixture *f = *state;
    make_inputs(f, "a.jsonl a.txt b.u16");
    output_to(f, "out/");
    assert_int_equal(file_sink_check(&f->settings), STATUS_USAGE); // a twice
    unlink(temp_name(&f->folder, "in/a.txt"));
    inputs_free(&f->inputs);
    make_inputs(f, "a.jsonl b.u16");
    assert_int_equal(file_sink_check(&f->settings), STATUS_OK);
    output_to(f, "in");
    assert_int_equal(file_sink_check(&f->settings), STATUS_USAGE); // over the input
    output_to(f, "all.jsonl");
    assert_int_equal(file_sink_check(&f->settings), STATUS_USAGE); // a file for two
    temp_text(&f->folder, "file", "");
    output_to(f, "file");
    assert_int_equal(file_sink_check(&f->settings), STATUS_USAGE);
    output_to(f, "all.jsonl.xz");
    assert_int_equal(file_sink_check(&f->settings), STATUS_USAGE); // no folder's name either
    output_to(f, "no/such/");
    assert_int_equal(file_sink_check(&f->settings), STATUS_USAGE);
    assert_int_equal(file_sink_open(&f->settings, &f->sink), STATUS_IO);

    inputs_free(&f->inputs);
    char one[600];
    snprintf(one, sizeof one, "%s/in/a.jsonl", f->folder.path);
    assert_int_equal(inputs_expand(one, &f->inputs), STATUS_OK);
    output_to(f, "link");
    assert_int_equal(symlink(one, f->path), 0);
    assert_int_equal(file_sink_check(&f->settings), STATUS_USAGE); // the input by another name
    output_to(f, "all.jsonl.bz2");
    assert_int_equal(file_sink_check(&f->settings), STATUS_USAGE); // a packing that is not known
    output_to(f, "no/such");
    assert_int_equal(file_sink_check(&f->settings), STATUS_USAGE);
    f->settings.path = "";
    assert_int_equal(file_sink_check(&f->settings), STATUS_USAGE);
}

static void no_clobber(void **state) {
    struct fixture *f = *state;
    make_inputs(f, "a.txt b.txt");
    output_to(f, "out");
    mkdir(f->path, 0777);
    f->settings.no_clobber = true;
    open_sink(f);
    assert_int_equal(put_score(f, 0, "x"), STATUS_OK);
    temp_text(&f->folder, "out/a.jsonl", "{\"id\":\"theirs\"}\n"); // meanwhile
    assert_int_equal(finish(f, 0), STATUS_USAGE);
    assert_int_equal(put_score(f, 1, "y"), STATUS_USAGE); // nothing goes on after a failure
    assert_int_equal(close_sink(f, false), STATUS_OK);
    expect_ids(f, "out/a.jsonl", "theirs");
    assert_false(exists(f, "out/a.jsonl.partial"));

    assert_int_equal(file_sink_check(&f->settings), STATUS_USAGE);
    f->settings.resume = true;
    open_sink(f);
    assert_int_equal(put_score(f, 1, "y"), STATUS_OK);
    assert_int_equal(finish(f, 1), STATUS_OK);
    assert_int_equal(close_sink(f, true), STATUS_OK);
    expect_ids(f, "out/b.jsonl", "y");
    assert_false(exists(f, "out/b.jsonl.partial"));
}

static void streams_and_links(void **state) {
    struct fixture *f = *state;
    f->settings.inputs = NULL;
    temp_text(&f->folder, "target", "old");
    output_to(f, "link");
    assert_int_equal(symlink("target", f->path), 0);
    open_sink(f);
    assert_int_equal(put_score(f, 5, "x"), STATUS_OK);
    assert_int_equal(finish(f, 5), STATUS_OK);
    assert_int_equal(put_score(f, 0, "y"), STATUS_OK);
    assert_true(exists(f, "target.partial"));
    assert_int_equal(close_sink(f, true), STATUS_OK);
    struct stat about;
    assert_int_equal(lstat(f->path, &about), 0);
    assert_true(S_ISLNK(about.st_mode));
    expect_ids(f, "target", "xy");
    f->settings.path = f->folder.path;
    assert_int_equal(file_sink_check(&f->settings), STATUS_USAGE);
}

static void full_disk(void **state) {
    struct fixture *f = *state;
    make_inputs(f, "a.txt");
    f->settings.path = "/dev/full";
    if (access("/dev/full", W_OK) != 0) skip();
    open_sink(f);
    assert_int_equal(put_score(f, 0, "x"), STATUS_OK);
    assert_int_equal(finish(f, 0), STATUS_IO);
    assert_int_equal(close_sink(f, false), STATUS_OK);
    assert_int_equal(access("/dev/full", W_OK), 0); // still there, and a device
    assert_false(exists(f, "/dev/full.partial"));
}

// A file that may not grow any more: the write fails, the signal does not end us, nothing stays.
static void file_limit(void **state) {
    struct fixture *f = *state;
    struct rlimit before, small;
    make_inputs(f, "a.txt");
    output_to(f, "out");
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 300000;
    open_sink(f);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum status status = STATUS_OK;
    for (int i = 0; i < 10000 && status == STATUS_OK; i++) {
        status = put_score(f, 0, "x");
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(status, STATUS_IO);
    assert_int_equal(finish(f, 0), STATUS_IO);
    assert_int_equal(close_sink(f, true), STATUS_IO);
    assert_false(exists(f, "out"));
    assert_false(exists(f, "out.partial"));
}

// Standard output put aside for a pipe of ours.
static void reader_gone(void **state) {
    struct fixture *f = *state;
    int ends[2];
    make_inputs(f, "a.txt b.txt");
    f->settings.path = "-";
    open_sink(f);
    fflush(stdout);
    int saved = dup(STDOUT_FILENO);
    assert_int_equal(pipe(ends), 0);
    assert_true(dup2(ends[1], STDOUT_FILENO) >= 0);
    close(ends[1]);
    char line[64] = "";
    int64_t confirmed = 0;
    enum status first = put_score(f, 1, "x");
    enum status second = f->sink->table->confirmed(f->sink, &confirmed);
    ssize_t got = read(ends[0], line, 10);
    close(ends[0]);
    enum status third = put_score(f, 0, "y");
    enum status fourth = f->sink->table->confirmed(f->sink, &confirmed);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    assert_int_equal(first, STATUS_OK);
    assert_int_equal(second, STATUS_OK);
    assert_int_equal(got, 10);
    assert_string_equal(line, "{\"id\":\"x\",");
    assert_int_equal(third, STATUS_OK);
    assert_int_equal(fourth, STATUS_IO);
    assert_int_equal(confirmed, 1);
    assert_int_equal(close_sink(f, false), STATUS_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(one_file),          TEST(not_complete), TEST(shards),        TEST(older_than_inputs),
        TEST(cut_by_limit),      TEST(many_shards),  TEST(refused_names), TEST(no_clobber),
        TEST(streams_and_links), TEST(full_disk),    TEST(file_limit),    TEST(reader_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
