/* Loaded into a test's child process in front of the C library: system calls on files below
 * FAULTS_UNDER fail, hang or kill the process as long as a file with the name of the call in FAULTS
 * says so: an error number, "hang" or "kill". "renamed" is the moment after a rename. Where there is
 * a file "trace", the calls are written to it. As long as there is a file "thread", no thread can be
 * started. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* By the kernel itself, so that it does not come back here. */
static int asked(const char *call, char *what, size_t size) {
    const char *dir = getenv("FAULTS");
    if (!dir) return 0;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, call);
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    long length = syscall(SYS_read, fd, what, size - 1);
    syscall(SYS_close, fd);
    what[length > 0 ? length : 0] = 0;
    return length > 0;
}

static void trace(const char *call, const char *path) {
    char to[PATH_MAX], line[PATH_MAX + 32];
    snprintf(to, sizeof to, "%s/trace", getenv("FAULTS") ?: "");
    int fd = syscall(SYS_openat, AT_FDCWD, to, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0) return;
    int length = snprintf(line, sizeof line, "%s %s\n", call, path);
    syscall(SYS_write, fd, line, (size_t)length);
    syscall(SYS_close, fd);
}

/* The error a call is to end with; 0: none. */
static int fault(const char *call, const char *path) {
    const char *under = getenv("FAULTS_UNDER");
    char what[32];
    if (!path || !under || !strstr(path, under)) return 0;
    trace(call, path);
    while (asked(call, what, sizeof what)) {
        if (!strncmp(what, "kill", 4)) raise(SIGKILL);
        if (strncmp(what, "hang", 4)) return atoi(what);
        usleep(1000);
    }
    return 0;
}

static int fault_of(const char *call, int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fault(call, path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define UNLESS(found) do { int e = (found); if (e) { errno = e; return -1; } } while (0)
#define MODE(last) va_list all; va_start(all, last); int mode = va_arg(all, int); va_end(all)

int open64(const char *path, int flags, ...) {
    MODE(flags);
    UNLESS(fault("open", path));
    return REAL(open64)(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    MODE(flags);
    UNLESS(fault("open", path));
    return REAL(open)(path, flags, mode);
}

ssize_t read(int fd, void *into, size_t size) {
    UNLESS(fault_of("read", fd));
    return REAL(read)(fd, into, size);
}

ssize_t write(int fd, const void *from, size_t size) {
    UNLESS(fault_of("write", fd));
    return REAL(write)(fd, from, size);
}

int fsync(int fd) {
    UNLESS(fault_of("fsync", fd));
    return REAL(fsync)(fd);
}

int rename(const char *from, const char *to) {
    UNLESS(fault("rename", to));
    int done = REAL(rename)(from, to);
    UNLESS(fault("renamed", to));
    return done;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *argument) {
    char error[32];
    if (asked("thread", error, sizeof error)) return atoi(error);
    return REAL(pthread_create)(thread, attributes, run, argument);
}
