/* A driver of one GPU for machines that have none: what pynvml asks libnvidia-ml.so.1, and a libcuda.so.1 to find.
   Its answers come from the environment: FAKE_CAPABILITY=75, FAKE_MODE=3, FAKE_MIG=1; FAKE_INIT=18 and
   FAKE_HANDLE=15 are errors of NVML's. FAKE_WATTS names a file with the power limit, which only FAKE_ROOT=1 may change. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int number(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}
static int say(char *text, const char *what) { strcpy(text, what); return 0; }

int cuInit(unsigned flags) { return 0; }
int nvmlInitWithFlags(unsigned flags) { return number("FAKE_INIT", 0); }
int nvmlInit_v2(void) { return number("FAKE_INIT", 0); }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return "a fake error"; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13000; return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned length) { return say(text, "580.65.06"); }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = (void *)1; return number("FAKE_HANDLE", 0); }
int nvmlDeviceGetUUID(void *gpu, char *text, unsigned length) { return say(text, "GPU-fa4e0000-aaaa-bbbb-cccc-0123456789ab"); }
int nvmlDeviceGetName(void *gpu, char *text, unsigned length) { return say(text, "NVIDIA Fake"); }
int nvmlDeviceGetMinorNumber(void *gpu, unsigned *minor) { *minor = 0; return 0; }
int nvmlDeviceGetMemoryInfo(void *gpu, unsigned long long *bytes) { bytes[0] = 12ull << 30; return 0; }
static int watts(const char *mode, unsigned *milliwatts) {
    FILE *file = getenv("FAKE_WATTS") ? fopen(getenv("FAKE_WATTS"), mode) : NULL;
    if (!file) return 3; /* not supported */
    if (*mode == 'r') fscanf(file, "%u", milliwatts), *milliwatts *= 1000;
    else fprintf(file, "%u", *milliwatts / 1000);
    return fclose(file);
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **gpu) { *gpu = (void *)1; return 0; }
int nvmlDeviceGetEnforcedPowerLimit(void *gpu, unsigned *milliwatts) { return watts("r", milliwatts); }
int nvmlDeviceGetPowerManagementLimit(void *gpu, unsigned *milliwatts) { return watts("r", milliwatts); }
int nvmlDeviceGetPowerManagementLimitConstraints(void *gpu, unsigned *least, unsigned *most) {
    *least = 100000, *most = 400000;
    return 0;
}
int nvmlDeviceSetPowerManagementLimit(void *gpu, unsigned milliwatts) {
    return number("FAKE_ROOT", 0) ? watts("w", &milliwatts) : 4; /* no permission */
}
int nvmlDeviceGetCudaComputeCapability(void *gpu, int *major, int *minor) {
    *major = number("FAKE_CAPABILITY", 86) / 10, *minor = number("FAKE_CAPABILITY", 86) % 10;
    return 0;
}
int nvmlDeviceGetComputeMode(void *gpu, int *mode) { *mode = number("FAKE_MODE", 0); return 0; }
int nvmlDeviceGetMigMode(void *gpu, unsigned *current, unsigned *pending) {
    *current = *pending = number("FAKE_MIG", 0);
    return getenv("FAKE_MIG") ? 0 : 3;
}
