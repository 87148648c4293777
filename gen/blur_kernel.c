/* Separable blurs with their borders, for `gen.native`: plain C, no headers of Python or torch, no OpenMP.
 *
 * The module is opened with ctypes, so nothing here depends on a version of Python. Threads are made for a call and
 * end with it: an OpenMP of our own would fight with torch's for the cores, and a pool would not survive a fork.
 */

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MOST 16              /* inputs of one output in the interior */
#define JOINED 2048          /* numbers of short rows that are blurred as one */
#define AHEAD 16384          /* bytes that are asked for before they are read */
#define SHARE ((size_t)1 << 19) /* bytes worth a thread, whose start takes some 20 us */
#define THREADS 64

#define INLINE inline __attribute__((always_inline))
/* One function compiled for several processors, chosen when the library is loaded. It takes an ELF loader that knows
 * indirect functions, and a compiler that knows the levels of x86-64; elsewhere the baseline has to do. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__)
#define CLONES __attribute__((noinline, target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES __attribute__((noinline))
#endif

/* A sparse matrix of an axis: output i is the sum of weights[t] * input[index[t]], starts[i] <= t < starts[i + 1].
 * From output `first` on it repeats itself `repeats` times: after `period` outputs, the same `step` inputs further on. */
struct axis {
    int64_t n_in, n_out, first, repeats, period, step;
    const int64_t *starts, *index;
    const void *weights;
};

struct job {
    const void *x;
    void *y;
    const struct axis *v, *h;
    int64_t channels, first, last;
    int failed;
};

#define REAL float
#define NAME(name) name##_float
#include "blur_kernel.h"
#undef REAL
#undef NAME
#define REAL double
#define NAME(name) name##_double
#include "blur_kernel.h"

static int share_out(struct job whole, void *(*work)(void *), int64_t rows, size_t bytes, int64_t threads)
{
    struct job jobs[THREADS];
    pthread_t ids[THREADS];
    int started[THREADS] = {0}, failed = 0;
    int64_t useful = (int64_t)(bytes / SHARE);
    threads = threads < useful ? threads : useful;
    threads = threads < rows ? threads : rows;
    threads = threads < 1 ? 1 : threads < THREADS ? threads : THREADS;
    for (int64_t t = threads - 1; t >= 0; t--) { /* the caller takes the first share itself, last */
        jobs[t] = whole;
        jobs[t].first = rows * t / threads;
        jobs[t].last = rows * (t + 1) / threads;
        started[t] = t > 0 && pthread_create(&ids[t], NULL, work, &jobs[t]) == 0;
        if (!started[t])
            work(&jobs[t]);
    }
    for (int64_t t = 0; t < threads; t++) {
        if (started[t])
            pthread_join(ids[t], NULL);
        failed |= jobs[t].failed;
    }
    return failed;
}

/* x (N, H, W, channels), or (N, H, W) where channels is 0, to y (N, H', W', channels); 0, or 1 where memory is short. */
#define ENTRY(REAL)                                                                                                  \
    int steadypix_blur_##REAL(const REAL *x, REAL *y, const struct axis *v, const struct axis *h, int64_t n,         \
                              int64_t channels, int64_t threads)                                                     \
    {                                                                                                                \
        struct job whole = {x, y, v, h, channels, 0, 0, 0};                                                          \
        size_t pixels = (size_t)(v->n_in * h->n_in + v->n_out * h->n_out);                                           \
        size_t bytes = (size_t)n * pixels * (size_t)(channels ? channels : 1) * sizeof(REAL);                        \
        return share_out(whole, work_##REAL, n * v->n_out, bytes, threads);                                          \
    }
ENTRY(float)
ENTRY(double)
