/* Made by golden.py with fastavro 1.13.1: do not edit. */
#ifndef WIRE_GOLDEN_H
#define WIRE_GOLDEN_H

#include <stdint.h>

/* clang-format off */

#define FINGERPRINT_INTERACTION 0xd4dd1cae25a8b5e6u
#define FINGERPRINT_ITEM 0x8bdb469e1860891cu
#define FINGERPRINT_USER 0x7cc60d3dcc53f30bu
#define FINGERPRINT_SCOREREQUEST 0xd00f1cb0cb23edaau
#define FINGERPRINT_SCORERESPONSE 0x5f7a9d9908e2f116u

static const uint8_t rating_frame[] = {
    0xc3, 0x01, 0xe6, 0xb5, 0xa8, 0x25, 0xae, 0x1c, 0xdd, 0xd4, 0x08, 0x75, 0x31, 0x39, 0x36, 0x06, 0x32, 0x34, 0x32, 0x90,
    0xde, 0xb2, 0xea, 0xa5, 0x33, 0x02, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0c, 0x40, 0x02, 0x01, 0x02, 0x06, 0x72,
    0x2d, 0x31,
};

static const uint8_t click_frame[] = {
    0xc3, 0x01, 0xe6, 0xb5, 0xa8, 0x25, 0xae, 0x1c, 0xdd, 0xd4, 0x04, 0xc3, 0xbc, 0x00, 0x01, 0x04, 0x00, 0x00, 0x00,
};

static const uint8_t item_frame[] = {
    0xc3, 0x01, 0x1c, 0x89, 0x60, 0x18, 0x9e, 0x46, 0xdb, 0x8b, 0x06, 0x32, 0x34, 0x32, 0x18, 0x4b, 0x6f, 0x6c, 0x79, 0x61,
    0x20, 0x28, 0x31, 0x39, 0x39, 0x36, 0x29, 0x04, 0x0a, 0x67, 0x65, 0x6e, 0x72, 0x65, 0x0c, 0x43, 0x6f, 0x6d, 0x65, 0x64,
    0x79, 0x08, 0x79, 0x65, 0x61, 0x72, 0x08, 0x31, 0x39, 0x39, 0x36, 0x00,
};

static const uint8_t user_frame[] = {
    0xc3, 0x01, 0x0b, 0xf3, 0x53, 0xcc, 0x3d, 0x0d, 0xc6, 0x7c, 0x08, 0x75, 0x31, 0x39, 0x36, 0x00,
};

static const uint8_t request_frame[] = {
    0xc3, 0x01, 0xaa, 0xed, 0x23, 0xcb, 0xb0, 0x1c, 0x0f, 0xd0, 0x06, 0x72, 0x2d, 0x31, 0x08, 0x75, 0x31, 0x39, 0x36, 0x90,
    0xde, 0xb2, 0xea, 0xa5, 0x33, 0x04, 0x06, 0x32, 0x34, 0x32, 0x00, 0x06, 0x33, 0x30, 0x32, 0x02, 0x30, 0x4c, 0x2e, 0x41,
    0x2e, 0x20, 0x43, 0x6f, 0x6e, 0x66, 0x69, 0x64, 0x65, 0x6e, 0x74, 0x69, 0x61, 0x6c, 0x20, 0x28, 0x31, 0x39, 0x39, 0x37,
    0x29, 0x00, 0x02, 0x84, 0xe2, 0xb2, 0xea, 0xa5, 0x33, 0x02, 0x04, 0x06, 0x33, 0x37, 0x37, 0x02, 0x18, 0x48, 0x65, 0x61,
    0x76, 0x79, 0x77, 0x65, 0x69, 0x67, 0x68, 0x74, 0x73, 0x08, 0x00, 0x80, 0xf2, 0xbe, 0xe9, 0xa5, 0x33, 0x04, 0x35, 0x31,
    0x00, 0x02, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x40, 0x80, 0x98, 0xfa, 0xdf, 0xa5, 0x33, 0x00, 0x01,
};

