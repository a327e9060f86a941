// The MPI link under the communication thread, for mpirun with any number of ranks:
//
//   mpi_link_check                  messages, states, hops; 0 if all is right
//   mpi_link_check --group N        the same in groups of N ranks
//   mpi_link_check --large          a state of more than 2 GiB from rank 0 to rank 1
//   mpi_link_check --fail CODE      rank 1 fails with CODE, which mpirun must return
//   mpi_link_check --silent         rank 1 says nothing: 142
//   mpi_link_check --late           rank 0 leaves three seconds after the others: 0

#include "pipeline/mpi_link.h"
#include "tests/exchange.h"

enum { PATIENT_MS = 60000, SHORT_MS = 1500 };

static void pause_ms(int64_t ms) {
    const struct timespec pause = {.tv_sec = (time_t)(ms / 1000),
                                   .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&pause, NULL);
}

// Everyone's message of 3 MiB to everyone else.
static void all_to_all(struct rank_thread *self, struct comm *comm) {
    enum { BYTES = 3 << 20 };
    for (int32_t peer = 0; peer < self->link->ranks; peer++) {
        struct message message = {
            .kind = MESSAGE_RESULT, .peer = peer, .bytes = BYTES, .data = malloc(BYTES)};
        EXPECT(self, message.data != NULL);
        memset(message.data, self->link->rank + 1, BYTES);
        EXPECT(self, comm_send(comm, &message) == STATUS_OK);
    }
    for (int32_t i = 0; i < self->link->ranks; i++) {
        struct message message = {0};
        EXPECT(self, comm_next(comm, MESSAGE_RESULT, PATIENT_MS, &message) == STATUS_OK);
        if (message.data == NULL) return;
        const char *data = message.data;
        EXPECT(self, message.bytes == BYTES && data[0] == message.peer + 1 &&
                         data[BYTES - 1] == message.peer + 1);
        free(message.data);
    }
}

static void gathers(struct rank_thread *self) {
    int32_t all[64] = {0};
    const int32_t mine = 10 + self->link->rank;
    EXPECT(self, self->link->ranks <= 64);
    EXPECT(self,
           self->link->table->gather(self->link, &mine, sizeof mine, all, PATIENT_MS) == STATUS_OK);
    for (int32_t r = 0; r < self->link->ranks; r++) {
        EXPECT(self, all[r] == 10 + r);
    }
}

static void large_state(struct rank_thread *self, struct comm *comm) {
    const size_t bytes = ((size_t)9 << 28) + 12345; // 2.25 GiB: three pieces
    struct backend backend = host_backend();
    struct transport *transport = NULL;
    struct transfer *transfer = NULL;
    EXPECT(self, host_transport_open(comm, &backend, &transport) == STATUS_OK);
    if (self->link->rank < 2) {
        unsigned char *data = calloc(1, bytes);
        EXPECT(self, data != NULL);
        if (self->link->rank == 0) {
            for (size_t i = 0; i < bytes; i += 4093) {
                data[i] = (unsigned char)(i / 4093 % 251);
            }
            EXPECT(self, transport->table->send(transport, CHANNEL_MOVES, 1, 7, data, bytes,
                                                &transfer) == STATUS_OK);
        } else {
            EXPECT(self, transport->table->receive(transport, CHANNEL_MOVES, 0, 7, data, bytes,
                                                   &transfer) == STATUS_OK);
        }
        EXPECT(self, transport->table->finish(transport, &transfer) == STATUS_OK);
        bool same = true;
        for (size_t i = 0; i < bytes; i += 4093) {
            same = same && data[i] == i / 4093 % 251;
        }
        EXPECT(self, same);
        free(data);
    }
    transport->table->close(transport);
}

// Ends the job with the exit code that a peer gave.
static void wait_for_failure(struct comm *comm, struct link *world) {
    struct message message;
    while (comm_next(comm, MESSAGE_STEP, PATIENT_MS, &message) != STATUS_PEER) {}
    pause_ms(300); // the one who failed has told everyone by now
    world->table->abort(world, comm_failure(comm));
}

static void run(struct rank_thread *self, struct mpi_job *job, const char *mode, int number) {
    struct link *world = mpi_job_world(job);
    if (strcmp(mode, "--silent") == 0 && self->link->rank == 1) pause_ms(PATIENT_MS);
    struct comm *comm = comm_of(self, number == 0 ? SHORT_MS : PATIENT_MS);
    if (strcmp(mode, "--silent") == 0) {
        wait_for_failure(comm, world);
    } else if (strcmp(mode, "--fail") == 0) {
        if (self->link->rank == 1) {
            comm_fail(comm, number);
            comm_close(comm, true);
            pause_ms(5000); // the others stop the job
            return;
        }
        wait_for_failure(comm, world);
    } else if (strcmp(mode, "--large") == 0) {
        large_state(self, comm);
    } else if (strcmp(mode, "--late") == 0) {
        if (self->link->rank == 0) pause_ms(3000);
    } else {
        all_to_all(self, comm);
        if (self->link->ranks > 1) {
            struct backend backend = host_backend();
            exchange_states(self, comm, &backend);
            if (self->link->rank < 2) ping_pong(self, comm);
        }
    }
    EXPECT(self, comm_health(comm) == STATUS_OK);
    comm_close(comm, false);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    const int number = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0;
    struct mpi_job *job = NULL;
    const bool groups = strcmp(mode, "--group") == 0;
    atomic_int wrong = 0;
    alarm(120);
    if (groups && number < 1) {
        fprintf(stderr, "usage: mpi_link_check --group RANKS\n");
        return 2;
    }
    if (!mpi_launched()) fprintf(stderr, "not started by mpirun: one rank\n");
    const enum status status = mpi_job_open(groups ? number : 0, NULL, &job);
    if (status != STATUS_OK) return status_exit_code(status);
    struct rank_thread world = {.link = mpi_job_world(job), .wrong = &wrong};
    struct rank_thread self = {.link = mpi_job_group(job), .wrong = &wrong};
    log_set_rank(world.link->rank);
    EXPECT(&world, self.link->ranks == (groups ? number : world.link->ranks));
    EXPECT(&world, self.link->rank == world.link->rank % self.link->ranks);
    EXPECT(&world, mpi_job_local_ranks(job) >= 1);
    EXPECT(&world, mpi_job_local_rank(job) >= 0);
    EXPECT(&world, mpi_job_local_rank(job) < mpi_job_local_ranks(job));
    gathers(&world);
    gathers(&self);
    run(&self, job, mode, *mode != '\0' && !groups && strcmp(mode, "--large") != 0 ? number : 1);
    gathers(&world); // after the communication thread the main thread may call again
    mpi_job_close(job);
    return wrong == 0 ? 0 : 1;
}
