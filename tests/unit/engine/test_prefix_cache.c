#include <stdio.h>
#include <string.h>

#include "engine/backend.h"
#include "engine/prefix.h"
#include "tiny.h"

static const struct exit_rule full = {.kind = EXIT_RULE_FULL};
static const struct exit_rule eager = {
    .kind = EXIT_RULE_LOG_ODDS, .window = 2, .threshold = 1e9f}; /* all leave at layer 3 */

enum { LAYERS = 6, PLENTY = 1 << 30 };

static int set_up(void **state)
{
    static struct tiny tiny;
    tiny_load(&tiny);
    assert_int_equal(tiny.model.layer_count, LAYERS);
    *state = &tiny;
    return 0;
}

static int tear_down(void **state)
{
    tiny_free(*state);
    return 0;
}

static struct engine *engine_with(const struct tiny *tiny, struct exit_rule rule, enum engine_mode mode, size_t bytes)
{
    const struct engine_settings settings = {
        .rule = rule, .threads = 2, .mode = mode, .cpu = cpu_asked_for(), .prefix_cache_bytes = bytes};
    struct engine *engine = NULL;
    struct error err;
    if (engine_create(&engine, &tiny->model, &tiny->heads, &settings, &err) != 0)
        fail_msg("%s", err.message);
    return engine;
}

static struct device *device_of(const struct tiny *tiny, enum engine_mode mode)
{
    const struct engine_settings settings = {.rule = full, .threads = 2, .mode = mode, .cpu = cpu_asked_for()};
    struct device *device = NULL;
    struct error err;
    if (backend_cpu.open(&device, &tiny->model, &tiny->heads, &settings, &err) != 0)
        fail_msg("%s", err.message);
    return device;
}

/* Of a chunk that has entered so many layers. */
static size_t chunk_bytes(const struct tiny *tiny, enum engine_mode mode, size_t entered)
{
    struct device *device = device_of(tiny, mode);
    size_t bytes = device->chunk_bytes + entered * device->layer_bytes;
    backend_cpu.close(device);
    return bytes;
}

/* One candidate of 5 tokens behind the prefix; returns the token positions times layers that it cost. */
static uint64_t ask(struct engine *engine, const int32_t *prefix, size_t length, bool explain)
{
    static const int32_t candidate[] = {17, 4, 99, 33, 250};
    static const size_t offsets[] = {0, 5};
    const struct engine_prompt prompt = {prefix, length, candidate, offsets, 1, explain, NULL, NULL, 0};
    uint64_t before = engine_token_layers(engine);
    struct engine_score score;
    struct error err;
    if (engine_score(engine, &prompt, 1, &score, &err) != 0)
        fail_msg("%s", err.message);
    return engine_token_layers(engine) - before;
}

static void assert_counters(const struct engine *engine, struct engine_prefix_counters expected)
{
    struct engine_prefix_counters got = engine_prefix_counters(engine);
    assert_int_equal(got.hits, expected.hits);
    assert_int_equal(got.misses, expected.misses);
    assert_int_equal(got.deepenings, expected.deepenings);
    assert_int_equal(got.evictions, expected.evictions);
    assert_int_equal(got.entries, expected.entries);
    assert_int_equal(got.bytes, expected.bytes);
}

static void one_new_event_reuses_every_chunk_before_it(void **state)
{
    const struct tiny *tiny = *state;
    struct engine *engine = engine_with(tiny, full, ENGINE_F32, PLENTY);
    size_t whole = chunk_bytes(tiny, ENGINE_F32, LAYERS);
    struct random random = {1};
    int32_t tokens[300];
    random_tokens(&random, &tiny->model, tokens, 300);

    uint64_t cold = ask(engine, tokens, 200, false); /* three chunks of 64 and one of 8 */
    assert_counters(engine, (struct engine_prefix_counters){.misses = 4, .entries = 4, .bytes = 4 * whole});
    uint64_t again = ask(engine, tokens, 200, false);
    assert_counters(engine, (struct engine_prefix_counters){.hits = 4, .misses = 4, .entries = 4, .bytes = 4 * whole});
    /* A prefix's tokens are computed to the end of all layers but the last, of which only keys and values are needed.
     */
    assert_int_equal(cold - again, 200 * (LAYERS - 1));

    uint64_t event = ask(engine, tokens, 215, false); /* a chunk of 23 in the place of that of 8 */
    assert_counters(engine, (struct engine_prefix_counters){.hits = 7, .misses = 5, .entries = 5, .bytes = 5 * whole});
    assert_int_equal(event - again, 23 * (LAYERS - 1));
    ask(engine, tokens, 270, false); /* the fourth chunk is whole now, the fifth begins */
    assert_counters(engine, (struct engine_prefix_counters){.hits = 10, .misses = 7, .entries = 7, .bytes = 7 * whole});

    tokens[100] ^= 1; /* another history from the second chunk on */
    ask(engine, tokens, 200, false);
    assert_counters(engine,
                    (struct engine_prefix_counters){.hits = 11, .misses = 10, .entries = 10, .bytes = 10 * whole});
    engine_destroy(engine);
}

