// Takes training steps of a network of dense layers, also behind convolutions or a recurrent one, on the CPU: other last bits than torch's,
// the same on any number of cores. netwright/recording/dense_cpu.py compiles this file, writes the programs and calls nd_*.
//
// Weights and what the optimizer keeps of them lie in panels for the time of a call: PANEL outputs side by side, input after
// input. On its way forward and back each lane has rows of its own; then it has weights of its own, whose gradient it adds up
// over all rows, and changes at once. Every sum has one order, so lanes change no bit, nor does the width of vectors with the
// same compiler on processors that multiply and add at once.
#include <cmath>
#include <limits>
#include <memory>

#include "crew.hpp"
#include "panels.hpp"

namespace {

using namespace netwright;

constexpr int64_t CHUNK = 64;            // rows whose share in a gradient is added up at once
constexpr int64_t SPAN = 128;            // steps of sequences that stay in the second cache while all weights pass
constexpr int64_t STRIP = 48;            // inputs of a panel whose weights are changed at once
constexpr int64_t SHARES = 16, FEWEST = 4;  // into which the rows of a batch are parted behind convolutions, of so many rows at least

enum Head : int64_t { CLASSES, SQUARES, CHANCES };
enum Kind : int64_t { SGD, MOMENTUM, NESTEROV, ADAM, ADAMW };
enum Cell : int64_t { LSTM, GRU, RNN };

// ---- the network

struct Rule {  // how numbers change in one step
  Kind kind = SGD;
  float rate = 0, decay = 0, beta1 = 0, toward = 0, beta2 = 0, newer = 0, epsilon = 0, step = 0, scale = 0;

  void operator()(float* __restrict w, float* __restrict first, float* __restrict second, const float* __restrict g, int64_t count) const {
    if (kind == ADAM || kind == ADAMW) {
      const float added = kind == ADAM ? decay : 0.0f, kept = kind == ADAM ? 1.0f : 1.0f - rate * decay;
      for (int64_t i = 0; i < count; ++i) {
        const float x = g[i] + added * w[i];
        const float mean = first[i] + toward * (x - first[i]), square = beta2 * second[i] + newer * x * x;
        first[i] = mean;
        second[i] = square;
        w[i] = kept * w[i] - step * (mean / (std::sqrt(square) * scale + epsilon));
      }
    } else if (kind == SGD) {
      for (int64_t i = 0; i < count; ++i) w[i] -= rate * (g[i] + decay * w[i]);
    } else {
      const float ahead = kind == NESTEROV ? beta1 : 1.0f, plain = kind == NESTEROV ? 1.0f : 0.0f;
      for (int64_t i = 0; i < count; ++i) {
        const float x = g[i] + decay * w[i], moved = beta1 * first[i] + x;
        first[i] = moved;
        w[i] -= rate * (plain * x + ahead * moved);
      }
    }
  }
};

struct Held {  // a parameter where torch has it, and what the optimizer keeps of it
  float *value = nullptr, *first = nullptr, *second = nullptr;
  int64_t group = 0;
  double decay = 0;
  int64_t begin = 0, count = 0;  // of a weight: its inputs among those of the layer
  int64_t low = 0, high = 0;     // outputs of the layer that it has not: of a GRU, whose new state reads input and hidden state apart
  Rule rule;                     // of this step

  bool has(int64_t output) const { return output < low || output >= high; }
  int64_t line(int64_t output) const { return output < high ? output : output - (high - low); }  // where torch has an output

  // Calls with the ends of each run of outputs, of some, that it has.
  template <typename Call>
  void in_runs(int64_t first, int64_t end, Call call) const {
    if (first < std::min(end, low)) call(first, std::min(end, low));
    if (std::max(first, high) < end) call(std::max(first, high), end);
  }
};

struct Layer {
  int64_t inputs = 0, outputs = 0, width = 0, stride = 0;  // width: outputs, in whole panels; stride: from row to row of them
  int64_t taps = 1, deep = 0;                  // places of a window; outputs of each that a gradient goes back from
  std::vector<int64_t> order;                  // where torch's inputs are among ours; empty where they have one order
  int64_t hidden = 0;                          // of a recurrent layer; 0 of a Linear
  Cell cell = LSTM;
  Activation activation = NONE;
  float leak = 0, dropout = 0;
  std::vector<Held> weights, biases;
  Numbers panels[3];           // weights, and what the optimizer keeps of them
  Numbers bias;                // the sum of all biases
  Numbers back;                // weights of the inputs that a gradient goes back to, in panels of inputs
  int64_t back_from = 0, back_count = 0;
  Numbers value, slope, change;  // of each row: outputs, slopes and gradients of what the activation gets
  // Of a recurrent layer: gradients of weights; for each step and row inputs beside the hidden state and the gates; and of an LSTM
  // gradients of each row's cell, and for each step and row the cell and its tanh.
  Numbers gradient, cell_change, joined, gates, cells, bent;

  int64_t sent() const { return hidden ? hidden : outputs; }  // numbers of a row that go on
  int64_t sent_apart() const { return apart(padded(sent(), PANEL)); }
  Grid values() const { return {value.at(), sent_apart()}; }

  float* panel(int which, int64_t output, int64_t input) const { return panels[which].at(output * inputs + input * PANEL); }
  int64_t place(int64_t input) const { return order.empty() ? input : order[input]; }
};

// A convolution, its activation, and a pooling that keeps the most of each window; pictures lie channels last.
struct Convolution {
  Layer layer;  // one input for each channel of each place of a window
  int64_t channels = 0, kernel[2] = {}, border[2] = {}, size[2] = {}, pool[2] = {};
  int64_t seen[2] = {}, kept[2] = {};    // places of its outputs, and of those that pooling keeps
  int64_t frame_pitch = 0, frame = 0;    // of its inputs, with zeros around: numbers of a line, and of a row of the batch
  int64_t change_pitch = 0, change = 0;  // the same of the gradient of its outputs, with more zeros around
  int64_t change_first = 0;              // where the first of them lies
  Numbers frames, slopes;                // of each row of the batch: inputs, and slopes of what is kept
  std::vector<int32_t> places;           // where in the gradient what is kept belongs
  std::vector<int64_t> windows, turned, inputs;  // where windows begin: of outputs, of inputs in the gradient; where an input lies in the first one
  Numbers shares;                        // of each part of the batch: gradients of weights and biases

