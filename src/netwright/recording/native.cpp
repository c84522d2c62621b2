// Replays the recorded calls of a training step: the same kernels in the same order, without Python, autograd and the
// interpreter's lock. netwright/recording/native.py compiles this file, writes the programs and calls nw_*.
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>
#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <c10/core/GradMode.h>

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "crew.hpp"

namespace {

using at::Tensor;
using c10::IValue;
using namespace netwright;

constexpr int64_t PLANES = 20000;  // windows that are worth a second thread

enum Kind : int64_t { CALL = 0, GUARD = 1, BARRIER = 2, INCREMENT = 3, POOL = 4, STANDARDIZE = 5 };

struct Pool {  // max pooling of float32 planes; the sizes of a window, its steps and margins, by rows and columns
  Tensor input, output, indices;
  int64_t size[2], stride[2], margin[2];
};

struct Standardize {  // rows less a mean and divided by a deviation, float32, with 0 for what is missing
  Tensor raw, mean, scale, output;  // mean and scale may be undefined
  int64_t gather = -1;              // the input that the rows are gathered into, which a caller may lend
  int64_t inner = 1;                // neighbouring numbers of a row that share a mean
};

struct Operation {
  Kind kind = CALL;
  std::optional<c10::OperatorHandle> kernel;
  std::vector<IValue> arguments;
  std::vector<std::vector<Tensor>> fresh;  // for each output, the tensors to point at it
  std::vector<Tensor> spent;               // nobody reads them after the call
  std::vector<std::pair<int64_t, int64_t>> turned;  // arguments that each step gives anew, and their columns in its numbers
  std::vector<float*> numbers;             // of an increment
  float by = 0;
  Pool pool;
  Standardize standardize;
  bool gradients = false;  // switched on: some kernels keep more for the way back then
};

struct Gather {  // rows of a source by number, into an input
  Tensor source, input;
  int64_t bytes = 0;
  const char* lent = nullptr;  // rows of a caller, which stand for the source in one call
  bool direct = false;         // lent rows are read where they lie
};

struct Threads {  // so many for each operation while it lives; 0: as many as the caller has
  const int before = at::get_num_threads(), now;
  explicit Threads(int count) : now(count ? count : before) { set(now); }
  ~Threads() { set(before); }
  static void set(int count) {
    if (at::get_num_threads() != count) at::set_num_threads(count);
  }
};

struct Program {
  std::vector<Tensor> tensors;
  std::vector<std::vector<Operation>> lanes;
  std::vector<Gather> gathers;
  std::vector<Tensor> results;  // one number each, all of one type
  int64_t batch = 0;
  c10::Storage nothing;

  std::unique_ptr<Crew> crew;
  Paces paces;

