// Plans in sequence, over a queue as the leader keeps it: how much is done, and how long one waits.

#include "tests/plan_draw.h"

// A queue as the leader keeps it: those served go to the back.
struct simulation {
    struct plan_settings settings;
    struct plan plan;
    struct plan_document *queue, *back;
    int64_t *age, *back_age; // steps since served
    int64_t count, steps, tokens, capacity, moves;
    int64_t oldest; // the longest wait seen
};

static void simulation_open(struct simulation *sim, struct plan_settings settings, int64_t room) {
    *sim = (struct simulation){.settings = settings};
    sim->queue = plan_check_room(room, sizeof *sim->queue);
    sim->back = plan_check_room(room, sizeof *sim->back);
    sim->age = plan_check_room(room, sizeof *sim->age);
    sim->back_age = plan_check_room(room, sizeof *sim->back_age);
}

static void simulation_close(struct simulation *sim) {
    plan_free(&sim->plan);
    free(sim->queue);
    free(sim->back);
    free(sim->age);
    free(sim->back_age);
}

static void arrive(struct simulation *sim, int64_t tokens, bool closes) {
    sim->age[sim->count] = 0;
    sim->queue[sim->count++] =
        (struct plan_document){.ready = tokens, .closes = closes, .holder = -1};
}

static void step(struct simulation *sim) {
    const struct plan *plan = &sim->plan;
    int64_t kept = 0, served = 0;
    assert_int_equal(plan_build(sim->queue, sim->count, &sim->settings, &sim->plan), STATUS_OK);
    expect_right(sim->queue, sim->count, &sim->settings, plan, "step", sim->steps);
    sim->steps++;
    sim->tokens += plan->tokens;
    sim->moves += plan->move_count;
    int64_t *load = plan_check_room(sim->settings.ranks, sizeof *load);
    int64_t *done = plan_check_room(sim->count, sizeof *done);
    int64_t fullest = 0;
    for (int64_t i = 0; i < plan->span_count; i++) {
        const struct plan_span *span = &plan->spans[i];
        load[span->rank] += span->count;
        if (load[span->rank] > fullest) fullest = load[span->rank];
        done[span->document] += span->count;
        sim->queue[span->document].holder = span->rank; // the last one holds it
    }
    sim->capacity += fullest * sim->settings.ranks;
    for (int64_t i = 0; i < sim->count; i++) {
        struct plan_document document = sim->queue[i];
        if (done[i] == 0) {
            if (document.ready > 0 && ++sim->age[i] > sim->oldest) sim->oldest = sim->age[i];
            sim->age[kept] = sim->age[i];
            sim->queue[kept++] = document;
            continue;
        }
        document.first += done[i];
        document.ready -= done[i];
        if (document.closes && document.ready == 0) continue; // ended
        sim->back_age[served] = 0;
        sim->back[served++] = document;
    }
    memcpy(sim->queue + kept, sim->back, (size_t)served * sizeof *sim->queue);
    memcpy(sim->age + kept, sim->back_age, (size_t)served * sizeof *sim->age);
    sim->count = kept + served;
    free(load);
    free(done);
}

static int64_t waiting(const struct simulation *sim) {
    int64_t tokens = 0;
    for (int64_t i = 0; i < sim->count; i++)
        tokens += sim->queue[i].ready;
    return tokens;
}