static void a_shallow_prefix_is_deepened_not_computed_anew(void **state)
{
    const struct tiny *tiny = *state;
    struct engine *engine = engine_with(tiny, eager, ENGINE_F32, PLENTY);
    size_t shallow = chunk_bytes(tiny, ENGINE_F32, 3), whole = chunk_bytes(tiny, ENGINE_F32, LAYERS);
    struct random random = {2};
    int32_t tokens[150];
    random_tokens(&random, &tiny->model, tokens, 150);

    uint64_t first = ask(engine, tokens, 150, false);
    assert_counters(engine, (struct engine_prefix_counters){.misses = 3, .entries = 3, .bytes = 3 * shallow});
    uint64_t deeper = ask(engine, tokens, 150, true);
    assert_counters(engine, (struct engine_prefix_counters){
                                .hits = 3, .misses = 3, .deepenings = 3, .entries = 3, .bytes = 3 * whole});
    assert_int_equal(first, 150 * 2 + 5 * 2 + 1);
    assert_int_equal(deeper, 150 * 3 + 5 * 5 + 1);
    ask(engine, tokens, 150, false); /* deeper than needed is fine */
    assert_counters(engine, (struct engine_prefix_counters){
                                .hits = 6, .misses = 3, .deepenings = 3, .entries = 3, .bytes = 3 * whole});

    ask(engine, tokens, 128, true); /* a prefix that ends sooner */
    tokens[128] ^= 1;
    ask(engine, tokens, 150, false); /* a shallow chunk behind deep ones */
    assert_counters(engine, (struct engine_prefix_counters){
                                .hits = 10, .misses = 4, .deepenings = 3, .entries = 4, .bytes = 3 * whole + shallow});
    engine_destroy(engine);
}

static void what_was_not_used_for_longest_goes_first(void **state)
{
    const struct tiny *tiny = *state;
    size_t whole = chunk_bytes(tiny, ENGINE_F32, LAYERS);
    struct engine *engine = engine_with(tiny, full, ENGINE_F32, 5 * whole);
    struct random random = {3};
    int32_t a[200], b[200];
    random_tokens(&random, &tiny->model, a, 200);
    random_tokens(&random, &tiny->model, b, 200);

    ask(engine, a, 192, false);
    ask(engine, b, 128, false);
    ask(engine, a, 64, false); /* of a the beginning only is recent; then b; then a's end */
    assert_counters(engine, (struct engine_prefix_counters){.hits = 1, .misses = 5, .entries = 5, .bytes = 5 * whole});
    ask(engine, b, 192, false); /* one more: a's third chunk goes, not the second that it builds on */
    assert_counters(engine, (struct engine_prefix_counters){
                                .hits = 3, .misses = 6, .evictions = 1, .entries = 5, .bytes = 5 * whole});
    ask(engine, a, 128, false);
    assert_counters(engine, (struct engine_prefix_counters){
                                .hits = 5, .misses = 6, .evictions = 1, .entries = 5, .bytes = 5 * whole});
    engine_destroy(engine);
}

