#pragma once
// One Kafka message as a line of JSON, for people and scripts that look into a topic.

#include "pipeline/bytes.h"

struct kafka_message;

// Behind what out holds, without a line end. Results look exactly as in a file. A message that
// cannot be read is logged and leaves out as it was. Errors: BAD_INPUT, NO_MEMORY.
enum status message_json(const struct kafka_message *message, struct bytes *out);
// {"partition","offset","time_ms","source_time_ms","key","value"}: the line above as `value`, null for
// a retraction; times in milliseconds since 1970, source_time_ms where the message says it.
enum status message_json_envelope(const struct kafka_message *message, struct bytes *out);
