/* builtin.h - the default template: config/prompts/movies.prompt as it was when the program was built */
#ifndef HEADRACE_PROMPT_BUILTIN_H
#define HEADRACE_PROMPT_BUILTIN_H

#include "base/text.h"

struct text builtin_template(void);

#endif
