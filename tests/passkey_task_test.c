// The passkey task: its strings and counts, and where keys stand.

#include "ops/base/clock.h"
#include "tests/passkey_case.h"

#include <inttypes.h>

static uint32_t crc32_of(const char *text, size_t bytes) { // as zlib has it
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= (unsigned char)text[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xEDB88320U : 0);
        }
    }
    return ~crc;
}

// One line of golden.txt against the sample whose turn it is, and its tokens against its text.
static void check_golden(struct passkey_task *task, int64_t index, const char *line, bool bos) {
    char id[PASSKEY_ID_MOST], key[PASSKEY_KEY_MOST];
    int64_t place = 0, units = 0, bytes = 0;
    uint32_t crc = 0;
    struct passkey_sample sample;
    struct passkey_prompt prompt = {0};
    struct bytes text = {0}, answer = {0};
    // NOLINTNEXTLINE(cert-err34-c): a file of ours
    assert_int_equal(sscanf(line, "sample %63s %39s %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNu32,
                            id, key, &place, &units, &bytes, &crc),
                     6);
    passkey_task_sample(task, index, &sample);
    assert_string_equal(sample.id, id);
    assert_string_equal(sample.key, key);
    assert_int_equal(sample.position, place);
    assert_int_equal(sample.units, units);
    assert_int_equal(passkey_task_text(task, &sample, &text, &answer), STATUS_OK);
    if ((int64_t)text.count != bytes || crc32_of(text.data, text.count) != crc) {
        fail_msg("%s: other text than Python's:\n%.*s", id, (int)text.count, text.data);
    }
    assert_int_equal(answer.count, 1 + strlen(key));
    assert_memory_equal(answer.data + 1, key, strlen(key));
    assert_int_equal(passkey_task_prompt(task, &sample, &prompt), STATUS_OK);
    assert_int_equal(prompt.tokens, bytes + (bos ? 1 : 0));
    assert_int_equal(prompt.answers, answer.count);
    for (int64_t i = 0; i < bytes; i++) {
        assert_int_equal(prompt.token[i + (bos ? 1 : 0)], (unsigned char)text.data[i]);
    }
    assert_int_equal(prompt.token[prompt.tokens], ' ');
    passkey_prompt_free(&prompt);
    bytes_free(&text);
    bytes_free(&answer);
}

static struct passkey_task *open_golden(const char *line, struct tokenizer *tokenizer, bool *bos) {
    static char style[16], lengths[64], depths[64], positions[64], filler[64], path[4096];
    struct settings settings = {.style = style, .lengths = lengths, .depths = depths};
    int first = 0;
    // NOLINTNEXTLINE(cert-err34-c)
    assert_int_equal(sscanf(line,
                            "task %15s %63s %63s %63s %" SCNd64 " %" SCNd64 " %" SCNd64
                            " %63s %" SCNd64 " %d",
                            style, lengths, depths, positions, &settings.samples, &settings.seed,
                            &settings.digits, filler, &settings.add_prefix, &first),
                     10);
    snprintf(path, sizeof path, TESTS_FOLDER "/passkey/%s", filler);
    if (strcmp(filler, "-") != 0) settings.filler = path;
    if (strcmp(positions, "-") != 0) settings.positions = positions;
    *bos = first >= 0;
    return open_task(&settings, tokenizer, first);
}

static void python_makes_the_same(void **state) {
    struct tokenizer *tokenizer = bytes_tokenizer();
    struct passkey_task *task = NULL;
    char line[512];
    int64_t samples = 0, index = 0;
    bool bos = false;
    FILE *file = fopen(TESTS_FOLDER "/passkey/golden.txt", "rb");
    (void)state;
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "task", 4) == 0) {
            if (task != NULL) assert_int_equal(index, passkey_task_count(task));
            passkey_task_close(task);
            task = open_golden(line, tokenizer, &bos);
            index = 0;
        } else {
            check_golden(task, index++, line, bos);
            samples++;
        }
    }
    assert_true(samples > 500);
    passkey_task_close(task);
    fclose(file);
    tokenizer->close(tokenizer);
}