static const uint8_t response_frame[] = {
    0xc3, 0x01, 0x16, 0xf1, 0xe2, 0x08, 0x99, 0x9d, 0x7a, 0x5f, 0x06, 0x72, 0x2d, 0x31, 0x08, 0x75, 0x31, 0x39, 0x36, 0x02,
    0x00, 0x04, 0x06, 0x32, 0x34, 0x32, 0x02, 0xbd, 0xa2, 0xd5, 0xf5, 0xd4, 0x64, 0xe7, 0x3f, 0x14, 0x04, 0x02, 0x22, 0x57,
    0x69, 0x6c, 0x6c, 0x20, 0x22, 0x75, 0x22, 0x0a, 0x6c, 0x69, 0x6b, 0x65, 0x20, 0x69, 0x74, 0x3f, 0x04, 0x04, 0x70, 0x31,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xe0, 0x3f, 0x02, 0x0a, 0x6c, 0x69, 0x6b, 0x65, 0x64, 0x04, 0x70, 0x32, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0xd0, 0xbf, 0x00, 0x00, 0x02, 0x1c, 0x69, 0x74, 0x65, 0x6d, 0x5f, 0x6c, 0x69, 0x6b, 0x65, 0x5f,
    0x72, 0x61, 0x74, 0x65, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xe4, 0x3f, 0x00, 0x04, 0x0a, 0x00, 0x06, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0xe0, 0x3f, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xe4, 0x3f, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xe8,
    0x3f, 0x00, 0x14, 0x01, 0x00, 0x00, 0x06, 0x33, 0x30, 0x32, 0x00, 0x00, 0x00, 0x00, 0x00, 0x18, 0x73, 0x6d, 0x6f, 0x6c,
    0x6c, 0x6d, 0x32, 0x2d, 0x31, 0x33, 0x35, 0x6d, 0x00, 0xc0, 0x9a, 0x0c, 0x8e, 0xde, 0xb2, 0xea, 0xa5, 0x33, 0x9a, 0x99,
    0x99, 0x99, 0x99, 0x99, 0x89, 0x3f, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xe0, 0x3f, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0xf4, 0x3f, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x44, 0x40,
};

static const char primitive_schema[] =
    "\"int\"";

static const char primitive_canonical[] =
    "\"int\"";

#define FINGERPRINT_PRIMITIVE 0x7275d51a3f395c8fu

static const char primitive_object_schema[] =
    "{\"type\": \"string\", \"logicalType\": \"uuid\"}";

static const char primitive_object_canonical[] =
    "\"string\"";

#define FINGERPRINT_PRIMITIVE_OBJECT 0x8f014872634503c7u

static const char record_schema[] =
    "{\"type\": \"record\", \"name\": \"Fixed.Point\", \"doc\": \"d\", \"aliases\": [\"P\"], \"fields\": "
    "[{\"default\": 1, \"type\": {\"type\": \"int\"}, \"doc\": \"x\", \"order\": \"ignore\", \"name\": \""
    "x\", \"aliases\": [\"a\"]}]}";

static const char record_canonical[] =
    "{\"name\":\"Fixed.Point\",\"type\":\"record\",\"fields\":[{\"name\":\"x\",\"type\":\"int\"}]}";

#define FINGERPRINT_RECORD 0xa21df2ee12ea237eu

static const char names_schema[] =
    "{\"namespace\": \"outer.space\", \"name\": \"R\", \"type\": \"record\", \"fields\": [{\"name\": \"f"
    "\", \"type\": {\"type\": \"fixed\", \"size\": 16, \"name\": \"Hash\"}}, {\"name\": \"g\", \"type\": {"
    "\"type\": \"array\", \"items\": \"Hash\"}}, {\"name\": \"e\", \"type\": {\"type\": \"enum\", \"name"
    "\": \"E\", \"namespace\": \"inner\", \"symbols\": [\"A\", \"B\"], \"default\": \"A\"}}, {\"name\": \""
    "h\", \"type\": [\"null\", {\"type\": \"map\", \"values\": [\"inner.E\", \"outer.space.Hash\"]}], \"d"
    "efault\": null}, {\"name\": \"s\", \"type\": {\"type\": \"record\", \"name\": \"deep.S\", \"fields\""
    ": [{\"name\": \"t\", \"type\": {\"type\": \"record\", \"name\": \"T\", \"fields\": []}}]}}, {\"name"
    "\": \"u\", \"type\": \"deep.T\"}]}";

