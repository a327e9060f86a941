// The way of a text: checked as UTF-8; cut at added tokens that are looked for in it as it is; each
// segment between them normalised, cut at added tokens that are looked for there, and split into
// pieces; each piece merged. Every stage gives out what no later text can change and keeps the rest,
// which is bounded (docs/tokenizers.md), so that the text may come in any pieces.
#include "pipeline/bpe_tokenizer.h"

#include "pipeline/bpe_long.h"
#include "pipeline/bpe_nfc.h"
#include "pipeline/bpe_split.h"
#include "pipeline/utf8_check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define BLOCK_BYTES ((size_t)16 * 1024) // of text that goes through all stages at once
#define WAIT_BYTES  ((size_t)4096)      // a piece this long is begun before its end has come

struct bpe_tokenizer {
    struct tokenizer base;
    enum text_errors errors;
    struct vocab *vocab;
    struct characters *characters;
    struct trie in_text, in_normalized; // added tokens by where they are looked for
    struct nfc nfc;
    struct split split;
    struct words words;
    struct long_piece piece;

    // of the document
    struct utf8_check check;
    struct bytes raw;   // checked, not yet looked through for added tokens
    struct bytes text;  // normalised, not yet split
    size_t sure;        // bytes of text that begin no added token
    size_t want;        // bytes of text before splitting is worth another try
    enum piece_run run; // of the piece that is in `piece` and goes on
    struct token_queue queue;
    bool ended; // all of the document is in the queue or taken
};

static void drop_front(struct bytes *bytes, size_t count) {
    bytes->count -= count;
    if (count > 0 && bytes->count > 0) memmove(bytes->data, bytes->data + count, bytes->count);
}

struct added_match {
    int32_t token; // -1: none
    size_t bytes;
};

// The leftmost added token, the longest of those that begin there. Returns where it begins; without
// one, where one might if more text came, or the text's end.
static size_t find_added(const struct trie *added, const char *text, size_t bytes, bool last,
                         struct added_match *match) {
    *match = (struct added_match){.token = -1};
    if (added->nodes == 0) return bytes;
    for (size_t start = 0; start < bytes; start++) {
        int32_t node = added->root[(unsigned char)text[start]];
        if (node == TRIE_NONE) continue;
        size_t at = start + 1;
        for (;;) {
            if (added->value[node] >= 0) {
                *match = (struct added_match){.token = added->value[node], .bytes = at - start};
            }
            if (at == bytes) break;
            node = trie_step(added, node, (unsigned char)text[at++]);
            if (node == TRIE_NONE) break;
        }
        if (node != TRIE_NONE && !last) { // a longer one may come
            *match = (struct added_match){.token = -1};
            return start;
        }
        if (match->token >= 0) return start;
    }
    return bytes;
}

__attribute__((format(printf, 2, 3))) static enum status refuse(struct bpe_tokenizer *t,
                                                                const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(t->base.wrong, sizeof t->base.wrong, format, arguments);
    va_end(arguments);
    return STATUS_BAD_INPUT;
}

static enum status refuse_long(struct bpe_tokenizer *t, enum status status) {
    if (status != STATUS_BAD_INPUT) return status;
    return refuse(t, "a word before byte %lld has more than %zu bytes whose tokens hang together",
                  (long long)t->check.offset, LONG_OPEN_MOST);
}

static enum status put_long(struct bpe_tokenizer *t, const char *text, size_t bytes) {
    return refuse_long(t, long_put(&t->piece, text, bytes, &t->queue));
}

static enum status put_piece(struct bpe_tokenizer *t, const char *text, size_t bytes) {
    if (bytes <= WORD_BYTES_MOST) return words_encode(&t->words, text, bytes, &t->queue);
    const int32_t whole = words_whole(&t->words, text, bytes);
    if (whole >= 0) return token_queue_put(&t->queue, &whole, 1);
    long_begin(&t->piece);
    TRY(put_long(t, text, bytes));
    return long_end(&t->piece, &t->queue);
}

