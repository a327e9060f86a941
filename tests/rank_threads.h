#pragma once
// Runs one function on several ranks that are threads of the test. cmocka's asserts belong to the
// main thread, so ranks note what does not hold and the main thread asserts that nothing was noted.

#include "pipeline/link.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

struct rank_thread {
    struct link *link;
    void (*function)(struct rank_thread *self);
    void *argument;
    atomic_int *wrong;
    pthread_t thread;
};

#define EXPECT(self, condition)                                                       \
    do {                                                                              \
        if (!(condition)) {                                                           \
            atomic_fetch_add((self)->wrong, 1);                                       \
            fprintf(stderr, "%s:%d: rank %d: %s does not hold\n", __FILE__, __LINE__, \
                    (self)->link->rank, #condition);                                  \
        }                                                                             \
    } while (0)

enum { RANK_THREADS_MOST = 16 };

static void *rank_thread_run(void *argument) {
    struct rank_thread *self = argument;
    log_set_rank(self->link->rank);
    self->function(self);
    self->link->table->close(self->link);
    return NULL;
}

// Returns how much did not hold. A hang ends the test program after `seconds`.
static inline int run_ranks(int32_t ranks, struct loopback_settings settings, unsigned seconds,
                            void (*function)(struct rank_thread *self), void *argument) {
    struct rank_thread rank[RANK_THREADS_MOST];
    struct link *links[RANK_THREADS_MOST];
    atomic_int wrong = 0;
    if (loopback_links_open(ranks, &settings, links) != STATUS_OK) return 1;
    alarm(seconds);
    for (int32_t r = 0; r < ranks; r++) {
        rank[r] = (struct rank_thread){
            .link = links[r], .function = function, .argument = argument, .wrong = &wrong};
        if (pthread_create(&rank[r].thread, NULL, rank_thread_run, &rank[r]) != 0) return 1;
    }
    for (int32_t r = 0; r < ranks; r++) {
        pthread_join(rank[r].thread, NULL);
    }
    alarm(0);
    return wrong;
}
