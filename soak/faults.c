/* Lets the n-th write, fsync or rename below a folder fail, or kill the process: see faults.py.
 *
 * Preloaded in front of libc (LD_PRELOAD), so that it meets every call, whoever makes it: Python, safetensors,
 * torch. Of a write that fails one half is written, as on a disk that fills.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode { COUNT, ONCE, FULL, KILL };
enum call { WRITE, SYNC, RENAME, CALLS };

static char folder[PATH_MAX];
static long fail_at, total, seen[CALLS];
static int mode;

/* Start to count the calls below a folder; the call number `at` fails, counted from 1. */
void faults_arm(const char *path, long at, int how) {
    snprintf(folder, sizeof folder, "%s", path);
    fail_at = at;
    mode = how;
    total = 0;
    memset(seen, 0, sizeof seen);
}

long faults_seen(int call) { return seen[call]; }

static int below(const char *path) {
    size_t length = strlen(folder);
    return length && strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == 0);
}

/* Whether an open file lies below the folder. */
static int ours(int file) {
    char link[64], path[PATH_MAX];
    ssize_t length;
    if (!folder[0])
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return below(path);
}

/* Count a call; whether it is to fail. */
static int fails(enum call call) {
    long number = __atomic_add_fetch(&total, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&seen[call], 1, __ATOMIC_SEQ_CST);
    if (mode == FULL)
        return number == fail_at || (number > fail_at && call == WRITE);
    return mode != COUNT && number == fail_at;
}

static int end(int number) {
    if (mode == KILL) {
        kill(getpid(), SIGKILL);
        pause();
    }
    errno = number;
    return -1;
}

#define NEXT(name) __extension__ name##_type next = (name##_type)dlsym(RTLD_NEXT, #name)

typedef ssize_t (*write_type)(int, const void *, size_t);
ssize_t write(int file, const void *data, size_t count) {
    NEXT(write);
    if (ours(file) && fails(WRITE)) {
        if (count / 2)
            (void)!next(file, data, count / 2);
        return end(ENOSPC);
    }
    return next(file, data, count);
}

typedef ssize_t (*pwrite_type)(int, const void *, size_t, off_t);
ssize_t pwrite(int file, const void *data, size_t count, off_t place) {
    NEXT(pwrite);
    if (ours(file) && fails(WRITE)) {
        if (count / 2)
            (void)!next(file, data, count / 2, place);
        return end(ENOSPC);
    }
    return next(file, data, count, place);
}

typedef ssize_t (*pwrite64_type)(int, const void *, size_t, off64_t);
ssize_t pwrite64(int file, const void *data, size_t count, off64_t place) {
    NEXT(pwrite64);
    if (ours(file) && fails(WRITE)) {
        if (count / 2)
            (void)!next(file, data, count / 2, place);
        return end(ENOSPC);
    }
    return next(file, data, count, place);
}

typedef ssize_t (*writev_type)(int, const struct iovec *, int);
ssize_t writev(int file, const struct iovec *pieces, int count) {
    NEXT(writev);
    if (ours(file) && fails(WRITE))
        return end(ENOSPC);
    return next(file, pieces, count);
}

typedef int (*fsync_type)(int);
int fsync(int file) {
    NEXT(fsync);
    return ours(file) && fails(SYNC) ? end(EIO) : next(file);
}

typedef int (*fdatasync_type)(int);
int fdatasync(int file) {
    NEXT(fdatasync);
    return ours(file) && fails(SYNC) ? end(EIO) : next(file);
}

typedef int (*rename_type)(const char *, const char *);
int rename(const char *from, const char *to) {
    NEXT(rename);
    return below(to) && fails(RENAME) ? end(EIO) : next(from, to);
}

typedef int (*renameat_type)(int, const char *, int, const char *);
int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    NEXT(renameat);
    return below(to) && fails(RENAME) ? end(EIO) : next(from_folder, from, to_folder, to);
}
