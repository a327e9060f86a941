#pragma once
// A rank's communication thread: it alone calls the link. Everybody else leaves work with it.
// It carries the control messages (leader to members and back), the states of the host transport,
// and a sign of life to every peer each second.

#include "pipeline/link.h"

struct comm;

struct comm_settings {
    int32_t peer_timeout_ms; // a peer silent for this long is lost
    bool (*stop)(void);      // a signal asked this process to stop; NULL: none can
};

enum message_kind { MESSAGE_STEP, MESSAGE_RESULT, MESSAGE_FAILURE, MESSAGE_KINDS };

#define MESSAGE_MOST ((size_t)1 << 30) // bytes; a peer that announces more is not believed

// One malloc'd block of bytes, from or to a peer.
struct message {
    enum message_kind kind;
    int32_t peer;
    size_t bytes;
    void *data;
};

// Borrows the link. Starts the thread, from which silence is counted: all ranks open theirs within
// the peer deadline, so before slow work such as reading a model. Errors: NO_MEMORY, UNEXPECTED.
enum status comm_open(struct link *link, const struct comm_settings *settings,
                      struct comm **opened);

// Owns: message->data becomes comm's, also on failure, and NULL. To oneself works too. kind is not
// MESSAGE_FAILURE, which comm_fail sends. Thread: any, as for all but open and close.
// Errors: PEER, NO_MEMORY, USAGE (more than MESSAGE_MOST bytes).
enum status comm_send(struct comm *comm, struct message *message);
// The next message of this kind, waiting at most timeout_ms. Owns: data is the caller's.
// Errors: AGAIN, PEER (a peer was lost, or sent MESSAGE_FAILURE), with the reason logged once.
enum status comm_next(struct comm *comm, enum message_kind kind, int32_t timeout_ms,
                      struct message *message);
// PEER once a peer is lost or any transfer failed.
enum status comm_health(struct comm *comm);
// Has any rank of the job, in whatever group, been asked to stop? Known within a second.
bool comm_stop_asked(struct comm *comm);
// Tell every peer that this rank ends with `exit_code` for a reason of its own; best effort, at
// most a second. From then on the waits of this rank fail with PEER too.
void comm_fail(struct comm *comm, int exit_code);
// The exit code a peer gave with its MESSAGE_FAILURE, or 142 for a silent one; 0: none failed.
int comm_failure(struct comm *comm);
// Says farewell to all peers, waits for theirs (as long as they give signs of life), stops the
// thread; a peer that said farewell is never "lost". failed: leave at once; what was under way is
// given up. Then, with MPI, its memory must stay until the job is closed. Accepts NULL.
void comm_close(struct comm *comm, bool failed);

// The transport over this communication thread. States in memory that is not the host's are staged.
// Borrows both; after a failure close comm first, which may still read from and write to what is
// staged.
enum status host_transport_open(struct comm *comm, struct backend *backend,
                                struct transport **opened);
