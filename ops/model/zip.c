// Reads a zip from its end: the end record (its 64-bit form, if there is one, and then the two must
// agree), the directory that lies right before it, and each entry's own header. What readers of
// zips differ over is refused: comments, bytes behind the end, several disks, two entries of a name.

#include "ops/model/zip.h"

#include <stdlib.h>
#include <string.h>

#define END_BYTES     ((size_t)22)
#define LOCATOR_BYTES ((size_t)20)
#define END64_BYTES   ((size_t)56)
#define RECORD_BYTES  ((size_t)46) // of an entry in the directory, and its name behind it
#define HEADER_BYTES  ((size_t)30) // before an entry's data, and its name behind it
#define EXTRA_WIDE    1            // the extra field that holds 64-bit numbers
#define NAME_SHOWN    200

struct parsing {
    const char *path, *bytes;
    size_t size;
    size_t directory, directory_end; // offsets
    struct zip *zip;
};

// Little-endian, of any alignment.
static uint64_t number(const char *at, int bytes) {
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--) {
        value = value << 8 | (unsigned char)at[i];
    }
    return value;
}

static enum status wrong_entry(const struct parsing *parsing, const struct zip_entry *entry,
                               const char *what) {
    const size_t shown = entry->name_bytes < NAME_SHOWN ? entry->name_bytes : NAME_SHOWN;
    return FAIL(MISMATCH, "%s: zip entry %.*s: %s", parsing->path, (int)shown, entry->name, what);
}

static enum status wrong_end(const struct parsing *parsing, const char *what) {
    return FAIL(MISMATCH, "%s, byte %zu: %s: the file is damaged or no zip; fetch it again",
                parsing->path, parsing->directory_end, what);
}

struct end {
    uint64_t entries, bytes, at; // of the directory
};

// A field of the narrow record says the same as the wide one, or that it is too narrow.
static bool agrees(const char *narrow, int bytes, uint64_t wide) {
    const uint64_t value = number(narrow, bytes), full = (UINT64_C(1) << 8 * bytes) - 1;
    return value == wide || value == full;
}

static enum status read_end64(struct parsing *parsing, const char *narrow, struct end *end) {
    const char *locator = narrow - LOCATOR_BYTES;
    const size_t limit = (size_t)(locator - parsing->bytes);
    const uint64_t at = number(locator + 8, 8);
    if (limit < END64_BYTES || at > limit - END64_BYTES) {
        return wrong_end(parsing, "its zip64 end lies outside the file");
    }
    const char *wide = parsing->bytes + at;
    parsing->directory_end = (size_t)at;
    if (memcmp(wide, "PK\6\6", 4) != 0 || number(wide + 4, 8) != limit - at - 12) {
        return wrong_end(parsing, "there is no zip64 end where its locator says");
    }
    *end = (struct end){number(wide + 32, 8), number(wide + 40, 8), number(wide + 48, 8)};
    const bool one_disk = number(locator + 4, 4) == 0 && number(locator + 16, 4) == 1 &&
                          number(wide + 16, 8) == 0 && number(wide + 24, 8) == end->entries;
    if (!one_disk) return wrong_end(parsing, "a zip of several disks");
    if (!agrees(narrow + 8, 2, end->entries) || !agrees(narrow + 10, 2, end->entries) ||
        !agrees(narrow + 12, 4, end->bytes) || !agrees(narrow + 16, 4, end->at)) {
        return wrong_end(parsing, "its two ends contradict each other");
    }
    return STATUS_OK;
}

