/* The schemas of schemas/ inside the program: the assembler copies the files, so no step of the build makes one. */
#include "wire/messages.h"

#define EMBED(symbol, file)                                                                                            \
    __asm__(".pushsection .rodata\n"                                                                                   \
            ".global " #symbol "\n" #symbol ":\n"                                                                      \
            ".incbin \"" HEADRACE_SOURCE "/schemas/" file "\"\n"                                                       \
            ".byte 0\n"                                                                                                \
            ".popsection\n");                                                                                          \
    extern const char symbol[]

EMBED(headrace_schema_interaction, "Interaction.avsc");
EMBED(headrace_schema_item, "Item.avsc");
EMBED(headrace_schema_user, "User.avsc");
EMBED(headrace_schema_score_request, "ScoreRequest.avsc");
EMBED(headrace_schema_score_response, "ScoreResponse.avsc");

const char *message_schema(const struct message_type *type)
{
    if (type == &interaction_type)
        return headrace_schema_interaction;
    if (type == &item_type)
        return headrace_schema_item;
    if (type == &user_type)
        return headrace_schema_user;
    if (type == &score_request_type)
        return headrace_schema_score_request;
    if (type == &score_response_type)
        return headrace_schema_score_response;
    return NULL;
}
