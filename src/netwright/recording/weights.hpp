// Weights in panels for dense.cpp: how they come there and back, and how a gradient changes them.
#pragma once

#include "network.hpp"

namespace netwright {

// Copies weights and what is kept of them from torch's memory into panels, or back.
inline void carry(const Layer& layer, bool into, int lane, int lanes) {
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
inline void turn(const Layer& layer, int64_t output, int64_t first, int64_t end) {
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

inline void add_biases(const Layer& layer, int64_t output) {
  const int64_t wide = std::min(PANEL, layer.outputs - output);
  for (int64_t i = 0; i < wide; ++i) {
    float sum = 0;
    for (const Held& held : layer.biases) sum += held.has(output + i) ? held.value[held.line(output + i)] : 0.0f;
    layer.bias.at()[output + i] = sum;
  }
}

inline void begin_layer(const Layer& layer, int lane, int lanes) {
  const int64_t panels = layer.width / PANEL;
  for (int64_t panel = panels * lane / lanes; panel < panels * (lane + 1) / lanes; ++panel) {
    turn(layer, panel * PANEL, 0, layer.inputs);
    add_biases(layer, panel * PANEL);
  }
}

inline Rule rule_of(const Network& net, const Held& held, int64_t step) {
  const double* turns = net.turns + step * net.width + 2 * held.group;
  const double count = net.counted + static_cast<double>(step) + 1.0, rate = turns[0], beta1 = turns[1];
  const bool corrects = net.kind == ADAM || net.kind == ADAMW;
  const double first = corrects ? 1.0 - std::pow(beta1, count) : 1.0, second = corrects ? 1.0 - std::pow(net.beta2, count) : 1.0;
  const auto real = [](double number) { return static_cast<float>(number); };
  return {net.kind,        real(rate),           real(held.decay),   real(beta1),       real(1.0 - beta1),
          real(net.beta2), real(1.0 - net.beta2), real(net.epsilon), real(rate / first), real(1.0 / std::sqrt(second))};
}

inline void set_rules(Network& net, int64_t step) {
  net.each_layer([&](Layer& layer) {
    for (auto* kind : {&layer.weights, &layer.biases, &layer.norm.factor, &layer.norm.shift})
      for (Held& held : *kind) held.rule = rule_of(net, held, step);
  });
}

inline void change_biases(const Layer& layer, int64_t output, const Clip& clip, float* sums) {
  clip(sums, PANEL);
  for (const Held& held : layer.biases)
    held.in_runs(output, std::min(output + PANEL, layer.outputs), [&](int64_t low, int64_t high) {
      held.change(held.line(low), sums + (low - output), high - low);
    });
  add_biases(layer, output);
}

// Adds the shares of some rows to the gradients of some weights: CHUNK by CHUNK, each of which is added up for itself.
inline void add_gradient(Grid inputs, Grid changes, int64_t start, int64_t end, int64_t count, float* gradient) {
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

// Writes 0 where a strip has gradients of weights that are not there, so that they stay 0.
inline void leave_out(const Layer& layer, int64_t output, int64_t first, int64_t end, float* gradient) {
  for (const Held& held : layer.weights)
    for (int64_t i = std::max(output, held.low); i < std::min(output + PANEL, held.high); ++i)
      for (int64_t input = std::max(first, held.begin); input < std::min(end, held.begin + held.count); ++input)
        gradient[(input - first) * PANEL + i - output] = 0.0f;
}

inline void change_strip(const Layer& layer, int64_t output, int64_t first, int64_t end, const Clip& clip, float* gradient) {
  clip(gradient, (end - first) * PANEL);
  for (const Held& held : layer.weights) {
    const int64_t low = std::max(first, held.begin), high = std::min(end, held.begin + held.count);
    if (low >= high) continue;
    float* const kept = held.first == nullptr ? nullptr : layer.panel(1, output, low);
    float* const second = held.second == nullptr ? nullptr : layer.panel(2, output, low);
    held.rule(layer.panel(0, output, low), kept, second, gradient + (low - first) * PANEL, (high - low) * PANEL);
  }
  turn(layer, output, first, end);
}

inline int64_t strips_of_panel(const Layer& layer) { return (layer.inputs + STRIP - 1) / STRIP; }
inline int64_t strips_of(const Layer& layer) { return layer.width / PANEL * strips_of_panel(layer); }

// Calls with the strips of a layer that are a lane's: a panel's first output, and the first and the end of some inputs.
template <typename Call>
void in_strips(const Layer& layer, int lane, int lanes, Call call) {
  const int64_t strips = strips_of(layer);
  const int64_t low = strips * lane / lanes, high = strips * (lane + 1) / lanes;
  for (int64_t output = 0, place = 0; output < layer.width; output += PANEL)
    for (int64_t first = 0; first < layer.inputs; first += STRIP, ++place)
      if (place >= low && place < high) call(output, first, std::min(first + STRIP, layer.inputs));
}

// Changes the weights of a strip and the biases of its panel, if it is the first of it; gradients may be changed.
inline void change(const Layer& layer, int64_t output, int64_t first, int64_t end, const Clip& clip, float* gradient, float* biases) {
  change_strip(layer, output, first, end, clip, gradient);
  if (!first) change_biases(layer, output, clip, biases);
}

// Keeps the gradients of a strip, and the sum of their squares.
inline void keep(Layer& layer, int64_t output, int64_t first, int64_t end, const float* gradient, const float* biases) {
  const int64_t count = (end - first) * PANEL;
  float* const kept = layer.gradient.at(output * layer.inputs + first * PANEL);
  if (kept != gradient) std::memcpy(kept, gradient, count * sizeof(float));
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += static_cast<double>(kept[i]) * static_cast<double>(kept[i]);
  layer.squares[output / PANEL * strips_of_panel(layer) + first / STRIP] = sum;
  if (!first) std::memcpy(layer.bias_gradient.at(output), biases, PANEL * sizeof(float));
}

inline double squares_of(const std::vector<Held>& kind, const float* gradient, int64_t outputs) {
  double sum = 0;
  for (const Held& held : kind)
    for (int64_t i = 0; i < outputs; ++i) sum += held.has(i) ? static_cast<double>(gradient[i]) * static_cast<double>(gradient[i]) : 0.0;
  return sum;
}

inline Held held_from(Reader& reader) {
  Held held;
  for (float** place : {&held.value, &held.first, &held.second}) *place = reinterpret_cast<float*>(reader.whole());
  held.group = reader.whole();
  held.decay = reader.real();
  for (int64_t* number : {&held.begin, &held.count, &held.low, &held.high}) *number = reader.whole();
  return held;
}

// A layer's sizes, its weights and the room for them. `taps`: places of a window, 0 without windows; `ends`: no gradient goes back
// beyond it, but to a hidden state.
inline Layer weights_from(Reader& reader, int64_t taps, bool ends) {
  Layer layer;
  layer.taps = std::max<int64_t>(taps, 1);
  layer.inputs = reader.whole();
  layer.outputs = reader.whole();
  layer.hidden = reader.whole();
  layer.cell = static_cast<Cell>(reader.whole());
  layer.activation = static_cast<Activation>(reader.whole());
  layer.leak = static_cast<float>(reader.real());
  const double dropout = reader.real();
  layer.grown = dropout == 0.0 ? 0.0f : static_cast<float>(1.0 / (1.0 - dropout));
  for (auto* kind : {&layer.weights, &layer.biases})
    for (int64_t left = reader.whole(); left > 0; --left) kind->push_back(held_from(reader));
  layer.width = padded(layer.outputs, PANEL);
  layer.stride = apart(layer.width);
  layer.deep = taps ? padded(layer.outputs, WIDTH) : layer.outputs;
  for (auto& panels : layer.panels) panels.make(layer.inputs * layer.width);
  layer.bias.make(layer.stride + layer.hidden);  // and a cell before the first step
  layer.back_from = layer.hidden && ends ? layer.inputs - layer.hidden : 0;
  layer.back_count = ends && !layer.hidden ? 0 : layer.inputs - layer.back_from;
  layer.back.make(padded(layer.back_count / layer.taps, PANEL) * layer.taps * layer.deep);
  return layer;
}

}  // namespace netwright
