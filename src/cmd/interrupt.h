/*
 * interrupt.h - SIGINT and SIGTERM for commands that end between two steps: nothing is left half done
 *
 * Threads: any may look; interrupt_watch() is for the main thread.
 */
#ifndef HEADRACE_CMD_INTERRUPT_H
#define HEADRACE_CMD_INTERRUPT_H

#include <signal.h>

/* 1 once such a signal has come since interrupt_watch(). */
extern volatile sig_atomic_t interrupted;

void interrupt_watch(void);

#endif
