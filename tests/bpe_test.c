// Byte pair encoding by itself: texts come back, cuts change nothing, long pieces are merged as short
// ones are, and what cannot be done in bounded memory is refused.

#include "ops/base/clock.h"
#include "pipeline/bpe_long.h"
#include "pipeline/bpe_nfc.h"
#include "pipeline/bpe_split.h"
#include "tests/bpe_case.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <sys/resource.h>
#include <utf8proc.h>

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

static struct tokenizer *make(const struct bpe_case *c, enum text_errors errors) {
    struct tokenizer *tokenizer = NULL;
    assert_int_equal(bpe_make(c, errors, &tokenizer), STATUS_OK);
    return tokenizer;
}

// Any character there is, often one that NFC or a pattern cares for.
static uint32_t draw_code(uint64_t *draw) {
    static const struct {
        uint32_t first, last;
    } ranges[] = {
        {0,       0x7F    },
        {' ',     ' '     },
        {'a',     'e'     },
        {'\'',    '\''    },
        {0x80,    0x24F   },
        {0x300,   0x36F   },
        {0x300,   0x345   },
        {0x591,   0x5C7   },
        {0x900,   0xDFF   },
        {0xF71,   0xF84   },
        {0x1100,  0x11FF  },
        {0x1100,  0x11FF  },
        {0x1B00,  0x1B4F  },
        {0x1DC0,  0x1FFF  },
        {0x2000,  0x212F  },
        {0x3041,  0x30FF  },
        {0x4E00,  0x9FFF  },
        {0xAC00,  0xD7A3  },
        {0xF900,  0xFB4F  },
        {0x11080, 0x11140 },
        {0x1D15E, 0x1D1C0 },
        {0x1F300, 0x1F6FF },
        {0x2F800, 0x2FA1F },
        {0,       0xD7FF  },
        {0xE000,  0x10FFFF},
    };
    const size_t range = draw_below(draw, sizeof ranges / sizeof ranges[0]);
    const size_t count = ranges[range].last - ranges[range].first + 1;
    return ranges[range].first + (uint32_t)draw_below(draw, count);
}

// text needs 4 bytes a character.
static size_t draw_text(uint64_t *draw, size_t characters, char *text) {
    size_t bytes = 0;
    for (size_t i = 0; i < characters; i++) {
        bytes += utf8_write(draw_code(draw), text + bytes);
    }
    return bytes;
}

// What utf8proc makes of all of the text at once.
static void check_nfc(struct tokenizer *tokenizer, const char *text, size_t bytes,
                      const struct ids *ids) {
    utf8proc_uint8_t *want = NULL;
    const utf8proc_ssize_t want_bytes =
        utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)bytes, &want,
                     UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    size_t back_bytes = 0;
    char *back = decode_ids(tokenizer, ids, &back_bytes);
    assert_int_equal(back_bytes, want_bytes);
    assert_memory_equal(back, want, back_bytes);
    free(back);
    free(want);
}

// Every character that can be taken apart, in parts: each part may come with a turn of its own.
static void parts_are_put_together(void **state) {
    struct tokenizer *tokenizer = make(&(struct bpe_case){.outside = NFC_FIRST}, TEXT_STRICT);
    struct ids ids = {0};
    uint64_t draw = 4;
    int count = 0;
    (void)state;
    for (int32_t code = 0; code < CHARACTERS; code++) {
        int32_t part[8];
        char text[8 * 4];
        size_t bytes = 0;
        const utf8proc_ssize_t parts =
            utf8proc_decompose_char(code, part, 8, UTF8PROC_DECOMPOSE, NULL);
        if (parts < 1 || (parts == 1 && part[0] == code) || (code >= 0xD800 && code < 0xE000)) {
            continue;
        }
        for (utf8proc_ssize_t i = 0; i < parts; i++) {
            bytes += utf8_write((uint32_t)part[i], text + bytes);
        }
        assert_int_equal(encode_text(tokenizer, text, bytes, &draw, &ids), STATUS_OK);
        check_nfc(tokenizer, text, bytes, &ids);
        count++;
    }
    assert_true(count > 12000);
    ids_free(&ids);
    tokenizer->close(tokenizer);
}

