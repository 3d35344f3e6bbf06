/*
 * amc-mobile's runner: times ONNX models with an ONNX Runtime that it loads itself. PROTOCOL.md is its contract.
 *
 *     runner MANIFEST
 *
 * Reads a manifest, writes JSON lines to stdout and nothing else there; whatever ONNX Runtime prints goes to stderr.
 *
 * Plain C, no thread of its own, nothing but libc and libdl: one source for Linux and Android, and for every
 * ONNX Runtime since 1.7, whose C API is a table of functions that only ever grows at its end. It is built without any
 * header or library of ONNX Runtime, and against C libraries that differ in detail. Hence no stdio streams, no stat,
 * no strto*, no sysconf: what their headers make of them is not the same everywhere.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_setaffinity, RTLD_DEFAULT */
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifdef RUNNER_BIONIC /* linked against Android's C library, but compiled with the headers of another */
int *__errno(void);
#undef errno
#define errno (*__errno())
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "inputs and outputs are little-endian files"
#endif

#define PROTOCOL 1
#define RUNNER_VERSION "1"
#define FEWEST_WARMUPS 2 /* that a slow network has in any case, as amc_mobile/device/rounds.py */
#define MOST_RUNS 1000000
#define MOST_WARMUPS 100000
#define MOST_SECONDS 86400.0
#define MOST_THREADS 1024
#define MOST_MANIFEST_BYTES ((size_t)16 << 20)
#define MOST_PROFILE_BYTES ((size_t)256 << 20)
#define MOST_INPUT_BYTES ((uint64_t)1 << 30)
#define MOST_DIMENSIONS 64

#if defined(__aarch64__)
#define ABI "arm64-v8a"
#elif defined(__x86_64__)
#define ABI "x86_64"
#elif defined(__arm__)
#define ABI "armeabi-v7a"
#elif defined(__i386__)
#define ABI "x86"
#else
#define ABI "unknown"
#endif

#if defined(__GNUC__)
#define PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define PRINTF(text, first)
#endif

enum ExitCode {
    EXIT_DONE = 0,
    EXIT_USAGE = 2,
    EXIT_MANIFEST = 3,
    EXIT_LIBRARY = 4,
    EXIT_OPTION = 5,
    EXIT_OUTPUT = 6,
    EXIT_MEMORY = 7,
};

/* -------------------------------------------------------------------------------------------- ONNX Runtime's C API */

typedef struct OrtApi OrtApi;
typedef struct OrtEnv OrtEnv;
typedef struct OrtStatus OrtStatus;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtIoBinding OrtIoBinding;
typedef struct OrtSession OrtSession;
typedef struct OrtValue OrtValue;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtTypeInfo OrtTypeInfo;
typedef struct OrtTensorTypeAndShapeInfo OrtTensorTypeAndShapeInfo;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtAllocator OrtAllocator;

/* The place of every function in the table, its name, its result and its parameters. Enumerations are passed as the
 * integers that they are. A test holds all of it against the real header. */
#define SLOTS(SLOT)                                                                                                   \
    SLOT(2, GetErrorMessage, const char *, (const OrtStatus *))                                                       \
    SLOT(3, CreateEnv, OrtStatus *, (unsigned level, const char *id, OrtEnv **))                                      \
    SLOT(7, CreateSession, OrtStatus *, (const OrtEnv *, const char *path, const OrtSessionOptions *, OrtSession **)) \
    SLOT(10, CreateSessionOptions, OrtStatus *, (OrtSessionOptions **))                                               \
    SLOT(11, SetOptimizedModelFilePath, OrtStatus *, (OrtSessionOptions *, const char *path))                         \
    SLOT(13, SetSessionExecutionMode, OrtStatus *, (OrtSessionOptions *, unsigned mode))                              \
    SLOT(14, EnableProfiling, OrtStatus *, (OrtSessionOptions *, const char *prefix))                                 \
    SLOT(23, SetSessionGraphOptimizationLevel, OrtStatus *, (OrtSessionOptions *, unsigned level))                    \
    SLOT(24, SetIntraOpNumThreads, OrtStatus *, (OrtSessionOptions *, int))                                           \
    SLOT(25, SetInterOpNumThreads, OrtStatus *, (OrtSessionOptions *, int))                                           \
    SLOT(30, SessionGetInputCount, OrtStatus *, (const OrtSession *, size_t *))                                       \
    SLOT(31, SessionGetOutputCount, OrtStatus *, (const OrtSession *, size_t *))                                      \
    SLOT(33, SessionGetInputTypeInfo, OrtStatus *, (const OrtSession *, size_t, OrtTypeInfo **))                      \
    SLOT(36, SessionGetInputName, OrtStatus *, (const OrtSession *, size_t, OrtAllocator *, char **))                 \
    SLOT(37, SessionGetOutputName, OrtStatus *, (const OrtSession *, size_t, OrtAllocator *, char **))                \
    SLOT(49, CreateTensorWithDataAsOrtValue, OrtStatus *,                                                             \
         (const OrtMemoryInfo *, void *data, size_t bytes, const int64_t *shape, size_t, unsigned type, OrtValue **)) \
    SLOT(50, IsTensor, OrtStatus *, (const OrtValue *, int *))                                                        \
    SLOT(51, GetTensorMutableData, OrtStatus *, (OrtValue *, void **))                                                \
    SLOT(55, CastTypeInfoToTensorInfo, OrtStatus *, (const OrtTypeInfo *, const OrtTensorTypeAndShapeInfo **))        \
    SLOT(60, GetTensorElementType, OrtStatus *, (const OrtTensorTypeAndShapeInfo *, unsigned *))                      \
    SLOT(61, GetDimensionsCount, OrtStatus *, (const OrtTensorTypeAndShapeInfo *, size_t *))                          \
    SLOT(62, GetDimensions, OrtStatus *, (const OrtTensorTypeAndShapeInfo *, int64_t *, size_t))                      \
    SLOT(63, GetSymbolicDimensions, OrtStatus *, (const OrtTensorTypeAndShapeInfo *, const char **, size_t))          \
    SLOT(65, GetTensorTypeAndShape, OrtStatus *, (const OrtValue *, OrtTensorTypeAndShapeInfo **))                    \
    SLOT(69, CreateCpuMemoryInfo, OrtStatus *, (int allocator, int memory, OrtMemoryInfo **))                         \
    SLOT(76, AllocatorFree, OrtStatus *, (OrtAllocator *, void *))                                                    \
    SLOT(78, GetAllocatorWithDefaultOptions, OrtStatus *, (OrtAllocator **))                                          \
    SLOT(93, ReleaseStatus, void, (OrtStatus *))                                                                      \
    SLOT(94, ReleaseMemoryInfo, void, (OrtMemoryInfo *))                                                              \
    SLOT(95, ReleaseSession, void, (OrtSession *))                                                                    \
    SLOT(96, ReleaseValue, void, (OrtValue *))                                                                        \
    SLOT(98, ReleaseTypeInfo, void, (OrtTypeInfo *))                                                                  \
    SLOT(99, ReleaseTensorTypeAndShapeInfo, void, (OrtTensorTypeAndShapeInfo *))                                      \
    SLOT(100, ReleaseSessionOptions, void, (OrtSessionOptions *))                                                     \
    SLOT(110, SessionEndProfiling, OrtStatus *, (OrtSession *, OrtAllocator *, char **))                              \
    SLOT(124, AddFreeDimensionOverrideByName, OrtStatus *, (OrtSessionOptions *, const char *, int64_t))              \
    SLOT(125, GetAvailableProviders, OrtStatus *, (char ***, int *))                                                  \
    SLOT(126, ReleaseAvailableProviders, OrtStatus *, (char **, int))                                                 \
    SLOT(130, AddSessionConfigEntry, OrtStatus *, (OrtSessionOptions *, const char *, const char *))                  \
    SLOT(133, RunWithBinding, OrtStatus *, (OrtSession *, const OrtRunOptions *, const OrtIoBinding *))               \
    SLOT(134, CreateIoBinding, OrtStatus *, (OrtSession *, OrtIoBinding **))                                          \
    SLOT(135, ReleaseIoBinding, void, (OrtIoBinding *))                                                               \
    SLOT(136, BindInput, OrtStatus *, (OrtIoBinding *, const char *, const OrtValue *))                               \
    SLOT(138, BindOutputToDevice, OrtStatus *, (OrtIoBinding *, const char *, const OrtMemoryInfo *))                 \
    SLOT(140, GetBoundOutputValues, OrtStatus *, (const OrtIoBinding *, OrtAllocator *, OrtValue ***, size_t *))      \
    SLOT(216, SessionOptionsAppendExecutionProvider, OrtStatus *,                                                     \
         (OrtSessionOptions *, const char *provider, const char *const *keys, const char *const *values, size_t))

