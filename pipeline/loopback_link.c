// Ranks as threads of one process. One hub holds what was sent and not yet taken, by receiving
// rank and in the order sent; a receive is paired with the first send of its channel, peer and tag
// that has no receive yet, so pairs are first in, first out. The copy is made by test() of the
// receive, once the message's delay is over.

#include "ops/base/check.h"
#include "ops/base/clock.h"
#include "pipeline/loopback_inner.h"

#include <stdlib.h>
#include <string.h>

static struct loopback_link *loopback_of(struct link *link) {
    return (struct loopback_link *)link;
}

static int64_t random_delay_ns(struct hub *hub) {
    if (hub->settings.delay_us <= 0) return 0;
    uint64_t z = hub->random += 0x9e3779b97f4a7c15u; // splitmix64
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (int64_t)(z % ((uint64_t)hub->settings.delay_us * 1000 + 1));
}

static struct link_request *request_add(struct loopback_link *self) {
    struct link_request *request = calloc(1, sizeof *request);
    if (request == NULL) return NULL;
    struct link_request **end = &self->requests;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = request;
    return request;
}

static void request_remove(struct loopback_link *self, struct link_request *request) {
    struct link_request **at = &self->requests;
    while (*at != request) {
        at = &(*at)->next;
    }
    *at = request->next;
    free(request);
}

static void letter_unlink(struct loopback_link *to, const struct letter *letter) {
    struct letter **at = &to->letters;
    while (*at != letter) {
        at = &(*at)->next;
    }
    *at = letter->next;
}

static void letter_free(struct letter *letter) {
    if (letter == NULL) return;
    free(letter->copy);
    free(letter);
}

static bool letter_fits(const struct letter *letter, const struct link_request *receive) {
    return letter->channel == receive->channel && letter->from == receive->peer &&
           letter->tag == receive->tag;
}

// Under the lock: hang the letter behind the others and pair it.
static void letter_post(struct hub *hub, struct letter *letter) {
    struct loopback_link *to = &hub->link[letter->to];
    struct letter **end = &to->letters;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = letter;
    letter->due_ns = clock_ns() + random_delay_ns(hub);
    if (letter->channel == LINK_CONTROL) {
        int64_t *last = &to->control_due_ns[letter->from];
        if (letter->due_ns < *last) letter->due_ns = *last;
        *last = letter->due_ns;
    }
    for (struct link_request *r = to->requests; r != NULL; r = r->next) {
        if (r->sending || r->done || r->letter != NULL || !letter_fits(letter, r)) continue;
        r->letter = letter;
        letter->receiver = r;
        return;
    }
}

static enum status loopback_send(struct link *link, enum link_channel channel, int32_t peer,
                                 uint32_t tag, const void *data, size_t bytes,
                                 struct link_request **request) {
    struct loopback_link *self = loopback_of(link);
    struct hub *hub = self->hub;
    enum status status = STATUS_OK;
    CHECK(peer >= 0 && peer < link->ranks);
    struct letter *letter = calloc(1, sizeof *letter);
    if (letter == NULL) return FAIL(NO_MEMORY, "loopback: a message");
    *letter = (struct letter){.channel = channel,
                              .from = link->rank,
                              .to = peer,
                              .tag = tag,
                              .data = data,
                              .bytes = bytes};
    if (!hub->settings.rendezvous && bytes > 0) {
        letter->copy = malloc(bytes);
        if (letter->copy == NULL) {
            letter_free(letter);
            return FAIL(NO_MEMORY, "loopback: a message of %zu bytes", bytes);
        }
        memcpy(letter->copy, data, bytes);
        letter->data = letter->copy;
    }
    pthread_mutex_lock(&hub->lock);
    struct link_request *made = hub->failed ? NULL : request_add(self);
    if (made != NULL) {
        made->sending = true;
        made->done = !hub->settings.rendezvous;
        letter->sender = made->done ? NULL : made;
        letter_post(hub, letter);
        letter = NULL; // the hub's now
        *request = made;
    } else {
        status = hub->failed ? STATUS_PEER : STATUS_NO_MEMORY;
    }
    pthread_mutex_unlock(&hub->lock);
    letter_free(letter);
    return status;
}