static void texts_come_back_as_nfc(void **state) {
    const struct bpe_case c = {.outside = NFC_FIRST,
                               .vocab = ",\"aa\":256,\"ab\":257,\"\xC3\x83\xC2\xA9\":258,\"\xC4\xA0"
                                        "a\":259",
                               .merges = "\"a a\",\"a b\",\"\xC3\x83 \xC2\xA9\",\"\xC4\xA0 a\""};
    struct tokenizer *tokenizer = make(&c, TEXT_STRICT);
    uint64_t draw = 1;
    char text[4 * 400];
    struct ids whole = {0}, cut = {0};
    (void)state;
    for (int round = 0; round < 4000; round++) {
        const size_t bytes = draw_text(&draw, draw_below(&draw, round % 50 == 0 ? 400 : 30), text);
        assert_int_equal(encode_text(tokenizer, text, bytes, NULL, &whole), STATUS_OK);
        check_nfc(tokenizer, text, bytes, &whole);
        assert_int_equal(encode_text(tokenizer, text, bytes, &draw, &cut), STATUS_OK);
        assert_int_equal(whole.count, cut.count);
        if (cut.count > 0) assert_memory_equal(whole.id, cut.id, cut.count * sizeof *cut.id);
    }
    ids_free(&whole);
    ids_free(&cut);
    tokenizer->close(tokenizer);
}

// By hand and by PCRE2, whose tables are older: only characters that both know.
static void gpt2s_pattern_is_what_it_says(void **state) {
    struct characters *characters = NULL;
    struct split_pattern *pattern = NULL;
    uint64_t draw = 2;
    char text[4 * 60];
    (void)state;
    assert_int_equal(characters_make(&characters), STATUS_OK);
    assert_int_equal(split_pattern_open("case", GPT2, &pattern), STATUS_OK);
    for (int round = 0; round < 20000; round++) {
        static const char *const words[] = {
            "'s", "'re", "'ll", "'r", " '", "  ", " \n",          "\xC2\xA0",
            "a",  " b",  "1",   " 2", "!",  "' ", "\xE1\xA0\x8E", "e\xCC\x81"};
        size_t bytes = 0;
        for (size_t i = draw_below(&draw, 12); i > 0; i--) {
            const char *word = words[draw_below(&draw, sizeof words / sizeof words[0])];
            memcpy(text + bytes, word, strlen(word));
            bytes += strlen(word);
        }
        for (size_t at = 0; at < bytes;) {
            enum piece_run run = RUN_NONE;
            struct piece want;
            const char *wrong = NULL;
            const struct piece piece = split_words(characters, text + at, bytes - at, true, &run);
            assert_int_equal(
                split_pattern_next(pattern, text + at, bytes - at, true, &want, &wrong), STATUS_OK);
            assert_true(piece.ends && want.ends);
            assert_int_equal(piece.bytes, want.bytes);
            at += piece.bytes;
        }
    }
    split_pattern_close(pattern);
    free(characters);
}

#define DRAWN_MERGES 60

// Merges that nobody has trained: any pair of tokens of a few letters, in any order.
struct drawn {
    char vocab[8192], merges[8192];
    struct merges table;
    char name[3 + DRAWN_MERGES][64];
    int count;
};

static void draw_merges(uint64_t *draw, struct drawn *drawn) {
    size_t vocab = 0, merges = 0;
    *drawn = (struct drawn){
        .count = 3, .name = {"a", "b", "c"}
    };
    for (int rank = 0; rank < DRAWN_MERGES;) {
        char name[128];
        const int left = (int)draw_below(draw, (size_t)drawn->count);
        const int right = (int)draw_below(draw, (size_t)drawn->count);
        snprintf(name, sizeof name, "%s%s", drawn->name[left], drawn->name[right]);
        int made = -1;
        for (int i = 0; i < drawn->count; i++) {
            if (strcmp(drawn->name[i], name) == 0) made = i;
        }
        if (strlen(name) > 20 || draw_below(draw, 3) == 0) {
            rank += strlen(name) > 20; // so that it ends
            continue;
        }
        if (made < 0) {
            made = drawn->count++;
            snprintf(drawn->name[made], sizeof drawn->name[made], "%s", name);
            vocab += (size_t)snprintf(drawn->vocab + vocab, sizeof drawn->vocab - vocab,
                                      ",\"%s\":%d", name, 253 + made);
        }
        merges +=
            (size_t)snprintf(drawn->merges + merges, sizeof drawn->merges - merges, "%s\"%s %s\"",
                             merges == 0 ? "" : ",", drawn->name[left], drawn->name[right]);
        const int ids[] = {left, right, made};
        int32_t id[3];
        for (int i = 0; i < 3; i++) {
            id[i] = ids[i] < 3 ? 'a' + ids[i] : 253 + ids[i];
        }
        assert_int_equal(merges_add(&drawn->table, id[0], id[1], rank, id[2]), STATUS_OK);
        rank++;
    }
}

