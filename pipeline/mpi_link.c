// The link over MPI. One communicator a channel, so that the line, the moves and the control
// messages never match each other. Errors come back as statuses and are logged here. MPI is called
// by one thread at a time, but for abort.

#include "ops/base/check.h"
#include "ops/base/clock.h"
#include "ops/base/room.h"
#include "pipeline/mpi_inner.h"

#include <mpi.h>

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define STOP_TAG    1                 // on the world's own communicator, which sends nothing else
#define PIECE_BYTES ((size_t)1 << 30) // MPI counts are ints

struct link_request {
    struct link_request *next; // in the pool, or in the link's list of those in use
    bool sending;
    int32_t peer;
    size_t bytes;
    int pieces, pieces_done;
    MPI_Request piece;   // of a message of one piece
    MPI_Request *larger; // of more; owned
};

enum status mpi_error(int error, const char *what) {
    char text[MPI_MAX_ERROR_STRING + 1] = "";
    int length = 0;
    if (MPI_Error_string(error, text, &length) != MPI_SUCCESS) text[0] = '\0';
    return FAIL(PEER, "MPI: %s failed: %s", what, text);
}

static struct mpi_link *mpi_of(struct link *link) {
    return (struct mpi_link *)link;
}

static int tag_of(const struct mpi_link *self, uint32_t tag) {
    return (int)(tag & (uint32_t)self->job->tag_most);
}

static enum status request_make(struct mpi_link *self, bool sending, int32_t peer, size_t bytes,
                                struct link_request **made) {
    const size_t pieces = bytes == 0 ? 1 : (bytes - 1) / PIECE_BYTES + 1;
    struct link_request *request = self->spare;
    if (pieces > INT_MAX) return FAIL(USAGE, "a message of %zu bytes", bytes);
    if (request != NULL) {
        self->spare = request->next;
    } else {
        request = malloc(sizeof *request);
        if (request == NULL) return FAIL(NO_MEMORY, "MPI request");
    }
    *request = (struct link_request){.sending = sending,
                                     .peer = peer,
                                     .bytes = bytes,
                                     .pieces = (int)pieces,
                                     .piece = MPI_REQUEST_NULL};
    if (pieces > 1) {
        request->larger = malloc(pieces * sizeof(MPI_Request));
        if (request->larger == NULL) {
            free(request);
            return FAIL(NO_MEMORY, "MPI requests of %zu bytes", bytes);
        }
        for (size_t i = 0; i < pieces; i++) {
            request->larger[i] = MPI_REQUEST_NULL;
        }
    }
    *made = request;
    return STATUS_OK;
}

static void request_release(struct mpi_link *self, struct link_request **request) {
    free((*request)->larger);
    (*request)->larger = NULL;
    (*request)->next = self->spare;
    self->spare = *request;
    *request = NULL;
}

void mpi_requests_free(struct mpi_link *link) {
    while (link->spare != NULL) {
        struct link_request *request = link->spare;
        link->spare = request->next;
        free(request);
    }
}

static MPI_Request *piece_of(struct link_request *request, int piece) {
    return request->pieces == 1 ? &request->piece : &request->larger[piece];
}

static int piece_bytes(const struct link_request *request, int piece) {
    const size_t before = (size_t)piece * PIECE_BYTES;
    const size_t rest = request->bytes - before;
    return (int)(rest < PIECE_BYTES ? rest : PIECE_BYTES);
}

static enum status mpi_send(struct link *link, enum link_channel channel, int32_t peer,
                            uint32_t tag, const void *data, size_t bytes,
                            struct link_request **request) {
    struct mpi_link *self = mpi_of(link);
    struct link_request *made = NULL;
    const char *at = data;
    TRY(request_make(self, true, peer, bytes, &made));
    *request = made; // from here on cancel can give it up
    for (int i = 0; i < made->pieces; i++) {
        MPI_TRY(MPI_Isend(at, piece_bytes(made, i), MPI_BYTE, peer, tag_of(self, tag),
                          self->channel[channel], piece_of(made, i)),
                "a send");
        at += piece_bytes(made, i);
    }
    return STATUS_OK;
}

