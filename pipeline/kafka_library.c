#include "pipeline/libraries.h"

#include <librdkafka/rdkafka.h>

#include <stdio.h>

void kafka_library(struct library *library) {
    *library = (struct library){.name = "librdkafka"};
    snprintf(library->built, sizeof library->built, "%d.%d.%d", RD_KAFKA_VERSION >> 24,
             (RD_KAFKA_VERSION >> 16) & 0xff, (RD_KAFKA_VERSION >> 8) & 0xff);
    snprintf(library->running, sizeof library->running, "%s", rd_kafka_version_str());
}