static void a_prefix_above_the_budget_is_scored_and_given_back(void **state)
{
    const struct tiny *tiny = *state;
    size_t whole = chunk_bytes(tiny, ENGINE_F32, LAYERS);
    struct engine *engine = engine_with(tiny, full, ENGINE_F32, 2 * whole + 1);
    struct random random = {4};
    int32_t tokens[300];
    random_tokens(&random, &tiny->model, tokens, 300);

    ask(engine, tokens, 300, false);
    assert_counters(engine, (struct engine_prefix_counters){
                                .misses = 5, .evictions = 3, .entries = 2, .bytes = 2 * whole}); /* its beginning */
    ask(engine, tokens, 300, false);
    assert_counters(engine, (struct engine_prefix_counters){
                                .hits = 2, .misses = 8, .evictions = 6, .entries = 2, .bytes = 2 * whole});
    engine_destroy(engine);

    engine = engine_with(tiny, full, ENGINE_F32, 0);
    ask(engine, tokens, 300, false);
    ask(engine, tokens, 300, false);
    struct engine_prefix_counters none = engine_prefix_counters(engine);
    assert_int_equal(none.hits, 0);
    assert_int_equal(none.entries, 0);
    assert_int_equal(none.bytes, 0);
    engine_destroy(engine);
}

static void hidden_states_are_of_the_layer_asked_for_whatever_is_kept(void **state)
{
    const struct tiny *tiny = *state;
    struct engine *engine = engine_with(tiny, full, ENGINE_F32, PLENTY);
    struct random random = {5};
    int32_t tokens[100];
    float *cold = malloc(100 * 64 * sizeof *cold), *warm = malloc(100 * 64 * sizeof *warm);
    struct error err;
    assert_true(cold != NULL && warm != NULL);
    random_tokens(&random, &tiny->model, tokens, 100);
    assert_int_equal(engine_hidden_states(engine, tokens, 100, 2, cold, &err), 0);
    ask(engine, tokens, 100, false);
    assert_int_equal(engine_hidden_states(engine, tokens, 100, 2, warm, &err), 0);
    assert_memory_equal(warm, cold, 100 * 64 * sizeof *cold);
    assert_int_equal(engine_prefix_counters(engine).entries, 2);
    free(cold);
    free(warm);
    engine_destroy(engine);
}

enum { USERS = 4, SYSTEM = 70, LONGEST = 300, REQUESTS = 40 };

struct user {
    int32_t tokens[LONGEST];
    size_t length;
};

static void assert_same(const struct engine_score *a, const struct engine_score *b)
{
    assert_memory_equal(&a->probability, &b->probability, sizeof a->probability);
    assert_int_equal(a->exit_layer, b->exit_layer);
    assert_int_equal(a->exit_count, b->exit_count);
    for (size_t i = 0; i < a->exit_count; i++) {
        assert_int_equal(a->exits[i].count, b->exits[i].count);
        assert_memory_equal(a->exits[i].probabilities, b->exits[i].probabilities,
                            a->exits[i].count * sizeof *a->exits[i].probabilities);
    }
}

/* A new event, several at once, a history that was trimmed at its beginning, or nothing new at all. */
static void live(struct random *random, const struct model *model, struct user *user)
{
    size_t more = random_below(random, 4) == 0 ? 0 : 1 + random_below(random, 25);
    if (user->length + more > LONGEST) {
        size_t kept = random_below(random, 100);
        memmove(user->tokens + SYSTEM, user->tokens + user->length - kept, kept * sizeof *user->tokens);
        user->length = SYSTEM + kept;
    }
    random_tokens(random, model, user->tokens + user->length, more);
    user->length += more;
}

struct comparison {
    struct engine *warm, *cold;
    struct random random;
    size_t exits[LAYERS + 1];
};

static void compare(struct comparison *run, const struct model *model, const struct user *user)
{
    struct candidates candidates = candidates_make(&run->random, model, 1 + random_below(&run->random, 2), 1, 12);
    struct engine_score warm[2], cold[2];
    struct error err;
    const struct engine_prompt prompt = {
        .prefix = user->tokens,
        .prefix_length = user->length,
        .tokens = candidates.tokens,
        .offsets = candidates.offsets,
        .candidate_count = candidates.count,
        .explain = random_below(&run->random, 5) == 0,
    };
    if (engine_score(run->warm, &prompt, 1, warm, &err) != 0 || engine_score(run->cold, &prompt, 1, cold, &err) != 0)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < candidates.count; i++) {
        assert_same(&warm[i], &cold[i]);
        run->exits[warm[i].exit_layer]++;
    }
    candidates_free(&candidates);
}

static struct engine_prefix_counters compare_histories(const struct tiny *tiny, enum engine_mode mode, size_t budget)
{
    const struct exit_rule rule = {.kind = EXIT_RULE_LOG_ODDS, .window = 2, .threshold = 0.5f};
    struct comparison run = {engine_with(tiny, rule, mode, budget), engine_with(tiny, rule, mode, 0), {11}, {0}};
    struct user users[USERS];

