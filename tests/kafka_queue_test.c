// A queue of samples over the mock broker: what is answered is committed, what is not comes again, and
// messages of no use are told apart.

#include "ops/base/clock.h"
#include "src/passkey_queue.h"
#include "tests/kafka_world.h"

#define TASK "\"style\":\"paper\",\"digits\":5"
#define MOST 64

static struct settings settings_of(const struct world *world, const char *job) {
    return (struct settings){.brokers = world->address,
                             .input = "kafka:samples",
                             .output = "kafka:results",
                             .job = job,
                             .until = "end",
                             .seed = 1,
                             .max_bad = 0.5,
                             .commit_interval_ms = 10,
                             .broker_timeout_ms = 10000};
}

static void make_topics(const struct world *world, int samples, const char *extra) {
    const struct kafka_settings settings = settings_for(world, "samples");
    struct kafka_producer *producer = NULL;
    char key[32], value[96];
    assert_int_equal(kafka_mock_topic(world->mock, "samples", 3), STATUS_OK);
    assert_int_equal(kafka_mock_topic(world->mock, "results", 1), STATUS_OK);
    assert_int_equal(kafka_producer_open(&settings, &producer), STATUS_OK);
    for (int i = 0; i < samples; i++) {
        snprintf(key, sizeof key, "key-%d", i);
        const int bytes = snprintf(
            value, sizeof value, "{\"id\":\"s%d\",\"length\":%d,\"depth\":0.5%s}", i, i + 1, extra);
        send(producer, key, value, (size_t)bytes, KAFKA_UNKNOWN);
    }
    assert_int_equal(kafka_producer_flush(producer), STATUS_OK);
    kafka_producer_close(producer);
}

static struct passkey_queue *open_queue(const struct settings *settings) {
    struct passkey_queue *queue = NULL;
    assert_int_equal(passkey_queue_check(settings, 1), STATUS_OK);
    assert_int_equal(passkey_queue_open(settings, TASK, &queue), STATUS_OK);
    return queue;
}

// All that there is; fails after 20 s.
static int64_t take_all(struct passkey_queue *queue, struct passkey_description *taken) {
    const int64_t start = clock_ms();
    int64_t all = 0, count = 0;
    for (;;) {
        const enum status status = passkey_queue_take(queue, MOST - all, 100, taken + all, &count);
        if (status == STATUS_END) return all;
        assert_true(status == STATUS_OK || status == STATUS_AGAIN);
        all += count;
        assert_true(all < MOST);
        assert_true(clock_ms() - start < 20000);
    }
}

static void give(struct passkey_queue *queue, const struct passkey_description *sample) {
    char line[96];
    const int bytes = snprintf(line, sizeof line, "{\"id\":\"%s\"}", sample->id);
    assert_int_equal(passkey_queue_result(queue, &sample->place, sample->id, line, (size_t)bytes),
                     STATUS_OK);
}

static int64_t count_results(const struct world *world) {
    struct kafka_consumer *consumer = NULL;
    const struct kafka_consumer_settings reading = {.kafka = settings_for(world, "results"),
                                                    .groups = 1};
    struct kafka_message message;
    int64_t count = 0;
    assert_int_equal(kafka_consumer_open(&reading, &consumer), STATUS_OK);
    for (enum status status = STATUS_OK; status != STATUS_END;) {
        status = kafka_consumer_next(consumer, 100, &message);
        if (status != STATUS_OK || message.happening != KAFKA_MESSAGE) continue;
        char line[96];
        snprintf(line, sizeof line, "{\"id\":\"%.*s\"}", (int)message.key_bytes,
                 (const char *)message.key);
        assert_int_equal(message.value_bytes, strlen(line));
        assert_memory_equal(message.value, line, strlen(line));
        count++;
    }
    kafka_consumer_close(consumer);
    return count;
}