static void long_pieces_are_merged_exactly(void **state) {
    enum { LONGEST = 3000 };
    static char text[LONGEST];
    static int32_t want[LONGEST], rank[LONGEST];
    static struct drawn drawn;
    struct ids ids = {0};
    uint64_t draw = 3;
    (void)state;
    for (int round = 0; round < 60; round++) {
        draw_merges(&draw, &drawn);
        struct tokenizer *tokenizer =
            make(&(struct bpe_case){.vocab = drawn.vocab, .merges = drawn.merges}, TEXT_STRICT);
        for (int i = 0; i < 4; i++) {
            const size_t bytes = 1 + draw_below(&draw, LONGEST);
            const size_t letters = 1 + draw_below(&draw, 3), period = 1 + draw_below(&draw, 9);
            for (size_t at = 0; at < bytes; at++) {
                const bool again = i % 2 == 0 && at >= period;
                text[at] = again ? text[at - period] : (char)('a' + draw_below(&draw, letters));
                want[at] = (unsigned char)text[at];
            }
            const size_t count = merges_run(&drawn.table, want, rank, bytes);
            assert_int_equal(encode_text(tokenizer, text, bytes, &draw, &ids), STATUS_OK);
            assert_int_equal(ids.count, count);
            assert_memory_equal(ids.id, want, count * sizeof *want);
        }
        tokenizer->close(tokenizer);
        merges_free(&drawn.table);
    }
    ids_free(&ids);
}

static void what_is_not_utf8_is_found(void **state) {
    static const struct {
        const char *text;
        int at; // of the first wrong byte; -1: none
        const char *replaced;
    } cases[] = {
        {"a\x80z",                    1,  "a\uFFFDz"                },
        {"\xC3",                      0,  "\uFFFD"                  },
        {"x\xC3(",                    1,  "x\uFFFD("                },
        {"\xC0\xAF",                  0,  "\uFFFD\uFFFD"            },
        {"\xE0\x80\xAF",              0,  "\uFFFD\uFFFD\uFFFD"      },
        {"\xED\xA0\x80",              0,  "\uFFFD\uFFFD\uFFFD"      },
        {"\xF4\x90\x80\x80",          0,  "\uFFFD\uFFFD\uFFFD\uFFFD"},
        {"\xF1\x80\x80\xE1\x80\xC2!", 0,  "\uFFFD\uFFFD\uFFFD!"     },
        {"\xF0\x9F\x98",              0,  "\uFFFD"                  },
        {"\xF0\x9F\x98\x80\xF0\x9F",  4,  "\U0001F600\uFFFD"        },
        {"\xFE\xFF",                  0,  "\uFFFD\uFFFD"            },
        {"\xE2\x82\xACok",            -1, "\u20ACok"                },
        {"",                          -1, ""                        },
    };
    struct tokenizer *strict = make(&(struct bpe_case){0}, TEXT_STRICT);
    struct tokenizer *replace = make(&(struct bpe_case){0}, TEXT_REPLACE);
    struct ids ids = {0};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (uint64_t seed = 0; seed < 20; seed++) {
            uint64_t cuts = seed, *how = seed == 0 ? NULL : &cuts;
            const size_t bytes = strlen(cases[i].text);
            size_t back_bytes = 0;
            const enum status status = encode_text(strict, cases[i].text, bytes, how, &ids);
            assert_int_equal(status, cases[i].at < 0 ? STATUS_OK : STATUS_BAD_INPUT);
            if (cases[i].at >= 0) {
                char place[32];
                snprintf(place, sizeof place, "at byte %d ", cases[i].at);
                assert_non_null(strstr(strict->wrong, place));
            }
            assert_int_equal(encode_text(replace, cases[i].text, bytes, how, &ids), STATUS_OK);
            char *back = decode_ids(replace, &ids, &back_bytes);
            assert_string_equal(back, cases[i].replaced);
            free(back);
        }
    }
    ids_free(&ids);
    strict->close(strict);
    replace->close(replace);
}