    for (size_t u = 0; u < USERS; u++) {
        users[u].length = SYSTEM;
        random_tokens(&(struct random){99}, &tiny->model, users[u].tokens, SYSTEM);
    }
    for (size_t i = 0; i < REQUESTS; i++) {
        struct user *user = &users[random_below(&run.random, USERS)];
        live(&run.random, &tiny->model, user);
        compare(&run, &tiny->model, user);
        assert_true(engine_prefix_counters(run.warm).bytes <= budget);
    }
    assert_true(run.exits[LAYERS] > 0 && run.exits[3] + run.exits[4] + run.exits[5] > 0);
    struct engine_prefix_counters counters = engine_prefix_counters(run.warm);
    engine_destroy(run.warm);
    engine_destroy(run.cold);
    return counters;
}

static void random_histories_score_as_on_a_cold_engine_to_the_bit(void **state)
{
    const struct tiny *tiny = *state;
    size_t whole = chunk_bytes(tiny, ENGINE_F32, LAYERS);
    struct engine_prefix_counters ample = compare_histories(tiny, ENGINE_F32, PLENTY);
    struct engine_prefix_counters some = compare_histories(tiny, ENGINE_F32, 10 * whole);
    struct engine_prefix_counters hardly_any = compare_histories(tiny, ENGINE_F32, whole + whole / 2);
    assert_true(ample.hits > ample.misses && ample.deepenings > 0 && ample.evictions == 0);
    assert_true(some.hits < ample.hits && some.deepenings > 0 && some.evictions > 0);
    assert_true(hardly_any.hits > 0 && hardly_any.hits < some.hits);
}

static void that_holds_in_other_modes(void **state)
{
    const struct tiny *tiny = *state;
    static const enum engine_mode modes[] = {ENGINE_BF16, ENGINE_MODE_AUTO};
    for (size_t m = 0; m < sizeof modes / sizeof *modes; m++) {
        struct engine_prefix_counters some =
            compare_histories(tiny, modes[m], 10 * chunk_bytes(tiny, modes[m], LAYERS));
        assert_true(some.hits > 0 && some.deepenings > 0 && some.evictions > 0);
    }
}

/* Nothing but entries: a device without numbers that fails when told to, and sees to it that it is driven as agreed. */
struct hollow {
    struct device device;
    size_t alive;
    size_t run_until; /* layers at which the next run fails; 0: at none */
    bool create_fails;
};

static int hollow_create(struct device *device, const int32_t *tokens, size_t count, size_t position,
                         struct chunk **chunk, struct error *err)
{
    struct hollow *hollow = (struct hollow *)device;
    (void)tokens;
    if (hollow->create_fails)
        return error_set(err, ERROR_FATAL, "no chunk");
    *chunk = calloc(1, sizeof **chunk);
    assert_non_null(*chunk);
    **chunk = (struct chunk){.position = position, .count = count};
    hollow->alive++;
    return 0;
}

static void hollow_destroy(struct device *device, struct chunk *chunk)
{
    ((struct hollow *)device)->alive--;
    free(chunk);
}

static int hollow_run(struct device *device, struct chunk *const *chunks, size_t count, size_t entered,
                      struct error *err)
{
    struct hollow *hollow = (struct hollow *)device;
    size_t until = hollow->run_until != 0 && hollow->run_until < entered ? hollow->run_until : entered;
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(chunks[i]->position, i * CHUNK_TOKENS);
        assert_true(i == 0 || chunks[i - 1]->count == CHUNK_TOKENS);
        assert_true(i + 1 == count || chunks[i]->entered >= chunks[i + 1]->entered);
    }
    for (size_t i = 0; i < count; i++)
        if (chunks[i]->entered < until)
            chunks[i]->entered = until;
    return until == entered ? 0 : error_set(err, ERROR_FATAL, "stopped at layer %zu", until);
}

static const struct backend hollow_backend = {
    .chunk_create = hollow_create, .chunk_destroy = hollow_destroy, .chunks_run = hollow_run};

static struct hollow hollow_make(void)
{
    return (struct hollow){.device = {.backend = &hollow_backend, .chunk_bytes = 100, .layer_bytes = 10}};
}

