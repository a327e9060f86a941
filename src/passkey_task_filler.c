// The text that hides the key, in units between which the key's sentence may stand. A unit of a file
// ends with the white space after a full stop, exclamation or question mark that a space follows, or
// after a line's end: the text is as in the file, but for white space that leads it, and a line's end that
// is put behind it where it has none.
#include "ops/base/hash.h"
#include "src/passkey_task_inner.h"

#include <errno.h>
#include <stdio.h>

#define FILE_BYTES_MOST ((size_t)1 << 30)
#define READ_BYTES      ((size_t)1 << 18)
#define TEXT_BYTES      ((size_t)1 << 16) // of a sentence repeated, so that pieces are long
#define SCRATCH         1024

enum status passkey_tokens_of(struct tokenizer *tokenizer, const char *text, size_t bytes,
                              const char *what, int64_t *tokens) {
    int32_t scratch[SCRATCH];
    struct tokenizer_turn turn = {
        .text = text, .bytes = bytes, .ends = true, .token = scratch, .room = SCRATCH};
    *tokens = 0;
    tokenizer->begin(tokenizer);
    do {
        const enum status status = tokenizer->encode(tokenizer, &turn);
        if (status == STATUS_BAD_INPUT) return FAIL(USAGE, "%s: %s", what, tokenizer->wrong);
        if (status != STATUS_OK) return status;
        turn.text += turn.used;
        turn.bytes -= turn.used;
        *tokens += turn.tokens;
    } while (!turn.done);
    return STATUS_OK;
}

static enum status room_of_units(struct passkey_filler *filler) {
    filler->end = calloc((size_t)filler->units + 1, sizeof *filler->end);
    filler->tokens = calloc((size_t)filler->units + 1, sizeof *filler->tokens);
    if (filler->end != NULL && filler->tokens != NULL) return STATUS_OK;
    return FAIL(NO_MEMORY, "%lld units of filler", (long long)filler->units);
}

enum status passkey_filler_sentence(const char *sentence, struct passkey_filler *filler) {
    const size_t bytes = strlen(sentence);
    filler->repeats = true;
    filler->units = (int64_t)(TEXT_BYTES / bytes);
    TRY(room_of_units(filler));
    for (int64_t i = 0; i < filler->units; i++) {
        TRY(bytes_put(&filler->text, sentence, bytes));
        filler->end[i + 1] = (int64_t)filler->text.count;
    }
    return STATUS_OK;
}

static bool is_white(char byte) {
    return byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r';
}

// Where the unit that begins at `at` ends.
static size_t unit_end(const struct bytes *text, size_t at) {
    for (; at < text->count; at++) {
        const char byte = text->data[at];
        const bool stop = byte == '.' || byte == '!' || byte == '?';
        if (byte != '\n' && !(stop && at + 1 < text->count && text->data[at + 1] == ' ')) continue;
        do {
            at++;
        } while (at < text->count && is_white(text->data[at]));
        return at;
    }
    return at;
}

static enum status cut_units(struct passkey_filler *filler) {
    for (size_t at = 0; at < filler->text.count; at = unit_end(&filler->text, at)) {
        filler->units++;
    }
    TRY(room_of_units(filler));
    for (int64_t i = 0; i < filler->units; i++) {
        filler->end[i + 1] = (int64_t)unit_end(&filler->text, (size_t)filler->end[i]);
    }
    return STATUS_OK;
}

static enum status read_all(const char *path, FILE *file, struct bytes *text) {
    size_t some = 0;
    do {
        TRY(bytes_room(text, READ_BYTES));
        some = fread(text->data + text->count, 1, READ_BYTES, file);
        text->count += some;
        if (text->count > FILE_BYTES_MOST) {
            return FAIL(USAGE, "--filler %s has more than 1g bytes: give a part of it", path);
        }
    } while (some > 0);
    if (ferror(file) == 0) return STATUS_OK;
    return FAIL(IO, "--filler %s: %s", path, strerror(errno));
}

enum status passkey_filler_file(const char *path, struct passkey_filler *filler) {
    struct bytes *text = &filler->text;
    size_t white = 0;
    FILE *file = fopen(path, "rb");
    if (file == NULL) return FAIL(USAGE, "--filler %s: %s", path, strerror(errno));
    const enum status status = read_all(path, file, text);
    fclose(file);
    if (status != STATUS_OK) return status;
    filler->hash = hash_bytes(text->data, text->count);
    while (white < text->count && is_white(text->data[white])) {
        white++;
    }
    text->count -= white;
    if (text->count == 0) return FAIL(USAGE, "--filler %s has no text: give a file that has", path);
    memmove(text->data, text->data + white, text->count);
    if (!is_white(text->data[text->count - 1])) TRY(bytes_put(text, "\n", 1));
    return cut_units(filler);
}

// A unit's tokens are those it has before the unit that follows: what a tokenizer takes together over
// their border is counted as it is when the text runs on.
static enum status count_unit(const struct passkey_filler *filler, struct tokenizer *tokenizer,
                              const char *name, int64_t unit, int64_t *tokens) {
    const int64_t next = (unit + 1) % filler->units;
    const char *const text = filler->text.data;
    const size_t first = (size_t)filler->end[unit];
    const size_t bytes = (size_t)filler->end[unit + 1] - first;
    const size_t next_bytes = (size_t)(filler->end[next + 1] - filler->end[next]);
    struct bytes both = {0};
    int64_t alone = 0;
    enum status status = bytes_put(&both, text + first, bytes);
    if (status == STATUS_OK) status = bytes_put(&both, text + filler->end[next], next_bytes);
    if (status == STATUS_OK) {
        status = passkey_tokens_of(tokenizer, both.data, both.count, name, tokens);
    }
    if (status == STATUS_OK) {
        status = passkey_tokens_of(tokenizer, text + filler->end[next], next_bytes, name, &alone);
    }
    *tokens = *tokens > alone ? *tokens - alone : 0;
    bytes_free(&both);
    return status;
}

enum status passkey_filler_count(struct passkey_filler *filler, struct tokenizer *tokenizer,
                                 const char *name, int64_t most) {
    for (int64_t i = 0; i < filler->units; i++) {
        int64_t tokens = filler->tokens[1];
        if (i == 0 || !filler->repeats) TRY(count_unit(filler, tokenizer, name, i, &tokens));
        filler->tokens[i + 1] = filler->tokens[i] + tokens;
        if (!filler->repeats && filler->tokens[i + 1] > most) { // no prompt comes further
            filler->units = i + 1;
        }
    }
    if (filler->tokens[filler->units] > 0) return STATUS_OK;
    return FAIL(USAGE, "%s has no tokens: give other text", name);
}

int64_t passkey_filler_tokens(const struct passkey_filler *filler, int64_t units) {
    return units / filler->units * filler->tokens[filler->units] +
           filler->tokens[units % filler->units];
}

int64_t passkey_filler_fit(const struct passkey_filler *filler, int64_t tokens) {
    if (tokens < 0) return 0;
    const int64_t whole = filler->tokens[filler->units];
    const int64_t left = tokens % whole;
    int64_t first = 0, end = filler->units; // tokens[first] <= left < tokens[end]
    while (end - first > 1) {
        const int64_t middle = first + (end - first) / 2;
        if (filler->tokens[middle] <= left) {
            first = middle;
        } else {
            end = middle;
        }
    }
    return tokens / whole * filler->units + first;
}

void passkey_filler_free(struct passkey_filler *filler) {
    bytes_free(&filler->text);
    free(filler->end);
    free(filler->tokens);
    *filler = (struct passkey_filler){0};
}
