// Loopback links by themselves: pairing, order, rendezvous, delays, the gather, abort and cancel.
// One thread plays all ranks, but in the gather.

#include "pipeline/link.h"

#include "ops/base/clock.h"
#include "tests/rank_threads.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void links_open(struct link **links, int32_t ranks, bool rendezvous, int32_t delay_us) {
    const struct loopback_settings settings = {
        .rendezvous = rendezvous, .delay_us = delay_us, .seed = 5};
    assert_int_equal(loopback_links_open(ranks, &settings, links), STATUS_OK);
}

static void links_close(struct link **links, int32_t ranks) {
    for (int32_t r = 0; r < ranks; r++) {
        links[r]->table->close(links[r]);
    }
}

static struct link_request *send_int(struct link *link, enum link_channel channel, int32_t peer,
                                     uint32_t tag, const int *data) {
    struct link_request *request = NULL;
    assert_int_equal(link->table->send(link, channel, peer, tag, data, sizeof *data, &request),
                     STATUS_OK);
    return request;
}

static struct link_request *receive_int(struct link *link, enum link_channel channel, int32_t peer,
                                        uint32_t tag, int *data) {
    struct link_request *request = NULL;
    assert_int_equal(link->table->receive(link, channel, peer, tag, data, sizeof *data, &request),
                     STATUS_OK);
    return request;
}

static bool is_done(struct link *link, struct link_request **request) {
    bool done = false;
    assert_int_equal(link->table->test(link, request, &done), STATUS_OK);
    assert_true(done == (*request == NULL));
    return done;
}

static void await(struct link *link, struct link_request **request) {
    const int64_t start = clock_ms();
    while (!is_done(link, request)) {
        assert_true(clock_ms() - start < 10000);
    }
}

// Receives posted before and after the sends, on two channels and two tags, from two peers.
static void pairs_are_first_in_first_out(void **state) {
    struct link *links[3];
    (void)state;
    for (int variant = 0; variant < 4; variant++) {
        int data[24], got[24];
        struct link_request *sends[24], *receives[24];
        links_open(links, 3, variant % 2 == 1, variant >= 2 ? 300 : 0);
        for (int i = 0; i < 24; i++) {
            data[i] = i;
            got[i] = -1;
        }
        for (int i = 0; i < 24; i++) {
            const enum link_channel channel = i / 8 == 1 ? LINK_LINE : LINK_MOVES;
            const int32_t from = i / 8 == 2 ? 2 : 1;
            const uint32_t tag = (uint32_t)(i % 2);
            if (i >= 12) receives[i] = receive_int(links[0], channel, from, tag, &got[i]);
            sends[i] = send_int(links[from], channel, 0, tag, &data[i]);
            if (i < 12) receives[i] = receive_int(links[0], channel, from, tag, &got[i]);
        }
        for (int i = 23; i >= 0; i--) {
            await(links[0], &receives[i]);
            assert_int_equal(got[i], i);
        }
        for (int i = 0; i < 24; i++) {
            await(links[i / 8 == 2 ? 2 : 1], &sends[i]);
        }
        links_close(links, 3);
    }
}

static void rendezvous_waits_for_the_receive(void **state) {
    struct link *links[2];
    int data = 7, got = 0;
    (void)state;
    links_open(links, 2, true, 0);
    struct link_request *send = send_int(links[0], LINK_LINE, 1, 3, &data);
    assert_false(is_done(links[0], &send));
    struct link_request *other = receive_int(links[1], LINK_LINE, 0, 4, &got);
    assert_false(is_done(links[1], &other));
    assert_false(is_done(links[0], &send));
    struct link_request *receive = receive_int(links[1], LINK_LINE, 0, 3, &got);
    assert_false(is_done(links[0], &send)); // posted is not taken
    data = 8;                               // nothing was copied before
    assert_true(is_done(links[1], &receive));
    assert_int_equal(got, 8);
    assert_true(is_done(links[0], &send));
    links_close(links, 2);

    links_open(links, 2, false, 0);
    send = send_int(links[0], LINK_LINE, 1, 3, &data);
    assert_true(is_done(links[0], &send));
    data = 9; // its copy has left
    receive = receive_int(links[1], LINK_LINE, 0, 3, &got);
    assert_true(is_done(links[1], &receive));
    assert_int_equal(got, 8);
    links_close(links, 2);
}

