// All layers of a decoder in one call: the same kernels as layer by layer, without Python between them.

#include <new>
#include <vector>

#include "api.hpp"
#include "buffer.hpp"

namespace infergc {

// Field by field as _Layer in stack.py. Null where a model has no such weight.
struct Layer {
  const void *attention_norm, *q_norm, *k_norm, *mlp_norm;
  const uint32_t *qkv, *out, *gate_up, *down;  // packed
  const void *qkv_bias, *out_bias, *gate_up_bias, *down_bias;
  char *k_pages, *v_pages;
  int64_t page_count;
  int group;   // whose plan it follows
  int window;  // 0 for none
};

// Field by field as _Shape in stack.py.
struct StackShape {
  int layers, hidden, intermediate, heads, kv_heads, head_dim, element;
  float eps, scale;
};

struct Stack {
  Stack(Dense* d, Engine* e, const StackShape& s, const Layer* l) : dense(d), engine(e), shape(s), layers(l, l + s.layers) {}

  Dense* dense;
  Engine* engine;
  StackShape shape;
  std::vector<Layer> layers;
  Buffer memory;  // of what lies between two kernels
};

namespace {

// What lies between the kernels of a step.
struct Between {
  char *normed, *qkv, *attended, *gate_up, *activated, *delta;
};

// Points into the stack's memory, which grows with the largest step; false: there is no such memory.
bool lay_out(Stack& stack, int64_t rows, Between& b) {
  const StackShape& s = stack.shape;
  const int64_t q = int64_t(s.heads) * s.head_dim, kv = int64_t(s.kv_heads) * s.head_dim;
  const int64_t widths[] = {s.hidden, q + 2 * kv, q, 2 * s.intermediate, s.intermediate, s.hidden};
  char** const places[] = {&b.normed, &b.qkv, &b.attended, &b.gate_up, &b.activated, &b.delta};
  int64_t used = 0, begin[6];
  for (int i = 0; i < 6; i++) {
    begin[i] = used;
    used += (rows * widths[i] * s.element + 63) / 64 * 64;
  }
  if (!stack.memory.reserve(size_t(used))) return false;
  for (int i = 0; i < 6; i++) *places[i] = static_cast<char*>(stack.memory.data) + begin[i];
  return true;
}

int attention(const Stack& stack, const Layer& layer, Plan* plan, int rows, const void* cos, const void* sin,
              const Between& b) {
  const StackShape& s = stack.shape;
  const int turned = s.heads + s.kv_heads, width = (turned + s.kv_heads) * s.head_dim;
  char *k = b.qkv + int64_t(s.heads) * s.head_dim * s.element, *v = b.qkv + int64_t(turned) * s.head_dim * s.element;
  if (int code = infergc_linear(stack.dense, b.normed, s.hidden, rows, width, s.hidden, layer.qkv, layer.qkv_bias, b.qkv))
    return code;
  infergc_rotate(stack.dense, b.qkv, width, rows, s.heads, s.kv_heads, s.head_dim, cos, sin, layer.q_norm,
                 layer.k_norm, s.eps);
  if (int code = infergc_write(stack.engine, plan, k, v, width, width, layer.k_pages, layer.v_pages, layer.page_count))
    return code;
  if (int code = infergc_attend(stack.engine, plan, b.qkv, width, layer.k_pages, layer.v_pages, layer.page_count,
                                b.attended, s.scale, layer.window))
    return code;
  const int inputs = s.heads * s.head_dim;
  return infergc_linear(stack.dense, b.attended, inputs, rows, s.hidden, inputs, layer.out, layer.out_bias, b.delta);
}

int mlp(const Stack& stack, const Layer& layer, int rows, const Between& b) {
  const int hidden = stack.shape.hidden, inner = stack.shape.intermediate;
  if (int code = infergc_linear(stack.dense, b.normed, hidden, rows, 2 * inner, hidden, layer.gate_up,
                                layer.gate_up_bias, b.gate_up))
    return code;
  infergc_silu_mul(stack.dense, b.gate_up, rows, inner, b.activated);
  return infergc_linear(stack.dense, b.activated, inner, rows, hidden, inner, layer.down, layer.down_bias, b.delta);
}

}  // namespace
}  // namespace infergc

using namespace infergc;

// The layers are copied; what they point to, the dense work and the engine must outlive the result. Null: no memory.
API Stack* infergc_stack(Dense* dense, Engine* engine, const StackShape* shape, const Layer* layers) {
  try {
    return new Stack(dense, engine, *shape, layers);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

API void infergc_stack_free(Stack* stack) { delete stack; }

// Takes the rows of `hidden` through all layers, in place, and their norm to `out`; one plan a layer group.
API int infergc_stack_run(Stack* stack, Plan* const* plans, void* hidden, int rows, const void* cos, const void* sin,
                          const void* norm, void* out) {
  Between b;
  if (!lay_out(*stack, rows, b)) return kNoMemory;
  const StackShape& s = stack->shape;
  const void* delta = nullptr;
  for (const Layer& layer : stack->layers) {
    infergc_add_norm(stack->dense, hidden, delta, layer.attention_norm, s.eps, rows, s.hidden, b.normed);
    if (int code = attention(*stack, layer, plans[layer.group], rows, cos, sin, b)) return code;
    infergc_add_norm(stack->dense, hidden, b.delta, layer.mlp_norm, s.eps, rows, s.hidden, b.normed);
    if (int code = mlp(*stack, layer, rows, b)) return code;
    delta = b.delta;
  }
  infergc_add_norm(stack->dense, hidden, delta, norm, s.eps, rows, s.hidden, out);
  return kOk;
}
