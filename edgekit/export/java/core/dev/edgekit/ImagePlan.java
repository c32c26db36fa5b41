package dev.edgekit;

import java.util.ArrayList;
import java.util.List;

/** Sizes and offsets: what the geometric steps do to a picture of a given size. No pixels here. */
final class ImagePlan {
    private static final int WORKING_PIXELS = 1 << 24;

    private ImagePlan() {}

    /** A quarter clockwise (`turn`), a scaling (`step` set), or a window onto the picture (`fill` set). */
    static final class Operation {
        final boolean turn;
        final int height;
        final int width;
        final int reduceY;
        final int reduceX;
        final ImageSpec.Step step;
        final int top;
        final int left;
        final double[] fill;
        final boolean normalized;

        private Operation(
                boolean turn,
                int height,
                int width,
                int[] reduce,
                ImageSpec.Step step,
                int top,
                int left,
                double[] fill,
                boolean normalized) {
            this.turn = turn;
            this.height = height;
            this.width = width;
            this.reduceY = reduce[0];
            this.reduceX = reduce[1];
            this.step = step;
            this.top = top;
            this.left = left;
            this.fill = fill;
            this.normalized = normalized;
        }

        static Operation turn(int height, int width) {
            return new Operation(true, height, width, new int[] {1, 1}, null, 0, 0, null, false);
        }

        static Operation scale(int height, int width, int[] reduce, ImageSpec.Step step) {
            return new Operation(false, height, width, reduce, step, 0, 0, null, false);
        }

        static Operation window(int top, int left, int height, int width, double[] fill, boolean normalized) {
            return new Operation(false, height, width, new int[] {1, 1}, null, top, left, fill, normalized);
        }
    }

    static List<Operation> plan(List<ImageSpec.Step> steps, int height, int width, int limitPixels) {
        List<Operation> operations = new ArrayList<>();
        for (ImageSpec.Step step : steps) {
            Operation operation = operation(step, height, width);
            if (operation == null) {
                continue;
            }
            if (!operation.turn) {
                long needed = (long) operation.width * Math.max(height, operation.height);
                if (needed > Math.max(limitPixels, WORKING_PIXELS)) {
                    throw new InputError("the picture is " + height + " x " + width + " here: scaled to "
                            + operation.height + " x " + operation.width + " it needs " + needed + " pixels");
                }
            }
            operations.add(operation);
            height = operation.height;
            width = operation.width;
        }
        return operations;
    }

    private static Operation operation(ImageSpec.Step step, int height, int width) {
        switch (step.step) {
            case "align_long_axis":
                boolean otherWay = (step.width < step.height && width > height)
                        || (step.width > step.height && width < height);
                return otherWay ? Operation.turn(width, height) : null;
            case "resize":
                return scale(step, height, width);
            case "crop":
                return crop(step, height, width);
            default:
                return pad(step, height, width);
        }
    }

    private static Operation scale(ImageSpec.Step step, int height, int width) {
        int[] size = targetSize(step, height, width);
        if (step.shrinkOnly && (size[0] > height || size[1] > width)) {
            return null;
        }
        if (Math.min(size[0], size[1]) < 1) {
            throw new InputError("the picture is " + height + " x " + width + ": scaled (" + step.mode
                    + ") it would be " + size[0] + " x " + size[1]);
        }
        if (size[0] == height && size[1] == width) {
            return null;
        }
        int[] reduce = {1, 1};
        if (step.mode.equals("thumbnail")) { // Pillow's resize(reducing_gap=2.0)
            reduce[0] = Math.max((int) ((double) height / size[0] / 2.0), 1);
            reduce[1] = Math.max((int) ((double) width / size[1] / 2.0), 1);
        }
        return Operation.scale(size[0], size[1], reduce, step);
    }

    private static int[] targetSize(ImageSpec.Step step, int height, int width) {
        double factorY = (double) step.height / height;
        double factorX = (double) step.width / width;
        double factor;
        switch (step.mode) {
            case "stretch":
                if (step.multipleOf == 1) {
                    return new int[] {step.height, step.width};
                }
                return new int[] {whole(factorY * height, step), whole(factorX * width, step)};
            case "shortest_edge":
                return shortestEdge(step, height, width);
            case "longest_edge":
                int small = whole((double) ((long) step.height * Math.min(height, width)) / Math.max(height, width), step);
                int large = whole(step.height, step);
                return height > width ? new int[] {large, small} : new int[] {small, large};
            case "thumbnail":
                return thumbnail(step, height, width);
            case "fit":
                factor = Math.min(factorY, factorX);
                break;
            case "cover":
                factor = Math.max(factorY, factorX);
                break;
            default: // least_change: transformers' DPT
                factor = Math.abs(1 - factorX) < Math.abs(1 - factorY) ? factorX : factorY;
        }
        return new int[] {whole(factor * height, step), whole(factor * width, step)};
    }

