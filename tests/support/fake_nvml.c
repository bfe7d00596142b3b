/* A driver of one GPU for machines that have none: what pynvml asks libnvidia-ml.so.1, and a libcuda.so.1 to find.
   Its answers come from the environment: FAKE_CAPABILITY=75, FAKE_MODE=3, FAKE_MIG=1; FAKE_INIT=18 and
   FAKE_HANDLE=15 are errors of NVML's. */
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
int nvmlDeviceGetEnforcedPowerLimit(void *gpu, unsigned *milliwatts) { return 3; /* not supported */ }
int nvmlDeviceGetCudaComputeCapability(void *gpu, int *major, int *minor) {
    *major = number("FAKE_CAPABILITY", 86) / 10, *minor = number("FAKE_CAPABILITY", 86) % 10;
    return 0;
}
int nvmlDeviceGetComputeMode(void *gpu, int *mode) { *mode = number("FAKE_MODE", 0); return 0; }
int nvmlDeviceGetMigMode(void *gpu, unsigned *current, unsigned *pending) {
    *current = *pending = number("FAKE_MIG", 0);
    return getenv("FAKE_MIG") ? 0 : 3;
}
