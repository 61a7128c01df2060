/* property.h - a name and its value, both somebody else's strings: how configuration reaches a library's client */
#ifndef HEADRACE_BASE_PROPERTY_H
#define HEADRACE_BASE_PROPERTY_H

struct property {
    const char *name; /* "bootstrap.servers" */
    const char *value;
};

#endif
