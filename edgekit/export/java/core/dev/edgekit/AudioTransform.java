package dev.edgekit;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** From a sound to the tensors that the flow starts with. */
final class AudioTransform {
    private AudioTransform() {}

    static Map<String, Tensor> transform(AudioSpec spec, Sound sound, Manifest.Limits limits) {
        if (sound.channels > limits.audioChannels) {
            throw new InputError("audio: expected 1 to " + limits.audioChannels + " channels, got " + sound.channels);
        }
        if (sound.frames() > limits.audioSeconds * sound.rateHz) {
            throw new InputError("audio: expected at most " + limits.audioSeconds + " seconds");
        }
        float[] samples = RateConversion.resample(sound.oneChannel(spec), sound.rateHz, spec.rateHz, spec);
        if (spec.windows == null) {
            return window(spec, samples);
        }
        List<Map<String, Tensor>> rows = new ArrayList<>();
        for (float[] row : cut(spec.windows, samples)) {
            rows.add(window(spec, row));
        }
        Map<String, Tensor> joined = new LinkedHashMap<>();
        for (String name : rows.get(0).keySet()) {
            List<Tensor> parts = new ArrayList<>();
            for (Map<String, Tensor> row : rows) {
                parts.add(row.get(name));
            }
            joined.put(name, Tensor.join(parts, spec.shape[0] != 1));
        }
        return joined;
    }

    private static List<float[]> cut(AudioSpec.Windows windows, float[] samples) {
        int total = samples.length + windows.lead;
        int beyond = total - windows.samples;
        int count = 1 + (windows.drop
                ? Math.floorDiv(beyond, windows.hop)
                : (Math.max(beyond, 0) + windows.hop - 1) / windows.hop);
        if (count < 1) {
            throw new InputError("the sound is shorter than one window: expected at least "
                    + (windows.samples - windows.lead) + " samples, got " + samples.length);
        }
        List<float[]> rows = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            float[] row = new float[windows.samples];
            int start = i * windows.hop - windows.lead;
            int from = Math.max(start, 0);
            int until = Math.min(start + windows.samples, samples.length);
            if (until > from) {
                System.arraycopy(samples, from, row, from - start, until - from);
            }
            rows.add(row);
        }
        return rows;
    }

    private static Map<String, Tensor> window(AudioSpec spec, float[] samples) {
        samples = normalized(spec, trimmed(spec.length, samples));
        int[] real = {samples.length};
        if (spec.features == null) {
            float[] values = padded(spec.length, samples, real);
            return named(spec, values, values.length, real[0]);
        }
        int total = samples.length;
        if (spec.length != null) {
            if (!spec.length.pad.equals("zero")) {
                samples = padded(spec.length, samples, real);
            }
            total = Math.max(total, spec.length.samples);
        }
        float[][] values = new Spectra(spec.features, spec.rateHz).features(samples, total);
        int frames = values.length;
        int width = values[0].length;
        float[] flat = new float[frames * width];
        boolean bandsFirst = spec.layout.equals("bands_frames");
        for (int f = 0; f < frames; f++) {
            for (int b = 0; b < width; b++) {
                flat[bandsFirst ? b * frames + f : f * width + b] = values[f][b];
            }
        }
        return named(spec, flat, frames, (samples.length + spec.features.hopLength - 1) / spec.features.hopLength);
    }

    private static float[] trimmed(AudioSpec.Length length, float[] samples) {
        if (length == null || samples.length <= length.samples) {
            return samples;
        }
        if (length.trim.equals("none")) {
            throw new InputError("the sound is too long: expected at most " + length.samples + " samples, got "
                    + samples.length);
        }
        int start = length.trim.equals("center") ? (samples.length - length.samples) / 2 : 0;
        return Arrays.copyOfRange(samples, start, start + length.samples);
    }

    private static float[] normalized(AudioSpec spec, float[] samples) {
        float[] made = new float[samples.length];
        if (spec.normalize.equals("zero_mean_unit_variance")) {
            double sum = 0.0;
            for (float sample : samples) {
                sum += sample;
            }
            double mean = sum / samples.length;
            double squares = 0.0;
            for (float sample : samples) {
                squares += (sample - mean) * (sample - mean);
            }
            float deviation = (float) Math.sqrt((float) (squares / samples.length) + (float) spec.epsilon);
            for (int i = 0; i < made.length; i++) {
                made[i] = (samples[i] - (float) mean) / deviation;
            }
            return made;
        }
        if (spec.normalize.equals("peak")) {
            float peak = Float.NEGATIVE_INFINITY;
            for (float sample : samples) {
                peak = Math.max(peak, sample);
            }
            for (int i = 0; peak > spec.epsilon && i < made.length; i++) {
                made[i] = samples[i] / peak;
            }
            return peak > spec.epsilon ? made : samples;
        }
        return samples;
    }

    /** The samples at their full length; real[0] becomes how many of them count as real. */
    private static float[] padded(AudioSpec.Length length, float[] samples, int[] real) {
        real[0] = samples.length;
        if (length == null || samples.length == length.samples) {
            return samples;
        }
        float[] made = new float[length.samples];
        switch (length.pad) {
            case "none":
                throw new InputError("the sound is too short: expected at least " + length.samples + " samples, got "
                        + samples.length);
            case "wrap":
                real[0] = length.samples;
                break;
            case "repeat":
                real[0] = samples.length * (length.samples / samples.length);
                break;
            default:
        }
        for (int i = 0; i < real[0]; i++) {
            made[i] = samples[i % samples.length];
        }
        return made;
    }

    private static Map<String, Tensor> named(AudioSpec spec, float[] values, int count, int real) {
        Map<String, Tensor> tensors = new LinkedHashMap<>();
        tensors.put(spec.value, shaped(spec, values));
        if (spec.mask != null) {
            long[] mask = new long[count];
            Arrays.fill(mask, 0, Math.min(real, count), 1L);
            tensors.put(spec.mask, Tensor.of(mask, 1, count));
        }
        return tensors;
    }

    private static Tensor shaped(AudioSpec spec, float[] values) {
        int fixed = 1;
        int free = -1;
        for (int i = 0; i < spec.shape.length; i++) {
            fixed *= Math.abs(spec.shape[i]);
            free = spec.shape[i] == -1 ? i : free;
        }
        boolean fits = free >= 0 ? values.length % fixed == 0 && values.length > 0 : values.length == fixed;
        if (!fits) {
            throw new InputError("'" + spec.value + "': expected a tensor of shape " + Arrays.toString(spec.shape)
                    + ", the sound gives " + values.length + " values");
        }
        int[] shape = spec.shape.clone();
        if (free >= 0) {
            shape[free] = values.length / fixed;
        }
        return new Tensor(spec.datatype, shape, typed(spec, values));
    }

    private static Object typed(AudioSpec spec, float[] values) {
        if (spec.quantization != null) {
            return spec.quantization.rounding.equals("trunc")
                    ? spec.quantization.quantizeExactly(values, spec.datatype)
                    : spec.quantization.quantize(values, spec.datatype);
        }
        if (spec.datatype.equals("FP32")) {
            return values;
        }
        Object whole = Tensor.array(spec.datatype, values.length);
        for (int i = 0; i < values.length; i++) {
            Tensor.put(whole, i, Quantization.saturated(Math.rint(values[i]), spec.datatype));
        }
        return whole;
    }
}
