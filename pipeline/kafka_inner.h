#pragma once
// A librdkafka handle with our way of configuring, logging and waiting. Included by kafka files.

#include "pipeline/kafka_client.h"

#include <librdkafka/rdkafka.h>

#include <pthread.h>

#define KAFKA_TYPE_HEADER "longscan.type"
#define KAFKA_TIME_HEADER "longscan.source-time" // ms since 1970 in decimal digits

// A property as we set it. Fixed: the program is wrong under any other value, so that a user's
// -X that asks for one is refused.
struct kafka_property {
    const char *key, *value;
    bool fixed;
};

struct kafka_client {
    rd_kafka_t *handle;
    rd_kafka_topic_t *topic_handle; // a consumer's once its topic is known to exist
    char *brokers, *topic;
    const char *role; // borrowed: a literal
    int64_t timeout_ms;
    bool (*stop)(void);
    void *owner; // who gets delivery reports
    // Gets every line of librdkafka's. Thread: librdkafka's. NULL: nobody does.
    void (*hear)(void *listener, const char *facility, const char *text);
    void *listener;
    // Of a consumer that joins a group: set before it is opened. NULL: it joins none.
    void (*rebalance)(rd_kafka_t *handle, rd_kafka_resp_err_t error,
                      rd_kafka_topic_partition_list_t *partitions, void *client);
    bool shared;      // the handle is another client's
    bool unreachable; // no broker answered in time
    bool doomed;      // destroying the handle would wait for ever
    pthread_mutex_t lock;
    char trouble[512]; // under lock: the last thing that librdkafka complained about; "" none
    char refused[512]; // under lock: why a broker let us not in, which waiting does not mend; ""
};

// As it stands in the header; "" for KAFKA_UNKNOWN.
const char *kafka_type_name(enum kafka_type type);

// Errors: USAGE.
enum status kafka_conf_set(rd_kafka_conf_t *conf, const struct kafka_settings *settings,
                           const struct kafka_property *ours, int count);

typedef void kafka_delivery(rd_kafka_t *handle, const rd_kafka_message_t *message, void *opaque);

// Opens a handle; does not wait for a broker. The client must not move until closed.
// Errors: USAGE (a property is wrong), NO_MEMORY, IO.
enum status kafka_client_open(struct kafka_client *client, rd_kafka_type_t kind,
                              const struct kafka_settings *settings,
                              const struct kafka_property *ours, int count,
                              kafka_delivery *delivery);
// Another topic of the same producer, closed before it. Errors: USAGE, NO_MEMORY; close it then too.
enum status kafka_client_share(const struct kafka_client *client, const char *topic,
                               struct kafka_client *other);
// Destroys the handle within the deadline. false: librdkafka does not come back from it; its
// threads live on, and what they may look at (the opaque, the owner) must too.
bool kafka_destroy(rd_kafka_t *handle, int64_t deadline_ms);
// Purges what is queued. For every client that was given to kafka_client_open, opened or not.
// false: as kafka_destroy; the client must stay where it is.
bool kafka_client_close(struct kafka_client *client);

// The partitions of the topic. Waits for a broker until the deadline, but not when one is there and
// refuses us. Thread: the only one that uses the handle, before it reads.
// Errors: BROKER, USAGE (no such topic; wrong password or certificate), STOPPED.
enum status kafka_client_partitions(struct kafka_client *client, int32_t *partitions);
// All topics and brokers, with the same waits and errors. Owns: the caller destroys it.
enum status kafka_client_metadata(struct kafka_client *client,
                                  const struct rd_kafka_metadata **metadata);
enum kafka_answer { KAFKA_NO_ANSWER, KAFKA_NO_TOPIC, KAFKA_TOPIC };
// What a broker says of the topic now; waits for it at most timeout_ms. A partition without a
// leader is no answer.
enum kafka_answer kafka_client_ask(struct kafka_client *client, int32_t timeout_ms,
                                   int32_t *partitions);
// Asks once for the offsets below, and is back a second after timeout_ms at the latest.
rd_kafka_resp_err_t kafka_ends(struct kafka_client *client, int32_t partition, int timeout_ms,
                               int64_t *low, int64_t *high);
// The offsets of the oldest record kept and of the next one to be written.
enum status kafka_client_watermarks(struct kafka_client *client, int32_t partition, int64_t *low,
                                    int64_t *high);

// True while a wait that began at start_ms may go on. Otherwise *status says why
// not, and the failure is logged as "cannot `what`".
bool kafka_client_wait(struct kafka_client *client, int64_t start_ms, const char *what,
                       const char *why, enum status *status);
void kafka_client_pause(void); // a moment, between two tries
// STATUS_BROKER, logged with brokers, topic, `why` and what to do.
enum status kafka_client_unreachable(struct kafka_client *client, const char *what,
                                     const char *why);
