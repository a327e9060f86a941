// Any bytes as a safetensors file: what is taken must keep every promise of the header's checks,
// and every tensor must be readable to its last byte.

#include "ops/model/safetensors.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

static void check(bool condition) {
    if (!condition) abort();
}

static void read_tensor(const struct tensor *tensor, const uint8_t *data, size_t size) {
    const char *end = (const char *)data + size;
    check(tensor->data >= (const char *)data && tensor->data <= end);
    check(tensor->bytes <= (size_t)(end - tensor->data));
    check(tensor->dims >= 0 && tensor->dims <= TENSOR_DIMS_MOST && tensor->count >= 0);
    if (tensor->dtype == DTYPE_OTHER) return;
    float *room = malloc((size_t)tensor->count * sizeof *room + 1);
    const float *values;
    double sum = 0;
    check(room != NULL);
    tensor_f32(tensor, room, &values);
    for (int64_t i = 0; i < tensor->count; i++) {
        sum += (double)values[i];
    }
    check(sum == sum || sum != sum); // every value has been read
    free(room);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct tensors file;
    if (safetensors_parse("fuzz", (const char *)data, size, &file) != STATUS_OK) return 0;
    size_t bytes = 0;
    for (int64_t i = 0; i < file.count; i++) {
        const struct tensor *tensor = &file.items[i];
        read_tensor(tensor, data, size);
        check(tensors_find(&file, tensor->name) == tensor);
        bytes += tensor->bytes;
    }
    check(bytes + 8 <= size);
    check(tensors_find(&file, "") == NULL || file.count > 0);
    tensors_free(&file);
    return 0;
}