static enum status find_directory(struct parsing *parsing) {
    struct end end;
    if (parsing->size < END_BYTES) {
        return FAIL(MISMATCH, "%s has %zu bytes: no zip", parsing->path, parsing->size);
    }
    parsing->directory_end = parsing->size - END_BYTES;
    const char *record = parsing->bytes + parsing->directory_end;
    if (memcmp(record, "PK\5\6", 4) != 0 || number(record + 20, 2) != 0) {
        return wrong_end(parsing, "the file does not end as a zip does");
    }
    if (number(record + 4, 4) != 0) return wrong_end(parsing, "a zip of several disks");
    end = (struct end){number(record + 10, 2), number(record + 12, 4), number(record + 16, 4)};
    const bool wide =
        parsing->directory_end >= LOCATOR_BYTES && memcmp(record - LOCATOR_BYTES, "PK\6\7", 4) == 0;
    if (wide) TRY(read_end64(parsing, record, &end));
    if (!wide && number(record + 8, 2) != end.entries) {
        return wrong_end(parsing, "a zip of several disks");
    }
    if (end.at > parsing->directory_end || end.bytes != parsing->directory_end - end.at) {
        return wrong_end(parsing, "its directory does not end where the end record begins");
    }
    if (end.entries > end.bytes / RECORD_BYTES) {
        return wrong_end(parsing, "more entries than its directory has room for");
    }
    parsing->directory = (size_t)end.at;
    parsing->zip->count = (int64_t)end.entries;
    return STATUS_OK;
}

struct place {
    uint64_t bytes, packed, at; // of an entry: its size, its size in the file, its header's offset
};

// The fields that are full stand in an extra field, in this order.
static enum status widen(const struct parsing *parsing, const struct zip_entry *entry,
                         const char *extra, size_t left, struct place *place) {
    uint64_t *const fields[] = {&place->bytes, &place->packed, &place->at};
    const char *at = NULL;
    size_t room = 0;
    while (at == NULL && left >= 4) {
        const size_t bytes = (size_t)number(extra + 2, 2);
        if (bytes > left - 4) {
            return wrong_entry(parsing, entry, "an extra field passes its record");
        }
        if (number(extra, 2) == EXTRA_WIDE) {
            at = extra + 4;
            room = bytes;
        }
        extra += 4 + bytes;
        left -= 4 + bytes;
    }
    for (int i = 0; i < 3; i++) {
        if (*fields[i] != UINT32_MAX) continue;
        if (room < 8) return wrong_entry(parsing, entry, "its 64-bit size or place is missing");
        *fields[i] = number(at, 8);
        at += 8;
        room -= 8;
    }
    return STATUS_OK;
}

// The entry's own header must tell the same, and the data behind it end before the directory.
static enum status find_data(const struct parsing *parsing, uint64_t at, uint64_t bytes,
                             struct zip_entry *entry) {
    if (at > parsing->directory || parsing->directory - at < HEADER_BYTES) {
        return wrong_entry(parsing, entry, "lies outside the file");
    }
    const char *header = parsing->bytes + at;
    const size_t room = parsing->directory - (size_t)at - HEADER_BYTES;
    const size_t names = (size_t)(number(header + 26, 2) + number(header + 28, 2));
    if (memcmp(header, "PK\3\4", 4) != 0) {
        return wrong_entry(parsing, entry, "there is no entry where the directory says");
    }
    if (names > room || bytes > room - names) {
        return wrong_entry(parsing, entry, "reaches past the end of the file's data");
    }
    if (number(header + 26, 2) != entry->name_bytes || number(header + 8, 2) != 0 ||
        memcmp(header + HEADER_BYTES, entry->name, entry->name_bytes) != 0) {
        return wrong_entry(parsing, entry, "the directory and the entry contradict each other");
    }
    entry->header = header;
    entry->data = header + HEADER_BYTES + names;
    entry->bytes = (size_t)bytes;
    return STATUS_OK;
}

static enum status read_entry(const struct parsing *parsing, size_t *at, struct zip_entry *entry) {
    const char *record = parsing->bytes + *at;
    const size_t left = parsing->directory_end - *at;
    if (left < RECORD_BYTES || memcmp(record, "PK\1\2", 4) != 0) {
        return wrong_end(parsing, "its directory is cut off or holds something else");
    }
    const size_t extra = (size_t)number(record + 30, 2);
    struct place place = {number(record + 24, 4), number(record + 20, 4), number(record + 42, 4)};
    *entry = (struct zip_entry){.name = record + RECORD_BYTES,
                                .name_bytes = (size_t)number(record + 28, 2),
                                .crc = (uint32_t)number(record + 16, 4)};
    const size_t whole = RECORD_BYTES + entry->name_bytes + extra + (size_t)number(record + 32, 2);
    if (whole > left) {
        entry->name_bytes = 0;
        return wrong_end(parsing, "an entry of its directory is cut off");
    }
    if ((number(record + 8, 2) & 1) != 0) return wrong_entry(parsing, entry, "is encrypted");
    if (number(record + 10, 2) != 0) {
        return wrong_entry(parsing, entry,
                           "is compressed; torch.save stores entries as they are: unzip the file "
                           "and zip it again with `zip -0`");
    }
    TRY(widen(parsing, entry, entry->name + entry->name_bytes, extra, &place));
    if (place.bytes != place.packed) {
        return wrong_entry(parsing, entry, "is stored, but with two sizes");
    }
    *at += whole;
    return find_data(parsing, place.at, place.bytes, entry);
}

