// tokenizer.json: what is refused, and that the message names the field.

#include "pipeline/bpe_vocab.h"

#include "pipeline/libraries.h"
#include "tests/bpe_case.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include "tests/temp_folder.h"

#include <unistd.h>

// What the log said meanwhile goes into line.
static enum status make_logged(const char *json, size_t bytes, char *line, size_t room) {
    struct tokenizer *tokenizer = NULL;
    FILE *file = tmpfile();
    assert_non_null(file);
    fflush(stderr);
    const int before = dup(STDERR_FILENO);
    assert_true(dup2(fileno(file), STDERR_FILENO) >= 0);
    const enum status status =
        bpe_tokenizer_make("case.json", json, bytes, TEXT_STRICT, &tokenizer);
    fflush(stderr);
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    close(before);
    rewind(file);
    line[fread(line, 1, room - 1, file)] = '\0';
    fclose(file);
    if (status == STATUS_OK) tokenizer->close(tokenizer);
    return status;
}

static void expect_refused(const struct bpe_case *c, const char *words) {
    char line[2048];
    char *json = bpe_json(c);
    const enum status status = make_logged(json, strlen(json), line, sizeof line);
    if (status != STATUS_MISMATCH || strstr(line, words) == NULL) {
        fail_msg("status %d, and not \"%s\" but: %s", (int)status, words, line);
    }
    free(json);
}

#define SPLIT(pattern, behavior, invert)                                                           \
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":" \
    "{" pattern "},\"behavior\":\"" behavior "\",\"invert\":" invert                               \
    "},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}"
#define REGEX(pattern) SPLIT("\"Regex\":\"" pattern "\"", "Isolated", "false")

static void other_kinds_are_refused_by_field(void **state) {
    static const struct {
        const char *outside, *words;
    } cases[] = {
        {"\"normalizer\":{\"type\":\"Lowercase\"}," BYTE_LEVEL,            "normalizer.type is \"Lowercase\""                      },
        {"\"normalizer\":{\"type\":\"NFKC\"}," BYTE_LEVEL,                 "normalizer.type is \"NFKC\""                           },
        {"\"normalizer\":[1]," BYTE_LEVEL,                                 "normalizer is not a JSON object"                       },
        {"\"version\":\"1.0\"",                                            "pre_tokenizer is null or not there"                    },
        {"\"pre_tokenizer\":{\"type\":\"Metaspace\"}",                     "pre_tokenizer.type is \"Metaspace\""                   },
        {"\"pre_tokenizer\":{\"type\":\"ByteLevel\"}",                     "pre_tokenizer.add_prefix_space is true"                },
        {"\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":"
         "false}",                                                "pre_tokenizer.use_regex is false"                      },
        {"\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[]}", "has 0 steps"                                           },
        {SPLIT("\"String\":\" \"",                                         "Isolated",                                               "false"), "pretokenizers[0].pattern is {\"String\""},
        {SPLIT("\"Regex\":\"a\"",                       "Removed",                                                                               "false"), "pretokenizers[0].behavior is \"Removed\""},
        {SPLIT("\"Regex\":\"a\"",                                 "Isolated",   "true"), "pretokenizers[0].invert is true"},
        {REGEX("a("),                                                                "does not compile"                                                                                                 },
        {REGEX("a*"),                                                         "may match nothing"                                                                             },
        {REGEX("(?<=a)b"),                                                      "this kind of group is not supported at its byte 0"                            },
        {REGEX("(?<n>a)"),                                                      "this kind of group is not supported"                                  },
        {REGEX("a\\\\b"),                                                 "this escape is not supported at its byte 1"},
        {REGEX("a\\\\hb"),                                                 "this escape is not supported"              },
        {REGEX("\\\\p{Han}+"),                                                  "only general categories"             },
        {REGEX("[a[b]]"),                                                 "a class inside a class"                          },
        {REGEX("[a&&b]"),                                             "&& is not supported"                          },
        {REGEX("[\\\\s-a]"),                                                  "a range from or to"                                 },
        {REGEX("[a"),                                                  "a class has no end"                                        },
        {REGEX("^a"),                                               "this character has two meanings"                                 },
        {REGEX("a{2}+"),                                                      "what stands behind this repetition"                                        },
        {REGEX("a{,2}b"),                                                      "this repetition is not supported"                              },
        {"\"post_processor\":{\"type\":\"BertProcessing\"}," BYTE_LEVEL,
         "post_processor.type is \"BertProcessing\""                 },
        {"\"decoder\":{\"type\":\"Metaspace\"}," BYTE_LEVEL,                                                  "decoder.type is \"Metaspace\""                  },
        {BYTE_LEVEL "," BYTE_LEVEL,   "the file.pre_tokenizer is there twice"                                                                               },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        expect_refused(&(struct bpe_case){.outside = cases[i].outside}, cases[i].words);
    }
}

