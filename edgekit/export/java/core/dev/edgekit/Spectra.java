package dev.edgekit;

import java.util.Arrays;

/** Short-time features of a sound: one engine for Whisper's log-mel, Kaldi's filter bank, mel and MFCC. */
final class Spectra {
    private final AudioSpec.Spectrum spec;
    private final int rateHz;

    Spectra(AudioSpec.Spectrum spec, int rateHz) {
        this.spec = spec;
        this.rateHz = rateHz;
    }

    private int margin() {
        return spec.center.equals("none") ? 0 : spec.frameLength / 2;
    }

    private int frames(int total) {
        int frames = Math.max(0, 1 + Math.floorDiv(total + 2 * margin() - spec.frameLength, spec.hopLength));
        if (spec.dropLast && frames > 0) {
            frames--;
        }
        return spec.frames > 0 && spec.dynamicRange == 0.0 ? Math.min(frames, spec.frames) : frames;
    }

    /** Features of `samples` followed by zeros up to `total`, (frames, width), cut or extended to `spec.frames`. */
    float[][] features(float[] samples, int total) {
        int frames = frames(total);
        if (frames == 0) {
            int least = spec.frameLength + (spec.dropLast ? spec.hopLength : 0);
            throw new InputError("the sound is shorter than one window: expected at least " + least + " samples at "
                    + rateHz + " Hz, got " + total);
        }
        boolean mirrored = spec.center.equals("reflect") && total - samples.length <= margin();
        int live = mirrored
                ? frames
                : Math.min(frames, Math.floorDiv(samples.length + margin() - 1, spec.hopLength) + 1);
        float[][] values = energies(extended(samples, total, live), live);
        float silence = log(0f);
        float loudest = live < frames ? silence : Float.NEGATIVE_INFINITY;
        for (float[] row : values) {
            for (int i = 0; i < row.length; i++) {
                row[i] = log(row[i]);
                loudest = Math.max(loudest, row[i]);
            }
        }
        if (spec.dynamicRange > 0.0) {
            float lowest = loudest - (float) spec.dynamicRange;
            silence = Math.max(silence, lowest);
            for (float[] row : values) {
                for (int i = 0; i < row.length; i++) {
                    row[i] = Math.max(row[i], lowest);
                }
            }
        }
        values = extend(values, frames, spec.width(), silence);
        if (spec.cepstra > 0) {
            values = cepstra(values);
        }
        if (spec.frames > 0) {
            int width = spec.cepstra > 0 ? spec.cepstra : spec.width();
            values = extend(values, spec.frames, width, (float) spec.framePad);
        }
        for (float[] row : values) {
            for (int i = 0; i < row.length; i++) {
                row[i] = (row[i] - (float) spec.offset) * (float) (1.0 / spec.divisor);
            }
        }
        return values;
    }

    private static float[][] extend(float[][] values, int frames, int width, float fill) {
        float[][] made = Arrays.copyOf(values, frames);
        for (int i = values.length; i < frames; i++) {
            made[i] = new float[width];
            Arrays.fill(made[i], fill);
        }
        return made;
    }

    /** The stretch of samples that the live frames cover, margins included. */
    private double[] extended(float[] samples, int total, int live) {
        int margin = margin();
        int covered = (live - 1) * spec.hopLength + spec.frameLength;
        double[] stretch = new double[Math.max(covered, margin > 0 ? total + 2 * margin : covered)];
        int kept = Math.min(samples.length, stretch.length - margin);
        for (int i = 0; i < kept; i++) {
            stretch[margin + i] = samples[i];
        }
        if (spec.center.equals("reflect")) {
            int period = Math.max(2 * (total - 1), 1);
            for (int i = 0; i < margin; i++) {
                stretch[i] = stretch[margin + mirrored(i - margin, period, total)];
                int after = margin + total + i;
                if (after < stretch.length) {
                    stretch[after] = stretch[margin + mirrored(total + i, period, total)];
                }
            }
        }
        return stretch;
    }

    private static int mirrored(int index, int period, int total) {
        int at = Math.floorMod(index, period);
        return at < total ? at : period - at;
    }

    private float[][] energies(double[] signal, int count) {
        int length = spec.frameLength;
        double[] window = MelTables.window(spec.window, length);
        float[][] filters = spec.bands > 0 ? MelTables.filters(spec, rateHz) : null;
        double[] frame = new double[spec.fftLength];
        double[] powers = new double[spec.fftLength / 2 + 1];
        float[] power = new float[powers.length];
        Fft fft = new Fft(spec.fftLength);
        float[][] made = new float[count][];
        for (int f = 0; f < count; f++) {
            int start = f * spec.hopLength;
            double mean = 0.0;
            for (int i = 0; spec.removeDc && i < length; i++) {
                mean += signal[start + i];
            }
            mean = mean / length * (1.0 - spec.preemphasis);
            for (int i = length - 1; i >= 0; i--) {
                double before = i > 0 ? signal[start + i - 1] : signal[start];
                frame[i] = (signal[start + i] - spec.preemphasis * before - mean) * window[i];
            }
            fft.powers(frame, powers);
            for (int k = 0; k < power.length; k++) {
                float squared = (float) powers[k];
                if (spec.power == 1.0) {
                    squared = (float) Math.sqrt(squared);
                } else if (spec.power != 2.0) {
                    squared = (float) Math.pow(squared, (float) (spec.power / 2.0));
                }
                power[k] = squared;
            }
            made[f] = filters == null ? power.clone() : banded(filters, power);
        }
        return made;
    }

    private static float[] banded(float[][] filters, float[] power) {
        float[] bands = new float[filters.length];
        for (int b = 0; b < bands.length; b++) {
            double sum = 0.0;
            for (int k = 0; k < power.length; k++) {
                if (filters[b][k] != 0f) {
                    sum += (double) filters[b][k] * power[k];
                }
            }
            bands[b] = (float) sum;
        }
        return bands;
    }

    private float log(float energy) {
        float floor = (float) spec.floor;
        energy = spec.addFloor ? energy + floor : Math.max(energy, floor);
        switch (spec.log) {
            case "none":
                return energy;
            case "ln":
                return (float) Math.log(energy);
            case "log10":
                return (float) Math.log(energy) * (float) (1.0 / Math.log(10.0));
            default:
                return (float) Math.log(energy) * (float) ((spec.power == 1.0 ? 20.0 : 10.0) / Math.log(10.0));
        }
    }

    /** In float32 and in the order of summation of edgekit/preprocess/spectrum.py, which decides signs on silence. */
    private float[][] cepstra(float[][] values) {
        int bands = spec.width();
        int size = (bands + 7) / 8;
        float[][] table = MelTables.cosines(bands, spec.cepstra, spec.dctNorm);
        float[][] made = new float[values.length][spec.cepstra];
        float[] sums = new float[8];
        for (int f = 0; f < values.length; f++) {
            for (int k = 0; k < spec.cepstra; k++) {
                for (int part = 0; part < 8; part++) {
                    float sum = 0f;
                    for (int i = size - 1; i >= 0; i--) {
                        int band = part * size + i;
                        float product = band < bands ? values[f][band] * table[band][k] : 0f;
                        sum = i == size - 1 ? product : sum + product;
                    }
                    sums[part] = sum;
                }
                for (int half = 4; half >= 1; half /= 2) {
                    for (int i = 0; i < half; i++) {
                        sums[i] = sums[i] + sums[half + i];
                    }
                }
                made[f][k] = sums[0];
            }
        }
        return made;
    }
}