static int64_t resident_kib(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

// Gives `count` times `text` and forgets the tokens. Returns how many, or what refused.
static enum status encode_again(struct tokenizer *tokenizer, const char *text, size_t count,
                                int64_t *tokens) {
    enum { BLOCK = 60000 };
    static char block[BLOCK];
    static int32_t token[4096];
    const size_t bytes = strlen(text), block_bytes = BLOCK / bytes * bytes;
    for (size_t i = 0; i < block_bytes; i++) {
        block[i] = text[i % bytes];
    }
    tokenizer->begin(tokenizer);
    *tokens = 0;
    for (size_t left = bytes * count; left > 0;) {
        const size_t some = left < block_bytes ? left : block_bytes;
        struct tokenizer_turn turn = {
            .text = block, .bytes = some, .ends = some == left, .token = token, .room = 4096};
        do {
            const enum status status = tokenizer->encode(tokenizer, &turn);
            if (status != STATUS_OK) return status;
            *tokens += turn.tokens;
            turn.text += turn.used;
            turn.bytes -= turn.used;
        } while (turn.bytes > 0 || (turn.ends && !turn.done));
        left -= some;
    }
    return STATUS_OK;
}

// Runs of the same, and of all else that has no end, take no more memory when they are longer.
static void endless_pieces_are_bounded(void **state) {
    static const struct {
        const char *text;
        int bytes_a_token;
    } cases[] = {
        {"a",            8},
        {"\n",           1},
        {" ",            1},
        {"ab",           2},
        {"7",            1},
        {"\xE4\xB8\x80", 1},
        {"=",            1}
    };
    const struct bpe_case c = {.outside = NFC_FIRST,
                               .vocab = ",\"aa\":256,\"aaaa\":257,\"aaaaaaaa\":258,\"ab\":259",
                               .merges = "\"a a\",\"aa aa\",\"aaaa aaaa\",\"a b\""};
    struct tokenizer *tokenizer = make(&c, TEXT_STRICT);
    int64_t tokens = 0;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const size_t bytes = strlen(cases[i].text);
        assert_int_equal(encode_again(tokenizer, cases[i].text, 100000 / bytes, &tokens),
                         STATUS_OK);
        const int64_t before = resident_kib();
        const size_t count = 4000000 / bytes;
        assert_int_equal(encode_again(tokenizer, cases[i].text, count, &tokens), STATUS_OK);
        assert_int_equal(tokens, count * bytes / (size_t)cases[i].bytes_a_token);
        assert_true(resident_kib() - before < 1024);
    }
    tokenizer->close(tokenizer);
}

static void too_many_marks_are_refused(void **state) {
    struct tokenizer *nfc = make(&(struct bpe_case){.outside = NFC_FIRST}, TEXT_STRICT);
    struct tokenizer *plain = make(&(struct bpe_case){0}, TEXT_STRICT);
    int64_t tokens = 0;
    (void)state;
    assert_int_equal(encode_again(nfc, "\xCC\x81", NFC_TOGETHER_MOST, &tokens), STATUS_OK);
    assert_int_equal(tokens, 2 * NFC_TOGETHER_MOST);
    const int64_t start = clock_ms();
    assert_int_equal(encode_again(nfc, "\xCC\x81", NFC_TOGETHER_MOST + 1, &tokens),
                     STATUS_BAD_INPUT);
    assert_non_null(strstr(nfc->wrong, "hang together"));
    assert_int_equal(encode_again(nfc, "\xCC\x81\xCC\xA7", NFC_TOGETHER_MOST / 2, &tokens),
                     STATUS_OK);
    assert_true(clock_ms() - start < 5000);
    assert_int_equal(encode_again(plain, "\xCC\x81", 200000, &tokens), STATUS_OK);
    nfc->close(nfc);
    plain->close(plain);
}

static struct tokenizer *with_pattern(const char *pattern) {
    char outside[1024], escaped[512];
    escaped[json_escape(pattern, strlen(pattern), escaped)] = '\0';
    snprintf(outside, sizeof outside,
             "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
             "\"pattern\":{\"Regex\":\"%s\"},\"behavior\":\"Isolated\",\"invert\":false},"
             "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}",
             escaped);
    return make(&(struct bpe_case){.outside = outside}, TEXT_STRICT);
}

