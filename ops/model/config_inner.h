#pragma once
// A config's fields as rows: the readers, the ranges and the messages come from the table.

#include "ops/base/json.h"
#include "ops/model/config.h"

enum field_kind { FIELD_COUNT, FIELD_NUMBER, FIELD_TRUTH, FIELD_ID, FIELD_SPECIAL };

struct parsing {
    struct json json;
    const char *path;
    struct mamba2_config *config;
    const char *within; // the object whose fields are read, as "ssm_cfg."; "" at the top
    bool mamba2;        // the file has said that these are Mamba-2 layers
    int64_t pad_multiple;
};

struct field {
    const char *name;
    enum field_kind kind;
    size_t offset;                                                  // into struct mamba2_config
    double least, most;                                             // of counts and numbers
    enum status (*read)(struct parsing *parsing, const char *name); // FIELD_SPECIAL
    bool takes_null; // FIELD_SPECIAL: null is a value to it; to others it means the default
};

// Reads an object whose fields are those of the table; others are ignored. Errors: MISMATCH.
enum status config_read_object(struct parsing *parsing, const struct field *fields, size_t count);
enum status config_malformed(const struct parsing *parsing, const char *name);

// Readers of single fields.
enum status config_read_limits(struct parsing *parsing, const char *name);
enum status config_read_model_type(struct parsing *parsing, const char *name);
enum status config_read_layer(struct parsing *parsing, const char *name);
enum status config_read_activation(struct parsing *parsing, const char *name);
enum status config_read_only_true(struct parsing *parsing, const char *name);
// null, false, 0, [] and {} say that the model has no such part.
enum status config_read_only_empty(struct parsing *parsing, const char *name);
enum status config_read_multiple(struct parsing *parsing, const char *name);
// transformers reads norm_before_gate from no file, though files of its own say true.
enum status config_read_unused_norm(struct parsing *parsing, const char *name);