enum {
    NEWEST_API = 14,
    OLDEST_API = 7, /* ONNX Runtime 1.7: everything in the table but the last slot */
    APPEND_PROVIDER_API = 12,
    LOG_ERROR = 3,
    SEQUENTIAL = 0,
    ARENA_ALLOCATOR = 1,
    MEMORY_DEFAULT = 0,
};

struct ApiBase {
    const OrtApi *(*GetApi)(uint32_t version);
    const char *(*GetVersionString)(void);
};

#define AS_FIELD(slot, name, result, parameters) result(*name) parameters;
static struct {
    SLOTS(AS_FIELD)
    uint32_t version;
} ort;

static OrtEnv *env;
static OrtAllocator *allocator;
static OrtMemoryInfo *cpu_memory;

enum ElementType { FLOAT32 = 1, FLOAT16 = 10, FLOAT64 = 11 };

static const struct {
    const char *name; /* as numpy says it */
    unsigned bytes;
    bool zero; /* a made-up input is zero: whole numbers may be indices */
} element_types[] = {
    [FLOAT32] = {"float32", 4, false},
    [2] = {"uint8", 1, true},
    [3] = {"int8", 1, true},
    [4] = {"uint16", 2, true},
    [5] = {"int16", 2, true},
    [6] = {"int32", 4, true},
    [7] = {"int64", 8, true},
    [9] = {"bool", 1, true},
    [FLOAT16] = {"float16", 2, false},
    [FLOAT64] = {"float64", 8, false},
    [12] = {"uint32", 4, true},
    [13] = {"uint64", 8, true},
};

/* ------------------------------------------------------------------------------------------- lines on stdout, ends */

static int out_fd = -1; /* stdout; its number itself then belongs to stderr, so that nobody else can write here */

static _Noreturn void leave(int code) {
    _exit(code); /* without the destructors of foreign libraries: some crash after their work is done */
}

static void write_out(const char *data, size_t bytes) {
    while (bytes > 0) {
        ssize_t wrote = write(out_fd, data, bytes);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            leave(EXIT_OUTPUT);
        data += wrote;
        bytes -= (size_t)wrote;
    }
}

static _Noreturn void out_of_memory(void) {
    static const char said[] =
        "{\"event\":\"failed\",\"step\":null,\"code\":\"memory\",\"message\":\"there is no memory left\"}\n";
    write_out(said, sizeof said - 1);
    leave(EXIT_MEMORY);
}

static void *allocate(size_t count, size_t bytes) {
    void *memory = calloc(count > 0 ? count : 1, bytes);
    if (memory == NULL)
        out_of_memory();
    return memory;
}

/* Room for one more item behind `count` items: twice as many whenever `count` is a power of two. */
static void *with_room(void *items, size_t count, size_t bytes) {
    if (count != 0 && (count & (count - 1)) != 0)
        return items;
    size_t room = count == 0 ? 1 : 2 * count;
    if (room > SIZE_MAX / bytes)
        out_of_memory();
    items = realloc(items, room * bytes);
    if (items == NULL)
        out_of_memory();
    return items;
}

struct Line {
    char *text;
    size_t used, room;
};

static struct Line line; /* the one that is being written: it is sent as a whole */

static void put_bytes(const char *text, size_t bytes) {
    if (bytes > line.room - line.used) {
        size_t room = 2 * (line.room + bytes) + 256;
        char *grown = realloc(line.text, room);
        if (grown == NULL)
            out_of_memory();
        line.text = grown;
        line.room = room;
    }
    memcpy(line.text + line.used, text, bytes);
    line.used += bytes;
}

static void put(const char *text) { put_bytes(text, strlen(text)); }

PRINTF(1, 2) static void put_format(const char *format, ...) {
    char text[128];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length > 0)
        put_bytes(text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1);
}

/* Bytes of the UTF-8 character at `text`; 0 if there is none. Surrogates and overlong forms are none. */
static unsigned character_bytes(const unsigned char *text) {
    static const struct {
        unsigned char mask, lead;
        uint32_t least;
    } forms[] = {{0x80, 0x00, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
    for (unsigned more = 0; more < 4; more++) {
        if ((text[0] & forms[more].mask) != forms[more].lead)
            continue;
        uint32_t code = text[0] & (unsigned char)~forms[more].mask;
        for (unsigned i = 1; i <= more; i++) { /* the end of the text is no continuation, so that it stops there */
            if ((text[i] & 0xc0) != 0x80)
                return 0;
            code = code << 6 | (text[i] & 0x3fu);
        }
        bool valid = code >= forms[more].least && code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff);
        return valid ? more + 1 : 0;
    }
    return 0;
}

/* A JSON string of any bytes: what is no UTF-8 becomes the replacement character. */
static void put_string(const char *text) {
    const unsigned char *at = (const unsigned char *)text;
    put("\"");
    while (*at != '\0') {
        unsigned bytes = character_bytes(at);
        if (bytes == 0)
            put("\\ufffd");
        else if (*at == '"' || *at == '\\')
            put_format("\\%c", *at);
        else if (*at < 0x20 || *at == 0x7f)
            put_format("\\u%04x", *at);
        else
            put_bytes((const char *)at, bytes);
        at += bytes > 0 ? bytes : 1;
    }
    put("\"");
}

static void put_times(const char *key, const double *values_us, size_t count) {
    put_format(",\"%s\":[", key);
    for (size_t i = 0; i < count; i++)
        put_format("%s%.3f", i > 0 ? "," : "", values_us[i]);
    put("]");
}

static void send_line(void) {
    put("\n");
    write_out(line.text, line.used);
    line.used = 0;
}

/* What went wrong: a code of PROTOCOL.md and words. */
struct Problem {
    const char *code;
    char message[2048];
};

PRINTF(3, 4) static bool fail(struct Problem *problem, const char *code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(problem->message, sizeof problem->message, format, arguments);
    va_end(arguments);
    problem->code = code;
    return false;
}

/* True if ONNX Runtime was content; else its words are the problem's. */
static bool worked(OrtStatus *status, struct Problem *problem, const char *code, const char *what) {
    if (status == NULL)
        return true;
    fail(problem, code, "%s: %s", what, ort.GetErrorMessage(status));
    ort.ReleaseStatus(status);
    return false;
}

static void send_failed(const char *step, const struct Problem *problem) {
    line.used = 0; /* of a line that was begun */
    put_format("{\"event\":\"failed\",\"step\":%s,\"code\":\"%s\",\"message\":", step, problem->code);
    put_string(problem->message);
    put("}");
    send_line();
}

static _Noreturn void give_up(const struct Problem *problem, int code) {
    send_failed("null", problem);
    leave(code);
}

/* Stdout for our lines alone: what foreign code prints to it lands on stderr. */
static void own_stdout(void) {
    out_fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    if (out_fd < 0)
        leave(EXIT_OUTPUT);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fcntl(STDERR_FILENO, F_GETFD) < 0 && null >= 0)
        dup2(null, STDERR_FILENO);
    if (dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        leave(EXIT_OUTPUT);
    signal(SIGPIPE, SIG_IGN); /* a reader that went away is an error of write */
}

/* -------------------------------------------------------------------------------------------------- files, numbers */

/* All of a file, with a NUL behind it, and in *bytes its length; NULL, and errno, if it cannot be read. */
static char *file_text(const char *path, size_t most, size_t *bytes) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    size_t used = 0, room = 1 << 16;
    char *text = allocate(room, 1);
    for (;;) {
        if (room - used < 2) {
            room *= 2;
            char *grown = realloc(text, room);
            if (grown == NULL)
                out_of_memory();
            text = grown;
        }
        ssize_t got = read(fd, text + used, room - used - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got > 0 && (used += (size_t)got) <= most)
            continue;
        int error = got < 0 ? errno : used > most ? EFBIG : 0;
        close(fd);
        if (error == 0) {
            text[used] = '\0';
            *bytes = used;
            return text;
        }
        free(text);
        errno = error;
        return NULL;
    }
}