static const char names_canonical[] =
    "{\"name\":\"outer.space.R\",\"type\":\"record\",\"fields\":[{\"name\":\"f\",\"type\":{\"name\":\"out"
    "er.space.Hash\",\"type\":\"fixed\",\"size\":16}},{\"name\":\"g\",\"type\":{\"type\":\"array\",\"item"
    "s\":\"outer.space.Hash\"}},{\"name\":\"e\",\"type\":{\"name\":\"inner.E\",\"type\":\"enum\",\"symbol"
    "s\":[\"A\",\"B\"]}},{\"name\":\"h\",\"type\":[\"null\",{\"type\":\"map\",\"values\":[\"inner.E\",\"o"
    "uter.space.Hash\"]}]},{\"name\":\"s\",\"type\":{\"name\":\"deep.S\",\"type\":\"record\",\"fields\":["
    "{\"name\":\"t\",\"type\":{\"name\":\"deep.T\",\"type\":\"record\",\"fields\":[]}}]}},{\"name\":\"u\""
    ",\"type\":\"deep.T\"}]}";

#define FINGERPRINT_NAMES 0xb4c93226c74126eau

static const char older_writer[] =
    "{\"type\": \"record\", \"name\": \"Interaction\", \"namespace\": \"headrace\", \"fields\": [{\"name"
    "\": \"user_id\", \"type\": \"string\"}, {\"name\": \"item_id\", \"type\": \"string\"}, {\"name\": \"t"
    "imestamp\", \"type\": \"long\"}, {\"name\": \"kind\", \"type\": {\"type\": \"enum\", \"name\": \"Int"
    "eractionKind\", \"namespace\": \"headrace\", \"symbols\": [\"unknown\", \"rating\", \"click\", \"lik"
    "e\", \"dislike\", \"impression\", \"purchase\", \"remove\"]}}]}";

static const uint8_t older_frame[] = {
    0xc3, 0x01, 0xb3, 0x00, 0xe1, 0x0e, 0xde, 0xa6, 0x22, 0xbf, 0x02, 0x75, 0x02, 0x69, 0x0a, 0x06,
};

static const char reordered_writer[] =
    "{\"type\": \"record\", \"name\": \"Interaction\", \"namespace\": \"headrace\", \"fields\": [{\"name"
    "\": \"request_id\", \"type\": [\"null\", \"string\"]}, {\"name\": \"label\", \"type\": [\"null\", \"b"
    "oolean\"]}, {\"name\": \"value\", \"type\": [\"null\", \"double\"]}, {\"name\": \"kind\", \"type\": "
    "{\"type\": \"enum\", \"name\": \"InteractionKind\", \"namespace\": \"headrace\", \"symbols\": [\"unk"
    "nown\", \"rating\", \"click\", \"like\", \"dislike\", \"impression\", \"purchase\", \"remove\"]}}, {"
    "\"name\": \"timestamp\", \"type\": \"long\"}, {\"name\": \"item_id\", \"type\": \"string\"}, {\"name"
    "\": \"user_id\", \"type\": \"string\"}]}";

static const uint8_t reordered_frame[] = {
    0xc3, 0x01, 0x92, 0x5a, 0x8b, 0x66, 0xf6, 0xc0, 0x2e, 0x08, 0x02, 0x02, 0x72, 0x02, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x04, 0x40, 0x06, 0x0a, 0x02, 0x69, 0x02, 0x75,
};

