// Presences and positions of every ready step, as float32 on standard output: what the tests
// compare between processors.
//
//   replay FOLDER PRECISION CPU   (numbers of spikewire.h; the folder is made by the test)
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "../include/spikewire.h"

namespace {

template <class T>
std::vector<T> load(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    std::vector<T> made(bytes.size() / sizeof(T));
    if (!made.empty()) std::memcpy(made.data(), bytes.data(), made.size() * sizeof(T));
    return made;
}

} // namespace

int main(int count, char **word) {
    if (count != 4) return std::fprintf(stderr, "replay FOLDER PRECISION CPU\n"), 2;
    const std::string folder = std::string(word[1]) + "/";
    // units, inputs, bin_start, source channels, channels, delays, then the channel map
    const auto numbers = load<int32_t>(folder + "numbers");
    const auto kernels = load<float>(folder + "kernels"), scale = load<float>(folder + "scale");
    const auto weights = load<char>(folder + "weights.bin");
    const auto emg = load<float>(folder + "emg");
    if (numbers.size() < 7) return 2;
    const int32_t units = numbers[0];
    const std::vector<float> thresholds(units, 0.5f);
    const std::vector<int32_t> lag(units);
    spw_config config{};
    config.units = units;
    config.inputs = numbers[1];
    config.bin_start = numbers[2];
    config.source_channels = numbers[3];
    config.channels = numbers[4];
    config.delays = numbers[5];
    config.channel_map = numbers.data() + 6;
    config.input_scale = 1;
    config.kernels = kernels.data();
    config.scale = scale.data();
    config.thresholds = thresholds.data();
    config.label_lag = lag.data();
    config.precision = static_cast<spw_precision>(std::atoi(word[2]));
    config.cpu = static_cast<spw_cpu>(std::atoi(word[3]));
    char error[200];
    spw_decoder *d = spw_open(&config, weights.data(), weights.size(), error, sizeof error);
    if (!d) return std::fprintf(stderr, "%s\n", error), 2;
    std::fprintf(stderr, "%s\n", spw_cpu_name(d));
    std::vector<float> out(2 * units);
    std::vector<int32_t> position(units);
    const size_t step = static_cast<size_t>(SPW_STEP) * config.source_channels;
    for (size_t at = 0; at + step <= emg.size(); at += step) {
        spw_advance(d, emg.data() + at);
        if (!spw_ready(d)) continue;
        spw_decode(d, out.data(), position.data());
        spw_prepare(d);
        std::copy(position.begin(), position.end(), out.begin() + units);
        std::fwrite(out.data(), sizeof(float), out.size(), stdout);
    }
    spw_close(d);
    return 0;
}
