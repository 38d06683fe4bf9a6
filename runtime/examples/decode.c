/* Decode samples from standard input, and print unit and sample of every discharge.
 *
 *   decode weights.bin UNITS CHANNELS DELAYS kernels scale < emg
 *
 * weights.bin lies in a bundle (a zip); kernels, scale and emg are raw float32, the first two from
 * its front/.
 */
#include <spikewire.h>
#include <stdio.h>
#include <stdlib.h>

static void *load(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) exit(2);
    *bytes = (size_t)ftell(file);
    rewind(file);
    void *data = malloc(*bytes + 1);
    if (!data || fread(data, 1, *bytes, file) != *bytes) exit(2);
    fclose(file);
    return data;
}

int main(int count, char **word) {
    const int units = count == 7 ? atoi(word[2]) : 0, channels = count == 7 ? atoi(word[3]) : 0;
    if (units < 1 || units > 256 || channels < 1 || channels > 1024) return 2;
    size_t bytes, unused;
    void *weights = load(word[1], &bytes);
    float *kernels = load(word[5], &unused), *scale = load(word[6], &unused);
    int32_t map[1024], lag[256] = {0}, position[256];
    float threshold[256], presence[256], emg[SPW_STEP * 1024];
    uint8_t counts[256];
    int64_t times[256], end = 0;
    for (int c = 0; c < channels; c++) map[c] = c;
    for (int u = 0; u < units; u++) threshold[u] = 0.5f;
    spw_config config = {.units = units, .inputs = units, .bin_start = 90, .input_scale = 1,
                         .source_channels = channels, .channels = channels, .channel_map = map,
                         .delays = atoi(word[4]), .kernels = kernels, .scale = scale,
                         .thresholds = threshold, .label_lag = lag, .refractory = 30};
    char error[200];
    spw_decoder *decoder = spw_open(&config, weights, bytes, error, sizeof error);
    if (!decoder) return fprintf(stderr, "%s\n", error), 2;
    while (fread(emg, sizeof(float) * channels, SPW_STEP, stdin) == SPW_STEP) {
        if (spw_step(decoder, emg, end += SPW_STEP, presence, position, counts, times))
            for (int u = 0; u < units; u++)
                if (counts[u]) printf("%d %lld\n", u, (long long)times[u]);
        spw_prepare(decoder); /* in the time until the next samples */
    }
    spw_close(decoder);
    free(scale), free(kernels), free(weights);
    return 0;
}
