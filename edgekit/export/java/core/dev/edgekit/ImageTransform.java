package dev.edgekit;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** A decoded picture becomes a tensor: geometric steps, then a table of 256 numbers per channel, then the layout. */
final class ImageTransform {
    private static final int SIDE_LIMIT = 65535;

    private ImageTransform() {}

    static Map<String, Tensor> transform(ImageSpec spec, Pixels given, int limitPixels) {
        if (Math.max(given.height, given.width) > SIDE_LIMIT || (long) given.height * given.width > limitPixels) {
            throw new InputError("the picture has " + given.height + " x " + given.width + " pixels, allowed are "
                    + limitPixels + ", a side at most " + SIDE_LIMIT);
        }
        List<ImagePlan.Operation> operations = ImagePlan.plan(spec.steps, given.height, given.width, limitPixels);
        Geometry where = new Geometry(operations, given.height, given.width);
        int count = operations.size();
        ImagePlan.Operation last = count > 0 ? operations.get(count - 1) : null;
        ImagePlan.Operation outer = last != null && last.fill != null && last.normalized ? last : null;
        Pixels moved = move(given.inColours(spec), outer == null ? operations : operations.subList(0, count - 1));
        Map<String, Tensor> tensors = new LinkedHashMap<>();
        tensors.put(spec.value, toTensor(spec, moved, outer));
        if (spec.mask != null) {
            int height = outer == null ? moved.height : outer.height;
            int width = outer == null ? moved.width : outer.width;
            tensors.put(spec.mask, mask(height, width, where));
        }
        return tensors;
    }

    private static Pixels move(Pixels picture, List<ImagePlan.Operation> operations) {
        int at = 0;
        while (at < operations.size()) {
            ImagePlan.Operation operation = operations.get(at++);
            if (operation.turn) {
                picture = picture.oriented(6);
            } else if (operation.fill != null) {
                picture = window(picture, operation);
            } else {
                ImagePlan.Operation cut =
                        ImagePlan.Operation.window(0, 0, operation.height, operation.width, new double[] {0}, false);
                ImagePlan.Operation next = at < operations.size() ? operations.get(at) : null;
                if (next != null && next.fill != null && inside(next, operation)) {
                    cut = next;
                    at++;
                }
                picture = resize(picture, operation, cut);
            }
        }
        return picture;
    }

    private static boolean inside(ImagePlan.Operation window, ImagePlan.Operation scale) {
        return window.top >= 0
                && window.left >= 0
                && window.top + window.height <= scale.height
                && window.left + window.width <= scale.width;
    }

    private static Pixels window(Pixels picture, ImagePlan.Operation window) {
        int channels = picture.channels;
        byte[] made = new byte[window.height * window.width * channels];
        for (int y = 0; y < window.height; y++) {
            int fromY = y + window.top;
            for (int x = 0; x < window.width; x++) {
                int fromX = x + window.left;
                boolean shown = fromY >= 0 && fromY < picture.height && fromX >= 0 && fromX < picture.width;
                for (int c = 0; c < channels; c++) {
                    made[(y * window.width + x) * channels + c] = shown
                            ? picture.levels[(fromY * picture.width + fromX) * channels + c]
                            : (byte) (int) window.fill[window.fill.length == 1 ? 0 : c];
                }
            }
        }
        return Pixels.of(made, window.height, window.width, channels);
    }

    private static Pixels resize(Pixels picture, ImagePlan.Operation scale, ImagePlan.Operation cut) {
        ImageSpec.Step step = scale.step;
        if (step.arithmetic.equals("matrix")) {
            return Resampling.matrix(
                    picture,
                    scale.height,
                    scale.width,
                    step.filter,
                    step.antialias,
                    step.asymmetric,
                    cut.top,
                    cut.left,
                    cut.height,
                    cut.width);
        }
        double[] box = {0, 0, picture.width, picture.height};
        if (scale.reduceY > 1 || scale.reduceX > 1) {
            box[2] = (double) picture.width / scale.reduceX;
            box[3] = (double) picture.height / scale.reduceY;
            picture = Resampling.reduce(picture, scale.reduceY, scale.reduceX);
        }
        if (step.arithmetic.equals("pillow_fused") && fuses(picture, scale, cut)) {
            double across = (box[2] - box[0]) / scale.width;
            double down = (box[3] - box[1]) / scale.height;
            double[] part = {
                box[0] + cut.left * across,
                box[1] + cut.top * down,
                Math.min(box[0] + (cut.left + cut.width) * across, picture.width),
                Math.min(box[1] + (cut.top + cut.height) * down, picture.height)
            };
            return Resampling.pillow(picture, cut.height, cut.width, step.filter, part);
        }
        Pixels scaled = Resampling.pillow(picture, scale.height, scale.width, step.filter, box);
        return cut.height == scale.height && cut.width == scale.width ? scaled : window(scaled, cut);
    }

