/* A stand-in for NVIDIA's libnvidia-ml.so.1: it answers what a text file says, which is read anew at each call.
 *
 * The file is named by FAKE_NVML. A line each, by first word:
 *   gpu UUID BUS TOTAL BASE     a GPU; bytes used by no process; TOTAL `shared` where it has no memory of its own
 *   mig UUID OF TOTAL BASE      a slice of the GPU with the UUID `OF`, which is divided thereby
 *   process UUID PID BYTES      a process that computes there, while it lives; BYTES `-` where that is kept secret
 *   graphics UUID PID BYTES     the same for one that draws
 *   lost UUID                   a GPU that has fallen off the bus
 *   fail CODE                   every call fails with this code of nvmlReturn_t
 *   hang                        every call waits for ever
 * Structures and codes as in NVIDIA's nvml.h, versions 12 and 13.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, GPU_IS_LOST = 15, UNKNOWN = 999, MOST = 64 };

typedef struct { char uuid[80], bus[32], of[80]; unsigned long long total, base; int shared, lost; } device;
typedef struct { char uuid[80]; unsigned pid; unsigned long long bytes; int draws; } user;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci_info;
typedef struct { unsigned long long total, free, used; } memory_info;
typedef struct { unsigned pid; unsigned long long bytes; unsigned gpu_instance, compute_instance; } process_info;

/* Handles are pointers into here: a device keeps its place while its line keeps its place in the file. */
static device devices[MOST];
static user users[MOST];
static int n_devices, n_users;

static int look(void) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[512], size[32];
    int code = SUCCESS;
    if (!file) return UNKNOWN;
    n_devices = n_users = 0;
    while (fgets(line, sizeof line, file)) {
        device d = {0};
        user u = {0};
        char lost[80];
        if (sscanf(line, "gpu %79s %31s %31s %llu", d.uuid, d.bus, size, &d.base) == 4 ||
            sscanf(line, "mig %79s %79s %31s %llu", d.uuid, d.of, size, &d.base) == 4) {
            d.shared = !strcmp(size, "shared");
            d.total = strtoull(size, NULL, 10);
            devices[n_devices++] = d;
        } else if (sscanf(line, "process %79s %u %31s", u.uuid, &u.pid, size) == 3 ||
                   (u.draws = sscanf(line, "graphics %79s %u %31s", u.uuid, &u.pid, size) == 3)) {
            u.bytes = strcmp(size, "-") ? strtoull(size, NULL, 10) : ~0ULL;
            if (!kill((pid_t)u.pid, 0) || errno == EPERM) users[n_users++] = u;
        } else if (sscanf(line, "lost %79s", lost) == 1) {
            for (int i = 0; i < n_devices; i++) devices[i].lost |= !strcmp(devices[i].uuid, lost);
        } else if (sscanf(line, "fail %d", &code) != 1 && !strncmp(line, "hang", 4)) {
            for (;;) pause();
        }
    }
    fclose(file);
    return code;
}

static int look_at(device *d) {
    int code = look();
    return code ? code : d->lost ? GPU_IS_LOST : SUCCESS;
}

static device *nth(const char *of, unsigned index) {
    for (int i = 0; i < n_devices; i++)
        if (!strcmp(devices[i].of, of) && !index--) return &devices[i];
    return NULL;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return look(); }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { (void)code; return "the stand-in says no"; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    int code = look();
    for (*count = 0; nth("", *count); ++*count) {}
    return code;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device **found) {
    int code = look();
    *found = nth("", index);
    return code ? code : *found ? SUCCESS : NOT_FOUND;
}

int nvmlDeviceGetPciInfo_v3(device *d, pci_info *info) {
    int code = look_at(d);
    memset(info, 0, sizeof *info);
    strcpy(info->bus_id, d->bus);
    return code;
}

int nvmlDeviceGetUUID(device *d, char *uuid, unsigned length) {
    int code = look_at(d);
    snprintf(uuid, length, "%s", d->uuid);
    return code;
}

int nvmlDeviceGetMemoryInfo(device *d, memory_info *info) {
    int code = look_at(d);
    if (code) return code;
    if (d->shared) return NOT_SUPPORTED;
    info->total = d->total;
    info->used = d->base;
    for (int i = 0; i < n_users; i++)
        if (!strcmp(users[i].uuid, d->uuid) && ~users[i].bytes) info->used += users[i].bytes;
    info->free = info->total - info->used;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(device *d, unsigned *current, unsigned *pending) {
    int code = look_at(d);
    *current = *pending = nth(d->uuid, 0) != NULL;
    return code ? code : *current ? SUCCESS : NOT_SUPPORTED;
}

int nvmlDeviceGetMaxMigDeviceCount(device *d, unsigned *count) { *count = 7; return look_at(d); }

int nvmlDeviceGetMigDeviceHandleByIndex(device *d, unsigned index, device **found) {
    int code = look_at(d);
    *found = nth(d->uuid, index);
    return code ? code : *found ? SUCCESS : NOT_FOUND;
}

static int list(device *d, unsigned *count, process_info *found, int draws) {
    int code = look_at(d);
    unsigned room = *count;
    if (code) return code;
    *count = 0;
    for (int i = 0; i < n_users; i++) {
        if (strcmp(users[i].uuid, d->uuid) || users[i].draws != draws) continue;
        if (*count < room && found) found[*count] = (process_info){users[i].pid, users[i].bytes, 0, 0};
        ++*count;
    }
    return *count > room ? INSUFFICIENT_SIZE : SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(device *d, unsigned *n, process_info *found) { return list(d, n, found, 0); }
int nvmlDeviceGetGraphicsRunningProcesses_v3(device *d, unsigned *n, process_info *found) { return list(d, n, found, 1); }
