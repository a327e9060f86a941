#define _GNU_SOURCE // for nftw, mkdtemp and flock

#include "src/job_folder.h"

#include "ops/base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

// A folder gets its name once its lock is held, so one with the name and without a holder is dead.
#define NAME     "longscan-ranks-"
#define NEW_NAME "longscan-new-"

static int remove_entry(const char *path, const struct stat *what, int kind, struct FTW *place) {
    (void)what, (void)kind, (void)place;
    return remove(path);
}

static int remove_folder(const char *path) {
    return nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

// -1: it is in use, or none of ours.
static int lock_folder(const char *path) {
    struct stat about;
    const int lock = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (lock < 0) return -1;
    if (fstat(lock, &about) == 0 && about.st_uid == geteuid() &&
        flock(lock, LOCK_EX | LOCK_NB) == 0) {
        return lock;
    }
    close(lock);
    return -1;
}

static void remove_dead(void) {
    const struct dirent *entry = NULL;
    DIR *folders = opendir(JOB_FOLDERS);
    if (folders == NULL) return;
    while ((entry = readdir(folders)) != NULL) {
        char path[sizeof JOB_FOLDERS + sizeof entry->d_name];
        if (strncmp(entry->d_name, NAME, sizeof NAME - 1) != 0) continue;
        snprintf(path, sizeof path, "%s/%s", JOB_FOLDERS, entry->d_name);
        const int lock = lock_folder(path);
        if (lock < 0) continue;
        if (remove_folder(path) == 0)
            LOG(INFO, "run: removed %s, left by a job that was killed", path);
        close(lock);
    }
    closedir(folders);
}

void job_folder_open(struct job_folder *folder) {
    char made[] = JOB_FOLDERS "/" NEW_NAME "XXXXXX";
    *folder = (struct job_folder){.lock = -1};
    remove_dead();
    if (mkdtemp(made) == NULL) return;
    folder->lock = lock_folder(made);
    snprintf(folder->path, sizeof folder->path, "%s/%s%s", JOB_FOLDERS, NAME,
             made + sizeof JOB_FOLDERS "/" NEW_NAME - 1);
    if (folder->lock >= 0 && rename(made, folder->path) == 0) return;
    remove_folder(made);
    job_folder_close(&(struct job_folder){.lock = folder->lock});
    *folder = (struct job_folder){.lock = -1};
}

void job_folder_close(struct job_folder *folder) {
    if (folder->path[0] != '\0' && remove_folder(folder->path) != 0) {
        LOG(WARN, "run: cannot remove %s: %s", folder->path, strerror(errno));
    }
    if (folder->lock >= 0) close(folder->lock);
    *folder = (struct job_folder){.lock = -1};
}
