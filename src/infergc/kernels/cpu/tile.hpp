// Where a task works: its rows, its blocks of keys, and the memory behind them.
//
// Included inside the anonymous namespace of attention.cpp, after vec.hpp.

INLINE int least(int a, int b) { return a < b ? a : b; }
INLINE int most(int a, int b) { return a > b ? a : b; }
INLINE int round_down(int x, int to) { return x / to * to; }

// Where a sequence's pages lie: walks the extents forward.
struct Cursor {
  const Row& row;
  int extent = 0;
  int begin;  // logical page at which the extent begins

  explicit Cursor(const Row& r) : row(r), begin(r.skipped) {}

  int64_t page(int logical) {
    while (logical >= begin + row.pages[extent]) begin += row.pages[extent++];
    return row.first[extent] + (logical - begin);
  }
};

// What a task's steps share.
struct Tile {
  const Call& call;
  const Task& task;
  const Scratch& scratch;
  const Row& row;
  int rows;   // query rows: positions × group
  int group, dims, state;

  Tile(const Call& c, const Task& t, const Scratch& s)
      : call(c), task(t), scratch(s), row(c.rows[t.row]), rows((t.end - t.begin) * c.shape.group()),
        group(c.shape.group()), dims(c.shape.head_dim), state(c.shape.state()) {}

  int position(int r) const { return task.begin + r / group; }
  int first_key(int position) const { return call.window ? most(0, position - call.window + 1) : 0; }
  int64_t query(int r, int64_t stride) const {  // element offset of row r in q or out
    return (row.token + position(r) - row.start) * stride + (task.kv_head * group + r % group) * dims;
  }
};

// Keys [low, high) of the block at `base` are read: some row of the tile sees them. All others are masked.
struct Block {
  int base, low, high;
  int64_t* offset;  // [kBlock] element offset of each key's row in k and v
};

constexpr int kLine = 64;  // bytes that one prefetch brings

// Asks for rows [from, to) of a block. Rows of a KV head are scattered, page by page, and read column by column:
// left alone, the hardware does not see them coming.
template <class T>
INLINE void prefetch(const Tile& t, const void* pages, const Block& b, int from, int to) {
  const auto* base = static_cast<const typename T::Elem*>(pages);
  for (int j = most(from, b.low); j < least(to, b.high); j++) {
    const char* row = reinterpret_cast<const char*>(base + b.offset[j]);
    for (int at = 0; at < t.dims * int(sizeof(*base)); at += kLine) __builtin_prefetch(row + at);
  }
}

// Offsets of the block's rows in k and v; rows outside [low, high) repeat the nearest one inside.
void locate(const Tile& t, Cursor& cursor, const Block& b) {
  const Shape& s = t.call.shape;
  int64_t* offset = b.offset;
  for (int j = b.low; j < b.high;) {
    int position = b.base + j, page = position / s.page_tokens, within = position % s.page_tokens;
    int end = least(b.high, j + s.page_tokens - within);
    int64_t at = ((cursor.page(page) * s.kv_heads + t.task.kv_head) * s.page_tokens + within) * t.dims;
    for (; j < end; j++, at += t.dims) offset[j] = at;
  }
  for (int j = 0; j < b.low; j++) offset[j] = offset[b.low];
  for (int j = b.high; j < kBlock; j++) offset[j] = offset[b.high - 1];
}

// Walks the blocks of a task, one ahead.
struct Walk {
  const Tile& t;
  Cursor cursor;
  const int first_key, end;
  Block now, ahead;

  explicit Walk(const Tile& tile)
      : t(tile), cursor(tile.row), first_key(tile.first_key(tile.task.begin)),
        end(least(tile.task.end, tile.task.split_end * kSplit)) {
    ahead = block(most(t.task.split * kSplit, round_down(first_key, kBlock)), t.scratch.offset);
    step();
  }

  void step() {
    now = ahead;
    ahead = block(now.base + kBlock, t.scratch.offset + (now.offset == t.scratch.offset ? kBlock : 0));
  }

  Block block(int base, int64_t* offset) {
    Block b{base, most(0, first_key - base), least(kBlock, t.task.end - base), offset};
    if (base >= end) b.low = b.high = 0;
    else locate(t, cursor, b);
    return b;
  }
};
