// What --lengths, --depths and --positions say.
#include "src/option_value.h"
#include "src/passkey_task_inner.h"

#include <inttypes.h>
#include <stdio.h>

#define LENGTHS_MOST 1024

static const struct option size_option = {
    .name = "lengths", .kind = OPTION_SIZE, .least = 1, .most = PASSKEY_LENGTH_MOST};
static const struct option place_option = {
    .name = "positions", .kind = OPTION_SIZE, .least = 0, .most = PASSKEY_LENGTH_MOST};
static const struct option depth_option = {.name = "depths", .kind = OPTION_FRACTION};

static int64_t entries(const char *list) {
    int64_t count = 1;
    for (; *list != '\0'; list++) {
        count += *list == ',';
    }
    return count;
}

// The entries of a list with commas between them; number or share, as the option has it.
static enum status parse_list(const struct option *option, const char *list, int64_t *number,
                              double *share) {
    const char *at = list;
    for (int64_t i = 0;; i++) {
        char text[64], wrong[160] = "is too long";
        struct option_value value = {0};
        const size_t bytes = strcspn(at, ",");
        const bool fits = bytes < sizeof text;
        if (fits) {
            memcpy(text, at, bytes);
            text[bytes] = '\0';
        }
        if (!fits || !option_parse(option, text, &value, wrong, sizeof wrong)) {
            return FAIL(USAGE, "--%s %s: '%.*s' %s", option->name, list, (int)(fits ? bytes : 60),
                        at, wrong);
        }
        if (number != NULL) number[i] = value.integer;
        if (share != NULL) share[i] = value.fraction;
        at += bytes;
        if (*at++ == '\0') return STATUS_OK;
    }
}

static enum status parse_lengths(const char *list, struct passkey_grid *grid) {
    int64_t number[LENGTHS_MOST] = {0};
    const int64_t count = entries(list);
    if (count > LENGTHS_MOST) {
        return FAIL(USAGE, "--lengths has %" PRId64 " lengths: at most %d are taken", count,
                    LENGTHS_MOST);
    }
    TRY(parse_list(&size_option, list, number, NULL));
    grid->length = calloc((size_t)count, sizeof *grid->length);
    if (grid->length == NULL) return FAIL(NO_MEMORY, "%" PRId64 " lengths", count);
    grid->lengths = count;
    for (int64_t i = 0; i < count; i++) {
        for (int64_t j = 0; j < i; j++) {
            if (number[j] != number[i]) continue;
            return FAIL(USAGE, "--lengths %s: %" PRId64 " stands there twice; give it once", list,
                        number[i]);
        }
        grid->length[i].tokens = number[i];
        if (number[i] > number[grid->longest]) grid->longest = i;
    }
    return STATUS_OK;
}

static int by_number(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int by_share(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static enum status room_of_places(const char *option, int64_t count, size_t bytes, void **room) {
    if (count > PASSKEY_DEPTHS_MOST) {
        return FAIL(USAGE, "--%s: %" PRId64 " places; at most %d are taken", option, count,
                    PASSKEY_DEPTHS_MOST);
    }
    *room = calloc((size_t)count, bytes);
    return *room != NULL ? STATUS_OK : FAIL(NO_MEMORY, "%" PRId64 " places", count);
}

static enum status parse_positions(const char *list, struct passkey_grid *grid) {
    void *room = NULL;
    grid->spread = PASSKEY_POSITIONS;
    grid->count = entries(list);
    TRY(room_of_places("positions", grid->count, sizeof *grid->position, &room));
    grid->position = room;
    TRY(parse_list(&place_option, list, grid->position, NULL));
    qsort(grid->position, (size_t)grid->count, sizeof *grid->position, by_number);
    for (int64_t i = 1; i < grid->count; i++) {
        if (grid->position[i] > grid->position[i - 1]) continue;
        return FAIL(USAGE, "--positions %s: %" PRId64 " stands there twice; give it once", list,
                    grid->position[i]);
    }
    return STATUS_OK;
}

static enum status parse_shares(const char *list, struct passkey_grid *grid) {
    void *room = NULL;
    grid->spread = PASSKEY_GIVEN;
    grid->count = entries(list);
    TRY(room_of_places("depths", grid->count, sizeof *grid->depth, &room));
    grid->depth = room;
    TRY(parse_list(&depth_option, list, NULL, grid->depth));
    qsort(grid->depth, (size_t)grid->count, sizeof *grid->depth, by_share);
    for (int64_t i = 1; i < grid->count; i++) {
        if (grid->depth[i] > grid->depth[i - 1]) continue;
        return FAIL(USAGE, "--depths %s: %g stands there twice; give it once", list,
                    grid->depth[i]);
    }
    return STATUS_OK;
}

static enum status parse_depths(const char *text, struct passkey_grid *grid) {
    const bool even = strncmp(text, "even", 4) == 0;
    const char *number = strcmp(text, "even") == 0        ? "10"
                         : strncmp(text, "even:", 5) == 0 ? text + 5
                                                          : text;
    const struct option count = {
        .name = "depths", .kind = OPTION_INTEGER, .least = 1, .most = PASSKEY_DEPTHS_MOST};
    struct option_value value = {0};
    char wrong[160];
    if (!even && strpbrk(text, ",.%e") != NULL) return parse_shares(text, grid);
    if (!option_parse(&count, number, &value, wrong, sizeof wrong)) {
        return FAIL(
            USAGE,
            "--depths %s %s: give a number of depths, as 10, even or even:10, or the depths "
            "themselves, as 0.0,0.5,1",
            text, wrong);
    }
    grid->spread = even ? PASSKEY_EVEN : PASSKEY_CENTRES;
    grid->count = value.integer;
    return STATUS_OK;
}

enum status passkey_grid_parse(const struct settings *settings, struct passkey_grid *grid) {
    if (settings->input != NULL) {
        grid->spread = PASSKEY_DESCRIBED;
        return STATUS_OK;
    }
    TRY(parse_lengths(settings->lengths, grid));
    if (settings->positions != NULL) return parse_positions(settings->positions, grid);
    return parse_depths(settings->depths, grid);
}

void passkey_grid_free(struct passkey_grid *grid) {
    free(grid->length);
    free(grid->depth);
    free(grid->position);
    *grid = (struct passkey_grid){0};
}
