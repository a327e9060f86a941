// The few names that a state dict's pickle may use, and what each stands for. A row here gives a
// meaning to a name; nothing is looked up anywhere else.

#include "ops/base/room.h"
#include "ops/model/pickle_inner.h"

#include <string.h>

enum global { GLOBAL_ORDERED_DICT, GLOBAL_TENSOR, GLOBAL_PARAMETER, GLOBAL_STORAGE };

static const struct {
    const char *module, *name;
    enum global global;
    enum dtype dtype; // and what follows: of storages
    int64_t element_bytes;
} globals[] = {
    {"collections",  "OrderedDict",        GLOBAL_ORDERED_DICT, DTYPE_OTHER, 0},
    {"torch._utils", "_rebuild_tensor_v2", GLOBAL_TENSOR,       DTYPE_OTHER, 0},
    {"torch._utils", "_rebuild_parameter", GLOBAL_PARAMETER,    DTYPE_OTHER, 0},
    {"torch",        "FloatStorage",       GLOBAL_STORAGE,      DTYPE_F32,   4},
    {"torch",        "BFloat16Storage",    GLOBAL_STORAGE,      DTYPE_BF16,  2},
    {"torch",        "HalfStorage",        GLOBAL_STORAGE,      DTYPE_F16,   2},
    {"torch",        "DoubleStorage",      GLOBAL_STORAGE,      DTYPE_OTHER, 8},
    {"torch",        "LongStorage",        GLOBAL_STORAGE,      DTYPE_OTHER, 8},
    {"torch",        "IntStorage",         GLOBAL_STORAGE,      DTYPE_OTHER, 4},
    {"torch",        "ShortStorage",       GLOBAL_STORAGE,      DTYPE_OTHER, 2},
    {"torch",        "CharStorage",        GLOBAL_STORAGE,      DTYPE_OTHER, 1},
    {"torch",        "ByteStorage",        GLOBAL_STORAGE,      DTYPE_OTHER, 1},
    {"torch",        "BoolStorage",        GLOBAL_STORAGE,      DTYPE_OTHER, 1},
};
#define GLOBALS (sizeof globals / sizeof globals[0])

static bool is(const char *text, size_t bytes, const char *name) {
    return strlen(name) == bytes && memcmp(text, name, bytes) == 0;
}

enum status pickle_global(const struct machine *machine, const char *module, size_t module_bytes,
                          const char *name, size_t name_bytes, struct value *global) {
    for (size_t i = 0; i < GLOBALS; i++) {
        if (is(module, module_bytes, globals[i].module) && is(name, name_bytes, globals[i].name)) {
            *global = (struct value){.kind = VALUE_GLOBAL, .at = (int64_t)i};
            return STATUS_OK;
        }
    }
    return FAIL(MISMATCH,
                "%s, pickle byte %zu: it asks for %.*s.%.*s, which no plain state dict needs; "
                "nothing was executed. Save model.state_dict() alone, as safetensors or with "
                "torch.save",
                machine->path, machine->op, (int)(module_bytes < 100 ? module_bytes : 100), module,
                (int)(name_bytes < 100 ? name_bytes : 100), name);
}

// A tuple of whole numbers, none below zero, as sizes or strides.
static bool take_sizes(const struct machine *machine, const struct value *tuple, int64_t *sizes,
                       int32_t *dims) {
    if (tuple->kind != VALUE_TUPLE || tuple->count > TENSOR_DIMS_MOST) return false;
    const struct value *cell = pickle_cells(machine, tuple);
    for (int64_t i = 0; i < tuple->count; i++) {
        if (cell[i].kind != VALUE_INT || cell[i].at < 0) return false;
        sizes[i] = cell[i].at;
    }
    *dims = (int32_t)tuple->count;
    return true;
}

