// What the library and the per-instruction-set kernels share for everything but attention.
//
// Letters: T rows (tokens), K inputs, N outputs of a matrix, D head dim.
#pragma once

#include <cstdint>

namespace infergc {

// A weight matrix [N][K] laid out for multiplication: outputs in panels, and in each panel, input by input, the
// weights of all its outputs side by side. Outputs past N are zeros.
struct Matrix {
  int outputs, inputs;
  const uint32_t* panels;
  const void* bias;  // [N], null for none
};

// Rows to be multiplied, laid out in tiles: in each tile, input by input, the value of all its rows.
struct Rows {
  const uint32_t* packed;
  int count;
};

struct LinearKernels {
  int panel;         // outputs in a panel
  int tile;          // most rows in a tile
  int block;         // tiles that a sweep over the panels serves
  bool pairs;        // whether a 32-bit unit holds two inputs
  int panel_words;   // 32-bit words of a panel for one unit
  void (*pack)(const void* weight, int outputs, int inputs, int panel, uint32_t* to);
  void (*pack_rows)(const void* x, int64_t stride, int rows, int inputs, uint32_t* to);
  // y[T][N] for panels [begin, end). `sums` holds (end - begin) × block × tile × panel floats.
  void (*multiply)(const Matrix&, const Rows&, int begin, int end, float* sums, void* y);
  void (*embed)(const Matrix&, const int64_t* ids, int count, void* y);  // rows of the matrix
};

struct Norm {
  void* hidden;       // [T][K], stride in elements; delta is added to it first
  const void* delta;  // [T][K], null for none
  const void* weight;
  void* out;  // [T][K]
  int width;
  float eps;
};

struct Rotation {
  char* x;  // [T][q_heads + kv_heads][D] at the start of rows `stride` elements apart; changed in place
  int64_t stride;
  int q_heads, kv_heads, dims;
  const void *cos, *sin;         // [T][D / 2]
  const void *q_norm, *k_norm;  // [D], null for none
  float eps;
};

struct RowKernels {
  void (*add_norm)(const Norm&, int64_t begin, int64_t end);
  void (*silu_mul)(const void* x, int width, void* out, int64_t begin, int64_t end);
  void (*rotate)(const Rotation&, int64_t begin, int64_t end);
};

using LinearKernelsOf = LinearKernels (*)(int dtype);
using RowKernelsOf = RowKernels (*)(int dtype);

}  // namespace infergc