    private static int[] shortestEdge(ImageSpec.Step step, int height, int width) {
        double size = step.height;
        double small = step.height;
        if (step.longest > 0
                && (double) Math.max(height, width) / Math.min(height, width) * size > step.longest) {
            size = step.longest * (double) Math.min(height, width) / Math.max(height, width);
            small = Math.rint(size);
            boolean kept = step.multipleOf <= 1 || height <= width; // YOLOS asks for the upright picture first
            if (kept && Math.min(height, width) == small) {
                return new int[] {whole(height, step), whole(width, step)};
            }
        }
        if (width < height) {
            return new int[] {whole(wholeSide(size * height / width, step), step), whole(small, step)};
        }
        return new int[] {whole(small, step), whole(wholeSide(size * width / height, step), step)};
    }

    private static double wholeSide(double length, ImageSpec.Step step) {
        return step.longest > 0 ? (double) (long) length : length;
    }

    private static int[] thumbnail(ImageSpec.Step step, int height, int width) {
        int newHeight = Math.min(height, step.height);
        int newWidth = Math.min(width, step.width);
        if (newHeight == height && newWidth == width) {
            return new int[] {height, width};
        }
        if (height > width) {
            return new int[] {newHeight, whole((double) ((long) width * newHeight) / height, step)};
        }
        if (width > height) {
            return new int[] {whole((double) ((long) height * newWidth) / width, step), newWidth};
        }
        return new int[] {newHeight, newWidth};
    }

    private static int whole(double length, ImageSpec.Step step) {
        double count = length / step.multipleOf;
        double whole;
        switch (step.rounding) {
            case "floor":
                whole = Math.floor(count);
                break;
            case "ceil":
                whole = Math.ceil(count);
                break;
            case "nearest_even":
                whole = Math.rint(count);
                break;
            default:
                whole = Math.floor(count + 0.5);
        }
        return (int) whole * step.multipleOf;
    }

    private static Operation crop(ImageSpec.Step step, int height, int width) {
        int newHeight = step.height;
        int newWidth = step.width;
        int top;
        int left;
        if (step.fraction > 0.0) {
            top = (int) ((height - height * step.fraction) / 2);
            left = (int) ((width - width * step.fraction) / 2);
            newHeight = height - 2 * top;
            newWidth = width - 2 * left;
        } else {
            top = cropOffset(step, height, newHeight);
            left = cropOffset(step, width, newWidth);
        }
        boolean same = newHeight == height && newWidth == width;
        return same ? null : Operation.window(top, left, newHeight, newWidth, step.fill, false);
    }

    private static int cropOffset(ImageSpec.Step step, int length, int newLength) {
        if (step.rounding.equals("floor")) {
            return Math.floorDiv(length - newLength, 2);
        }
        if (newLength > length) { // torchvision pads by a floor of its own
            return -((newLength - length) / 2);
        }
        return (int) Math.rint((length - newLength) / 2.0);
    }

    private static Operation pad(ImageSpec.Step step, int height, int width) {
        int newHeight = step.height;
        int newWidth = step.width;
        if (step.to.equals("square")) {
            newHeight = newWidth = Math.max(height, width);
        } else if (step.to.equals("multiple")) {
            newHeight = (height + step.multipleOf - 1) / step.multipleOf * step.multipleOf;
            newWidth = (width + step.multipleOf - 1) / step.multipleOf * step.multipleOf;
        }
        if (newHeight < height || newWidth < width) {
            throw new InputError("the picture is " + height + " x " + width + " here and cannot be padded to "
                    + newHeight + " x " + newWidth);
        }
        if (newHeight == height && newWidth == width) {
            return null;
        }
        int top = step.centred ? (newHeight - height) / 2 : 0;
        int left = step.centred ? (newWidth - width) / 2 : 0;
        return Operation.window(-top, -left, newHeight, newWidth, step.fill, step.normalized);
    }
}
