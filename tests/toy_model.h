#pragma once
// What the toy model (tests/toy_model.c) must give, computed in one go from the whole document.
//
// The toy answers ops/model/model.h. Its folder is its settings, all optional:
//   toy:layers=3,layer_bytes=4096,vocab=256,delay_us=0
// (layer_bytes at least 64 and a multiple of 32; three quarters are the SSM part; delay_us: a layer
// takes that long). Its state is a checksum of all tokens of the document so far, spread over all
// bytes of every layer and part and verified when it comes in. A row's NLL is drawn from checksum
// and target, and so are its best token and margin. A state that is torn, stale, of another document,
// layer, part or step makes the NLLs and margins NaN and the best tokens -1, or others than these,
// from there on, and a log line.

#include <stdint.h>

// The NLL of `target` after the first `tokens` tokens.
float toy_nll(const int32_t *token, int64_t tokens, int32_t target);

// What the toy would go on with after the first `tokens` tokens: one of [0, TOY_BEST_TOKENS), which a
// model that is asked must have in its vocabulary. And the margin of `target` there: above 0 if it is
// that token, below 0 if not, NaN if it is -1.
#define TOY_BEST_TOKENS 32
int32_t toy_best(const int32_t *token, int64_t tokens);
float toy_margin(const int32_t *token, int64_t tokens, int32_t target);

// nll[t] is the prediction of position t from those before it; nll[0] is 0. [tokens]
void toy_expected_nlls(const int32_t *token, int64_t tokens, float *nll);

// The sum over positions [first, end), in order, in double; first >= 1, as position 0 is not
// predicted (with a BOS token, it is token[0] here).
double toy_expected_window(const int32_t *token, int64_t first, int64_t end);

// The sum over positions [first_scored, tokens).
double toy_expected_nll(const int32_t *token, int64_t tokens, int64_t first_scored);
