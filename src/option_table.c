// One row an option: add a row here and a member in src/settings.h, and it is everywhere.

#include "src/option_table.h"

#include <string.h>

// clang-format off
#define ALL                                                                            \
    (VERB_SCORE | VERB_RUN | VERB_PUBLISH | VERB_READ | VERB_BROKER | VERB_BENCH | VERB_VERIFY |  \
     VERB_INFO | VERB_DOCTOR | VERB_TOKENIZE | VERB_PASSKEY)
#define RUN_MODEL (VERB_SCORE | VERB_PASSKEY) // over ranks, with states
#define MODEL (RUN_MODEL | VERB_BENCH | VERB_VERIFY) // verbs that run one
#define SHAPE (VERB_BENCH | VERB_VERIFY | VERB_INFO)  // verbs that may do with a shape
#define MEASURE (SHAPE | VERB_DOCTOR)
#define KAFKA (VERB_SCORE | VERB_PUBLISH | VERB_READ)
#define BROKERS (KAFKA | VERB_DOCTOR | VERB_PASSKEY)
#define DOCUMENTS (VERB_SCORE | VERB_PUBLISH | VERB_TOKENIZE) // verbs that read them from files
#define AT(member) .offset = offsetof(struct settings, member)
#define RANGE(from, to) .least = (from), .most = (to)
#define FOR(bits) .verbs = (bits)
#define NEEDED(bits) .needed = (bits)

// Durations beyond a week and sizes beyond these are typing errors, not wishes.
#define WEEK_MS (INT64_C(7) * 24 * 3600 * 1000)
#define TERA (INT64_C(1) << 40)

