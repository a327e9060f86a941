// The passkey task through tokenizers that join what stands together: counts, answers, and speed.

#include "ops/base/clock.h"
#include "tests/bpe_case.h"
#include "tests/passkey_case.h"

#include <inttypes.h>
#include <unistd.h>

static struct tokenizer *open_bpe(const char *path) {
    struct tokenizer *tokenizer = NULL;
    assert_int_equal(bpe_tokenizer_open(path, TEXT_STRICT, &tokenizer), STATUS_OK);
    return tokenizer;
}

// The tokenizer of the official checkpoints, where it is at hand; NULL: said to be skipped.
static struct tokenizer *open_gpt_neox(void) {
    char path[4096];
    const char *shared = getenv("LONGSCAN_SHARED");
    snprintf(path, sizeof path, "%s/data/gpt-neox-20b/tokenizer.json",
             shared == NULL ? TESTS_FOLDER "/../../shared" : shared);
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        printf("skipped 'gpt-neox-20b: no %s'\n", path);
        return NULL;
    }
    fclose(file);
    return open_bpe(path);
}

// Keys of two tokens; those of three have two more, for each stands there twice.
static void the_papers_counts_are_kept(void **state) {
    static const struct {
        const char *length;
        int64_t tokens;
    } cases[] = {
        {"1k",   1001  },
        {"4k",   4076  },
        {"8k",   8176  },
        {"16k",  16376 },
        {"32k",  32751 },
        {"256k", 262126}
    };
    struct tokenizer *tokenizer = open_gpt_neox();
    (void)state;
    if (tokenizer == NULL) {
        skip();
        return;
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct settings settings = settings_of(cases[i].length);
        struct passkey_prompt prompt = {0};
        struct passkey_sample sample;
        struct passkey_task *task = open_task(&settings, tokenizer, -1);
        for (int64_t n = 0; n < 10; n++) {
            passkey_task_sample(task, n, &sample);
            assert_int_equal(passkey_task_prompt(task, &sample, &prompt), STATUS_OK);
            assert_in_range(prompt.answers, 2, 3);
            assert_int_equal(prompt.tokens, cases[i].tokens + 2 * (prompt.answers - 2));
        }
        assert_int_equal(passkey_task_new_tokens(task), 5);
        passkey_prompt_free(&prompt);
        passkey_task_close(task);
    }
    tokenizer->close(tokenizer);
}

// InfiniteBench's counts of noise lines, but for 8K, where one less fits.
static void infinitebench_counts_are_kept(void **state) {
    struct settings settings = settings_of("8k,16k,32k,64k,128k,256k");
    static const int64_t lines[] = {325, 652, 1305, 2610, 5220, 10440};
    struct tokenizer *tokenizer = open_gpt_neox();
    struct passkey_prompt prompt = {0};
    (void)state;
    if (tokenizer == NULL) {
        skip();
        return;
    }
    settings.style = "infinitebench";
    settings.samples = 1;
    struct passkey_task *task = open_task(&settings, tokenizer, -1);
    for (int64_t i = 0; i < 6; i++) {
        struct passkey_sample sample;
        passkey_task_sample(task, i, &sample);
        assert_int_equal(sample.units - 1, lines[i]);
        if (i == 0) {
            assert_int_equal(passkey_task_prompt(task, &sample, &prompt), STATUS_OK);
            assert_in_range(prompt.tokens, 8192 - 24, 8192);
        }
    }
    passkey_prompt_free(&prompt);
    assert_int_equal(passkey_task_new_tokens(task), 6);
    passkey_task_close(task);
    tokenizer->close(tokenizer);
}

// A prompt's tokens are those of its text in one go; with the answer behind it the same, and more; no
// prompt is too long, nor would one more unit fit where units are all alike.
static void check_sample(struct passkey_task *task, struct tokenizer *tokenizer,
                         const struct passkey_sample *sample, int64_t room, bool bos) {
    struct passkey_prompt prompt = {0};
    struct bytes text = {0}, answer = {0};
    struct ids ids = {0};
    const int64_t first = bos ? 1 : 0;
    assert_int_equal(passkey_task_prompt(task, sample, &prompt), STATUS_OK);
    assert_int_equal(passkey_task_text(task, sample, &text, &answer), STATUS_OK);
    assert_int_equal(encode_text(tokenizer, text.data, text.count, NULL, &ids), STATUS_OK);
    assert_int_equal(prompt.tokens, (int64_t)ids.count + first);
    assert_memory_equal(prompt.token + first, ids.id, ids.count * sizeof *ids.id);
    assert_int_equal(bytes_put(&text, answer.data, answer.count), STATUS_OK);
    assert_int_equal(encode_text(tokenizer, text.data, text.count, NULL, &ids), STATUS_OK);
    assert_int_equal(prompt.tokens + prompt.answers, (int64_t)ids.count + first);
    assert_memory_equal(prompt.token + first, ids.id, ids.count * sizeof *ids.id);
    assert_true(prompt.tokens <= sample->length - room);
    assert_in_range(prompt.answers, 1, passkey_task_new_tokens(task));
    ids_free(&ids);
    bytes_free(&text);
    bytes_free(&answer);
    passkey_prompt_free(&prompt);
}

