// The machine: a stack, a memo, and the opcodes that pickle protocol 2 writes for a state dict.
// Tuples are cells in one array, dicts are numbers; what is put into which dict is a list of pairs,
// of which those of the last dict are the answer.

#include "ops/model/pickle.h"

#include "ops/model/pickle_inner.h"

#include <stdlib.h>
#include <string.h>

#define MEMO_MOST ((size_t)1 << 20)

enum opcode {
    OP_MARK = '(',
    OP_STOP = '.',
    OP_TUPLE = 't',
    OP_EMPTY_TUPLE = ')',
    OP_EMPTY_DICT = '}',
    OP_NONE = 'N',
    OP_BININT = 'J',
    OP_BININT1 = 'K',
    OP_BININT2 = 'M',
    OP_BINUNICODE = 'X',
    OP_GLOBAL = 'c',
    OP_BINPUT = 'q',
    OP_LONG_BINPUT = 'r',
    OP_BINGET = 'h',
    OP_LONG_BINGET = 'j',
    OP_BINPERSID = 'Q',
    OP_REDUCE = 'R',
    OP_BUILD = 'b',
    OP_SETITEM = 's',
    OP_SETITEMS = 'u',
    OP_PROTO = 0x80,
    OP_TUPLE1 = 0x85,
    OP_TUPLE2 = 0x86,
    OP_TUPLE3 = 0x87,
    OP_NEWTRUE = 0x88,
    OP_NEWFALSE = 0x89,
    OP_LONG1 = 0x8a,
};

// The next bytes; NULL: there are not as many.
static const char *take(struct machine *machine, size_t bytes) {
    const char *taken = machine->bytes + machine->at;
    if (bytes > machine->size - machine->at) return NULL;
    machine->at += bytes;
    return taken;
}

static enum status cut_off(const struct machine *machine) {
    return pickle_wrong(machine, "the pickle is cut off");
}

// Little-endian, two's complement if `negative` may be.
static enum status take_number(struct machine *machine, size_t bytes, bool negative,
                               int64_t *number) {
    const char *from = take(machine, bytes);
    uint64_t value = 0;
    if (from == NULL) return cut_off(machine);
    for (size_t i = bytes; i > 0; i--) {
        value = value << 8 | (unsigned char)from[i - 1];
    }
    if (negative && bytes > 0 && bytes < 8 && (from[bytes - 1] & 0x80) != 0) {
        value |= UINT64_MAX << 8 * bytes;
    }
    *number = (int64_t)value;
    return STATUS_OK;
}

static enum status op_tuple_of(struct machine *machine, size_t count) {
    struct value values[3];
    for (size_t i = count; i > 0; i--) {
        TRY(pickle_pop(machine, &values[i - 1]));
    }
    return pickle_push_tuple(machine, values, count);
}

static enum status op_tuple(struct machine *machine) {
    const struct value *values;
    size_t count;
    TRY(pickle_pop_to_mark(machine, &values, &count));
    return pickle_push_tuple(machine, values, count);
}

static enum status op_int(struct machine *machine, size_t bytes, bool negative) {
    int64_t number;
    TRY(take_number(machine, bytes, negative, &number));
    return pickle_push_number(machine, VALUE_INT, number);
}

static enum status op_long(struct machine *machine) {
    int64_t bytes;
    TRY(take_number(machine, 1, false, &bytes));
    if (bytes > 8) return pickle_wrong(machine, "a number of more than 64 bits");
    return op_int(machine, (size_t)bytes, true);
}

static enum status op_text(struct machine *machine) {
    struct value value = {.kind = VALUE_TEXT};
    TRY(take_number(machine, 4, false, &value.count));
    value.text = take(machine, (size_t)value.count);
    if (value.text == NULL) return cut_off(machine);
    return pickle_push(machine, value);
}

static enum status take_line(struct machine *machine, const char **line, size_t *bytes) {
    const char *from = machine->bytes + machine->at;
    const char *end = memchr(from, '\n', machine->size - machine->at);
    if (end == NULL) return cut_off(machine);
    *line = from;
    *bytes = (size_t)(end - from);
    machine->at += *bytes + 1;
    return STATUS_OK;
}

static enum status op_global(struct machine *machine) {
    const char *module, *name;
    size_t module_bytes, name_bytes;
    struct value global;
    TRY(take_line(machine, &module, &module_bytes));
    TRY(take_line(machine, &name, &name_bytes));
    TRY(pickle_global(machine, module, module_bytes, name, name_bytes, &global));
    return pickle_push(machine, global);
}

// What is put into the memo stays on the stack.
static enum status op_put(struct machine *machine, size_t bytes) {
    struct value value;
    int64_t at;
    TRY(take_number(machine, bytes, false, &at));
    if ((size_t)at >= MEMO_MOST) return pickle_wrong(machine, "a memo of over a million places");
    TRY(pickle_pop(machine, &value));
    while (machine->memo.count <= (size_t)at) {
        TRY(pickle_append(&machine->memo, (struct value){.kind = VALUE_UNSET}));
    }
    machine->memo.items[at] = value;
    return pickle_push(machine, value);
}