static void answered_ones_do_not_come_again(void **state) {
    const struct world *world = *state;
    const struct settings settings = settings_of(world, "job");
    struct passkey_description taken[MOST];
    struct passkey_queue_counts counts;
    make_topics(world, 30, "");
    publish_raw(world, "samples", "bad", "{\"id\":\"bad\",\"length\":0,\"depth\":0}");
    publish_raw(world, "samples", "niah",
                "{\"id\":\"n\",\"length\":1,\"depth\":0,\"style\":\"niah\"}");
    struct passkey_queue *queue = open_queue(&settings);
    assert_int_equal(take_all(queue, taken), 30);
    for (int i = 29; i >= 0; i--) {
        give(queue, &taken[i]);
        assert_int_equal(passkey_queue_commit(queue), STATUS_OK);
    }
    passkey_queue_counts(queue, &counts);
    assert_int_equal(counts.taken, 32);
    assert_int_equal(counts.bad, 2);
    assert_int_equal(passkey_queue_close(queue, true), STATUS_OK);
    assert_int_equal(count_results(world), 30);
    queue = open_queue(&settings);
    assert_int_equal(take_all(queue, taken), 0);
    assert_int_equal(passkey_queue_close(queue, true), STATUS_OK);
    const struct settings other = settings_of(world, "another job");
    queue = open_queue(&other);
    assert_int_equal(take_all(queue, taken), 30);
    assert_int_equal(passkey_queue_close(queue, false), STATUS_OK);
}

// Of each partition what lies behind the first sample without an answer, and no other.
static void unanswered_ones_come_again(void **state) {
    const struct world *world = *state;
    const struct settings settings = settings_of(world, "job");
    struct passkey_description taken[MOST], again[MOST];
    int64_t first[3] = {INT64_MAX, INT64_MAX, INT64_MAX}, expected = 0;
    make_topics(world, 30, "");
    struct passkey_queue *queue = open_queue(&settings);
    assert_int_equal(take_all(queue, taken), 30);
    for (int i = 0; i < 30; i++) {
        const struct passkey_place *place = &taken[i].place;
        if (place->offset % 4 == 3) {
            if (place->offset < first[place->partition]) first[place->partition] = place->offset;
        } else {
            give(queue, &taken[i]);
        }
    }
    assert_int_equal(passkey_queue_close(queue, true), STATUS_OK);
    for (int i = 0; i < 30; i++) {
        expected += taken[i].place.offset >= first[taken[i].place.partition];
    }
    assert_true(expected > 0 && expected < 30);
    queue = open_queue(&settings);
    const int64_t came = take_all(queue, again);
    assert_int_equal(came, expected);
    for (int64_t i = 0; i < came; i++) {
        assert_true(again[i].place.offset >= first[again[i].place.partition]);
    }
    assert_int_equal(passkey_queue_close(queue, false), STATUS_OK);
}

// A job whose task is another one takes nothing from those who share the queue.
static void another_task_takes_nothing(void **state) {
    const struct world *world = *state;
    const struct settings settings = settings_of(world, "job");
    struct passkey_description taken[MOST];
    make_topics(world, 30, ",\"digits\":7");
    struct passkey_queue *queue = open_queue(&settings);
    assert_int_equal(take_all(queue, taken), 0);
    assert_int_equal(passkey_queue_close(queue, true), STATUS_BAD_INPUT);
    queue = NULL;
    assert_int_equal(passkey_queue_open(&settings, "\"digits\":7", &queue), STATUS_OK);
    assert_int_equal(take_all(queue, taken), 30);
    assert_int_equal(passkey_queue_close(queue, false), STATUS_OK);
}

// The verb's own refusal, and a topic of dead letters, which is there before the offset is committed.
static void refused_ones_are_dead_letters(void **state) {
    const struct world *world = *state;
    struct settings settings = settings_of(world, "job");
    struct passkey_description taken[MOST];
    settings.dead_letters = "kafka:letters";
    make_topics(world, 9, "");
    assert_int_equal(kafka_mock_topic(world->mock, "letters", 1), STATUS_OK);
    publish_raw(world, "samples", "bad", "nonsense");
    struct passkey_queue *queue = open_queue(&settings);
    assert_int_equal(take_all(queue, taken), 9);
    assert_int_equal(passkey_queue_bad(queue, &taken[0], "too short"), STATUS_OK);
    for (int i = 1; i < 9; i++) {
        give(queue, &taken[i]);
    }
    assert_int_equal(passkey_queue_close(queue, true), STATUS_OK);
    struct kafka_consumer *consumer = NULL;
    const struct kafka_consumer_settings reading = {.kafka = settings_for(world, "letters"),
                                                    .groups = 1};
    struct kafka_message message;
    int letters = 0;
    assert_int_equal(kafka_consumer_open(&reading, &consumer), STATUS_OK);
    for (enum status status = STATUS_OK; status != STATUS_END;) {
        status = kafka_consumer_next(consumer, 100, &message);
        if (status == STATUS_OK && message.happening == KAFKA_MESSAGE) letters++;
    }
    kafka_consumer_close(consumer);
    assert_int_equal(letters, 2);
    queue = open_queue(&settings);
    assert_int_equal(take_all(queue, taken), 0);
    assert_int_equal(passkey_queue_close(queue, false), STATUS_OK);
}