static const char dropping_writer[] =
    "{\"type\": \"record\", \"name\": \"Interaction\", \"namespace\": \"headrace\", \"fields\": [{\"name"
    "\": \"before\", \"type\": {\"type\": \"record\", \"name\": \"Dropped\", \"fields\": [{\"name\": \"not"
    "hing\", \"type\": \"null\"}, {\"name\": \"flag\", \"type\": \"boolean\"}, {\"name\": \"small\", \"ty"
    "pe\": \"int\"}, {\"name\": \"big\", \"type\": \"long\"}, {\"name\": \"single\", \"type\": \"float\"}"
    ", {\"name\": \"double\", \"type\": \"double\"}, {\"name\": \"raw\", \"type\": \"bytes\"}, {\"name\":"
    " \"text\", \"type\": \"string\"}, {\"name\": \"hash\", \"type\": {\"type\": \"fixed\", \"name\": \"H"
    "ash\", \"size\": 3}}, {\"name\": \"color\", \"type\": {\"type\": \"enum\", \"name\": \"Color\", \"sy"
    "mbols\": [\"RED\", \"BLUE\"]}}, {\"name\": \"lists\", \"type\": {\"type\": \"array\", \"items\": {\""
    "type\": \"array\", \"items\": \"int\"}}}, {\"name\": \"nulls\", \"type\": {\"type\": \"array\", \"it"
    "ems\": \"null\"}}, {\"name\": \"table\", \"type\": {\"type\": \"map\", \"values\": {\"type\": \"map"
    "\", \"values\": [\"null\", \"Color\", \"string\"]}}}, {\"name\": \"either\", \"type\": [\"null\", {\""
    "type\": \"record\", \"name\": \"Inner\", \"fields\": [{\"name\": \"a\", \"type\": \"Hash\"}, {\"name"
    "\": \"b\", \"type\": \"long\"}]}]}]}}, {\"name\": \"user_id\", \"type\": \"string\"}, {\"name\": \"i"
    "tem_id\", \"type\": \"string\"}, {\"name\": \"between\", \"type\": [\"null\", \"Dropped\"]}, {\"name"
    "\": \"timestamp\", \"type\": \"long\"}, {\"name\": \"kind\", \"type\": {\"type\": \"enum\", \"name\""
    ": \"InteractionKind\", \"namespace\": \"headrace\", \"symbols\": [\"unknown\", \"rating\", \"click\""
    ", \"like\", \"dislike\", \"impression\", \"purchase\", \"remove\"]}}, {\"name\": \"after\", \"type\""
    ": {\"type\": \"array\", \"items\": \"Dropped\"}}]}";

static const uint8_t dropping_frame[] = {
    0xc3, 0x01, 0x29, 0x13, 0xee, 0xea, 0x07, 0xb5, 0x0d, 0x18, 0x01, 0x99, 0x01, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40, 0x00,
    0x00, 0xc0, 0x3f, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x40, 0x04, 0x00, 0xff, 0x08, 0x74, 0x65, 0x78, 0x74, 0x61,
    0x62, 0x63, 0x02, 0x06, 0x04, 0x02, 0x04, 0x00, 0x00, 0x02, 0xd8, 0x04, 0x00, 0x00, 0x0a, 0x00, 0x04, 0x02, 0x6b, 0x04,
    0x02, 0x78, 0x00, 0x02, 0x79, 0x02, 0x00, 0x00, 0x02, 0x6c, 0x00, 0x00, 0x02, 0x78, 0x79, 0x7a, 0x01, 0x02, 0x75, 0x02,
    0x69, 0x02, 0x01, 0x99, 0x01, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40, 0x00, 0x00, 0xc0, 0x3f, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x04, 0x40, 0x04, 0x00, 0xff, 0x08, 0x74, 0x65, 0x78, 0x74, 0x61, 0x62, 0x63, 0x02, 0x06, 0x04, 0x02, 0x04, 0x00,
    0x00, 0x02, 0xd8, 0x04, 0x00, 0x00, 0x0a, 0x00, 0x04, 0x02, 0x6b, 0x04, 0x02, 0x78, 0x00, 0x02, 0x79, 0x02, 0x00, 0x00,
    0x02, 0x6c, 0x00, 0x00, 0x02, 0x78, 0x79, 0x7a, 0x01, 0x0a, 0x06, 0x04, 0x01, 0x99, 0x01, 0x80, 0x80, 0x80, 0x80, 0x80,
    0x40, 0x00, 0x00, 0xc0, 0x3f, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x40, 0x04, 0x00, 0xff, 0x08, 0x74, 0x65, 0x78,
    0x74, 0x61, 0x62, 0x63, 0x02, 0x06, 0x04, 0x02, 0x04, 0x00, 0x00, 0x02, 0xd8, 0x04, 0x00, 0x00, 0x0a, 0x00, 0x04, 0x02,
    0x6b, 0x04, 0x02, 0x78, 0x00, 0x02, 0x79, 0x02, 0x00, 0x00, 0x02, 0x6c, 0x00, 0x00, 0x02, 0x78, 0x79, 0x7a, 0x01, 0x01,
    0x99, 0x01, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40, 0x00, 0x00, 0xc0, 0x3f, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x40,
    0x04, 0x00, 0xff, 0x08, 0x74, 0x65, 0x78, 0x74, 0x61, 0x62, 0x63, 0x02, 0x06, 0x04, 0x02, 0x04, 0x00, 0x00, 0x02, 0xd8,
    0x04, 0x00, 0x00, 0x0a, 0x00, 0x04, 0x02, 0x6b, 0x04, 0x02, 0x78, 0x00, 0x02, 0x79, 0x02, 0x00, 0x00, 0x02, 0x6c, 0x00,
    0x00, 0x02, 0x78, 0x79, 0x7a, 0x01, 0x00,
};

