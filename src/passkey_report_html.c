// report.html: one page that needs nothing else, without scripts; well-formed as XML too.

#include "src/passkey_report_html.h"

#include <inttypes.h>
#include <math.h>

#define FAILED_MOST 50

static const char style[] =
    ":root{color-scheme:light dark}"
    "body{margin:0;background:#f6f8fa;color:#1f2328;font:15px/1.5 system-ui,-apple-system,"
    "\"Segoe UI\",Roboto,Helvetica,Arial,sans-serif;font-variant-numeric:tabular-nums}"
    "main{max-width:1080px;margin:0 auto;padding:32px 20px 64px}"
    "header p{margin:0;color:#59636e}h1{font-size:28px;line-height:1.25;margin:2px 0 6px;"
    "overflow-wrap:anywhere}h2{font-size:19px;margin:0 0 12px}"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:14px;"
    "margin:22px 0}"
    ".card{background:#fff;border:1px solid #d8dee4;border-radius:10px;padding:16px 18px;"
    "margin:0 0 18px;overflow-x:auto}.tiles .card{margin:0}"
    ".tile b{display:block;font-size:25px;line-height:1.3}.tile "
    "span{color:#59636e;font-size:13.5px}"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));"
    "gap:18px;margin:0 0 18px}.charts .card{margin:0}"
    "svg{display:block;max-width:100%;height:auto;margin:0 auto}.charts svg,.wide "
    "svg{width:100%}.wide svg{min-width:640px}"
    "table{border-collapse:collapse;width:100%;font-size:14px}"
    "th,td{padding:5px 10px;text-align:right;border-bottom:1px solid #e6eaef;white-space:nowrap}"
    "th{color:#59636e;font-weight:600}th.text,td.text{text-align:left}"
    "td.wrap{white-space:pre-wrap;overflow-wrap:anywhere;min-width:12ch}tr:last-child "
    "td{border-bottom:0}"
    "tfoot td{font-weight:600}"
    "code,pre{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}"
    "pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere}"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 18px;margin:0}"
    "dt{color:#59636e}dd{margin:0;overflow-wrap:anywhere}.note{color:#59636e;margin:0 0 12px}"
    "@media (prefers-color-scheme:dark){body{background:#0d1116;color:#e6edf3}"
    "header p,.tile span,th,dt,.note{color:#9aa4af}.card{background:#15191f;border-color:#2c333c}"
    "th,td{border-color:#232a32}}"
    "@media print{body{background:#fff}.card{break-inside:avoid}}";

static void put_string(struct markup *out, const char *text) {
    if (text != NULL) markup_text(out, text, strlen(text));
}

static void put_count(struct markup *out, const char *before, int64_t count, const char *after) {
    char text[PASSKEY_COUNT_TEXT];
    passkey_count_text(count, text);
    markup(out, "%s%s%s", before, text, after);
}

static void put_interval(struct markup *out, struct passkey_tally tally) {
    const struct passkey_interval interval = passkey_wilson(tally);
    markup(out, "%.1f%% to %.1f%%", 100 * interval.low, 100 * interval.high);
}

// 4.2 s, 3 min 20 s, 5 h 7 min.
static void put_time(struct markup *out, double seconds) {
    const double whole = isfinite(seconds) && seconds < 1e15 ? round(seconds) : 0;
    if (whole < 60) {
        markup(out, "%.1f s", seconds);
    } else if (whole < 3600) {
        markup(out, "%.0f min %.0f s", floor(whole / 60), fmod(whole, 60));
    } else {
        markup(out, "%.0f h %.0f min", floor(whole / 3600), floor(fmod(whole, 3600) / 60));
    }
}