static enum status loopback_receive(struct link *link, enum link_channel channel, int32_t peer,
                                    uint32_t tag, void *data, size_t bytes,
                                    struct link_request **request) {
    struct loopback_link *self = loopback_of(link);
    struct hub *hub = self->hub;
    enum status status = STATUS_OK;
    CHECK(peer >= 0 && peer < link->ranks);
    pthread_mutex_lock(&hub->lock);
    struct link_request *made = hub->failed ? NULL : request_add(self);
    if (made != NULL) {
        made->channel = channel;
        made->peer = peer;
        made->tag = tag;
        made->data = data;
        made->bytes = bytes;
        struct letter *letter = self->letters;
        while (letter != NULL && (letter->receiver != NULL || !letter_fits(letter, made))) {
            letter = letter->next;
        }
        made->letter = letter;
        if (letter != NULL) letter->receiver = made;
        *request = made;
    } else {
        status = hub->failed ? STATUS_PEER : STATUS_NO_MEMORY;
    }
    pthread_mutex_unlock(&hub->lock);
    return status;
}

static enum status loopback_probe(struct link *link, bool *waiting, int32_t *peer, uint32_t *tag,
                                  size_t *bytes) {
    struct loopback_link *self = loopback_of(link);
    struct hub *hub = self->hub;
    const int64_t now = clock_ns();
    pthread_mutex_lock(&hub->lock);
    const enum status status = hub->failed ? STATUS_PEER : STATUS_OK;
    const struct letter *letter = self->letters;
    while (letter != NULL &&
           (letter->channel != LINK_CONTROL || letter->receiver != NULL || letter->due_ns > now)) {
        letter = letter->next;
    }
    *waiting = status == STATUS_OK && letter != NULL;
    if (*waiting) {
        *peer = letter->from;
        *tag = letter->tag;
        *bytes = letter->bytes;
    }
    pthread_mutex_unlock(&hub->lock);
    return status;
}

// Under the lock: the letter is in the receiver's hands. It is the caller's to copy and free,
// except that what a rendezvous sender still owns is copied here, while it cannot go away.
static struct letter *letter_take(struct loopback_link *self, struct link_request *receive) {
    struct letter *letter = receive->letter;
    letter_unlink(self, letter);
    if (letter->sender != NULL) {
        if (letter->bytes == receive->bytes && letter->bytes > 0) {
            memcpy(receive->data, letter->data, letter->bytes);
        }
        letter->sender->done = true;
    }
    receive->letter = NULL;
    receive->done = true;
    return letter;
}

static enum status loopback_test(struct link *link, struct link_request **request, bool *done) {
    struct loopback_link *self = loopback_of(link);
    struct hub *hub = self->hub;
    struct link_request *r = *request;
    struct letter *letter = NULL;
    struct link_request was = {0};
    pthread_mutex_lock(&hub->lock);
    enum status status = hub->failed ? STATUS_PEER : STATUS_OK;
    if (status == STATUS_OK) {
        if (!r->sending && r->letter != NULL && r->letter->due_ns <= clock_ns()) {
            letter = letter_take(self, r);
        }
        *done = r->done;
        was = *r;
        if (r->done) {
            request_remove(self, r);
            *request = NULL;
        }
    }
    pthread_mutex_unlock(&hub->lock);
    if (letter != NULL) {
        if (letter->bytes != was.bytes) {
            status = FAIL(PEER, "loopback: rank %d sent %zu bytes where %zu were expected",
                          letter->from, letter->bytes, was.bytes);
        } else if (letter->copy != NULL) {
            memcpy(was.data, letter->copy, was.bytes);
        }
        letter_free(letter);
    }
    return status;
}

// Whoever closes cancels for itself: letters and receives of one link only.
static bool loopback_cancel(struct link *link, struct link_request **request) {
    struct loopback_link *self = loopback_of(link);
    struct hub *hub = self->hub;
    pthread_mutex_lock(&hub->lock);
    if ((*request)->letter != NULL) (*request)->letter->receiver = NULL;
    for (int32_t r = 0; r < hub->ranks; r++) {
        struct letter *letter = hub->link[r].letters;
        while (letter != NULL && letter->sender != *request) {
            letter = letter->next;
        }
        if (letter == NULL) continue;
        if (letter->receiver != NULL) letter->receiver->letter = NULL;
        letter_unlink(&hub->link[r], letter);
        letter_free(letter);
    }
    request_remove(self, *request);
    pthread_mutex_unlock(&hub->lock);
    *request = NULL;
    return true;
}

