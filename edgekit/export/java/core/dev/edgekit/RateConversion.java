package dev.edgekit;

/**
 * Change of sampling rate by a polyphase windowed sinc: output n is the sum over m of x[m] h(n / up * down - m) with
 * h(t) = c sinc(c t) kaiser(t / reach); c = rolloff * min(1, up / down).
 */
final class RateConversion {
    private static final int LARGEST_PLAN = 1 << 22;
    private static final int KAISER_STEPS = 1 << 14;

    private RateConversion() {}

    static float[] resample(float[] samples, int fromHz, int toHz, AudioSpec spec) {
        if (fromHz == toHz) {
            return samples;
        }
        int common = gcd(fromHz, toHz);
        int up = toHz / common;
        int down = fromHz / common;
        double cutoff = spec.rolloff * Math.min(1.0, (double) up / down);
        int reach = (int) Math.ceil(spec.zeros / cutoff);
        int width = 2 * reach + 2;
        if ((long) up * (2 * reach + 1) > LARGEST_PLAN) {
            throw new InputError("cannot resample " + fromHz + " Hz to " + toHz + " Hz: the ratio " + up + "/" + down
                    + " needs too many coefficients; record at a usual rate");
        }
        double[] kaiser = kaiser(spec.beta);
        float[][] phases = new float[up][];
        int count = Math.toIntExact(((long) samples.length * up + down - 1) / down);
        float[] made = new float[count];
        for (int n = 0; n < count; n++) {
            long center = (long) n * down;
            int base = (int) (center / up);
            int phase = (int) (center % up);
            if (phases[phase] == null) {
                phases[phase] = taps(phase, up, cutoff, reach, width, spec.zeros, kaiser);
            }
            float[] taps = phases[phase];
            int first = base - reach;
            double sum = 0.0;
            int stop = Math.min(width, samples.length - first);
            for (int i = Math.max(0, -first); i < stop; i++) {
                sum += (double) samples[first + i] * taps[i];
            }
            made[n] = (float) sum;
        }
        return made;
    }

    private static int gcd(int a, int b) {
        return b == 0 ? a : gcd(b, a % b);
    }

    private static float[] taps(int phase, int up, double cutoff, int reach, int width, int zeros, double[] kaiser) {
        float[] taps = new float[width];
        for (int i = 0; i < width; i++) {
            double distance = cutoff * ((double) (phase - (long) (i - reach) * up) / up);
            double place = Math.min(Math.abs(distance) / zeros, 1.0) * KAISER_STEPS;
            int before = (int) place;
            double height = kaiser[before] * (1.0 - (place - before)) + kaiser[before + 1] * (place - before);
            double x = Math.PI * (distance == 0.0 ? 1.0e-20 : distance);
            taps[i] = (float) (cutoff * (Math.sin(x) / x) * height);
        }
        return taps;
    }

    /** Right half of the Kaiser window I0(beta sqrt(1 - u^2)) / I0(beta), then two zeros. */
    private static double[] kaiser(double beta) {
        double[] window = new double[KAISER_STEPS + 2];
        for (int i = 0; i < KAISER_STEPS; i++) {
            double u = (double) i / KAISER_STEPS;
            window[i] = bessel(beta * Math.sqrt(1.0 - u * u)) / bessel(beta);
        }
        return window;
    }

    /** I0 by its power series, sum ((x / 2)^k / k!)^2. */
    private static double bessel(double x) {
        double term = 1.0;
        double sum = 1.0;
        for (int k = 1; term > sum * 1e-18; k++) {
            double factor = x / 2 / k;
            term *= factor * factor;
            sum += term;
        }
        return sum;
    }
}