static void delays_are_bounded_and_random(void **state) {
    struct link *links[2];
    int64_t most = 0, least = INT64_MAX;
    (void)state;
    links_open(links, 2, false, 20000);
    for (int i = 0; i < 20; i++) {
        int got = -1;
        const int64_t start = clock_ns();
        struct link_request *send = send_int(links[0], LINK_LINE, 1, 0, &i);
        struct link_request *receive = receive_int(links[1], LINK_LINE, 0, 0, &got);
        await(links[1], &receive);
        await(links[0], &send);
        const int64_t took = clock_ns() - start;
        if (took > most) most = took;
        if (took < least) least = took;
        assert_int_equal(got, i);
    }
    assert_true(least < 10000000 && most > 10000000);
    links_close(links, 2);
}

// Probed and taken one by one, in order, also when delays would let later ones overtake.
static void probe_sees_control_messages_in_order(void **state) {
    struct link *links[2];
    int data[10], next = 0;
    struct link_request *sends[10];
    (void)state;
    links_open(links, 2, true, 3000);
    for (int i = 0; i < 10; i++) {
        data[i] = i;
        sends[i] = send_int(links[1], LINK_CONTROL, 0, (uint32_t)i, &data[i]);
    }
    const int64_t start = clock_ms();
    while (next < 10) {
        bool waiting = false;
        int32_t peer = -1;
        uint32_t tag = 99;
        size_t bytes = 0;
        assert_true(clock_ms() - start < 10000);
        assert_int_equal(links[0]->table->probe(links[0], &waiting, &peer, &tag, &bytes),
                         STATUS_OK);
        if (!waiting) continue;
        int got = -1;
        assert_int_equal(peer, 1);
        assert_int_equal(tag, next);
        assert_int_equal(bytes, sizeof(int));
        struct link_request *receive = receive_int(links[0], LINK_CONTROL, 1, tag, &got);
        await(links[0], &receive);
        assert_int_equal(got, next);
        next++;
    }
    for (int i = 0; i < 10; i++) {
        await(links[1], &sends[i]);
    }
    links_close(links, 2);
}

static void sizes_must_agree(void **state) {
    struct link *links[2];
    int data[2] = {1, 2}, got = 0;
    bool done = false;
    (void)state;
    for (int rendezvous = 0; rendezvous < 2; rendezvous++) {
        struct link_request *send = NULL;
        links_open(links, 2, rendezvous == 1, 0);
        assert_int_equal(
            links[0]->table->send(links[0], LINK_MOVES, 1, 0, data, sizeof data, &send), STATUS_OK);
        struct link_request *receive = receive_int(links[1], LINK_MOVES, 0, 0, &got);
        assert_int_equal(links[1]->table->test(links[1], &receive, &done), STATUS_PEER);
        assert_int_equal(got, 0);
        links_close(links, 2);
    }
}

static void gather_in_turns(struct rank_thread *self) {
    for (int32_t turn = 0; turn < 50; turn++) {
        const int32_t mine[2] = {self->link->rank, turn};
        int32_t all[2 * 5] = {0};
        EXPECT(self,
               self->link->table->gather(self->link, mine, sizeof mine, all, 20000) == STATUS_OK);
        for (int32_t r = 0; r < 5; r++) {
            EXPECT(self, all[2 * r] == r && all[2 * r + 1] == turn);
        }
    }
}

static void gather_without_one(struct rank_thread *self) {
    char mine = 1, all[3];
    if (self->link->rank == 2) return;
    EXPECT(self, self->link->table->gather(self->link, &mine, 1, all, 200) == STATUS_PEER);
}