static void check_entries(const struct prefix_cache *cache, const struct hollow *hollow)
{
    size_t count = 0, bytes = 0, seen = 0;
    for (const struct prefix_entry *entry = cache->newest; entry != NULL; entry = entry->older) {
        const struct prefix_entry *before = cache->newest;
        while (before != entry && before != entry->parent)
            before = before->older;
        assert_true(entry->parent == NULL || (before == entry->parent && before != entry)); /* used no later */
        assert_true(entry->parent == NULL || entry->parent->chunk->entered >= entry->chunk->entered);
        assert_true(entry->parent == NULL || entry->parent->chunk->count == CHUNK_TOKENS);
        assert_int_equal(entry->users, 0);
        assert_ptr_equal(entry->older == NULL ? cache->oldest : entry->older->newer, entry);
        bytes += 100 + 10 * entry->chunk->entered;
        count++;
    }
    for (size_t i = 0; i < cache->slot_count; i++)
        for (const struct prefix_entry *entry = cache->slots[i]; entry != NULL; entry = entry->next)
            seen++;
    assert_int_equal(seen, count);
    assert_int_equal(cache->counters.entries, count);
    assert_int_equal(cache->counters.bytes, bytes);
    assert_int_equal(hollow->alive, count);
    assert_true(bytes <= cache->budget);
}

/* A failed run leaves nothing that it worked on; the beginning that was deep enough stays. */
static void check_after_failure(const struct prefix_cache *cache, size_t run_until)
{
    for (const struct prefix_entry *entry = cache->newest; entry != NULL; entry = entry->older)
        assert_true(entry->chunk->entered == 0 || entry->chunk->entered != run_until);
}

enum { HELD = 3 };

/* A few prefixes in use at once, brought to any depths in any order; ended, as an engine does, in the order taken. */
static int use_prefixes(struct prefix *prefixes, struct prefix_cache *cache, struct random *random, struct error *err)
{
    size_t held = 1 + random_below(random, HELD);
    int result = 0;
    for (size_t i = 0; result == 0 && i < held; i++) {
        int32_t tokens[400] = {0};
        size_t length = 1 + random_below(random, 400);
        for (size_t j = 0; j < length; j += CHUNK_TOKENS) /* few different chunks, so that chains fork and meet */
            tokens[j] = (int32_t)random_below(random, 3);
        result = prefix_start(&prefixes[i], cache, tokens, length, err);
    }
    for (size_t layers = 2; result == 0 && layers <= 12; layers += 2 + 2 * random_below(random, 4))
        result = prefix_run(&prefixes[random_below(random, held)], layers, err);
    for (size_t i = 0; i < held; i++) {
        for (size_t j = 0; j < prefixes[i].count; j++)
            assert_ptr_equal(prefixes[i].entries[j]->chunk, prefixes[i].chunks[j]);
        prefix_end(&prefixes[i]);
    }
    return result;
}

static void a_cache_stays_whole_whatever_fails(void **state)
{
    (void)state;
    static const size_t budgets[] = {0, 400, 3000, 20000, SIZE_MAX};
    for (size_t b = 0; b < sizeof budgets / sizeof *budgets; b++) {
        struct hollow hollow = hollow_make();
        struct prefix_cache cache = {.device = &hollow.device, .layer_count = 12, .budget = budgets[b]};
        struct prefix prefixes[HELD] = {0};
        struct random random = {b};
        struct error err;
        size_t failures = 0;

        for (size_t step = 0; step < 500; step++) {
            hollow.create_fails = random_below(&random, 20) == 0;
            /* Layer 11 is nobody's depth but that of a failed run. */
            hollow.run_until = random_below(&random, 10) == 0 ? 11 : 0;
            failures += use_prefixes(prefixes, &cache, &random, &err) != 0;
            check_entries(&cache, &hollow);
            check_after_failure(&cache, 11);
        }
        assert_true(failures > 20 && cache.counters.misses > 100 && cache.counters.hits > 100);
        for (size_t i = 0; i < HELD; i++)
            prefix_free(&prefixes[i]);
        prefix_cache_free(&cache);
        assert_int_equal(hollow.alive, 0);
        assert_int_equal(cache.counters.bytes, 0);
    }
}

