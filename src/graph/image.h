/*
 * image.h - edges and embeddings as a file beside the store, from a clean stop to the next start
 *
 * To read a hundred bytes an edge and to compute every embedding anew takes long, so a writer that stops leaves what it
 * has in memory as `graph.image`, mode 0600. What is small (ids, titles, counts) is read from the store as ever. The
 * embeddings go on bit for bit, with what waits.
 *
 * The image is valid for one content of one store, which it names: RocksDB's sequence number, which rises with every
 * change, and the store's identity. The store is on the disk before the image is, so that not even a power cut takes it
 * back behind the image and on to the same number another way. With other settings of what an image holds, of another
 * build's layout, or damaged, it is passed over. The writer's first batch deletes it. graph_save() writes it.
 */
#ifndef HEADRACE_GRAPH_IMAGE_H
#define HEADRACE_GRAPH_IMAGE_H

#include <stdbool.h>

#include "base/error.h"

struct graph;
struct image;

/* The image of what the store holds; NULL when there is none of use. Begins to load the embeddings beside the caller.
 */
struct image *image_open(struct graph *graph);

/*
 * Once ids are loaded: edges of all nodes and all that load.c draws from pairs, and the embeddings. On -1 (damaged, no
 * memory) the graph's nodes are fit only to be destroyed. `image` is gone then, either way.
 */
int image_finish(struct image *image, struct graph *graph, struct error *err);

/* Instead: waits until nobody loads any more. NULL is fine. */
void image_abandon(struct image *image);

/* What a save that was cut short has left. */
void image_delete_rest(const struct graph *graph);

/* There is one, of use or not; for a writer, who then deletes it. */
bool image_exists(const struct graph *graph);
void image_delete(struct graph *graph);

#endif
