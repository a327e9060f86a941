#pragma once
// Numbers as JSON text, the same text everywhere.

#include <stddef.h>
#include <stdint.h>

#define NUMBER_TEXT_BYTES 32 // room that each of these needs

// Each writes into text, unterminated, and returns the bytes written. A number that is not finite
// becomes null: JSON has no name for it.
size_t number_text_int(int64_t value, char *text);
size_t number_text_double(double value, char *text); // as printf("%.17g")
size_t number_text_float(float value, char *text);   // as printf("%.9g"), several times as fast

// e to the power x, from additions and products alone: the C library's differs between machines in
// the last bit, and a result must not.
double number_exp(double x);