static void prefixes_in_use_share_what_they_begin_with_and_stay_whatever_the_budget(void **state)
{
    (void)state;
    struct hollow hollow = hollow_make();
    struct prefix_cache cache = {.device = &hollow.device, .layer_count = 12, .budget = 500};
    struct prefix a = {0}, b = {0};
    int32_t tokens[200] = {1, 2, 3};
    struct error err;

    assert_int_equal(prefix_cache_room(&cache), 500 / (100 + 12 * 10));
    assert_int_equal(prefix_start(&a, &cache, tokens, 200, &err), 0);
    assert_int_equal(prefix_run(&a, 12, &err), 0);
    tokens[150] = 9;
    assert_int_equal(prefix_start(&b, &cache, tokens, 200, &err), 0);
    assert_int_equal(prefix_run(&b, 2, &err), 0);
    assert_ptr_equal(a.chunks[1], b.chunks[1]);
    assert_ptr_not_equal(a.chunks[2], b.chunks[2]);
    assert_int_equal(b.chunks[2]->entered, 2);
    assert_int_equal(cache.counters.hits, 2);
    assert_int_equal(cache.counters.deepenings, 0); /* b goes on in what a has just made */
    assert_int_equal(cache.counters.evictions, 0);
    assert_int_equal(cache.counters.bytes, 4 * (100 + 120) + 2 * (100 + 20));

    prefix_end(&a);
    assert_int_equal(hollow.alive, 4); /* b's own and those it shares; a's own are gone */
    assert_int_equal(cache.counters.evictions, 2);
    assert_int_equal(b.chunks[0]->entered, 12);
    prefix_end(&b);
    assert_int_equal(hollow.alive, 2);
    check_entries(&cache, &hollow);
    prefix_free(&a);
    prefix_free(&b);
    prefix_cache_free(&cache);
}

static struct prefix_entry *take(struct prefix_cache *cache, struct prefix_entry *parent, const int32_t *tokens,
                                 size_t count)
{
    struct prefix_entry *entry = NULL;
    struct error err;
    if (prefix_cache_take(cache, parent, tokens, count, &entry, &err) != 0)
        fail_msg("%s", err.message);
    return entry;
}

static void a_hash_alone_finds_nothing(void **state)
{
    (void)state;
    struct hollow hollow = hollow_make();
    struct prefix_cache cache = {.device = &hollow.device, .layer_count = 12, .budget = PLENTY};
    int32_t tokens[CHUNK_TOKENS] = {1, 2, 3}, others[CHUNK_TOKENS] = {4, 5, 6};

    struct prefix_entry *a = take(&cache, NULL, tokens, CHUNK_TOKENS), *b = take(&cache, NULL, others, CHUNK_TOKENS);
    assert_ptr_not_equal(a, b);
    assert_ptr_equal(take(&cache, NULL, tokens, CHUNK_TOKENS), a);
    assert_ptr_not_equal(take(&cache, NULL, tokens, 10), a); /* a beginning of a chunk is another chunk */
    struct prefix_entry *behind_a = take(&cache, a, tokens, 10), *behind_b = take(&cache, b, tokens, 10);
    assert_ptr_not_equal(behind_a, behind_b);
    assert_int_equal(behind_a->chunk->position, CHUNK_TOKENS);

    a->tokens[2] = 7; /* as if 1, 2, 7 had the hash of 1, 2, 3 */
    assert_ptr_not_equal(take(&cache, NULL, tokens, CHUNK_TOKENS), a);
    struct prefix_key own = b->key;
    b->key = a->key; /* as if a and b had the same */
    assert_ptr_not_equal(take(&cache, b, tokens, 10), behind_a);
    assert_ptr_equal(take(&cache, a, tokens, 10), behind_a);
    b->key = own;
    prefix_cache_free(&cache);
    assert_int_equal(hollow.alive, 0);
}

/* The real device, but that one run ends in an error after so many layers. */
static size_t fails_at;

static int run_and_fail(struct device *device, struct chunk *const *chunks, size_t count, size_t entered,
                        struct error *err)
{
    if (fails_at == 0)
        return backend_cpu.chunks_run(device, chunks, count, entered, err);
    assert_int_equal(backend_cpu.chunks_run(device, chunks, count, fails_at, err), 0);
    fails_at = 0;
    return error_set(err, ERROR_FATAL, "the device is gone");
}

static void run_prefix(struct prefix *prefix, struct prefix_cache *cache, const int32_t *tokens, size_t length,
                       size_t layers)
{
    struct error err;
    if (prefix_start(prefix, cache, tokens, length, &err) != 0 || prefix_run(prefix, layers, &err) != 0)
        fail_msg("%s", err.message);
}