    private static boolean fuses(Pixels picture, ImagePlan.Operation scale, ImagePlan.Operation cut) {
        String filter = scale.step.filter;
        return Resampling.columnsFirst(picture, scale.height, scale.width)
                        == Resampling.columnsFirst(picture, cut.height, cut.width)
                && !filter.equals("nearest")
                && !filter.equals("box");
    }

    /** Numbers of the 256 levels per channel, as the reference computes them. */
    private static Object[] table(ImageSpec spec) {
        int channels = spec.channels();
        Object[] table = new Object[channels];
        for (int c = 0; c < channels; c++) {
            float[] real = new float[256];
            for (int level = 0; level < 256; level++) {
                float x = (float) (level * spec.scale);
                if (spec.offset != 0.0) {
                    x = x + (float) spec.offset;
                }
                x = (x - (float) spec.mean[c]) / (float) spec.std[c];
                for (int again = channels + c; again < spec.std.length; again += channels) {
                    x = x / (float) spec.std[again];
                }
                real[level] = x;
            }
            table[c] = spec.quantization == null ? real : spec.quantization.quantize(real, spec.datatype);
        }
        return table;
    }

    private static Tensor toTensor(ImageSpec spec, Pixels picture, ImagePlan.Operation outer) {
        int channels = picture.channels;
        int top = outer == null ? 0 : -outer.top;
        int left = outer == null ? 0 : -outer.left;
        int height = outer == null ? picture.height : outer.height;
        int width = outer == null ? picture.width : outer.width;
        Object values = Tensor.array(spec.datatype, height * width * channels);
        Object[] table = table(spec);
        for (int c = 0; c < channels; c++) {
            int source = spec.colour.equals("bgr") ? 2 - c : c;
            int step = spec.channelsFirst ? 1 : channels;
            int start = spec.channelsFirst ? c * height * width : c;
            if (outer != null) {
                fill(spec, outer, c, values, start, step, height * width);
            }
            for (int y = 0; y < picture.height; y++) {
                int out = start + ((y + top) * width + left) * step;
                int in = y * picture.width * channels + source;
                for (int x = 0; x < picture.width; x++) {
                    int level = picture.levels[in] & 0xff;
                    if (values instanceof float[]) {
                        ((float[]) values)[out] = ((float[]) table[c])[level];
                    } else {
                        ((byte[]) values)[out] = ((byte[]) table[c])[level];
                    }
                    in += channels;
                    out += step;
                }
            }
        }
        int[] shape = spec.channelsFirst
                ? new int[] {1, channels, height, width}
                : new int[] {1, height, width, channels};
        return new Tensor(spec.datatype, shape, values);
    }

    private static void fill(
            ImageSpec spec, ImagePlan.Operation outer, int channel, Object values, int start, int step, int count) {
        float[] real = {(float) outer.fill[channel]};
        Object one = spec.quantization == null ? real : spec.quantization.quantize(real, spec.datatype);
        for (int i = 0; i < count; i++) {
            System.arraycopy(one, 0, values, start + i * step, 1);
        }
    }

    private static Tensor mask(int height, int width, Geometry where) {
        long[] mask = new long[height * width];
        int bottom = Math.min(where.contentTop + where.contentHeight, height);
        int right = Math.min(where.contentLeft + where.contentWidth, width);
        for (int y = where.contentTop; y < bottom; y++) {
            for (int x = where.contentLeft; x < right; x++) {
                mask[y * width + x] = 1;
            }
        }
        return Tensor.of(mask, 1, height, width);
    }
}
