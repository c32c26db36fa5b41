package dev.edgekit;

/** The tables of the features engine: windows, mel filters, cosines. Computed in float64. */
final class MelTables {
    private MelTables() {}

    static double[] window(String kind, int length) {
        boolean symmetric = kind.endsWith("_symmetric") || kind.equals("povey");
        int steps = symmetric ? length - 1 : length;
        double[] values = new double[length];
        for (int i = 0; i < length; i++) {
            double cosine = Math.cos(2.0 * Math.PI * i / steps);
            if (kind.equals("rectangular")) {
                values[i] = 1.0;
            } else if (kind.startsWith("hamming")) {
                values[i] = 0.54 - 0.46 * cosine;
            } else {
                values[i] = 0.5 - 0.5 * cosine;
            }
            if (kind.equals("povey")) { // Kaldi: the Hann window to the power 0.85
                values[i] = Math.pow(values[i], 0.85);
            }
        }
        return values;
    }

    private static double melOfHz(double hz, String scale) {
        if (scale.equals("slaney")) {
            return hz < 1000.0 ? hz * 3.0 / 200.0 : 15.0 + Math.log(hz / 1000.0) * (27.0 / Math.log(6.4));
        }
        return (scale.equals("kaldi") ? 1127.0 : 2595.0 / Math.log(10.0)) * Math.log1p(hz / 700.0);
    }

    private static double hzOfMel(double mel, String scale) {
        if (scale.equals("slaney")) {
            return mel < 15.0 ? mel * 200.0 / 3.0 : 1000.0 * Math.exp((mel - 15.0) * (Math.log(6.4) / 27.0));
        }
        return 700.0 * Math.expm1(mel / (scale.equals("kaldi") ? 1127.0 : 2595.0 / Math.log(10.0)));
    }

    /** The triangular filters, (bands, bins) in float32. */
    static float[][] filters(AudioSpec.Spectrum spec, int rateHz) {
        int bins = spec.fftLength / 2 + 1;
        double low = melOfHz(spec.lowHz, spec.melScale);
        double high = melOfHz(spec.highHz, spec.melScale);
        double[] cornersMel = new double[spec.bands + 2];
        double[] cornersHz = new double[spec.bands + 2];
        for (int i = 0; i < cornersMel.length; i++) {
            cornersMel[i] = i == spec.bands + 1 ? high : low + i * ((high - low) / (spec.bands + 1));
            cornersHz[i] = hzOfMel(cornersMel[i], spec.melScale);
        }
        double[] corners = spec.melTriangles ? cornersMel : cornersHz;
        float[][] filters = new float[spec.bands][bins];
        for (int k = 0; k < bins; k++) {
            double hz = k * ((double) rateHz / spec.fftLength);
            double bin = spec.melTriangles ? melOfHz(hz, spec.melScale) : hz;
            for (int b = 0; b < spec.bands; b++) {
                double rising = (bin - corners[b]) / (corners[b + 1] - corners[b]);
                double falling = (corners[b + 2] - bin) / (corners[b + 2] - corners[b + 1]);
                double weight = Math.max(0.0, Math.min(rising, falling));
                if (spec.slaneyNorm) {
                    weight *= 2.0 / (cornersHz[b + 2] - cornersHz[b]);
                }
                filters[b][k] = (float) weight;
            }
        }
        return filters;
    }

    /** The DCT-II as a matrix (bands, cepstra). */
    static float[][] cosines(int size, int count, String norm) {
        float[][] matrix = new float[size][count];
        for (int n = 0; n < size; n++) {
            for (int k = 0; k < count; k++) {
                double value = 2.0 * Math.cos(Math.PI * k * (2 * n + 1) / (2 * size));
                if (!norm.equals("none")) {
                    value /= Math.sqrt(2.0 * size);
                }
                if (norm.equals("ortho") && k == 0) {
                    value /= Math.sqrt(2.0);
                }
                matrix[n][k] = (float) value;
            }
        }
        return matrix;
    }
}
