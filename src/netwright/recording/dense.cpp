// Takes training steps of a network of dense layers, also behind convolutions or recurrent ones, on the CPU: other last bits than torch's,
// the same on any number of cores. netwright/recording/dense_cpu.py compiles this file, writes the programs and calls nd_*.
//
// Weights and what the optimizer keeps of them lie in panels for the time of a call: PANEL outputs side by side, input after
// input. On its way forward and back each lane has rows of its own; then it has weights of its own, whose gradient it adds up
// over all rows, and changes at once. Every sum has one order, so lanes change no bit, nor does the width of vectors with the
// same compiler on processors that multiply and add at once.
#include <cmath>
#include <limits>
#include <memory>

#include "convolutions.hpp"
#include "recurrent.hpp"

namespace {

using namespace netwright;

// ---- forward and back, for the rows of one lane

void gather(const Network& net, int64_t step, int64_t first, int64_t end) {
  const int64_t* rows = net.rows + step * net.batch;
  const Layer& layer = net.layers[0];
  for (int64_t row = first; row < end; ++row) {
    const float* from = net.x + rows[row] * net.size * net.times;
    if (!net.convolutions.empty()) {
      frame(net.convolutions[0], from, row);
      continue;
    }
    if (!layer.hidden) {
      std::memcpy(net.input.at(row * net.input_stride), from, net.size * sizeof(float));
      continue;
    }
    const Grid joined = net.inputs_of(0);
    for (int64_t time = 0; time < net.times; ++time)
      std::memcpy(joined.row(time * net.batch + row), from + time * net.size, net.size * sizeof(float));
  }
}

void normalise_rows(Network& net, Layer& layer, int lane, int64_t first, int64_t rows, const Meeting& wait) {
  const Grid raw{layer.norm.raw.at(), layer.stride}, out = layer.values();
  if (layer.norm.by_row) return normalise_each(layer.norm, layer, first, rows, raw, out);
  net.each_part(first, first + rows, [&](int64_t part, int64_t start, int64_t end) {
    collect(layer.norm, part, 0, {raw.row(start), raw.stride}, end - start);
  });
  wait();
  settle(layer.norm, layer, lane, net.parts(), [&](int64_t part) { return net.rows_in(part); });
  normalise(layer.norm, lane, {raw.row(first), raw.stride}, rows, {out.row(first), out.stride});
}

// Writes gradients of what was normalised over those of what came out.
void normalise_rows_back(Network& net, Layer& layer, int lane, int64_t first, int64_t rows, const Meeting& wait) {
  const Grid raw{layer.norm.raw.at(), layer.stride}, change{layer.change.at(), layer.stride};
  if (layer.norm.by_row)
    return net.each_part(first, first + rows, [&](int64_t part, int64_t start, int64_t end) {
      normalise_each_back(layer.norm, layer, part, start, end, raw, change);
    });
  net.each_part(first, first + rows, [&](int64_t part, int64_t start, int64_t end) {
    collect_back(layer.norm, lane, part, true, {raw.row(start), raw.stride}, {change.row(start), change.stride}, end - start);
  });
  wait();
  settle_back(layer.norm, layer, lane, net.parts(), net.batch);
  normalise_back(layer.norm, lane, {raw.row(first), raw.stride}, rows, {change.row(first), change.stride});
}

void linear_forward(Network& net, size_t number, int lane, int64_t first, int64_t rows, const Meeting& wait) {
  Layer& layer = net.layers[number];
  const Grid from = net.inputs_of(number), out{layer.values().row(first), layer.stride};
  const Grid sums{layer.norm.there ? layer.norm.raw.at(first * layer.stride) : out.first, layer.stride};
  start_with(layer.bias, sums, rows);
  multiply({from.row(first), from.stride}, rows, layer.panels[0].at(), layer.inputs, layer.width, sums);
  if (layer.norm.there) normalise_rows(net, layer, lane, first, rows, wait);
  if (number + 1 < net.layers.size())
    activate(layer.activation, layer.leak, out.first, layer.slope.at(first * layer.stride), rows * layer.stride);
}

// Drops some outputs of a layer. `kept`: one for each output of a row.
void drop(const Layer& layer, const uint8_t* kept, int64_t first, int64_t rows) {
  if (layer.grown == 0.0f) return;
  for (int64_t row = first; row < first + rows; ++row) {
    const uint8_t* here = kept + row * layer.sent();
    float *value = layer.values().row(row), *slope = layer.slope.at(row * layer.sent_apart());
    for (int64_t i = 0; i < layer.sent(); ++i) {
      const float factor = here[i] ? layer.grown : 0.0f;
      value[i] *= factor;
      slope[i] *= factor;
    }
  }
}

float loss_of_classes(const Network& net, const float* output, float* change, int64_t outputs, int64_t target, float share) {
  float most = output[0], sum = 0, all = 0;
  for (int64_t i = 1; i < outputs; ++i) most = output[i] > most || output[i] != output[i] ? output[i] : most;
  for (int64_t i = 0; i < outputs; ++i) change[i] = exponential(output[i] - most);
  for (int64_t i = 0; i < outputs; ++i) sum += change[i];
  const float log = std::log(sum), each = net.smoothing / static_cast<float>(outputs);
  for (int64_t i = 0; i < outputs; ++i) {
    all += (most - output[i]) + log;  // most first: else a small loss would be rounded as an output is
    change[i] = share * (change[i] / sum - each - (i == target ? 1.0f - net.smoothing : 0.0f));
  }
  const float own = (most - output[target]) + log;
  return share * (each == 0.0f ? own : (1.0f - net.smoothing) * own + each * all);  // all may be infinite
}

float loss_of_numbers(const Network& net, const float* output, float* change, int64_t outputs, const float* target, float share) {
  float sum = 0;
  for (int64_t i = 0; i < outputs; ++i) {
    const float x = output[i], y = target[i];
    if (net.head == SQUARES) {
      sum += (x - y) * (x - y);
      change[i] = share * 2.0f * (x - y);
    } else {
      sum += std::max(x, 0.0f) - x * y + std::log1p(exponential(-std::fabs(x)));
      change[i] = share * (logistic(x) - y);
    }
  }
  return share * sum;
}

// Writes what each row adds to the mean loss, and the gradient of the outputs.
void end_rows(const Network& net, int64_t step, int64_t first, int64_t end) {
  const Layer& last = net.layers.back();
  const int64_t* rows = net.rows + step * net.batch;
  const auto* classes = static_cast<const int64_t*>(net.target);
  const auto* numbers = static_cast<const float*>(net.target);
  float whole = static_cast<float>(net.head == CLASSES ? net.batch : net.batch * last.outputs);
  if (net.head == CLASSES && net.class_weight != nullptr) {
    whole = 0;
    for (int64_t row = 0; row < net.batch; ++row) whole += net.class_weight[classes[rows[row]]];
  }
  for (int64_t row = first; row < end; ++row) {
    const float* output = last.value.at(row * last.stride);
    float* change = last.change.at(row * last.stride);
    if (net.head == CLASSES) {
      const int64_t target = classes[rows[row]];
      const float counts = net.class_weight == nullptr ? 1.0f : net.class_weight[target];
      net.losses.at()[row] = loss_of_classes(net, output, change, last.outputs, target, counts / whole);
    } else {
      const float* target = numbers + rows[row] * last.outputs;
      net.losses.at()[row] = loss_of_numbers(net, output, change, last.outputs, target, 1.0f / whole);
    }
  }
}

// Writes the gradient of what a layer gets.
void inputs_backward(const Network& net, size_t number, int64_t first, int64_t rows, Grid into) {
  const Layer& layer = net.layers[number];
  const Grid from = net.changes_of(number);
  std::memset(into.first, 0, rows * into.stride * sizeof(float));
  multiply({from.row(first), from.stride}, rows, layer.back.at(), layer.outputs, padded(layer.inputs, PANEL), into);
}

void linear_backward(Network& net, size_t number, int64_t first, int64_t rows) {
  const Layer& before = net.layers[number - 1];
  const int64_t stride = before.sent_apart();
  const Grid change{before.change.at(first * stride), stride};
  inputs_backward(net, number, first, rows, change);
  if (before.hidden && before.grown == 0.0f) return;
  const float* __restrict slope = before.slope.at(first * stride);
  float* __restrict to = change.first;
  for (int64_t i = 0; i < rows * stride; ++i) to[i] *= slope[i];
}

// Takes the rows of a lane forward and back; `wait` is called where all must have come.
void pass_rows(Network& net, int64_t step, int lane, int lanes, const Meeting& wait) {
  const int64_t first = net.first_row(lane, lanes), end = net.first_row(lane + 1, lanes), rows = end - first;
  const auto begun = Clock::now();
  if (!lane) set_rules(net, step);
  gather(net, step, first, end);
  if (!lane) net.gathering += std::chrono::nanoseconds(Clock::now() - begun).count();
  if (!rows && !net.normalises) return;
  if (!net.convolutions.empty()) convolve(net, lane, first, end, step, wait);
  for (size_t number = 0; number < net.layers.size(); ++number) {
    const uint8_t* const kept = net.kept_of(step, net.layers[number]);
    if (net.recurs(number)) recurrent_forward(net, number, kept, first, rows);
    else linear_forward(net, number, lane, first, rows, wait);
    if (!net.recurs(number + 1)) drop(net.layers[number], kept, first, rows);
  }
  end_rows(net, step, first, end);
  size_t number = net.layers.size() - 1;
  for (; number > 0 && !net.recurs(number); --number) {
    linear_backward(net, number, first, rows);
    if (net.layers[number - 1].norm.there) normalise_rows_back(net, net.layers[number - 1], lane, first, rows, wait);
  }
  for (; net.recurs(number); --number) recurrent_backward(net, number, number ? net.kept_of(step, net.layers[number - 1]) : nullptr, first, rows);
  if (net.convolutions.empty()) return;
  inputs_backward(net, 0, first, rows, {net.changes.at(first * net.input_stride), net.input_stride});
  convolve_back(net, lane, first, end, wait);
}

// ---- gradients of weights, and their change

void add_biases_gradient(const Network& net, size_t number, int64_t output, float* sums) {
  const Layer& layer = net.layers[number];
  const Grid changes = net.changes_of(number);
  const int64_t lines = net.lines_of(number);
  std::fill_n(sums, PANEL, 0.0f);
  if (layer.norm.there && !layer.norm.by_row) return;  // a mean is taken off again: no gradient
  for (int64_t start = 0; start < lines; start += CHUNK) {
    alignas(64) float some[PANEL] = {};
    for (int64_t line = start; line < std::min(lines, start + CHUNK); ++line) {
      const float* from = changes.row(line) + output;
      for (int64_t i = 0; i < PANEL; ++i) some[i] += from[i];
    }
    for (int64_t i = 0; i < PANEL; ++i) sums[i] += some[i];
  }
}

// Calls with gradients of the weights of a layer that are this lane's, and of its biases. Steps of sequences are so many rows that
// they come in spans, each of which stays in a cache while it passes all weights.
template <typename Use>
void with_gradients(const Network& net, size_t number, int lane, int lanes, Use use) {
  const Layer& layer = net.layers[number];
  const Grid inputs = net.inputs_of(number), changes = net.changes_of(number);
  const int64_t lines = net.lines_of(number), span = layer.hidden ? SPAN : lines;
  alignas(64) float own[STRIP * PANEL], biases[PANEL];
  for (int64_t start = 0; start < lines; start += span)
    in_strips(layer, lane, lanes, [&](int64_t output, int64_t first, int64_t end) {
      float* gradient = span < lines ? layer.gradient.at(output * layer.inputs + first * PANEL) : own;
      const Grid a{inputs.first + first, inputs.stride}, d{changes.first + output, changes.stride};
      add_gradient(a, d, start, std::min(start + span, lines), end - first, gradient);
      if (start + span < lines) return;
      leave_out(layer, output, first, end, gradient);
      if (!first) add_biases_gradient(net, number, output, biases);
      use(output, first, end, gradient, biases);
    });
}

// Calls with gradients of all weights that are this lane's.
template <typename Use>
void with_all_gradients(Network& net, int lane, int lanes, Use use) {
  const auto of = [&](Layer& layer) {
    return [&](int64_t output, int64_t first, int64_t end, float* gradient, float* biases) { use(layer, output, first, end, gradient, biases); };
  };
  for (Convolution& conv : net.convolutions) with_gradients(net, conv, lane, lanes, of(conv.layer));
  for (size_t number = 0; number < net.layers.size(); ++number) with_gradients(net, number, lane, lanes, of(net.layers[number]));
}

float norm_of_gradients(Network& net, int lane) {
  double sum = 0;
  net.each_layer([&](const Layer& layer) {
    for (const double strip : layer.squares) sum += strip;
    sum += squares_of(layer.biases, layer.bias_gradient.at(), layer.outputs);
    if (!layer.norm.there) return;
    sum += squares_of(layer.norm.factor, layer.norm.kept(lane, Norm::PRODUCTS), layer.outputs);
    sum += squares_of(layer.norm.shift, layer.norm.kept(lane, Norm::SUMS), layer.outputs);
  });
  return std::sqrt(static_cast<float>(sum));  // infinite where the sum is beyond numbers of float32, as torch's is
}

// Changes all weights; tells whether their gradients are finite where that is asked for.
bool change_weights(Network& net, int lane, int lanes, const Meeting& wait) {
  Clip clip = net.clip;
  for (Layer& layer : net.layers)
    if (layer.norm.by_row) settle_back(layer.norm, layer, lane, net.parts(), net.batch);
  if (!net.clips) {
    with_all_gradients(net, lane, lanes, [&](Layer& layer, int64_t output, int64_t first, int64_t end, float* gradient, float* biases) {
      change(layer, output, first, end, clip, gradient, biases);
    });
  } else {
    with_all_gradients(net, lane, lanes, [](Layer& layer, int64_t output, int64_t first, int64_t end, float* gradient, float* biases) {
      keep(layer, output, first, end, gradient, biases);
    });
    wait();
    const float norm = norm_of_gradients(net, lane);
    if (!std::isfinite(norm)) {
      if (!lane) net.norm = norm;
      return false;
    }
    clip.factor = std::min(1.0f, net.clip_norm / (norm + 1e-6f));
    net.each_layer([&](Layer& layer) {
      in_strips(layer, lane, lanes, [&](int64_t output, int64_t first, int64_t end) {
        alignas(64) float biases[PANEL];  // of its own: others may still add up their squares
        std::memcpy(biases, layer.bias_gradient.at(output), sizeof biases);
        change(layer, output, first, end, clip, layer.gradient.at(output * layer.inputs + first * PANEL), biases);
      });
    });
  }
  net.each_layer([&](const Layer& layer) { change_norm(layer.norm, layer, clip, lane, lanes); });
  return true;
}

// ---- calls

// Numbers so small that they take a processor many times as long count as 0 for the time of a call.
class WithoutTiny {
 public:
#if defined(__x86_64__)
  WithoutTiny() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~WithoutTiny() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#endif
};

// Tells whether the update of a step may follow; keeps its loss.
bool end_forward(Network& net, int64_t step, bool keeps) {
  float loss = 0;
  for (int64_t row = 0; row < net.batch; ++row) loss += net.losses.at()[row];
  if (keeps) net.out[step] = loss;
  return std::isfinite(loss);
}

void end_step(Network& net, int64_t step, Clock::time_point begun) {
  net.done.store(step + 1);
  if (since(begun) > net.seconds) net.leave.store(true);
}

// Runs the steps of one call on one lane; `wait` is called where all must have come.
void run_lane(Network& net, int lane, int lanes, const Meeting& wait) {
  const WithoutTiny without;
  const auto begun = Clock::now();
  net.each_layer([&](const Layer& layer) { carry(layer, true, lane, lanes); });
  wait();
  net.each_layer([&](const Layer& layer) { begin_layer(layer, lane, lanes); });
  wait();
  for (int64_t step = 0; step < net.steps; ++step) {
    pass_rows(net, step, lane, lanes, wait);
    wait();
    if (!end_forward(net, step, lane == 0)) {  // every lane adds up the same numbers
      net.stop.store(true);
      break;
    }
    if (!change_weights(net, lane, lanes, wait)) {  // every lane has the same norm
      net.stop.store(true);
      break;
    }
    if (!lane) end_step(net, step, begun);
    wait();  // all lanes know whether there is a next step
    if (net.leave.load()) break;
  }
  wait();
  net.each_layer([&](const Layer& layer) { carry(layer, false, lane, lanes); });
}

int64_t take(Network& net, bool alone, int64_t steps, double seconds) {
  net.steps = steps;
  net.seconds = seconds;
  net.done.store(0);
  net.leave.store(false);
  if (alone) run_lane(net, 0, 1, {});
  else net.crew->run();
  const int64_t done = net.done.load();
  net.rows += done * net.batch;
  net.kept += done * net.batch * net.dropping;
  net.turns += done * net.width;
  net.out += done;
  net.counted += static_cast<double>(done);
  return done;
}

Layer layer_from(Reader& reader, const Network& net, bool first, int lanes) {
  Layer layer = weights_from(reader, 0, first && net.convolutions.empty());
  const int64_t lines = net.most * (layer.hidden ? net.times : 1);
  layer.norm = norm_from(reader, layer.stride, net.most, net.most_parts(), lanes);
  if (!layer.hidden) {
    for (auto* rows : {&layer.value, &layer.slope, &layer.change}) rows->make(lines * layer.stride);
    return layer;
  }
  layer.joined.make(lines * apart(layer.inputs));
  layer.gates.make(lines * layer.stride);
  if (layer.cell == LSTM) {
    for (auto* rows : {&layer.cells, &layer.bent}) rows->make(lines * layer.hidden);
    layer.cell_change.make(net.most * layer.hidden);
  }
  for (auto* rows : {&layer.value, &layer.slope, &layer.change}) rows->make(net.most * layer.sent_apart());
  return layer;
}

}  // namespace

