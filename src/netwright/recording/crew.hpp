// Threads that take the steps of one call together, from barrier to barrier, and the choice between all of them and one.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#define NW_PAUSE() _mm_pause()
#else
#define NW_PAUSE() std::this_thread::yield()
#endif

namespace netwright {

using Clock = std::chrono::steady_clock;

constexpr int64_t TRIED = 32;     // calls at most from one try of the way that is not in use to the next
constexpr double MOMENT = 0.003;  // seconds of a try
constexpr int SPINS = 2000;       // some 30 microseconds of waiting before a core is given to others

inline double since(Clock::time_point begun) { return std::chrono::duration<double>(Clock::now() - begun).count(); }

inline void tell(const std::string& text, char* into, int64_t room) {
  std::strncpy(into, text.c_str(), room - 1);
  into[room - 1] = 0;
}

struct Reader {  // whole numbers one after the other; a real number by its bits
  const int64_t* at;
  int64_t whole() { return *at++; }
  double real() {
    double value;
    std::memcpy(&value, at++, 8);
    return value;
  }
};

class Barrier {
 public:
  explicit Barrier(int count) : count_(count) {}
  void wait() {
    const uint32_t phase = phase_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count_) {
      arrived_.store(0, std::memory_order_relaxed);
      phase_.store(phase + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; phase_.load(std::memory_order_acquire) == phase; ++spins) {
      if (spins < SPINS) NW_PAUSE();
      else std::this_thread::yield();
    }
  }

 private:
  const int count_;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint32_t> phase_{0};
};

class Crew {  // does the same work on every lane at once; the caller is lane 0
 public:
  // begin: what each further thread does once.
  Crew(int lanes, std::function<void(int)> work, std::function<void()> begin = [] {})
      : barrier(lanes), work_(std::move(work)), begin_(std::move(begin)) {
    try {
      for (int lane = 1; lane < lanes; ++lane) workers_.emplace_back([this, lane] { wait_for_work(lane); });
    } catch (...) {  // no more threads can be made
      close();
      throw;
    }
    while (ready_.load() < workers_.size()) std::this_thread::yield();  // kernels run nowhere meanwhile
  }

  ~Crew() { close(); }

  bool alone() const { return workers_.empty(); }

  void run() {
    {
      std::lock_guard<std::mutex> hold(mutex_);
      call_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    work_(0);
    barrier.wait();  // until all have left
  }

  Barrier barrier;

 private:
  void close() {
    {
      std::lock_guard<std::mutex> hold(mutex_);
      closing_ = true;
      call_.fetch_add(1);
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  void wait_for_work(int lane) {
    begin_();
    ready_.fetch_add(1);
    uint64_t seen = 0;
    while (true) {
      for (int spins = 0; call_.load(std::memory_order_acquire) == seen && spins < SPINS; ++spins) NW_PAUSE();
      if (call_.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> hold(mutex_);
        wake_.wait(hold, [&] { return call_.load() != seen; });
      }
      seen = call_.load(std::memory_order_acquire);
      if (closing_) return;
      work_(lane);
      barrier.wait();  // the caller may return
    }
  }

  std::function<void(int)> work_;
  std::function<void()> begin_;
  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> call_{0};
  bool closing_ = false;
  std::atomic<size_t> ready_{0};
};

// Where another program has one of the cores, lanes wait for it at every barrier. Both ways give the same numbers, so the one
// that is faster of late is taken, and the other one tried for a moment now and then.
// Calls of one step are judged apart: waking the other cores takes a good part of them.
class Paces {
 public:
  // Takes steps until they are done, the seconds are over or one stops; returns how many were done.
  // take(alone, steps, seconds) does so one way; free: whether there is a choice, else alone says which.
  template <typename Take, typename Stopped>
  int64_t run(bool free, bool alone, int64_t steps, double seconds, Take take, Stopped stopped) {
    return paces_[steps > 1].run(free, alone, steps, seconds, take, stopped);
  }

 private:
  class Pace {
   public:
    template <typename Take, typename Stopped>
    int64_t run(bool free, bool alone, int64_t steps, double seconds, Take take, Stopped stopped) {
      const auto begun = Clock::now();
      int64_t done = 0;
      alone = alone || (free && each_[1] > 0 && each_[1] < each_[0]);
      if (free && each_[0] > 0 && (each_[1] == 0 || ++calls_ == next_)) {
        done = timed(each_[1] == 0 || !alone, steps, std::min(seconds, MOMENT), take);
        alone = each_[1] > 0 && each_[1] < each_[0];
        if (calls_ == next_) next_ += std::min(next_, TRIED);  // soon at first: what went before may still have a core
      }
      const double left = seconds - since(begun);
      if (done < steps && !stopped() && left > 0) done += timed(alone, steps - done, left, take);
      return done;
    }

   private:
    template <typename Take>
    int64_t timed(bool alone, int64_t steps, double seconds, Take take) {
      const auto begun = Clock::now();
      const int64_t done = take(alone, steps, seconds);
      if (done > 0) {
        const double now = since(begun) / static_cast<double>(done);
        each_[alone] = each_[alone] == 0 || alone != last_ ? now : (each_[alone] + now) / 2;  // what was long ago says nothing
        last_ = alone;
      }
      return done;
    }

    double each_[2] = {0, 0};  // seconds that a step takes: on all lanes, and on one
    bool last_ = false;  // whether the last call took one
    int64_t calls_ = 0, next_ = 1;
  };

  Pace paces_[2];  // of calls of one step, and of more
};

}  // namespace netwright