static void put_tiles(const struct passkey_report *report, const struct passkey_map *map,
                      struct markup *out) {
    const struct passkey_facts *facts = report->facts;
    markup(out, "<section class=\"tiles\">\n<div class=\"card tile\"><b>");
    if (map->all.tally.n > 0) {
        markup(out, "%.1f%%</b><span>correct, 95%% interval ",
               100 * passkey_accuracy(map->all.tally));
        put_interval(out, map->all.tally);
    } else {
        markup(out, "none</b><span>no samples");
    }
    put_count(out, "</span></div>\n<div class=\"card tile\"><b>", map->all.tally.n, "</b><span>");
    put_count(out, map->all.tally.n == 1 ? "sample, " : "samples, ", map->lengths,
              map->lengths == 1 ? " length, " : " lengths, ");
    put_count(out, "", map->rows, map->rows == 1 ? " depth" : map->parts ? " parts" : " depths");
    put_count(out, "</span></div>\n<div class=\"card tile\"><b>", facts->tokens_run,
              "</b><span>tokens run");
    if (facts->tokens_plain > 0) {
        markup(out, ", %.3g%% of one prompt at a time",
               100 * (double)facts->tokens_run / (double)facts->tokens_plain);
    }
    markup(out, "</span></div>\n<div class=\"card tile\"><b>");
    put_time(out, facts->seconds);
    put_count(out, "</b><span>at ",
              facts->tokens_per_second < 1e18 ? (int64_t)facts->tokens_per_second : 0,
              " tokens a second</span></div>\n</section>\n");
}

static void put_number(struct markup *out, double number) {
    if (isfinite(number)) {
        markup(out, "<td>%.3f</td>", number);
    } else {
        markup(out, "<td>\xe2\x80\x93</td>");
    }
}

static void put_column(struct markup *out, const struct passkey_column *column) {
    put_count(out, "<td>", column->tally.n, "</td>");
    put_count(out, "<td>", column->tally.correct, "</td>");
    if (column->tally.n > 0) {
        markup(out, "<td>%.1f%%</td><td>", 100 * passkey_accuracy(column->tally));
        put_interval(out, column->tally);
    } else {
        markup(out, "<td>\xe2\x80\x93</td><td>");
    }
    put_count(out, "</td><td>", column->exact, "</td>");
    put_number(out, column->answer_nll);
    put_number(out, column->margin);
    markup(out, "</tr>\n");
}

static void put_lengths(const struct passkey_map *map, struct markup *out) {
    markup(out, "<section class=\"card\"><h2>By length</h2>\n<table><thead><tr><th>tokens</th>"
                "<th>samples</th><th>correct</th><th>accuracy</th><th>95%% interval</th>"
                "<th>exact</th><th>answer NLL</th><th>margin</th></tr></thead>\n<tbody>\n");
    for (int64_t i = 0; i < map->lengths; i++) {
        put_count(out, "<tr><td>", map->column[i].length, "</td>");
        put_column(out, &map->column[i]);
    }
    markup(out, "</tbody><tfoot><tr><td>all</td>");
    put_column(out, &map->all);
    markup(out, "</tfoot></table>\n</section>\n");
}

static void put_sample(struct markup *out, const struct passkey_result *result) {
    const struct passkey_sample *sample = &result->sample;
    markup(out, "<tr><td class=\"text\"><code>");
    put_string(out, sample->id);
    put_count(out, "</code></td><td>", sample->length, "</td>");
    markup(out, "<td>%.3g%%</td><td class=\"text\"><code><bdi>", 100 * sample->depth);
    put_string(out, sample->key);
    markup(out, "</bdi></code></td><td class=\"text wrap\"><code><bdi>");
    markup_text(out, result->prediction, result->prediction_bytes);
    markup(out, "</bdi></code></td>");
    put_number(out, result->answer_nll);
    put_number(out, result->margin);
    markup(out, "</tr>\n");
}

static void put_failed(const struct passkey_report *report, const struct passkey_map *map,
                       struct markup *out) {
    const int64_t failed = map->all.tally.n - map->all.tally.correct;
    int64_t shown = 0;
    if (failed == 0) return;
    put_count(out, "<section class=\"card\"><h2>Samples that failed</h2>\n<p class=\"note\">",
              failed,
              failed > FAILED_MOST ? " of them, of which these are the first 50; results.jsonl has "
                                     "all.</p>\n"
                                   : " of them.</p>\n");
    markup(out, "<table><thead><tr><th class=\"text\">id</th><th>tokens</th><th>depth</th>"
                "<th class=\"text\">key</th><th class=\"text\">prediction</th><th>answer NLL</th>"
                "<th>margin</th></tr></thead>\n<tbody>\n");
    for (int64_t i = 0; i < report->count && shown < FAILED_MOST; i++) {
        if (report->results[i].correct) continue;
        put_sample(out, &report->results[i]);
        shown++;
    }
    markup(out, "</tbody></table>\n</section>\n");
}

