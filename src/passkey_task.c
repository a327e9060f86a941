// Which samples there are: places, keys, names. Each is computed from its index.
#include "ops/base/hash.h"
#include "src/passkey_task_inner.h"

#include <inttypes.h>
#include <stdio.h>

int64_t passkey_place_of_position(const struct passkey_task *task, int64_t position) {
    return passkey_filler_fit(&task->filler, position - task->head);
}

// Units before the key of the k-th place, and how deep it was to be.
static int64_t place_of(const struct passkey_task *task, const struct passkey_length *length,
                        int64_t k, double *depth) {
    const struct passkey_grid *grid = &task->grid;
    const struct passkey_length *longest = &grid->length[grid->longest];
    const int64_t last = length->units - 1;
    int64_t place = 0;
    switch (grid->spread) {
    case PASSKEY_CENTRES: *depth = ((double)k + 0.5) / (double)grid->count; break;
    case PASSKEY_EVEN:
        *depth = (double)k / (double)grid->count;
        place = (int64_t)((passkey_wide)k * (passkey_wide)longest->units *
                          (passkey_wide)length->tokens /
                          ((passkey_wide)grid->count * (passkey_wide)longest->tokens));
        return place < last ? place : last;
    case PASSKEY_POSITIONS:
        place = passkey_place_of_position(task, grid->position[k]);
        *depth = (double)place / (double)last;
        return place;
    case PASSKEY_GIVEN:
    case PASSKEY_DESCRIBED: // has no places
    default: *depth = grid->depth[k]; break;
    }
    return (int64_t)(*depth * (double)last);
}

int64_t passkey_task_count(const struct passkey_task *task) {
    return task->grid.lengths * task->samples;
}

// The first of a length's samples whose place is the k-th or a later one: samples are spread evenly,
// the n-th to place (n + 0.5) * places / samples.
static int64_t first_of_place(const struct passkey_task *task, const struct passkey_length *length,
                              int64_t k) {
    const int64_t over = 2 * task->samples * k - length->places;
    return over <= 0 ? 0 : (over + 2 * length->places - 1) / (2 * length->places);
}

// Among samples of the same length and the same units before the key, from 0. Places of a short length
// may coincide.
static int64_t replicate_of(const struct passkey_task *task, const struct passkey_length *length,
                            int64_t k, const struct passkey_sample *sample) {
    int64_t first = 0, end = k; // the first place that is the same is in [first, end]
    while (first < end) {
        const int64_t middle = first + (end - first) / 2;
        double depth = 0.0;
        if (place_of(task, length, middle, &depth) == sample->position) {
            end = middle;
        } else {
            first = middle + 1;
        }
    }
    return sample->number - first_of_place(task, length, first);
}

static void name_sample(const struct passkey_grid *grid, int64_t k, struct passkey_sample *sample) {
    if (grid->spread == PASSKEY_POSITIONS) {
        snprintf(sample->id, sizeof sample->id, "%" PRId64 "-p%" PRId64 "-%" PRId64, sample->length,
                 grid->position[k], sample->number);
    } else {
        snprintf(sample->id, sizeof sample->id, "%" PRId64 "-d%.6g-%" PRId64, sample->length,
                 sample->depth, sample->number);
    }
}

void passkey_task_sample(const struct passkey_task *task, int64_t index,
                         struct passkey_sample *sample) {
    const struct passkey_length *length = &task->grid.length[index / task->samples];
    const enum passkey_spread spread = task->grid.spread;
    const int64_t number = index % task->samples;
    const int64_t k = (2 * number + 1) * length->places / (2 * task->samples);
    *sample =
        (struct passkey_sample){.length = length->tokens, .number = number, .units = length->units};
    sample->position = place_of(task, length, k, &sample->depth);
    if (spread == PASSKEY_EVEN || spread == PASSKEY_POSITIONS) {
        passkey_key_draw(task, task->seed, PASSKEY_OF_PLACE, (uint64_t)sample->position,
                         (uint64_t)replicate_of(task, length, k, sample), sample->key);
    } else {
        passkey_key_draw(task, task->seed, PASSKEY_OF_NUMBER, (uint64_t)sample->length,
                         (uint64_t)number, sample->key);
    }
    name_sample(&task->grid, k, sample);
}