static int by_place(const void *a, const void *b) {
    const struct zip_entry *x = a, *y = b;
    return (x->header > y->header) - (x->header < y->header);
}

static int by_name(const void *a, const void *b) {
    const struct zip_entry *x = a, *y = b;
    const size_t bytes = x->name_bytes < y->name_bytes ? x->name_bytes : y->name_bytes;
    const int order = memcmp(x->name, y->name, bytes);
    return order != 0 ? order : (x->name_bytes > y->name_bytes) - (x->name_bytes < y->name_bytes);
}

static enum status check_entries(const struct parsing *parsing) {
    struct zip_entry *entries = parsing->zip->entries;
    const size_t count = (size_t)parsing->zip->count;
    qsort(entries, count, sizeof *entries, by_place);
    for (size_t i = 1; i < count; i++) {
        if (entries[i].header < entries[i - 1].data + entries[i - 1].bytes) {
            return wrong_entry(parsing, &entries[i], "overlaps another");
        }
    }
    qsort(entries, count, sizeof *entries, by_name);
    for (size_t i = 1; i < count; i++) {
        if (by_name(&entries[i - 1], &entries[i]) == 0) {
            return wrong_entry(parsing, &entries[i], "stands twice");
        }
    }
    return STATUS_OK;
}

static enum status read_entries(const struct parsing *parsing) {
    const struct zip *zip = parsing->zip;
    size_t at = parsing->directory;
    for (int64_t i = 0; i < zip->count; i++) {
        struct zip_entry entry;
        TRY(read_entry(parsing, &at, &entry));
        zip->entries[i] = entry;
    }
    if (at != parsing->directory_end) return wrong_end(parsing, "bytes behind its directory");
    return check_entries(parsing);
}

enum status zip_parse(const char *path, const char *bytes, size_t size, struct zip *parsed) {
    struct zip zip = {0};
    struct parsing parsing = {.path = path, .bytes = bytes, .size = size, .zip = &zip};
    enum status status = STATUS_OK;
    TRY_OUT(status, find_directory(&parsing));
    zip.entries = calloc((size_t)zip.count + 1, sizeof *zip.entries);
    if (zip.entries == NULL) {
        status = FAIL(NO_MEMORY, "%s: %lld zip entries", path, (long long)zip.count);
        goto out;
    }
    TRY_OUT(status, read_entries(&parsing));
    *parsed = zip;
    zip = (struct zip){0};
out:
    zip_free(&zip);
    return status;
}

const struct zip_entry *zip_find(const struct zip *zip, const char *name, size_t name_bytes) {
    const struct zip_entry wanted = {.name = name, .name_bytes = name_bytes};
    if (zip->count == 0) return NULL;
    return bsearch(&wanted, zip->entries, (size_t)zip->count, sizeof wanted, by_name);
}

void zip_free(struct zip *zip) {
    free(zip->entries);
    *zip = (struct zip){0};
}

bool zip_entry_is_whole(const struct zip_entry *entry) {
    uint32_t table[256];
    uint32_t crc = UINT32_MAX;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++) {
            table[i] = table[i] >> 1 ^ (0xEDB88320 & (0 - (table[i] & 1)));
        }
    }
    for (size_t i = 0; i < entry->bytes; i++) {
        crc = crc >> 8 ^ table[(crc ^ (unsigned char)entry->data[i]) & 0xFF];
    }
    return ~crc == entry->crc;
}
