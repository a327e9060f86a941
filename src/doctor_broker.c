// Is the broker there that --brokers names?

#include "src/doctor.h"
#include "src/kafka_options.h"

#ifdef LONGSCAN_WITH_KAFKA

#    include "pipeline/kafka_probe.h"

#    include <inttypes.h>

void doctor_broker(const struct settings *settings, struct findings *findings) {
    const struct kafka_settings kafka = kafka_options_client(settings);
    struct kafka_probe probe;
    if (settings->brokers == NULL) return;
    LOG(INFO, "doctor: asking %s, for at most %" PRId64 " s", settings->brokers,
        (settings->broker_timeout_ms + 999) / 1000);
    const enum status status = kafka_probe(&kafka, &probe);
    if (status != STATUS_OK) {
        finding_add(findings, VERDICT_BAD, "broker",
                    status == STATUS_USAGE ? "check -X: security.protocol, sasl.*, ssl.*"
                                           : "check --brokers and the network",
                    "%s: not reached within %" PRId64 " ms; the error line says why",
                    settings->brokers, settings->broker_timeout_ms)
            ->exit_code = status_exit_code(status);
        return;
    }
    finding_add(findings, VERDICT_OK, "broker", NULL,
                "%s, cluster %s: %d broker%s, answered in %" PRId64 " ms; %s", settings->brokers,
                probe.cluster[0] != '\0' ? probe.cluster : "without a name", probe.brokers,
                probe.brokers == 1 ? "" : "s", probe.answer_ms, probe.release);
    finding_add(findings, VERDICT_OK, "topics", NULL, "%d%s%s", probe.topics,
                probe.names[0] != '\0' ? ": " : "", probe.names);
}

#else

void doctor_broker(const struct settings *settings, struct findings *findings) {
    if (settings->brokers == NULL) return;
    finding_add(findings, VERDICT_BAD, "broker", KAFKA_OPTIONS_MISSING, "%s: not asked",
                settings->brokers)
        ->exit_code = status_exit_code(STATUS_USAGE);
}

#endif