  // Of the call that is running.
  const int64_t* rows = nullptr;
  const double* turns = nullptr;  // the numbers of a step
  int64_t width = 0;              // of a row of them; 0 where one row is for all steps
  int64_t steps = 0;
  char* out = nullptr;
  double seconds = 0;
  std::atomic<int64_t> done{0};
  std::atomic<bool> stop{false}, leave{false};
  bool checked = false;  // whether rows of a caller are
  std::string error;
  std::mutex error_mutex;
  int64_t gathering = 0;  // nanoseconds
};

Tensor held(int64_t address) {
  return Tensor(c10::intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>::reclaim_copy(
      reinterpret_cast<c10::TensorImpl*>(address)));
}

enum Tag : int64_t { NONE, TENSOR, WHOLE, REAL, TRUTH, WHOLES, REALS, TENSORS, SOME_TENSORS, TRUTHS, TEXT, CPU, DEFAULT, NUMBER };

template <typename T, typename Next>
IValue listed(Reader& reader, Next next) {
  c10::List<T> list;
  const int64_t count = reader.whole();
  list.reserve(count);
  for (int64_t i = 0; i < count; ++i) list.push_back(next());
  return list;
}

IValue value_of(Reader& reader, const Program& program, const char** texts, const c10::Argument& argument) {
  const auto tensor = [&] { return program.tensors.at(reader.whole()); };
  switch (reader.whole()) {
    case NONE: return IValue();
    case TENSOR: return tensor();
    case WHOLE: return reader.whole();
    case REAL: return reader.real();
    case TRUTH: return reader.whole() != 0;
    case WHOLES: return listed<int64_t>(reader, [&] { return reader.whole(); });
    case REALS: return listed<double>(reader, [&] { return reader.real(); });
    case TENSORS: return listed<Tensor>(reader, tensor);
    case SOME_TENSORS:
      return listed<std::optional<Tensor>>(reader, [&]() -> std::optional<Tensor> {
        const int64_t number = reader.whole();
        return number < 0 ? std::nullopt : std::optional<Tensor>(program.tensors.at(number));
      });
    case TRUTHS: return listed<bool>(reader, [&] { return reader.whole() != 0; });
    case TEXT: return std::string(texts[reader.whole()]);
    case CPU: return c10::Device(c10::DeviceType::CPU);
    case DEFAULT:
      if (!argument.default_value()) throw std::runtime_error("argument " + argument.name() + " is missing");
      return *argument.default_value();
    case NUMBER: {  // a Python number where a tensor is expected: it takes part in no promotion of dtypes
      Tensor number = tensor();
      number.unsafeGetTensorImpl()->set_wrapped_number(true);
      return number;
    }
  }
  throw std::runtime_error("a value of unknown kind");
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define NW_WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define NW_WIDE
#endif

// The largest number of windows of two by two (or one by two) numbers, and where it stands in the plane: the first of equal
// ones, the last that is no number.
NW_WIDE void pool_pairs(const float* in, float* out, int64_t* at, int64_t rows, int64_t columns, int64_t width, bool tall) {
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t first = row * (tall ? 2 : 1) * width;
    const float* above = in + first;
    const float* below = tall ? above + width : above;
    for (int64_t column = 0; column < columns; ++column) {
      const int64_t place = 2 * column;
      float best = above[place];
      int64_t where = 0;
      const float right = above[place + 1], low = below[place], last = below[place + 1];
      bool better = (right > best) | (right != right);
      best = better ? right : best;
      where = better ? 1 : where;
      if (tall) {
        better = (low > best) | (low != low);
        best = better ? low : best;
        where = better ? width : where;
        better = (last > best) | (last != last);
        best = better ? last : best;
        where = better ? width + 1 : where;
      }
      out[row * columns + column] = best;
      at[row * columns + column] = first + place + where;
    }
  }
}

void pool_plane(const Pool& pool, const float* in, float* out, int64_t* at, int64_t height, int64_t width, int64_t rows, int64_t columns) {
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t top = row * pool.stride[0] - pool.margin[0];
    const int64_t first = std::max<int64_t>(top, 0), end = std::min(top + pool.size[0], height);
    for (int64_t column = 0; column < columns; ++column) {
      const int64_t side = column * pool.stride[1] - pool.margin[1];
      const int64_t left = std::max<int64_t>(side, 0), right = std::min(side + pool.size[1], width);
      float best = -std::numeric_limits<float>::infinity();
      int64_t where = first * width + left;
      for (int64_t y = first; y < end; ++y)
        for (int64_t x = left; x < right; ++x) {
          const float value = in[y * width + x];
          if (value > best || value != value) best = value, where = y * width + x;
        }
      *out++ = best;
      *at++ = where;
    }
  }
}

void run(const Pool& pool) {
  const auto sizes = pool.input.sizes(), given = pool.output.sizes();
  const int64_t height = sizes[sizes.size() - 2], width = sizes.back(), rows = given[given.size() - 2], columns = given.back();
  const int64_t planes = rows * columns ? pool.output.numel() / (rows * columns) : 0;
  const bool tall = pool.size[0] == 2 && pool.stride[0] == 2;
  const bool pairs = pool.size[1] == 2 && pool.stride[1] == 2 && !pool.margin[0] && !pool.margin[1] &&
                     (tall || (pool.size[0] == 1 && pool.stride[0] == 1));
  const auto* in = pool.input.const_data_ptr<float>();
  auto* out = pool.output.mutable_data_ptr<float>();
  auto* at = pool.indices.mutable_data_ptr<int64_t>();
  at::parallel_for(0, planes, 1 + PLANES / (rows * columns + 1), [&](int64_t first, int64_t end) {
    for (int64_t plane = first; plane < end; ++plane) {
      const float* from = in + plane * height * width;
      const int64_t to = plane * rows * columns;
      if (pairs) pool_pairs(from, out + to, at + to, rows, columns, width, tall);
      else pool_plane(pool, from, out + to, at + to, height, width, rows, columns);
    }
  });
}

