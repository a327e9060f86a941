// A text is cut before characters that join nothing before them, and each part is normalised by
// itself. Most parts are one character that is its own NFC and go through as they are.
#include "pipeline/bpe_nfc.h"

#include "ops/base/utf8.h"

#include <utf8proc.h>

#define PARTS_MOST ((size_t)4 * NFC_TOGETHER_MOST) // the longest canonical decomposition is four

enum status nfc_open(const struct characters *characters, struct nfc *nfc) {
    *nfc = (struct nfc){.characters = characters};
    nfc->code = malloc(NFC_TOGETHER_MOST * sizeof *nfc->code);
    nfc->part = malloc(PARTS_MOST * sizeof *nfc->part);
    nfc->sorted = malloc(PARTS_MOST * sizeof *nfc->sorted);
    if (nfc->code != NULL && nfc->part != NULL && nfc->sorted != NULL) return STATUS_OK;
    nfc_close(nfc);
    return FAIL(NO_MEMORY, "normalising text");
}

void nfc_close(struct nfc *nfc) {
    free(nfc->code);
    free(nfc->part);
    free(nfc->sorted);
    *nfc = (struct nfc){0};
}

static int class_of(int32_t code) {
    return utf8proc_get_property(code)->combining_class;
}

// Marks between two starters into the order of their classes, equal ones as they came.
static void sort_marks(int32_t *mark, size_t count, int32_t *sorted) {
    size_t place[257] = {0};
    for (size_t i = 0; i < count; i++) {
        place[class_of(mark[i]) + 1]++;
    }
    for (int i = 1; i < 257; i++) {
        place[i] += place[i - 1];
    }
    for (size_t i = 0; i < count; i++) {
        sorted[place[class_of(mark[i])]++] = mark[i];
    }
    memcpy(mark, sorted, count * sizeof *mark);
}

static void sort_all(struct nfc *nfc, size_t count) {
    for (size_t at = 0; at < count;) {
        size_t end = at;
        while (end < count && class_of(nfc->part[end]) != 0) {
            end++;
        }
        if (end - at > 1) sort_marks(nfc->part + at, end - at, nfc->sorted);
        at = end + 1;
    }
}

static enum status put_code(struct bytes *out, int32_t code) {
    TRY(bytes_room(out, 4));
    out->count += utf8_write((uint32_t)code, out->data + out->count);
    return STATUS_OK;
}

enum status nfc_end(struct nfc *nfc, struct bytes *out) {
    size_t parts = 0;
    if (nfc->count == 0) return STATUS_OK;
    if (nfc->count == 1 && (nfc->characters->of[nfc->code[0]] & CHARACTER_STABLE) != 0) {
        nfc->count = 0;
        return put_code(out, nfc->code[0]);
    }
    for (size_t i = 0; i < nfc->count; i++) {
        const utf8proc_ssize_t more = utf8proc_decompose_char(
            nfc->code[i], nfc->part + parts, (utf8proc_ssize_t)(PARTS_MOST - parts),
            UTF8PROC_DECOMPOSE, NULL);
        if (more < 0 || (size_t)more > PARTS_MOST - parts) {
            return FAIL(UNEXPECTED, "a character decomposes into more than four");
        }
        parts += (size_t)more;
    }
    nfc->count = 0;
    sort_all(nfc, parts);
    const utf8proc_ssize_t left = utf8proc_normalize_utf32(nfc->part, (utf8proc_ssize_t)parts,
                                                           UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    for (utf8proc_ssize_t i = 0; i < left; i++) {
        TRY(put_code(out, nfc->part[i]));
    }
    return STATUS_OK;
}

// Bytes below this are of characters below U+0300, which all start and are stable.
#define PLAIN_BELOW 0xCC

enum status nfc_put(struct nfc *nfc, const char *text, size_t bytes, struct bytes *out) {
    for (size_t at = 0; at < bytes;) {
        size_t plain = bytes_below(text + at, bytes - at, PLAIN_BELOW), length = 0;
        if (plain > 0) { // all but the last, which may have marks
            TRY(nfc_end(nfc, out));
            do {
                plain--;
            } while (((unsigned char)text[at + plain] & 0xC0) == 0x80);
            TRY(bytes_put(out, text + at, plain));
            at += plain;
        }
        const uint32_t code = character_at(text + at, &length);
        if ((nfc->characters->of[code] & CHARACTER_STARTS) != 0) TRY(nfc_end(nfc, out));
        if (nfc->count == NFC_TOGETHER_MOST) return STATUS_BAD_INPUT;
        nfc->code[nfc->count++] = (int32_t)code;
        at += length;
    }
    return STATUS_OK;
}