  int64_t numbers() const { return kept[0] * kept[1] * layer.outputs; }
  float* inside(int64_t row) const { return frames.at(row * frame) + border[0] * frame_pitch + border[1] * channels; }
  float* share(int64_t part) const { return shares.at(part * (layer.inputs + 1) * layer.width); }
};

struct Bench {  // of one lane: outputs and slopes of a picture, the gradient of them, and that of inputs
  Numbers values, slopes, change, before;
};

struct Network {
  std::vector<Convolution> convolutions;
  std::vector<Bench> benches;
  Numbers zeros;    // as many as the widest bias
  Numbers changes;  // of the inputs of the first layer, where convolutions are before it
  std::vector<Layer> layers;
  Head head = CLASSES;
  const float* class_weight = nullptr;
  float smoothing = 0;
  Kind kind = SGD;
  double beta2 = 0, epsilon = 0;
  int64_t most = 0, times = 1, size = 0;  // rows of a batch, steps of a sequence, and numbers of one of them
  int64_t dropping = 0;                   // outputs of a row that dropout may drop
  Numbers input, losses;
  int64_t input_stride = 0;
  std::unique_ptr<Crew> crew;
  Paces paces;

  // Of the call that is running.
  const float* x = nullptr;
  const void* target = nullptr;
  const int64_t* rows = nullptr;
  const uint8_t* kept = nullptr;  // by dropout: of each step and layer with it, one for each output of a row
  const double* turns = nullptr;
  int64_t batch = 0, width = 0, steps = 0;
  double counted = 0, seconds = 0;
  float* out = nullptr;
  std::atomic<int64_t> done{0};
  std::atomic<bool> stop{false}, leave{false};
  int64_t gathering = 0;

  template <typename Call>
  void each_layer(Call call) {
    for (Convolution& convolution : convolutions) call(convolution.layer);
    for (Layer& layer : layers) call(layer);
  }

