package dev.edgekit;

/**
 * Scaling of pictures. `pillow` is Pillow's Resample.c to the bit: 22-bit fixed point, levels rounded between the two passes,
 * rows first unless the height shrinks by more than twice what the width does (Pillow 13). `matrix` is float32 without
 * rounding between.
 */
final class Resampling {
    private static final int PRECISION_BITS = 32 - 8 - 2;

    private Resampling() {}

    /** Per output: the first input, and the weights from there on. */
    private static final class Weights {
        final int[] first;
        final double[][] values;

        Weights(int count) {
            first = new int[count];
            values = new double[count][];
        }
    }

    private static double support(String filter) {
        switch (filter) {
            case "box":
                return 0.5;
            case "bilinear":
            case "hamming":
                return 1.0;
            case "bicubic":
                return 2.0;
            default:
                return 3.0;
        }
    }

    private static double sinc(double x) {
        return x == 0.0 ? 1.0 : Math.sin(x * Math.PI) / (x * Math.PI);
    }

    private static double value(String filter, double x) {
        switch (filter) {
            case "box":
                return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
            case "bilinear":
                x = Math.abs(x);
                return x < 1.0 ? 1.0 - x : 0.0;
            case "hamming":
                x = Math.abs(x);
                if (x == 0.0) {
                    return 1.0;
                }
                return x >= 1.0 ? 0.0 : sinc(x) * (0.54f + 0.46f * Math.cos(x * Math.PI));
            case "bicubic":
                x = Math.abs(x);
                if (x < 1.0) {
                    return ((-0.5 + 2.0) * x - (-0.5 + 3.0)) * x * x + 1;
                }
                return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0.0;
            default:
                return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
        }
    }

    private static Weights weights(
            String filter,
            int size,
            double from,
            double to,
            int newSize,
            int start,
            int stop,
            boolean antialias,
            boolean asymmetric) {
        double scale = (to - from) / newSize;
        double shift = asymmetric ? 0.5 - 0.5 * scale : 0.0;
        double stretch = antialias ? Math.max(scale, 1.0) : 1.0;
        double support = support(filter) * stretch;
        Weights made = new Weights(stop - start);
        for (int output = start; output < stop; output++) {
            double center = from + (output + 0.5) * scale + shift;
            int first = Math.max((int) (center - support + 0.5), 0);
            int last = Math.min((int) (center + support + 0.5), size);
            if (!antialias) {
                first = Math.min(first, size - 1);
                last = Math.max(last, first + 1);
            }
            double[] values = new double[Math.max(last - first, 0)];
            double total = 0.0;
            for (int i = 0; i < values.length; i++) {
                values[i] = value(filter, (i + first - center + 0.5) * (1.0 / stretch));
                total += values[i];
            }
            for (int i = 0; i < values.length && total != 0.0; i++) {
                values[i] /= total;
            }
            made.first[output - start] = first;
            made.values[output - start] = values;
        }
        return made;
    }

    /** Pillow adds up the step instead of multiplying (ImagingScaleAffine), which decides where two are as near. */
    private static int[] nearest(int size, double from, double to, int newSize) {
        double step = (to - from) / newSize;
        double at = from + step * 0.5;
        int[] inputs = new int[newSize];
        for (int i = 0; i < newSize; i++) {
            inputs[i] = Math.min(Math.max((int) at, 0), size - 1);
            at += step;
        }
        return inputs;
    }

    private static Pixels pick(Pixels picture, int[] rows, int[] columns) {
        int channels = picture.channels;
        byte[] made = new byte[rows.length * columns.length * channels];
        int at = 0;
        for (int row : rows) {
            for (int column : columns) {
                System.arraycopy(picture.levels, (row * picture.width + column) * channels, made, at, channels);
                at += channels;
            }
        }
        return Pixels.of(made, rows.length, columns.length, channels);
    }

    /** Pillow's `resize` of the part `box` (left, top, right, bottom), whose corners it keeps as float32. */
    static Pixels pillow(Pixels picture, int height, int width, String filter, double[] box) {
        float left = (float) box[0];
        float top = (float) box[1];
        float right = (float) box[2];
        float bottom = (float) box[3];
        boolean whole = left == 0 && top == 0 && right == picture.width && bottom == picture.height;
        if (whole && height == picture.height && width == picture.width) {
            return picture;
        }
        if (filter.equals("nearest")) {
            return pick(picture, nearest(picture.height, top, bottom, height), nearest(picture.width, left, right, width));
        }
        boolean columnsChange = width != picture.width || left != 0 || right != width;
        boolean rowsChange = height != picture.height || top != 0 || bottom != height;
        Weights across = columnsChange
                ? weights(filter, picture.width, left, left + (right - left), width, 0, width, true, false)
                : null;
        Weights down = rowsChange
                ? weights(filter, picture.height, top, top + (bottom - top), height, 0, height, true, false)
                : null;
        boolean widthFirst = !columnsFirst(picture, height, width);
        if (widthFirst) {
            Pixels middle = across == null ? picture : horizontal(picture, across);
            return down == null ? middle : vertical(middle, down);
        }
        Pixels middle = down == null ? picture : vertical(picture, down);
        return across == null ? middle : horizontal(middle, across);
    }

    /** Whether Pillow resamples the height before the width. */
    static boolean columnsFirst(Pixels picture, int height, int width) {
        int shrinkY = picture.height - height;
        int shrinkX = picture.width - width;
        return shrinkY > 0 && shrinkY > 2 * shrinkX;
    }