static void after_a_failure_in_the_middle_numbers_are_those_of_a_cold_prefix(void **state)
{
    const struct tiny *tiny = *state;
    struct device *device = device_of(tiny, ENGINE_F32);
    struct backend failing = backend_cpu;
    struct prefix_cache cache = {.device = device, .layer_count = LAYERS, .budget = PLENTY};
    struct prefix_cache none = {.device = device, .layer_count = LAYERS};
    struct prefix warm = {0}, cold = {0};
    struct random random = {6};
    int32_t tokens[250];
    struct error err;
    random_tokens(&random, &tiny->model, tokens, 250);
    failing.chunks_run = run_and_fail;
    device->backend = &failing;

    run_prefix(&warm, &cache, tokens, 128, 5);
    assert_int_equal(prefix_start(&warm, &cache, tokens, 250, &err), 0);
    fails_at = 3;
    assert_int_equal(prefix_run(&warm, 4, &err), -1);
    prefix_end(&warm);
    assert_int_equal(cache.counters.entries, 2); /* those that were deep enough */
    run_prefix(&warm, &cache, tokens, 250, LAYERS);
    assert_int_equal(cache.counters.hits, 2 + 2);
    run_prefix(&cold, &none, tokens, 250, LAYERS);
    assert_int_equal(warm.count, cold.count);
    for (size_t i = 0; i < warm.count; i++) {
        const struct chunk *a = warm.chunks[i], *b = cold.chunks[i];
        assert_int_equal(a->entered, b->entered);
        assert_memory_equal(a->residual, b->residual, a->count * tiny->model.width * sizeof *a->residual);
        for (size_t layer = 0; layer < LAYERS; layer++)
            assert_memory_equal(a->layers[layer], b->layers[layer], device->layer_bytes);
    }
    prefix_free(&warm);
    prefix_free(&cold);
    prefix_cache_free(&cache);
    prefix_cache_free(&none);
    backend_cpu.close(device);
}

/* A gain of 3e38 in the norm before the MLP of layer 4 overflows there and nowhere before. */
static void a_prefix_that_is_not_finite_is_an_error_each_time(void **state)
{
    struct tiny tiny = *(const struct tiny *)*state;
    struct model_layer layers[LAYERS];
    float gains[64];
    for (size_t i = 0; i < 64; i++)
        gains[i] = 3e38f;
    const struct tensor broken = {.name = text_of("broken"),
                                  .type = TENSOR_F32,
                                  .columns = 64,
                                  .rows = 1,
                                  .data = (const uint8_t *)gains,
                                  .row_bytes = sizeof gains};
    memcpy(layers, tiny.model.layers, sizeof layers);
    layers[3].mlp_norm = &broken;
    tiny.model.layers = layers;
    struct engine *engine = engine_with(&tiny, full, ENGINE_F32, PLENTY);
    int32_t tokens[100] = {5, 6, 7};
    static const size_t offsets[] = {0, 1};
    const struct engine_prompt prompt = {tokens, 100, tokens, offsets, 1, false, NULL, NULL, 0};
    struct engine_score score;
    struct error err;

    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(engine_score(engine, &prompt, 1, &score, &err), -1);
        if (strstr(err.message, "not finite after layer 4 of 6") == NULL)
            fail_msg("%s", err.message);
        assert_int_equal(engine_prefix_counters(engine).entries, 0);
    }
    engine_destroy(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_new_event_reuses_every_chunk_before_it),
        cmocka_unit_test(a_shallow_prefix_is_deepened_not_computed_anew),
        cmocka_unit_test(what_was_not_used_for_longest_goes_first),
        cmocka_unit_test(a_prefix_above_the_budget_is_scored_and_given_back),
        cmocka_unit_test(hidden_states_are_of_the_layer_asked_for_whatever_is_kept),
        cmocka_unit_test(random_histories_score_as_on_a_cold_engine_to_the_bit),
        cmocka_unit_test(that_holds_in_other_modes),
        cmocka_unit_test(a_cache_stays_whole_whatever_fails),
        cmocka_unit_test(prefixes_in_use_share_what_they_begin_with_and_stay_whatever_the_budget),
        cmocka_unit_test(a_hash_alone_finds_nothing),
        cmocka_unit_test(after_a_failure_in_the_middle_numbers_are_those_of_a_cold_prefix),
        cmocka_unit_test(a_prefix_that_is_not_finite_is_an_error_each_time),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
