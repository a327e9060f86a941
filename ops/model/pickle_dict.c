// Dicts are numbers; what is put into which is one list of pairs, in order.

#include "ops/base/room.h"
#include "ops/model/pickle_inner.h"

#include <stdlib.h>

// What lies on top of the stack, which stays there, must be a dict.
static enum status top_dict(const struct machine *machine, int64_t *dict) {
    const struct values *stack = &machine->stack;
    if (stack->count == 0 || stack->items[stack->count - 1].kind != VALUE_DICT) {
        return pickle_wrong(machine, "something is put into what is no dict");
    }
    *dict = stack->items[stack->count - 1].at;
    return STATUS_OK;
}

static enum status add_pairs(struct machine *machine, const struct value *values, size_t count) {
    struct pairs *pairs = &machine->pairs;
    int64_t dict;
    void *items = pairs->items;
    TRY(top_dict(machine, &dict));
    if (count % 2 != 0) return pickle_wrong(machine, "a key without a value");
    TRY(room_for(&items, &pairs->room, pairs->count + count / 2, sizeof *pairs->items));
    pairs->items = items;
    for (size_t i = 0; i < count; i += 2) {
        pairs->items[pairs->count++] =
            (struct pair){.dict = dict, .key = values[i], .value = values[i + 1]};
    }
    return STATUS_OK;
}

enum status pickle_set(struct machine *machine) {
    struct value pair[2];
    TRY(pickle_pop(machine, &pair[1]));
    TRY(pickle_pop(machine, &pair[0]));
    return add_pairs(machine, pair, 2);
}

enum status pickle_set_all(struct machine *machine) {
    const struct value *values;
    size_t count;
    TRY(pickle_pop_to_mark(machine, &values, &count));
    return add_pairs(machine, values, count);
}

// Attributes of a dict, such as the _metadata that torch hangs on it: no part of the weights.
enum status pickle_build(struct machine *machine) {
    struct value attributes;
    int64_t dict;
    TRY(pickle_pop(machine, &attributes));
    if (attributes.kind != VALUE_DICT) return pickle_wrong(machine, "attributes that are no dict");
    return top_dict(machine, &dict);
}

// The last dict's pairs: names and tensors, nothing else.
enum status pickle_collect(struct machine *machine) {
    struct state_dict *dict = machine->dict;
    int64_t last;
    TRY(top_dict(machine, &last));
    dict->items = calloc(machine->pairs.count + 1, sizeof *dict->items);
    if (dict->items == NULL) return FAIL(NO_MEMORY, "%s: its items", machine->path);
    for (size_t i = 0; i < machine->pairs.count; i++) {
        const struct pair *pair = &machine->pairs.items[i];
        if (pair->dict != last) continue;
        if (pair->key.kind != VALUE_TEXT) return pickle_wrong(machine, "a key that is no text");
        if (pair->value.kind != VALUE_TENSOR) {
            return FAIL(MISMATCH,
                        "%s: its entry \"%.*s\" is no tensor: this is a training checkpoint or the "
                        "like; save model.state_dict() alone",
                        machine->path, (int)(pair->key.count < 200 ? pair->key.count : 200),
                        pair->key.text);
        }
        dict->items[dict->item_count++] =
            (struct pickle_item){.name = pair->key.text,
                                 .name_bytes = (size_t)pair->key.count,
                                 .tensor = pair->value.at};
    }
    return STATUS_OK;
}
