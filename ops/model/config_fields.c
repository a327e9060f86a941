// Reads single fields of a config.

#include "ops/model/config_inner.h"
#include "ops/model/foreign.h"

#include <math.h>
#include <string.h>

#define SHOWN 64 // characters of a text that is refused

enum status config_malformed(const struct parsing *parsing, const char *name) {
    return FAIL(MISMATCH, "%s, byte %zu: %s%s%s%s", parsing->path, parsing->json.wrong_at,
                parsing->within, name == NULL ? "" : name, name == NULL ? "" : ": ",
                parsing->json.wrong);
}

// NaN and Infinity as Python writes them, or as {"__float__": "Infinity"}, which newer
// transformers write because the former is no JSON.
static bool read_float(struct json *json, double *value) {
    const char *text;
    size_t bytes;
    if (json_peek(json) != JSON_OBJECT) return json_number(json, value);
    if (!json_object(json)) return false;
    *value = (double)NAN;
    while (json_key(json, &text, &bytes)) {
        if (!json_is(text, bytes, "__float__")) {
            json_skip(json);
        } else if (json_string(json, &text, &bytes)) {
            if (json_is(text, bytes, "Infinity")) *value = HUGE_VAL;
            if (json_is(text, bytes, "-Infinity")) *value = -HUGE_VAL;
        }
    }
    return json->wrong == NULL;
}

enum status config_read_limits(struct parsing *parsing, const char *name) {
    struct json *json = &parsing->json;
    double limits[2] = {0, 0};
    int count = 0;
    if (json_array(json)) {
        while (json_item(json)) {
            if (count < 2) {
                read_float(json, &limits[count]);
            } else {
                json_skip(json);
            }
            count++;
        }
    }
    if (json->wrong != NULL) return config_malformed(parsing, name);
    if (count != 2 || !(limits[0] >= 0) || !(limits[1] >= limits[0]) || isinf(limits[0])) {
        return FAIL(MISMATCH, "%s: %s%s must be two numbers, 0 <= least <= most", parsing->path,
                    parsing->within, name);
    }
    parsing->config->dt_least = limits[0];
    parsing->config->dt_most = limits[1];
    return STATUS_OK;
}

static enum status read_text(struct parsing *parsing, const char *name, const char **text,
                             int *shown, size_t *bytes) {
    if (!json_string(&parsing->json, text, bytes)) return config_malformed(parsing, name);
    *shown = *bytes < SHOWN ? (int)*bytes : SHOWN;
    return STATUS_OK;
}

enum status config_read_model_type(struct parsing *parsing, const char *name) {
    const char *text;
    size_t bytes;
    int shown;
    TRY(read_text(parsing, name, &text, &shown, &bytes));
    if (!json_is(text, bytes, "mamba2")) {
        const char *what = foreign_model_type(text, bytes);
        return FAIL(MISMATCH, "%s: %s is \"%.*s\"%s%s; only \"mamba2\" is supported", parsing->path,
                    name, shown, text, what == NULL ? "" : ", ", what == NULL ? "" : what);
    }
    parsing->mamba2 = true;
    return STATUS_OK;
}

enum status config_read_layer(struct parsing *parsing, const char *name) {
    const char *text;
    size_t bytes;
    int shown;
    TRY(read_text(parsing, name, &text, &shown, &bytes));
    if (!json_is(text, bytes, "Mamba2")) {
        return FAIL(MISMATCH, "%s: %s%s is \"%.*s\"; only \"Mamba2\" is supported", parsing->path,
                    parsing->within, name, shown, text);
    }
    parsing->mamba2 = true;
    return STATUS_OK;
}

enum status config_read_activation(struct parsing *parsing, const char *name) {
    const char *text;
    size_t bytes;
    int shown;
    TRY(read_text(parsing, name, &text, &shown, &bytes));
    if (!json_is(text, bytes, "silu") && !json_is(text, bytes, "swish")) {
        return FAIL(MISMATCH, "%s: %s%s is \"%.*s\"; only \"silu\" is supported", parsing->path,
                    parsing->within, name, shown, text);
    }
    return STATUS_OK;
}

enum status config_read_only_true(struct parsing *parsing, const char *name) {
    bool value;
    if (!json_bool(&parsing->json, &value)) return config_malformed(parsing, name);
    if (!value)
        return FAIL(MISMATCH, "%s: %s%s is false, which is not supported", parsing->path,
                    parsing->within, name);
    return STATUS_OK;
}