static void gather_of_unequal_sizes(struct rank_thread *self) {
    char mine[2] = {0}, all[6];
    EXPECT(self, self->link->table->gather(self->link, mine, self->link->rank == 1 ? 2 : 1, all,
                                           20000) == STATUS_PEER);
}

static void gather_is_complete_or_late(void **state) {
    const struct loopback_settings plain = {0};
    (void)state;
    assert_int_equal(run_ranks(5, plain, 30, gather_in_turns, NULL), 0);
    const int64_t start = clock_ms();
    assert_int_equal(run_ranks(3, plain, 30, gather_without_one, NULL), 0);
    assert_in_range(clock_ms() - start, 190, 10000);
    assert_int_equal(run_ranks(3, plain, 30, gather_of_unequal_sizes, NULL), 0);
}

static void abort_fails_everyone(void **state) {
    struct link *links[2];
    int data = 1, got = 0;
    bool flag = false;
    int32_t peer = 0;
    uint32_t tag = 0;
    size_t bytes = 0;
    char all[2];
    struct link_request *another = NULL;
    (void)state;
    links_open(links, 2, true, 0);
    struct link_request *send = send_int(links[0], LINK_LINE, 1, 0, &data);
    struct link_request *receive = receive_int(links[1], LINK_LINE, 0, 0, &got);
    links[0]->table->abort(links[0], 3);
    assert_int_equal(links[1]->table->test(links[1], &receive, &flag), STATUS_PEER);
    assert_int_equal(links[0]->table->test(links[0], &send, &flag), STATUS_PEER);
    assert_int_equal(links[1]->table->probe(links[1], &flag, &peer, &tag, &bytes), STATUS_PEER);
    assert_int_equal(links[1]->table->gather(links[1], "", 1, all, 1000), STATUS_PEER);
    assert_int_equal(links[0]->table->send(links[0], LINK_LINE, 1, 0, &data, 4, &another),
                     STATUS_PEER);
    assert_int_equal(links[1]->table->receive(links[1], LINK_LINE, 0, 0, &got, 4, &another),
                     STATUS_PEER);
    assert_int_equal(got, 0);
    links_close(links, 2);
}

// What is cancelled, or belongs to a closed link, is touched by nobody any more.
static void cancel_and_close_withdraw(void **state) {
    struct link *links[2];
    int *data = malloc(sizeof *data), *got = malloc(sizeof *got), second = 2, into = 0;
    (void)state;
    assert_true(data != NULL && got != NULL);
    links_open(links, 2, true, 0);
    *data = 1;
    struct link_request *send = send_int(links[0], LINK_LINE, 1, 0, data);
    assert_true(links[0]->table->cancel(links[0], &send));
    assert_null(send);
    struct link_request *receive = receive_int(links[1], LINK_LINE, 0, 0, got);
    assert_true(links[1]->table->cancel(links[1], &receive));
    free(got);
    send = send_int(links[0], LINK_LINE, 1, 0, &second);
    receive = receive_int(links[1], LINK_LINE, 0, 0, &into);
    await(links[1], &receive);
    await(links[0], &send);
    assert_int_equal(into, 2);

    send = send_int(links[0], LINK_LINE, 1, 0, data);
    receive = receive_int(links[1], LINK_LINE, 0, 0, &into);
    links[0]->table->close(links[0]);
    free(data);
    assert_false(is_done(links[1], &receive));
    links[1]->table->close(links[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_are_first_in_first_out),
        cmocka_unit_test(rendezvous_waits_for_the_receive),
        cmocka_unit_test(delays_are_bounded_and_random),
        cmocka_unit_test(probe_sees_control_messages_in_order),
        cmocka_unit_test(sizes_must_agree),
        cmocka_unit_test(gather_is_complete_or_late),
        cmocka_unit_test(abort_fails_everyone),
        cmocka_unit_test(cancel_and_close_withdraw),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
