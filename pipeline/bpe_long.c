#include "pipeline/bpe_long.h"

#include "ops/base/check.h"

#define LOOK_FIRST ((size_t)4096)
// so that the next token begins behind the last settled point
_Static_assert(LOOK_FIRST >= VOCAB_TOKEN_BYTES, "meeting");
#define NEIGHBOURS ((size_t)1 << 17)

void long_init(const struct vocab *vocab, struct words *words, struct long_piece *piece) {
    *piece = (struct long_piece){.vocab = vocab, .words = words};
}

void long_free(struct long_piece *piece) {
    trie_free(&piece->ends);
    free(piece->neighbours);
    free(piece->text);
    free(piece->token);
    free(piece->met);
    *piece = (struct long_piece){0};
}

void long_begin(struct long_piece *piece) {
    piece->open = 0;
    piece->look = LOOK_FIRST;
    if (piece->token != NULL) piece->token[0] = -1;
}

// Most texts have no piece that is long.
static enum status make(struct long_piece *piece) {
    if (piece->neighbours != NULL) return STATUS_OK;
    for (int32_t id = 0; id < piece->vocab->ids; id++) {
        const struct vocab_token *token = &piece->vocab->token[id];
        if (!token->of_merges) continue;
        TRY(trie_add(&piece->ends, token->text, token->bytes, true, id));
        if (token->bytes > piece->token_bytes) piece->token_bytes = token->bytes;
    }
    piece->neighbours = calloc(NEIGHBOURS, sizeof *piece->neighbours);
    if (piece->neighbours == NULL) return FAIL(NO_MEMORY, "long pieces of text");
    return STATUS_OK;
}

static enum status make_room(struct long_piece *piece, size_t bytes) {
    size_t room = piece->open_room == 0 ? 2 * LOOK_FIRST : piece->open_room;
    if (piece->open + bytes <= piece->open_room) return STATUS_OK;
    while (room < piece->open + bytes) {
        room *= 2;
    }
    char *text = realloc(piece->text, room);
    if (text != NULL) piece->text = text;
    int32_t *token = realloc(piece->token, (room + 1) * sizeof *token);
    if (token != NULL) piece->token = token;
    bool *met = realloc(piece->met, (room + 1) * sizeof *met);
    if (met != NULL) piece->met = met;
    if (text == NULL || token == NULL || met == NULL) {
        return FAIL(NO_MEMORY, "a piece of text of %zu bytes", room);
    }
    if (piece->open_room == 0) token[0] = -1;
    piece->open_room = room;
    return STATUS_OK;
}

static bool merge_keeps(struct long_piece *piece, int32_t left, int32_t right) {
    char both[2 * VOCAB_TOKEN_BYTES];
    const struct vocab_token *first = left < 0 ? NULL : &piece->vocab->token[left];
    const struct vocab_token *second = &piece->vocab->token[right];
    const size_t before = first == NULL ? 0 : first->bytes;
    if (first != NULL) memcpy(both, first->text, before);
    memcpy(both + before, second->text, second->bytes);
    const size_t count = words_merge(piece->words, both, before + second->bytes);
    const int32_t *token = piece->words->token;
    return first == NULL ? count == 1 && token[0] == right
                         : count == 2 && token[0] == left && token[1] == right;
}

// Merging leaves the two as they are; left -1: the one.
static bool keep_beside(struct long_piece *piece, int32_t left, int32_t right) {
    const uint64_t pair = ((uint64_t)(left + 2) << 32) | (uint32_t)right; // never 0
    const size_t place = (size_t)((pair * UINT64_C(0x9E3779B97F4A7C15)) >> 40) & (NEIGHBOURS - 1);
    uint64_t *known = &piece->neighbours[place];
    if (*known >> 1 != pair) *known = pair << 1 | merge_keeps(piece, left, right);
    return (*known & 1) != 0;
}

// The last token of the beginning that ends at `end`, longest tried first.
static int32_t last_token(struct long_piece *piece, size_t end) {
    int32_t ending[VOCAB_TOKEN_BYTES];
    int count = 0;
    int32_t node = TRIE_NONE;
    for (size_t at = end; at > 0; at--) {
        node = trie_step(&piece->ends, node, (unsigned char)piece->text[at - 1]);
        if (node == TRIE_NONE) break;
        if (piece->ends.value[node] >= 0) ending[count++] = piece->ends.value[node];
    }
    while (count > 0) {
        const int32_t token = ending[--count];
        const size_t start = end - piece->vocab->token[token].bytes;
        if (keep_beside(piece, piece->token[start], token)) return token;
    }
    return -1;
}

// The tokens from the last settled point to `end`, which is one from now on.
static enum status settle(struct long_piece *piece, size_t end, struct token_queue *out) {
    size_t count = 0;
    for (size_t at = end; at > 0; count++) {
        at -= piece->vocab->token[piece->token[at]].bytes;
    }
    TRY(token_queue_room(out, count));
    out->count += count;
    int32_t *put = out->token + out->count;
    for (size_t at = end; at > 0;) {
        const int32_t token = piece->token[at];
        *--put = token;
        at -= piece->vocab->token[token].bytes;
    }
    piece->open -= end;
    memmove(piece->text, piece->text + end, piece->open);
    memmove(piece->token, piece->token + end, (piece->open + 1) * sizeof *piece->token);
    return STATUS_OK;
}

// Where the ways back from all points at which the next token may begin meet.
static size_t meeting(struct long_piece *piece) {
    const size_t heads = piece->token_bytes;
    size_t ways = heads, at = piece->open;
    memset(piece->met, 0, (piece->open + 1) * sizeof *piece->met);
    memset(piece->met + piece->open + 1 - heads, true, heads * sizeof *piece->met);
    for (; ways > 1; at--) {
        if (!piece->met[at]) continue;
        bool *before = &piece->met[at - piece->vocab->token[piece->token[at]].bytes];
        if (*before) ways--;
        *before = true;
    }
    while (!piece->met[at]) {
        at--;
    }
    return at;
}

static enum status look_back(struct long_piece *piece, struct token_queue *out) {
    const size_t met = meeting(piece);
    if (met > 0) TRY(settle(piece, met, out));
    piece->look = 2 * piece->open < LOOK_FIRST ? LOOK_FIRST : 2 * piece->open;
    if (piece->look > LONG_OPEN_MOST) piece->look = LONG_OPEN_MOST;
    return piece->open >= LONG_OPEN_MOST ? STATUS_BAD_INPUT : STATUS_OK;
}

enum status long_put(struct long_piece *piece, const char *text, size_t bytes,
                     struct token_queue *out) {
    TRY(make(piece));
    for (size_t i = 0; i < bytes; i++) {
        TRY(make_room(piece, 1));
        piece->text[piece->open++] = text[i];
        const int32_t token = last_token(piece, piece->open);
        CHECK(token >= 0); // every byte has a token, so every beginning has tokens
        piece->token[piece->open] = token;
        if (piece->open >= piece->look) TRY(look_back(piece, out));
    }
    return STATUS_OK;
}

enum status long_end(struct long_piece *piece, struct token_queue *out) {
    return piece->open > 0 ? settle(piece, piece->open, out) : STATUS_OK;
}
