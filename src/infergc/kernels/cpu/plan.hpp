// What the layers of a group share in one step: where each token goes, and the tasks of its attention.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>

#include "kernels.hpp"

namespace infergc {

// The tasks of a step under one window.
struct Schedule {
  std::vector<Task> tasks;  // dearest first
  std::vector<Merge> merges;
  std::unique_ptr<std::atomic<int>[]> unfinished;  // pieces left of each merge
  int64_t states = 0;                              // floats that cut tasks need
  int64_t cost = 0;                                // multiply-adds, about
};

struct Plan {
  Shape shape;
  int extents;
  std::vector<int32_t> first, pages;  // [rows][extents]
  std::vector<Row> rows;
  std::vector<int64_t> slots;  // [T] page × P + offset in the page
  int max_page = -1;
  int window = -1;  // of `schedule`; -1 before the first
  Schedule schedule;
};

// Fills in what a Plan holds besides its tables. Returns -1, or the first row whose table does not hold the
// positions it computes.
inline int place_tokens(Plan& plan) {
  const int size = plan.shape.page_tokens;
  for (size_t r = 0; r < plan.rows.size(); r++) {
    const Row& row = plan.rows[r];
    int logical = row.skipped, position = row.start;
    const int end = row.start + row.count;
    for (int e = 0; e < row.extents; e++) {
      if (row.pages[e] < 0 || (row.pages[e] > 0 && row.first[e] < 0)) return int(r);
      if (row.pages[e] > 0) plan.max_page = std::max(plan.max_page, row.first[e] + row.pages[e] - 1);
      const int held = (logical + row.pages[e]) * size;
      for (; position >= logical * size && position < std::min(end, held); position++)
        plan.slots.push_back((row.first[e] - logical) * int64_t(size) + position);
      logical += row.pages[e];
    }
    if (position < end) return int(r);
  }
  return -1;
}

// Cuts one task along KV into pieces of about `target` cost.
inline void cut(Schedule& s, const Shape& shape, const Task& task, int64_t target) {
  const int splits = task.split_end - task.split;
  const int pieces = int(std::min<int64_t>(splits, (task.cost + target - 1) / target));
  Merge merge{task, 0, s.states};
  for (int i = 0; i < pieces; i++) {
    Task piece = task;
    piece.split = task.split + int(int64_t(splits) * i / pieces);
    piece.split_end = task.split + int(int64_t(splits) * (i + 1) / pieces);
    piece.cost = task.cost / pieces;
    piece.merge = int(s.merges.size());
    s.tasks.push_back(piece);
    merge.pieces++;
  }
  s.states += int64_t(splits) * shape.tile_rows() * shape.state();
  s.merges.push_back(merge);
}

// One task for each row, KV head and tile of positions, before any is cut.
inline std::vector<Task> whole_tasks(const Plan& plan, int window) {
  const Shape& s = plan.shape;
  const int positions = s.tile_rows() / s.group();
  std::vector<Task> tasks;
  for (size_t r = 0; r < plan.rows.size(); r++) {
    const int stop = plan.rows[r].start + plan.rows[r].count;
    for (int begin = plan.rows[r].start; begin < stop; begin += positions) {
      const int end = std::min(stop, begin + positions);
      const int low = window ? std::max(0, begin - window + 1) : 0;
      const int64_t reading = 6;  // moving a key and its value costs about as much as six query rows
      const int64_t cost = (end - low) * ((end - begin) * s.group() + reading) * 2 * s.head_dim;
      for (int head = 0; head < s.kv_heads; head++)
        tasks.push_back({int(r), head, begin, end, low / kSplit, (end + kSplit - 1) / kSplit, -1, cost});
    }
  }
  return tasks;
}

inline Schedule make_schedule(const Plan& plan, int window, int threads) {
  Schedule s;
  std::vector<Task> whole = whole_tasks(plan, window);
  for (const Task& task : whole) s.cost += task.cost;
  const int64_t target = std::max<int64_t>(1, s.cost / (int64_t(threads) * 4));
  for (const Task& task : whole) {
    if (threads > 1 && task.cost > target && task.split_end - task.split > 1)
      cut(s, plan.shape, task, target);
    else
      s.tasks.push_back(task);
  }
  std::stable_sort(s.tasks.begin(), s.tasks.end(), [](const Task& a, const Task& b) { return a.cost > b.cost; });
  s.unfinished = std::make_unique<std::atomic<int>[]>(s.merges.size());
  for (size_t i = 0; i < s.merges.size(); i++) s.unfinished[i] = s.merges[i].pieces;
  return s;
}

// Whether every row still holds the pages that its first position sees under the window.
inline bool sees_held_pages(const Plan& plan, int window) {
  for (const Row& row : plan.rows) {
    const int low = window ? std::max(0, row.start - window + 1) : 0;
    if (low < row.skipped * plan.shape.page_tokens) return false;
  }
  return true;
}

}  // namespace infergc
