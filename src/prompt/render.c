#include "prompt/render.h"

#include <inttypes.h>

#include "prompt/data.h"

static size_t at_most(size_t count, size_t limit)
{
    return count < limit ? count : limit;
}

static size_t list_count(enum name list, const struct scope *scope)
{
    switch (list) {
    case NAME_PROFILE:
        return at_most(scope->user->profile_count, PROMPT_FIELD_COUNT_LIMIT);
    case NAME_HISTORY:
        return scope->user->history_count;
    case NAME_SIMILAR:
        return scope->user->similar_count;
    case NAME_EVENTS:
        return scope->similar->event_count;
    case NAME_ATTRIBUTES:
        return at_most(scope->candidate->attribute_count, PROMPT_FIELD_COUNT_LIMIT);
    default:
        return scope->candidate->similar_verdict_count;
    }
}

static void enter_list(enum name list, size_t index, struct scope *scope)
{
    switch (list) {
    case NAME_PROFILE:
        scope->field = &scope->user->profile[index];
        break;
    case NAME_HISTORY:
        scope->event = &scope->user->history[index];
        break;
    case NAME_SIMILAR:
        scope->similar = &scope->user->similar[index];
        break;
    case NAME_EVENTS:
        scope->event = &scope->similar->events[index];
        break;
    case NAME_ATTRIBUTES:
        scope->field = &scope->candidate->attributes[index];
        break;
    default:
        scope->verdict = scope->candidate->similar_verdicts[index];
        break;
    }
    if (scope->event != NULL)
        scope->verdict = scope->event->verdict;
}

static uint64_t count_similar_likes(const struct prompt_candidate *candidate)
{
    uint64_t likes = 0;
    for (size_t i = 0; i < candidate->similar_verdict_count; i++)
        likes += candidate->similar_verdicts[i] == PROMPT_LIKED;
    return likes;
}

/* To the nearest. */
static uint64_t percent(uint64_t part, uint64_t whole)
{
    return whole == 0 ? 0 : (100 * part + whole / 2) / whole;
}

static uint64_t percent_of_share(double share)
{
    return share > 0 && share <= 1 ? (uint64_t)(100 * share + 0.5) : 0;
}

static uint64_t count_of(enum name name, const struct prompt_candidate *candidate)
{
    switch (name) {
    case NAME_RATINGS:
        return candidate->ratings;
    case NAME_LIKES:
        return candidate->likes;
    case NAME_LIKES_PERCENT:
        return percent(candidate->likes, candidate->ratings);
    case NAME_SIMILAR_KNOWN:
        return candidate->similar_verdict_count;
    case NAME_RECENT_KNOWN:
        return candidate->recent;
    case NAME_RECENT_LIKED:
        return candidate->recent_likes;
    case NAME_LIKED_PERCENT:
        return percent(candidate->user_likes, candidate->user_ratings);
    case NAME_AFFINITY_PERCENT:
        return percent_of_share(candidate->affinity);
    case NAME_VOTE_PERCENT:
        return percent_of_share(candidate->vote);
    default:
        return count_similar_likes(candidate);
    }
}

/* Ratings beyond this are no ratings; NaN and the infinities fail the comparison, too. */
static bool has_rating(const struct prompt_event *event)
{
    return event->has_value && event->value > -1e12 && event->value < 1e12;
}

/* At most two decimals, none that are 0, and a point whatever the locale. */
static void append_rating(struct buffer *out, double value)
{
    int64_t hundredths = (int64_t)(value * 100 + (value < 0 ? -0.5 : 0.5));
    uint64_t size = (uint64_t)(hundredths < 0 ? -hundredths : hundredths);
    buffer_printf(out, "%s%" PRIu64, hundredths < 0 ? "-" : "", size / 100);
    if (size % 10 != 0)
        buffer_printf(out, ".%02" PRIu64, size % 100);
    else if (size % 100 != 0)
        buffer_printf(out, ".%" PRIu64, size % 100 / 10);
}

static void append_verdict(struct rendering *rendering, int verdict)
{
    enum name word = verdict > 0 ? NAME_LIKED : verdict < 0 ? NAME_DISLIKED : NAME_NEUTRAL;
    buffer_append_text(&rendering->plain, rendering->prompt->words[word]);
}

static struct text title_of(const struct scope *scope)
{
    return scope->event != NULL ? scope->event->title : scope->candidate->title;
}

static void append_value(struct rendering *rendering, enum name name, const struct scope *scope)
{
    struct buffer *out = &rendering->plain;
    switch (name) {
    case NAME_TITLE:
        if (!data_append(out, title_of(scope), PROMPT_TITLE_LIMIT))
            buffer_append_text(out, rendering->prompt->words[NAME_UNTITLED]);
        break;
    case NAME_VERDICT:
        append_verdict(rendering, scope->verdict);
        break;
    case NAME_RATING:
        if (has_rating(scope->event))
            append_rating(out, scope->event->value);
        break;
    case NAME_NAME:
        data_append(out, scope->field->name, PROMPT_FIELD_LIMIT);
        break;
    case NAME_VALUE:
        data_append(out, scope->field->value, PROMPT_FIELD_LIMIT);
        break;
    default:
        if (name < WORD_COUNT)
            buffer_append_text(out, rendering->prompt->words[name]);
        else
            buffer_printf(out, "%" PRIu64, count_of(name, scope->candidate));
        break;
    }
}