static void check_tokenizer(struct tokenizer *tokenizer) {
    static const char *const styles[] = {"paper", "infinitebench", "niah"};
    static const char *const fillers[] = {NULL, TESTS_FOLDER "/passkey/filler.txt",
                                          TESTS_FOLDER "/../README.md"};
    static const int64_t digits[] = {0, 1, 18};
    for (int i = 0; i < 27; i++) {
        struct settings settings = settings_of("700,1k,5001");
        struct passkey_sample sample;
        settings.style = styles[i % 3];
        settings.filler = fillers[i / 3 % 3];
        settings.digits = digits[i / 9];
        settings.add_prefix = i % 2;
        settings.depths = i % 2 == 0 ? "0,0.5,1" : "even:4";
        struct passkey_task *task = open_task(&settings, tokenizer, i % 4 == 0 ? 0 : -1);
        for (int64_t n = 0; n < passkey_task_count(task); n++) {
            passkey_task_sample(task, n, &sample);
            check_sample(task, tokenizer, &sample, i % 3 == 2 ? 128 : 0, i % 4 == 0);
        }
        passkey_task_close(task);
    }
}

static void prompts_are_their_texts_tokens(void **state) {
    static const char *const paths[] = {TESTS_FOLDER "/tokenizers/gpt2",
                                        TESTS_FOLDER "/tokenizers/neox",
                                        TESTS_FOLDER "/tokenizers/llama"};
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct tokenizer *tokenizer = open_bpe(paths[i]);
        check_tokenizer(tokenizer);
        tokenizer->close(tokenizer);
    }
}

static void so_are_those_of_gpt_neox(void **state) {
    struct tokenizer *tokenizer = open_gpt_neox();
    (void)state;
    if (tokenizer == NULL) {
        skip();
        return;
    }
    check_tokenizer(tokenizer);
    tokenizer->close(tokenizer);
}

// "s" and the space before the answer are one token: the answer is read by itself, the prompt as it is.
static void an_answer_that_is_joined_is_read_apart(void **state) {
    const struct bpe_case joins = {
        .vocab = ",\"s\u0120\":256",
        .merges = "\"s \u0120\"",
        .outside =
            "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
            "\"pattern\":{\"Regex\":\"[^\\\\n]+|\\\\n+\"},\"behavior\":\"Isolated\","
            "\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
            "\"use_regex\":false}]}",
    };
    struct settings settings = settings_of("1k");
    struct tokenizer *tokenizer = NULL;
    struct passkey_prompt prompt = {0};
    struct passkey_sample sample;
    (void)state;
    assert_int_equal(bpe_make(&joins, TEXT_STRICT, &tokenizer), STATUS_OK);
    struct passkey_task *task = open_task(&settings, tokenizer, -1);
    passkey_task_sample(task, 0, &sample);
    assert_int_equal(passkey_task_prompt(task, &sample, &prompt), STATUS_OK);
    assert_int_equal(prompt.token[prompt.tokens - 1], 's');
    assert_int_equal(prompt.answers, 6);
    assert_int_equal(prompt.token[prompt.tokens], ' ');
    assert_int_equal(prompt.token[prompt.tokens + 1], sample.key[0]);
    passkey_prompt_free(&prompt);
    passkey_task_close(task);
    tokenizer->close(tokenizer);
}

// A unit of filler that is refused is so before anything is run.
static void filler_that_is_no_text_is_refused(void **state) {
    char path[] = "/tmp/passkey-filler-XXXXXX";
    struct settings settings = settings_of("1k");
    struct passkey_task *task = NULL;
    struct tokenizer *tokenizer = open_bpe(TESTS_FOLDER "/tokenizers/neox");
    const int file = mkstemp(path);
    (void)state;
    assert_true(file >= 0);
    assert_int_equal(write(file, "Good.\nB\xff d.\n", 12), 12);
    close(file);
    settings.filler = path;
    assert_int_equal(passkey_task_open(&settings, tokenizer, -1, &task), STATUS_USAGE);
    unlink(path);
    tokenizer->close(tokenizer);
}

static void report_speed(struct tokenizer *tokenizer, const char *name, const char *length) {
    struct settings settings = settings_of(length);
    struct passkey_prompt prompt = {0};
    struct passkey_sample sample;
    struct bytes text = {0}, answer = {0};
    int64_t start = clock_ns();
    struct passkey_task *task = open_task(&settings, tokenizer, -1);
    const double opened = (double)(clock_ns() - start) / 1e6;
    passkey_task_sample(task, 5, &sample);
    assert_int_equal(passkey_task_text(task, &sample, &text, &answer), STATUS_OK);
    start = clock_ns();
    assert_int_equal(passkey_task_prompt(task, &sample, &prompt), STATUS_OK);
    const double seconds = (double)(clock_ns() - start) / 1e9;
    printf("%s, %s: opened in %.1f ms, a prompt of %" PRId64 " tokens in %.1f ms, %.0f MB/s\n",
           name, length, opened, prompt.tokens, 1e3 * seconds, (double)text.count / seconds / 1e6);
    bytes_free(&text);
    bytes_free(&answer);
    passkey_prompt_free(&prompt);
    passkey_task_close(task);
}

static void speed_is_told(void **state) {
    struct tokenizer *bytes = bytes_tokenizer();
    struct tokenizer *neox = open_gpt_neox();
    (void)state;
    report_speed(bytes, "byte", "64k");
    report_speed(bytes, "byte", "1m");
    report_speed(bytes, "byte", "16m");
    bytes->close(bytes);
    if (neox == NULL) {
        skip();
        return;
    }
    report_speed(neox, "gpt-neox", "64k");
    report_speed(neox, "gpt-neox", "1m");
    neox->close(neox);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_papers_counts_are_kept),
        cmocka_unit_test(infinitebench_counts_are_kept),
        cmocka_unit_test(prompts_are_their_texts_tokens),
        cmocka_unit_test(so_are_those_of_gpt_neox),
        cmocka_unit_test(an_answer_that_is_joined_is_read_apart),
        cmocka_unit_test(filler_that_is_no_text_is_refused),
        cmocka_unit_test(speed_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
