#pragma once
// The pickle machine's memory, and what its opcodes may ask for.

#include "ops/model/pickle.h"

enum value_kind {
    VALUE_UNSET, // of a memo's place that nothing was put into
    VALUE_MARK,
    VALUE_NONE,
    VALUE_BOOL,
    VALUE_INT,
    VALUE_TEXT,
    VALUE_TUPLE,
    VALUE_DICT,
    VALUE_GLOBAL,
    VALUE_STORAGE,
    VALUE_TENSOR,
};

// at: the number of a bool or int; a tuple's first cell; the index of the rest. count: of a text's
// bytes, of a tuple's cells.
struct value {
    enum value_kind kind;
    int64_t count;
    union {
        int64_t at;
        const char *text;
    };
};

// dict[key] = value, in the order in which it happened.
struct pair {
    int64_t dict;
    struct value key, value;
};

struct values {
    struct value *items;
    size_t count, room;
};

struct pairs {
    struct pair *items;
    size_t count, room;
};

struct machine {
    const char *path;
    const char *bytes;
    size_t size, at;
    size_t op; // where the opcode under way stands, for messages
    struct values stack, memo, cells;
    struct pairs pairs;
    int64_t dicts;
    struct state_dict *dict;
    size_t storage_room, tensor_room;
};

// The opcode under way cannot be followed.
static inline enum status pickle_wrong(const struct machine *machine, const char *what) {
    return FAIL(MISMATCH, "%s, pickle byte %zu: %s", machine->path, machine->op, what);
}

// A tuple's values; NULL if it has none.
static inline const struct value *pickle_cells(const struct machine *machine,
                                               const struct value *tuple) {
    return tuple->count > 0 ? machine->cells.items + tuple->at : NULL;
}

enum status pickle_append(struct values *values, struct value value);
enum status pickle_push(struct machine *machine, struct value value);
enum status pickle_push_number(struct machine *machine, enum value_kind kind, int64_t number);
enum status pickle_push_tuple(struct machine *machine, const struct value *values, size_t count);
// Errors: MISMATCH (nothing is there above the last mark).
enum status pickle_pop(struct machine *machine, struct value *value);
// The values above the last mark; the mark goes too. They lie where they lay until the next push.
enum status pickle_pop_to_mark(struct machine *machine, const struct value **values, size_t *count);

// SETITEM, SETITEMS and BUILD. Errors: MISMATCH, NO_MEMORY.
enum status pickle_set(struct machine *machine);
enum status pickle_set_all(struct machine *machine);
enum status pickle_build(struct machine *machine);
// What the last dict holds becomes machine->dict's items. Errors: MISMATCH, NO_MEMORY.
enum status pickle_collect(struct machine *machine);

// A global of the table by its name. Errors: MISMATCH, by name.
enum status pickle_global(const struct machine *machine, const char *module, size_t module_bytes,
                          const char *name, size_t name_bytes, struct value *global);
// What a global makes of its arguments. Errors: MISMATCH, NO_MEMORY.
enum status pickle_call(struct machine *machine, const struct value *global,
                        const struct value *arguments, struct value *made);
// The storage that a persistent id names. Errors: MISMATCH, NO_MEMORY.
enum status pickle_storage_of(struct machine *machine, const struct value *id,
                              struct value *storage);