/* Whether data has anything to show, found out by writing it and taking it back. */
static bool shows(struct rendering *rendering, struct text data)
{
    size_t size = rendering->plain.size;
    bool any = data_append(&rendering->plain, data, PROMPT_TITLE_LIMIT);
    rendering->plain.size = size;
    return any;
}

static bool is_any(struct rendering *rendering, enum name name, const struct scope *scope)
{
    if (name >= FIRST_LIST)
        return list_count(name, scope) > 0;
    switch (name) {
    case NAME_TITLE:
        return shows(rendering, title_of(scope));
    case NAME_NAME:
        return shows(rendering, scope->field->name);
    case NAME_VALUE:
        return shows(rendering, scope->field->value);
    case NAME_RATING:
        return has_rating(scope->event);
    case NAME_VERDICT:
        return true;
    default:
        return name < WORD_COUNT || count_of(name, scope->candidate) > 0;
    }
}

/* With what the model's convention puts before it; the text as it is shown goes without. */
static int encode_opening(struct rendering *rendering, struct text opening)
{
    struct buffer opened = {0};
    buffer_append_text(&opened, opening);
    buffer_append_text(&opened, buffer_text(&rendering->plain));
    int result = buffer_check(&opened, "rendering a prompt", rendering->err);
    if (result == 0)
        result =
            tokenizer_encode(rendering->prompt->tokenizer, buffer_text(&opened), rendering->tokens, rendering->err);
    buffer_free(&opened);
    return result;
}

int render_flush(struct rendering *rendering)
{
    const struct tokenizer *tokenizer = rendering->prompt->tokenizer;
    struct buffer *plain = &rendering->plain;
    struct text opening = tokenizer_opening(tokenizer);
    if (buffer_check(plain, "rendering a prompt", rendering->err) != 0)
        return -1;
    if (plain->size == 0)
        return 0;
    int result = rendering->opens && opening.size > 0
                     ? encode_opening(rendering, opening)
                     : tokenizer_encode(tokenizer, buffer_text(plain), rendering->tokens, rendering->err);
    if (result != 0)
        return -1;
    rendering->opens = false;
    if (rendering->text != NULL)
        buffer_append_text(rendering->text, buffer_text(plain));
    buffer_clear(plain);
    return 0;
}

static int append_special(struct rendering *rendering, const struct node *node)
{
    if (render_flush(rendering) != 0 || tokens_append(rendering->tokens, node->special, rendering->err) != 0)
        return -1;
    rendering->opens = true;
    if (rendering->text != NULL)
        buffer_append_text(rendering->text, node->text);
    return 0;
}

static int render_nodes(struct rendering *rendering, const struct node *nodes, size_t from, size_t to,
                        const struct scope *scope);

static int render_each(struct rendering *rendering, const struct node *nodes, size_t at, const struct scope *scope)
{
    size_t count = list_count(nodes[at].name, scope);
    for (size_t i = 0; i < count; i++) {
        struct scope inside = *scope;
        enter_list(nodes[at].name, i, &inside);
        if (render_nodes(rendering, nodes, at + 1, nodes[at].end, &inside) != 0)
            return -1;
    }
    return 0;
}

/* Recursion is as deep as the template's blocks are nested, which the parser bounds. */
static int render_nodes(struct rendering *rendering, const struct node *nodes, size_t from, size_t to,
                        const struct scope *scope)
{
    for (size_t at = from; at < to; at++) {
        const struct node *node = &nodes[at];
        int result = 0;
        switch (node->kind) {
        case NODE_TEXT:
            buffer_append_text(&rendering->plain, node->text);
            continue;
        case NODE_VALUE:
            append_value(rendering, node->name, scope);
            continue;
        case NODE_SPECIAL:
            result = append_special(rendering, node);
            break;
        case NODE_EACH:
            result = render_each(rendering, nodes, at, scope);
            at = node->end - 1;
            break;
        case NODE_ANY:
        case NODE_NONE:
            if (is_any(rendering, node->name, scope) == (node->kind == NODE_ANY))
                result = render_nodes(rendering, nodes, at + 1, node->end, scope);
            at = node->end - 1;
            break;
        }
        if (result != 0)
            return -1;
    }
    return 0;
}

int render_part(struct rendering *rendering, enum part_kind kind, const struct scope *scope)
{
    const struct part *part = &rendering->prompt->parts[kind];
    return render_nodes(rendering, part->nodes, 0, part->count, scope);
}
