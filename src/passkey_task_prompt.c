// A sample's text, to its end through the tokenizer in pieces, or as it is.
#include "src/passkey_task_inner.h"

#include <inttypes.h>
#include <stdio.h>

// Where text goes: into tokens, or into text.
struct flow {
    struct tokenizer *tokenizer;
    struct passkey_prompt *prompt; // NULL: into text
    struct bytes *text;
};

static enum status prompt_room(struct passkey_prompt *prompt, int64_t more) {
    void *token = prompt->token;
    TRY(room_for(&token, &prompt->room, (size_t)(prompt->tokens + more), sizeof *prompt->token));
    prompt->token = token;
    return STATUS_OK;
}

static enum status put(struct flow *flow, const char *text, size_t bytes, bool ends) {
    struct passkey_prompt *prompt = flow->prompt;
    struct tokenizer_turn turn = {.text = text, .bytes = bytes, .ends = ends};
    if (prompt == NULL) return bytes_put(flow->text, text, bytes);
    do {
        TRY(prompt_room(prompt, 1));
        turn.token = prompt->token + prompt->tokens;
        turn.room = (int64_t)prompt->room - prompt->tokens;
        const enum status status = flow->tokenizer->encode(flow->tokenizer, &turn);
        if (status == STATUS_BAD_INPUT) {
            return FAIL(USAGE, "the text of a prompt: %s", flow->tokenizer->wrong);
        }
        if (status != STATUS_OK) return status;
        prompt->tokens += turn.tokens;
        turn.text += turn.used;
        turn.bytes -= turn.used;
    } while (ends ? !turn.done : turn.bytes > 0);
    return STATUS_OK;
}

// Units [first, first + count).
static enum status put_units(struct flow *flow, const struct passkey_filler *filler, int64_t first,
                             int64_t count, bool ends) {
    while (count > 0) {
        const int64_t unit = first % filler->units;
        const int64_t some = count < filler->units - unit ? count : filler->units - unit;
        TRY(put(flow, filler->text.data + filler->end[unit],
                (size_t)(filler->end[unit + some] - filler->end[unit]), ends && some == count));
        first += some;
        count -= some;
    }
    return STATUS_OK;
}

// One of the style's texts with the sample's key in it.
static enum status put_filled(struct flow *flow, const char *text, const char *key, bool ends) {
    struct bytes filled = {0};
    char word[PASSKEY_WORD_MOST];
    passkey_style_word(passkey_mix(strtoull(key, NULL, 10)), word, sizeof word);
    enum status status = passkey_style_put(&filled, text, key, word);
    if (status == STATUS_OK) status = put(flow, filled.data, filled.count, ends);
    bytes_free(&filled);
    return status;
}

static enum status put_head(const struct passkey_task *task, struct flow *flow) {
    struct passkey_prompt *prompt = flow->prompt;
    const char *prefix = task->style->prefix;
    if (prompt != NULL) {
        prompt->tokens = prompt->answers = 0;
        TRY(prompt_room(prompt, 1));
        if (task->bos >= 0) prompt->token[prompt->tokens++] = task->bos;
        flow->tokenizer->begin(flow->tokenizer);
    }
    TRY(put_units(flow, &task->before, 0, task->add_prefix, false));
    return put(flow, prefix, strlen(prefix), false);
}

static enum status put_prompt(const struct passkey_task *task, const char *key,
                              const struct passkey_layout *layout, struct flow *flow) {
    TRY(put_head(task, flow));
    TRY(put_units(flow, &task->filler, 0, layout->before, false));
    TRY(put_filled(flow, task->style->key, key, false));
    TRY(put_units(flow, &task->filler, layout->before, layout->after, false));
    return put_filled(flow, task->style->question, key, true);
}

enum status passkey_prompt_put(const struct passkey_task *task, const char *key,
                               const struct passkey_layout *layout, struct passkey_prompt *prompt) {
    struct flow flow = {.tokenizer = task->tokenizer, .prompt = prompt};
    return put_prompt(task, key, layout, &flow);
}

enum status passkey_head_tokens(const struct passkey_task *task, int64_t *tokens) {
    struct passkey_prompt prompt = {0};
    struct flow flow = {.tokenizer = task->tokenizer, .prompt = &prompt};
    enum status status = put_head(task, &flow);
    if (status == STATUS_OK) status = put_units(&flow, &task->filler, 0, 1, true);
    *tokens = prompt.tokens - task->filler.tokens[1];
    passkey_prompt_free(&prompt);
    return status;
}