static const struct option rows[] = {
    {"model", 0, OPTION_TEXT, GROUP_INPUT, FOR(MODEL | VERB_INFO | VERB_TOKENIZE), NEEDED(RUN_MODEL), AT(model),
     .value = "DIR", .help = "folder of the model: config.json and its weights"},
    {"input", 'i', OPTION_TEXT, GROUP_INPUT, FOR(DOCUMENTS | VERB_VERIFY | VERB_PASSKEY),
     NEEDED(DOCUMENTS), AT(input), .value = "SRC",
     .help = "a file, folder, glob, @list or -",
     .score_help = "a file, folder, glob, @list, - or kafka:TOPIC",
     .verify_help = "a text, or token ids in NAME.u16 or NAME.u32; else one of its own",
     .passkey_help = "kafka:TOPIC of samples to evaluate; else those of --lengths and --depths"},
    {"output", 'o', OPTION_TEXT, GROUP_INPUT, FOR(VERB_SCORE | VERB_READ | MEASURE | VERB_TOKENIZE | VERB_PASSKEY), AT(output),
     .fallback = "-", .value = "DST", .help = "a file or -",
     .score_help = "a file, a folder, - or kafka:TOPIC",
     .passkey_help = "a folder for results and report, kafka:TOPIC for results, or -"},
    {"dead-letters", 0, OPTION_TEXT, GROUP_INPUT, FOR(RUN_MODEL), AT(dead_letters),
     .value = "DST", .help = "input that cannot be used: a .jsonl file or kafka:TOPIC"},
    {"windows", 0, OPTION_TEXT, GROUP_INPUT, FOR(VERB_SCORE), AT(windows), .value = "DST",
     .help = "kafka:TOPIC for windows as they arise, see --score-every"},
    {"encoding", 0, OPTION_CHOICE, GROUP_INPUT, FOR(VERB_SCORE), AT(encoding),
     .fallback = "protobuf", .choices = "protobuf|json", .help = "of results and letters in topics"},
    {"print", 0, OPTION_CHOICE, GROUP_INPUT, FOR(RUN_MODEL | VERB_READ | MEASURE), AT(print),
     .fallback = "auto", .choices = "auto|json|table",
     .help = "what standard output gets; auto: a table on a terminal"},
    {"format", 0, OPTION_CHOICE, GROUP_INPUT, FOR(DOCUMENTS), AT(format),
     .fallback = "auto", .choices = "auto|jsonl|text|u16|u32",
     .help = "of input files; auto: by their names"},
    {"input-format", 0, OPTION_CHOICE, GROUP_INPUT, FOR(VERB_SCORE), AT(input_format),
     .fallback = "tokens", .choices = "tokens|jsonl|text", .help = "of an input topic's messages"},
    {"tokenizer", 0, OPTION_TEXT, GROUP_INPUT, FOR(DOCUMENTS | VERB_VERIFY | VERB_PASSKEY), AT(tokenizer),
     .value = "NAME", .help = "byte, or the path of a tokenizer.json; default: token ids (tokenize: --model's)",
     .score_help = "byte, or the path of a tokenizer.json; default: the model's",
     .verify_help = "byte, or the path of a tokenizer.json; default: the model's",
     .passkey_help = "byte, or the path of a tokenizer.json; default: the model's"},
    {"errors", 0, OPTION_CHOICE, GROUP_INPUT, FOR(DOCUMENTS | VERB_VERIFY), AT(errors), .fallback = "strict",
     .choices = "strict|replace",
     .help = "text that is not UTF-8: a bad document, or U+FFFD; bytes are all text to byte"},
    {"decode", 0, OPTION_FLAG, GROUP_INPUT, FOR(VERB_TOKENIZE), AT(decode),
     .help = "token ids in, text out"},
    {"id-field", 0, OPTION_TEXT, GROUP_INPUT, FOR(DOCUMENTS), AT(id_field),
     .fallback = "id", .value = "NAME", .help = "JSON field with a document's id"},
    {"text-field", 0, OPTION_TEXT, GROUP_INPUT, FOR(DOCUMENTS), AT(text_field),
     .fallback = "text", .value = "NAME", .help = "JSON field with a document's text"},
    {"max-line", 0, OPTION_SIZE, GROUP_INPUT, FOR(DOCUMENTS), AT(max_line),
     RANGE(1024, INT64_C(1) << 34), .fallback = "64m", .value = "BYTES",
     .help = "longest line of JSON that is taken"},
    {"limit", 0, OPTION_INTEGER, GROUP_INPUT, FOR(KAFKA | VERB_TOKENIZE), AT(limit), RANGE(0, INT64_MAX),
     .fallback = "0", .value = "N", .help = "stop after N documents of files, or messages; 0: all"},
    {"resume", 0, OPTION_FLAG, GROUP_INPUT, FOR(RUN_MODEL), AT(resume),
     .help = "skip inputs whose output is there, unless it is older or --limit cut it",
     .passkey_help = "go on with what a stopped run has left in --output"},
    {"no-clobber", 0, OPTION_FLAG, GROUP_INPUT, FOR(VERB_SCORE), AT(no_clobber),
     .help = "refuse to replace an output that exists"},

    {"gated-norm", 0, OPTION_CHOICE, GROUP_SCORE, FOR(MODEL | VERB_INFO), AT(gated_norm), .fallback = "auto",
     .choices = "auto|grouped|whole|before-gate",
     .help = "how layers gate and norm; auto: as mamba_ssm; whole: as transformers"},
    {"bos", 0, OPTION_FLAG, GROUP_SCORE, FOR(RUN_MODEL), AT(bos),
     .help = "begin every document with the model's BOS token",
     .passkey_help = "begin every prompt with the model's BOS token"},
    {"token-nll", 0, OPTION_FLAG, GROUP_SCORE, FOR(VERB_SCORE), AT(token_nll),
     .help = "write the NLL of every token too"},
    {"score-every", 0, OPTION_SIZE, GROUP_SCORE, FOR(VERB_SCORE), AT(score_every),
     RANGE(0, TERA), .fallback = "0", .value = "N",
     .help = "write a score for every N tokens too; 0: none"},

    {"shape", 0, OPTION_CHOICE, GROUP_MEASURE, FOR(SHAPE), AT(shape),
     .choices = "130m|370m|780m|1.3b|2.7b",
     .help = "random weights of an official shape, in place of --model"},
    {"seed", 0, OPTION_INTEGER, GROUP_MEASURE, FOR(VERB_BENCH | VERB_VERIFY | VERB_PASSKEY), AT(seed), RANGE(0, INT64_MAX),
     .fallback = "1", .value = "N", .help = "of everything that is drawn"},
    {"repeat", 0, OPTION_INTEGER, GROUP_MEASURE, FOR(VERB_BENCH), AT(repeat), RANGE(1, 1000),
     .fallback = "7", .value = "N", .help = "runs of each thing; medians are shown"},
    {"tokens", 0, OPTION_SIZE, GROUP_MEASURE, FOR(VERB_BENCH), AT(tokens), RANGE(1, TERA),
     .or_zero = true, .fallback = "0", .value = "N",
     .help = "of the document that the whole program runs; 0: --repeat steps a rank"},
    {"simulate", 0, OPTION_INTEGER, GROUP_MEASURE, FOR(VERB_BENCH), AT(simulate),
     RANGE(0, 65536), .fallback = "0", .value = "N",
     .help = "predict up to N ranks from the measured step; 0: no"},
    {"hop-us", 0, OPTION_INTEGER, GROUP_MEASURE, FOR(VERB_BENCH), AT(hop_us),
     RANGE(0, 1000000), .fallback = "0", .value = "N",
     .help = "microseconds of a layer's state to the next rank; 0: measured, or assumed"},

    {"lengths", 0, OPTION_TEXT, GROUP_PASSKEY, FOR(VERB_PASSKEY), AT(lengths),
     .fallback = "1k,2k,4k,8k,16k,32k,64k,128k,256k", .value = "N,N,...",
     .help = "tokens of the prompts, at most"},
    {"depths", 0, OPTION_TEXT, GROUP_PASSKEY, FOR(VERB_PASSKEY), AT(depths), .fallback = "10",
     .value = "N|even[:N]|D,D,...",
     .help = "where the key stands: N places; even: so that lengths share them; or shares: 0,0.5,100%"},
    {"positions", 0, OPTION_TEXT, GROUP_PASSKEY, FOR(VERB_PASSKEY), AT(positions), .value = "N,N,...",
     .help = "tokens before the key, in place of --depths"},
    {"samples", 0, OPTION_INTEGER, GROUP_PASSKEY, FOR(VERB_PASSKEY), AT(samples), RANGE(1, 10000000),
     .fallback = "200", .value = "N", .help = "of each length, spread over the depths"},
    {"style", 0, OPTION_CHOICE, GROUP_PASSKEY, FOR(VERB_PASSKEY), AT(style), .fallback = "paper",
     .choices = "paper|infinitebench|niah", .help = "the wording: Stuffed Mamba's, InfiniteBench's, RULER's"},
    {"digits", 0, OPTION_INTEGER, GROUP_PASSKEY, FOR(VERB_PASSKEY), AT(digits), RANGE(0, 18),
     .fallback = "0", .value = "N", .help = "of the key; 0: as the style has it"},
    {"filler", 0, OPTION_TEXT, GROUP_PASSKEY, FOR(VERB_PASSKEY), AT(filler), .value = "FILE",
     .help = "text that hides the key; default: the style's sentences"},
    {"add-prefix", 0, OPTION_INTEGER, GROUP_PASSKEY, FOR(VERB_PASSKEY), AT(add_prefix),
     RANGE(0, 1 << 24), .fallback = "0", .value = "N",
     .help = "sentences of no meaning before everything"},
    {"new-tokens", 0, OPTION_INTEGER, GROUP_PASSKEY, FOR(VERB_PASSKEY), AT(new_tokens), RANGE(0, 4096),
     .fallback = "0", .value = "N", .help = "decoded to find the answer in; 0: as the style has it"},
    {"unbranched", 0, OPTION_FLAG, GROUP_PASSKEY, FOR(VERB_PASSKEY), AT(unbranched),
     .help = "read every prompt from its first token"},
    {"show-sample", 0, OPTION_TEXT, GROUP_PASSKEY, FOR(VERB_PASSKEY), AT(show_sample), .value = "ID",
     .help = "print the prompt of a sample and leave"},
    {"lm-eval", 0, OPTION_FLAG, GROUP_PASSKEY, FOR(VERB_PASSKEY), AT(lm_eval),
     .help = "write results as lm-evaluation-harness does, too"},
    {"trained-on", 0, OPTION_SIZE, GROUP_PASSKEY, FOR(VERB_PASSKEY), AT(trained_on), RANGE(0, TERA),
     .fallback = "0", .value = "N", .help = "tokens the model was trained on, marked in pictures"},
    {"fail-below", 0, OPTION_FRACTION, GROUP_PASSKEY, FOR(VERB_PASSKEY), AT(fail_below),
     .fallback = "0%", .value = "SHARE", .help = "exit with 6 if a length's accuracy is lower"},

    {"ranks", 0, OPTION_INTEGER, GROUP_RANKS, FOR(RUN_MODEL | VERB_BENCH), AT(ranks), RANGE(1, 256),
     .fallback = "1", .value = "N", .help = "ranks as threads of this process, without MPI"},
    {"group-size", 0, OPTION_INTEGER, GROUP_RANKS, FOR(RUN_MODEL), AT(group_size),
     RANGE(0, 65536), .fallback = "0", .value = "N",
     .help = "ranks that share documents; 0: all ranks",
     .passkey_help = "ranks that share a sample; 0: all ranks"},
    {"threads", 0, OPTION_INTEGER, GROUP_RANKS, FOR(MODEL), AT(threads), RANGE(0, 4096),
     .fallback = "0", .value = "N", .help = "threads of a rank; 0: its share of the cores"},
    {"step-tokens", 0, OPTION_SIZE, GROUP_RANKS, FOR(RUN_MODEL | VERB_BENCH), AT(step_tokens),
     RANGE(1024, INT64_C(1) << 24), .or_zero = true, .fallback = "0", .value = "N",
     .help = "most tokens of a rank in one step; 0: 4k on CPUs, 32k on GPUs"},
    {"queue-tokens", 0, OPTION_SIZE, GROUP_RANKS, FOR(VERB_SCORE), AT(queue_tokens),
     RANGE(1024, TERA), .or_zero = true, .fallback = "0", .value = "N",
     .help = "most tokens that wait for a step; 0: eight steps"},
    {"slots", 0, OPTION_INTEGER, GROUP_RANKS, FOR(RUN_MODEL), AT(slots), RANGE(0, 1 << 24),
     .fallback = "0", .value = "N", .help = "states kept in backend memory; 0: what steps need"},
    {"host-slots-bytes", 0, OPTION_SIZE, GROUP_RANKS, FOR(RUN_MODEL), AT(host_slots_bytes),
     RANGE(0, 64 * TERA), .fallback = "1g", .value = "BYTES",
     .help = "host memory for states beyond --slots"},
    {"spill", 0, OPTION_TEXT, GROUP_RANKS, FOR(RUN_MODEL), AT(spill), .value = "DIR",
     .help = "folder for states beyond that; default: $TMPDIR or /tmp"},
    {"idle", 0, OPTION_DURATION, GROUP_RANKS, FOR(VERB_SCORE), AT(idle_ms), RANGE(0, WEEK_MS),
     .fallback = "0", .value = "TIME",
     .help = "states not used for so long go to files; nothing is closed; 0: never"},
    {"backend", 0, OPTION_CHOICE, GROUP_RANKS, FOR(MODEL | VERB_DOCTOR), AT(backend), .fallback = "auto",
     .choices = "auto|cpu|cuda", .help = "where the model runs"},
    {"dtype", 0, OPTION_CHOICE, GROUP_RANKS, FOR(MODEL), AT(dtype), .fallback = "auto",
     .choices = "auto|f32|bf16x3|bf16|tf32|f16",
     .help = "of the products; auto: bf16 on cuda, f32 on CPUs; tf32, f16: cuda; bf16x3: CPUs"},
    {"cpu-isa", 0, OPTION_CHOICE, GROUP_RANKS, FOR(MODEL), AT(cpu_isa), .fallback = "auto",
     .choices = "auto|amx|avx512bf16|avx512|avx2|neon|scalar",
     .help = "instruction set; equal bits, scalar is slow"},
    {"transport", 0, OPTION_CHOICE, GROUP_RANKS, FOR(RUN_MODEL | VERB_BENCH | VERB_DOCTOR), AT(transport),
     .fallback = "auto", .choices = "auto|nccl|mpi|loopback",
     .help = "what carries states; auto: nccl if each rank has a GPU of its own"},
    {"peer-timeout", 0, OPTION_DURATION, GROUP_RANKS, FOR(RUN_MODEL | VERB_BENCH | VERB_DOCTOR), AT(peer_timeout_ms),
     RANGE(1000, WEEK_MS), .fallback = "30s", .value = "TIME",
     .help = "a rank silent for this long is lost"},

    {"job", 0, OPTION_TEXT, GROUP_STREAM, FOR(RUN_MODEL), AT(job), .fallback = "longscan",
     .value = "NAME", .help = "name in logs, and the group.id offsets are kept under"},
    {"until", 0, OPTION_UNTIL, GROUP_STREAM, FOR(RUN_MODEL | VERB_READ), AT(until),
     .fallback = "end", .value = "WHEN", .help = "end of a topic: end, idle:30s or follow"},
    {"follow", 0, OPTION_SHORTHAND, GROUP_STREAM, FOR(RUN_MODEL | VERB_READ), AT(until),
     .fallback = "follow", .help = "the same as --until follow"},
    {"close-open", 0, OPTION_FLAG, GROUP_STREAM, FOR(VERB_SCORE), AT(close_open),
     .help = "score documents without an end too, when the input ends"},
    {"commit-interval", 0, OPTION_DURATION, GROUP_STREAM, FOR(RUN_MODEL),
     AT(commit_interval_ms), RANGE(10, WEEK_MS), .fallback = "5s", .value = "TIME",
     .help = "time from commit to commit"},
    {"delivery", 0, OPTION_CHOICE, GROUP_STREAM, FOR(VERB_SCORE), AT(delivery),
     .fallback = "at-least-once", .choices = "at-least-once",
     .help = "what a restart may do to results"},
    {"max-bad", 0, OPTION_FRACTION, GROUP_STREAM, FOR(DOCUMENTS | VERB_PASSKEY), AT(max_bad),
     .fallback = "1%", .value = "SHARE", .help = "bad documents that are put up with, of all",
     .passkey_help = "messages of no use that are put up with, of all"},
    {"strict", 0, OPTION_FLAG, GROUP_STREAM, FOR(VERB_SCORE), AT(strict),
     .help = "exit with 5 if any document was bad"},

    {"brokers", 'b', OPTION_TEXT, GROUP_KAFKA, FOR(BROKERS), NEEDED(VERB_PUBLISH | VERB_READ),
     AT(brokers), .value = "HOST:PORT,...", .help = "Kafka brokers to start from"},
    {"topic", 't', OPTION_TEXT, GROUP_KAFKA, FOR(VERB_PUBLISH | VERB_READ | VERB_BROKER),
     NEEDED(VERB_PUBLISH | VERB_READ), AT(topic), .value = "TOPIC",
     .help = "the topic to write, read or create"},
    {"property", 'X', OPTION_LIST, GROUP_KAFKA, FOR(BROKERS), AT(property), .value = "KEY=VALUE",
     .help = "a property for librdkafka; may be repeated"},
    {"broker-timeout", 0, OPTION_DURATION, GROUP_KAFKA, FOR(BROKERS), AT(broker_timeout_ms),
     RANGE(100, WEEK_MS), .fallback = "60s", .value = "TIME",
     .help = "brokers unreachable for this long end the job"},
    {"record-tokens", 0, OPTION_SIZE, GROUP_KAFKA, FOR(VERB_SCORE | VERB_PUBLISH),
     AT(record_tokens), RANGE(1, INT64_C(1) << 19), .fallback = "64k", .value = "N",
     .help = "most tokens of a record read from or made of a file"},
    {"document-version", 0, OPTION_INTEGER, GROUP_KAFKA, FOR(VERB_PUBLISH), AT(document_version),
     RANGE(0, INT64_MAX), .fallback = "0", .value = "N",
     .help = "a higher one replaces what was published before under the same id"},

    {"envelope", 0, OPTION_FLAG, GROUP_KAFKA, FOR(VERB_READ), AT(envelope),
     .help = "each message with its partition, offset, times and key"},

    {"partitions", 0, OPTION_INTEGER, GROUP_BROKER, FOR(VERB_BROKER), AT(partitions),
     RANGE(1, 1024), .fallback = "4", .value = "N", .help = "partitions of a new topic"},
    {"ready-file", 0, OPTION_TEXT, GROUP_BROKER, FOR(VERB_BROKER), AT(ready_file),
     .value = "FILE", .help = "written with the address once it serves"},

    {"processes", 'n', OPTION_INTEGER, GROUP_RUN, FOR(VERB_RUN), NEEDED(VERB_RUN),
     AT(run_ranks), RANGE(1, 65536), .value = "N", .help = "ranks to start, each a process"},

    {"config", 'C', OPTION_TEXT, GROUP_TALK, FOR(ALL), AT(config), .value = "FILE",
     .help = "read options from FILE: lines of name = value"},
    {"show-config", 0, OPTION_FLAG, GROUP_TALK, FOR(ALL), .arguments_only = true,
     AT(show_config), .help = "print all options and where each came from"},
    {"dry-run", 0, OPTION_FLAG, GROUP_TALK, FOR(ALL), AT(dry_run),
     .help = "check what can be checked without running"},
    {"summary", 0, OPTION_TEXT, GROUP_TALK, FOR(VERB_SCORE), AT(summary), .value = "FILE",
     .help = "write the closing summary as JSON; -: to standard error"},
    {"log-format", 0, OPTION_CHOICE, GROUP_TALK, FOR(ALL), AT(log_format), .fallback = "text",
     .choices = "text|json", .help = "of the lines on standard error"},
    {"log-level", 0, OPTION_CHOICE, GROUP_TALK, FOR(ALL), AT(log_level), .fallback = "info",
     .choices = "error|warn|info|debug", .help = "least important lines to show"},
    {"quiet", 'q', OPTION_FLAG, GROUP_TALK, FOR(ALL), AT(quiet),
     .help = "warnings and errors only, no progress"},
    {"no-progress", 0, OPTION_FLAG, GROUP_TALK, FOR(RUN_MODEL), AT(no_progress),
     .help = "no progress line"},
    {"help", 'h', OPTION_FLAG, GROUP_TALK, FOR(ALL), .arguments_only = true, AT(help),
     .help = "show this and leave"},
    {"version", 'V', OPTION_FLAG, GROUP_TALK, FOR(ALL), .arguments_only = true, AT(version),
     .help = "show the version and leave"},
};
// clang-format on

