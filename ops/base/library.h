#pragma once
// A library that the program uses, for --version and `longscan doctor`.

#include "ops/base/linkage.h"

C_BEGIN

struct library {
    char name[24];
    char built[32];    // the version this was compiled with; "": none is asked for
    char running[64];  // the version that was found; "": none was
    char missing[192]; // why not
};

C_END