// Whether a number is infinite or beyond float32.
template <typename T>
inline bool beyond(T value) {
  if constexpr (std::is_floating_point_v<T>) return std::fabs(value) > static_cast<T>(std::numeric_limits<float>::max());
  else return false;
}

// Like torch.nan_to_num(value, nan=0).
inline float filled(float value) {
  const float most = std::numeric_limits<float>::max();
  const float within = value > most ? most : value < -most ? -most : value;
  return value == value ? within : 0.0f;
}

// Some numbers that have a mean each, or one for all where each is 0, in the arithmetic of A; tells whether one is not to be read.
template <typename A, typename T>
[[gnu::always_inline]] inline bool standardized(const T* from, float* to, int64_t count, const A* mean, const A* scale, int64_t each) {
  int found = 0;
  if (mean == nullptr) {
    for (int64_t i = 0; i < count; ++i) found |= beyond(from[i]), to[i] = filled(static_cast<float>(from[i]));
  } else if (each) {
    for (int64_t i = 0; i < count; ++i)
      found |= beyond(from[i]), to[i] = filled(static_cast<float>((static_cast<A>(from[i]) - mean[i]) / scale[i]));
  } else {
    const A less = *mean, by = *scale;
    for (int64_t i = 0; i < count; ++i)
      found |= beyond(from[i]), to[i] = filled(static_cast<float>((static_cast<A>(from[i]) - less) / by));
  }
  return found != 0;
}

// Float64 numbers in the arithmetic of A; none of no tensor.
template <typename A>
std::vector<A> numbers_as(const Tensor& kept) {
  if (!kept.defined()) return {};
  const auto* from = kept.const_data_ptr<double>();
  return {from, from + kept.numel()};
}

template <typename A, typename T>
[[gnu::always_inline]] inline bool standardize(const Standardize& what, const T* from) {
  const std::vector<A> means = numbers_as<A>(what.mean), scales = numbers_as<A>(what.scale);
  auto* to = what.output.mutable_data_ptr<float>();
  const int64_t groups = static_cast<int64_t>(means.size()), numbers = what.output.numel();
  const A *mean = means.data(), *scale = scales.data();
  if (groups == 0) return standardized<A>(from, to, numbers, static_cast<const A*>(nullptr), static_cast<const A*>(nullptr), 0);
  bool found = false;
  if (what.inner == 1) {
    for (int64_t at = 0; at < numbers; at += groups) found |= standardized(from + at, to + at, groups, mean, scale, 1);
    return found;
  }
  for (int64_t at = 0, group = 0; at < numbers; at += what.inner, group = group + 1 == groups ? 0 : group + 1)
    found |= standardized(from + at, to + at, what.inner, mean + group, scale + group, 0);
  return found;
}

NW_WIDE bool standardize(const Standardize& what, const char* from) {
  switch (what.raw.scalar_type()) {
    case at::kByte: return standardize<float>(what, reinterpret_cast<const uint8_t*>(from));
    case at::kInt: return standardize<double>(what, reinterpret_cast<const int32_t*>(from));
    case at::kLong: return standardize<double>(what, reinterpret_cast<const int64_t*>(from));
    case at::kDouble: return standardize<double>(what, reinterpret_cast<const double*>(from));
    default: return standardize<float>(what, reinterpret_cast<const float*>(from));
  }
}

// Reads rows where a caller lent them, or else where they were gathered.
void run(Program& program, const Standardize& what) {
  const auto* from = static_cast<const char*>(what.raw.const_data_ptr());
  const Gather* gathered = what.gather < 0 ? nullptr : &program.gathers[what.gather];
  const bool lent = gathered != nullptr && gathered->lent != nullptr && gathered->direct;
  if (lent) from = gathered->lent + (from - static_cast<const char*>(gathered->input.const_data_ptr()));
  if (standardize(what, from) && lent && program.checked) program.stop.store(true);
}

