// Maps a file, so that a checkpoint of any size costs page cache and no copy.

#include "ops/model/mapped_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum status mapped_file_open(const char *path, size_t most_bytes, struct mapped_file *file) {
    enum status status = STATUS_OK;
    struct stat about;
    void *bytes = NULL;
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a pipe's would wait
    if (descriptor < 0) {
        const bool wrong_path = errno == ENOENT || errno == ENOTDIR || errno == EACCES;
        LOG(ERROR, "cannot open %s: %s", path, strerror(errno));
        return wrong_path ? STATUS_USAGE : STATUS_IO;
    }
    if (fstat(descriptor, &about) != 0) {
        status = FAIL(IO, "cannot look at %s: %s", path, strerror(errno));
    } else if (!S_ISREG(about.st_mode)) {
        status = FAIL(MISMATCH, "%s is not a regular file", path);
    } else if ((uint64_t)about.st_size > most_bytes) {
        status = FAIL(MISMATCH, "%s has %lld bytes, more than the %zu such a file may have", path,
                      (long long)about.st_size, most_bytes);
    } else if (about.st_size > 0) {
        bytes = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (bytes == MAP_FAILED) {
            status = FAIL(IO, "cannot map %s: %s", path, strerror(errno));
        }
    }
    close(descriptor);
    if (status == STATUS_OK) *file = (struct mapped_file){bytes, (size_t)about.st_size};
    return status;
}

void mapped_file_close(struct mapped_file *file) {
    if (file->size > 0) {
        union {
            const void *mapped;
            void *writable;
        } memory = {file->bytes}; // munmap wants a pointer without const and writes nothing
        munmap(memory.writable, file->size);
    }
    *file = (struct mapped_file){0};
}
