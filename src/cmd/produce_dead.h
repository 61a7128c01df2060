/*
 * produce_dead.h - inside cmd/: `headrace produce --from-dead`, letters put back after what was wrong has been mended
 *
 * A letter goes to the topic that it came from, with the message's key, value and headers as they were. The group
 * `<kafka.group.id>-dead` keeps the place (dead_topics.h): a letter is taken once, however often the command is run,
 * and what dies again is a new letter. Places are kept after each batch of letters that the broker has acknowledged; if
 * the command is killed in between, that batch comes again. When a second one is started, it goes on where the first
 * is, and the first ends; the embedded broker takes no place just then, so that a batch may come again there.
 *
 * Only letters that were there at the start are taken: what dies again meanwhile is for the next run. A letter that was
 * cut, one that says it came from another topic, or one that the topic no longer takes is passed over, and said.
 */
#ifndef HEADRACE_CMD_PRODUCE_DEAD_H
#define HEADRACE_CMD_PRODUCE_DEAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "config/config.h"

struct produce_dead {
    const char *topic; /* only its letters, by either name; NULL: all */
    const char *class; /* NULL: all */
    bool dry_run;      /* says what it would do, and takes no place */
    int64_t limit;     /* letters put back at most; 0: no limit */
    int64_t rate;      /* a second at most; 0: no limit */
};

/* Says on standard output what was done. ERROR_BAD_INPUT: letters were passed over. */
int produce_dead(const struct produce_dead *asked, const struct config *config, struct error *err);

#endif