extern "C" {

// Makes a network from its code; null and a text where that fails.
void* nd_make(const int64_t* code, char* error, int64_t room) {
  auto made = std::make_unique<Network>();
  try {
    Network& net = *made;
    Reader reader{code};
    const int lanes = static_cast<int>(reader.whole());
    for (int64_t* number : {&net.most, &net.times, &net.size}) *number = reader.whole();
    net.head = static_cast<Head>(reader.whole());
    net.class_weight = reinterpret_cast<const float*>(reader.whole());
    net.smoothing = static_cast<float>(reader.real());
    net.kind = static_cast<Kind>(reader.whole());
    net.beta2 = reader.real();
    net.epsilon = reader.real();
    net.clips = reader.whole();
    net.clip_norm = static_cast<float>(reader.real());
    net.clip.most = static_cast<float>(reader.real());
    const int64_t convolutions = reader.whole();
    for (int64_t number = 0; number < convolutions; ++number) net.convolutions.push_back(convolution_from(reader, net, !number, lanes));
    const int64_t layers = reader.whole();
    for (int64_t number = 0; number < layers; ++number) net.layers.push_back(layer_from(reader, net, !number, lanes));
    net.each_layer([&](Layer& layer) {
      net.normalises |= layer.norm.there;
      if (layer.hidden || net.clips) layer.gradient.make(layer.inputs * layer.width);
      if (!net.clips) return;
      layer.bias_gradient.make(layer.width);
      layer.squares.resize(strips_of(layer));
    });
    for (Convolution& conv : net.convolutions) {
      conv.layer.dropped_before = net.dropping;
      net.dropping += conv.dropping();
    }
    for (size_t number = 0; number < net.layers.size(); ++number) {
      net.layers[number].dropped_before = net.dropping;
      net.dropping += net.dropping_of(number);
    }
    for (size_t number = 1; net.recurs(number); ++number) {
      net.layers[number].both.make(net.most * net.layers[number].both_stride());
      net.layers[number - 1].given.make(net.most * net.times * net.layers[number - 1].hidden);
    }
    net.input_stride = apart(padded(net.layers[0].inputs, PANEL));
    if (convolutions) make_benches(net, lanes);
    if (!net.layers[0].hidden) net.input.make(net.most * net.input_stride);
    net.losses.make(net.most);
    net.crew = std::make_unique<Crew>(lanes, [&net, lanes](int lane) { run_lane(net, lane, lanes, {&net.crew->barrier}); });
    return made.release();
  } catch (const std::exception& problem) {
    tell(problem.what(), error, room);
    return nullptr;
  }
}

// Runs steps until they are done, the seconds are over, or a loss, or the norm of all gradients, is not finite; returns how many were done, -1 less that many
// in the last case.
// x, target: of all rows; rows: numbers of them, steps x batch; kept: by dropout; turns: rate and momentum of each group, steps x
// width, or one row (width 0); counted: steps before; out: losses; told: seconds of gathering, and the norm of gradients that was
// not finite, else 0.
int64_t nd_run(void* handle, const float* x, const void* target, const int64_t* rows, const uint8_t* kept, int64_t batch, const double* turns, int64_t width, double counted, int64_t steps, double seconds, float* out, double* told) {
  auto& net = *static_cast<Network*>(handle);
  net.x = x;
  net.target = target;
  net.rows = rows;
  net.kept = kept;
  net.batch = batch;
  net.turns = turns;
  net.width = width;
  net.counted = counted;
  net.out = out;
  net.gathering = 0;
  net.norm = 0;
  net.stop.store(false);
  const bool alone = net.crew->alone();
  const int64_t done = net.paces.run(
      !alone, alone, steps, seconds, [&](bool one, int64_t some, double time) { return take(net, one, some, time); },
      [&] { return net.stop.load(); });
  told[0] = static_cast<double>(net.gathering) * 1e-9;
  told[1] = net.norm;
  return net.stop.load() ? -1 - done : done;
}

void nd_close(void* handle) { delete static_cast<Network*>(handle); }

}  // extern "C"