static void put_text(struct markup *out, const char *name, const char *text) {
    if (text == NULL || text[0] == '\0') return;
    markup(out, "<dt>%s</dt><dd>", name);
    put_string(out, text);
    markup(out, "</dd>\n");
}

static void put_hash(struct markup *out, const char *name, uint64_t hash) {
    markup(out, "<dt>%s</dt><dd><code>xxh3:%016" PRIx64 "</code></dd>\n", name, hash);
}

static void put_facts(const struct passkey_facts *facts, struct markup *out) {
    markup(out, "<section class=\"card\"><h2>Model and run</h2>\n<dl>\n");
    put_text(out, "model", facts->model_name);
    put_count(out, "<dt>parameters</dt><dd>", facts->parameters, "</dd>\n");
    if (facts->trained_on > 0) {
        put_count(out, "<dt>trained on</dt><dd>", facts->trained_on, " tokens</dd>\n");
    }
    put_text(out, "tokenizer", facts->tokenizer);
    put_text(out, "backend", facts->backend);
    put_text(out, "dtype", facts->dtype);
    markup(out, "<dt>ranks</dt><dd>%" PRId32 " in %" PRId32 " %s</dd>\n", facts->ranks,
           facts->groups, facts->groups == 1 ? "group" : "groups");
    markup(out, "<dt>branched</dt><dd>%s</dd>\n",
           facts->branched ? "yes: what prompts share was read once"
                           : "no: every prompt was read from its first token");
    put_count(out, "<dt>tokens run</dt><dd>", facts->tokens_run, "</dd>\n");
    put_count(out, "<dt>one at a time</dt><dd>", facts->tokens_plain, " tokens</dd>\n");
    put_hash(out, "model's hash", facts->model);
    put_hash(out, "settings", facts->settings);
    put_hash(out, "numerics", facts->numerics);
    passkey_html_task(facts, out);
    markup(out, "</dl>\n</section>\n");
}

static void put_name(const struct passkey_facts *facts, struct markup *out) {
    put_string(out, facts->model_name == NULL ? "a model" : facts->model_name);
}

static void put_page(const struct passkey_report *report, const struct passkey_map *map,
                     struct markup *out) {
    markup(out,
           "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n"
           "<meta charset=\"utf-8\"/>\n<title>Passkey retrieval: ");
    put_name(report->facts, out);
    markup(out,
           "</title>\n<meta name=\"viewport\" content=\"width=device-width, "
           "initial-scale=1\"/>\n<style>%s%s</style>\n</head>\n<body>\n<main>\n<header>"
           "<p>Passkey retrieval</p>\n<h1>",
           style, passkey_svg_style);
    put_name(report->facts, out);
    markup(out,
           "</h1>\n<p>A key stands somewhere in a long text of no interest; the model reads all "
           "of it and is asked for the key.</p></header>\n");
    put_tiles(report, map, out);
    if (map->lengths > 0) {
        markup(out,
               "<section class=\"card wide\"><h2>By length and depth</h2>\n<p class=\"note\">"
               "Percents of samples that are correct; a depth of 0%% is the prompt's beginning."
               "</p>\n");
        passkey_svg_heat(report, map, false, out);
        markup(out, "</section>\n");
        passkey_html_charts(report, map, out);
    }
    put_lengths(map, out);
    put_failed(report, map, out);
    put_facts(report->facts, out);
    passkey_html_command(report, map, out);
    markup(out, "</main>\n</body>\n</html>\n");
}

enum status passkey_report_html(const struct passkey_report *report, const struct passkey_map *map,
                                struct bytes *out) {
    struct markup page = {.out = *out};
    put_page(report, map, &page);
    *out = page.out;
    return page.status;
}