/* The beginning of a file, which need not be there. */
static bool file_start(const char *path, char *text, size_t room) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return false;
    ssize_t got = read(fd, text, room - 1);
    close(fd);
    text[got > 0 ? got : 0] = '\0';
    return got > 0;
}

static bool write_file(const char *path, const char *data, size_t bytes, struct Problem *problem) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    while (fd >= 0 && bytes > 0) {
        ssize_t wrote = write(fd, data, bytes);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            break;
        data += wrote;
        bytes -= (size_t)wrote;
    }
    int error = errno;
    if (fd >= 0 && close(fd) == 0 && bytes == 0)
        return true;
    return fail(problem, "file", "cannot write %s: %s", path, strerror(error));
}

static bool to_whole(const char *text, uint64_t most, uint64_t *value) {
    uint64_t sum = 0;
    if (*text == '\0')
        return false;
    for (; *text != '\0'; text++) {
        unsigned digit = (unsigned)((unsigned char)*text - '0');
        if (digit > 9 || digit > most || sum > (most - digit) / 10)
            return false;
        sum = 10 * sum + digit;
    }
    *value = sum;
    return true;
}

/* Seconds such as 2 or 0.25. */
static bool to_seconds(char *text, double *value) {
    uint64_t whole = 0, fraction = 0;
    double scale = 1;
    char *point = strchr(text, '.');
    if (point != NULL) {
        *point = '\0';
        if (strlen(point + 1) > 9 || !to_whole(point + 1, 999999999, &fraction))
            return false;
        for (const char *digit = point + 1; *digit != '\0'; digit++)
            scale *= 10;
    }
    if (!to_whole(text, (uint64_t)MOST_SECONDS, &whole))
        return false;
    *value = (double)whole + (double)fraction / scale;
    return *value <= MOST_SECONDS;
}

/* ---------------------------------------------------------------------------------------------------- the manifest */

struct Pair {
    const char *name, *value;
};

struct Pairs {
    struct Pair *items;
    size_t count;
};

struct FreeDimension {
    const char *name;
    int64_t size;
};

struct Model {
    const char *path;
    struct Pairs inputs;
    struct FreeDimension *free;
    size_t free_count;
    bool broken; /* an earlier step could not load or run it */
};

enum Kind { TIME, PROFILE, OUTPUTS };
static const char *const kinds[] = {"time", "profile", "outputs", NULL};

struct Step {
    size_t model;
    unsigned kind;
    uint64_t warmups, runs, fewest, cold, optimised;
    double min_s, most_s;
};

enum Once { LIBRARY, THREADS, LEVEL, PROVIDER, CORES, CLOCK, SEED, ONCE_COUNT };
static const char *const once_keys[] = {"library", "threads", "level", "provider", "cores", "clock", "seed", NULL};
static const char *const levels[] = {"disabled", "basic", "extended", "all", NULL};
static const unsigned level_values[] = {0, 1, 2, 99};
static const char *const clocks[] = {"wall", "thread", NULL};

struct Manifest {
    const char *once[ONCE_COUNT]; /* as it was written, NULL where it was not */
    unsigned threads, level, clock;
    const char *provider;
    cpu_set_t cores;
    uint64_t seed;
    struct Pairs options, config, samples;
    struct Model *models;
    struct Step *steps;
    size_t model_count, step_count;
};

static bool find(const char *const *names, const char *name, unsigned *index) {
    for (*index = 0; names[*index] != NULL; (*index)++)
        if (strcmp(names[*index], name) == 0)
            return true;
    return false;
}

/* Cuts `text` behind its first part, and answers the second. */
static char *cut(char *text, char separator) {
    char *at = strchr(text, separator);
    if (at == NULL)
        return NULL;
    *at = '\0';
    return at + 1;
}

static const char *take_pair(struct Pairs *pairs, char *name) {
    char *value = cut(name, '\t');
    if (value == NULL || *name == '\0' || *value == '\0' || strchr(value, '\t') != NULL)
        return "it needs a name, a tab and a value";
    for (size_t i = 0; i < pairs->count; i++)
        if (strcmp(pairs->items[i].name, name) == 0)
            return "this name was given before";
    pairs->items = with_room(pairs->items, pairs->count, sizeof *pairs->items);
    pairs->items[pairs->count++] = (struct Pair){name, value};
    return NULL;
}

static const char *take_model(struct Manifest *manifest, const char *path) {
    manifest->models = with_room(manifest->models, manifest->model_count, sizeof *manifest->models);
    manifest->models[manifest->model_count++] = (struct Model){.path = path};
    return NULL;
}

static const char *take_free(struct Model *model, char *name) {
    const char *size = cut(name, '\t');
    uint64_t value = 0;
    if (size == NULL || *name == '\0' || !to_whole(size, INT32_MAX, &value) || value == 0)
        return "it needs a name, a tab and a size";
    model->free = with_room(model->free, model->free_count, sizeof *model->free);
    model->free[model->free_count++] = (struct FreeDimension){name, (int64_t)value};
    return NULL;
}

static bool take_setting(struct Step *step, char *word) {
    char *value = cut(word, '=');
    if (value == NULL)
        return false;
    if (strcmp(word, "warmups") == 0)
        return to_whole(value, MOST_WARMUPS, &step->warmups);
    if (strcmp(word, "runs") == 0)
        return to_whole(value, MOST_RUNS, &step->runs) && step->runs > 0;
    if (strcmp(word, "min_time_s") == 0)
        return to_seconds(value, &step->min_s);
    if (strcmp(word, "most_time_s") == 0)
        return to_seconds(value, &step->most_s);
    if (strcmp(word, "fewest_runs") == 0)
        return to_whole(value, MOST_RUNS, &step->fewest) && step->fewest > 0;
    if (strcmp(word, "cold") == 0)
        return to_whole(value, 1, &step->cold);
    if (strcmp(word, "optimised") == 0)
        return to_whole(value, 1, &step->optimised);
    return false;
}

