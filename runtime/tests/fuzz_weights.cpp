// Fuzz target: any bytes as weights.bin, with arrays of what their header claims. libFuzzer finds
// its entry here; built with SPW_FUZZ_MAIN the program damages files by itself for some seconds.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

#include "../include/spikewire.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > (size_t{1} << 22)) return 0;
    uint32_t words[14] = {};
    if (size >= 64) std::memcpy(words, data + 8, sizeof words);
    const auto clipped = [](uint32_t value) { return static_cast<int32_t>(value & 1023); };
    const int32_t inputs = clipped(words[0]), units = clipped(words[1]);
    const bool front = words[9] & 4;
    const int32_t channels = front ? 3 : inputs ? inputs : 1, delays = front ? 2 : 0;
    std::vector<int32_t> map(channels), lag(1024), position(1024);
    std::vector<float> kernels(static_cast<size_t>(6) * 1024, 0.5f), scale(1024, 1.0f);
    std::vector<float> thresholds(1024, 0.5f), presence(1024);
    std::vector<float> emg(20 * static_cast<size_t>(channels));
    std::vector<uint8_t> counts(1024);
    std::vector<int64_t> times(1024);
    for (int c = 0; c < channels; c++) map[c] = c;
    spw_config config{};
    config.units = units;
    config.inputs = inputs;
    config.bin_start = static_cast<int32_t>(words[8] & 127);
    config.source_channels = config.channels = channels;
    config.channel_map = map.data();
    config.input_scale = 1;
    config.delays = delays;
    config.kernels = kernels.data();
    config.scale = scale.data();
    config.thresholds = thresholds.data();
    config.label_lag = lag.data();
    config.precision = static_cast<spw_precision>(size / 4 % 4);
    char error[200];
    spw_decoder *d = spw_open(&config, data, size, error, sizeof error);
    if (!d) return 0;
    for (int k = 0; k < 10; k++) {
        for (float &x : emg) x = static_cast<float>(k - 5);
        spw_step(d, emg.data(), 20 * k, presence.data(), position.data(), counts.data(),
                 times.data());
        if (k % 2) spw_prepare(d);
        if (k == 8) spw_set_front(d, kernels.data(), scale.data());
        if (k == 8) spw_mask(d, counts.data());
    }
    spw_decode_full(d, presence.data(), position.data());
    spw_reset(d);
    spw_step(d, emg.data(), 0, presence.data(), position.data(), counts.data(), times.data());
    spw_close(d);
    return 0;
}

#if defined(SPW_FUZZ_MAIN)
int main(int count, char **word) {
    if (count < 3) return std::fprintf(stderr, "fuzz_weights SECONDS FILE...\n"), 2;
    std::vector<std::vector<uint8_t>> seeds;
    for (int k = 2; k < count; k++) {
        std::ifstream file(word[k], std::ios::binary);
        seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
        if (seeds.back().size() < 64) return std::fprintf(stderr, "%s: no weights\n", word[k]), 2;
    }
    std::mt19937 rng(1);
    const std::time_t until = std::time(nullptr) + std::atoi(word[1]);
    long tried = 0;
    const uint32_t edges[] = {0,   1,    2,    20,         21,         255,
                              256, 1024, 1025, 0x7fffffff, 0x80000000, 0xffffffff};
    for (; std::time(nullptr) < until; tried++) {
        std::vector<uint8_t> data = seeds[rng() % seeds.size()];
        for (int n = rng() % 4; n >= 0; n--) {
            const uint32_t word_at = rng() % 14, what = rng() % 5;
            const uint32_t value = what ? edges[rng() % 12] : rng();
            if (what < 3)
                std::memcpy(&data[8 + 4 * word_at], &value, 4);
            else if (what == 3)
                data[rng() % data.size()] ^= static_cast<uint8_t>(1 << rng() % 8);
            else
                data.resize(64 + rng() % data.size());
        }
        // A header that fits its bytes is rare by chance: now and then the bytes are made to fit.
        if (rng() % 3 == 0) data.resize(data.size() + 4 * (rng() % 64));
        LLVMFuzzerTestOneInput(data.data(), data.size());
    }
    std::printf("%ld inputs, none crashed\n", tried);
    return 0;
}
#endif
