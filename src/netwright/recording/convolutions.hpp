// Convolutions for dense.cpp, forward and back, row by row of a batch.
#pragma once

#include "norms.hpp"

namespace netwright {

// Writes a picture of torch's, channel after channel, where a convolution reads it.
inline void frame(const Convolution& conv, const float* from, int64_t row) {
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
  const int64_t wide = conv.wide;
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

inline void pool(Convolution& conv, const Bench& bench, int64_t row, float* to, int64_t pitch) {
  const int64_t outputs = conv.layer.outputs, wide = conv.wide;
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

// Keeps the mean of each window's outputs.
inline void average(const Convolution& conv, const Bench& bench, float* to, int64_t pitch) {
  const float share = 1.0f / static_cast<float>(conv.pool[0] * conv.pool[1]);
  for (int64_t y = 0; y < conv.kept[0]; ++y)
    for (int64_t x = 0; x < conv.kept[1]; ++x) {
      float* const mean = to + y * pitch + x * conv.layer.outputs;
      std::fill_n(mean, conv.layer.outputs, 0.0f);
      for (int64_t line = y * conv.pool[0]; line < (y + 1) * conv.pool[0]; ++line)
        for (int64_t column = x * conv.pool[1]; column < (x + 1) * conv.pool[1]; ++column) {
          const float* value = bench.values.at((line * conv.seen[1] + column) * conv.wide);
          for (int64_t i = 0; i < conv.layer.outputs; ++i) mean[i] += value[i];
        }
      for (int64_t i = 0; i < conv.layer.outputs; ++i) mean[i] *= share;
    }
}

// Multiplies windows of a picture with panels: out[window][n] = bias[n] + ...
inline void multiply_windows(const float* picture, const std::vector<int64_t>& windows, const Convolution& conv, int64_t pitch, int64_t depth, const float* panels, const float* bias, int64_t outputs, Grid out) {
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

// Drops some of what is kept; slopes change with it, by which its gradient will be multiplied. `kept`: one for each channel and place of
// torch's, or for each channel.
inline void drop(const Convolution& conv, const uint8_t* kept, int64_t row, float* to, int64_t pitch) {
  const int64_t outputs = conv.layer.outputs, places = conv.kept[0] * conv.kept[1];
  float* const slopes = conv.slopes.at(row * conv.slopes_of_row());
  for (int64_t y = 0; y < conv.kept[0]; ++y)
    for (int64_t x = 0; x < conv.kept[1]; ++x)
      for (int64_t i = 0; i < outputs; ++i) {
        const int64_t place = y * conv.kept[1] + x;
        const float factor = kept[conv.by_channel ? i : i * places + place] ? conv.layer.grown : 0.0f;
        to[y * pitch + x * outputs + i] *= factor;
        if (!conv.averages) {
          slopes[place * outputs + i] *= factor;
          continue;
        }
        for (int64_t line = y * conv.pool[0]; line < (y + 1) * conv.pool[0]; ++line)
          for (int64_t column = x * conv.pool[1]; column < (x + 1) * conv.pool[1]; ++column)
            slopes[(line * conv.seen[1] + column) * conv.wide + i] *= factor;
      }
}

// Writes what a convolution sends on for a row: normalised, activated, pooled, and some of it dropped.
inline void send_on(Network& net, size_t number, int lane, int64_t row, int64_t step) {
  Convolution& conv = net.convolutions[number];
  const Layer& layer = conv.layer;
  const Bench& bench = net.benches[lane];
  const int64_t places = conv.seen[0] * conv.seen[1];
  if (layer.norm.there) normalise(layer.norm, lane, conv.raw(row), places, {bench.values.at(), conv.wide});
  float* const slopes = conv.averages ? conv.slopes.at(row * conv.slopes_of_row()) : bench.slopes.at();
  activate(layer.activation, layer.leak, bench.values.at(), slopes, places * conv.wide);
  const bool last = number + 1 == net.convolutions.size();
  float* const to = last ? net.input.at(row * net.input_stride) : net.convolutions[number + 1].inside(row);
  const int64_t pitch = last ? conv.kept[1] * layer.outputs : net.convolutions[number + 1].frame_pitch;
  if (conv.averages) average(conv, bench, to, pitch);
  else pool(conv, bench, row, to, pitch);
  if (conv.dropping()) drop(conv, net.kept_of(step, layer) + row * conv.dropping(), row, to, pitch);
}

// Takes the rows of a lane through all convolutions: each through as many as there are up to one whose outputs are normalised, which
// waits for all rows of the batch.
inline void convolve(Network& net, int lane, int64_t first, int64_t end, int64_t step, const Meeting& wait) {
  const size_t count = net.convolutions.size();
  for (size_t begin = 0, number; begin < count; begin = number) {
    for (number = begin + 1; number < count && !net.convolutions[number - 1].layer.norm.there;) ++number;
    Convolution& last = net.convolutions[number - 1];
    Norm& norm = last.layer.norm;
    const int64_t places = last.seen[0] * last.seen[1];
    net.each_part(first, end, [&](int64_t part, int64_t start, int64_t stop) {
      for (int64_t row = start; row < stop; ++row) {
        if (begin) send_on(net, begin - 1, lane, row, step);
        for (size_t each = begin; each < number; ++each) {
          const Convolution& conv = net.convolutions[each];
          const Grid out = conv.layer.norm.there ? conv.raw(row) : Grid{net.benches[lane].values.at(), conv.wide};
          multiply_windows(conv.frames.at(row * conv.frame), conv.windows, conv, conv.frame_pitch, conv.kernel[1] * conv.channels,
                           conv.layer.panels[0].at(), conv.layer.bias.at(), conv.layer.outputs, out);
          if (!conv.layer.norm.there) send_on(net, each, lane, row, step);
        }
        if (norm.there) collect(norm, part, (row - start) * places, last.raw(row), places);
      }
    });
    if (!norm.there) return;
    wait();
    settle(norm, last.layer, lane, net.parts(), [&](int64_t part) { return places * net.rows_in(part); });
  }
  for (int64_t row = first; row < end; ++row) send_on(net, count - 1, lane, row, step);
}

// Adds the share of a row to the gradients of a convolution; `change` is the gradient of its outputs.
inline void add_share(const Convolution& conv, const float* change, int64_t row, float* share) {
  const Layer& layer = conv.layer;
  const Picture x{conv.frames.at(row * conv.frame), conv.frame_pitch, conv.channels};
  for (int64_t n = 0; n < layer.width; n += PANEL) {
    const Picture d{change + conv.change_first + n, conv.change_pitch, conv.wide};
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
  if (layer.norm.there) return;  // a mean is taken off again: its bias has no gradient
  float* const biases = share + layer.inputs * layer.width;
  for (int64_t n = 0; n < conv.wide; n += WIDTH) {
    Vector sum{};
    for (int64_t y = 0; y < conv.seen[0]; ++y) {
      const float* from = change + conv.change_first + y * conv.change_pitch + n;
      for (int64_t x = 0; x < conv.seen[1]; ++x) sum += read<Vector>(from + x * conv.wide);
    }
    vector_at(biases + n) += sum;
  }
}

// Writes the gradient of what a convolution gave for a row before its activation, from that of what it sent on.
inline void spread(const Convolution& conv, int64_t row, Grid given, float* change) {
  const int64_t outputs = conv.layer.outputs;
  const float* slopes = conv.slopes.at(row * conv.slopes_of_row());
  std::memset(change, 0, conv.change * sizeof(float));
  if (!conv.averages) {
    const int32_t* places = conv.places.data() + row * conv.numbers();
    for (int64_t kept = 0; kept < conv.kept[0] * conv.kept[1]; ++kept, slopes += outputs, places += outputs) {
      const float* from = given.row(kept);
      for (int64_t i = 0; i < outputs; ++i) change[places[i] + i] = from[i] * slopes[i];
    }
    return;
  }
  const float share = 1.0f / static_cast<float>(conv.pool[0] * conv.pool[1]);
  for (int64_t y = 0; y < conv.kept[0] * conv.pool[0]; ++y)
    for (int64_t x = 0; x < conv.kept[1] * conv.pool[1]; ++x) {
      const float *from = given.row(y / conv.pool[0] * conv.kept[1] + x / conv.pool[1]), *slope = slopes + (y * conv.seen[1] + x) * conv.wide;
      float* to = change + conv.change_first + y * conv.change_pitch + x * conv.wide;
      for (int64_t i = 0; i < outputs; ++i) to[i] = from[i] * share * slope[i];
    }
}

// Calls with lines of what was normalised and of its gradient, and the places of a line.
template <typename Call>
void in_lines(const Convolution& conv, int64_t row, float* change, Call call) {
  const Grid raw = conv.raw(row);
  for (int64_t y = 0; y < conv.seen[0]; ++y)
    call(Grid{raw.row(y * conv.seen[1]), conv.wide}, Grid{change + conv.change_first + y * conv.change_pitch, conv.wide}, y);
}

struct Turn {  // of one row of the batch, on its way back
  int lane;
  int64_t part, row;
  bool begins;  // whether it is the first of its part
};

inline Grid given_for(const Network& net, size_t number, const Turn& turn) {  // the gradient of what a convolution sent on
  const Convolution& conv = net.convolutions[number];
  if (number + 1 == net.convolutions.size()) return {net.changes.at(turn.row * net.input_stride), conv.layer.outputs};
  return conv.layer.norm.there ? conv.given_to(turn.row) : Grid{net.benches[turn.lane].before.at(), conv.wide};
}

// Adds the gradient of normalised outputs to the sums that all rows wait for.
inline void collect_picture_back(Network& net, size_t number, const Turn& turn) {
  Convolution& conv = net.convolutions[number];
  float* const change = net.benches[turn.lane].change.at();
  spread(conv, turn.row, given_for(net, number, turn), change);
  in_lines(conv, turn.row, change, [&](Grid raw, Grid line, int64_t y) {
    collect_back(conv.layer.norm, turn.lane, turn.part, turn.begins && !y, raw, line, conv.seen[1]);
  });
}

// Takes the gradient of what a convolution sent on for a row back: up to the first, or to one whose outputs were normalised.
inline void convolve_row_back(Network& net, size_t number, const Turn& turn) {
  float* const change = net.benches[turn.lane].change.at();
  while (true) {
    const Convolution& conv = net.convolutions[number];
    spread(conv, turn.row, given_for(net, number, turn), change);
    if (conv.layer.norm.there)
      in_lines(conv, turn.row, change, [&](Grid raw, Grid line, int64_t) {
        normalise_back(conv.layer.norm, turn.lane, raw, conv.seen[1], line);
      });
    add_share(conv, change, turn.row, conv.share(turn.part));
    if (!number) return;
    --number;
    multiply_windows(change, conv.turned, conv, conv.change_pitch, conv.kernel[1] * conv.wide, conv.layer.back.at(),
                     net.zeros.at(), conv.channels, given_for(net, number, turn));
    if (net.convolutions[number].layer.norm.there) return collect_picture_back(net, number, turn);
  }
}

// Takes the gradient of what the last convolution sent on back through all of them.
inline void convolve_back(Network& net, int lane, int64_t first, int64_t end, const Meeting& wait) {
  const auto each_row = [&](auto call) {
    net.each_part(first, end, [&](int64_t part, int64_t start, int64_t stop) {
      for (int64_t row = start; row < stop; ++row) call(Turn{lane, part, row, row == start});
    });
  };
  net.each_part(first, end, [&](int64_t part, int64_t, int64_t) {
    for (const Convolution& conv : net.convolutions)
      std::memset(conv.share(part), 0, (conv.layer.inputs + 1) * conv.layer.width * sizeof(float));
  });
  size_t number = net.convolutions.size() - 1;
  if (net.convolutions[number].layer.norm.there) each_row([&](const Turn& turn) { collect_picture_back(net, number, turn); });
  while (true) {
    Convolution& conv = net.convolutions[number];
    if (conv.layer.norm.there) {
      wait();
      settle_back(conv.layer.norm, conv.layer, lane, net.parts(), net.batch * conv.seen[0] * conv.seen[1]);
    }
    each_row([&](const Turn& turn) { convolve_row_back(net, number, turn); });
    do {
      if (!number) return;
      --number;
    } while (!net.convolutions[number].layer.norm.there);
  }
}

// Calls with gradients of the weights of a convolution that are this lane's, and of its biases: one for each part of the batch lies there.
template <typename Use>
void with_gradients(const Network& net, const Convolution& conv, int lane, int lanes, Use use) {
  const Layer& layer = conv.layer;
  const int64_t parts = net.parts();
  alignas(64) float sums[STRIP * PANEL], biases[PANEL];
  const auto add = [&](int64_t place, int64_t count, float* to) {
    std::memcpy(to, conv.share(0) + place, count * sizeof(float));
    for (int64_t part = 1; part < parts; ++part) {
      const float* from = conv.share(part) + place;
      for (int64_t i = 0; i < count; ++i) to[i] += from[i];
    }
  };
  in_strips(layer, lane, lanes, [&](int64_t output, int64_t first, int64_t end) {
    add(output * layer.inputs + first * PANEL, (end - first) * PANEL, sums);
    if (!first) add(layer.inputs * layer.width + output, PANEL, biases);
    use(output, first, end, sums, biases);
  });
}

inline Convolution convolution_from(Reader& reader, const Network& net, bool first, int lanes) {
  Convolution conv;
  conv.channels = reader.whole();
  for (auto* pair : {conv.kernel, conv.border, conv.size, conv.pool})
    for (int axis = 0; axis < 2; ++axis) pair[axis] = reader.whole();
  for (bool* flag : {&conv.averages, &conv.by_channel}) *flag = reader.whole();
  const int64_t taps = conv.kernel[0] * conv.kernel[1];
  conv.layer = weights_from(reader, taps, first);
  const Layer& layer = conv.layer;
  conv.wide = padded(layer.outputs, WIDTH);
  int64_t around[2];
  for (int axis = 0; axis < 2; ++axis) {
    conv.seen[axis] = conv.size[axis] + 2 * conv.border[axis] - conv.kernel[axis] + 1;
    conv.kept[axis] = conv.seen[axis] / conv.pool[axis];
    around[axis] = conv.kernel[axis] - 1 - conv.border[axis];
  }
  conv.frame_pitch = (conv.size[1] + 2 * conv.border[1]) * conv.channels;
  conv.frame = padded((conv.size[0] + 2 * conv.border[0]) * conv.frame_pitch, 16);
  conv.change_pitch = (conv.seen[1] + 2 * around[1]) * conv.wide;
  conv.change = (conv.seen[0] + 2 * around[0]) * conv.change_pitch;
  conv.change_first = around[0] * conv.change_pitch + around[1] * conv.wide;
  conv.frames.make(net.most * conv.frame);
  conv.slopes.make(net.most * conv.slopes_of_row());
  if (!conv.averages) conv.places.resize(net.most * conv.numbers());
  conv.shares.make(net.most_parts() * (layer.inputs + 1) * layer.width);
  conv.layer.norm = norm_from(reader, layer.outputs, net.most * conv.seen[0] * conv.seen[1], net.most_parts(), lanes);
  for (int64_t y = 0; y < conv.seen[0]; ++y)
    for (int64_t x = 0; x < conv.seen[1]; ++x) conv.windows.push_back(y * conv.frame_pitch + x * conv.channels);
  for (int64_t y = 0; y < conv.size[0]; ++y)
    for (int64_t x = 0; x < conv.size[1]; ++x) conv.turned.push_back(y * conv.change_pitch + x * conv.wide);
  for (int64_t tap = 0; tap < taps; ++tap)
    for (int64_t channel = 0; channel < conv.channels; ++channel)
      conv.inputs.push_back(tap / conv.kernel[1] * conv.frame_pitch + tap % conv.kernel[1] * conv.channels + channel);
  for (int64_t channel = 0; channel < conv.channels; ++channel)
    for (int64_t tap = 0; tap < taps; ++tap) conv.layer.order.push_back(tap * conv.channels + channel);
  return conv;
}

// Makes the room that lanes need for convolutions; the first layer behind them reads channels last.
inline void make_benches(Network& net, int lanes) {
  int64_t seen = 0, change = 0, before = 0, widest = 0;
  for (Convolution& conv : net.convolutions) {
    if (conv.layer.norm.there && &conv != &net.convolutions.back()) conv.given.make(net.most * conv.kept[0] * conv.kept[1] * conv.wide);
    seen = std::max(seen, conv.seen[0] * conv.seen[1] * conv.wide);
    change = std::max(change, conv.change);
    if (&conv == &net.convolutions[0]) continue;  // no gradient goes back beyond it
    before = std::max(before, conv.size[0] * conv.size[1] * padded(conv.channels, WIDTH));
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

}  // namespace netwright