static const char promoted_writer[] =
    "{\"type\": \"record\", \"name\": \"Interaction\", \"namespace\": \"headrace\", \"fields\": [{\"name"
    "\": \"user_id\", \"type\": \"bytes\"}, {\"name\": \"item_id\", \"type\": \"string\"}, {\"name\": \"ti"
    "mestamp\", \"type\": \"int\"}, {\"name\": \"kind\", \"type\": {\"type\": \"enum\", \"name\": \"Inter"
    "actionKind\", \"namespace\": \"headrace\", \"symbols\": [\"unknown\", \"rating\", \"click\", \"like"
    "\", \"dislike\", \"impression\", \"purchase\", \"remove\"]}}, {\"name\": \"value\", \"type\": [\"null"
    "\", \"float\"]}]}";

static const uint8_t promoted_frame[] = {
    0xc3, 0x01, 0xd6, 0x9d, 0xff, 0x9d, 0x63, 0x2b, 0x34, 0xef, 0x02, 0x75, 0x02, 0x69, 0x0a, 0x06, 0x02, 0x00, 0x00, 0x20,
    0x40,
};

static const char long_value_writer[] =
    "{\"type\": \"record\", \"name\": \"Interaction\", \"namespace\": \"headrace\", \"fields\": [{\"name"
    "\": \"user_id\", \"type\": \"string\"}, {\"name\": \"item_id\", \"type\": \"string\"}, {\"name\": \"t"
    "imestamp\", \"type\": \"long\"}, {\"name\": \"kind\", \"type\": {\"type\": \"enum\", \"name\": \"Int"
    "eractionKind\", \"namespace\": \"headrace\", \"symbols\": [\"unknown\", \"rating\", \"click\", \"lik"
    "e\", \"dislike\", \"impression\", \"purchase\", \"remove\"]}}, {\"name\": \"value\", \"type\": \"lon"
    "g\"}]}";

static const uint8_t long_value_frame[] = {
    0xc3, 0x01, 0xd2, 0x14, 0x46, 0xd1, 0x63, 0xd0, 0xbb, 0xe5, 0x02, 0x75, 0x02, 0x69, 0x0a, 0x06, 0x0d,
};

static const char int_value_writer[] =
    "{\"type\": \"record\", \"name\": \"Interaction\", \"namespace\": \"headrace\", \"fields\": [{\"name"
    "\": \"user_id\", \"type\": \"string\"}, {\"name\": \"item_id\", \"type\": \"string\"}, {\"name\": \"t"
    "imestamp\", \"type\": \"long\"}, {\"name\": \"kind\", \"type\": {\"type\": \"enum\", \"name\": \"Int"
    "eractionKind\", \"namespace\": \"headrace\", \"symbols\": [\"unknown\", \"rating\", \"click\", \"lik"
    "e\", \"dislike\", \"impression\", \"purchase\", \"remove\"]}}, {\"name\": \"value\", \"type\": [\"in"
    "t\", \"null\"]}]}";

static const uint8_t int_value_frame[] = {
    0xc3, 0x01, 0x37, 0x2b, 0x5c, 0xbe, 0xd2, 0xe9, 0x08, 0x56, 0x02, 0x75, 0x02, 0x69, 0x0a, 0x06, 0x00, 0x0d,
};

