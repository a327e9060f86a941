#include "pipeline/libraries.h"

#include <protobuf-c/protobuf-c.h>

#include <stdio.h>

void codec_library(struct library *library) {
    *library = (struct library){.name = "protobuf-c", .built = PROTOBUF_C_VERSION};
    snprintf(library->running, sizeof library->running, "%s", protobuf_c_version());
}
