/* Separable blurs with their borders, for `steadypix.gen.kernels.native`: plain C, no headers of Python, torch or OpenMP.
 *
 * The module is opened with ctypes, so nothing here depends on a version of Python. Its threads are those that torch has
 * waiting, handed in as `parallel`, the entry of its OpenMP library: these spin on their cores for a while after
 * every operation, and threads of our own would queue behind them (3 ms for what takes 0.3).
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MOST 16                   /* inputs of one output in the interior */
#define JOINED 2048               /* numbers of short rows that are blurred as one */
#define AHEAD 16384               /* bytes that are asked for before they are read */
#define THREAD_BYTES (1 << 17)    /* that make it worth a thread */
#define SHARES 4                  /* a thread, for one that is late to leave its own to the others */

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
    int64_t channels, rows, shares, next; /* `next` and `failed` are written by all threads */
    int failed;
};

typedef void (*parallel_t)(void (*work)(void *), void *job, unsigned threads, unsigned flags);

#define REAL float
#define NAME(name) name##_float
#include "blur_kernel.h"
#undef REAL
#undef NAME
#define REAL double
#define NAME(name) name##_double
#include "blur_kernel.h"

/* x (N, H, W, channels), or (N, H, W) where channels is 0, to y (N, H', W', channels), by at most `threads` threads, by
 * one where `parallel` is NULL. Returns 1 where memory is short, else 0. */
#define ENTRY(REAL)                                                                                                   \
    int steadypix_blur_##REAL(const REAL *x, REAL *y, const struct axis *v, const struct axis *h, int64_t n,          \
                              int64_t channels, int64_t threads, parallel_t parallel)                                 \
    {                                                                                                                 \
        int64_t pixels = n * (v->n_in * h->n_in + v->n_out * h->n_out);                                               \
        int64_t bytes = pixels * (channels ? channels : 1) * (int64_t)sizeof(REAL);                                   \
        struct job job = {x, y, v, h, channels, n * v->n_out, 1, 0, 0};                                               \
        threads = threads < bytes / THREAD_BYTES ? threads : bytes / THREAD_BYTES;                                    \
        if (parallel && threads > 1) {                                                                                \
            job.shares = SHARES * threads;                                                                            \
            parallel(work_##REAL, &job, (unsigned)threads, 0);                                                        \
        } else {                                                                                                      \
            work_##REAL(&job);                                                                                        \
        }                                                                                                             \
        return job.failed;                                                                                            \
    }
ENTRY(float)
ENTRY(double)