Operation operation_of(Reader& reader, const Program& program, const char** texts) {
  Operation made;
  made.kind = static_cast<Kind>(reader.whole());
  if (made.kind == BARRIER) return made;
  if (made.kind == GUARD) {
    made.arguments.push_back(program.tensors.at(reader.whole()));
    return made;
  }
  if (made.kind == INCREMENT) {
    made.by = static_cast<float>(reader.real());
    for (int64_t left = reader.whole(); left > 0; --left)
      made.numbers.push_back(program.tensors.at(reader.whole()).data_ptr<float>());
    return made;
  }
  if (made.kind == POOL) {
    made.pool.input = program.tensors.at(reader.whole());
    made.pool.output = program.tensors.at(reader.whole());
    made.pool.indices = program.tensors.at(reader.whole());
    for (auto* pair : {made.pool.size, made.pool.stride, made.pool.margin})
      for (int axis = 0; axis < 2; ++axis) pair[axis] = reader.whole();
    for (int64_t left = reader.whole(); left > 0; --left) made.spent.push_back(program.tensors.at(reader.whole()));
    return made;
  }
  if (made.kind == STANDARDIZE) {
    auto& what = made.standardize;
    const auto maybe = [&](int64_t number) { return number < 0 ? Tensor() : program.tensors.at(number); };
    what.gather = reader.whole();
    for (auto* tensor : {&what.raw, &what.output, &what.mean, &what.scale}) *tensor = maybe(reader.whole());
    what.inner = reader.whole();
    return made;
  }
  made.gradients = reader.whole() != 0;
  const char* name = texts[reader.whole()];
  const char* overload = texts[reader.whole()];
  made.kernel = c10::Dispatcher::singleton().findSchemaOrThrow(name, overload);
  const auto& schema = made.kernel->schema().arguments();
  for (size_t place = 0, count = reader.whole(); place < count; ++place)
    made.arguments.push_back(value_of(reader, program, texts, schema.at(place)));
  for (int64_t left = reader.whole(); left > 0; --left) {
    const int64_t place = reader.whole();
    made.turned.emplace_back(place, reader.whole());
  }
  made.fresh.resize(reader.whole());
  for (auto& aliases : made.fresh)
    for (int64_t left = reader.whole(); left > 0; --left) aliases.push_back(program.tensors.at(reader.whole()));
  for (int64_t left = reader.whole(); left > 0; --left) made.spent.push_back(program.tensors.at(reader.whole()));
  return made;
}

void call(Operation& operation, torch::jit::Stack& stack, const c10::Storage& nothing) {
  stack.clear();
  for (const auto& argument : operation.arguments) stack.push_back(argument);
  c10::GradMode::set_enabled(operation.gradients);
  operation.kernel->callBoxed(&stack);
  for (size_t place = 0; place < operation.fresh.size(); ++place) {
    if (operation.fresh[place].empty()) continue;
    const auto& storage = stack[place].toTensor().storage();
    for (auto& alias : operation.fresh[place]) alias.unsafeGetTensorImpl()->set_storage_keep_dtype(storage);
  }
  for (auto& tensor : operation.spent) tensor.unsafeGetTensorImpl()->set_storage_keep_dtype(nothing);
}

// Copies numbers, and tells whether none is infinite or beyond float32; NaN marks what is missing.
template <typename T>
bool copied(T* to, const T* from, int64_t count) {
  int found = 0;
  for (int64_t i = 0; i < count; ++i) found |= beyond(from[i]), to[i] = from[i];
  return found == 0;
}

// Fills some rows of an input from those of a caller; false where numbers are checked and one is not to be read.
bool lend(const Gather& each, int64_t first, int64_t end, bool checked) {
  auto* to = static_cast<char*>(each.input.data_ptr()) + first * each.bytes;
  const char* from = each.lent + first * each.bytes;
  const int64_t bytes = (end - first) * each.bytes;
  const auto type = each.input.scalar_type();
  if (checked && type == at::kFloat) return copied(reinterpret_cast<float*>(to), reinterpret_cast<const float*>(from), bytes / 4);
  if (checked && type == at::kDouble) return copied(reinterpret_cast<double*>(to), reinterpret_cast<const double*>(from), bytes / 8);
  std::memcpy(to, from, bytes);
  return true;
}

void gather(Program& program, int64_t step, int lane) {
  const int64_t count = static_cast<int64_t>(program.lanes.size());
  const int64_t first = program.batch * lane / count, end = program.batch * (lane + 1) / count;
  const int64_t* rows = program.rows + step * program.batch;
  for (auto& each : program.gathers) {
    auto* to = static_cast<char*>(each.input.data_ptr());
    if (each.lent != nullptr) {
      if (!each.direct && !lend(each, first, end, program.checked)) program.stop.store(true);
      continue;
    }
    const auto* from = static_cast<const char*>(each.source.data_ptr());
    for (int64_t row = first; row < end; ++row)
      std::memcpy(to + row * each.bytes, from + rows[row] * each.bytes, each.bytes);
  }
}