enum status config_read_only_empty(struct parsing *parsing, const char *name) {
    struct json *json = &parsing->json;
    const char *raw;
    size_t bytes;
    if (!json_raw(json, &raw, &bytes)) return config_malformed(parsing, name);
    bool empty =
        json_is(raw, bytes, "null") || json_is(raw, bytes, "false") || json_is(raw, bytes, "0");
    if (!empty && (raw[0] == '[' || raw[0] == '{')) {
        empty = true;
        for (size_t i = 1; i + 1 < bytes; i++) {
            empty = empty && strchr(" \t\r\n", raw[i]) != NULL;
        }
    }
    if (!empty) {
        return FAIL(MISMATCH,
                    "%s: %s%s is %.*s: layers other than plain Mamba-2 ones are not supported",
                    parsing->path, parsing->within, name, bytes < SHOWN ? (int)bytes : SHOWN, raw);
    }
    return STATUS_OK;
}

enum status config_read_multiple(struct parsing *parsing, const char *name) {
    int64_t value;
    if (!json_int(&parsing->json, &value)) return config_malformed(parsing, name);
    if (value < 1 || value > 1 << 16) {
        return FAIL(MISMATCH, "%s: %s is %lld, not between 1 and %d", parsing->path, name,
                    (long long)value, 1 << 16);
    }
    parsing->pad_multiple = value;
    return STATUS_OK;
}

enum status config_read_unused_norm(struct parsing *parsing, const char *name) {
    bool value;
    if (!json_bool(&parsing->json, &value)) return config_malformed(parsing, name);
    if (value && log_rank() <= 0) {
        LOG(WARN,
            "%s: %s is true, which transformers does not follow, and neither "
            "does this program: it gates first; --gated-norm before-gate norms first",
            parsing->path, name);
    }
    return STATUS_OK;
}

static enum status read_count(struct parsing *parsing, const struct field *field, int64_t *value) {
    if (!json_int(&parsing->json, value)) return config_malformed(parsing, field->name);
    if ((double)*value < field->least || (double)*value > field->most) {
        return FAIL(MISMATCH, "%s: %s%s is %lld, not between %.0f and %.0f", parsing->path,
                    parsing->within, field->name, (long long)*value, field->least, field->most);
    }
    return STATUS_OK;
}

static enum status read_value(struct parsing *parsing, const struct field *field, double *value) {
    if (!json_number(&parsing->json, value)) return config_malformed(parsing, field->name);
    if (!(*value >= field->least && *value <= field->most)) {
        return FAIL(MISMATCH, "%s: %s%s is %g, not between %g and %g", parsing->path,
                    parsing->within, field->name, *value, field->least, field->most);
    }
    return STATUS_OK;
}

// An id, null, or a list of which the first counts.
static enum status read_id(struct parsing *parsing, const struct field *field, int64_t *value) {
    struct json *json = &parsing->json;
    int64_t first = -1, item;
    switch ((int)json_peek(json)) {
    case JSON_NULL: json_null(json); break;
    case JSON_ARRAY:
        json_array(json);
        while (json_item(json)) {
            if (json_int(json, &item) && first < 0) first = item;
        }
        break;
    default: json_int(json, &first);
    }
    if (json->wrong != NULL) return config_malformed(parsing, field->name);
    if (first < -1 || first > INT32_MAX) {
        return FAIL(MISMATCH, "%s: %s is %lld, no token id", parsing->path, field->name,
                    (long long)first);
    }
    *value = first;
    return STATUS_OK;
}

// null means the default, but for what takes it for a value.
static enum status read_field(struct parsing *parsing, const struct field *field) {
    char *at = (char *)parsing->config + field->offset;
    struct json *json = &parsing->json;
    if (field->kind != FIELD_ID && !field->takes_null && json_peek(json) == JSON_NULL) {
        json_null(json);
        return STATUS_OK;
    }
    switch (field->kind) {
    case FIELD_COUNT: return read_count(parsing, field, (int64_t *)(void *)at);
    case FIELD_NUMBER: return read_value(parsing, field, (double *)(void *)at);
    case FIELD_ID: return read_id(parsing, field, (int64_t *)(void *)at);
    case FIELD_SPECIAL: return field->read(parsing, field->name);
    case FIELD_TRUTH: break;
    }
    if (!json_bool(json, (bool *)(void *)at)) return config_malformed(parsing, field->name);
    if (field->offset == offsetof(struct mamba2_config, tied)) parsing->config->tied_given = true;
    return STATUS_OK;
}

enum status config_read_object(struct parsing *parsing, const struct field *fields, size_t count) {
    struct json *json = &parsing->json;
    const char *key;
    size_t bytes;
    if (!json_object(json)) return config_malformed(parsing, NULL);
    while (json_key(json, &key, &bytes)) {
        size_t i = 0;
        while (i < count && !json_is(key, bytes, fields[i].name)) {
            i++;
        }
        if (i < count) {
            TRY(read_field(parsing, &fields[i]));
        } else {
            json_skip(json);
        }
    }
    return json->wrong == NULL ? STATUS_OK : config_malformed(parsing, NULL);
}
