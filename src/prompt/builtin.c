#include "prompt/builtin.h"

/* The file itself becomes part of the program, so that the default cannot differ from what config/ shows. */
__asm__(".pushsection .rodata\n"
        "builtin_movies:\n"
        ".incbin \"" HEADRACE_SOURCE "/config/prompts/movies.prompt\"\n"
        "builtin_movies_end:\n"
        ".byte 0\n"
        ".popsection\n");

extern const char builtin_movies[] __attribute__((visibility("hidden")));
extern const char builtin_movies_end[] __attribute__((visibility("hidden")));

struct text builtin_template(void)
{
    return (struct text){builtin_movies, (size_t)((uintptr_t)builtin_movies_end - (uintptr_t)builtin_movies)};
}