static const char newer_symbol_writer[] =
    "{\"type\": \"record\", \"name\": \"Interaction\", \"namespace\": \"headrace\", \"fields\": [{\"name"
    "\": \"user_id\", \"type\": \"string\"}, {\"name\": \"item_id\", \"type\": \"string\"}, {\"name\": \"t"
    "imestamp\", \"type\": \"long\"}, {\"name\": \"kind\", \"type\": {\"type\": \"enum\", \"name\": \"Int"
    "eractionKind\", \"namespace\": \"headrace\", \"symbols\": [\"share\", \"like\", \"unknown\"]}}]}";

static const uint8_t newer_symbol_frame[] = {
    0xc3, 0x01, 0x60, 0x2a, 0x6e, 0xc9, 0xdc, 0x37, 0x1b, 0x9b, 0x02, 0x75, 0x02, 0x69, 0x0a, 0x00,
};

static const char other_numbers_writer[] =
    "{\"type\": \"record\", \"name\": \"Interaction\", \"namespace\": \"headrace\", \"fields\": [{\"name"
    "\": \"user_id\", \"type\": \"string\"}, {\"name\": \"item_id\", \"type\": \"string\"}, {\"name\": \"t"
    "imestamp\", \"type\": \"long\"}, {\"name\": \"kind\", \"type\": {\"type\": \"enum\", \"name\": \"Int"
    "eractionKind\", \"namespace\": \"headrace\", \"symbols\": [\"share\", \"like\", \"unknown\"]}}]}";

static const uint8_t other_numbers_frame[] = {
    0xc3, 0x01, 0x60, 0x2a, 0x6e, 0xc9, 0xdc, 0x37, 0x1b, 0x9b, 0x02, 0x75, 0x02, 0x69, 0x0a, 0x02,
};

static const char plain_writer[] =
    "{\"type\": \"record\", \"name\": \"Interaction\", \"namespace\": \"headrace\", \"fields\": [{\"name"
    "\": \"user_id\", \"type\": \"string\"}, {\"name\": \"item_id\", \"type\": \"string\"}, {\"name\": \"t"
    "imestamp\", \"type\": \"long\"}, {\"name\": \"kind\", \"type\": {\"type\": \"enum\", \"name\": \"Int"
    "eractionKind\", \"namespace\": \"headrace\", \"symbols\": [\"unknown\", \"rating\", \"click\", \"lik"
    "e\", \"dislike\", \"impression\", \"purchase\", \"remove\"]}}, {\"name\": \"value\", \"type\": \"dou"
    "ble\"}, {\"name\": \"label\", \"type\": \"boolean\"}, {\"name\": \"request_id\", \"type\": \"string"
    "\"}]}";

static const uint8_t plain_frame[] = {
    0xc3, 0x01, 0xcf, 0xb5, 0xaf, 0x92, 0xa5, 0x6f, 0x68, 0x9d, 0x02, 0x75, 0x02, 0x69, 0x0a, 0x06, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x04, 0x40, 0x01, 0x02, 0x72,
};

static const char unions_writer[] =
    "{\"type\": \"record\", \"name\": \"Interaction\", \"namespace\": \"headrace\", \"fields\": [{\"name"
    "\": \"user_id\", \"type\": [\"null\", \"string\"]}, {\"name\": \"item_id\", \"type\": [\"bytes\", \"n"
    "ull\"]}, {\"name\": \"timestamp\", \"type\": [\"int\", \"long\"]}, {\"name\": \"kind\", \"type\": ["
    "\"null\", {\"type\": \"enum\", \"name\": \"InteractionKind\", \"namespace\": \"headrace\", \"symbols"
    "\": [\"unknown\", \"rating\", \"click\", \"like\", \"dislike\", \"impression\", \"purchase\", \"remov"
    "e\"]}]}, {\"name\": \"value\", \"type\": [\"float\", \"null\", \"string\"]}, {\"name\": \"label\", "
    "\"type\": [\"boolean\"]}, {\"name\": \"request_id\", \"type\": [\"string\", \"null\"]}]}";