enum status passkey_task_find(const struct passkey_task *task, const char *id,
                              struct passkey_sample *sample) {
    const char *last = strrchr(id, '-');
    const int64_t tokens = strtoll(id, NULL, 10);
    const int64_t number = last == NULL ? -1 : strtoll(last + 1, NULL, 10);
    for (int64_t i = 0; i < task->grid.lengths; i++) {
        if (task->grid.length[i].tokens != tokens || number < 0 || number >= task->samples)
            continue;
        passkey_task_sample(task, i * task->samples + number, sample);
        if (strcmp(sample->id, id) == 0) return STATUS_OK;
    }
    if (task->grid.lengths == 0) {
        return FAIL(USAGE, "there is no sample %s: --input describes what there is", id);
    }
    passkey_task_sample(task, 0, sample);
    return FAIL(USAGE,
                "there is no sample %s among the %" PRId64
                " of this task, of which the first is %s: "
                "are --lengths, --depths and --samples those of the run?",
                id, passkey_task_count(task), sample->id);
}

static const char *wrong_of(const struct passkey_task *task, const struct passkey_wish *wish) {
    const struct passkey_grid *grid = &task->grid;
    const int64_t length = wish->length;
    const char *key = wish->key;
    if (*wish->id == '\0' || strlen(wish->id) >= PASSKEY_ID_MOST)
        return "the id is empty or too long";
    if (length < 1 || length > PASSKEY_WISH_MOST) return "the length is not from 1 to 2^26 tokens";
    if (task->own_filler && grid->lengths > 0 && length > grid->length[grid->longest].tokens) {
        return "the length is more than those of --lengths";
    }
    if (passkey_units_of(task, length) == 0) {
        return "the length is too short for the prompt's fixed parts, one unit of filler and the "
               "key";
    }
    if (!(wish->depth >= 0.0 && wish->depth <= 1.0)) return "the depth is not from 0 to 1";
    if (key == NULL) return NULL;
    if ((int64_t)strlen(key) != task->digits || strspn(key, "0123456789") != strlen(key)) {
        return "the key does not have the task's number of digits, or has others than digits";
    }
    if (*key == '0' && !task->style->padded)
        return "the key begins with 0, which the style has not";
    return NULL;
}

enum status passkey_task_describe(const struct passkey_task *task, const struct passkey_wish *wish,
                                  struct passkey_sample *sample, const char **wrong) {
    *wrong = wrong_of(task, wish);
    if (*wrong != NULL) return STATUS_BAD_INPUT;
    *sample = (struct passkey_sample){.length = wish->length,
                                      .depth = wish->depth,
                                      .units = passkey_units_of(task, wish->length)};
    sample->position = (int64_t)(wish->depth * (double)(sample->units - 1));
    snprintf(sample->id, sizeof sample->id, "%s", wish->id);
    if (wish->key == NULL) {
        passkey_key_draw(task, wish->seed, PASSKEY_OF_ID, hash_bytes(wish->id, strlen(wish->id)), 0,
                         sample->key);
    } else {
        snprintf(sample->key, sizeof sample->key, "%s", wish->key);
    }
    return STATUS_OK;
}

bool passkey_task_correct(const struct passkey_task *task, const struct passkey_sample *sample,
                          const char *text, size_t bytes) {
    return passkey_style_correct(task->style, sample->key, text, bytes);
}

bool passkey_task_stops(const struct passkey_task *task) {
    return !task->style->first_number;
}

int64_t passkey_task_new_tokens(const struct passkey_task *task) {
    return task->new_tokens;
}

int64_t passkey_sample_cost(const struct passkey_task *task, const struct passkey_sample *sample) {
    return passkey_filler_tokens(&task->filler, sample->units - 1) -
           passkey_filler_tokens(&task->filler, sample->position) + task->tail;
}