#define ROWS ((int)(sizeof rows / sizeof rows[0]))

const struct option *option_rows(int *count) {
    *count = ROWS;
    return rows;
}

const struct option *option_by_name(const char *name, size_t bytes) {
    for (int i = 0; i < ROWS; i++) {
        if (strlen(rows[i].name) == bytes && memcmp(rows[i].name, name, bytes) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

const struct option *option_by_letter(char letter) {
    for (int i = 0; i < ROWS; i++) {
        if (rows[i].letter == letter) return &rows[i];
    }
    return NULL;
}

static const struct {
    const char *name;
    unsigned bit;
} verb_bits[] = {
    {"score",    VERB_SCORE   },
    {"run",      VERB_RUN     },
    {"publish",  VERB_PUBLISH },
    {"read",     VERB_READ    },
    {"broker",   VERB_BROKER  },
    {"bench",    VERB_BENCH   },
    {"verify",   VERB_VERIFY  },
    {"info",     VERB_INFO    },
    {"doctor",   VERB_DOCTOR  },
    {"tokenize", VERB_TOKENIZE},
    {"passkey",  VERB_PASSKEY },
};
#define VERB_BITS (sizeof verb_bits / sizeof verb_bits[0])

unsigned option_verb_bit(const char *verb) {
    for (size_t i = 0; i < VERB_BITS; i++) {
        if (strcmp(verb_bits[i].name, verb) == 0) return verb_bits[i].bit;
    }
    return 0;
}

const char *option_group_title(enum option_group group) {
    static const char *const titles[GROUPS] = {
        [GROUP_INPUT] = "Input and output",
        [GROUP_SCORE] = "What is computed",
        [GROUP_MEASURE] = "What is measured",
        [GROUP_PASSKEY] = "The task",
        [GROUP_RANKS] = "Ranks and memory",
        [GROUP_STREAM] = "The job",
        [GROUP_KAFKA] = "Kafka",
        [GROUP_BROKER] = "The broker",
        [GROUP_RUN] = "Starting ranks",
        [GROUP_TALK] = "Settings and messages",
    };
    return titles[group];
}

bool option_takes_value(const struct option *option) {
    return option->kind != OPTION_FLAG && option->kind != OPTION_SHORTHAND;
}

const char *option_help(const struct option *option, unsigned verb) {
    const char *own = verb == VERB_SCORE     ? option->score_help
                      : verb == VERB_VERIFY  ? option->verify_help
                      : verb == VERB_PASSKEY ? option->passkey_help
                                             : NULL;
    return own != NULL ? own : option->help;
}

const char *option_value_text(const struct option *option) {
    return option->choices != NULL ? option->choices : option->value;
}

#define NAME_MOST 64

// Levenshtein's distance, one row at a time.
static size_t distance(const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
    size_t row[NAME_MOST + 1];
    for (size_t j = 0; j <= b_bytes; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a_bytes; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_bytes; j++) {
            size_t best = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[b_bytes];
}

// What neighbouring tools call the same thing.
static const char *synonym(const char *name, size_t bytes) {
    static const char *const pairs[][2] = {
        {"bootstrap-servers", "brokers"    },
        {"bootstrap-server",  "brokers"    },
        {"device",            "backend"    },
        {"batch-size",        "step-tokens"},
        {"group",             "job"        },
        {"np",                "processes"  },
        {"verbosity",         "log-level"  },
        {"verbose",           "log-level"  },
        {"settings",          "config"     },
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        if (strlen(pairs[i][0]) == bytes && memcmp(pairs[i][0], name, bytes) == 0) {
            return pairs[i][1];
        }
    }
    return NULL;
}

const char *option_nearest(const char *name, size_t bytes, unsigned verbs) {
    const char *nearest = NULL;
    size_t least = bytes / 3 + 2; // further away it is another word
    if (bytes > NAME_MOST) return NULL;
    const char *meant = synonym(name, bytes);
    if (meant != NULL && (option_by_name(meant, strlen(meant))->verbs & verbs) != 0) return meant;
    for (int i = 0; i < ROWS; i++) {
        if ((rows[i].verbs & verbs) == 0) continue;
        const size_t far = distance(name, bytes, rows[i].name, strlen(rows[i].name));
        if (far < least) {
            least = far;
            nearest = rows[i].name;
        }
    }
    return nearest;
}

const char *option_nearest_verb(const char *name) {
    const char *nearest = NULL;
    const size_t bytes = strlen(name);
    size_t least = bytes / 3 + 2;
    for (size_t i = 0; bytes <= NAME_MOST && i < VERB_BITS; i++) {
        const size_t far = distance(name, bytes, verb_bits[i].name, strlen(verb_bits[i].name));
        if (far < least) {
            least = far;
            nearest = verb_bits[i].name;
        }
    }
    return nearest;
}