// Many documents until all are done: ranks are used to nine tenths as long as there is much to do,
// and nobody waits longer than a turn of all first chunks takes.
static void a_corpus_is_done_in_good_time(void **state) {
    (void)state;
    struct random random = {3};
    for (int32_t ranks = 1; ranks <= 16; ranks += 3) {
        for (int64_t chunks = 4; chunks <= 32; chunks *= 8) {
            const struct plan_settings settings = {ranks, chunks * CHUNK_TOKENS, 100, 4096};
            const int64_t room = ranks * settings.step_tokens, documents = 100 * ranks;
            struct simulation sim;
            simulation_open(&sim, settings, documents);
            for (int64_t i = 0; i < documents; i++)
                arrive(&sim, length(&random, 300000), true);
            int64_t busy_tokens = 0, busy_room = 0;
            while (waiting(&sim) > 0) {
                const bool busy = waiting(&sim) > 4 * room;
                const int64_t tokens = sim.tokens;
                step(&sim);
                if (busy) busy_room += room;
                if (busy) busy_tokens += sim.tokens - tokens;
                assert_true(sim.steps < 100000);
            }
            const double used = (double)busy_tokens / (double)busy_room;
            const double even = (double)sim.tokens / (double)sim.capacity;
            print_message("%2d ranks of %2ld chunks: %4ld steps, used %.3f, even %.3f, %ld moves, "
                          "longest wait %ld\n",
                          ranks, (long)chunks, (long)sim.steps, used, even, (long)sim.moves,
                          (long)sim.oldest);
            assert_true(used >= 0.9);
            assert_true(even >= 0.9);
            assert_true(sim.oldest <= documents * CHUNK_TOKENS / room + 2);
            simulation_close(&sim);
        }
    }
}

static int64_t tokens_of(const struct simulation *sim, int32_t document) {
    int64_t tokens = 0;
    for (int64_t i = 0; i < sim->plan.span_count; i++) {
        if (sim->plan.spans[i].document == document) tokens += sim->plan.spans[i].count;
    }
    return tokens;
}

static void a_long_document_delays_a_short_one_by_a_step(void **state) {
    (void)state;
    for (int32_t ranks = 1; ranks <= 8; ranks++) {
        const struct plan_settings settings = {ranks, 4096, 100, 4096};
        struct simulation sim;
        simulation_open(&sim, settings, 100);
        arrive(&sim, 50000000, true);
        while (sim.count > 0) {
            if (sim.steps % 3 == 1) arrive(&sim, 10, true);
            const int64_t count = sim.count;
            step(&sim);
            assert_in_range(sim.count, 0, 1); // all short ones are done at once
            if (count > 1) assert_int_equal(tokens_of(&sim, (int32_t)count - 1), 10);
        }
        // A short one costs a rank a chunk at most, and the others may then stop with it.
        assert_true(sim.steps <= 50000000 / (ranks * 3072) + 2);
        assert_true(10 * sim.tokens >= 9 * sim.capacity);
        assert_true(sim.moves <= sim.steps);
        simulation_close(&sim);
    }
}

// Streams that get a chunk now and then beside a giant that takes what is left.
static void live_streams_beside_a_giant(void **state) {
    (void)state;
    struct random random = {4};
    for (int64_t price = 0; price <= 3000; price = 10 * price + 200) {
        const struct plan_settings settings = {6, 16 * CHUNK_TOKENS, price, 4096};
        const int64_t room = settings.ranks * settings.step_tokens;
        struct simulation sim;
        simulation_open(&sim, settings, 400);
        arrive(&sim, 100000 * (int64_t)CHUNK_TOKENS, false);
        for (int i = 0; i < 300; i++)
            arrive(&sim, 0, false);
        for (int i = 0; i < 500; i++) {
            for (int64_t d = 0; d < sim.count; d++) {
                const bool giant = sim.queue[d].ready > 1000 * CHUNK_TOKENS;
                if (!giant && below(&random, 12) == 0) sim.queue[d].ready += CHUNK_TOKENS;
            }
            step(&sim);
        }
        const double used = (double)sim.tokens / (double)(sim.steps * room);
        print_message("move price %5ld: used %.3f, %.1f moves a step, longest wait %ld\n",
                      (long)price, used, (double)sim.moves / (double)sim.steps, (long)sim.oldest);
        assert_true(used >= 0.9);
        assert_true(sim.oldest <= (price < CHUNK_TOKENS ? 2 : 20)); // dear moves: at a full home
        simulation_close(&sim);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_corpus_is_done_in_good_time),
        cmocka_unit_test(a_long_document_delays_a_short_one_by_a_step),
        cmocka_unit_test(live_streams_beside_a_giant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
