#pragma once
// A topic as a source of records: TokenRecords, or whole documents as JSON lines or plain text.

#include "pipeline/kafka_consumer.h"
#include "pipeline/source.h"
#include "pipeline/tokenizer.h"

enum kafka_form {
    KAFKA_FORM_TOKENS, // a message is a TokenRecord
    KAFKA_FORM_JSONL,  // a message is one object, a whole document; without an id its key is the id
    KAFKA_FORM_TEXT,   // a message is a document's text, its key the id
    // without a key either the id is TOPIC:PARTITION:OFFSET
};

struct kafka_source_settings {
    struct kafka_consumer_settings consumer;
    enum kafka_form form;
    struct tokenizer *tokenizer;       // borrowed; needed for text, in JSON lines too
    const char *id_field, *text_field; // borrowed; NULL: "id", "text"
    bool keep_messages;                // with their records, for dead letters
};

// "tokens", "jsonl" or "text". Errors: USAGE.
enum status kafka_form_parse(const char *name, enum kafka_form *form);

// Duplicates and gaps are passed on as they come: the leader knows what to do with them. A whole
// document has its message's offset + 1 as serial, so that a topic may repeat ids.
// Errors: as kafka_consumer_open.
enum status kafka_source_open(const struct kafka_source_settings *settings, struct source **opened);
// What a source of this kind reads through, to ask what was committed before it began.
struct kafka_consumer *kafka_source_consumer(struct source *source);
