/* Loaded into a test's child process in front of the C library: where FORK is set, asking for the
 * parent's id forks. It returns 0 in the new process and the id of the new process in the old one.
 * Rust has no safe call that forks without starting another program. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

pid_t getppid(void) {
    return getenv("FORK") ? fork() : (pid_t)syscall(SYS_getppid);
}
