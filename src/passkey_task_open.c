// What a task's settings come to: how many units of filler each length holds, which places it reaches.
#include "pipeline/json_put.h"
#include "src/passkey_result.h"
#include "src/passkey_task_inner.h"

#include <inttypes.h>
#include <stdio.h>

#define KEYS_TRIED  256
#define ANSWERS_ALL 100000 // keys: so many are all tried

// The prefix's tokens before a unit, and the most that the key's sentence and the question have, of as
// many keys as are tried: as they are in a prompt, with a unit before and behind the key.
static enum status count_around(struct passkey_task *task) {
    const struct passkey_layout layout = {.before = 1, .after = 1};
    const int64_t filler = passkey_filler_tokens(&task->filler, 2);
    struct passkey_prompt prompt = {0};
    struct passkey_task bare = *task; // --add-prefix may be long, and is always the same
    bare.add_prefix = 0;
    enum status status = passkey_head_tokens(&bare, &task->head);
    for (int64_t i = 0; i < KEYS_TRIED && status == STATUS_OK; i++) {
        char key[PASSKEY_KEY_MOST];
        passkey_key_draw(task, 0, PASSKEY_OF_NUMBER, 0, (uint64_t)i, key);
        status = passkey_prompt_put(&bare, key, &layout, &prompt);
        const int64_t tail = prompt.tokens - task->head - filler;
        if (tail > task->tail) task->tail = tail;
    }
    task->head += passkey_filler_tokens(&task->before, task->add_prefix);
    passkey_prompt_free(&prompt);
    return status;
}

// As the paper's code counts: prefix, question and a block each by itself, and as many blocks as there
// is room for, of which the key's is one.
static enum status count_blocks(struct passkey_task *task) {
    const struct passkey_style *style = task->style;
    struct tokenizer *tokenizer = task->tokenizer;
    const char *const part[3] = {style->prefix, style->question, style->sentence};
    int64_t tokens[3] = {0};
    for (int i = 0; i < 3; i++) {
        TRY(passkey_tokens_of(tokenizer, part[i], strlen(part[i]), "the prompt", &tokens[i]));
    }
    task->unit = tokens[2];
    task->fixed = (task->bos >= 0 ? 1 : 0) + task->add_prefix * tokens[2] + tokens[0] + tokens[1];
    return STATUS_OK;
}

static enum status count_fixed(struct passkey_task *task) {
    task->fixed = task->head + task->tail + task->style->answer_room;
    task->unit = task->filler.tokens[1];
    return task->style->replaces && !task->own_filler ? count_blocks(task) : STATUS_OK;
}

int64_t passkey_units_of(const struct passkey_task *task, int64_t tokens) {
    const struct passkey_style *style = task->style;
    const int64_t room = tokens - task->fixed;
    if (style->replaces && !task->own_filler) return room < 2 * task->unit ? 0 : room / task->unit;
    if (room < task->unit) return 0;
    const int64_t units = 1 + passkey_filler_fit(&task->filler, room);
    if (style->lines == 0 || task->own_filler) return units;
    const int64_t lines = (int64_t)((passkey_wide)tokens * (passkey_wide)style->lines /
                                    (passkey_wide)style->lines_of);
    return lines > 0 && units > lines + 1 ? lines + 1 : units;
}

static enum status count_units(const struct passkey_task *task, struct passkey_length *length) {
    const bool counts_key = task->style->replaces && !task->own_filler;
    length->units = passkey_units_of(task, length->tokens);
    if (length->units > 0) return STATUS_OK;
    return FAIL(USAGE,
                "--lengths: %" PRId64
                " tokens are too few for what the task says around the filler, "
                "one unit of filler and the key: at least %" PRId64 " are needed",
                length->tokens, task->fixed + (counts_key ? 2 : 1) * task->unit);
}

static enum status count_places(const struct passkey_task *task, struct passkey_length *length) {
    const struct passkey_grid *grid = &task->grid;
    length->places = grid->count;
    if (grid->spread != PASSKEY_POSITIONS) return STATUS_OK;
    while (length->places > 0 &&
           passkey_place_of_position(task, grid->position[length->places - 1]) >
               length->units - 1) {
        length->places--;
    }
    if (length->places > 0) return STATUS_OK;
    return FAIL(USAGE,
                "--positions: none is within the %" PRId64 " tokens of --lengths; the last place "
                "there is before token %" PRId64,
                length->tokens,
                task->head + passkey_filler_tokens(&task->filler, length->units - 1));
}

// The most tokens an answer has: as many as bytes, or of all keys where those are few and it matters.
static enum status count_answer(const struct passkey_task *task, int64_t *most) {
    uint64_t least = 0, count = 0;
    passkey_key_range(task, &least, &count);
    *most = 1 + task->digits;
    if (*most <= task->style->new_tokens || count > ANSWERS_ALL) return STATUS_OK;
    *most = 0;
    for (uint64_t i = 0; i < count; i++) {
        char answer[PASSKEY_KEY_MOST + 1] = " ";
        int64_t tokens = 0;
        passkey_key_text(task, least + i, answer + 1);
        TRY(passkey_tokens_of(task->tokenizer, answer, strlen(answer), "the answer", &tokens));
        if (tokens > *most) *most = tokens;
    }
    return STATUS_OK;
}