static const uint8_t unions_frame[] = {
    0xc3, 0x01, 0x1d, 0xef, 0xb5, 0x93, 0x2f, 0x1a, 0x1d, 0x01, 0x02, 0x02, 0x75, 0x00, 0x02, 0x69, 0x00, 0x0a, 0x02, 0x06,
    0x00, 0x00, 0x00, 0x20, 0x40, 0x00, 0x01, 0x00, 0x02, 0x72,
};

static const char null_id_writer[] =
    "{\"type\": \"record\", \"name\": \"Interaction\", \"namespace\": \"headrace\", \"fields\": [{\"name"
    "\": \"user_id\", \"type\": [\"null\", \"string\"]}, {\"name\": \"item_id\", \"type\": \"string\"}, {"
    "\"name\": \"timestamp\", \"type\": \"long\"}, {\"name\": \"kind\", \"type\": {\"type\": \"enum\", \"n"
    "ame\": \"InteractionKind\", \"namespace\": \"headrace\", \"symbols\": [\"unknown\", \"rating\", \"cl"
    "ick\", \"like\", \"dislike\", \"impression\", \"purchase\", \"remove\"]}}]}";

static const uint8_t null_id_frame[] = {
    0xc3, 0x01, 0xde, 0xe7, 0xe3, 0x27, 0x50, 0x78, 0x0c, 0x4a, 0x00, 0x02, 0x69, 0x0a, 0x06,
};

static const char text_value_writer[] =
    "{\"type\": \"record\", \"name\": \"Interaction\", \"namespace\": \"headrace\", \"fields\": [{\"name"
    "\": \"user_id\", \"type\": \"string\"}, {\"name\": \"item_id\", \"type\": \"string\"}, {\"name\": \"t"
    "imestamp\", \"type\": \"long\"}, {\"name\": \"kind\", \"type\": {\"type\": \"enum\", \"name\": \"Int"
    "eractionKind\", \"namespace\": \"headrace\", \"symbols\": [\"unknown\", \"rating\", \"click\", \"lik"
    "e\", \"dislike\", \"impression\", \"purchase\", \"remove\"]}}, {\"name\": \"value\", \"type\": [\"fl"
    "oat\", \"null\", \"string\"]}]}";

static const uint8_t text_value_frame[] = {
    0xc3, 0x01, 0x49, 0x64, 0x1b, 0xb9, 0xbc, 0x15, 0xf6, 0x42, 0x02, 0x75, 0x02, 0x69, 0x0a, 0x06, 0x04, 0x08, 0x6d, 0x75,
    0x63, 0x68,
};

static const char top_union_writer[] =
    "[\"null\", {\"type\": \"record\", \"name\": \"Interaction\", \"namespace\": \"headrace\", \"fields\""
    ": [{\"name\": \"user_id\", \"type\": \"string\"}, {\"name\": \"item_id\", \"type\": \"string\"}, {\""
    "name\": \"timestamp\", \"type\": \"long\"}, {\"name\": \"kind\", \"type\": {\"type\": \"enum\", \"na"
    "me\": \"InteractionKind\", \"namespace\": \"headrace\", \"symbols\": [\"unknown\", \"rating\", \"cli"
    "ck\", \"like\", \"dislike\", \"impression\", \"purchase\", \"remove\"]}}]}]";

static const uint8_t top_union_frame[] = {
    0xc3, 0x01, 0xc6, 0x13, 0x7d, 0x42, 0xfb, 0x01, 0x6d, 0x19, 0x02, 0x02, 0x75, 0x02, 0x69, 0x0a, 0x06,
};

