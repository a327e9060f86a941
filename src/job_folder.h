#pragma once
// A folder in shared memory for one job's ranks, which nothing outlives for long: it is removed at the
// end, or, if its job was killed, by the next job.

#define JOB_FOLDERS "/dev/shm"

struct job_folder {
    char path[64]; // "": there is none
    int lock;      // on the folder; children inherit it, so it is held until the last has ended
};

// Removes what killed jobs left, then makes one. Without one, path is "" and nothing is said: there
// are other places.
void job_folder_open(struct job_folder *folder);
void job_folder_close(struct job_folder *folder);