static const char *take_step(struct Manifest *manifest, char *words) {
    struct Step step = {.runs = 1, .fewest = 15, .most_s = 2 * MOST_SECONDS};
    uint64_t model = 0;
    char *kind = cut(words, ' ');
    char *settings = kind == NULL ? NULL : cut(kind, ' ');
    if (kind == NULL || !to_whole(words, UINT32_MAX, &model) || model >= manifest->model_count)
        return "it needs the number of a model above it";
    if (!find(kinds, kind, &step.kind))
        return "there is no such kind of step";
    while (settings != NULL) {
        char *next = cut(settings, ' ');
        if (!take_setting(&step, settings))
            return "this setting of a step cannot be read";
        settings = next;
    }
    step.model = (size_t)model;
    manifest->steps = with_room(manifest->steps, manifest->step_count, sizeof *manifest->steps);
    manifest->steps[manifest->step_count++] = step;
    return NULL;
}

static const char *take_cores(cpu_set_t *cores, char *text) {
    for (char *next; text != NULL; text = next) {
        uint64_t core = 0;
        next = cut(text, ',');
        if (!to_whole(text, CPU_SETSIZE - 1, &core))
            return "cores are numbers with commas between them";
        CPU_SET((size_t)core, cores);
    }
    return NULL;
}

static const char *take_once(struct Manifest *manifest, unsigned key, char *value) {
    uint64_t threads = 0;
    if (manifest->once[key] != NULL)
        return "this was said before";
    manifest->once[key] = value;
    switch (key) {
    case THREADS:
        if (!to_whole(value, MOST_THREADS, &threads) || threads == 0)
            return "threads are 1 to 1024";
        manifest->threads = (unsigned)threads;
        return NULL;
    case LEVEL: return find(levels, value, &manifest->level) ? NULL : "there is no such level";
    case CLOCK: return find(clocks, value, &manifest->clock) ? NULL : "there is no such clock";
    case SEED: return to_whole(value, UINT64_MAX, &manifest->seed) ? NULL : "a seed is a number below 2^64";
    case CORES: return take_cores(&manifest->cores, value);
    case PROVIDER: manifest->provider = value; return NULL;
    default: return NULL; /* the library stays as it is */
    }
}

/* NULL, or what is wrong with this line. */
static const char *take_line(struct Manifest *manifest, char *key) {
    unsigned once = 0;
    char *value = cut(key, ' ');
    struct Model *model = manifest->model_count > 0 ? &manifest->models[manifest->model_count - 1] : NULL;
    if (value == NULL || *value == '\0')
        return "it needs a key, a space and a value";
    if (find(once_keys, key, &once))
        return take_once(manifest, once, value);
    if (strcmp(key, "option") == 0)
        return take_pair(&manifest->options, value);
    if (strcmp(key, "config") == 0)
        return take_pair(&manifest->config, value);
    if (strcmp(key, "sample") == 0)
        return take_pair(&manifest->samples, value);
    if (strcmp(key, "model") == 0)
        return take_model(manifest, value);
    if (strcmp(key, "step") == 0)
        return take_step(manifest, value);
    if (strcmp(key, "input") == 0)
        return model == NULL ? "there is no model above it" : take_pair(&model->inputs, value);
    if (strcmp(key, "free") == 0)
        return model == NULL ? "there is no model above it" : take_free(model, value);
    return "there is no such key";
}

static bool take_text(struct Manifest *manifest, char *text, size_t bytes, struct Problem *problem) {
    bool ended = false;
    size_t number = 0;
    if (strlen(text) != bytes)
        return fail(problem, "manifest", "there is a NUL in it");
    for (char *next; *text != '\0'; text = next) {
        number++;
        next = cut(text, '\n');
        if (next == NULL)
            return fail(problem, "manifest", "line %zu has no end: is the file cut off?", number);
        if (ended)
            return fail(problem, "manifest", "line %zu comes after the end", number);
        if (number == 1 && strcmp(text, "amc-runner 1") != 0)
            return fail(problem, "manifest", "its first line is not \"amc-runner %d\"", PROTOCOL);
        if (number == 1 || (ended = strcmp(text, "end") == 0))
            continue;
        const char *wrong = take_line(manifest, text);
        if (wrong != NULL)
            return fail(problem, "manifest", "line %zu: %s", number, wrong);
    }
    if (!ended)
        return fail(problem, "manifest", "its last line is not \"end\": is the file cut off?");
    if (manifest->once[LIBRARY] == NULL)
        return fail(problem, "manifest", "it names no library");
    return true;
}

/* The manifest's strings stay in the text of the file, which is never freed. */
static bool read_manifest(struct Manifest *manifest, const char *path, struct Problem *problem) {
    size_t bytes = 0;
    *manifest = (struct Manifest){.threads = 1, .level = 3, .provider = "cpu"};
    CPU_ZERO(&manifest->cores);
    char *text = file_text(path, MOST_MANIFEST_BYTES, &bytes);
    if (text == NULL)
        return fail(problem, "manifest", "cannot read %s: %s", path, strerror(errno));
    return take_text(manifest, text, bytes, problem);
}

/* --------------------------------------------------------------------------------------------- library and options */

static void *library;

