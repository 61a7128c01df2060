#include "observe/process.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* From proc(5), /proc/self/stat; -1: not known. */
struct status {
    double threads;
    double start_ticks; /* since the machine's start */
    double virtual_bytes;
    double resident_pages;
};

static struct status read_status(void)
{
    enum { THREADS = 20, START = 22, VIRTUAL = 23, RESIDENT = 24 };
    struct status status = {-1, -1, -1, -1};
    char line[1024] = "";
    FILE *file = fopen("/proc/self/stat", "re");
    if (file == NULL)
        return status;
    const char *read = fgets(line, sizeof line, file);
    fclose(file);
    char *at = read != NULL ? strrchr(line, ')') : NULL; /* the second field is the name, which may hold anything */
    if (at == NULL)
        return status;
    int field = 3;
    char *rest;
    for (char *word = strtok_r(at + 1, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest), field++) {
        double *target = field == THREADS    ? &status.threads
                         : field == START    ? &status.start_ticks
                         : field == VIRTUAL  ? &status.virtual_bytes
                         : field == RESIDENT ? &status.resident_pages
                                             : NULL;
        if (target != NULL)
            sscanf(word, "%lf", target);
    }
    return status;
}

/* When the machine started, in seconds since 1970; 0: not known. */
static double boot_time(void)
{
    double seconds = 0;
    char line[256];
    FILE *file = fopen("/proc/stat", "re");
    if (file == NULL)
        return 0;
    while (seconds == 0 && fgets(line, sizeof line, file) != NULL)
        sscanf(line, "btime %lf", &seconds);
    fclose(file);
    return seconds;
}

static double count_open_files(void)
{
    DIR *directory = opendir("/proc/self/fd");
    if (directory == NULL)
        return -1;
    double count = -1; /* the directory's own */
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

static double cpu_seconds(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0)
        return -1;
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void put_known(struct metrics *metrics, const char *name, enum metrics_type type, const char *help, double value)
{
    if (value >= 0)
        metrics_single(metrics, name, type, help, value);
}

void process_put_metrics(struct metrics *metrics)
{
    struct status status = read_status();
    struct rlimit files;
    double boot = boot_time(), page = (double)sysconf(_SC_PAGESIZE), tick = (double)sysconf(_SC_CLK_TCK);
    put_known(metrics, "process_cpu_seconds_total", METRICS_COUNTER, "Processor time used, user and system.",
              cpu_seconds());
    if (boot > 0 && status.start_ticks >= 0)
        put_known(metrics, "process_start_time_seconds", METRICS_GAUGE, "When the process started, since 1970.",
                  boot + status.start_ticks / tick);
    put_known(metrics, "process_resident_memory_bytes", METRICS_GAUGE, "Memory in use, shared libraries included.",
              status.resident_pages * page);
    put_known(metrics, "process_virtual_memory_bytes", METRICS_GAUGE, "Address space in use.", status.virtual_bytes);
    put_known(metrics, "process_threads", METRICS_GAUGE, "Threads.", status.threads);
    put_known(metrics, "process_open_fds", METRICS_GAUGE, "Open files and sockets.", count_open_files());
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        put_known(metrics, "process_max_fds", METRICS_GAUGE, "How many may be open.", (double)files.rlim_cur);
}
