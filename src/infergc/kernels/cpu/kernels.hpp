// What the library and the per-instruction-set attention share: plain data, no inline code.
//
// Letters: T tokens of the step, H query heads, G KV heads, D head dim, P tokens in a page.
// KV of a layer is two arrays [page][G][P][D], K and V apart.
#pragma once

#include <cstdint>

namespace infergc {

// Keys are taken in blocks, and softmax states are closed, at these absolute positions of the sequence.
// That is what makes the result of a token independent of batch, chunking, threads and page placement.
constexpr int kBlock = 64;
constexpr int kSplit = 512;

// Rows (query positions × heads of one KV head) that one task handles; a larger group raises it.
constexpr int kTileRows = 64;

// The widest head.
constexpr int kMaxDims = 256;

// A softmax state is a record: maximum (of scores in base 2), sum, then from kState on the D weighted values.
constexpr int kState = 16;

enum Dtype : int { kFloat32 = 0, kBfloat16 = 1, kFloat16 = 2 };

struct Shape {
  int heads, kv_heads, head_dim, page_tokens, dtype;
  int group() const { return heads / kv_heads; }
  int tile_rows() const { return group() > kTileRows ? group() : kTileRows; }
  int state() const { return kState + (head_dim + 15) / 16 * 16; }
};

// One sequence of the step: its extents and the positions it computes.
struct Row {
  const int32_t* first;  // [extents]
  const int32_t* pages;  // [extents]
  int extents;
  int skipped;  // logical pages before the first extent
  int start, count;
  int token;  // index of its first token in the step
};

// One unit of work: query positions [begin, end) of a row for one KV head over splits [split, split_end).
struct Task {
  int row, kv_head;
  int begin, end;
  int split, split_end;
  int merge;  // index of the Merge that gathers this task's states, -1 when the task sees all its splits
  int64_t cost;
};

// States of a task that was cut along KV: splits [split, split_end), each tile_rows states from `offset` on.
struct Merge {
  Task whole;
  int pieces;
  int64_t offset;  // floats
};

struct Call {
  Shape shape;
  const Row* rows;
  const void* q;     // [T][H][D], stride of T given
  int64_t q_stride;  // elements
  const void* k;
  const void* v;
  void* out;     // [T][H][D], contiguous
  float scale;   // times log2(e)
  int window;    // 0 for none
  float* states;  // of cut tasks
  const Merge* merges;
};

// Memory of one thread. Every pointer is aligned to 64 bytes.
struct Scratch {
  float* q;         // [rows][D], or the raw bits where a dot product takes 16-bit pairs
  float* part;      // [rows][state]: the split at hand
  float* run;       // [rows][state]: all splits so far
  float* sums;      // [rows][16]: sums of weights, lane by lane
  float* scores;    // [rows][kBlock]
  uint32_t* keys;   // [kBlock / lanes][D in 32-bit units][lanes]: the block's keys, transposed
  float* values;    // [D / lanes][kBlock][lanes]: the block's values, packed
  int64_t* offset;  // [2][kBlock]: element offset of each key's row in k and v, this block and the next
};

struct AttentionKernels {
  void (*attend)(const Call&, const Task&, const Scratch&);
  void (*merge)(const Call&, const Merge&, const Scratch&);
};

using AttentionKernelsOf = AttentionKernels (*)(int dtype);  // one of Dtype

}  // namespace infergc