// They change no id of the text; the hash is that of the file without them.
static void post_processors_are_read(void **state) {
    static const char *const some[] = {
        "\"post_processor\":null," BYTE_LEVEL,
        "\"post_processor\":{\"type\":\"ByteLevel\"}," BYTE_LEVEL,
        "\"post_processor\":{\"type\":\"TemplateProcessing\",\"special_tokens\":{}}," BYTE_LEVEL,
        "\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},"
        "{\"type\":\"TemplateProcessing\",\"special_tokens\":{}}]}," BYTE_LEVEL,
    };
    struct tokenizer *plain = NULL, *other = NULL;
    (void)state;
    assert_int_equal(bpe_make(&(struct bpe_case){.outside = BYTE_LEVEL}, TEXT_STRICT, &plain),
                     STATUS_OK);
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) {
        assert_int_equal(bpe_make(&(struct bpe_case){.outside = some[i]}, TEXT_STRICT, &other),
                         STATUS_OK);
        assert_int_equal(other->hash, plain->hash);
        other->close(other);
    }
    // bytes that are not UTF-8 become ids with one of the two, and end the document with the other
    assert_int_equal(bpe_make(&(struct bpe_case){.outside = BYTE_LEVEL}, TEXT_REPLACE, &other),
                     STATUS_OK);
    assert_int_not_equal(other->hash, plain->hash);
    other->close(other);
    plain->close(plain);
    expect_refused(
        &(struct bpe_case){.outside = "\"post_processor\":{\"type\":\"Sequence\",\"processors\":["
                                      "{\"type\":\"Sequence\",\"processors\":[]}]}," BYTE_LEVEL},
        "post_processor.type is \"Sequence\"");
}

static void other_models_are_refused_by_field(void **state) {
    static const struct {
        const char *json, *words;
    } cases[] = {
        {"{" BYTE_LEVEL ",\"model\":{\"type\":\"Unigram\"}}",              "model.type is \"Unigram\""         },
        {"{" BYTE_LEVEL ",\"model\":{\"type\":\"WordPiece\"}}",            "model.type is \"WordPiece\""       },
        {"{" BYTE_LEVEL ",\"model\":{\"type\":\"BPE\"}}",                  "has no model.vocab"                },
        {"{" BYTE_LEVEL ",\"model\":{\"vocab\":{}}}",                      "model.vocab is no object of tokens"},
        {"{" BYTE_LEVEL ",\"model\":{\"vocab\":{\"a\":0}}}",               "has no model.merges"               },
        {"{" BYTE_LEVEL ",\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}",
         "no token for the byte 0x00"                                                                          },
        {"{" BYTE_LEVEL "}",                                               "has no model"                      },
        {"",                                                               "is not a JSON object"              },
        {"{\"model\":{",                                                   "is not a JSON object"              },
        {"[]",                                                             "is not a JSON object"              },
    };
    char line[2048];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const enum status status =
            make_logged(cases[i].json, strlen(cases[i].json), line, sizeof line);
        if (status != STATUS_MISMATCH || strstr(line, cases[i].words) == NULL) {
            fail_msg("status %d, and not \"%s\" but: %s", (int)status, cases[i].words, line);
        }
    }
}

#define ADDED(members) "{\"id\":256,\"content\":\"<x>\"" members "}"

static void bad_vocabularies_are_refused(void **state) {
    // clang-format off
    static const struct {
        struct bpe_case c;
        const char *words;
    } cases[] = {
        {{.vocab = ",\"a\":256"}, "a token twice: \"a\""},
        {{.vocab = ",\"aa\":97"}, "two tokens of one id: \"aa\""},
        {{.vocab = ",\"aa\":-1"}, "\"aa\" has id -1"},
        {{.vocab = ",\"aa\":1048576"}, "\"aa\" has id 1048576"},
        {{.vocab = ",\"aa\":1e3"}, "model.vocab is no object"},
        {{.vocab = ",\"\":256"}, "\"\" has id 256"},
        {{.vocab = ",\"\xE2\x96\x81the\":256"}, "characters that stand for no byte"},
        {{.vocab = ",\"a b\":256"}, "characters that stand for no byte"},
        {{.vocab = ",\"aa\":256", .merges = "\"a b\""}, "model.merges[0] names \"ab\""},
        {{.vocab = ",\"aa\":256", .merges = "\"a a\",\"a aaa\""}, "model.merges[1] names \"aaa\""},
        {{.merges = "\"aa\""}, "model.merges[0] is not two tokens"},
        {{.merges = "\"a a a\""}, "model.merges[0] is not two tokens"},
        {{.merges = "[\"a\"]"}, "model.merges[0] is not two tokens"},
        {{.merges = "[\"a\",\"a\",\"a\"]"}, "model.merges[0] is not two tokens"},
        {{.merges = "7"}, "model.merges is no list"},
        {{.model = ",\"dropout\":0.1"}, "model.dropout is 0.1"},
        {{.model = ",\"byte_fallback\":true"}, "model.byte_fallback is true"},
        {{.model = ",\"end_of_word_suffix\":\"</w>\""}, "model.end_of_word_suffix is \"</w>\""},
        {{.model = ",\"continuing_subword_prefix\":\"##\""}, "model.continuing_subword_prefix is"},
        {{.model = ",\"vocab\":{}"}, "model.vocab is there twice"},
        {{.added = ADDED(",\"lstrip\":true")}, "added_tokens[0].lstrip is true"},
        {{.added = ADDED(",\"rstrip\":true")}, "added_tokens[0].rstrip is true"},
        {{.added = ADDED(",\"single_word\":true")}, "added_tokens[0].single_word is true"},
        {{.added = ADDED(",\"special\":7")}, "added_tokens[0].special is 7"},
        {{.added = "{\"id\":300,\"content\":\"<x>\"}"}, "added_tokens[0].id is 300"},
        {{.added = "{\"id\":256,\"content\":\"\"}"}, "added_tokens[0].content has 0 bytes"},
        {{.added = "{\"id\":256}"}, "added_tokens[0] needs an id and a content"},
        {{.added = "7"}, "added_tokens[0] is not a JSON object"},
        {{.added = ADDED("") "," ADDED("")}, "added_tokens[1]"},
        {{.vocab = ",\"aa\":257", .added = "{\"id\":257,\"content\":\"<x>\"}"}, "257 is another token's"},
        {{.added = "{\"id\":233,\"content\":\"\xC3\xA9\"}"}, "233 is another token's"},
    };
    // clang-format on
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        expect_refused(&cases[i].c, cases[i].words);
    }
}