static enum status mpi_receive(struct link *link, enum link_channel channel, int32_t peer,
                               uint32_t tag, void *data, size_t bytes,
                               struct link_request **request) {
    struct mpi_link *self = mpi_of(link);
    struct link_request *made = NULL;
    char *at = data;
    TRY(request_make(self, false, peer, bytes, &made));
    *request = made;
    if (channel == LINK_CONTROL && self->waiting != MPI_MESSAGE_NULL) {
        CHECK(peer == self->waiting_peer && bytes == self->waiting_bytes && made->pieces == 1);
        MPI_TRY(MPI_Imrecv(at, (int)bytes, MPI_BYTE, &self->waiting, &made->piece), "a receive");
        return STATUS_OK;
    }
    for (int i = 0; i < made->pieces; i++) {
        MPI_TRY(MPI_Irecv(at, piece_bytes(made, i), MPI_BYTE, peer, tag_of(self, tag),
                          self->channel[channel], piece_of(made, i)),
                "a receive");
        at += piece_bytes(made, i);
    }
    return STATUS_OK;
}

static enum status mpi_probe(struct link *link, bool *waiting, int32_t *peer, uint32_t *tag,
                             size_t *bytes) {
    struct mpi_link *self = mpi_of(link);
    if (self->waiting == MPI_MESSAGE_NULL) {
        MPI_Status about;
        int found = 0, count = 0;
        MPI_TRY(MPI_Improbe(MPI_ANY_SOURCE, MPI_ANY_TAG, self->channel[LINK_CONTROL], &found,
                            &self->waiting, &about),
                "a probe");
        if (!found) {
            self->waiting = MPI_MESSAGE_NULL;
            *waiting = false;
            return STATUS_OK;
        }
        MPI_TRY(MPI_Get_count(&about, MPI_BYTE, &count), "a probe");
        if (count < 0)
            return FAIL(PEER, "rank %d sent a control message too large", about.MPI_SOURCE);
        self->waiting_peer = about.MPI_SOURCE;
        self->waiting_tag = about.MPI_TAG;
        self->waiting_bytes = (size_t)count;
    }
    *waiting = true;
    *peer = self->waiting_peer;
    *tag = (uint32_t)self->waiting_tag;
    *bytes = self->waiting_bytes;
    return STATUS_OK;
}

static enum status mpi_test(struct link *link, struct link_request **request, bool *done) {
    struct link_request *r = *request;
    *done = false;
    // Pieces of one message are matched in order, and are mostly done in order too.
    while (r->pieces_done < r->pieces) {
        MPI_Status about;
        int piece_done = 0, count = 0;
        MPI_TRY(MPI_Test(piece_of(r, r->pieces_done), &piece_done, &about),
                r->sending ? "a send" : "a receive");
        if (!piece_done) return STATUS_OK;
        if (!r->sending) {
            MPI_TRY(MPI_Get_count(&about, MPI_BYTE, &count), "a receive");
            if (count != piece_bytes(r, r->pieces_done)) {
                return FAIL(PEER, "MPI: rank %d sent %d bytes where %d were expected", r->peer,
                            count, piece_bytes(r, r->pieces_done));
            }
        }
        r->pieces_done++;
    }
    request_release(mpi_of(link), request);
    *done = true;
    return STATUS_OK;
}