    private static int[][] fixed(Weights weights) {
        int[][] fixed = new int[weights.values.length][];
        for (int i = 0; i < fixed.length; i++) {
            double[] values = weights.values[i];
            fixed[i] = new int[values.length];
            for (int j = 0; j < values.length; j++) {
                double scaled = values[j] * (1 << PRECISION_BITS);
                fixed[i][j] = values[j] < 0 ? (int) (-0.5 + scaled) : (int) (0.5 + scaled);
            }
        }
        return fixed;
    }

    private static byte level(int sum) {
        int level = sum >> PRECISION_BITS;
        return (byte) (level < 0 ? 0 : Math.min(level, 255));
    }

    private static Pixels horizontal(Pixels picture, Weights weights) {
        int[][] fixed = fixed(weights);
        int channels = picture.channels;
        byte[] made = new byte[picture.height * fixed.length * channels];
        int out = 0;
        for (int y = 0; y < picture.height; y++) {
            int row = y * picture.width * channels;
            for (int x = 0; x < fixed.length; x++) {
                int[] taps = fixed[x];
                int start = row + weights.first[x] * channels;
                for (int c = 0; c < channels; c++) {
                    int sum = 1 << (PRECISION_BITS - 1);
                    int at = start + c;
                    for (int tap : taps) {
                        sum += (picture.levels[at] & 0xff) * tap;
                        at += channels;
                    }
                    made[out++] = level(sum);
                }
            }
        }
        return Pixels.of(made, picture.height, fixed.length, channels);
    }

    private static Pixels vertical(Pixels picture, Weights weights) {
        int[][] fixed = fixed(weights);
        int stride = picture.width * picture.channels;
        byte[] made = new byte[fixed.length * stride];
        int[] sums = new int[stride];
        for (int y = 0; y < fixed.length; y++) {
            java.util.Arrays.fill(sums, 1 << (PRECISION_BITS - 1));
            for (int i = 0; i < fixed[y].length; i++) {
                int tap = fixed[y][i];
                int row = (weights.first[y] + i) * stride;
                for (int x = 0; x < stride; x++) {
                    sums[x] += (picture.levels[row + x] & 0xff) * tap;
                }
            }
            for (int x = 0; x < stride; x++) {
                made[y * stride + x] = level(sums[x]);
            }
        }
        return Pixels.of(made, fixed.length, picture.width, picture.channels);
    }

    /** Averages over `down` x `across` pixels, partial ones at the far edges; Pillow's Reduce.c. */
    static Pixels reduce(Pixels picture, int down, int across) {
        int height = (picture.height + down - 1) / down;
        int width = (picture.width + across - 1) / across;
        int channels = picture.channels;
        byte[] made = new byte[height * width * channels];
        for (int y = 0; y < height; y++) {
            int rows = Math.min(down, picture.height - y * down);
            for (int x = 0; x < width; x++) {
                int columns = Math.min(across, picture.width - x * across);
                long multiplier = (1L << 32) / (256L * rows * columns);
                for (int c = 0; c < channels; c++) {
                    long sum = rows * columns / 2;
                    for (int i = 0; i < rows; i++) {
                        int at = ((y * down + i) * picture.width + x * across) * channels + c;
                        for (int j = 0; j < columns; j++) {
                            sum += picture.levels[at] & 0xff;
                            at += channels;
                        }
                    }
                    made[(y * width + x) * channels + c] = (byte) ((sum * multiplier) >> 24);
                }
            }
        }
        return Pixels.of(made, height, width, channels);
    }

    /** The part (top, left, tall, wide) of the picture scaled to (height, width), by float32 weights. */
    static Pixels matrix(
            Pixels picture,
            int height,
            int width,
            String filter,
            boolean antialias,
            boolean asymmetric,
            int top,
            int left,
            int tall,
            int wide) {
        if (filter.equals("nearest")) {
            int[] rows = nearest(picture.height, 0, picture.height, height);
            int[] columns = nearest(picture.width, 0, picture.width, width);
            return pick(
                    picture,
                    java.util.Arrays.copyOfRange(rows, top, top + tall),
                    java.util.Arrays.copyOfRange(columns, left, left + wide));
        }
        Weights down = weights(filter, picture.height, 0, picture.height, height, top, top + tall, antialias, asymmetric);
        Weights across = weights(filter, picture.width, 0, picture.width, width, left, left + wide, antialias, asymmetric);
        int channels = picture.channels;
        int stride = picture.width * channels;
        byte[] made = new byte[tall * wide * channels];
        double[] line = new double[stride];
        for (int y = 0; y < tall; y++) {
            java.util.Arrays.fill(line, 0.0);
            for (int i = 0; i < down.values[y].length; i++) {
                double weight = (float) down.values[y][i];
                int row = (down.first[y] + i) * stride;
                for (int x = 0; x < stride; x++) {
                    line[x] += (picture.levels[row + x] & 0xff) * weight;
                }
            }
            for (int x = 0; x < wide; x++) {
                for (int c = 0; c < channels; c++) {
                    double sum = 0.5;
                    int at = across.first[x] * channels + c;
                    for (double weight : across.values[x]) {
                        sum += (float) line[at] * (double) (float) weight;
                        at += channels;
                    }
                    made[(y * wide + x) * channels + c] = (byte) Math.min(Math.max((int) Math.floor(sum), 0), 255);
                }
            }
        }
        return Pixels.of(made, tall, wide, channels);
    }
}