static enum status end_piece(struct bpe_tokenizer *t, const char *text, size_t bytes) {
    if (t->run == RUN_NONE) return put_piece(t, text, bytes);
    t->run = RUN_NONE;
    TRY(put_long(t, text, bytes));
    return long_end(&t->piece, &t->queue);
}

// The pieces of text, which has no added token in it. last: its last piece ends. *used: bytes.
static enum status split_text(struct bpe_tokenizer *t, const char *text, size_t bytes, bool last,
                              size_t *used) {
    *used = 0;
    while (*used < bytes && (last || bytes - *used >= t->want)) {
        enum piece_run run = t->run;
        struct piece piece;
        const char *wrong = NULL;
        const enum status status =
            split_next(&t->split, text + *used, bytes - *used, last, &run, &piece, &wrong);
        if (status == STATUS_BAD_INPUT) {
            return refuse(t, "before byte %lld: %s", (long long)t->check.offset, wrong);
        }
        if (status != STATUS_OK) return status;
        if (piece.ends) {
            TRY(end_piece(t, text + *used, piece.bytes));
            t->want = 0;
        } else if (t->run == RUN_NONE && piece.bytes < WAIT_BYTES) {
            t->want = 2 * (bytes - *used);
            return STATUS_OK;
        } else {
            if (t->run == RUN_NONE) long_begin(&t->piece);
            TRY(put_long(t, text + *used, piece.bytes));
            t->run = run;
            t->want = 0;
        }
        *used += piece.bytes;
        if (!piece.ends) break; // all but what may be of the next
    }
    if (!last || t->run == RUN_NONE) return STATUS_OK;
    t->run = RUN_NONE;
    return long_end(&t->piece, &t->queue);
}

// Takes what can be taken of the normalised text. last: the segment ends with it.
static enum status advance_text(struct bpe_tokenizer *t, bool last) {
    size_t at = 0;
    struct added_match match;
    do {
        const char *text = t->text.data + at;
        size_t used = 0;
        t->sure += find_added(&t->in_normalized, text + t->sure, t->text.count - at - t->sure, last,
                              &match);
        TRY(split_text(t, text, t->sure, last || match.token >= 0, &used));
        at += used;
        t->sure -= used;
        if (match.token >= 0) TRY(token_queue_put(&t->queue, &match.token, 1));
        at += match.bytes;
    } while (match.token >= 0);
    drop_front(&t->text, at);
    return STATUS_OK;
}

static enum status refuse_marks(struct bpe_tokenizer *t, enum status status) {
    if (status != STATUS_BAD_INPUT) return status;
    return refuse(t, "more than %d characters before byte %lld hang together, as marks on a letter",
                  NFC_TOGETHER_MOST, (long long)t->check.offset);
}

static enum status put_segment(struct bpe_tokenizer *t, const char *text, size_t bytes, bool last) {
    if (t->vocab->nfc) {
        TRY(refuse_marks(t, nfc_put(&t->nfc, text, bytes, &t->text)));
        if (last) TRY(nfc_end(&t->nfc, &t->text));
    } else {
        TRY(bytes_put(&t->text, text, bytes));
    }
    return advance_text(t, last);
}

static enum status put_block(struct bpe_tokenizer *t, const char *text, size_t bytes, bool ends) {
    bool good = false;
    size_t at = 0;
    struct added_match match;
    TRY(utf8_check_put(&t->check, text, bytes, ends, &t->raw, &good));
    if (!good) {
        return refuse(t, "it is not UTF-8 at byte %lld (--errors replace puts U+FFFD there)",
                      (long long)t->check.offset);
    }
    do {
        const size_t sure =
            find_added(&t->in_text, t->raw.data + at, t->raw.count - at, ends, &match);
        TRY(put_segment(t, t->raw.data + at, sure, ends || match.token >= 0));
        if (match.token >= 0) TRY(token_queue_put(&t->queue, &match.token, 1));
        at += sure + match.bytes;
    } while (match.token >= 0);
    drop_front(&t->raw, at);
    return STATUS_OK;
}