// Sends cannot be taken back in MPI, nor receives whose data has begun to come.
static bool mpi_cancel(struct link *link, struct link_request **request) {
    struct mpi_link *self = mpi_of(link);
    struct link_request *r = *request;
    bool all = true;
    self->job->failed = true;
    for (int i = r->pieces_done; i < r->pieces; i++) {
        MPI_Request *piece = piece_of(r, i);
        int done = *piece == MPI_REQUEST_NULL;
        if (!done && !r->sending) (void)MPI_Cancel(piece);
        if (!done && MPI_Test(piece, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) done = 0;
        if (!done) {
            (void)MPI_Request_free(piece);
            all = false;
        }
    }
    request_release(self, request);
    return all;
}

// An empty message to every rank of the world, beside all channels. One that comes after its
// receiver has left the loop stays unread, which MPI bears.
static enum status mpi_share_stop(struct link *link, bool *asked) {
    struct mpi_job *job = mpi_of(link)->job;
    struct mpi_link *world = &job->world;
    const bool asks = job->stop != NULL && job->stop();
    int found = 0;
    for (int32_t rank = 0; asks && !job->stop_told && rank < world->base.ranks; rank++) {
        MPI_Request request = MPI_REQUEST_NULL;
        if (rank == world->base.rank) continue;
        MPI_TRY(MPI_Isend(NULL, 0, MPI_BYTE, rank, STOP_TAG, world->all, &request),
                "passing on a stop");
        MPI_TRY(MPI_Request_free(&request), "passing on a stop");
    }
    job->stop_told = job->stop_told || asks;
    job->stop_asked = job->stop_asked || asks;
    MPI_TRY(MPI_Iprobe(MPI_ANY_SOURCE, STOP_TAG, world->all, &found, MPI_STATUS_IGNORE),
            "listening for a stop");
    if (found) {
        MPI_TRY(
            MPI_Recv(NULL, 0, MPI_BYTE, MPI_ANY_SOURCE, STOP_TAG, world->all, MPI_STATUS_IGNORE),
            "listening for a stop");
        job->stop_asked = true;
    }
    *asked = job->stop_asked;
    return STATUS_OK;
}

enum status mpi_wait(struct mpi_link *link, MPI_Request *request, int32_t timeout_ms,
                     const char *what) {
    const int64_t deadline = clock_ms() + timeout_ms;
    int64_t sleep_ns = 10000;
    for (;;) {
        int done = 0;
        MPI_TRY(MPI_Test(request, &done, MPI_STATUS_IGNORE), what);
        if (done) return STATUS_OK;
        // a group that has ended waits here for the others, and its machine may be told to end
        bool asked = false;
        if (link != NULL) TRY(mpi_share_stop(&link->base, &asked));
        if (clock_ms() > deadline) {
            return FAIL(PEER, "MPI: %s: not all ranks came within %d ms", what, timeout_ms);
        }
        const struct timespec pause = {.tv_nsec = (long)sleep_ns};
        (void)nanosleep(&pause, NULL);
        if (sleep_ns < 1000000) sleep_ns *= 2;
    }
}

// The collective works on memory of its own: past the deadline MPI may still write there, so then
// it is left behind.
static enum status mpi_gather(struct link *link, const void *mine, size_t bytes, void *all,
                              int32_t timeout_ms) {
    struct mpi_link *self = mpi_of(link);
    MPI_Request request = MPI_REQUEST_NULL;
    size_t all_bytes = 0;
    if (bytes > INT_MAX || !size_multiply(bytes, (size_t)link->ranks + 1, &all_bytes)) {
        return FAIL(USAGE, "a gather of %zu bytes", bytes);
    }
    char *memory = malloc(all_bytes + 1);
    if (memory == NULL) return FAIL(NO_MEMORY, "a gather of %zu bytes", all_bytes);
    if (bytes > 0) memcpy(memory, mine, bytes);
    const int error = MPI_Iallgather(memory, (int)bytes, MPI_BYTE, memory + bytes, (int)bytes,
                                     MPI_BYTE, self->all, &request);
    const enum status status = error != MPI_SUCCESS
                                   ? mpi_error(error, "a gather")
                                   : mpi_wait(self, &request, timeout_ms, "a gather");
    if (status != STATUS_OK) {
        self->job->failed = true;
        return status;
    }
    if (bytes > 0) memcpy(all, memory + bytes, all_bytes - bytes);
    free(memory);
    return STATUS_OK;
}

static void mpi_abort(struct link *link, int exit_code) {
    (void)link;
    (void)MPI_Abort(MPI_COMM_WORLD, exit_code);
}

// The links belong to the job, which closes them together.
static void mpi_close(struct link *link) {
    (void)link;
}

const struct link_table mpi_table = {
    .name = "mpi",
    .send = mpi_send,
    .receive = mpi_receive,
    .probe = mpi_probe,
    .test = mpi_test,
    .cancel = mpi_cancel,
    .gather = mpi_gather,
    .share_stop = mpi_share_stop,
    .abort = mpi_abort,
    .close = mpi_close,
};