static void samples_are_spread(void **state) {
    static const struct {
        int64_t samples;
        double first, last;
    } cases[] = {
        {1,   0.55, 0.55},
        {3,   0.15, 0.85},
        {10,  0.05, 0.95},
        {200, 0.05, 0.95}
    };
    struct tokenizer *tokenizer = bytes_tokenizer();
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct settings settings = settings_of("2k,1k");
        int64_t of_depth[10] = {0};
        struct passkey_sample sample;
        settings.samples = cases[i].samples;
        struct passkey_task *task = open_task(&settings, tokenizer, -1);
        assert_int_equal(passkey_task_count(task), 2 * cases[i].samples);
        for (int64_t n = 0; n < cases[i].samples; n++) {
            passkey_task_sample(task, n, &sample);
            assert_int_equal(sample.number, n);
            assert_int_equal(sample.length, 2048);
            of_depth[(int)(10.0 * sample.depth)]++;
            if (n == 0) assert_true(sample.depth == cases[i].first);
        }
        assert_true(sample.depth == cases[i].last);
        for (int k = 0; k < 10 && cases[i].samples >= 10; k++) {
            assert_int_equal(of_depth[k], cases[i].samples / 10);
        }
        passkey_task_sample(task, cases[i].samples, &sample);
        assert_int_equal(sample.length, 1024);
        passkey_task_close(task);
    }
    tokenizer->close(tokenizer);
}

// Of --depths even: a place of the half length is one of the whole; equal places have equal keys, in the
// same order, and others have others.
static void even_depths_share_places_and_keys(void **state) {
    struct settings settings = settings_of("256k,1k,2k,4k,8k,16k,32k,64k,128k");
    struct tokenizer *tokenizer = bytes_tokenizer();
    int shared = 0, places = 0;
    (void)state;
    settings.depths = "even";
    settings.samples = 20;
    struct passkey_task *task = open_task(&settings, tokenizer, -1);
    const int64_t count = passkey_task_count(task);
    struct passkey_sample *all = calloc((size_t)count, sizeof *all);
    assert_non_null(all);
    for (int64_t i = 0; i < count; i++) {
        passkey_task_sample(task, i, &all[i]);
    }
    for (int64_t i = 0; i < count; i++) {
        bool elsewhere = false;
        int64_t before = 0;
        for (int64_t j = i - 1; j >= 0 && all[j].length == all[i].length; j--) {
            before += all[j].position == all[i].position;
        }
        for (int64_t j = 0; j < count; j++) {
            if (all[j].length == all[i].length) continue;
            int64_t there = 0; // of its length and place, before it
            for (int64_t l = j - 1; l >= 0 && all[l].length == all[j].length; l--) {
                there += all[l].position == all[j].position;
            }
            const bool same = all[j].position == all[i].position && before == there;
            assert_int_equal(same, strcmp(all[j].key, all[i].key) == 0);
            elsewhere = elsewhere || (same && all[j].length > all[i].length);
        }
        shared += elsewhere;
        places++;
    }
    printf("of %d samples %d share place and key with one of a longer length\n", places, shared);
    assert_int_equal(places, 180);
    // Each second place of all lengths but the longest, two samples each; the shortest has too few units
    // for its ninth, which then stands with its tenth.
    assert_int_equal(shared, 8 * 5 * 2 - 2);
    free(all);
    passkey_task_close(task);
    tokenizer->close(tokenizer);
}

static void depths_0_and_1_are_the_ends(void **state) {
    static const char *const styles[] = {"paper", "infinitebench", "niah"};
    struct tokenizer *tokenizer = bytes_tokenizer();
    (void)state;
    for (int style = 0; style < 3; style++) {
        struct settings settings = settings_of("4k");
        settings.depths = "1,0.0";
        settings.samples = 2;
        settings.style = styles[style];
        struct passkey_task *task = open_task(&settings, tokenizer, -1);
        for (int64_t i = 0; i < 2; i++) {
            struct passkey_sample sample;
            struct bytes text = {0}, answer = {0};
            passkey_task_sample(task, i, &sample);
            assert_true(sample.depth == (double)i);
            assert_int_equal(sample.position, i == 0 ? 0 : sample.units - 1);
            assert_int_equal(passkey_task_text(task, &sample, &text, &answer), STATUS_OK);
            assert_int_equal(bytes_put(&text, "", 1), STATUS_OK);
            const char *noise = strstr(text.data, "The grass");
            const char *key = strstr(text.data, sample.key);
            assert_non_null(noise);
            assert_true(i == 0 ? key < noise : key > noise);
            if (i == 1) assert_null(strstr(key, "The grass"));
            bytes_free(&text);
            bytes_free(&answer);
        }
        passkey_task_close(task);
    }
    tokenizer->close(tokenizer);
}