bool is_finite(const Tensor& number) {
  if (number.scalar_type() == at::kDouble) return std::isfinite(*number.data_ptr<double>());
  return std::isfinite(*number.data_ptr<float>());
}

void fail(Program& program, const char* text) {
  std::lock_guard<std::mutex> hold(program.error_mutex);
  if (program.error.empty()) program.error = text;
  program.stop.store(true);
}

void play(Program& program, Operation& operation, int64_t step, torch::jit::Stack& stack) {
  if (program.stop.load(std::memory_order_relaxed)) return;
  try {
    if (operation.kind == GUARD) {
      if (!is_finite(operation.arguments[0].toTensor())) program.stop.store(true);
    } else if (operation.kind == INCREMENT) {
      for (float* number : operation.numbers) *number += operation.by;
    } else if (operation.kind == STANDARDIZE) {
      run(program, operation.standardize);
    } else if (operation.kind == POOL) {
      run(operation.pool);
      for (auto& tensor : operation.spent) tensor.unsafeGetTensorImpl()->set_storage_keep_dtype(program.nothing);
    } else {
      for (const auto& [place, column] : operation.turned)
        operation.arguments[place] = program.turns[step * program.width + column];
      call(operation, stack, program.nothing);
    }
  } catch (const std::exception& error) {
    fail(program, error.what());
  }
}

// Keeps the results of a step that is done, and looks at the clock.
void end_step(Program& program, int64_t step, Clock::time_point begun) {
  if (program.stop.load()) return;
  for (size_t place = 0; place < program.results.size(); ++place) {
    const auto& result = program.results[place];
    const auto size = static_cast<int64_t>(result.element_size());
    std::memcpy(program.out + (step * program.results.size() + place) * size, result.data_ptr(), size);
  }
  program.done.store(step + 1);
  if (since(begun) > program.seconds) program.leave.store(true);
}

// Runs the steps of one call on one lane. Every lane passes the same barriers, whatever happens.
void run_lane(Program& program, int lane) {
  at::AutoDispatchBelowADInplaceOrView below;
  c10::AutoGradMode no_gradients(false);
  torch::jit::Stack stack;
  const bool first = lane == 0;
  const auto begun = Clock::now();
  for (int64_t step = 0; step < program.steps; ++step) {
    if (!program.gathers.empty()) {
      const auto before = first ? Clock::now() : begun;
      gather(program, step, lane);
      if (first) program.gathering += std::chrono::nanoseconds(Clock::now() - before).count();
      program.crew->barrier.wait();
    }
    for (auto& operation : program.lanes[lane]) {
      if (operation.kind == BARRIER) program.crew->barrier.wait();
      else play(program, operation, step, stack);
    }
    if (first) end_step(program, step, begun);
    program.crew->barrier.wait();  // the next step writes what this one reads, and all lanes know whether there is one
    if (program.stop.load() || program.leave.load()) return;
  }
}

// Runs the steps of one call on this thread: from barrier to barrier one lane after the other, which wait for nothing of each other.
void run_alone(Program& program) {
  at::AutoDispatchBelowADInplaceOrView below;
  c10::AutoGradMode no_gradients(false);
  torch::jit::Stack stack;
  const auto begun = Clock::now();
  for (int64_t step = 0; step < program.steps && !program.stop.load() && !program.leave.load(); ++step) {
    const auto before = Clock::now();
    for (size_t lane = 0; lane < program.lanes.size(); ++lane) gather(program, step, static_cast<int>(lane));
    program.gathering += std::chrono::nanoseconds(Clock::now() - before).count();
    std::vector<size_t> at(program.lanes.size(), 0);
    for (bool more = true; more;) {
      more = false;
      for (size_t lane = 0; lane < program.lanes.size(); ++lane) {
        auto& operations = program.lanes[lane];
        for (; at[lane] < operations.size() && operations[at[lane]].kind != BARRIER; ++at[lane])
          play(program, operations[at[lane]], step, stack);
        if (at[lane] < operations.size()) ++at[lane], more = true;
      }
    }
    end_step(program, step, begun);
  }
}