static enum status open_fillers(struct passkey_task *task) {
    const char *name = task->own_filler ? "--filler" : "the filler";
    const struct passkey_grid *grid = &task->grid;
    const int64_t most = grid->lengths > 0 ? grid->length[grid->longest].tokens : INT64_MAX;
    TRY(passkey_filler_sentence(task->style->sentence, &task->before));
    TRY(passkey_filler_count(&task->before, task->tokenizer, "the filler", most));
    TRY(task->own_filler ? passkey_filler_file(task->filler_name, &task->filler)
                         : passkey_filler_sentence(task->style->sentence, &task->filler));
    return passkey_filler_count(&task->filler, task->tokenizer, name, most);
}

static enum status count_all(struct passkey_task *task) {
    int64_t answer = 0;
    TRY(open_fillers(task));
    TRY(count_around(task));
    TRY(count_fixed(task));
    for (int64_t i = 0; i < task->grid.lengths; i++) {
        TRY(count_units(task, &task->grid.length[i]));
    }
    for (int64_t i = 0; i < task->grid.lengths; i++) {
        TRY(count_places(task, &task->grid.length[i]));
    }
    if (task->new_tokens > 0) return STATUS_OK;
    TRY(count_answer(task, &answer));
    task->new_tokens = answer > task->style->new_tokens ? answer : task->style->new_tokens;
    return STATUS_OK;
}

enum status passkey_task_open(const struct settings *settings, struct tokenizer *tokenizer,
                              int32_t bos, struct passkey_task **opened) {
    struct passkey_task *task = calloc(1, sizeof *task);
    if (task == NULL) return FAIL(NO_MEMORY, "the passkey task");
    task->style = passkey_style_named(settings->style);
    task->tokenizer = tokenizer;
    task->bos = bos;
    task->own_filler = settings->filler != NULL;
    task->filler_name = settings->filler;
    task->add_prefix = settings->add_prefix;
    task->samples = settings->samples;
    task->new_tokens = settings->new_tokens;
    task->seed = (uint64_t)settings->seed;
    enum status status = STATUS_OK;
    if (task->style == NULL) {
        status =
            FAIL(USAGE, "--style %s: there are paper, infinitebench and niah", settings->style);
    } else {
        task->digits = settings->digits > 0 ? settings->digits : task->style->digits;
        status = passkey_grid_parse(settings, &task->grid);
        if (status == STATUS_OK) status = count_all(task);
    }
    if (status != STATUS_OK) {
        passkey_task_close(task);
        return status;
    }
    *opened = task;
    return STATUS_OK;
}

void passkey_task_close(struct passkey_task *task) {
    if (task == NULL) return;
    passkey_grid_free(&task->grid);
    passkey_filler_free(&task->filler);
    passkey_filler_free(&task->before);
    free(task);
}

static enum status put_places(const struct passkey_grid *grid, struct bytes *out) {
    if (grid->spread == PASSKEY_DESCRIBED) return STATUS_OK;
    if (grid->spread == PASSKEY_CENTRES) return json_put_int(out, ",\"depths\":", grid->count);
    if (grid->spread == PASSKEY_EVEN) {
        TRY(json_put_int(out, ",\"depths\":\"even:", grid->count));
        return json_put(out, "\"");
    }
    const bool positions = grid->spread == PASSKEY_POSITIONS;
    TRY(json_put(out, positions ? ",\"positions\":[" : ",\"depths\":["));
    for (int64_t i = 0; i < grid->count; i++) {
        const char *before = i == 0 ? "" : ",";
        TRY(positions ? json_put_int(out, before, grid->position[i])
                      : json_put_double(out, before, grid->depth[i]));
    }
    return json_put(out, "]");
}

enum status passkey_task_json(const struct passkey_task *task, struct bytes *out) {
    TRY(json_put_string(out, "\"style\":", task->style->name, strlen(task->style->name)));
    TRY(json_put_int(out, ",\"digits\":", task->digits));
    TRY(json_put_count(out, ",\"seed\":", task->seed));
    TRY(put_places(&task->grid, out));
    TRY(json_put(out, ",\"bos\":"));
    TRY(task->bos >= 0 ? json_put_int(out, "", task->bos) : json_put(out, "null"));
    TRY(json_put_int(out, ",\"add_prefix\":", task->add_prefix));
    TRY(task->own_filler ? passkey_put_hash(out, ",\"filler\":", task->filler.hash)
                         : json_put(out, ",\"filler\":null"));
    TRY(json_put_int(out, ",\"new_tokens\":", task->new_tokens));
    return passkey_put_hash(out, ",\"tokenizer\":", task->tokenizer->hash);
}
