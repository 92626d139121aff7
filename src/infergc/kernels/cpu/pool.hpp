// A small persistent thread pool, whose caller works as well and waits for nobody who has not begun.
//
// On a machine that is busy with other things a step is so not held up by a thread that the system has put aside, as
// it would be at the barriers of OpenMP.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace infergc {

class Pool {
 public:
  using Job = std::function<void(int worker, int task)>;

  explicit Pool(int threads) {
    try {
      for (int worker = 1; worker < threads; worker++) workers_.emplace_back([this, worker] { serve(worker); });
    } catch (...) {  // no more threads to be had
      stop();
      throw;
    }
  }

  ~Pool() { stop(); }

  int threads() const { return int(workers_.size()) + 1; }

  // Calls job(worker, task) once for each task in [0, tasks), and returns when all are done; alone the caller
  // does not wake anybody. The caller is worker 0. A worker that wakes only after the last task was taken does
  // not take part. Jobs do not throw.
  void run(int tasks, const Job& job, bool alone = false) {
    if (workers_.empty() || tasks < 2 || alone) {
      for (int task = 0; task < tasks; task++) job(0, task);
      return;
    }
    {
      std::lock_guard lock(mutex_);
      job_ = &job;
      tasks_ = tasks;
      next_.store(0, std::memory_order_relaxed);
      epoch_.fetch_add(1, std::memory_order_release);
    }
    if (asleep_.load(std::memory_order_relaxed) > 0) wake_.notify_all();
    work(0, job, tasks);
    finish();
  }

 private:
  // How often a thread looks before it goes to sleep: some fifty microseconds, about what waking up takes, and
  // longer than most pauses between two jobs of a step.
  static constexpr int kSpins = 4000;

  void stop() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
      epoch_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  void work(int worker, const Job& job, int tasks) {
    for (int task; (task = next_.fetch_add(1, std::memory_order_relaxed)) < tasks;) job(worker, task);
  }

  // Lets nobody join any more and waits for those who have.
  void finish() {
    {
      std::lock_guard lock(mutex_);
      job_ = nullptr;
    }
    for (int i = 0; i < kSpins && active_.load(std::memory_order_acquire) > 0; i++) relax();
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [this] { return active_.load(std::memory_order_relaxed) == 0; });
  }

  // Returns the new epoch, with the lock held.
  unsigned await(std::unique_lock<std::mutex>& lock, unsigned seen) {
    for (int i = 0; i < kSpins && epoch_.load(std::memory_order_acquire) == seen; i++) relax();
    lock.lock();
    asleep_++;
    wake_.wait(lock, [&] { return epoch_.load(std::memory_order_relaxed) != seen; });
    asleep_--;
    return epoch_.load(std::memory_order_relaxed);
  }

  void serve(int worker) {
    unsigned seen = 0;
    for (;;) {
      std::unique_lock lock(mutex_, std::defer_lock);
      seen = await(lock, seen);
      if (stop_) return;
      if (job_ == nullptr) continue;
      active_++;
      const Job& job = *job_;
      const int tasks = tasks_;
      lock.unlock();
      work(worker, job, tasks);
      lock.lock();
      if (active_.fetch_sub(1, std::memory_order_release) == 1) idle_.notify_one();
    }
  }

  static void relax() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
  }

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  // Changed under mutex_. A job stays alive while a worker is active: run() waits for it.
  const Job* job_ = nullptr;
  int tasks_ = 0;
  bool stop_ = false;
  std::atomic<int> active_{0}, asleep_{0}, next_{0};
  std::atomic<unsigned> epoch_{0};
};

}  // namespace infergc