/* The symbol as a function: ISO C knows no conversion between the two. */
static bool find_function(void *handle, const char *name, void *function) {
    void *symbol = dlsym(handle, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

static void load_slots(const OrtApi *api, uint32_t version) {
    void *const *table = (void *const *)(const void *)api;
    ort.version = version;
#define LOAD(slot, name, result, parameters)                                                                           \
    if (slot != 216 || version >= APPEND_PROVIDER_API)                                                                 \
        memcpy(&ort.name, &table[slot], sizeof ort.name);
    SLOTS(LOAD)
#undef LOAD
}

static bool open_library(const char *path, const char **version, struct Problem *problem) {
    const struct ApiBase *(*get_base)(void);
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return fail(problem, "library", "cannot load %s: %s", path, dlerror());
    if (!find_function(library, "OrtGetApiBase", &get_base))
        return fail(problem, "library", "%s is no ONNX Runtime: it has no OrtGetApiBase", path);
    const struct ApiBase *base = get_base();
    const OrtApi *api = NULL;
    uint32_t newest = NEWEST_API;
    while (api == NULL && newest >= OLDEST_API)
        api = base->GetApi(newest--);
    *version = base->GetVersionString();
    if (api == NULL)
        return fail(problem, "library", "ONNX Runtime %s is too old: 1.7 is the oldest that will do", *version);
    load_slots(api, newest + 1);
    const char *what = "ONNX Runtime does not start";
    return worked(ort.CreateEnv(LOG_ERROR, "amc-runner", &env), problem, "library", what) &&
           worked(ort.GetAllocatorWithDefaultOptions(&allocator), problem, "library", what) &&
           worked(ort.CreateCpuMemoryInfo(ARENA_ALLOCATOR, MEMORY_DEFAULT, &cpu_memory), problem, "library", what);
}

static bool append_nnapi(const struct Pairs *given, OrtSessionOptions *options, struct Problem *problem) {
    static const char *const names[] = {"use_fp16", "use_nchw", "cpu_disabled", "cpu_only", NULL};
    OrtStatus *(*append)(OrtSessionOptions *, uint32_t flags);
    uint32_t flags = 0;
    for (size_t i = 0; i < given->count; i++) {
        const char *name = given->items[i].name;
        unsigned bit = 0;
        uint64_t set = 0;
        if (!find(names, name, &bit) || !to_whole(given->items[i].value, 1, &set))
            return fail(problem, "option", "nnapi has no option %s that can be %s", name, given->items[i].value);
        flags |= (uint32_t)set << bit;
    }
    if (!find_function(library, "OrtSessionOptionsAppendExecutionProvider_Nnapi", &append))
        return fail(problem, "option", "this ONNX Runtime was built without NNAPI");
    return worked(append(options, flags), problem, "option", "provider nnapi");
}

static bool append_provider(const struct Manifest *manifest, OrtSessionOptions *options, struct Problem *problem) {
    const struct Pairs *given = &manifest->options;
    const char *name = manifest->provider;
    if (strcmp(name, "cpu") == 0)
        return given->count == 0 || fail(problem, "option", "provider cpu has no options");
    if (strcmp(name, "nnapi") == 0)
        return append_nnapi(given, options, problem);
    if (ort.SessionOptionsAppendExecutionProvider == NULL)
        return fail(problem, "option", "provider %s needs ONNX Runtime 1.12 at least, this one is older", name);
    if (strcmp(name, "xnnpack") == 0)
        name = "XNNPACK";
    else if (strcmp(name, "qnn") == 0)
        name = "QNN";
    const char **keys = allocate(given->count, sizeof *keys), **values = allocate(given->count, sizeof *values);
    for (size_t i = 0; i < given->count; i++) {
        keys[i] = given->items[i].name;
        values[i] = given->items[i].value;
    }
    OrtStatus *status = ort.SessionOptionsAppendExecutionProvider(options, name, keys, values, given->count);
    free(keys);
    free(values);
    return worked(status, problem, "option", "the provider");
}

static bool set_options(const struct Manifest *manifest, OrtSessionOptions *options, struct Problem *problem) {
    const char *what = "a session option";
    unsigned level = level_values[manifest->level];
    bool well = worked(ort.SetIntraOpNumThreads(options, (int)manifest->threads), problem, "option", what) &&
                worked(ort.SetInterOpNumThreads(options, 1), problem, "option", what) &&
                worked(ort.SetSessionExecutionMode(options, SEQUENTIAL), problem, "option", what) &&
                worked(ort.SetSessionGraphOptimizationLevel(options, level), problem, "option", what);
    for (size_t i = 0; well && i < manifest->config.count; i++) {
        const struct Pair *entry = &manifest->config.items[i];
        well = worked(ort.AddSessionConfigEntry(options, entry->name, entry->value), problem, "option", entry->name);
    }
    return well && append_provider(manifest, options, problem);
}

/* Options that all steps share. Never NULL: without memory there is no going on. */
static OrtSessionOptions *new_options(void) {
    OrtSessionOptions *options = NULL;
    OrtStatus *status = ort.CreateSessionOptions(&options);
    if (status != NULL)
        out_of_memory();
    return options;
}

static bool pin(const struct Manifest *manifest, struct Problem *problem) {
    if (manifest->once[CORES] == NULL || sched_setaffinity(0, sizeof manifest->cores, &manifest->cores) == 0)
        return true;
    return fail(problem, "option", "cannot run on cores %s: %s", manifest->once[CORES], strerror(errno));
}

static void put_cores(void) {
    cpu_set_t granted;
    bool first = true;
    CPU_ZERO(&granted);
    if (sched_getaffinity(0, sizeof granted, &granted) < 0)
        CPU_ZERO(&granted);
    put(",\"cores\":[");
    for (size_t core = 0; core < CPU_SETSIZE; core++) {
        if (!CPU_ISSET(core, &granted))
            continue;
        put_format("%s%zu", first ? "" : ",", core);
        first = false;
    }
    put("]");
}

static void send_hello(const struct Manifest *manifest, const char *version) {
    char **providers = NULL;
    int count = 0;
    OrtStatus *status = ort.GetAvailableProviders(&providers, &count);
    if (status != NULL) {
        ort.ReleaseStatus(status);
        count = 0;
    }
    put_format("{\"event\":\"hello\",\"protocol\":%d,\"runner\":\"%s\",\"onnxruntime\":", PROTOCOL, RUNNER_VERSION);
    put_string(version);
    put_format(",\"api\":%u,\"abi\":\"%s\",\"providers\":[", (unsigned)ort.version, ABI);
    for (int i = 0; i < count; i++) {
        put(i > 0 ? "," : "");
        put_string(providers[i]);
    }
    put("]");
    put_cores();
    put_format(",\"clock\":\"%s\"}", clocks[manifest->clock]);
    send_line();
    if (providers != NULL && (status = ort.ReleaseAvailableProviders(providers, count)) != NULL)
        ort.ReleaseStatus(status);
}

/* -------------------------------------------------------------------------------------------------- made-up inputs */

/* SplitMix64's output function: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators". */
static uint64_t mix(uint64_t word) {
    word = (word ^ word >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    word = (word ^ word >> 27) * UINT64_C(0x94d049bb133111eb);
    return word ^ word >> 31;
}

/* Where the words of one input begin: its name (FNV-1a) and the seed. */
static uint64_t stream(uint64_t seed, const char *name) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (; *name != '\0'; name++)
        hash = (hash ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
    return mix(mix(seed) ^ hash);
}

/* The sum of four uniform 16-bit numbers, nearly normal: mean 0, variance 1, and the same bits everywhere. */
static double normal(uint64_t start, uint64_t index) {
    uint64_t word = mix(start + (index + 1) * UINT64_C(0x9e3779b97f4a7c15));
    int32_t sum = (int32_t)((word & 0xffff) + (word >> 16 & 0xffff) + (word >> 32 & 0xffff) + (word >> 48));
    return (double)(sum - 131070) * 2.6428997918226276e-05; /* sqrt(3) / 65536 */
}

/* The nearest half-precision number, ties to even. Made-up values are small: none overflows. */
static uint16_t to_half(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    int exponent = (int)(magnitude >> 23) - 127;
    uint32_t mantissa = (magnitude & 0x7fffff) | 0x800000;
    int drop = exponent < -14 ? -1 - exponent : 13; /* bits of the mantissa that half precision has no room for */
    if (exponent < -25)
        return (uint16_t)sign;
    uint32_t kept = mantissa >> drop, rest = mantissa & ((UINT32_C(1) << drop) - 1), half = UINT32_C(1) << (drop - 1);
    kept += rest > half || (rest == half && (kept & 1));
    return (uint16_t)(sign | (exponent < -14 ? kept : kept + ((uint32_t)(exponent + 14) << 10)));
}

static void make_up(void *data, uint64_t count, unsigned type, uint64_t start) {
    for (uint64_t i = 0; i < count; i++) {
        double value = normal(start, i);
        if (type == FLOAT32)
            ((float *)data)[i] = (float)value;
        else if (type == FLOAT64)
            ((double *)data)[i] = value;
        else
            ((uint16_t *)data)[i] = to_half((float)value);
    }
}

static bool read_input(const char *path, void *data, size_t bytes, struct Problem *problem) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(problem, "input", "cannot read %s: %s", path, strerror(errno));
    size_t used = 0;
    ssize_t got = 0;
    char beyond;
    while (used < bytes && ((got = read(fd, (char *)data + used, bytes - used)) > 0 || (got < 0 && errno == EINTR)))
        used += got > 0 ? (size_t)got : 0;
    if (got >= 0)
        got = used == bytes ? read(fd, &beyond, 1) : 1;
    int error = errno;
    close(fd);
    if (got < 0)
        return fail(problem, "input", "cannot read %s: %s", path, strerror(error));
    return got == 0 || fail(problem, "input", "%s has not the %zu bytes of the input", path, bytes);
}

/* ----------------------------------------------------------------------------------------------------- one session */

struct Input {
    char *name; /* ONNX Runtime's memory */
    void *data;
    OrtValue *value;
};

struct Session {
    OrtSessionOptions *options;
    OrtSession *session;
    OrtIoBinding *binding;
    struct Input *inputs;
    char **output_names;
    size_t input_count, output_count;
    double load_us;
};

static double now_us(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static void free_by_ort(void *memory) {
    OrtStatus *status = memory == NULL ? NULL : ort.AllocatorFree(allocator, memory);
    if (status != NULL)
        ort.ReleaseStatus(status);
}

static void close_session(struct Session *session) {
    for (size_t i = 0; i < session->input_count; i++) {
        if (session->inputs[i].value != NULL)
            ort.ReleaseValue(session->inputs[i].value);
        free_by_ort(session->inputs[i].name);
        free(session->inputs[i].data);
    }
    for (size_t i = 0; i < session->output_count; i++)
        free_by_ort(session->output_names[i]);
    free(session->inputs);
    free(session->output_names);
    if (session->binding != NULL)
        ort.ReleaseIoBinding(session->binding);
    if (session->session != NULL)
        ort.ReleaseSession(session->session);
    if (session->options != NULL)
        ort.ReleaseSessionOptions(session->options);
    *session = (struct Session){0};
}

static int64_t free_size(const struct Model *model, const char *name) {
    for (size_t i = 0; name != NULL && i < model->free_count; i++)
        if (strcmp(model->free[i].name, name) == 0)
            return model->free[i].size;
    return 1;
}

struct Shape {
    int64_t sizes[MOST_DIMENSIONS];
    size_t dimensions;
    uint64_t count; /* of elements */
    unsigned type;
};

static bool known_type(unsigned type) {
    return type < sizeof element_types / sizeof *element_types && element_types[type].bytes > 0;
}

static bool read_shape(
    const OrtTensorTypeAndShapeInfo *info, const struct Model *model, struct Shape *shape, struct Problem *problem) {
    const char *names[MOST_DIMENSIONS] = {NULL};
    const char *what = "its shape";
    *shape = (struct Shape){.count = 1};
    if (!worked(ort.GetTensorElementType(info, &shape->type), problem, "input", what) ||
        !worked(ort.GetDimensionsCount(info, &shape->dimensions), problem, "input", what))
        return false;
    if (shape->dimensions > MOST_DIMENSIONS)
        return fail(problem, "input", "it has %zu dimensions", shape->dimensions);
    if (!known_type(shape->type))
        return fail(problem, "input", "its element type %u is none that can be made up or read", shape->type);
    if (!worked(ort.GetDimensions(info, shape->sizes, shape->dimensions), problem, "input", what))
        return false;
    if (model != NULL && !worked(ort.GetSymbolicDimensions(info, names, shape->dimensions), problem, "input", what))
        return false;
    for (size_t i = 0; i < shape->dimensions; i++) {
        if (model != NULL && shape->sizes[i] <= 0) /* free; as on the host, an empty one too */
            shape->sizes[i] = free_size(model, names[i]);
        uint64_t size = shape->sizes[i] < 0 ? UINT64_MAX : (uint64_t)shape->sizes[i];
        if (size != 0 && shape->count > MOST_INPUT_BYTES / size)
            return fail(problem, "input", "it has more than %u MiB", (unsigned)(MOST_INPUT_BYTES >> 20));
        shape->count *= size;
    }
    if (shape->count * element_types[shape->type].bytes > MOST_INPUT_BYTES)
        return fail(problem, "input", "it has more than %u MiB", (unsigned)(MOST_INPUT_BYTES >> 20));
    return true;
}

static bool fill_input(
    struct Input *input, const struct Model *model, const struct Shape *shape, uint64_t seed, struct Problem *problem) {
    size_t bytes = (size_t)shape->count * element_types[shape->type].bytes;
    void *data = NULL;
    if (posix_memalign(&data, 64, bytes > 0 ? bytes : 1) != 0)
        return fail(problem, "input", "there is no memory for its %zu bytes", bytes);
    input->data = data;
    for (size_t i = 0; i < model->inputs.count; i++)
        if (strcmp(model->inputs.items[i].name, input->name) == 0)
            return read_input(model->inputs.items[i].value, data, bytes, problem);
    memset(data, 0, bytes);
    if (!element_types[shape->type].zero)
        make_up(data, shape->count, shape->type, stream(seed, input->name));
    return true;
}

static bool describe_input(
    const struct Session *session, size_t index, const struct Model *model, struct Shape *shape,
    struct Problem *problem) {
    OrtTypeInfo *type = NULL;
    const OrtTensorTypeAndShapeInfo *info = NULL;
    if (!worked(ort.SessionGetInputTypeInfo(session->session, index, &type), problem, "input", "its type"))
        return false;
    bool well = worked(ort.CastTypeInfoToTensorInfo(type, &info), problem, "input", "its type");
    if (well && info == NULL)
        well = fail(problem, "input", "it is no tensor");
    well = well && read_shape(info, model, shape, problem);
    ort.ReleaseTypeInfo(type);
    return well;
}

static bool bind_data(
    struct Session *session, struct Input *input, const struct Shape *shape, struct Problem *problem) {
    size_t bytes = (size_t)shape->count * element_types[shape->type].bytes;
    OrtStatus *status = ort.CreateTensorWithDataAsOrtValue(
        cpu_memory, input->data, bytes, shape->sizes, shape->dimensions, shape->type, &input->value);
    return worked(status, problem, "input", "its tensor") &&
           worked(ort.BindInput(session->binding, input->name, input->value), problem, "input", "binding it");
}

static bool bind_input(
    struct Session *session, size_t index, const struct Model *model, uint64_t seed, struct Problem *problem) {
    struct Input *input = &session->inputs[index];
    struct Shape shape = {.count = 0};
    struct Problem inner = {0};
    OrtStatus *status = ort.SessionGetInputName(session->session, index, allocator, &input->name);
    if (!worked(status, problem, "input", "its name"))
        return false;
    bool well = describe_input(session, index, model, &shape, &inner) &&
                fill_input(input, model, &shape, seed, &inner) && bind_data(session, input, &shape, &inner);
    return well || fail(problem, inner.code, "input %.200s: %.1800s", input->name, inner.message);
}

static bool has_input(const struct Session *session, const char *name) {
    for (size_t i = 0; i < session->input_count; i++)
        if (strcmp(session->inputs[i].name, name) == 0)
            return true;
    return false;
}

static bool bind(struct Session *session, const struct Model *model, uint64_t seed, struct Problem *problem) {
    const char *what = "the model's inputs and outputs";
    if (!worked(ort.CreateIoBinding(session->session, &session->binding), problem, "model", what) ||
        !worked(ort.SessionGetInputCount(session->session, &session->input_count), problem, "model", what))
        return false;
    session->inputs = allocate(session->input_count, sizeof *session->inputs);
    for (size_t i = 0; i < session->input_count; i++)
        if (!bind_input(session, i, model, seed, problem))
            return false;
    for (size_t i = 0; i < model->inputs.count; i++)
        if (!has_input(session, model->inputs.items[i].name))
            return fail(problem, "input", "the model has no input %s", model->inputs.items[i].name);
    if (!worked(ort.SessionGetOutputCount(session->session, &session->output_count), problem, "model", what))
        return false;
    session->output_names = allocate(session->output_count, sizeof *session->output_names);
    for (size_t i = 0; i < session->output_count; i++) {
        char **name = &session->output_names[i];
        if (!worked(ort.SessionGetOutputName(session->session, i, allocator, name), problem, "model", what) ||
            !worked(ort.BindOutputToDevice(session->binding, *name, cpu_memory), problem, "model", what))
            return false;
    }
    return true;
}

/* Names of the files that a step leaves in the working folder. */
struct Names {
    char profile[48], optimised[48], weights[48];
};

static struct Names names_of(size_t step) {
    struct Names names;
    snprintf(names.profile, sizeof names.profile, "profile-%zu", step); /* ONNX Runtime puts _DATE.json behind it */
    snprintf(names.optimised, sizeof names.optimised, "optimised-%zu.onnx", step);
    snprintf(names.weights, sizeof names.weights, "optimised-%zu.bin", step);
    return names;
}

static bool set_step_options(
    const struct Model *model, const struct Step *step, const struct Names *names, OrtSessionOptions *options,
    struct Problem *problem) {
    static const char weights_file[] = "session.optimized_model_external_initializers_file_name";
    static const char weights_least[] = "session.optimized_model_external_initializers_min_size_in_bytes";
    for (size_t i = 0; i < model->free_count; i++) {
        const struct FreeDimension *free = &model->free[i];
        if (!worked(ort.AddFreeDimensionOverrideByName(options, free->name, free->size), problem, "model", free->name))
            return false;
    }
    if (step->kind == PROFILE && !worked(ort.EnableProfiling(options, names->profile), problem, "file", "the profile"))
        return false;
    if (!step->optimised)
        return true;
    const char *what = "the optimised model";
    return worked(ort.SetOptimizedModelFilePath(options, names->optimised), problem, "file", what) &&
           worked(ort.AddSessionConfigEntry(options, weights_file, names->weights), problem, "file", what) &&
           worked(ort.AddSessionConfigEntry(options, weights_least, "1024"), problem, "file", what);
}

static bool open_session(
    struct Session *session, const struct Manifest *manifest, const struct Step *step, const struct Names *names,
    struct Problem *problem) {
    const struct Model *model = &manifest->models[step->model];
    session->options = new_options();
    if (!set_options(manifest, session->options, problem) ||
        !set_step_options(model, step, names, session->options, problem))
        return false;
    double start = now_us(CLOCK_MONOTONIC);
    OrtStatus *status = ort.CreateSession(env, model->path, session->options, &session->session);
    session->load_us = now_us(CLOCK_MONOTONIC) - start;
    return worked(status, problem, "model", "it does not load") && bind(session, model, manifest->seed, problem);
}

/* ---------------------------------------------------------------------------------------------------------- memory */

/* Gives freed memory back, so that a session's peak is its own; then starts the kernel's high-water mark anew. */
static bool reset_peak(void) {
    int (*trim)(size_t), (*tune)(int, int);
    if (find_function(RTLD_DEFAULT, "malloc_trim", &trim))
        trim(0);
    else if (find_function(RTLD_DEFAULT, "mallopt", &tune))
        tune(-101, 0); /* Android's M_PURGE */
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    bool well = fd >= 0 && write(fd, "5", 1) == 1;
    if (fd >= 0)
        close(fd);
    return well;
}

/* The most memory since reset_peak; 0 where the system does not tell. */
static uint64_t peak_bytes(void) {
    char status[8192];
    if (!file_start("/proc/self/status", status, sizeof status))
        return 0;
    char *at = strstr(status, "VmHWM:");
    uint64_t kib = 0;
    for (at = at == NULL ? NULL : at + 6; at != NULL && (*at == ' ' || *at == '\t'); at++)
        ;
    if (at == NULL || cut(at, ' ') == NULL || !to_whole(at, UINT64_MAX >> 10, &kib))
        return 0;
    return kib << 10;
}

/* The largest cache of the first core; 32 MiB where the system does not tell. As amc_mobile/device/machine.py. */
static size_t cache_bytes(void) {
    uint64_t most = 0;
    for (int index = 0; index < 10; index++) {
        char path[80], size[32];
        uint64_t value = 0;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
        if (!file_start(path, size, sizeof size))
            continue;
        char *unit = strpbrk(size, "KM");
        unsigned shift = unit == NULL ? 0 : *unit == 'K' ? 10 : 20;
        if (unit == NULL)
            continue;
        *unit = '\0';
        if (to_whole(size, 1 << 20, &value) && value << shift > most)
            most = value << shift;
    }
    most = most == 0 ? (uint64_t)32 << 20 : most;
    return (size_t)(most < ((uint64_t)128 << 20) ? most : (uint64_t)128 << 20);
}

/* Walks over more memory than the caches hold, so that nothing that was there before is left. */
static void empty_caches(void) {
    static volatile uint64_t *ballast;
    static size_t words;
    if (ballast == NULL) {
        words = 2 * cache_bytes() / sizeof *ballast;
        ballast = allocate(words, sizeof *ballast);
    }
    for (size_t i = 0; i < words; i++)
        ballast[i] += 1;
}

/* ------------------------------------------------------------------------------------------------------------ runs */

struct Times {
    double *warmups_us, *values_us;
    size_t warmup_count, value_count;
    double first_run_us; /* by the wall */
};

static bool run_once(const struct Session *session, clockid_t clock, double *time_us, struct Problem *problem) {
    double start = now_us(clock);
    OrtStatus *status = ort.RunWithBinding(session->session, NULL, session->binding);
    *time_us = now_us(clock) - start;
    return worked(status, problem, "run", "it does not run");
}

static bool append_run(
    const struct Session *session, clockid_t clock, double **values_us, size_t *count, struct Problem *problem) {
    *values_us = with_room(*values_us, *count, sizeof **values_us);
    return run_once(session, clock, &(*values_us)[(*count)++], problem);
}

/* At least step->runs runs and step->min_s; once there are step->fewest, none begins after step->most_s, and once there
   are FEWEST_WARMUPS, no warm-up does. */
static bool time_runs(
    const struct Session *session, const struct Step *step, clockid_t clock, struct Times *times,
    struct Problem *problem) {
    double begin = now_us(CLOCK_MONOTONIC), wall_us = 0;
    bool well = true;
    for (uint64_t i = 0; well && i < step->warmups; i++) {
        if (i >= FEWEST_WARMUPS && now_us(CLOCK_MONOTONIC) - begin >= 1e6 * step->most_s)
            break;
        well = append_run(session, clock, &times->warmups_us, &times->warmup_count, problem);
        if (i == 0)
            times->first_run_us = now_us(CLOCK_MONOTONIC) - begin;
    }
    begin = now_us(CLOCK_MONOTONIC);
    while (well && times->value_count < MOST_RUNS && (times->value_count < step->runs || wall_us < 1e6 * step->min_s)) {
        if (times->value_count >= step->fewest && wall_us >= 1e6 * step->most_s)
            break;
        if (step->cold)
            empty_caches();
        double start = now_us(CLOCK_MONOTONIC);
        well = append_run(session, clock, &times->values_us, &times->value_count, problem);
        wall_us = now_us(CLOCK_MONOTONIC) - begin;
        if (times->value_count == 1 && times->warmup_count == 0)
            times->first_run_us = now_us(CLOCK_MONOTONIC) - start;
    }
    return well;
}

/* ---------------------------------------------------------------------------------------------- what a step leaves */

static void put_samples(const struct Pairs *samples) {
    bool first = true;
    put(",\"samples\":{");
    for (size_t i = 0; i < samples->count; i++) {
        char text[1024];
        if (!file_start(samples->items[i].value, text, sizeof text))
            continue;
        cut(text, '\n');
        put(first ? "" : ",");
        put_string(samples->items[i].name);
        put(":");
        put_string(text);
        first = false;
    }
    put("}");
}

struct ProviderCount {
    const char *name;
    uint64_t events;
};

/* Counts the provider's name that stands in one line of the profile. */
static size_t count_provider(char *event, struct ProviderCount *counts, size_t used, size_t room) {
    static const char key[] = "\"provider\" : \"";
    char *name = strstr(event, key);
    if (name == NULL || strstr(event, "_kernel_time\"") == NULL)
        return used;
    name += sizeof key - 1;
    if (cut(name, '"') == NULL)
        return used;
    for (size_t i = 0; i < used; i++)
        if (strcmp(counts[i].name, name) == 0) {
            counts[i].events++;
            return used;
        }
    if (used < room)
        counts[used++] = (struct ProviderCount){name, 1};
    return used;
}

/* Nodes that every provider ran, from the profile: events of nodes divided by runs. Nothing where it cannot be told. */
static void put_nodes_per_provider(const char *profile) {
    struct ProviderCount counts[16];
    size_t used = 0, bytes = 0;
    uint64_t runs = 0;
    char *text = file_text(profile, MOST_PROFILE_BYTES, &bytes);
    for (char *event = text, *next; event != NULL; event = next) { /* ONNX Runtime writes an event a line */
        next = cut(event, '\n');
        runs += strstr(event, "\"model_run\"") != NULL;
        used = count_provider(event, counts, used, sizeof counts / sizeof *counts);
    }
    put(",\"nodes_per_provider\":{");
    for (size_t i = 0; runs > 0 && i < used; i++) {
        put(i > 0 ? "," : "");
        put_string(counts[i].name);
        put_format(":%llu", (unsigned long long)((counts[i].events + runs / 2) / runs));
    }
    put("}");
    free(text);
}

static bool put_profile(const struct Session *session, struct Problem *problem) {
    char *file = NULL;
    if (!worked(ort.SessionEndProfiling(session->session, allocator, &file), problem, "file", "the profile"))
        return false;
    put(",\"profile\":");
    put_string(file);
    put_nodes_per_provider(file);
    free_by_ort(file);
    return true;
}

static bool describe_output(OrtValue *value, struct Shape *shape, void **data, struct Problem *problem) {
    OrtTensorTypeAndShapeInfo *info = NULL;
    int is_tensor = 0;
    if (!worked(ort.IsTensor(value, &is_tensor), problem, "run", "its type"))
        return false;
    if (!is_tensor)
        return fail(problem, "run", "it is no tensor");
    if (!worked(ort.GetTensorTypeAndShape(value, &info), problem, "run", "its type"))
        return false;
    bool well = read_shape(info, NULL, shape, problem);
    ort.ReleaseTensorTypeAndShapeInfo(info);
    return well && worked(ort.GetTensorMutableData(value, data), problem, "run", "its values");
}

static bool put_output(size_t step, size_t index, const char *name, OrtValue *value, struct Problem *problem) {
    struct Shape shape;
    struct Problem inner = {0};
    void *data = NULL;
    char file[64];
    if (!describe_output(value, &shape, &data, &inner))
        return fail(problem, "run", "output %.200s: %.1800s", name, inner.message);
    snprintf(file, sizeof file, "output-%zu-%zu.bin", step, index);
    if (!write_file(file, data, (size_t)shape.count * element_types[shape.type].bytes, problem))
        return false;
    put(index > 0 ? ",{\"name\":" : "{\"name\":");
    put_string(name);
    put_format(",\"type\":\"%s\",\"shape\":[", element_types[shape.type].name);
    for (size_t i = 0; i < shape.dimensions; i++)
        put_format("%s%lld", i > 0 ? "," : "", (long long)shape.sizes[i]);
    put_format("],\"file\":\"%s\"}", file);
    return true;
}

static bool put_outputs(size_t step, const struct Session *session, struct Problem *problem) {
    OrtValue **values = NULL;
    size_t count = 0;
    if (!worked(ort.GetBoundOutputValues(session->binding, allocator, &values, &count), problem, "run", "the outputs"))
        return false;
    bool well = count == session->output_count || fail(problem, "run", "it gave %zu outputs", count);
    put(",\"outputs\":[");
    for (size_t i = 0; i < count; i++) {
        well = well && put_output(step, i, session->output_names[i], values[i], problem);
        ort.ReleaseValue(values[i]);
    }
    put("]");
    free_by_ort(values);
    return well;
}

static bool do_step(
    const struct Manifest *manifest, size_t number, struct Session *session, struct Times *times,
    struct Problem *problem) {
    const struct Step *step = &manifest->steps[number];
    struct Names names = names_of(number);
    clockid_t clock = manifest->clock == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
    bool peak_known = reset_peak() && !step->cold; /* the memory that empties the caches would be the peak */
    if (!open_session(session, manifest, step, &names, problem) || !time_runs(session, step, clock, times, problem))
        return false;
    uint64_t peak = peak_known ? peak_bytes() : 0;
    put_format("{\"event\":\"timed\",\"step\":%zu,\"load_us\":%.3f", number, session->load_us);
    put_samples(&manifest->samples); /* at once: the clock is to be that of the runs */
    put_format(",\"first_run_us\":%.3f", times->first_run_us);
    put_times("warmups_us", times->warmups_us, times->warmup_count);
    put_times("values_us", times->values_us, times->value_count);
    if (peak > 0)
        put_format(",\"peak_bytes\":%llu", (unsigned long long)peak);
    else
        put(",\"peak_bytes\":null");
    if (step->kind == PROFILE && !put_profile(session, problem))
        return false;
    if (step->optimised)
        put_format(",\"optimised\":\"%s\"", names.optimised);
    if (step->kind == OUTPUTS && !put_outputs(number, session, problem))
        return false;
    put("}");
    return true;
}

static void take_step_on(struct Manifest *manifest, size_t number) {
    struct Model *model = &manifest->models[manifest->steps[number].model];
    struct Problem problem = {0};
    struct Session session = {0};
    struct Times times = {0};
    char text[24];
    snprintf(text, sizeof text, "%zu", number);
    put_format("{\"event\":\"begun\",\"step\":%zu}", number);
    send_line();
    bool well = !model->broken && do_step(manifest, number, &session, &times, &problem);
    close_session(&session);
    free(times.warmups_us);
    free(times.values_us);
    if (well) {
        send_line();
        return;
    }
    if (model->broken)
        fail(&problem, "skipped", "an earlier step of this model failed");
    model->broken = model->broken || strcmp(problem.code, "file") != 0; /* a full disk is not the model's fault */
    send_failed(text, &problem);
}

int main(int argc, char **argv) {
    struct Manifest manifest;
    struct Problem problem = {0};
    const char *version = "";
    own_stdout();
    if (argc != 2) {
        fail(&problem, "usage", "type: runner MANIFEST");
        give_up(&problem, EXIT_USAGE);
    }
    if (!read_manifest(&manifest, argv[1], &problem))
        give_up(&problem, EXIT_MANIFEST);
    if (!pin(&manifest, &problem)) /* before ONNX Runtime looks at the cores, and for the threads that it starts */
        give_up(&problem, EXIT_OPTION);
    if (!open_library(manifest.once[LIBRARY], &version, &problem))
        give_up(&problem, EXIT_LIBRARY);
    OrtSessionOptions *options = new_options();
    if (!set_options(&manifest, options, &problem))
        give_up(&problem, EXIT_OPTION);
    ort.ReleaseSessionOptions(options);
    send_hello(&manifest, version);
    for (size_t number = 0; number < manifest.step_count; number++)
        take_step_on(&manifest, number);
    put("{\"event\":\"done\"}");
    send_line();
    leave(EXIT_DONE);
}