static void a_pattern_has_its_limits(void **state) {
    struct tokenizer *tokenizer = with_pattern("\\p{L}+|\\s+");
    int64_t tokens = 0;
    (void)state;
    assert_int_equal(encode_again(tokenizer, "a", PATTERN_PIECE_MOST - 2, &tokens), STATUS_OK);
    assert_int_equal(encode_again(tokenizer, "a", PATTERN_PIECE_MOST + 1, &tokens),
                     STATUS_BAD_INPUT);
    assert_non_null(strstr(tokenizer->wrong, "without an end"));
    tokenizer->close(tokenizer);
    tokenizer = with_pattern("(a|aa)+b|x");
    const int64_t start = clock_ms();
    assert_int_equal(encode_again(tokenizer, "a", 10000, &tokens), STATUS_BAD_INPUT);
    assert_non_null(strstr(tokenizer->wrong, "does not come to an end"));
    assert_true(clock_ms() - start < 20000);
    tokenizer->close(tokenizer);
}

// With ignore_merges a piece that is a token needs no merges to become it, however long it is.
static void a_piece_may_be_a_token(void **state) {
    char long_token[301], vocab[400];
    struct ids ids = {0};
    (void)state;
    memset(long_token, 'x', sizeof long_token - 1);
    long_token[300] = '\0';
    snprintf(vocab, sizeof vocab, ",\"abc\":256,\"%s\":257", long_token);
    for (int whole = 0; whole < 2; whole++) {
        struct tokenizer *tokenizer = make(
            &(struct bpe_case){.vocab = vocab, .model = whole ? ",\"ignore_merges\":true" : NULL},
            TEXT_STRICT);
        assert_int_equal(encode_text(tokenizer, "abc", 3, NULL, &ids), STATUS_OK);
        assert_int_equal(ids.count, whole ? 1 : 3);
        assert_int_equal(ids.id[0], whole ? 256 : 'a');
        assert_int_equal(encode_text(tokenizer, long_token, 300, NULL, &ids), STATUS_OK);
        assert_int_equal(ids.count, whole ? 1 : 300);
        assert_int_equal(ids.id[0], whole ? 257 : 'x');
        tokenizer->close(tokenizer);
    }
    ids_free(&ids);
}

// Two files that differ in one merge, token or setting are two; one that is written otherwise is not.
static void a_tokenizer_is_known_by_what_it_does(void **state) {
    // clang-format off
    const struct bpe_case c[] = {
        {.vocab = ",\"ab\":256,\"cd\":257", .merges = "\"a b\",\"c d\""},
        {.vocab = ",\"cd\":257,\"ab\":256", .merges = "[\"a\",\"b\"], [\"c\",\"d\"]"},
        {.vocab = ",\"ab\":256,\"cd\":257", .merges = "\"c d\",\"a b\""},
        {.vocab = ",\"ab\":257,\"cd\":256", .merges = "\"a b\",\"c d\""},
        {.vocab = ",\"ab\":256,\"cd\":257", .merges = "\"a b\""},
        {.vocab = ",\"ab\":256,\"cd\":257", .merges = "\"a b\",\"c d\"", .outside = NFC_FIRST},
        {.vocab = ",\"ab\":256,\"cd\":257", .merges = "\"a b\",\"c d\"", .model = ",\"ignore_merges\":true"},
        {.vocab = ",\"ab\":256,\"cd\":257", .merges = "\"a b\",\"c d\"", .added = "{\"id\":258,\"content\":\"<x>\"}"},
        {.vocab = ",\"ab\":256,\"cd\":257", .merges = "\"a b\",\"c d\"", .added = "{\"id\":257,\"content\":\"cd\"}"},
    };
    // clang-format on
    uint64_t hash[9];
    (void)state;
    for (int i = 0; i < 9; i++) {
        struct tokenizer *tokenizer = make(&c[i], TEXT_STRICT);
        hash[i] = tokenizer->hash;
        tokenizer->close(tokenizer);
        for (int j = 0; j < i; j++) {
            assert_int_equal(hash[i] == hash[j], i == 1 && j == 0);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_are_put_together),
        cmocka_unit_test(texts_come_back_as_nfc),
        cmocka_unit_test(gpt2s_pattern_is_what_it_says),
        cmocka_unit_test(long_pieces_are_merged_exactly),
        cmocka_unit_test(what_is_not_utf8_is_found),
        cmocka_unit_test(endless_pieces_are_bounded),
        cmocka_unit_test(too_many_marks_are_refused),
        cmocka_unit_test(a_pattern_has_its_limits),
        cmocka_unit_test(a_piece_may_be_a_token),
        cmocka_unit_test(a_tokenizer_is_known_by_what_it_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
