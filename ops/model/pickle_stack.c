// The machine's stack. Tuples leave it for one array of cells.

#include "ops/base/room.h"
#include "ops/model/pickle_inner.h"

#define STACK_MOST ((size_t)1 << 16) // a dict's pairs come in lots of 1000

enum status pickle_append(struct values *values, struct value value) {
    void *items = values->items;
    TRY(room_for(&items, &values->room, values->count + 1, sizeof value));
    values->items = items;
    values->items[values->count++] = value;
    return STATUS_OK;
}

enum status pickle_push(struct machine *machine, struct value value) {
    if (machine->stack.count == STACK_MOST) return pickle_wrong(machine, "its stack is too deep");
    return pickle_append(&machine->stack, value);
}

enum status pickle_push_number(struct machine *machine, enum value_kind kind, int64_t number) {
    return pickle_push(machine, (struct value){.kind = kind, .at = number});
}

enum status pickle_pop(struct machine *machine, struct value *value) {
    struct values *stack = &machine->stack;
    if (stack->count == 0 || stack->items[stack->count - 1].kind == VALUE_MARK) {
        return pickle_wrong(machine, "its stack is empty");
    }
    *value = stack->items[--stack->count];
    return STATUS_OK;
}

enum status pickle_pop_to_mark(struct machine *machine, const struct value **values,
                               size_t *count) {
    struct values *stack = &machine->stack;
    size_t at = stack->count;
    while (at > 0 && stack->items[at - 1].kind != VALUE_MARK) {
        at--;
    }
    if (at == 0) return pickle_wrong(machine, "there is no mark on its stack");
    *values = stack->items + at;
    *count = stack->count - at;
    stack->count = at - 1;
    return STATUS_OK;
}

enum status pickle_push_tuple(struct machine *machine, const struct value *values, size_t count) {
    const struct value tuple = {
        .kind = VALUE_TUPLE, .count = (int64_t)count, .at = (int64_t)machine->cells.count};
    for (size_t i = 0; i < count; i++) {
        TRY(pickle_append(&machine->cells, values[i]));
    }
    return pickle_push(machine, tuple);
}