// Takes steps on all cores or on one; returns how many were done.
int64_t take(Program& program, bool alone, int64_t steps, double seconds) {
  program.steps = steps;
  program.seconds = seconds;
  program.done.store(0);
  program.leave.store(false);
  if (alone) run_alone(program);
  else program.crew->run();
  const int64_t done = program.done.load();
  if (program.rows != nullptr) program.rows += done * program.batch;
  if (program.turns != nullptr) program.turns += done * program.width;
  program.out += done * static_cast<int64_t>(program.results.size()) * (program.results.empty() ? 0 : program.results[0].element_size());
  return done;
}

}  // namespace

extern "C" {

// Makes a program from its code; null and a text where that fails. The tensors are held until it is closed.
void* nw_make(const int64_t* code, const int64_t* tensors, int64_t count, const char** texts, char* error, int64_t room) {
  auto program = std::make_unique<Program>();
  try {
    for (int64_t i = 0; i < count; ++i) program->tensors.push_back(held(tensors[i]));
    Reader reader{code};
    program->nothing = program->tensors.at(reader.whole()).storage();
    program->batch = reader.whole();
    for (int64_t left = reader.whole(); left > 0; --left) program->results.push_back(program->tensors.at(reader.whole()));
    for (int64_t left = reader.whole(); left > 0; --left) {
      Gather each{program->tensors.at(reader.whole()), program->tensors.at(reader.whole())};
      each.direct = reader.whole() != 0;
      each.bytes = each.input.numel() / program->batch * each.input.element_size();
      program->gathers.push_back(each);
    }
    program->lanes.resize(reader.whole());
    for (auto& lane : program->lanes)
      for (int64_t left = reader.whole(); left > 0; --left) lane.push_back(operation_of(reader, *program, texts));
    auto& made = *program;
    const auto begin = [] { at::set_num_threads(1); };  // of this thread; the caller has set one for the process
    made.crew = std::make_unique<Crew>(static_cast<int>(made.lanes.size()), [&made](int lane) { run_lane(made, lane); }, begin);
    return program.release();
  } catch (const std::exception& problem) {
    tell(problem.what(), error, room);
    return nullptr;
  }
}

// Runs steps until they are done, the seconds are over, or one stops; returns how many were done, -1 less that many where a
// guard stopped the next. The text is of a kernel that failed in it.
// rows: numbers of the gathered rows, steps x batch; turns: numbers that arguments get, steps x width, or one row (width 0); out: the results, steps x results; spent: seconds of gathering.
int64_t nw_run(void* handle, const int64_t* rows, const double* turns, int64_t width, int64_t steps, double seconds, void* out, double* spent, char* error, int64_t room) {
  auto& program = *static_cast<Program*>(handle);
  program.rows = rows;
  program.turns = turns;
  program.width = width;
  program.out = static_cast<char*>(out);
  program.stop.store(false);
  program.error.clear();
  program.gathering = 0;
  const bool alone = program.crew->alone(), free = !alone && at::get_num_threads() == 1;
  const int64_t done = program.paces.run(
      free, alone, steps, seconds, [&](bool one, int64_t some, double time) { return take(program, one, some, time); },
      [&] { return program.stop.load(); });
  *spent = static_cast<double>(program.gathering) * 1e-9;
  if (!program.error.empty()) {
    tell(program.error, error, room);
    return done;
  }
  return program.stop.load() ? -1 - done : done;
}

// Takes one step on rows of a caller, which lie in order, an address for each gathered input, and which are checked for numbers
// that are infinite or beyond float32, with so many threads for each operation, 0 for the caller's; returns 1 if all is well, else
// tells as nw_run does.
int64_t nw_answer(void* handle, const int64_t* lent, int64_t checked, int64_t threads, char* error, int64_t room) {
  auto& program = *static_cast<Program*>(handle);
  const Threads some(static_cast<int>(threads));
  program.checked = checked != 0;
  for (auto& each : program.gathers) each.lent = reinterpret_cast<const char*>(*lent++);
  double spent = 0;
  const int64_t done = nw_run(handle, nullptr, nullptr, 0, 1, std::numeric_limits<double>::infinity(), nullptr, &spent, error, room);
  for (auto& each : program.gathers) each.lent = nullptr;
  return program.error.empty() ? done : -1;  // a lane may fail when the first has ended the step
}

void nw_close(void* handle) { delete static_cast<Program*>(handle); }

}  // extern "C"