static void positions_are_kept(void **state) {
    struct settings settings = settings_of("2k,16k");
    struct tokenizer *tokenizer = bytes_tokenizer();
    (void)state;
    settings.depths = "10";
    settings.positions = "8k,1k,0,15k";
    settings.samples = 8;
    struct passkey_task *task = open_task(&settings, tokenizer, 0);
    for (int64_t i = 0; i < 16; i++) {
        static const int64_t wanted[2][8] = {
            {0, 0, 0,    0,    1024, 1024, 1024,  1024 },
            {0, 0, 1024, 1024, 8192, 8192, 15360, 15360}
        };
        struct passkey_sample sample, other;
        struct bytes text = {0}, answer = {0};
        passkey_task_sample(task, i, &sample);
        assert_int_equal(passkey_task_text(task, &sample, &text, &answer), STATUS_OK);
        assert_int_equal(bytes_put(&text, "", 1), STATUS_OK);
        const int64_t at = 1 + (strstr(text.data, "The passkey is") - text.data);
        const int64_t want = wanted[i / 8][i % 8];
        if (want == 0) assert_int_equal(sample.position, 0);
        if (want > 0) assert_in_range(want - at, 0, 89);
        if (i == 4) { // the first at 1k of either length
            passkey_task_sample(task, 10, &other);
            assert_int_equal(other.position, sample.position);
            assert_string_equal(other.key, sample.key);
        }
        bytes_free(&text);
        bytes_free(&answer);
    }
    passkey_task_close(task);
    tokenizer->close(tokenizer);
}

// What is read once for all prompts begins each of them, up to the key.
static void a_trunk_begins_all_prompts(void **state) {
    struct settings settings = settings_of("1k,20k,9k");
    struct tokenizer *tokenizer = bytes_tokenizer();
    struct passkey_prompt trunk = {0}, prompt = {0};
    (void)state;
    settings.add_prefix = 2;
    settings.filler = TESTS_FOLDER "/passkey/filler.txt";
    struct passkey_task *task = open_task(&settings, tokenizer, 0);
    assert_int_equal(passkey_task_trunk(task, 20480, &trunk), STATUS_OK);
    assert_int_equal(trunk.tokens, 20480);
    for (int64_t i = 0; i < passkey_task_count(task); i++) {
        struct passkey_sample sample;
        int64_t same = 0;
        passkey_task_sample(task, i, &sample);
        assert_int_equal(passkey_task_prompt(task, &sample, &prompt), STATUS_OK);
        while (same < prompt.tokens && prompt.token[same] == trunk.token[same]) {
            same++;
        }
        const int64_t rest = passkey_sample_cost(task, &sample);
        assert_in_range(prompt.tokens - same, rest - 4, rest);
    }
    assert_int_equal(passkey_task_trunk(task, 100, &trunk), STATUS_OK);
    assert_int_equal(trunk.tokens, 100);
    passkey_prompt_free(&trunk);
    passkey_prompt_free(&prompt);
    passkey_task_close(task);
    tokenizer->close(tokenizer);
}

static void long_lengths_and_many_samples_hold(void **state) {
    struct settings settings = settings_of("1024g,512g,1k");
    struct tokenizer *tokenizer = bytes_tokenizer();
    struct passkey_sample sample;
    (void)state;
    settings.depths = "even:1000000";
    settings.samples = 10000000;
    const int64_t start = clock_ns();
    struct passkey_task *task = open_task(&settings, tokenizer, -1);
    assert_int_equal(passkey_task_count(task), 30000000);
    for (int64_t i = 0; i < passkey_task_count(task); i += 29) {
        passkey_task_sample(task, i, &sample);
        assert_in_range(sample.position, 0, sample.units - 1);
        assert_true(passkey_sample_cost(task, &sample) > 0);
    }
    printf("a sample in %" PRId64 " ns\n", (clock_ns() - start) / (passkey_task_count(task) / 29));
    passkey_task_sample(task, 9999999, &sample);
    assert_true(sample.position > sample.units - sample.units / 100000);
    passkey_task_close(task);
    tokenizer->close(tokenizer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(python_makes_the_same),
        cmocka_unit_test(samples_are_spread),
        cmocka_unit_test(even_depths_share_places_and_keys),
        cmocka_unit_test(depths_0_and_1_are_the_ends),
        cmocka_unit_test(positions_are_kept),
        cmocka_unit_test(a_trunk_begins_all_prompts),
        cmocka_unit_test(long_lengths_and_many_samples_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