static void long_tokens_are_refused(void **state) {
    char vocab[2 * VOCAB_TOKEN_BYTES + 64], name[VOCAB_TOKEN_BYTES + 2];
    struct tokenizer *tokenizer = NULL;
    (void)state;
    memset(name, 'x', sizeof name);
    name[VOCAB_TOKEN_BYTES] = '\0';
    snprintf(vocab, sizeof vocab, ",\"%s\":256", name);
    assert_int_equal(bpe_make(&(struct bpe_case){.vocab = vocab}, TEXT_STRICT, &tokenizer),
                     STATUS_OK);
    tokenizer->close(tokenizer);
    memset(name, 'x', sizeof name - 1);
    name[VOCAB_TOKEN_BYTES + 1] = '\0';
    snprintf(vocab, sizeof vocab, ",\"%s\":256", name);
    expect_refused(&(struct bpe_case){.vocab = vocab}, "is longer than 1024 bytes");
}

static void files_are_read(void **state) {
    struct temp_folder folder;
    struct tokenizer *tokenizer = NULL;
    char *json = bpe_json(&(struct bpe_case){0});
    (void)state;
    temp_folder_make(&folder);
    temp_text(&folder, "tokenizer.json", json);
    assert_int_equal(bpe_tokenizer_open(folder.path, TEXT_STRICT, &tokenizer), STATUS_OK);
    assert_int_equal(tokenizer->vocab_size, 256);
    tokenizer->close(tokenizer);
    assert_int_equal(bpe_tokenizer_open(temp_name(&folder, "none"), TEXT_STRICT, &tokenizer),
                     STATUS_USAGE);
    FILE *file = fopen(temp_name(&folder, "large"), "wb");
    assert_true(file != NULL && ftruncate(fileno(file), (off_t)VOCAB_FILE_MOST + 1) == 0);
    fclose(file);
    assert_int_equal(bpe_tokenizer_open(temp_name(&folder, "large"), TEXT_STRICT, &tokenizer),
                     STATUS_MISMATCH);
    temp_folder_remove(&folder);
    free(json);
}

// The same file makes other ids of young characters with other tables, so they are in the hash: utf8proc's,
// and PCRE2's where it splits the text.
static void the_hash_is_of_the_tables_too(void **state) {
    static const struct {
        const char *outside;
        bool own_pattern;
    } cases[] = {
        {BYTE_LEVEL,     false},
        {REGEX("[a-z]"), true }
    };
    struct library pcre2, utf8proc;
    (void)state;
    bpe_libraries(&pcre2, &utf8proc);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char tables[200], *json = bpe_json(&(struct bpe_case){.outside = cases[i].outside});
        struct vocab *vocab = NULL;
        struct tokenizer *tokenizer = NULL;
        assert_int_equal(vocab_parse("case.json", json, strlen(json), &vocab), STATUS_OK);
        assert_int_equal(
            bpe_tokenizer_make("case.json", json, strlen(json), TEXT_STRICT, &tokenizer),
            STATUS_OK);
        bpe_tables(cases[i].own_pattern, tables, sizeof tables);
        assert_int_equal(tokenizer->hash,
                         XXH3_64bits_withSeed(tables, strlen(tables), vocab->hash));
        assert_int_equal(strncmp(tables, "Unicode 1", 9), 0); // 10 and later
        assert_true((strstr(tables, pcre2.running) != NULL) == cases[i].own_pattern);
        assert_true((strstr(tables, "with Unicode 1") != NULL) == cases[i].own_pattern);
        tokenizer->close(tokenizer);
        vocab_free(vocab);
        free(json);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_kinds_are_refused_by_field),
        cmocka_unit_test(other_models_are_refused_by_field),
        cmocka_unit_test(bad_vocabularies_are_refused),
        cmocka_unit_test(post_processors_are_read),
        cmocka_unit_test(long_tokens_are_refused),
        cmocka_unit_test(files_are_read),
        cmocka_unit_test(the_hash_is_of_the_tables_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
