// One copy of the weights for several ranks of a machine: threads and processes see what the first
// placed, by the same bits, without a copy; what does not suit keeps its own; nothing stays behind.

#include "ops/cpu/kernels.h"
#include "ops/op.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define OUTPUTS 200
#define INPUTS  70
#define ROWS    9

struct rank {
    struct backend *backend;
    struct packed_weight *packed;
    float *kept;
    float out[ROWS * OUTPUTS];
};

static float weight[OUTPUTS * INPUTS], in[ROWS * INPUTS];

static void fill(void) {
    for (int i = 0; i < OUTPUTS * INPUTS; i++) {
        weight[i] = (float)((i * 7919) % 1009) / 1009.0F - 0.5F;
    }
    for (int i = 0; i < ROWS * INPUTS; i++) {
        in[i] = (float)((i * 104729) % 997) / 997.0F - 0.5F;
    }
}

static void open_rank(struct rank *rank, enum cpu_dtype dtype, const char *isa) {
    const struct cpu_backend_settings settings = {.dtype = dtype, .threads = 1, .isa = isa};
    memset(rank, 0, sizeof *rank);
    assert_int_equal(cpu_backend_open(&settings, &rank->backend), STATUS_OK);
}

// What a model does: a tensor that is kept, a weight that is packed. Returns the shared bytes.
static size_t place(struct rank *rank, const float *values) {
    const struct backend_table *table = rank->backend->table;
    void *memory = NULL;
    assert_int_equal(table->keep(rank->backend, values, sizeof in, &memory), STATUS_OK);
    rank->kept = memory;
    assert_int_equal(table->pack(rank->backend, values, OUTPUTS, INPUTS, &rank->packed), STATUS_OK);
    return cpu_share_end(rank->backend);
}

static void multiply(struct rank *rank) {
    const struct linear_args args = {
        .in = {in,        ROWS, INPUTS,  INPUTS },
        .weight = rank->packed,
        .out = {rank->out, ROWS, OUTPUTS, OUTPUTS}
    };
    assert_int_equal(op_linear(rank->backend, &args), STATUS_OK);
}

static void close_rank(struct rank *rank) {
    rank->backend->table->release_packed(rank->backend, rank->packed);
    rank->backend->table->release(rank->backend, rank->kept);
    rank->backend->table->close(rank->backend);
}

// The others place zeros: whatever they see otherwise, the first has written.
static const float nothing[OUTPUTS * INPUTS];

static void test_threads(void **state) {
    struct rank own, rank[3];
    struct cpu_offer offer[3];
    (void)state;
    for (int dtype = CPU_F32; dtype <= CPU_BF16; dtype++) {
        open_rank(&own, (enum cpu_dtype)dtype, "auto");
        assert_int_equal(place(&own, weight), 0);
        multiply(&own);
        for (int i = 0; i < 3; i++) {
            open_rank(&rank[i], (enum cpu_dtype)dtype, "auto");
            cpu_share_offer(rank[i].backend, i == 0, &offer[i]);
        }
        for (int i = 2; i >= 0; i--) { // the first one last
            assert_true(cpu_share_begin(rank[i].backend, offer, 3, i));
            const size_t bytes = place(&rank[i], i == 0 ? weight : nothing);
            assert_true(bytes >= sizeof weight / 2 + sizeof in);
        }
        assert_ptr_equal(rank[1].packed->data, rank[2].packed->data);
        close_rank(&rank[0]); // a rank that fails leaves while others compute
        for (int i = 1; i < 3; i++) {
            multiply(&rank[i]);
            assert_memory_equal(rank[i].out, own.out, sizeof own.out);
            assert_memory_equal(rank[i].kept, weight, sizeof in);
            close_rank(&rank[i]);
        }
        close_rank(&own);
    }
}

// Placed before it begins or after it has ended, a weight is the rank's own.
static void test_outside(void **state) {
    struct rank rank[2];
    struct cpu_offer offer[2];
    struct packed_weight *other = NULL;
    (void)state;
    for (int i = 0; i < 2; i++) {
        open_rank(&rank[i], CPU_F32, "auto");
        cpu_share_offer(rank[i].backend, i == 0, &offer[i]);
        assert_true(cpu_share_begin(rank[i].backend, offer, 2, i));
        place(&rank[i], i == 0 ? weight : nothing);
    }
    struct packed_weight *shared = rank[1].packed;
    struct backend *backend = rank[1].backend;
    assert_int_equal(backend->table->pack(backend, nothing, OUTPUTS, INPUTS, &other), STATUS_OK);
    assert_false(cpu_share_holds(cpu_backend_of(backend), other->data));
    assert_true(cpu_share_holds(cpu_backend_of(backend), shared->data));
    multiply(&rank[0]);
    multiply(&rank[1]);
    assert_memory_equal(rank[0].out, rank[1].out, sizeof rank[0].out);
    backend->table->release_packed(backend, other);
    close_rank(&rank[1]);
    close_rank(&rank[0]);
}

