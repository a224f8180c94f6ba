/* A slower llama-server that needs no processor for it: preloaded (LD_PRELOAD) by bench/turns.py, see bench/slow.py.

   A file MODEL.gguf.slow beside a model holds two numbers: seconds that its load is to take longer, and seconds that one
   decode step is to take at least. A step computes one token of each answer that runs, as on a GPU, so several answers at
   once are not slower than one. The first step of a process is llama-server's warm-up, before it says that it is ready:
   there the load is made longer, when all its memory is taken. Each load adds a line to MODEL.gguf.loads. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* llama_batch and whatever it grows to: passed by value, so on the stack, and handed on as it lies there. */
struct batch { void *words[32]; };

static double load_s, step_s;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void wait_until(double moment) {
    struct timespec t = { (time_t)moment, (long)((moment - (time_t)moment) * 1e9) };
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0) { }
}

/* The path of the model: the first argument of this process that ends in .gguf. */
static const char *model(void) {
    static char line[65536];
    int file = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? 0 : read(file, line, sizeof line - 1);
    if (file >= 0) close(file);
    for (char *word = line; word < line + length; word += strlen(word) + 1) {
        size_t n = strlen(word);
        if (n > 5 && strcmp(word + n - 5, ".gguf") == 0) return word;
    }
    return NULL;
}

static void begin(void) {
    char path[4096];
    const char *gguf = model();
    if (gguf == NULL) return;
    snprintf(path, sizeof path, "%s.loads", gguf);
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (file >= 0) {
        if (write(file, "load\n", 5) != 5) fputs("slow.so: a load was not noted\n", stderr);
        close(file);
    }
    snprintf(path, sizeof path, "%s.slow", gguf);
    FILE *figures = fopen(path, "re");
    if (figures == NULL) return;
    if (fscanf(figures, "%lf %lf", &load_s, &step_s) != 2) fprintf(stderr, "slow.so: %s has no two numbers\n", path);
    fclose(figures);
    wait_until(now() + load_s);
}

int llama_decode(void *context, struct batch batch) {
    static int (*real)(void *, struct batch);
    if (real == NULL) {
        real = (int (*)(void *, struct batch))dlsym(RTLD_NEXT, "llama_decode");
        begin();
    }
    double due = now() + step_s;
    int result = real(context, batch);
    wait_until(due);
    return result;
}
