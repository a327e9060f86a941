// Any bytes as a torch file, or, if they do not begin as a zip does, as the pickle of one whose zip
// is right: what is taken must be names and tensors that lie inside the file, to the last byte.

#include "ops/model/torch_file.h"
#include "tests/fuzz/fuzz.h"
#include "tests/torch_case.h"

#define PICKLE_MOST 32768

static void read_tensor(const struct tensor *tensor, const char *bytes, size_t size) {
    const char *end = bytes + size;
    CHECK(tensor->data >= bytes && tensor->data <= end);
    CHECK(tensor->bytes <= (size_t)(end - tensor->data));
    CHECK(tensor->dims >= 0 && tensor->dims <= TENSOR_DIMS_MOST && tensor->count >= 0);
    int64_t count = 1;
    for (int32_t i = 0; i < tensor->dims; i++) {
        CHECK(tensor->shape[i] >= 0);
        count *= tensor->shape[i];
    }
    CHECK(count == tensor->count);
    if (tensor->dtype == DTYPE_OTHER) return;
    float *room = malloc((size_t)tensor->count * sizeof *room + 1);
    const float *values;
    double sum = 0;
    CHECK(room != NULL);
    tensor_f32(tensor, room, &values);
    for (int64_t i = 0; i < tensor->count; i++) {
        sum += (double)values[i];
    }
    CHECK(sum == sum || sum != sum); // every value has been read
    free(room);
}

static void try_file(const char *bytes, size_t size) {
    struct tensors tensors;
    if (torch_parse("fuzz", bytes, size, &tensors) != STATUS_OK) return;
    for (int64_t i = 0; i < tensors.count; i++) {
        const struct tensor *tensor = &tensors.items[i];
        read_tensor(tensor, bytes, size);
        CHECK(tensors_find(&tensors, tensor->name) == tensor);
    }
    tensors_free(&tensors);
}

static void try_pickle(const char *bytes, size_t size) {
    static const float floats[6] = {1, 2, 3, 4, 5, 6};
    const struct entry_lie none = {0};
    struct zip_case *zip = calloc(1, sizeof *zip);
    CHECK(zip != NULL);
    zip_add(zip, "a/data.pkl", bytes, size, &none);
    zip_add(zip, "a/data/0", floats, sizeof floats, &none);
    zip_add(zip, "a/data/1", floats, 8, &none);
    zip_end(zip, &(struct end_lie){.wide = true});
    char *file = malloc(zip->file.count); // no byte to spare
    CHECK(file != NULL);
    memcpy(file, zip->file.bytes, zip->file.count);
    try_file(file, zip->file.count);
    free(file);
    free(zip);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *bytes = (const char *)data;
    if (size > 0 && bytes[0] == 'P') {
        try_file(bytes, size);
    } else if (size > 0 && size <= PICKLE_MOST) {
        try_pickle(bytes, size);
    }
    return 0;
}
