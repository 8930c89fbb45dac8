// Stands in for the Vulkan loader: hands every call on to the real one, REAL, but can lose the device or run out of memory as
// hardware does. The environment says when:
//   STAND_IN_WAITS=N, STAND_IN_SUBMISSIONS=N  the device is lost at the wait or submission behind the first N
//   STAND_IN_MEMORY=N                         no more than N bytes are allocated at a time
//   STAND_IN_COUNTS=FILE                      how many waits and submissions there were is written there in the end
// The declarations are those of the Vulkan specification, as far as they are needed.
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OUT_OF_DEVICE_MEMORY = -2, DEVICE_LOST = -4, ALLOCATIONS = 1 << 16 };

struct allocate_info {
    int type;
    const void *next;
    uint64_t bytes;
    uint32_t memory_type;
};

typedef void (*function)(void);
typedef function (*get_address)(void *, const char *);

static get_address instance_address, device_address;
static function wait_semaphores, queue_submit, queue_wait_idle, allocate_memory, free_memory;
static long waits, submissions;
static int lost;
static uint64_t taken;
static struct { uint64_t memory, bytes; } allocations[ALLOCATIONS];

static long told(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

// Whether the device is lost, which it is from this call on if that many were done before.
static int is_lost(long *done, const char *last) {
    if (*done == told(last, -1)) lost = 1;
    *done += 1;
    return lost;
}

static int stand_in_wait_semaphores(void *device, const void *info, uint64_t timeout) {
    // What was submitted is done first: memory that it uses is given back once the device is lost.
    int result = ((int (*)(void *, const void *, uint64_t))wait_semaphores)(device, info, timeout);
    return is_lost(&waits, "STAND_IN_WAITS") ? DEVICE_LOST : result;
}

static int stand_in_queue_wait_idle(void *queue) {
    int result = ((int (*)(void *))queue_wait_idle)(queue);
    return lost ? DEVICE_LOST : result;
}

static int stand_in_queue_submit(void *queue, uint32_t count, const void *infos, uint64_t fence) {
    if (is_lost(&submissions, "STAND_IN_SUBMISSIONS")) return DEVICE_LOST;
    return ((int (*)(void *, uint32_t, const void *, uint64_t))queue_submit)(queue, count, infos, fence);
}

static int stand_in_allocate_memory(void *device, const struct allocate_info *info, const void *how, uint64_t *memory) {
    if (taken + info->bytes > (uint64_t)told("STAND_IN_MEMORY", INT64_MAX)) return OUT_OF_DEVICE_MEMORY;
    int at = 0;
    while (at < ALLOCATIONS && allocations[at].bytes) at++;
    if (at == ALLOCATIONS) return OUT_OF_DEVICE_MEMORY;
    int result =
        ((int (*)(void *, const void *, const void *, uint64_t *))allocate_memory)(device, info, how, memory);
    if (result == 0) {
        allocations[at].memory = *memory;
        allocations[at].bytes = info->bytes;
        taken += info->bytes;
    }
    return result;
}

static void stand_in_free_memory(void *device, uint64_t memory, const void *how) {
    for (int at = 0; at < ALLOCATIONS; at++) {
        if (allocations[at].bytes && allocations[at].memory == memory) {
            taken -= allocations[at].bytes;
            allocations[at].bytes = 0;
        }
    }
    ((void (*)(void *, uint64_t, const void *))free_memory)(device, memory, how);
}

static const struct {
    const char *name;
    function *real, stand_in;
} replaced[] = {
    {"vkWaitSemaphores", &wait_semaphores, (function)stand_in_wait_semaphores},
    {"vkWaitSemaphoresKHR", &wait_semaphores, (function)stand_in_wait_semaphores},
    {"vkQueueWaitIdle", &queue_wait_idle, (function)stand_in_queue_wait_idle},
    {"vkQueueSubmit", &queue_submit, (function)stand_in_queue_submit},
    {"vkAllocateMemory", &allocate_memory, (function)stand_in_allocate_memory},
    {"vkFreeMemory", &free_memory, (function)stand_in_free_memory},
};

static function replace(function real, const char *name) {
    for (size_t at = 0; real && at < sizeof replaced / sizeof *replaced; at++) {
        if (strcmp(name, replaced[at].name) == 0) {
            *replaced[at].real = real;
            return replaced[at].stand_in;
        }
    }
    return real;
}

static function stand_in_device_address(void *device, const char *name) {
    return replace(device_address(device, name), name);
}

function vkGetInstanceProcAddr(void *instance, const char *name) {
    if (!instance_address) {
        void *real = dlopen(REAL, RTLD_NOW);
        if (!real) {
            fprintf(stderr, "%s\n", dlerror());
            exit(1);
        }
        instance_address = (get_address)dlsym(real, "vkGetInstanceProcAddr");
    }
    function found = instance_address(instance, name);
    if (found && strcmp(name, "vkGetDeviceProcAddr") == 0) {
        device_address = (get_address)found;
        return (function)stand_in_device_address;
    }
    return replace(found, name);
}

__attribute__((destructor)) static void write_counts(void) {
    const char *path = getenv("STAND_IN_COUNTS");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file) return;
    fprintf(file, "%ld %ld\n", waits, submissions);
    fclose(file);
}