static enum status op_get(struct machine *machine, size_t bytes) {
    int64_t at;
    TRY(take_number(machine, bytes, false, &at));
    if ((size_t)at >= machine->memo.count || machine->memo.items[at].kind == VALUE_UNSET) {
        return pickle_wrong(machine, "it takes from its memo what was never put there");
    }
    return pickle_push(machine, machine->memo.items[at]);
}

static enum status op_storage(struct machine *machine) {
    struct value id, storage;
    TRY(pickle_pop(machine, &id));
    TRY(pickle_storage_of(machine, &id, &storage));
    return pickle_push(machine, storage);
}

static enum status op_call(struct machine *machine) {
    struct value global, arguments, made;
    TRY(pickle_pop(machine, &arguments));
    TRY(pickle_pop(machine, &global));
    TRY(pickle_call(machine, &global, &arguments, &made));
    return pickle_push(machine, made);
}

static enum status run_op(struct machine *machine, unsigned char opcode) {
    switch (opcode) {
    case OP_MARK: return pickle_push_number(machine, VALUE_MARK, 0);
    case OP_NONE: return pickle_push_number(machine, VALUE_NONE, 0);
    case OP_NEWTRUE: return pickle_push_number(machine, VALUE_BOOL, 1);
    case OP_NEWFALSE: return pickle_push_number(machine, VALUE_BOOL, 0);
    case OP_EMPTY_DICT: return pickle_push_number(machine, VALUE_DICT, machine->dicts++);
    case OP_EMPTY_TUPLE: return pickle_push_tuple(machine, NULL, 0);
    case OP_TUPLE1: return op_tuple_of(machine, 1);
    case OP_TUPLE2: return op_tuple_of(machine, 2);
    case OP_TUPLE3: return op_tuple_of(machine, 3);
    case OP_TUPLE: return op_tuple(machine);
    case OP_BININT: return op_int(machine, 4, true);
    case OP_BININT1: return op_int(machine, 1, false);
    case OP_BININT2: return op_int(machine, 2, false);
    case OP_LONG1: return op_long(machine);
    case OP_BINUNICODE: return op_text(machine);
    case OP_GLOBAL: return op_global(machine);
    case OP_BINPUT: return op_put(machine, 1);
    case OP_LONG_BINPUT: return op_put(machine, 4);
    case OP_BINGET: return op_get(machine, 1);
    case OP_LONG_BINGET: return op_get(machine, 4);
    case OP_BINPERSID: return op_storage(machine);
    case OP_REDUCE: return op_call(machine);
    case OP_BUILD: return pickle_build(machine);
    case OP_SETITEM: return pickle_set(machine);
    case OP_SETITEMS: return pickle_set_all(machine);
    default: break;
    }
    return FAIL(MISMATCH, "%s, pickle byte %zu: opcode 0x%02x, which no state dict needs",
                machine->path, machine->op, opcode);
}

static enum status run(struct machine *machine) {
    const char *from = take(machine, 1);
    int64_t protocol;
    if (from == NULL) return cut_off(machine);
    if ((unsigned char)*from != OP_PROTO) return pickle_wrong(machine, "no pickle begins so");
    TRY(take_number(machine, 1, false, &protocol));
    if (protocol != 2) {
        return FAIL(MISMATCH,
                    "%s: pickle protocol %lld; torch.save writes 2 if nobody asks for "
                    "another",
                    machine->path, (long long)protocol);
    }
    for (;;) {
        machine->op = machine->at;
        from = take(machine, 1);
        if (from == NULL) return cut_off(machine);
        if (*from == OP_STOP) break;
        TRY(run_op(machine, (unsigned char)*from));
    }
    if (machine->at != machine->size) return pickle_wrong(machine, "bytes follow its end");
    if (machine->stack.count != 1) return pickle_wrong(machine, "it does not end with one value");
    return STATUS_OK;
}

enum status pickle_parse(const char *path, const char *bytes, size_t size,
                         struct state_dict *parsed) {
    struct state_dict dict = {0};
    struct machine machine = {.path = path, .bytes = bytes, .size = size, .dict = &dict};
    enum status status = STATUS_OK;
    if (size > PICKLE_BYTES_MOST) {
        return FAIL(MISMATCH, "%s: a pickle of %zu bytes, more than the %zu such a one may have",
                    path, size, PICKLE_BYTES_MOST);
    }
    TRY_OUT(status, run(&machine));
    TRY_OUT(status, pickle_collect(&machine));
    *parsed = dict;
    dict = (struct state_dict){0};
out:
    state_dict_free(&dict);
    free(machine.stack.items);
    free(machine.memo.items);
    free(machine.cells.items);
    free(machine.pairs.items);
    return status;
}

void state_dict_free(struct state_dict *dict) {
    free(dict->storages);
    free(dict->tensors);
    free(dict->items);
    *dict = (struct state_dict){0};
}
