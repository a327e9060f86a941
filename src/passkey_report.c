#include "pipeline/output.h"
#include "src/passkey_svg.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum status passkey_report_file(const char *folder, const char *name, struct bytes *text) {
    struct output *output = NULL;
    const size_t room = strlen(folder) + strlen(name) + 2;
    if (mkdir(folder, 0777) != 0 && errno != EEXIST) {
        return FAIL(IO, "cannot make the folder %s: %s", folder, strerror(errno));
    }
    char *path = malloc(room);
    if (path == NULL) return FAIL(NO_MEMORY, "the report %s", name);
    snprintf(path, room, "%s/%s", folder, name);
    enum status status = output_open(path, &output);
    if (status == STATUS_OK) {
        bytes_free(&output->pending);
        output->pending = *text;
        *text = (struct bytes){0};
        status = output_finish(output, true);
    }
    free(path);
    return status;
}

static enum status write_all(const struct passkey_report *report, const struct passkey_map *map,
                             const char *folder, struct bytes *text, struct markup *picture) {
    TRY(passkey_report_json(report, map, text));
    TRY(passkey_report_file(folder, "summary.json", text));
    TRY(passkey_report_csv(map, text));
    TRY(passkey_report_file(folder, "summary.csv", text));
    passkey_svg_heat(report, map, true, picture);
    TRY(picture->status);
    TRY(passkey_report_file(folder, "heatmap.svg", &picture->out));
    TRY(passkey_report_html(report, map, text));
    return passkey_report_file(folder, "report.html", text);
}

enum status passkey_report_write(const struct passkey_report *report, const char *folder) {
    struct passkey_map map;
    struct bytes text = {0};
    struct markup picture = {0};
    enum status status = passkey_map_build(report, PASSKEY_ROWS_MOST, &map);
    if (status == STATUS_OK) status = write_all(report, &map, folder, &text, &picture);
    bytes_free(&text);
    bytes_free(&picture.out);
    passkey_map_free(&map);
    return status;
}

double passkey_report_lowest(const struct passkey_report *report, int64_t *length) {
    double lowest = 1;
    *length = report->count > 0 ? report->results[0].sample.length : 0;
    for (int64_t i = 0; i < report->count;) {
        struct passkey_tally share = {0};
        const int64_t first = i;
        while (i < report->count &&
               report->results[i].sample.length == report->results[first].sample.length) {
            share.n++;
            share.correct += report->results[i++].correct;
        }
        if (passkey_accuracy(share) >= lowest) continue;
        lowest = passkey_accuracy(share);
        *length = report->results[first].sample.length;
    }
    return lowest;
}
