#pragma once
// What the parts of passkey_task share: a task's grid, its filler, and keys.

#include "src/passkey_style.h"
#include "src/passkey_task.h"

#define PASSKEY_DEPTHS_MOST 1000000
#define PASSKEY_WORD_MOST   32

__extension__ typedef unsigned __int128 passkey_wide; // products of lengths

// Units of text, one after the other, from the first again when they are used up.
struct passkey_filler {
    struct bytes text;
    int64_t units;
    bool repeats;    // one sentence; false: of a file
    int64_t *end;    // [units + 1] bytes before a unit, and all
    int64_t *tokens; // [units + 1] the same in tokens, as the text runs on
    uint64_t hash;   // of the whole file
};

enum status passkey_filler_sentence(const char *sentence, struct passkey_filler *filler);
// As much of the file as a prompt of so many tokens can hold.
enum status passkey_filler_file(const char *path, struct passkey_filler *filler);
// Errors: USAGE (the tokenizer refuses the text), NO_MEMORY.
enum status passkey_filler_count(struct passkey_filler *filler, struct tokenizer *tokenizer,
                                 const char *name, int64_t most);
int64_t passkey_filler_tokens(const struct passkey_filler *filler, int64_t units); // of the first
int64_t passkey_filler_fit(const struct passkey_filler *filler, int64_t tokens);   // units
void passkey_filler_free(struct passkey_filler *filler);

struct passkey_length {
    int64_t tokens;
    int64_t units;  // places of filler, the key's included
    int64_t places; // of the grid that it reaches
};

enum passkey_spread {
    PASSKEY_CENTRES,   // (i + 0.5) / count
    PASSKEY_EVEN,      // i / count of the longest length, shared by lengths
    PASSKEY_GIVEN,     // depth[i]
    PASSKEY_POSITIONS, // position[i], shared by lengths
    PASSKEY_DESCRIBED, // none: samples come from elsewhere
};

struct passkey_grid {
    struct passkey_length *length;
    int64_t lengths, longest; // longest: which
    enum passkey_spread spread;
    int64_t count;
    double *depth;
    int64_t *position;
};

enum status passkey_grid_parse(const struct settings *settings, struct passkey_grid *grid);
void passkey_grid_free(struct passkey_grid *grid);

struct passkey_task {
    const struct passkey_style *style;
    struct tokenizer *tokenizer; // borrowed
    int32_t bos;
    bool own_filler; // --filler
    bool apart;      // it has been said that answers are tokenised by themselves
    int64_t digits, add_prefix, samples, new_tokens;
    uint64_t seed;
    const char *filler_name; // borrowed, of the settings
    struct passkey_grid grid;
    struct passkey_filler filler, before; // before: what --add-prefix repeats
    int64_t head;                         // tokens before the first unit
    int64_t tail;  // about, of the key's sentence and all after the last unit
    int64_t fixed; // of all but units, as the style counts
    int64_t unit;  // tokens of the least filler there may be
};

// Places of filler in a prompt of so many tokens, the key's included; 0: less than two.
int64_t passkey_units_of(const struct passkey_task *task, int64_t tokens);
// Units before a key that is to stand at this token, or before it; none where it is in the prefix.
int64_t passkey_place_of_position(const struct passkey_task *task, int64_t position);

// What stands where in a prompt.
struct passkey_layout {
    int64_t before, after; // units of filler around the key's sentence
};

// The prompt's tokens, without the answer's.
enum status passkey_prompt_put(const struct passkey_task *task, const char *key,
                               const struct passkey_layout *layout, struct passkey_prompt *prompt);
// Those before the first unit of filler.
enum status passkey_head_tokens(const struct passkey_task *task, int64_t *tokens);

#define PASSKEY_LENGTH_MOST (INT64_C(1) << 40)

uint64_t passkey_mix(uint64_t bits);
enum passkey_draw { PASSKEY_OF_NUMBER, PASSKEY_OF_PLACE, PASSKEY_OF_ID };
void passkey_key_draw(const struct passkey_task *task, uint64_t seed, enum passkey_draw draw,
                      uint64_t a, uint64_t b, char *key);
void passkey_key_text(const struct passkey_task *task, uint64_t value, char *key);
// The least key, and how many there are.
void passkey_key_range(const struct passkey_task *task, uint64_t *least, uint64_t *count);
// Tokens of one text by itself. Errors: USAGE (what the tokenizer says is wrong with it), NO_MEMORY.
enum status passkey_tokens_of(struct tokenizer *tokenizer, const char *text, size_t bytes,
                              const char *what, int64_t *tokens);