static void loopback_abort(struct link *link, int exit_code) {
    struct hub *hub = loopback_of(link)->hub;
    (void)exit_code; // the process has one exit code, and it is main's
    pthread_mutex_lock(&hub->lock);
    loopback_fail(hub);
    pthread_mutex_unlock(&hub->lock);
}

static void hub_free(struct hub *hub) {
    if (hub == NULL) return;
    for (int32_t r = 0; hub->link != NULL && r < hub->ranks; r++) {
        struct loopback_link *link = &hub->link[r];
        while (link->letters != NULL) {
            struct letter *letter = link->letters;
            link->letters = letter->next;
            letter_free(letter);
        }
        free(link->control_due_ns);
    }
    pthread_cond_destroy(&hub->turn);
    pthread_mutex_destroy(&hub->lock);
    free(hub->link);
    free(hub->gathering);
    free(hub->gathered);
    free(hub);
}

// Under the lock: letters whose data lies with the closing rank are void, and so are its receives.
static void withdraw(struct hub *hub, struct loopback_link *self) {
    for (int32_t r = 0; r < hub->ranks; r++) {
        struct letter **at = &hub->link[r].letters;
        while (*at != NULL) {
            struct letter *letter = *at;
            if (letter->to == self->base.rank) letter->receiver = NULL;
            if (letter->from != self->base.rank || letter->sender == NULL) {
                at = &letter->next;
                continue;
            }
            if (letter->receiver != NULL) letter->receiver->letter = NULL;
            *at = letter->next;
            letter_free(letter);
        }
    }
    while (self->requests != NULL) {
        struct link_request *request = self->requests;
        self->requests = request->next;
        free(request);
    }
}

static void loopback_close(struct link *link) {
    if (link == NULL) return;
    struct loopback_link *self = loopback_of(link);
    struct hub *hub = self->hub;
    pthread_mutex_lock(&hub->lock);
    withdraw(hub, self);
    const bool last = --hub->open == 0;
    pthread_mutex_unlock(&hub->lock);
    if (last) hub_free(hub);
}

static const struct link_table loopback_table = {
    .name = "loopback",
    .send = loopback_send,
    .receive = loopback_receive,
    .probe = loopback_probe,
    .test = loopback_test,
    .cancel = loopback_cancel,
    .gather = loopback_gather,
    .abort = loopback_abort,
    .close = loopback_close,
};

enum status loopback_links_open(int32_t ranks, const struct loopback_settings *settings,
                                struct link **links) {
    pthread_condattr_t monotonic;
    CHECK(ranks >= 1);
    struct hub *hub = calloc(1, sizeof *hub);
    if (hub == NULL) return FAIL(NO_MEMORY, "loopback links");
    hub->settings = *settings;
    hub->random = settings->seed;
    hub->ranks = ranks;
    hub->open = ranks;
    pthread_mutex_init(&hub->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&hub->turn, &monotonic);
    pthread_condattr_destroy(&monotonic);
    hub->link = calloc((size_t)ranks, sizeof *hub->link);
    for (int32_t r = 0; hub->link != NULL && r < ranks; r++) {
        struct loopback_link *link = &hub->link[r];
        link->base = (struct link){.table = &loopback_table, .rank = r, .ranks = ranks};
        link->hub = hub;
        link->control_due_ns = calloc((size_t)ranks, sizeof *link->control_due_ns);
        if (link->control_due_ns == NULL) {
            hub_free(hub);
            return FAIL(NO_MEMORY, "loopback links");
        }
    }
    if (hub->link == NULL) {
        hub_free(hub);
        return FAIL(NO_MEMORY, "loopback links of %d ranks", ranks);
    }
    for (int32_t r = 0; r < ranks; r++) {
        links[r] = &hub->link[r].base;
    }
    return STATUS_OK;
}
