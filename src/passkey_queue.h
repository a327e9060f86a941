#pragma once
// Samples to evaluate from a topic, and results into one: --input kafka:TOPIC and --output kafka:TOPIC,
// each by itself. Jobs of one --job share the topic: a Kafka consumer group, of which every group of
// ranks is a member (pipeline/kafka_member.h). Delivery is at least once: a sample may be evaluated
// twice, but none is lost, and results are keyed by its id.
//
// Thread: a group's leader, for all calls. None of them waits longer than said, and a stop signal ends
// every wait at once.

#include "src/passkey_description.h"

struct passkey_queue;

// Does --input, --output or --dead-letters name a topic?
bool passkey_queue_wanted(const struct settings *settings);
// What can be known before a model is loaded. The same on every rank. Errors: USAGE.
enum status passkey_queue_check(const struct settings *settings, int32_t groups);
// Whether samples come from a topic, and results go to one. Of the settings alone.
bool passkey_queue_input(const struct settings *settings);
bool passkey_queue_output(const struct settings *settings);

// task: JSON members, as passkey_task_json; copied. Settings are borrowed. Learns the topics, and joins
// without waiting for partitions. Errors: USAGE (no such topic, a build without Kafka), BROKER, STOPPED,
// IO (the file of dead letters), NO_MEMORY.
enum status passkey_queue_open(const struct settings *settings, const char *task,
                               struct passkey_queue **opened);

// Up to `most` descriptions into taken[most], waiting for the first at most timeout_ms (0: takes what is
// there). Messages that are no description of this task are counted, told and left out.
// AGAIN: there is none now. Run what you have and answer it then, rather than wait for more: with
// --until end another job may wait for it.
// END: none will come; what was taken is still to be answered.
// Errors: STOPPED, BROKER, MISMATCH (records deleted before they were read), BAD_INPUT (nothing but
// messages of no use), NO_MEMORY.
enum status passkey_queue_take(struct passkey_queue *queue, int64_t most, int32_t timeout_ms,
                               struct passkey_description *taken, int64_t *count);

// The sample's result, in any order. With an --output topic sends the line (without its end; borrowed
// for the call) under the id; waits only while the producer's queue is full. Otherwise the line is the
// caller's: call this when it is in its file. place: NULL or of term 0: the sample came from no topic.
// Errors: BROKER, STOPPED, BAD_INPUT (too large), NO_MEMORY.
enum status passkey_queue_result(struct passkey_queue *queue, const struct passkey_place *place,
                                 const char *id, const char *line, size_t bytes);
// In place of a result: the description turned out to be of no use (passkey_task_describe says why).
// Errors: BAD_INPUT (nothing but such), BROKER, STOPPED, NO_MEMORY.
enum status passkey_queue_bad(struct passkey_queue *queue,
                              const struct passkey_description *description, const char *wrong);

// Commits, every --commit-interval, of each partition what lies before its first message that is not
// answered yet or whose result no broker has acknowledged. Sends and returns: call it often, also
// while a long sample runs. Errors: BROKER (also of results sent earlier), NO_MEMORY.
enum status passkey_queue_commit(struct passkey_queue *queue);

struct passkey_queue_counts {
    int64_t taken; // messages, the bad among them
    int64_t bad;
    int64_t again;   // that were here before and came once more, or went to another job
    int64_t results; // sent
};
void passkey_queue_counts(const struct passkey_queue *queue, struct passkey_queue_counts *counts);

// complete: waits, at most --broker-timeout, until results are acknowledged and offsets committed; then
// leaves the group, so that other jobs get its partitions at once. To be called so after STOPPED too.
// Not complete: drops what is queued; nothing more is committed. Frees the queue. Accepts NULL.
// Errors: BROKER, IO, BAD_INPUT (more bad than --max-bad).
enum status passkey_queue_close(struct passkey_queue *queue, bool complete);
