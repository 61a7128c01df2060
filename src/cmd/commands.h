/* commands.h - the sub-commands: each parses its flags, wires the parts, runs, and returns the exit code (flags.h). */
#ifndef HEADRACE_CMD_COMMANDS_H
#define HEADRACE_CMD_COMMANDS_H

struct command {
    const char *name;
    const char *summary;               /* one line, for `headrace --help` */
    int (*run)(int argc, char **argv); /* argv[0] is the sub-command's name */
};

int command_run(int argc, char **argv);
int command_score(int argc, char **argv);
int command_produce(int argc, char **argv);
int command_consume(int argc, char **argv);
int command_broker(int argc, char **argv);
int command_demo(int argc, char **argv);
int command_replay(int argc, char **argv);
int command_export(int argc, char **argv);
int command_train(int argc, char **argv);
int command_snapshot(int argc, char **argv);
int command_inspect(int argc, char **argv);
int command_check(int argc, char **argv);

#endif