static void bpe_begin(struct tokenizer *base) {
    struct bpe_tokenizer *t = (struct bpe_tokenizer *)base;
    t->check = (struct utf8_check){.errors = t->errors};
    t->raw.count = t->text.count = 0;
    t->nfc.count = 0;
    t->sure = t->want = 0;
    t->run = RUN_NONE;
    t->queue.at = t->queue.count = 0;
    t->ended = false;
}

static enum status bpe_encode(struct tokenizer *base, struct tokenizer_turn *turn) {
    struct bpe_tokenizer *t = (struct bpe_tokenizer *)base;
    turn->used = 0;
    turn->tokens = 0;
    for (;;) {
        turn->tokens += (int64_t)token_queue_take(&t->queue, turn->token + turn->tokens,
                                                  (size_t)(turn->room - turn->tokens));
        const size_t left = turn->bytes - turn->used;
        if (turn->tokens == turn->room || t->ended || (left == 0 && !turn->ends)) break;
        const size_t bytes = left < BLOCK_BYTES ? left : BLOCK_BYTES;
        const bool ends = turn->ends && bytes == left;
        TRY(put_block(t, bytes == 0 ? "" : turn->text + turn->used, bytes, ends));
        turn->used += bytes;
        t->ended = ends;
    }
    turn->done = t->ended && t->queue.count == 0;
    return STATUS_OK;
}

static const char *bpe_bytes_of(struct tokenizer *base, int32_t token, size_t *bytes) {
    const struct vocab *vocab = ((struct bpe_tokenizer *)base)->vocab;
    if (token < 0 || token >= vocab->ids) return NULL;
    *bytes = vocab->token[token].bytes;
    return vocab->token[token].text;
}

static void bpe_close(struct tokenizer *base) {
    struct bpe_tokenizer *t = (struct bpe_tokenizer *)base;
    free(t->queue.token);
    bytes_free(&t->raw);
    bytes_free(&t->text);
    long_free(&t->piece);
    words_close(&t->words);
    split_pattern_close(t->split.pattern);
    nfc_close(&t->nfc);
    trie_free(&t->in_text);
    trie_free(&t->in_normalized);
    free(t->characters);
    vocab_free(t->vocab);
    free(t);
}

// The id of the string in the tree; TRIE_NONE: it is not there.
static int32_t id_in(const struct trie *trie, const char *text, size_t bytes) {
    int32_t node = TRIE_NONE;
    if (trie->nodes == 0) return TRIE_NONE;
    for (size_t i = 0; i < bytes; i++) {
        node = trie_step(trie, node, (unsigned char)text[i]);
        if (node == TRIE_NONE) return TRIE_NONE;
    }
    return node == TRIE_NONE ? TRIE_NONE : trie->value[node];
}

static enum status add_normalized(struct bpe_tokenizer *t, const char *path,
                                  const struct bytes *content, int32_t id) {
    const int32_t other = id_in(&t->in_normalized, content->data, content->count);
    if (other != TRIE_NONE) {
        return FAIL(MISMATCH,
                    "%s: added_tokens %d and %d are the same in NFC, which is not supported", path,
                    other, id);
    }
    return trie_add(&t->in_normalized, content->data, content->count, false, id);
}

static enum status add_tokens(struct bpe_tokenizer *t, const char *path) {
    struct bytes content = {0};
    enum status status = STATUS_OK;
    for (int32_t id = 0; id < t->vocab->ids && status == STATUS_OK; id++) {
        const struct vocab_token *token = &t->vocab->token[id];
        if (!token->added) continue;
        if (!token->normalized || !t->vocab->nfc) {
            struct trie *trie = token->normalized ? &t->in_normalized : &t->in_text;
            status = trie_add(trie, token->text, token->bytes, false, id);
            continue;
        }
        content.count = 0;
        status = nfc_put(&t->nfc, token->text, token->bytes, &content);
        if (status == STATUS_OK) status = nfc_end(&t->nfc, &content);
        if (status == STATUS_OK) status = add_normalized(t, path, &content, id);
    }
    bytes_free(&content);
    return status;
}

