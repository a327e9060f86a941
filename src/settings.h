#pragma once
// Every option of every verb as one struct. src/options.c holds the one table that fills it, from
// defaults, --config FILE, LONGSCAN_<OPTION> and the command line, in rising order of precedence.

#include "ops/base/status.h"

#include <stdbool.h>
#include <stdint.h>

#define PROPERTIES_MOST    64  // -X key=value
#define RUN_ARGUMENTS_MOST 256 // of the verb that `run` starts

struct settings {
    // what to work on
    const char *model;                 // --model DIR
    const char *input;                 // --input SRC
    const char *output;                // --output DST; NULL: "-"
    const char *dead_letters;          // --dead-letters DST; NULL: bad input is only counted
    const char *windows;               // --windows kafka:TOPIC; NULL: windows stand in the results
    const char *encoding;              // --encoding protobuf|json: of messages that are written
    const char *print;                 // --print auto|json|table: results on standard output
    const char *format;                // --format auto|jsonl|text|u16|u32: of input files
    const char *input_format;          // --input-format tokens|jsonl|text: of a topic's messages
    const char *tokenizer;             // --tokenizer byte or PATH; NULL: what the model says
    const char *errors;                // --errors strict|replace: of text that is not UTF-8
    bool decode;                       // --decode: from tokens to text
    const char *id_field, *text_field; // --id-field id, --text-field text
    int64_t max_line;                  // --max-line 64m, bytes
    bool resume;                       // --resume: skip inputs whose output is complete
    bool no_clobber;                   // --no-clobber: refuse to replace an output
    int64_t limit;                     // --limit N documents; 0: all

    // what to compute
    const char *gated_norm; // --gated-norm auto|grouped|whole|before-gate
    bool bos;               // --bos: a document starts with the model's BOS token
    bool token_nll;         // --token-nll
    int64_t score_every;    // --score-every N tokens a window; 0: none

    // what to measure and to check
    const char *shape; // --shape 370m: random weights of an official shape in place of a model
    int64_t seed;      // --seed N of everything that is drawn
    int64_t repeat;    // --repeat N runs, of which medians are taken
    int64_t tokens;    // --tokens N of the document that the whole program is timed with; 0: some
    int64_t simulate;  // --simulate N ranks; 0: none
    int64_t hop_us;    // --hop-us N of one layer's state to the next rank; 0: measured, or assumed

    // verb `passkey`
    const char *lengths;     // --lengths 1k,2k,4k: of prompts, tokens at most
    const char *depths;      // --depths N, even, even:N or 0,0.5,1: where the key stands
    const char *positions;   // --positions 1k,8k: tokens before the key, in place of depths; NULL
    int64_t samples;         // --samples N a length, spread over the depths
    const char *style;       // --style paper|infinitebench|niah
    int64_t digits;          // --digits N of the key; 0: as the style has it
    const char *filler;      // --filler FILE: text around the key; NULL: the style's sentences
    int64_t add_prefix;      // --add-prefix N sentences before everything, of no meaning
    int64_t new_tokens;      // --new-tokens N to decode; 0: as the style has it
    bool unbranched;         // --unbranched: every prompt from its first token
    const char *show_sample; // --show-sample ID: print its prompt and leave
    bool lm_eval;            // --lm-eval: results in lm-evaluation-harness's shapes too
    int64_t trained_on;      // --trained-on N tokens, to be marked in pictures; 0: unknown
    double fail_below;       // --fail-below 90%: exit 6 if a length's accuracy is lower

    // how to run
    const char *job;          // --job NAME: group.id and the name in logs
    int64_t group_size;       // --group-size N ranks share documents; 0: all
    int64_t ranks;            // --ranks N ranks as threads of this process (loopback)
    int64_t threads;          // --threads N a rank; 0: the cores this process may use / local ranks
    int64_t step_tokens;      // --step-tokens N; 0: 4096 on the CPU, 32768 on CUDA
    int64_t slots;            // --slots N in backend memory; 0: what a step needs, and some
    int64_t host_slots_bytes; // --host-slots-bytes 1g
    const char *spill;        // --spill DIR for states beyond that; NULL: $TMPDIR or /tmp
    int64_t idle_ms;          // --idle 10m: states not used for so long go to files; 0: never
    const char *backend;      // --backend auto|cpu|cuda
    const char *dtype;        // --dtype auto|f32|bf16x3|bf16|tf32|f16
    const char *cpu_isa;      // --cpu-isa auto|amx|avx512bf16|avx512|avx2|neon|scalar
    const char *transport;    // --transport auto|nccl|mpi|loopback
    int64_t commit_interval_ms; // --commit-interval 5s
    const char *delivery;       // --delivery at-least-once
    const char *until;          // --until end
    bool close_open;            // --close-open: score what is open at the end
    double max_bad;             // --max-bad 1%: as a fraction
    bool strict;                // --strict: exit 5 when any document was bad
    int64_t peer_timeout_ms;    // --peer-timeout 30s
    int64_t queue_tokens;       // --queue-tokens N: most tokens waiting to be planned; 0: 8 steps

    // Kafka
    const char *brokers;                   // --brokers HOST:PORT,...
    const char *topic;                     // --topic T (publish, read)
    const char *property[PROPERTIES_MOST]; // -X key=value, passed to librdkafka
    int64_t property_count;
    int64_t partitions;        // --partitions N (broker: of auto-created topics)
    int64_t record_tokens;     // --record-tokens N (publish): tokens of one record
    int64_t document_version;  // --document-version N (publish): a higher one replaces a lower
    int64_t broker_timeout_ms; // --broker-timeout 60s: unreachable this long ends the job (140)
    bool envelope;             // --envelope (read): each message with its place, times and key
    const char *ready_file;    // --ready-file F (broker): written with the address once it serves

    // talk
    const char *config; // --config FILE
    bool show_config, dry_run, quiet, no_progress, help, version;
    const char *log_format; // --log-format text|json
    const char *log_level;  // --log-level error|warn|info|debug
    const char *summary;    // --summary FILE: the closing summary as JSON

    // verb `run`
    int64_t run_ranks;                         // -n N
    const char *arguments[RUN_ARGUMENTS_MOST]; // what follows: the verb and its options
    int64_t argument_count;
};

// A verb: its name, one line of help, and what it does. The exit code comes from the status, but
// for run, score, bench, verify and doctor, which may set *exit_code themselves.
struct verb {
    const char *name;
    const char *summary;
    const char *note; // what --help says besides; NULL: nothing
    enum status (*run)(const struct settings *settings, int *exit_code);
};

#define EXIT_VERDICT 6 // done, and the verdict is negative: verify, passkey --fail-below

enum status verb_score(const struct settings *settings, int *exit_code);
enum status verb_publish(const struct settings *settings, int *exit_code);
enum status verb_read(const struct settings *settings, int *exit_code);
enum status verb_broker(const struct settings *settings, int *exit_code);
enum status verb_run(const struct settings *settings, int *exit_code);
enum status verb_bench(const struct settings *settings, int *exit_code);
enum status verb_verify(const struct settings *settings, int *exit_code);
enum status verb_info(const struct settings *settings, int *exit_code);
enum status verb_doctor(const struct settings *settings, int *exit_code);
enum status verb_passkey(const struct settings *settings, int *exit_code);
enum status verb_tokenize(const struct settings *settings, int *exit_code);

// Set by SIGTERM, SIGINT and SIGUSR1: finish what is begun, commit, leave with 143.
bool stop_requested(void);
