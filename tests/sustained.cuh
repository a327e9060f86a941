#pragma once
// What a piece of work takes when it goes on: a chip at its power limit lowers its clock after some
// tens of milliseconds, so that bursts look faster than steps are. Energy is NVML's, looked for at run
// time; without it the watts are 0.

#include <cuda_runtime.h>

#include <chrono>
#include <dlfcn.h>
#include <functional>
#include <stdio.h>

struct sustained {
    double microseconds; // a call
    double watts;

    double millijoules() const { // a call
        return microseconds * watts * 1e-3;
    }
};

// Of device 0, in millijoules since the driver was loaded; it counts in steps of some milliseconds.
inline unsigned long long energy_used() {
    static int (*read)(void *, unsigned long long *) = nullptr;
    static void *device = nullptr;
    static bool asked = false;
    unsigned long long now = 0;
    if (!asked) {
        void *nvml = dlopen("libnvidia-ml.so.1", RTLD_NOW);
        char bus[32] = "";
        asked = true;
        if (nvml == nullptr || cudaDeviceGetPCIBusId(bus, sizeof bus, 0) != cudaSuccess) return 0;
        const auto start = (int (*)())dlsym(nvml, "nvmlInit_v2");
        const auto find =
            (int (*)(const char *, void **))dlsym(nvml, "nvmlDeviceGetHandleByPciBusId_v2");
        if (start == nullptr || find == nullptr || start() != 0 || find(bus, &device) != 0)
            return 0;
        read = (int (*)(void *, unsigned long long *))dlsym(nvml,
                                                            "nvmlDeviceGetTotalEnergyConsumption");
    }
    if (read == nullptr || read(device, &now) != 0) return 0;
    return now;
}

// Half a second to warm up, half a second that counts.
inline sustained sustain(const std::function<void()> &work) {
    using clock = std::chrono::steady_clock;
    const auto seconds = [](clock::time_point from) {
        return std::chrono::duration<double>(clock::now() - from).count();
    };
    sustained result = {};
    for (int round = 0; round < 2; round++) {
        const auto begun = clock::now();
        const unsigned long long used = energy_used();
        int64_t calls = 0;
        while (seconds(begun) < 0.5) {
            for (int i = 0; i < 16; i++, calls++)
                work();
            if (cudaDeviceSynchronize() != cudaSuccess) return {};
        }
        const double took = seconds(begun);
        result = {took * 1e6 / (double)calls, (double)(energy_used() - used) * 1e-3 / took};
    }
    return result;
}

inline void print_sustained(const char *name, const sustained &s) {
    printf("    %-22s %8.1f us %6.0f W %8.1f mJ\n", name, s.microseconds, s.watts, s.millijoules());
}
