#pragma once
// Every outcome a call can have, and two ways to pass one on.

#include "ops/base/linkage.h"
#include "ops/base/log.h"

C_BEGIN

// One row an outcome: name, text, the exit code it means when it ends the program.
// The exit codes are part of the interface (README, "Exit codes"): never renumber.
#define STATUS_LIST(X)                                                    \
    X(OK, "ok", 0)                                                        \
    X(AGAIN, "nothing there yet", 1)                                      \
    X(END, "no more", 0)                                                  \
    X(UNEXPECTED, "unexpected failure", 1)                                \
    X(NO_MEMORY, "out of memory", 1)                                      \
    X(IO, "input or output failed", 1)                                    \
    X(USAGE, "wrong usage or configuration", 2)                           \
    X(BAD_INPUT, "more bad input than allowed", 3)                        \
    X(MISMATCH, "model, tokenizer, state or numerics do not fit", 4)      \
    X(SOME_BAD, "done, but some documents were bad", 5)                   \
    X(BROKER, "broker unreachable or not keeping what it confirmed", 140) \
    X(FENCED, "fenced by another instance of this job", 141)              \
    X(PEER, "a rank or device was lost", 142)                             \
    X(STOPPED, "stopped by a signal, everything finished is committed", 143)

enum MUST_CHECK status {
#define X(name, text, exit_code) STATUS_##name,
    STATUS_LIST(X)
#undef X
};

const char *status_text(enum status status);
int status_exit_code(enum status status);

// Pass a failure up unchanged.
#define TRY(call)                                         \
    do {                                                  \
        enum status try_status_ = (call);                 \
        if (try_status_ != STATUS_OK) return try_status_; \
    } while (0)

// Pass a failure to the single exit `out:` of a function that holds something.
#define TRY_OUT(status, call)                \
    do {                                     \
        (status) = (call);                   \
        if ((status) != STATUS_OK) goto out; \
    } while (0)

// Log the detail where it is known, then hand the code up: return FAIL(IO, "cannot ...").
#define FAIL(code, ...) (LOG(ERROR, __VA_ARGS__), STATUS_##code)

C_END
