#pragma once
// The passkey task: a key hidden at some depth in a long text of no interest, and a question about it.
// Strings and counts as in the code of the paper (arXiv 2410.07145), InfiniteBench, or RULER.
//
// A prompt is [BOS] [--add-prefix sentences] prefix, units of filler with the key's sentence among
// them, question; all of it counts into its length. Its tokens are those of its text, tokenised as one,
// so that what a tokenizer joins over the borders of the parts is joined here too.

#include "pipeline/bytes.h"
#include "pipeline/tokenizer.h"
#include "src/settings.h"

#define PASSKEY_ID_MOST  64
#define PASSKEY_KEY_MOST 40

// Names one sample within a task, and says where it stands in its grid. A function of the task's
// settings and of nothing else: not of the ranks, nor of what else is run.
struct passkey_sample {
    char id[PASSKEY_ID_MOST];
    int64_t length;             // tokens of the prompt, at most
    double depth;               // asked for, in [0, 1]
    int64_t number;             // among those of its length, from 0
    int64_t position;           // units of filler before the key
    int64_t units;              // places of filler in all, the key's included
    char key[PASSKEY_KEY_MOST]; // what is to be found
};

// What the model reads, and what it should go on with.
struct passkey_prompt {
    int32_t *token; // [tokens + answers]: the prompt, then the answer
    int64_t tokens, answers;
    size_t room;
};

struct passkey_task;

// Checks what --lengths, --depths, --positions, --style and the rest say, and reads --filler. Borrows the
// tokenizer, whose documents it begins and ends. bos: the token that comes first with --bos, or -1.
// With --input samples are described one by one: the task has none of its own, and --lengths, --depths,
// --positions and --samples are not read.
// Errors: USAGE (a length that is too short for the task's fixed parts, by name), IO, NO_MEMORY.
enum status passkey_task_open(const struct settings *settings, struct tokenizer *tokenizer,
                              int32_t bos, struct passkey_task **opened);
int64_t passkey_task_count(const struct passkey_task *task); // samples: lengths, then numbers
void passkey_task_sample(const struct passkey_task *task, int64_t index,
                         struct passkey_sample *sample);
// The sample of this id. Errors: USAGE (there is none such).
enum status passkey_task_find(const struct passkey_task *task, const char *id,
                              struct passkey_sample *sample);
// A sample that the grid need not hold. Errors: BAD_INPUT (not logged; *wrong says why: too short a
// length, a depth outside [0, 1], a key that is not such digits as the style wants, ...).
struct passkey_wish {
    const char *id;
    int64_t length; // at most PASSKEY_WISH_MOST
    double depth;
    const char *key; // NULL: drawn from seed and id
    uint64_t seed;
};
#define PASSKEY_WISH_MOST (INT64_C(1) << 26) // a message must not ask for all of the memory
enum status passkey_task_describe(const struct passkey_task *task, const struct passkey_wish *wish,
                                  struct passkey_sample *sample, const char **wrong);

// prompt: all zero or used before; freed with passkey_prompt_free. Errors: NO_MEMORY, UNEXPECTED.
enum status passkey_task_prompt(struct passkey_task *task, const struct passkey_sample *sample,
                                struct passkey_prompt *prompt);
// The first so many tokens of a prompt without end and without a key: what prompts have in common, but
// for what the tokenizer takes together with a key's first letter.
enum status passkey_task_trunk(struct passkey_task *task, int64_t tokens,
                               struct passkey_prompt *trunk);
void passkey_prompt_free(struct passkey_prompt *prompt);

// The text, for people: prompt and answer. Appended. Errors: NO_MEMORY.
enum status passkey_task_text(struct passkey_task *task, const struct passkey_sample *sample,
                              struct bytes *prompt, struct bytes *answer);
// Is the answer in what was decoded? As the style counts.
bool passkey_task_correct(const struct passkey_task *task, const struct passkey_sample *sample,
                          const char *text, size_t bytes);
// May decoding end as soon as passkey_task_correct says yes? Not where more digits could make it wrong.
bool passkey_task_stops(const struct passkey_task *task);
int64_t passkey_task_new_tokens(
    const struct passkey_task *task); // to decode, --new-tokens or enough

// What defines its samples beside their own fields, as JSON members: "style":"paper","digits":5,...
// without braces. Equal tasks, equal text. Errors: NO_MEMORY.
enum status passkey_task_json(const struct passkey_task *task, struct bytes *out);
// Rough tokens from the key to the prompt's end, known before anything is tokenised.
int64_t passkey_sample_cost(const struct passkey_task *task, const struct passkey_sample *sample);
void passkey_task_close(struct passkey_task *task); // accepts NULL