// Another machine, another dtype, another order of packing, or a process that is not there.
static void test_what_does_not_suit(void **state) {
    struct rank rank[2];
    struct cpu_offer offer[2], changed[2];
    (void)state;
    for (int turn = 0; turn < 5; turn++) {
        open_rank(&rank[0], CPU_BF16, "auto");
        open_rank(&rank[1], turn == 0 ? CPU_BF16X3 : CPU_BF16, "auto");
        for (int i = 0; i < 2; i++) {
            cpu_share_offer(rank[i].backend, i == 0, &offer[i]);
        }
        memcpy(changed, offer, sizeof changed);
        if (turn == 1) changed[0].machine++;
        if (turn == 2) changed[0].inode++;
        if (turn == 3) changed[0].process = 0;
        if (turn == 4) strcpy(changed[0].layout, "tiles 1 of another");
        assert_false(cpu_share_begin(rank[1].backend, changed, 2, 1));
        assert_int_equal(place(&rank[1], weight), 0);
        assert_false(cpu_share_holds(cpu_backend_of(rank[1].backend), rank[1].packed->data));
        rank[0].backend->table->close(rank[0].backend);
        close_rank(&rank[1]);
    }
}

// The child's side: the offer comes through a pipe, a letter goes back for each step.
static void child(int from, int to) {
    static struct rank rank;
    struct cpu_offer offer[2];
    const struct cpu_backend_settings settings = {.dtype = CPU_BF16X3, .threads = 1};
    char letter = 'n';
    if (cpu_backend_open(&settings, &rank.backend) != STATUS_OK) _exit(2);
    cpu_share_offer(rank.backend, false, &offer[1]);
    if (read(from, &offer[0], sizeof offer[0]) != (ssize_t)sizeof offer[0]) _exit(3);
    letter = cpu_share_begin(rank.backend, offer, 2, 1) ? 'y' : 'n';
    if (write(to, &letter, 1) != 1 || read(from, &letter, 1) != 1) _exit(4);
    place(&rank, nothing);
    multiply(&rank);
    if (write(to, rank.out, sizeof rank.out) != (ssize_t)sizeof rank.out) _exit(5);
    if (read(from, &letter, 1) != 0) _exit(6); // until the parent is done, or kills
    _exit(0);
}

static void test_processes(void **state) {
    static struct rank rank;
    static float got[ROWS * OUTPUTS];
    struct cpu_offer offer[2];
    int down[2], up[2];
    char letter = 'n';
    (void)state;
    assert_int_equal(pipe(down), 0);
    assert_int_equal(pipe(up), 0);
    const pid_t pid = fork(); // before there is any thread
    assert_true(pid >= 0);
    if (pid == 0) {
        close(down[1]); // so that the end of the parent is seen
        close(up[0]);
        child(down[0], up[1]);
    }
    open_rank(&rank, CPU_BF16X3, "auto");
    cpu_share_offer(rank.backend, true, &offer[0]);
    cpu_share_offer(rank.backend, false, &offer[1]);
    assert_int_equal(write(down[1], &offer[0], sizeof offer[0]), sizeof offer[0]);
    assert_int_equal(read(up[0], &letter, 1), 1);
    assert_int_equal(letter, 'y');
    assert_true(cpu_share_begin(rank.backend, offer, 2, 0));
    place(&rank, weight);
    multiply(&rank);
    assert_int_equal(write(down[1], "g", 1), 1);
    assert_int_equal(read(up[0], got, sizeof got), sizeof got);
    assert_memory_equal(got, rank.out, sizeof got);
    kill(pid, SIGKILL); // takes nothing from the others
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    multiply(&rank);
    assert_memory_equal(got, rank.out, sizeof got);
    close_rank(&rank);
    assert_int_not_equal(fcntl(offer[0].fd, F_GETFD), 0); // given back
    for (int i = 0; i < 2; i++) {
        close(down[i]);
        close(up[i]);
    }
}

// Ranks that a launcher has bound to cores of their own have those to themselves; the quota they share.
static void cores_are_shared_by_those_on_them(void **state) {
    (void)state;
    struct cpu_seat here;
    cpu_seat_here(&here);
    assert_int_equal(cpu_seats_shared(&here, 1, 0), 1);
    int64_t cores = 0;
    for (int i = 0; i < 1024; i++) {
        cores += (here.cores[i / 64] >> i % 64 & 1) != 0;
    }
    assert_int_equal(cores, cpu_cores_bound());
    struct cpu_seat seats[6] = {
        {.machine = 1}, {.machine = 1}, {.machine = 1}, {.machine = 1}, {.machine = 2}};
    seats[0].cores[0] = seats[4].cores[0] = seats[5].cores[0] = 0x0F;
    seats[1].cores[0] = 0xF0;
    seats[2].cores[15] = 1;
    seats[3].cores[0] = 0x18; // one core of each of the first two
    const int32_t shared[] = {2, 2, 1, 3, 1, 0};
    for (int32_t i = 0; i < 6; i++) {
        assert_int_equal(cpu_seats_shared(seats, 6, i), shared[i]);
    }
    // bound to so many, shared by so many; granted so many, shared by so many
    assert_int_equal(cpu_cores_share(16, 4, 0, 4), 4);
    assert_int_equal(cpu_cores_share(4, 1, 0, 4), 4);
    assert_int_equal(cpu_cores_share(4, 1, 8, 4), 2);
    assert_int_equal(cpu_cores_share(64, 2, 4, 2), 2);
    assert_int_equal(cpu_cores_share(5, 2, 0, 2), 2);
    assert_int_equal(cpu_cores_share(2, 4, 0, 4), 1);
    assert_int_equal(cpu_cores_share(8, 1, 1, 4), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_processes),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_outside),
        cmocka_unit_test(test_what_does_not_suit),
        cmocka_unit_test(cores_are_shared_by_those_on_them),
    };
    fill();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