// (storage, offset, sizes, strides, requires_grad, backward_hooks[, metadata])
static enum status make_tensor(struct machine *machine, const struct value *arguments,
                               struct value *made) {
    struct state_dict *dict = machine->dict;
    const struct value *cell = pickle_cells(machine, arguments);
    struct pickle_tensor tensor = {0};
    int32_t strides = 0;
    void *tensors = dict->tensors;
    if (arguments->count < 6 || arguments->count > 7 || cell[0].kind != VALUE_STORAGE ||
        cell[1].kind != VALUE_INT) {
        return pickle_wrong(machine, "a tensor without a storage or an offset");
    }
    if (arguments->count == 7 && cell[6].kind != VALUE_NONE) {
        return pickle_wrong(machine, "a tensor that is a conjugated or negated view: save a copy");
    }
    tensor.storage = cell[0].at;
    tensor.offset = cell[1].at;
    if (tensor.offset < 0 || !take_sizes(machine, &cell[2], tensor.shape, &tensor.dims) ||
        !take_sizes(machine, &cell[3], tensor.stride, &strides) || strides != tensor.dims) {
        return pickle_wrong(machine, "a tensor whose offset, sizes or strides are negative, no "
                                     "numbers, not as many, or more than 8");
    }
    TRY(room_for(&tensors, &machine->tensor_room, (size_t)dict->tensor_count + 1, sizeof tensor));
    dict->tensors = tensors;
    dict->tensors[dict->tensor_count] = tensor;
    *made = (struct value){.kind = VALUE_TENSOR, .at = dict->tensor_count++};
    return STATUS_OK;
}

enum status pickle_call(struct machine *machine, const struct value *global,
                        const struct value *arguments, struct value *made) {
    if (global->kind != VALUE_GLOBAL || arguments->kind != VALUE_TUPLE) {
        return pickle_wrong(machine, "a call of what is no function");
    }
    const struct value *cell = pickle_cells(machine, arguments);
    switch (globals[global->at].global) {
    case GLOBAL_ORDERED_DICT:
        if (arguments->count != 0) break;
        *made = (struct value){.kind = VALUE_DICT, .at = machine->dicts++};
        return STATUS_OK;
    case GLOBAL_TENSOR: return make_tensor(machine, arguments, made);
    case GLOBAL_PARAMETER: // (tensor, requires_grad, backward_hooks)
        if (arguments->count != 3 || cell[0].kind != VALUE_TENSOR) break;
        *made = cell[0];
        return STATUS_OK;
    case GLOBAL_STORAGE: break;
    }
    return FAIL(MISMATCH, "%s, pickle byte %zu: a call of %s with arguments it does not have",
                machine->path, machine->op, globals[global->at].name);
}

// ("storage", type, key, device, elements)
enum status pickle_storage_of(struct machine *machine, const struct value *id,
                              struct value *storage) {
    struct state_dict *dict = machine->dict;
    void *storages = dict->storages;
    const bool five = id->kind == VALUE_TUPLE && id->count == 5;
    const struct value *cell = five ? pickle_cells(machine, id) : NULL;
    if (!five || cell[0].kind != VALUE_TEXT ||
        !is(cell[0].text, (size_t)cell[0].count, "storage") || cell[1].kind != VALUE_GLOBAL ||
        globals[cell[1].at].global != GLOBAL_STORAGE || cell[2].kind != VALUE_TEXT ||
        cell[4].kind != VALUE_INT || cell[4].at < 0) {
        return pickle_wrong(machine, "a persistent id that names no storage");
    }
    TRY(room_for(&storages, &machine->storage_room, (size_t)dict->storage_count + 1,
                 sizeof *dict->storages));
    dict->storages = storages;
    dict->storages[dict->storage_count] =
        (struct pickle_storage){.key = cell[2].text,
                                .key_bytes = (size_t)cell[2].count,
                                .dtype = globals[cell[1].at].dtype,
                                .element_bytes = globals[cell[1].at].element_bytes,
                                .count = cell[4].at};
    *storage = (struct value){.kind = VALUE_STORAGE, .at = dict->storage_count++};
    return STATUS_OK;
}