// A grid of the job's own, with results in a topic.
static void results_alone(void **state) {
    const struct world *world = *state;
    struct settings settings = settings_of(world, "job");
    const struct passkey_description sample = {.id = "mine"};
    struct passkey_description taken[MOST];
    settings.input = NULL;
    make_topics(world, 0, "");
    struct passkey_queue *queue = open_queue(&settings);
    assert_int_equal(take_all(queue, taken), 0);
    give(queue, &sample);
    assert_int_equal(passkey_queue_commit(queue), STATUS_OK);
    assert_int_equal(passkey_queue_close(queue, true), STATUS_OK);
    assert_int_equal(count_results(world), 1);
}

// What no broker has confirmed is an error within the time-out, and not committed.
static void a_lost_broker_is_an_error(void **state) {
    const struct world *world = *state;
    struct settings settings = settings_of(world, "job");
    struct passkey_description taken[MOST];
    settings.broker_timeout_ms = 3000;
    make_topics(world, 5, "");
    struct passkey_queue *queue = open_queue(&settings);
    assert_int_equal(take_all(queue, taken), 5);
    assert_int_equal(kafka_mock_set_down(world->mock, true), STATUS_OK);
    give(queue, &taken[0]);
    const int64_t start = clock_ms();
    assert_int_equal(passkey_queue_close(queue, true), STATUS_BROKER);
    assert_true(clock_ms() - start < 20000);
    assert_int_equal(kafka_mock_set_down(world->mock, false), STATUS_OK);
}

static void a_pause_between_tries(void **state) {
    const struct world *world = *state;
    struct settings settings = settings_of(world, "job");
    settings.broker_timeout_ms = 2000;
    settings.commit_interval_ms = 2500;
    struct passkey_description taken[MOST];
    make_topics(world, 30, "");
    struct passkey_queue *queue = open_queue(&settings);
    assert_int_equal(take_all(queue, taken), 30);
    int given = 0;
    for (int i = 0; i < 3; i++) {
        while (given < 10 * (i + 1))
            give(queue, &taken[given++]);
        const int64_t until = clock_ms() + 2600;
        kafka_mock_fail_commit(world->mock);
        while (clock_ms() < until) {
            assert_int_equal(passkey_queue_commit(queue), STATUS_OK);
            nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
        }
    }
    assert_int_equal(passkey_queue_close(queue, true), STATUS_OK);
}

static void settings_that_do_not_fit(void **state) {
    const struct world *world = *state;
    struct settings settings = settings_of(world, "job");
    assert_int_equal(passkey_queue_check(&settings, 3), STATUS_OK);
    settings.brokers = NULL;
    assert_int_equal(passkey_queue_check(&settings, 1), STATUS_USAGE);
    settings = settings_of(world, "job");
    settings.output = settings.input;
    assert_int_equal(passkey_queue_check(&settings, 1), STATUS_USAGE);
    settings = settings_of(world, "job");
    settings.input = "samples.jsonl";
    assert_int_equal(passkey_queue_check(&settings, 1), STATUS_USAGE);
    settings = settings_of(world, "job");
    settings.dead_letters = "dead.jsonl";
    assert_int_equal(passkey_queue_check(&settings, 1), STATUS_OK);
    assert_int_equal(passkey_queue_check(&settings, 2), STATUS_USAGE);
    struct passkey_queue *queue = NULL;
    settings = settings_of(world, "job"); // there is no such topic
    assert_int_equal(passkey_queue_open(&settings, TASK, &queue), STATUS_USAGE);
    assert_null(queue);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(answered_ones_do_not_come_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unanswered_ones_come_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_task_takes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refused_ones_are_dead_letters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(results_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lost_broker_is_an_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_pause_between_tries, set_up, tear_down),
        cmocka_unit_test_setup_teardown(settings_that_do_not_fit, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