static const char nested_writer[] =
    "{\"type\": \"record\", \"name\": \"ScoreRequest\", \"namespace\": \"headrace\", \"fields\": [{\"name"
    "\": \"history\", \"type\": {\"type\": \"array\", \"items\": {\"type\": \"record\", \"name\": \"Reque"
    "stEvent\", \"fields\": [{\"name\": \"timestamp\", \"type\": {\"type\": \"long\", \"logicalType\": \""
    "timestamp-millis\"}}, {\"name\": \"kind\", \"type\": {\"type\": \"enum\", \"name\": \"InteractionKin"
    "d\", \"namespace\": \"headrace\", \"symbols\": [\"remove\", \"wish\", \"unknown\"]}}, {\"name\": \"i"
    "tem_id\", \"type\": \"string\"}, {\"name\": \"weight\", \"type\": \"float\"}, {\"name\": \"value\", "
    "\"type\": \"int\"}]}}}, {\"name\": \"request_id\", \"type\": \"string\"}, {\"name\": \"user_id\", \""
    "type\": \"string\"}, {\"name\": \"timestamp\", \"type\": \"long\"}, {\"name\": \"candidates\", \"typ"
    "e\": {\"type\": \"array\", \"items\": {\"type\": \"record\", \"name\": \"RequestCandidate\", \"field"
    "s\": [{\"name\": \"rank\", \"type\": \"int\"}, {\"name\": \"item_id\", \"type\": \"string\"}]}}}]}";

static const uint8_t nested_frame[] = {
    0xc3, 0x01, 0x5f, 0x0c, 0xa3, 0x70, 0x4c, 0xb8, 0x54, 0xdc, 0x04, 0x02, 0x00, 0x02, 0x61, 0x00, 0x00, 0x80, 0x3f, 0x08,
    0x04, 0x02, 0x02, 0x62, 0x00, 0x00, 0x80, 0x3f, 0x0a, 0x00, 0x02, 0x72, 0x02, 0x75, 0x06, 0x06, 0x00, 0x04, 0x63, 0x30,
    0x02, 0x04, 0x63, 0x31, 0x04, 0x04, 0x63, 0x32, 0x00,
};

static const char probe_reader[] =
    "{\"type\": \"record\", \"name\": \"test.Probe\", \"aliases\": [\"Sonde\"], \"fields\": [{\"name\": "
    "\"name\", \"type\": \"string\", \"aliases\": [\"label\", \"title\"]}, {\"name\": \"count\", \"type\":"
    " \"long\", \"default\": -3}, {\"name\": \"ratio\", \"type\": \"double\", \"default\": 0.5}, {\"name"
    "\": \"on\", \"type\": \"boolean\", \"default\": true}, {\"name\": \"mode\", \"type\": {\"type\": \"en"
    "um\", \"name\": \"Mode\", \"symbols\": [\"SLOW\", \"FAST\"]}, \"default\": \"FAST\"}, {\"name\": \"w"
    "ord\", \"type\": \"string\", \"default\": \"so\"}, {\"name\": \"level\", \"type\": \"int\", \"defaul"
    "t\": 7}, {\"name\": \"numbers\", \"type\": {\"type\": \"array\", \"items\": \"double\"}, \"default\""
    ": [1, 2.5]}, {\"name\": \"tags\", \"type\": {\"type\": \"map\", \"values\": \"string\"}, \"default\""
    ": {\"a\": \"b\"}}, {\"name\": \"title\", \"type\": [\"null\", \"string\"], \"default\": null}]}";

static const char sonde_writer[] =
    "{\"type\": \"record\", \"name\": \"other.Sonde\", \"fields\": [{\"name\": \"label\", \"type\": \"str"
    "ing\"}]}";

static const uint8_t sonde_bytes[] = {
    0x0a, 0x64, 0x65, 0x70, 0x74, 0x68,
};

static const char titled_writer[] =
    "{\"type\": \"record\", \"name\": \"test.Probe\", \"fields\": [{\"name\": \"title\", \"type\": \"stri"
    "ng\"}, {\"name\": \"label\", \"type\": \"string\"}, {\"name\": \"level\", \"type\": \"int\"}]}";

static const uint8_t titled_bytes[] = {
    0x02, 0x54, 0x02, 0x4c, 0x11,
};

static const char modal_writer[] =
    "{\"type\": \"record\", \"name\": \"test.Probe\", \"fields\": [{\"name\": \"name\", \"type\": \"strin"
    "g\"}, {\"name\": \"mode\", \"type\": {\"type\": \"enum\", \"name\": \"Mode\", \"symbols\": [\"WARP\""
    "]}}]}";

static const uint8_t modal_bytes[] = {
    0x02, 0x6e, 0x00,
};

/* clang-format on */

#endif
