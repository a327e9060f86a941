#include "pipeline/tally.h"

#include "ops/base/check.h"
#include "ops/base/room.h"

#include <math.h>
#include <string.h>

void tally_begin(struct tally *tally, const struct tally_settings *settings) {
    *tally = (struct tally){.settings = settings, .first_scored = -1, .finite = true};
}

static enum status add_to_window(struct tally *tally, int64_t score_every, int64_t position,
                                 double nll) {
    const int64_t first = position / score_every * score_every;
    if (tally->window_count == 0 || tally->windows[tally->window_count - 1].first != first) {
        TRY(room_for((void **)&tally->windows, &tally->window_room, tally->window_count + 1,
                     sizeof *tally->windows));
        tally->windows[tally->window_count++] = (struct window_score){.first = first};
    }
    struct window_score *window = &tally->windows[tally->window_count - 1];
    window->scored++;
    window->nll += nll;
    return STATUS_OK;
}

enum status tally_add(struct tally *tally, int64_t first, const float *nll, int64_t count) {
    const struct tally_settings *settings = tally->settings;
    if (count == 0) return STATUS_OK;
    CHECK(tally->first_scored < 0 || first == tally->first_scored + tally->scored);
    if (tally->first_scored < 0) {
        tally->first_scored = first;
        tally->nll_first = first;
    }
    for (int64_t i = 0; i < count; i++) {
        const double value = (double)nll[i];
        if (!isfinite(value)) tally->finite = false;
        tally->nll += value;
        if (settings->score_every > 0) {
            TRY(add_to_window(tally, settings->score_every, first + i, value));
        }
    }
    tally->scored += count;
    if (settings->token_nll) {
        TRY(room_for((void **)&tally->token_nll, &tally->nll_room, tally->nll_count + (size_t)count,
                     sizeof *tally->token_nll));
        memcpy(tally->token_nll + tally->nll_count, nll, (size_t)count * sizeof *nll);
        tally->nll_count += (size_t)count;
    }
    const bool many_windows = tally->window_count > ARRAY_INLINE_MOST && !settings->windows_apart;
    if (tally->nll_count > ARRAY_INLINE_MOST || many_windows) tally->in_pieces = true;
    return STATUS_OK;
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

// Windows that do not grow any more.
static int64_t settled_windows(const struct tally *tally, bool ended) {
    const int64_t windows = (int64_t)tally->window_count;
    if (ended || windows == 0) return windows;
    const int64_t end = tally->windows[windows - 1].first + tally->settings->score_every;
    return tally->first_scored + tally->scored >= end ? windows : windows - 1;
}

static bool window_apart(const struct tally *tally, bool ended, struct document_piece *piece) {
    piece->windows = tally->windows;
    piece->window_count = least(settled_windows(tally, ended), ARRAY_INLINE_MOST);
    return piece->window_count > 0;
}

// Pieces hold a fixed number of entries and go out in the order of the positions they end at, so
// they are the same however the document was cut. The last window may grow until the document ends.
bool tally_piece(const struct tally *tally, bool ended, struct document_piece *piece) {
    const bool apart = tally->settings->windows_apart;
    const int64_t every = tally->settings->score_every;
    const int64_t nlls = (int64_t)tally->nll_count;
    const int64_t windows = apart ? 0 : (int64_t)tally->window_count;
    const int64_t settled = apart ? 0 : settled_windows(tally, ended);
    *piece = (struct document_piece){0};
    if (apart && window_apart(tally, ended, piece)) return true;
    if (!tally->in_pieces || nlls + windows == 0) return false;

    const int64_t nll_end = tally->nll_first + ARRAY_INLINE_MOST;
    const int64_t window_end =
        windows == 0 ? INT64_MAX : tally->windows[0].first + ARRAY_INLINE_MOST * every;
    const bool nll_next = tally->settings->token_nll && nlls > 0 && nll_end <= window_end;
    if (nll_next || settled == 0) {
        if (nlls < ARRAY_INLINE_MOST && !(ended && nlls > 0)) return false;
        piece->token_nll = tally->token_nll;
        piece->token_nll_first = tally->nll_first;
        piece->token_nll_count = least(nlls, ARRAY_INLINE_MOST);
    } else {
        if (settled < ARRAY_INLINE_MOST && !ended) return false;
        piece->windows = tally->windows;
        piece->window_count = least(settled, ARRAY_INLINE_MOST);
    }
    return true;
}

void tally_drop_piece(struct tally *tally, const struct document_piece *piece) {
    const size_t windows = (size_t)piece->window_count;
    const size_t nlls = (size_t)piece->token_nll_count;
    if (windows > 0) {
        tally->windows_out = piece->windows[windows - 1].first + tally->settings->score_every;
        tally->window_count -= windows;
        memmove(tally->windows, tally->windows + windows,
                tally->window_count * sizeof *tally->windows);
    }
    if (nlls > 0) {
        tally->nll_count -= nlls;
        tally->nll_first += piece->token_nll_count;
        memmove(tally->token_nll, tally->token_nll + nlls,
                tally->nll_count * sizeof *tally->token_nll);
    }
}

int64_t tally_bytes(const struct tally *tally) {
    return (int64_t)(tally->window_room * sizeof *tally->windows +
                     tally->nll_room * sizeof *tally->token_nll);
}

void tally_free(struct tally *tally) {
    free(tally->windows);
    free(tally->token_nll);
    *tally = (struct tally){0};
}