static enum status open_stages(struct bpe_tokenizer *t, const char *path) {
    TRY(characters_make(&t->characters));
    TRY(nfc_open(t->characters, &t->nfc));
    TRY(words_open(t->vocab, &t->words));
    TRY(bytes_room(&t->raw, BLOCK_BYTES));
    TRY(bytes_room(&t->text, BLOCK_BYTES));
    long_init(t->vocab, &t->words, &t->piece);
    t->split.characters = t->characters;
    if (t->vocab->pattern != NULL) {
        TRY(split_pattern_open(path, t->vocab->pattern, &t->split.pattern));
    }
    return add_tokens(t, path);
}

static uint64_t hash_of(const struct bpe_tokenizer *t) {
    char tables[200];
    bpe_tables(t->vocab->pattern != NULL, tables, sizeof tables);
    return XXH3_64bits_withSeed(tables, strlen(tables),
                                t->vocab->hash + (t->errors == TEXT_REPLACE ? 1 : 0));
}

enum status bpe_tokenizer_make(const char *path, const char *text, size_t bytes,
                               enum text_errors errors, struct tokenizer **made) {
    struct bpe_tokenizer *t = calloc(1, sizeof *t);
    if (t == NULL) return FAIL(NO_MEMORY, "a tokenizer");
    t->errors = errors;
    enum status status = vocab_parse(path, text, bytes, &t->vocab);
    if (status == STATUS_OK) status = open_stages(t, path);
    if (status != STATUS_OK) {
        bpe_close(&t->base);
        return status;
    }
    t->base = (struct tokenizer){
        .name = "bpe",
        .hash = hash_of(t),
        .vocab_size = t->vocab->ids,
        .begin = bpe_begin,
        .encode = bpe_encode,
        .bytes_of = bpe_bytes_of,
        .close = bpe_close,
    };
    bpe_begin(&t->base);
    *made = &t->base;
    return STATUS_OK;
}

static enum status read_all(const char *path, FILE *file, char **text, size_t *bytes) {
    struct stat about;
    if (fstat(fileno(file), &about) != 0 || !S_ISREG(about.st_mode)) {
        return FAIL(USAGE, "--tokenizer: %s is no file", path);
    }
    if ((uint64_t)about.st_size > VOCAB_FILE_MOST) {
        return FAIL(MISMATCH, "%s has %lld bytes, more than %zu", path, (long long)about.st_size,
                    VOCAB_FILE_MOST);
    }
    *text = malloc((size_t)about.st_size + 1);
    if (*text == NULL) return FAIL(NO_MEMORY, "%s", path);
    *bytes = fread(*text, 1, (size_t)about.st_size, file);
    if (*bytes == (size_t)about.st_size) return STATUS_OK;
    return FAIL(IO, "cannot read %s: %s", path, ferror(file) ? strerror(errno) : "it has shrunk");
}

enum status bpe_tokenizer_open(const char *path, enum text_errors errors,
                               struct tokenizer **opened) {
    char inside[4096];
    struct stat about;
    char *text = NULL;
    size_t bytes = 0;
    if (stat(path, &about) == 0 && S_ISDIR(about.st_mode)) {
        const int length = snprintf(inside, sizeof inside, "%s/tokenizer.json", path);
        if (length >= (int)sizeof inside) return FAIL(USAGE, "--tokenizer: %s is too long", path);
        path = inside;
    }
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return FAIL(USAGE, "--tokenizer %s: %s; it takes byte, or the path of a tokenizer.json",
                    path, strerror(errno));
    }
    enum status status = read_all(path, file, &text, &bytes);
    fclose(file);
    if (status == STATUS_OK) status = bpe_tokenizer_make(path, text, bytes, errors, opened);
    free(text);
    return status;
}
