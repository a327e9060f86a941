// From utf8proc's tables, and a few characters younger than they are.
#include "pipeline/bpe_characters.h"

#include <stdbool.h>
#include <stdlib.h>
#include <utf8proc.h>

// A character's canonical decomposition has at most four.
#define PARTS_MOST 8

// Letters and numbers of Unicode 15.1 and 16.0, which Hugging Face's tokenizers 0.23 knows and
// utf8proc 2.8 (15.0) does not. Used only where it has nothing assigned.
static const struct {
    uint32_t first, last;
    enum character_kind kind;
} younger[] = {
    {0x1C89,  0x1C8A,  KIND_LETTER},
    {0xA7CB,  0xA7CD,  KIND_LETTER},
    {0xA7DA,  0xA7DC,  KIND_LETTER},
    {0x105C0, 0x105F3, KIND_LETTER},
    {0x10D40, 0x10D49, KIND_NUMBER},
    {0x10D4A, 0x10D65, KIND_LETTER},
    {0x10D6F, 0x10D85, KIND_LETTER},
    {0x10EC2, 0x10EC4, KIND_LETTER},
    {0x11380, 0x11389, KIND_LETTER},
    {0x1138B, 0x1138B, KIND_LETTER},
    {0x1138E, 0x1138E, KIND_LETTER},
    {0x11390, 0x113B5, KIND_LETTER},
    {0x113B7, 0x113B7, KIND_LETTER},
    {0x113D1, 0x113D1, KIND_LETTER},
    {0x113D3, 0x113D3, KIND_LETTER},
    {0x116D0, 0x116E3, KIND_NUMBER},
    {0x11BC0, 0x11BE0, KIND_LETTER},
    {0x11BF0, 0x11BF9, KIND_NUMBER},
    {0x13460, 0x143FA, KIND_LETTER},
    {0x16100, 0x1611D, KIND_LETTER},
    {0x16130, 0x16139, KIND_NUMBER},
    {0x16D40, 0x16D6C, KIND_LETTER},
    {0x16D70, 0x16D79, KIND_NUMBER},
    {0x18CFF, 0x18CFF, KIND_LETTER},
    {0x1CCF0, 0x1CCF9, KIND_NUMBER},
    {0x1E5D0, 0x1E5ED, KIND_LETTER},
    {0x1E5F0, 0x1E5F0, KIND_LETTER},
    {0x1E5F1, 0x1E5FA, KIND_NUMBER},
    {0x2EBF0, 0x2EE5D, KIND_LETTER},
};

static enum character_kind kind_of(int32_t code, utf8proc_category_t category) {
    if ((code >= '\t' && code <= '\r') || code == 0x85) return KIND_SPACE; // controls otherwise
    if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) return KIND_LETTER;
    if (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO) return KIND_NUMBER;
    if (category >= UTF8PROC_CATEGORY_ZS && category <= UTF8PROC_CATEGORY_ZP) return KIND_SPACE;
    return KIND_OTHER;
}

static void set_younger(struct characters *characters) {
    for (size_t i = 0; i < sizeof younger / sizeof younger[0]; i++) {
        for (uint32_t code = younger[i].first; code <= younger[i].last; code++) {
            if (utf8proc_category((int32_t)code) != UTF8PROC_CATEGORY_CN) continue;
            characters->of[code] |= (uint8_t)younger[i].kind; // was KIND_OTHER, which is 0
        }
    }
}

static bool decomposes(int32_t code) {
    const utf8proc_property_t *property = utf8proc_get_property(code);
    return property->decomp_type == 0 && property->decomp_seqindex != UINT16_MAX;
}

static int decompose(int32_t code, int32_t part[PARTS_MOST]) {
    const utf8proc_ssize_t parts =
        utf8proc_decompose_char(code, part, PARTS_MOST, UTF8PROC_DECOMPOSE, NULL);
    return parts < 1 || parts > PARTS_MOST ? 0 : (int)parts;
}

// A Hangul vowel or final consonant, which joins the syllable before it.
static bool is_late_jamo(int32_t code) {
    return (code >= 0x1161 && code <= 0x1175) || (code >= 0x11A8 && code <= 0x11C2);
}

enum status characters_make(struct characters **made) {
    struct characters *characters = calloc(1, sizeof *characters);
    int32_t part[PARTS_MOST];
    if (characters == NULL) return FAIL(NO_MEMORY, "a table of characters");
    for (int32_t code = 0; code < CHARACTERS; code++) {
        const utf8proc_property_t *property = utf8proc_get_property(code);
        const bool starts = property->combining_class == 0 && !is_late_jamo(code);
        characters->of[code] = (uint8_t)kind_of(code, (utf8proc_category_t)property->category);
        if (starts) characters->of[code] |= CHARACTER_STARTS | CHARACTER_STABLE;
    }
    set_younger(characters);
    // What is a later part of something may join what stands before it.
    for (int32_t code = 0; code < CHARACTERS; code++) {
        const int parts = decomposes(code) ? decompose(code, part) : 1;
        for (int i = 1; i < parts; i++) {
            characters->of[part[i]] &= CHARACTER_KIND;
        }
    }
    for (int32_t code = 0; code < CHARACTERS; code++) {
        if (!decomposes(code)) continue;
        const int parts = decompose(code, part);
        if (parts == 0 || (characters->of[part[0]] & CHARACTER_STARTS) == 0) {
            characters->of[code] &= CHARACTER_KIND;
            continue;
        }
        const utf8proc_ssize_t left =
            utf8proc_normalize_utf32(part, parts, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
        if (left != 1 || part[0] != code) {
            characters->of[code] &= CHARACTER_KIND | CHARACTER_STARTS;
        }
    }
    *made = characters;
    return STATUS_OK;
}
