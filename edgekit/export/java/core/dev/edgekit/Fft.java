package dev.edgekit;

/** Power spectra of real frames of any size: radix 2 where the size is a power of two, else Bluestein's convolution. */
final class Fft {
    private final int size;
    private final int inner;
    private final double[] chirpRe;
    private final double[] chirpIm;
    private final double[] kernelRe;
    private final double[] kernelIm;
    private final double[] cosines;
    private final double[] sines;
    private final double[] re;
    private final double[] im;

    Fft(int size) {
        this.size = size;
        boolean plain = Integer.bitCount(size) == 1;
        inner = plain ? size : Integer.highestOneBit(2 * size - 1) * 2;
        cosines = new double[Math.max(inner / 2, 1)];
        sines = new double[Math.max(inner / 2, 1)];
        for (int i = 0; i < inner / 2; i++) {
            cosines[i] = Math.cos(2 * Math.PI * i / inner);
            sines[i] = -Math.sin(2 * Math.PI * i / inner);
        }
        re = new double[inner];
        im = new double[inner];
        chirpRe = plain ? null : new double[size];
        chirpIm = plain ? null : new double[size];
        kernelRe = plain ? null : new double[inner];
        kernelIm = plain ? null : new double[inner];
        for (int n = 0; !plain && n < size; n++) {
            double angle = Math.PI * ((long) n * n % (2L * size)) / size; // n^2 modulo its period keeps the angle small
            chirpRe[n] = Math.cos(angle);
            chirpIm[n] = -Math.sin(angle);
            kernelRe[n] = chirpRe[n];
            kernelIm[n] = -chirpIm[n];
            if (n > 0) {
                kernelRe[inner - n] = kernelRe[n];
                kernelIm[inner - n] = kernelIm[n];
            }
        }
        if (!plain) {
            transform(kernelRe, kernelIm);
        }
    }

    /** |X[k]|^2 of `frame` (size numbers) for k = 0 to size / 2, into `powers`. */
    void powers(double[] frame, double[] powers) {
        java.util.Arrays.fill(re, 0.0);
        java.util.Arrays.fill(im, 0.0);
        if (chirpRe == null) {
            System.arraycopy(frame, 0, re, 0, size);
            transform(re, im);
            for (int k = 0; k < powers.length; k++) {
                powers[k] = re[k] * re[k] + im[k] * im[k];
            }
            return;
        }
        for (int n = 0; n < size; n++) {
            re[n] = frame[n] * chirpRe[n];
            im[n] = frame[n] * chirpIm[n];
        }
        transform(re, im);
        for (int i = 0; i < inner; i++) {
            double a = re[i] * kernelRe[i] - im[i] * kernelIm[i];
            im[i] = -(re[i] * kernelIm[i] + im[i] * kernelRe[i]); // conjugated: the next transform is the inverse one
            re[i] = a;
        }
        transform(re, im);
        for (int k = 0; k < powers.length; k++) {
            double a = re[k] / inner;
            double b = im[k] / inner;
            powers[k] = a * a + b * b; // the last chirp has magnitude 1
        }
    }

    /** In place, decimation in time. */
    private void transform(double[] a, double[] b) {
        for (int i = 1, j = 0; i < inner; i++) {
            int bit = inner >> 1;
            for (; (j & bit) != 0; bit >>= 1) {
                j ^= bit;
            }
            j ^= bit;
            if (i < j) {
                double swap = a[i];
                a[i] = a[j];
                a[j] = swap;
                swap = b[i];
                b[i] = b[j];
                b[j] = swap;
            }
        }
        for (int length = 2; length <= inner; length <<= 1) {
            int half = length / 2;
            int step = inner / length;
            for (int start = 0; start < inner; start += length) {
                for (int k = 0; k < half; k++) {
                    double c = cosines[k * step];
                    double s = sines[k * step];
                    int low = start + k;
                    int high = low + half;
                    double x = a[high] * c - b[high] * s;
                    double y = a[high] * s + b[high] * c;
                    a[high] = a[low] - x;
                    b[high] = b[low] - y;
                    a[low] += x;
                    b[low] += y;
                }
            }
        }
    }
}