  int64_t rows_of_part() const { return std::max(FEWEST, (most + SHARES - 1) / SHARES); }
  int64_t parts() const { return (batch + rows_of_part() - 1) / rows_of_part(); }
  // Rows of the batch that are a lane's: whole parts of it behind convolutions.
  int64_t first_row(int lane, int lanes) const {
    if (convolutions.empty()) return batch * lane / lanes;
    return std::min(batch, parts() * lane / lanes * rows_of_part());
  }
  int64_t lines_of(size_t layer) const { return layers[layer].hidden ? times * batch : batch; }  // rows of its gradients
  Grid inputs_of(size_t layer) const {
    if (layers[layer].hidden) return {layers[layer].joined.at(), apart(layers[layer].inputs)};
    if (layer == 0) return {input.at(), input_stride};
    return layers[layer - 1].values();
  }
  const float* cell_before(int64_t time, int64_t line) const {  // of an LSTM, at a step and its row
    return time ? layers[0].cells.at((line - batch) * layers[0].hidden) : layers[0].bias.at(layers[0].stride);
  }
  Grid changes_of(size_t layer) const {
    return {layers[layer].hidden ? layers[layer].gates.at() : layers[layer].change.at(), layers[layer].stride};
  }
};

// Copies weights and what is kept of them from torch's memory into panels, or back.
void carry(const Layer& layer, bool into, int lane, int lanes) {
  const int64_t panels = layer.width / PANEL;
  for (const Held& held : layer.weights) {
    float* const places[3] = {held.value, held.first, held.second};
    for (int which = 0; which < 3; ++which) {
      if (places[which] == nullptr) continue;
      for (int64_t number = panels * lane / lanes; number < panels * (lane + 1) / lanes; ++number) {
        const int64_t output = number * PANEL;
        held.in_runs(output, std::min(output + PANEL, layer.outputs), [&](int64_t first, int64_t end) {
          float* const panel = layer.panel(which, output, held.begin) + first - output;
          float* const rows = places[which] + held.line(first) * held.count;
          for (int64_t input = 0; input < held.count; ++input)
            for (int64_t i = 0; i < end - first; ++i) {
              if (into) panel[layer.place(input) * PANEL + i] = rows[i * held.count + input];
              else rows[i * held.count + input] = panel[layer.place(input) * PANEL + i];
            }
        });
      }
    }
  }
}

// Writes the weights of some inputs of a panel where a gradient that goes back reads them: places of a window the other way around.
void turn(const Layer& layer, int64_t output, int64_t first, int64_t end) {
  first = std::max(first, layer.back_from);
  end = std::min(end, layer.back_from + layer.back_count);
  const int64_t wide = std::min(PANEL, layer.outputs - output), channels = layer.inputs / layer.taps;
  for (int64_t input = first; input < end; ++input) {
    const float* from = layer.panel(0, output, input);
    const int64_t number = input - layer.back_from, place = number % channels, tap = layer.taps - 1 - number / channels;
    float* to = layer.back.at((place / PANEL * layer.taps * layer.deep + tap * layer.deep + output) * PANEL + place % PANEL);
    for (int64_t i = 0; i < wide; ++i) to[i * PANEL] = from[i];
  }
}

void add_biases(const Layer& layer, int64_t output) {
  const int64_t wide = std::min(PANEL, layer.outputs - output);
  for (int64_t i = 0; i < wide; ++i) {
    float sum = 0;
    for (const Held& held : layer.biases) sum += held.has(output + i) ? held.value[held.line(output + i)] : 0.0f;
    layer.bias.at()[output + i] = sum;
  }
}

void begin_layer(const Layer& layer, int lane, int lanes) {
  const int64_t panels = layer.width / PANEL;
  for (int64_t panel = panels * lane / lanes; panel < panels * (lane + 1) / lanes; ++panel) {
    turn(layer, panel * PANEL, 0, layer.inputs);
    add_biases(layer, panel * PANEL);
  }
}

// ---- convolutions, forward and back, for one row of the batch

// Writes a picture of torch's, channel after channel, where a convolution reads it.
void frame(const Convolution& conv, const float* from, int64_t row) {
  float* to = conv.inside(row);
  for (int64_t channel = 0; channel < conv.channels; ++channel)
    for (int64_t y = 0; y < conv.size[0]; ++y)
      for (int64_t x = 0; x < conv.size[1]; ++x) to[y * conv.frame_pitch + x * conv.channels + channel] = *from++;
}

template <typename Number>
Number read(const float* from) {
  Number found;
  std::memcpy(&found, from, sizeof found);
  return found;
}

// Keeps the first of the greatest of some windows' outputs, channel by channel: its value, its slope and where in the gradient it is.
template <typename Number, typename Whole>
void keep_greatest(const Convolution& conv, const float* values, const float* slopes, int32_t at, float* best, float* slope, int32_t* place) {
  const int64_t wide = conv.layer.width;
  Number most = read<Number>(values), its = read<Number>(slopes);
  Whole where = Whole{} + at;
  for (int64_t dy = 0; dy < conv.pool[0]; ++dy)
    for (int64_t dx = 0; dx < conv.pool[1]; ++dx) {
      const int64_t from = (dy * conv.seen[1] + dx) * wide;
      const Number value = read<Number>(values + from), its_slope = read<Number>(slopes + from);
      const Whole here = Whole{} + static_cast<int32_t>(at + dy * conv.change_pitch + dx * wide);
      const auto more = (value > most) | (value != value);
      most = more ? value : most;
      its = more ? its_slope : its;
      where = more ? here : where;
    }
  std::memcpy(best, &most, sizeof most);
  std::memcpy(slope, &its, sizeof its);
  std::memcpy(place, &where, sizeof where);
}

void pool(Convolution& conv, const Bench& bench, int64_t row, float* to, int64_t pitch) {
  const int64_t outputs = conv.layer.outputs, wide = conv.layer.width;
  float* slopes = conv.slopes.at(row * conv.numbers());
  int32_t* places = conv.places.data() + row * conv.numbers();
  for (int64_t y = 0; y < conv.kept[0]; ++y)
    for (int64_t x = 0; x < conv.kept[1]; ++x, slopes += outputs, places += outputs) {
      const int64_t line = y * conv.pool[0], column = x * conv.pool[1], from = (line * conv.seen[1] + column) * wide;
      const float *value = bench.values.at(from), *slope = bench.slopes.at(from);
      const auto at = static_cast<int32_t>(conv.change_first + line * conv.change_pitch + column * wide);
      float* best = to + y * pitch + x * outputs;
      int64_t i = 0;
      for (; i + WIDTH <= outputs; i += WIDTH) keep_greatest<Vector, Wholes>(conv, value + i, slope + i, at, best + i, slopes + i, places + i);
      for (; i < outputs; ++i) keep_greatest<float, int32_t>(conv, value + i, slope + i, at, best + i, slopes + i, places + i);
    }
}

// Multiplies windows of a picture with panels: out[window][n] = bias[n] + ...
void multiply_windows(const float* picture, const std::vector<int64_t>& windows, const Convolution& conv, int64_t pitch, int64_t depth, const float* panels, const float* bias, int64_t outputs, Grid out) {
  for (int64_t n = 0; n < outputs; n += PANEL)
    for_parts(outputs - n, [&](auto parts) {
      in_tiles(static_cast<int64_t>(windows.size()), [&](int64_t first, int64_t end) {
        const float* at[MOST];
        for (int64_t i = first; i < end; ++i) at[i - first] = picture + windows[i];
        const Grid to{out.row(first) + n, out.stride};
        const float* panel = panels + n * conv.kernel[0] * depth;
        for_count(end - first, [&](auto count) {
          window<count.value, parts.value>(at, conv.kernel[0], pitch, depth, panel, bias + n, to);
        });
      });
    });
}

void convolve(Network& net, const Bench& bench, int64_t row) {
  for (size_t number = 0; number < net.convolutions.size(); ++number) {
    Convolution& conv = net.convolutions[number];
    const Layer& layer = conv.layer;
    const int64_t places = conv.seen[0] * conv.seen[1];
    multiply_windows(conv.frames.at(row * conv.frame), conv.windows, conv, conv.frame_pitch, conv.kernel[1] * conv.channels,
                     layer.panels[0].at(), layer.bias.at(), layer.outputs, {bench.values.at(), layer.width});
    activate(layer.activation, layer.leak, bench.values.at(), bench.slopes.at(), places * layer.width);
    if (number + 1 == net.convolutions.size()) {
      pool(conv, bench, row, net.input.at(row * net.input_stride), conv.kept[1] * layer.outputs);
      continue;
    }
    const Convolution& next = net.convolutions[number + 1];
    pool(conv, bench, row, next.inside(row), next.frame_pitch);
  }
}

// Adds the share of a row to the gradients of a convolution; `change` is the gradient of its outputs.
void add_share(const Convolution& conv, const float* change, int64_t row, float* share) {
  const Layer& layer = conv.layer;
  const Picture x{conv.frames.at(row * conv.frame), conv.frame_pitch, conv.channels};
  float* const biases = share + layer.inputs * layer.width;
  for (int64_t n = 0; n < layer.width; n += PANEL) {
    const Picture d{change + conv.change_first + n, conv.change_pitch, layer.width};
    for_parts(layer.outputs - n, [&](auto parts) {
      in_tiles(layer.inputs, [&](int64_t low, int64_t high) {
        const float* at[MOST];
        for (int64_t i = low; i < high; ++i) at[i - low] = x.first + conv.inputs[i];
        float* to = share + n * layer.inputs + low * PANEL;
        for_count(high - low, [&](auto count) {
          outer_of_windows<count.value, parts.value>(at, x, d, conv.seen[0], conv.seen[1], to);
        });
      });
    });
  }
  alignas(64) float sums[PANEL];
  for (int64_t n = 0; n < layer.width; n += PANEL) {
    std::memset(sums, 0, sizeof sums);
    for (int64_t y = 0; y < conv.seen[0]; ++y)
      for (int64_t x = 0; x < conv.seen[1]; ++x) {
        const float* from = change + conv.change_first + y * conv.change_pitch + x * layer.width + n;
        for (int64_t i = 0; i < PANEL; ++i) sums[i] += from[i];
      }
    for (int64_t i = 0; i < PANEL; ++i) biases[n + i] += sums[i];
  }
}

// Takes the gradient of what the last convolution gave back through all of them.
void convolve_back(Network& net, const Bench& bench, int64_t row, int64_t part) {
  Grid given{net.changes.at(row * net.input_stride), net.convolutions.back().layer.outputs};
  for (size_t number = net.convolutions.size(); number-- > 0;) {
    const Convolution& conv = net.convolutions[number];
    const Layer& layer = conv.layer;
    const float* slopes = conv.slopes.at(row * conv.numbers());
    const int32_t* places = conv.places.data() + row * conv.numbers();
    float* const change = bench.change.at();
    std::memset(change, 0, conv.change * sizeof(float));
    for (int64_t kept = 0; kept < conv.kept[0] * conv.kept[1]; ++kept, slopes += layer.outputs, places += layer.outputs) {
      const float* from = given.row(kept);
      for (int64_t i = 0; i < layer.outputs; ++i) change[places[i] + i] = from[i] * slopes[i];
    }
    add_share(conv, change, row, conv.share(part));
    if (!number) return;
    given = {bench.before.at(), padded(conv.channels, PANEL)};
    multiply_windows(change, conv.turned, conv, conv.change_pitch, conv.kernel[1] * layer.width, layer.back.at(),
                     net.zeros.at(), conv.channels, given);
  }
}

void convolve_rows_back(Network& net, int lane, int64_t first, int64_t end) {
  const int64_t many = net.rows_of_part();
  for (int64_t start = first; start < end; start += many) {
    for (const Convolution& conv : net.convolutions)
      std::memset(conv.share(start / many), 0, (conv.layer.inputs + 1) * conv.layer.width * sizeof(float));
    for (int64_t row = start; row < std::min(end, start + many); ++row) convolve_back(net, net.benches[lane], row, start / many);
  }
}

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

void start_with(const Numbers& bias, Grid out, int64_t rows) {
  for (int64_t row = 0; row < rows; ++row) std::memcpy(out.row(row), bias.at(), out.stride * sizeof(float));
}

void linear_forward(Network& net, size_t number, int64_t first, int64_t rows) {
  const Layer& layer = net.layers[number];
  const Grid from = net.inputs_of(number), out{layer.values().row(first), layer.stride};
  start_with(layer.bias, out, rows);
  multiply({from.row(first), from.stride}, rows, layer.panels[0].at(), layer.inputs, layer.width, out);
  if (number + 1 < net.layers.size())
    activate(layer.activation, layer.leak, out.first, layer.slope.at(first * layer.stride), rows * layer.stride);
}

// Drops some outputs of a layer; returns where the next layer's begin.
const uint8_t* drop(const Network& net, const Layer& layer, const uint8_t* kept, int64_t first, int64_t rows) {
  if (layer.dropout == 0.0f) return kept;
  const float scale = 1.0f / (1.0f - layer.dropout);
  for (int64_t row = first; row < first + rows; ++row) {
    const uint8_t* here = kept + row * layer.sent();
    float *value = layer.values().row(row), *slope = layer.slope.at(row * layer.sent_apart());
    for (int64_t i = 0; i < layer.sent(); ++i) {
      const float factor = here[i] ? scale : 0.0f;
      value[i] *= factor;
      slope[i] *= factor;
    }
  }
  return kept + net.batch * layer.sent();
}

void lstm_step(const Layer& layer, float* __restrict gate, const float* __restrict before, float* __restrict cell, float* __restrict bent, float* __restrict out) {
  const int64_t hidden = layer.hidden;
  for (int64_t i = 0; i < 2 * hidden; ++i) gate[i] = logistic(gate[i]);
  for (int64_t i = 2 * hidden; i < 3 * hidden; ++i) gate[i] = tangent(gate[i]);
  for (int64_t i = 3 * hidden; i < 4 * hidden; ++i) gate[i] = logistic(gate[i]);
#pragma GCC ivdep
  for (int64_t i = 0; i < hidden; ++i) {
    cell[i] = gate[hidden + i] * before[i] + gate[i] * gate[2 * hidden + i];
    bent[i] = tangent(cell[i]);
    out[i] = gate[3 * hidden + i] * bent[i];
  }
}

// Gates of a GRU: reset, update, and the new state; beside these what the hidden state adds to the new one, which reset weighs.
void gru_step(const Layer& layer, float* __restrict gate, const float* __restrict before, float* __restrict out) {
  const int64_t hidden = layer.hidden;
  for (int64_t i = 0; i < 2 * hidden; ++i) gate[i] = logistic(gate[i]);
#pragma GCC ivdep
  for (int64_t i = 0; i < hidden; ++i) {
    const float fresh = tangent(gate[2 * hidden + i] + gate[i] * gate[3 * hidden + i]);
    gate[2 * hidden + i] = fresh;
    out[i] = fresh + gate[hidden + i] * (before[i] - fresh);
  }
}

void rnn_step(const Layer& layer, float* __restrict gate, float* __restrict out) {
  const int64_t hidden = layer.hidden;
  if (layer.activation == TANH) {
    for (int64_t i = 0; i < hidden; ++i) gate[i] = tangent(gate[i]);
  } else {
    for (int64_t i = 0; i < hidden; ++i) gate[i] = gate[i] < 0.0f ? 0.0f : gate[i];
  }
  std::memcpy(out, gate, hidden * sizeof(float));
}

// Writes gradients of what the gates of a GRU get over the gates, and what of the gradient of a state goes straight to the one before.
void gru_step_back(const Layer& layer, float* __restrict gate, const float* __restrict before, float* __restrict given) {
  const int64_t hidden = layer.hidden;
#pragma GCC ivdep
  for (int64_t i = 0; i < hidden; ++i) {
    const float reset = gate[i], update = gate[hidden + i], fresh = gate[2 * hidden + i], kept = gate[3 * hidden + i];
    const float of_fresh = given[i] * (1.0f - update) * (1.0f - fresh * fresh);
    gate[i] = of_fresh * kept * reset * (1.0f - reset);
    gate[hidden + i] = given[i] * (before[i] - fresh) * update * (1.0f - update);
    gate[2 * hidden + i] = of_fresh;
    gate[3 * hidden + i] = of_fresh * reset;
    given[i] *= update;
  }
}

void rnn_step_back(const Layer& layer, float* __restrict gate, const float* __restrict given) {
  const int64_t hidden = layer.hidden;
  if (layer.activation == TANH) {
    for (int64_t i = 0; i < hidden; ++i) gate[i] = given[i] * (1.0f - gate[i] * gate[i]);
  } else {
    for (int64_t i = 0; i < hidden; ++i) gate[i] = gate[i] > 0.0f ? given[i] : 0.0f;
  }
}

void lstm_step_back(const Layer& layer, float* __restrict gate, const float* __restrict before, const float* __restrict bent, float* __restrict change_of_cell, const float* __restrict given) {
  const int64_t hidden = layer.hidden;
#pragma GCC ivdep
  for (int64_t i = 0; i < hidden; ++i) {
    const float in = gate[i], forget = gate[hidden + i], fresh = gate[2 * hidden + i], out = gate[3 * hidden + i];
    const float of_cell = change_of_cell[i] + given[i] * out * (1.0f - bent[i] * bent[i]);
    gate[i] = of_cell * fresh * in * (1.0f - in);
    gate[hidden + i] = of_cell * before[i] * forget * (1.0f - forget);
    gate[2 * hidden + i] = of_cell * in * (1.0f - fresh * fresh);
    gate[3 * hidden + i] = given[i] * bent[i] * out * (1.0f - out);
    change_of_cell[i] = of_cell * forget;
  }
}

void recurrent_forward(Network& net, int64_t first, int64_t rows) {
  const Layer& layer = net.layers[0];
  const int64_t hidden = layer.hidden, size = layer.inputs - hidden;
  const Grid joined = net.inputs_of(0), gates = net.changes_of(0);
  for (int64_t row = first; row < first + rows; ++row) std::memset(joined.row(row) + size, 0, hidden * sizeof(float));
  for (int64_t time = 0; time < net.times; ++time) {
    const int64_t line = time * net.batch + first;
    const Grid here{gates.row(line), gates.stride};
    start_with(layer.bias, here, rows);
    multiply({joined.row(line), joined.stride}, rows, layer.panels[0].at(), layer.inputs, layer.width, here);
    for (int64_t row = 0; row < rows; ++row) {
      float* const gate = here.row(row);
      float* const out = time + 1 < net.times ? joined.row(line + net.batch + row) + size : layer.values().row(first + row);
      if (layer.cell == GRU) gru_step(layer, gate, joined.row(line + row) + size, out);
      else if (layer.cell == RNN) rnn_step(layer, gate, out);
      else lstm_step(layer, gate, net.cell_before(time, line + row), layer.cells.at((line + row) * hidden), layer.bent.at((line + row) * hidden), out);
    }
  }
  std::fill_n(layer.slope.at(first * layer.sent_apart()), rows * layer.sent_apart(), 1.0f);
}

void recurrent_backward(Network& net, int64_t first, int64_t rows) {
  const Layer& layer = net.layers[0];
  const int64_t hidden = layer.hidden, size = layer.inputs - hidden, stride = layer.sent_apart();
  const Grid joined = net.inputs_of(0), gates = net.changes_of(0), change{layer.change.at(first * stride), stride};
  if (layer.cell == LSTM) std::memset(layer.cell_change.at(first * hidden), 0, rows * hidden * sizeof(float));
  for (int64_t time = net.times - 1; time >= 0; --time) {
    const int64_t line = time * net.batch + first;
    for (int64_t row = 0; row < rows; ++row) {
      float *const gate = gates.row(line + row), *const given = change.row(row);
      if (layer.cell == GRU) gru_step_back(layer, gate, joined.row(line + row) + size, given);
      else if (layer.cell == RNN) rnn_step_back(layer, gate, given);
      else lstm_step_back(layer, gate, net.cell_before(time, line + row), layer.bent.at((line + row) * hidden), layer.cell_change.at((first + row) * hidden), given);
    }
    if (!time) return;
    if (layer.cell != GRU) std::memset(change.first, 0, rows * stride * sizeof(float));  // all goes through the gates
    multiply({gates.row(line), gates.stride}, rows, layer.back.at(), layer.outputs, padded(hidden, PANEL), change);
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
  if (before.hidden && before.dropout == 0.0f) return;
  const float* __restrict slope = before.slope.at(first * stride);
  float* __restrict to = change.first;
  for (int64_t i = 0; i < rows * stride; ++i) to[i] *= slope[i];
}

Rule rule_of(const Network& net, const Held& held, int64_t step) {
  const double* turns = net.turns + step * net.width + 2 * held.group;
  const double count = net.counted + static_cast<double>(step) + 1.0, rate = turns[0], beta1 = turns[1];
  const bool corrects = net.kind == ADAM || net.kind == ADAMW;
  const double first = corrects ? 1.0 - std::pow(beta1, count) : 1.0, second = corrects ? 1.0 - std::pow(net.beta2, count) : 1.0;
  const auto real = [](double number) { return static_cast<float>(number); };
  return {net.kind,        real(rate),           real(held.decay),   real(beta1),       real(1.0 - beta1),
          real(net.beta2), real(1.0 - net.beta2), real(net.epsilon), real(rate / first), real(1.0 / std::sqrt(second))};
}

void set_rules(Network& net, int64_t step) {
  net.each_layer([&](Layer& layer) {
    for (auto* kind : {&layer.weights, &layer.biases})
      for (Held& held : *kind) held.rule = rule_of(net, held, step);
  });
}

void pass_rows(Network& net, int64_t step, int lane, int lanes) {
  const int64_t first = net.first_row(lane, lanes), end = net.first_row(lane + 1, lanes), rows = end - first;
  const auto begun = Clock::now();
  if (!lane) set_rules(net, step);
  gather(net, step, first, end);
  if (!lane) net.gathering += std::chrono::nanoseconds(Clock::now() - begun).count();
  if (!rows) return;
  if (!net.convolutions.empty())
    for (int64_t row = first; row < end; ++row) convolve(net, net.benches[lane], row);
  const uint8_t* kept = net.kept + step * net.batch * net.dropping;
  for (size_t number = 0; number < net.layers.size(); ++number) {
    if (net.layers[number].hidden) recurrent_forward(net, first, rows);
    else linear_forward(net, number, first, rows);
    kept = drop(net, net.layers[number], kept, first, rows);
  }
  end_rows(net, step, first, end);
  for (size_t number = net.layers.size() - 1; number > 0; --number) linear_backward(net, number, first, rows);
  if (net.layers[0].hidden) recurrent_backward(net, first, rows);
  if (net.convolutions.empty()) return;
  inputs_backward(net, 0, first, rows, {net.changes.at(first * net.input_stride), net.input_stride});
  convolve_rows_back(net, lane, first, end);
}

// ---- gradients of weights, and their change

void change_biases_by(const Layer& layer, int64_t output, const float* sums) {
  for (const Held& held : layer.biases)
    held.in_runs(output, std::min(output + PANEL, layer.outputs), [&](int64_t low, int64_t high) {
      const int64_t line = held.line(low);
      float* second = held.second == nullptr ? nullptr : held.second + line;
      float* first = held.first == nullptr ? nullptr : held.first + line;
      held.rule(held.value + line, first, second, sums + (low - output), high - low);
    });
  add_biases(layer, output);
}

void change_biases(const Network& net, size_t number, int64_t output) {
  const Layer& layer = net.layers[number];
  const Grid changes = net.changes_of(number);
  const int64_t lines = net.lines_of(number);
  alignas(64) float sums[PANEL] = {};
  for (int64_t start = 0; start < lines; start += CHUNK) {
    alignas(64) float some[PANEL] = {};
    for (int64_t line = start; line < std::min(lines, start + CHUNK); ++line) {
      const float* from = changes.row(line) + output;
      for (int64_t i = 0; i < PANEL; ++i) some[i] += from[i];
    }
    for (int64_t i = 0; i < PANEL; ++i) sums[i] += some[i];
  }
  change_biases_by(layer, output, sums);
}

// Adds the shares of some rows to the gradients of some weights: CHUNK by CHUNK, each of which is added up for itself.
void add_gradient(Grid inputs, Grid changes, int64_t start, int64_t end, int64_t count, float* gradient) {
  alignas(64) float some[STRIP * PANEL];
  for (int64_t chunk = start; chunk < end; chunk += CHUNK) {
    float* const sums = chunk ? some : gradient;
    std::memset(sums, 0, count * PANEL * sizeof(float));
    in_tiles(count, [&](int64_t low, int64_t high) {
      const Grid a{inputs.row(chunk) + low, inputs.stride}, d{changes.row(chunk), changes.stride};
      for_count(high - low, [&](auto size) { outer<size.value>(a, d, std::min(CHUNK, end - chunk), sums + low * PANEL); });
    });
    if (!chunk) continue;
    for (int64_t i = 0; i < count * PANEL; ++i) gradient[i] += some[i];
  }
}

void change_strip(const Layer& layer, int64_t output, int64_t first, int64_t end, float* gradient) {
  for (const Held& held : layer.weights) {
    const int64_t low = std::max(first, held.begin), high = std::min(end, held.begin + held.count);
    if (low >= high) continue;
    for (int64_t i = std::max(output, held.low); i < std::min(output + PANEL, held.high); ++i)  // weights that are not there stay 0
      for (int64_t input = low - first; input < high - first; ++input) gradient[input * PANEL + i - output] = 0.0f;
    float* const kept = held.first == nullptr ? nullptr : layer.panel(1, output, low);
    float* const second = held.second == nullptr ? nullptr : layer.panel(2, output, low);
    held.rule(layer.panel(0, output, low), kept, second, gradient + (low - first) * PANEL, (high - low) * PANEL);
  }
  turn(layer, output, first, end);
}

// Calls with the strips of a layer that are a lane's: a panel's first output, and the first and the end of some inputs.
template <typename Call>
void in_strips(const Layer& layer, int lane, int lanes, Call call) {
  const int64_t strips = layer.width / PANEL * ((layer.inputs + STRIP - 1) / STRIP);
  const int64_t low = strips * lane / lanes, high = strips * (lane + 1) / lanes;
  for (int64_t output = 0, place = 0; output < layer.width; output += PANEL)
    for (int64_t first = 0; first < layer.inputs; first += STRIP, ++place)
      if (place >= low && place < high) call(output, first, std::min(first + STRIP, layer.inputs));
}

// Changes the weights of a layer that are this lane's. Steps of sequences are so many rows that they come in spans, each of which
// stays in a cache while it passes all weights.
void change_layer(const Network& net, size_t number, int lane, int lanes) {
  const Layer& layer = net.layers[number];
  const Grid inputs = net.inputs_of(number), changes = net.changes_of(number);
  const int64_t lines = net.lines_of(number), span = layer.hidden ? SPAN : lines;
  alignas(64) float own[STRIP * PANEL];
  for (int64_t start = 0; start < lines; start += span)
    in_strips(layer, lane, lanes, [&](int64_t output, int64_t first, int64_t end) {
      float* gradient = span < lines ? layer.gradient.at(output * layer.inputs + first * PANEL) : own;
      const Grid a{inputs.first + first, inputs.stride}, d{changes.first + output, changes.stride};
      add_gradient(a, d, start, std::min(start + span, lines), end - first, gradient);
      if (start + span < lines) return;
      change_strip(layer, output, first, end, gradient);
      if (!first) change_biases(net, number, output);
    });
}

// Changes the weights of a convolution that are this lane's, whose gradients lie there, one for each part of the batch.
void change_convolution(const Network& net, const Convolution& conv, int lane, int lanes) {
  const Layer& layer = conv.layer;
  const int64_t parts = net.parts();
  alignas(64) float sums[STRIP * PANEL];
  const auto add = [&](int64_t place, int64_t count) {
    std::memcpy(sums, conv.share(0) + place, count * sizeof(float));
    for (int64_t part = 1; part < parts; ++part) {
      const float* from = conv.share(part) + place;
      for (int64_t i = 0; i < count; ++i) sums[i] += from[i];
    }
  };
  in_strips(layer, lane, lanes, [&](int64_t output, int64_t first, int64_t end) {
    add(output * layer.inputs + first * PANEL, (end - first) * PANEL);
    change_strip(layer, output, first, end, sums);
    if (first) return;
    add(layer.inputs * layer.width + output, PANEL);
    change_biases_by(layer, output, sums);
  });
}

void change_weights(const Network& net, int lane, int lanes) {
  for (const Convolution& conv : net.convolutions) change_convolution(net, conv, lane, lanes);
  for (size_t number = 0; number < net.layers.size(); ++number) change_layer(net, number, lane, lanes);
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
template <typename Wait>
void run_lane(Network& net, int lane, int lanes, Wait wait) {
  const WithoutTiny without;
  const auto begun = Clock::now();
  net.each_layer([&](const Layer& layer) { carry(layer, true, lane, lanes); });
  wait();
  net.each_layer([&](const Layer& layer) { begin_layer(layer, lane, lanes); });
  wait();
  for (int64_t step = 0; step < net.steps; ++step) {
    pass_rows(net, step, lane, lanes);
    wait();
    if (!end_forward(net, step, lane == 0)) {  // every lane adds up the same numbers
      net.stop.store(true);
      break;
    }
    change_weights(net, lane, lanes);
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
  if (alone) run_lane(net, 0, 1, [] {});
  else net.crew->run();
  const int64_t done = net.done.load();
  net.rows += done * net.batch;
  net.kept += done * net.batch * net.dropping;
  net.turns += done * net.width;
  net.out += done;
  net.counted += static_cast<double>(done);
  return done;
}

Held held_from(Reader& reader) {
  Held held;
  for (float** place : {&held.value, &held.first, &held.second}) *place = reinterpret_cast<float*>(reader.whole());
  held.group = reader.whole();
  held.decay = reader.real();
  for (int64_t* number : {&held.begin, &held.count, &held.low, &held.high}) *number = reader.whole();
  return held;
}

// A layer's sizes, its weights and the room for them. `taps`: places of a window, 0 without windows; `ends`: no gradient goes back
// beyond it, but to a hidden state.
Layer weights_from(Reader& reader, int64_t taps, bool ends) {
  Layer layer;
  layer.taps = std::max<int64_t>(taps, 1);
  layer.inputs = reader.whole();
  layer.outputs = reader.whole();
  layer.hidden = reader.whole();
  layer.cell = static_cast<Cell>(reader.whole());
  layer.activation = static_cast<Activation>(reader.whole());
  layer.leak = static_cast<float>(reader.real());
  layer.dropout = static_cast<float>(reader.real());
  for (auto* kind : {&layer.weights, &layer.biases})
    for (int64_t left = reader.whole(); left > 0; --left) kind->push_back(held_from(reader));
  layer.width = padded(layer.outputs, PANEL);
  layer.stride = apart(layer.width);
  layer.deep = taps ? layer.width : layer.outputs;
  for (auto& panels : layer.panels) panels.make(layer.inputs * layer.width);
  layer.bias.make(layer.stride + layer.hidden);  // and a cell before the first step
  layer.back_from = layer.hidden ? layer.inputs - layer.hidden : 0;
  layer.back_count = ends && !layer.hidden ? 0 : layer.inputs - layer.back_from;
  layer.back.make(padded(layer.back_count / layer.taps, PANEL) * layer.taps * layer.deep);
  return layer;
}

Convolution convolution_from(Reader& reader, const Network& net, bool first) {
  Convolution conv;
  conv.channels = reader.whole();
  for (auto* pair : {conv.kernel, conv.border, conv.size, conv.pool})
    for (int axis = 0; axis < 2; ++axis) pair[axis] = reader.whole();
  const int64_t taps = conv.kernel[0] * conv.kernel[1];
  conv.layer = weights_from(reader, taps, first);
  const Layer& layer = conv.layer;
  int64_t around[2];
  for (int axis = 0; axis < 2; ++axis) {
    conv.seen[axis] = conv.size[axis] + 2 * conv.border[axis] - conv.kernel[axis] + 1;
    conv.kept[axis] = conv.seen[axis] / conv.pool[axis];
    around[axis] = conv.kernel[axis] - 1 - conv.border[axis];
  }
  conv.frame_pitch = (conv.size[1] + 2 * conv.border[1]) * conv.channels;
  conv.frame = padded((conv.size[0] + 2 * conv.border[0]) * conv.frame_pitch, 16);
  conv.change_pitch = (conv.seen[1] + 2 * around[1]) * layer.width;
  conv.change = (conv.seen[0] + 2 * around[0]) * conv.change_pitch;
  conv.change_first = around[0] * conv.change_pitch + around[1] * layer.width;
  conv.frames.make(net.most * conv.frame);
  conv.slopes.make(net.most * conv.numbers());
  conv.places.resize(net.most * conv.numbers());
  conv.shares.make((net.most + net.rows_of_part() - 1) / net.rows_of_part() * (layer.inputs + 1) * layer.width);
  for (int64_t y = 0; y < conv.seen[0]; ++y)
    for (int64_t x = 0; x < conv.seen[1]; ++x) conv.windows.push_back(y * conv.frame_pitch + x * conv.channels);
  for (int64_t y = 0; y < conv.size[0]; ++y)
    for (int64_t x = 0; x < conv.size[1]; ++x) conv.turned.push_back(y * conv.change_pitch + x * layer.width);
  for (int64_t tap = 0; tap < taps; ++tap)
    for (int64_t channel = 0; channel < conv.channels; ++channel)
      conv.inputs.push_back(tap / conv.kernel[1] * conv.frame_pitch + tap % conv.kernel[1] * conv.channels + channel);
  for (int64_t channel = 0; channel < conv.channels; ++channel)
    for (int64_t tap = 0; tap < taps; ++tap) conv.layer.order.push_back(tap * conv.channels + channel);
  return conv;
}

// Makes the room that lanes need for convolutions; the first layer behind them reads channels last.
void make_benches(Network& net, int lanes) {
  int64_t seen = 0, change = 0, before = 0, widest = 0;
  for (const Convolution& conv : net.convolutions) {
    seen = std::max(seen, conv.seen[0] * conv.seen[1] * conv.layer.width);
    change = std::max(change, conv.change);
    if (&conv == &net.convolutions[0]) continue;  // no gradient goes back beyond it
    before = std::max(before, conv.size[0] * conv.size[1] * padded(conv.channels, PANEL));
    widest = std::max(widest, padded(conv.channels, PANEL));
  }
  for (int lane = 0; lane < lanes; ++lane) {
    Bench& bench = net.benches.emplace_back();
    bench.values.make(seen);
    bench.slopes.make(seen);
    bench.change.make(change);
    bench.before.make(before);
  }
  net.zeros.make(widest);
  const Convolution& last = net.convolutions.back();
  Layer& layer = net.layers[0];
  const int64_t places = last.kept[0] * last.kept[1], channels = last.layer.outputs;
  for (int64_t channel = 0; channel < channels; ++channel)
    for (int64_t place = 0; place < places; ++place) layer.order.push_back(place * channels + channel);
  net.changes.make(net.most * net.input_stride);
}

Layer layer_from(Reader& reader, const Network& net, bool first) {
  Layer layer = weights_from(reader, 0, first && net.convolutions.empty());
  const int64_t lines = net.most * (layer.hidden ? net.times : 1);
  if (!layer.hidden) {
    for (auto* rows : {&layer.value, &layer.slope, &layer.change}) rows->make(lines * layer.stride);
    return layer;
  }
  layer.gradient.make(layer.inputs * layer.width);
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
    const int64_t convolutions = reader.whole();
    for (int64_t number = 0; number < convolutions; ++number) net.convolutions.push_back(convolution_from(reader, net, !number));
    const int64_t layers = reader.whole();
    for (int64_t number = 0; number < layers; ++number) net.layers.push_back(layer_from(reader, net, !number));
    for (const Layer& layer : net.layers) net.dropping += layer.dropout != 0.0f ? layer.sent() : 0;
    net.input_stride = apart(padded(net.layers[0].inputs, PANEL));
    if (convolutions) make_benches(net, lanes);
    if (!net.layers[0].hidden) net.input.make(net.most * net.input_stride);
    net.losses.make(net.most);
    net.crew = std::make_unique<Crew>(lanes, [&net, lanes](int lane) { run_lane(net, lane, lanes, [&] { net.crew->barrier.wait(); }); });
    return made.release();
  } catch (const std::exception& problem) {
    tell(problem.what(), error, room);
    return nullptr;
  }
}

// Runs steps until they are done, the seconds are over, or a loss is not finite; returns how many were done, -1 less that many
// in the last case.
// x, target: of all rows; rows: numbers of them, steps x batch; kept: by dropout; turns: rate and momentum of each group, steps x
// width, or one row (width 0); counted: steps before; out: losses; spent: seconds of gathering.
int64_t nd_run(void* handle, const float* x, const void* target, const int64_t* rows, const uint8_t* kept, int64_t batch, const double* turns, int64_t width, double counted, int64_t steps, double seconds, float* out, double* spent) {
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
  net.stop.store(false);
  const bool alone = net.crew->alone();
  const int64_t done = net.paces.run(
      !alone, alone, steps, seconds, [&](bool one, int64_t some, double time) { return take(net, one, some, time); },
      [&] { return net.stop.load(); });
  *spent = static_cast<double>(net.gathering) * 1e-9;
  return net.stop.load() ? -1 - done : done;
}

void nd_close(void* handle) { delete static_cast<Network*>(handle); }

}  // extern "C"
