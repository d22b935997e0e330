/* Loaded into a test's child process in front of the C library: where FORK is set, asking for the
 * parent's id forks. It returns 0 in the new process and the id of the new process in the old one.
 * Rust has no safe call that forks without starting another program. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

pid_t getppid(void) {
    if (!getenv("FORK")) return (pid_t)syscall(SYS_getppid);
    pid_t child = fork();
    /* A fork that hangs does not outlive the test. */
    if (child == 0) prctl(PR_SET_PDEATHSIG, SIGKILL);
    return child;
}
