#include "replay/temporary.h"

#include "replay/event_file.h"

static char path[256];
static struct event_file *file;
static struct arena arena;
static struct error err;
static union {
    struct interaction interaction;
    struct item item;
    struct user user;
    struct score_request request;
} got;

static int end(void **state)
{
    (void)state;
    arena_free(&arena);
    return 0;
}

static struct event_file_settings settings_of(const struct message_type *type, const char *const *maps,
                                              size_t map_count)
{
    return (struct event_file_settings){
        .path = path, .type = type, .maps = maps, .map_count = map_count, .kind = INTERACTION_RATING};
}

static int try_open(const struct message_type *type, const char *suffix, const char *text, const char *const *maps,
                    size_t map_count)
{
    temporary_write(path, suffix, text, strlen(text));
    struct event_file_settings settings = settings_of(type, maps, map_count);
    int result = event_file_open(&file, &settings, &err);
    unlink(path);
    return result;
}

static void open_text(const struct message_type *type, const char *suffix, const char *text, const char *const *maps,
                      size_t map_count)
{
    if (try_open(type, suffix, text, maps, map_count) != 0)
        fail_msg("%s", err.message);
}

static void expect_words(const char *words)
{
    if (strstr(err.message, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.message, words);
}

static void refuse_open(const struct message_type *type, const char *suffix, const char *text, const char *const *maps,
                        size_t map_count, const char *words)
{
    assert_int_equal(try_open(type, suffix, text, maps, map_count), -1);
    assert_int_equal(err.kind, ERROR_BAD_INPUT);
    expect_words(words);
}

static void next(void)
{
    arena_reset(&arena);
    int found = event_file_next(file, &arena, &got, &err);
    if (found != 1)
        fail_msg("%s", found == 0 ? "the end" : err.message);
}

/* The message names file and line, and says `words`. */
static void expect_error(unsigned line, const char *words)
{
    arena_reset(&arena);
    assert_int_equal(event_file_next(file, &arena, &got, &err), -1);
    assert_int_equal(err.kind, ERROR_BAD_INPUT);
    char place[300];
    snprintf(place, sizeof place, "%s:%u: ", path, line);
    if (strncmp(err.message, place, strlen(place)) != 0)
        fail_msg("\"%s\" does not begin with \"%s\"", err.message, place);
    expect_words(words);
}

static void expect_end(void)
{
    assert_int_equal(event_file_next(file, &arena, &got, &err), 0);
    event_file_close(file);
}

static void expect_text(struct text text, const char *wanted)
{
    assert_int_equal(text.size, strlen(wanted));
    assert_memory_equal(text.data, wanted, text.size);
}

static void expect_interaction(const char *user, const char *item, int64_t timestamp_ms)
{
    next();
    expect_text(got.interaction.user_id, user);
    expect_text(got.interaction.item_id, item);
    assert_int_equal(got.interaction.timestamp_ms, timestamp_ms);
}

static void columns_called_like_fields_need_no_map(void **state)
{
    (void)state;
    open_text(&interaction_type, ".csv",
              "timestamp,label,kind,item_id,user_id,value,ignored\n"
              "1000,true,click,i1,u1,,x\n"
              "2000,0,rating,\"i,2\",\"u \"\"2\"\"\",4.5,y\r\n",
              NULL, 0);
    expect_interaction("u1", "i1", 1000);
    assert_int_equal(got.interaction.kind, INTERACTION_CLICK);
    assert_true(got.interaction.has_label && got.interaction.label);
    assert_false(got.interaction.has_value);
    assert_null(got.interaction.request_id.data);
    expect_interaction("u \"2\"", "i,2", 2000);
    assert_int_equal(got.interaction.kind, INTERACTION_RATING);
    assert_true(got.interaction.has_label && !got.interaction.label);
    assert_true(got.interaction.has_value && got.interaction.value == 4.5);
    expect_end();
}

static void recbole_headers_name_types_and_times_are_seconds(void **state)
{
    (void)state;
    open_text(&interaction_type, ".inter",
              "user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t881250949\n", NULL, 0);
    expect_interaction("196", "242", 881250949000);
    assert_int_equal(got.interaction.kind, INTERACTION_RATING); /* as the settings say */
    assert_true(got.interaction.has_value && got.interaction.value == 3);
    expect_end();
}

static void maps_make_fields_of_columns_and_text(void **state)
{
    (void)state;
    static const char *const maps[] = {"attributes.genres=class:list", "title={movie_title} ({release_year})",
                                       "attributes.year=release_year", "attributes.note=about {movie_title}!"};
    open_text(&item_type, ".item",
              "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
              "1\tToy Story\t1995\tAnimation Children's Comedy\n"
              "267\tunknown\t\t\n",
              maps, 4);
    next();
    expect_text(got.item.item_id, "1");
    expect_text(got.item.title, "Toy Story (1995)");
    assert_int_equal(got.item.attribute_count, 3);
    expect_text(got.item.attributes[0].name, "genres"); /* in the order of the maps */
    expect_text(got.item.attributes[0].value, "Animation|Children's|Comedy");
    expect_text(got.item.attributes[1].name, "year");
    expect_text(got.item.attributes[1].value, "1995");
    expect_text(got.item.attributes[2].name, "note");
    expect_text(got.item.attributes[2].value, "about Toy Story!");
    next();
    assert_int_equal(got.item.attribute_count, 1); /* an empty cell is an absent value */
    expect_text(got.item.attributes[0].name, "note");
    expect_end();
}

static void profiles_are_filled_entry_by_entry(void **state)
{
    (void)state;
    static const char *const maps[] = {"profile.age=age", "profile.job=occupation", "user_id=id"};
    open_text(&user_type, ".tsv", "id\tage\toccupation\n7\t57\tadministrator\n8\t\t\n", maps, 3);
    next();
    expect_text(got.user.user_id, "7");
    assert_int_equal(got.user.profile_count, 2);
    expect_text(got.user.profile[1].name, "job");
    expect_text(got.user.profile[1].value, "administrator");
    next();
    assert_int_equal(got.user.profile_count, 0);
    expect_end();
}

static void json_lines_are_messages(void **state)
{
    (void)state;
    open_text(&score_request_type, ".jsonl",
              "\xef\xbb\xbf{\"request_id\": \"r1\", \"user_id\": \"u\", \"timestamp\": 5, \"candidates\": "
              "[{\"item_id\": \"a\"}, {\"item_id\": \"b\", \"title\": \"B\"}]}\r\n"
              "\n{\"request_id\": \"r2\"}\n",
              NULL, 0);
    next();
    assert_int_equal(got.request.candidate_count, 2);
    expect_text(got.request.candidates[1].title, "B");
    expect_error(3, "user_id");
    expect_end();
}

static void rows_behind_a_bad_one_are_read(void **state)
{
    (void)state;
    open_text(&interaction_type, ".csv",
              "user_id,item_id,timestamp,rating\n"
              "u1,i1,1,5\n"
              "u2,i2,yesterday,5\n" /* line 3 */
              "u3,i3,3,five\n"
              "u4,i4,4,nan\n"
              "u5,i5,5,0x10\n"
              "u6,i6,1e300,1\n"
              "u7,i7,12abc,1\n"
              ",i8,8,1\n"
              "u9,i9,9\n" /* line 10 */
              "u10,i10,10,1,1\n"
              "u11,i\"11,11,1\n"
              "u12,i\xff,12,1\n"
              "u13,i13,13,1\n",
              NULL, 0);
    expect_interaction("u1", "i1", 1);
    expect_error(3, "timestamp: \"yesterday\" is no number");
    expect_error(4, "value: \"five\" is no number");
    expect_error(5, "value: \"nan\" is no number");
    expect_error(6, "value: \"0x10\" is no number");
    expect_error(7, "out of range");
    expect_error(8, "timestamp: \"12abc\" is no number");
    expect_error(9, "user_id");
    expect_error(10, "3 cells where the header has 4");
    expect_error(11, "5 cells where the header has 4");
    expect_error(12, "a quote inside a cell");
    expect_error(13, "item_id: no UTF-8 text");
    expect_interaction("u13", "i13", 13);
    expect_end();
}

static void a_kind_that_nobody_knows_is_named(void **state)
{
    (void)state;
    open_text(&interaction_type, ".csv", "user_id,item_id,timestamp,kind\nu,i,1,stare\nu,i,2,\nu,i,3,like\n", NULL, 0);
    expect_error(2, "stare");
    expect_error(3, "kind");
    expect_interaction("u", "i", 3);
    assert_int_equal(got.interaction.kind, INTERACTION_LIKE);
    expect_end();
}

static void labels_are_read_as_other_tools_write_them(void **state)
{
    (void)state;
    open_text(&interaction_type, ".csv",
              "user_id,item_id,timestamp,label\nu,i,1,True\nu,i,2,1.0\nu,i,3,FALSE\nu,i,4,0\nu,i,5,\nu,i,6,2\n"
              "u,i,7,yes\n",
              NULL, 0);
    static const bool wanted[] = {true, true, false, false};
    for (size_t i = 0; i < 4; i++) {
        next();
        assert_true(got.interaction.has_label);
        assert_int_equal(got.interaction.label, wanted[i]);
    }
    next();
    assert_false(got.interaction.has_label);
    expect_error(7, "neither true nor false");
    expect_error(8, "neither true nor false");
    expect_end();
}

static void units_of_time_are_as_told(void **state)
{
    (void)state;
    const char text[] = "user_id,item_id,timestamp\nu,i,1.25\n";
    temporary_write(path, ".csv", text, sizeof text - 1);
    struct event_file_settings settings = settings_of(&interaction_type, NULL, 0);
    settings.timestamp_ms = 1000;
    assert_int_equal(event_file_open(&file, &settings, &err), 0);
    unlink(path);
    expect_interaction("u", "i", 1250);
    expect_end();
}

static void control_characters_and_quotes_arrive_as_they_are(void **state)
{
    (void)state;
    static const char *const maps[] = {"title=name"};
    open_text(&item_type, ".csv", "item_id,name\ni,\"a \"\"b\"\" \\ \x01\nc\t\xc3\xa9\"\n", maps, 1);
    next();
    expect_text(got.item.title, "a \"b\" \\ \x01\nc\t\xc3\xa9");
    expect_end();
}

static void maps_that_lead_nowhere_are_refused_at_the_start(void **state)
{
    (void)state;
    static const struct {
        const char *map, *words;
    } wrong[] = {
        {"title", "is not FIELD=COLUMN"},           {"titel=name", "has no such field"},
        {"title=nmae", "has no column \"nmae\""},   {"title={name", "never closes"},
        {"title={nmae}", "has no column \"nmae\""}, {"title.x=name", "has no such field"},
        {"title.=name", "has no such field"},       {"attributes=name", "FIELD.NAME=COLUMN"},
        {"attributes.=name", "FIELD.NAME=COLUMN"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        refuse_open(&item_type, ".csv", "item_id,name\ni,n\n", &wrong[i].map, 1, wrong[i].words);
    static const char *const twice[] = {"attributes.a=name", "attributes.b=name", "attributes.a=item_id"};
    refuse_open(&item_type, ".csv", "item_id,title,name\ni,t,n\n", twice, 3, "attributes.a is mapped twice");
    static const char *const map[] = {"user_id=user"};
    refuse_open(&interaction_type, ".jsonl", "{}\n", map, 1, "no map is taken");
}

static void files_that_cannot_be_understood_are_refused_at_the_start(void **state)
{
    (void)state;
    refuse_open(&interaction_type, ".csv", "", NULL, 0, "a header line is due");
    refuse_open(&interaction_type, ".csv", "user_id,item_id\nu,i\n", NULL, 0, "no column \"timestamp\": map one");
    refuse_open(&interaction_type, ".csv", "user_id,user_id\nu,i\n", NULL, 0, "two columns \"user_id\"");
    refuse_open(&interaction_type, ".xls", "user_id\n", NULL, 0, "does not tell the format");
    refuse_open(&score_request_type, ".csv", "request_id,user_id,timestamp,candidates\n", NULL, 0, "only JSON lines");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_called_like_fields_need_no_map),
        cmocka_unit_test(recbole_headers_name_types_and_times_are_seconds),
        cmocka_unit_test(maps_make_fields_of_columns_and_text),
        cmocka_unit_test(profiles_are_filled_entry_by_entry),
        cmocka_unit_test(json_lines_are_messages),
        cmocka_unit_test(rows_behind_a_bad_one_are_read),
        cmocka_unit_test(a_kind_that_nobody_knows_is_named),
        cmocka_unit_test(labels_are_read_as_other_tools_write_them),
        cmocka_unit_test(units_of_time_are_as_told),
        cmocka_unit_test(control_characters_and_quotes_arrive_as_they_are),
        cmocka_unit_test(maps_that_lead_nowhere_are_refused_at_the_start),
        cmocka_unit_test(files_that_cannot_be_understood_are_refused_at_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, end);
}