// The units that fit: fewer than the sample's places only where its key has more tokens than was
// reckoned with. Those at the end go first, so that what stands before the key stays.
static enum status put_fitting(const struct passkey_task *task, const struct passkey_sample *sample,
                               struct passkey_prompt *prompt, struct passkey_layout *layout) {
    const int64_t most = sample->length - task->style->answer_room;
    *layout = (struct passkey_layout){.before = sample->position,
                                      .after = sample->units - 1 - sample->position};
    prompt->tokens = 0;
    TRY(prompt_room(prompt, sample->length));
    for (;;) {
        TRY(passkey_prompt_put(task, sample->key, layout, prompt));
        if (prompt->tokens <= most) return STATUS_OK;
        int64_t *from = layout->after > 0 ? &layout->after : &layout->before;
        if (*from == 0) {
            return FAIL(UNEXPECTED, "sample %s has %" PRId64 " tokens without any filler",
                        sample->id, prompt->tokens);
        }
        --*from;
    }
}

// The question with the answer behind it, or either by itself, as one text.
static enum status put_end(const struct passkey_task *task, const char *key, bool question,
                           bool answer, struct passkey_prompt *end) {
    struct flow flow = {.tokenizer = task->tokenizer, .prompt = end};
    char text[PASSKEY_KEY_MOST + 1];
    end->tokens = 0;
    flow.tokenizer->begin(flow.tokenizer);
    if (question) TRY(put_filled(&flow, task->style->question, key, !answer));
    if (!answer) return STATUS_OK;
    const int bytes = snprintf(text, sizeof text, " %s", key);
    return put(&flow, text, (size_t)bytes, true);
}

// The answer's tokens are those that follow the question's when both are read as one text. If the
// tokenizer takes the question's last letters and the answer's first ones together, there are none such,
// and the answer is read by itself. What stands before the question changes neither.
static enum status put_answer(struct passkey_task *task, const char *key,
                              struct passkey_prompt *prompt) {
    struct passkey_prompt question = {0}, end = {0};
    enum status status = put_end(task, key, true, false, &question);
    if (status == STATUS_OK) status = put_end(task, key, true, true, &end);
    const size_t same = (size_t)question.tokens * sizeof *question.token;
    if (status == STATUS_OK &&
        (end.tokens <= question.tokens || memcmp(end.token, question.token, same) != 0)) {
        if (!task->apart) {
            LOG(WARN, "the tokenizer takes the question's end and the answer together: answers are "
                      "tokenised by themselves");
        }
        task->apart = true;
        question.tokens = 0;
        status = put_end(task, key, false, true, &end);
    }
    if (status == STATUS_OK) status = prompt_room(prompt, end.tokens - question.tokens);
    if (status == STATUS_OK) {
        prompt->answers = end.tokens - question.tokens;
        memcpy(prompt->token + prompt->tokens, end.token + question.tokens,
               (size_t)prompt->answers * sizeof *end.token);
    }
    passkey_prompt_free(&question);
    passkey_prompt_free(&end);
    return status;
}

enum status passkey_task_prompt(struct passkey_task *task, const struct passkey_sample *sample,
                                struct passkey_prompt *prompt) {
    struct passkey_layout layout;
    TRY(put_fitting(task, sample, prompt, &layout));
    return put_answer(task, sample->key, prompt);
}

// A unit more than is asked for, so that no token is other than it is where the text goes on.
enum status passkey_task_trunk(struct passkey_task *task, int64_t tokens,
                               struct passkey_prompt *trunk) {
    struct flow flow = {.tokenizer = task->tokenizer, .prompt = trunk};
    int64_t units = 2 + passkey_filler_fit(&task->filler, tokens - task->head);
    do {
        TRY(put_head(task, &flow));
        TRY(put_units(&flow, &task->filler, 0, ++units, true));
    } while (trunk->tokens < tokens);
    trunk->tokens = tokens;
    return STATUS_OK;
}

void passkey_prompt_free(struct passkey_prompt *prompt) {
    free(prompt->token);
    *prompt = (struct passkey_prompt){0};
}

enum status passkey_task_text(struct passkey_task *task, const struct passkey_sample *sample,
                              struct bytes *prompt, struct bytes *answer) {
    struct passkey_prompt tokens = {0};
    struct passkey_layout layout;
    struct flow flow = {.text = prompt};
    const enum status status = put_fitting(task, sample, &tokens, &layout);
    passkey_prompt_free(&tokens);
    if (status != STATUS_OK) return status;
    TRY(put_prompt(task, sample->key, &layout, &flow));
    TRY(bytes_put(answer, " ", 1));
    return bytes_put(answer, sample->key, strlen(sample->key));
}
