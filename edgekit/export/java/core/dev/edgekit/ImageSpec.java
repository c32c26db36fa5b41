package dev.edgekit;

import java.util.ArrayList;
import java.util.List;

/** How a picture becomes a tensor; the keys and their meanings are those of edgekit/specs/image.py. */
public final class ImageSpec extends InputSpec {
    public final String value;
    public final String mask;
    public final String orientation;
    public final String alpha;
    public final String colour;
    public final List<Step> steps;
    public final double scale;
    public final double offset;
    public final double[] mean;
    public final double[] std;
    public final boolean channelsFirst;
    public final String datatype;
    public final Quantization quantization;

    ImageSpec(Fields f) {
        value = f.text("value");
        mask = f.textOrNull("mask");
        f.choice("decode", "exact");
        orientation = f.choice("orientation", "exif", "ignore");
        alpha = f.choice("alpha", "drop", "white", "black");
        colour = f.choice("colour", "rgb", "bgr", "grey");
        steps = f.each("steps", Step::new);
        scale = f.real("scale");
        offset = f.real("offset");
        mean = f.reals("mean");
        std = f.reals("std");
        channelsFirst = f.choice("layout", "nchw", "nhwc").equals("nchw");
        String dtype = f.choice("dtype", "float32", "uint8", "int8");
        datatype = dtype.equals("float32") ? "FP32" : dtype.toUpperCase(java.util.Locale.ROOT);
        quantization = f.recordOrNull("quantization", Quantization::new);
    }

    int channels() {
        return colour.equals("grey") ? 1 : 3;
    }

    @Override
    List<String> values() {
        List<String> names = new ArrayList<>(List.of(value));
        if (mask != null) {
            names.add(mask);
        }
        return names;
    }

    /** One geometric step; `step` says which keys it has, the others are null or 0. */
    public static final class Step {
        final String step;
        final int height;
        final int width;
        final String mode;
        final int longest;
        final int multipleOf;
        final String rounding;
        final boolean shrinkOnly;
        final String filter;
        final boolean antialias;
        final boolean asymmetric;
        final String arithmetic;
        final double fraction;
        final double[] fill;
        final String to;
        final boolean centred;
        final boolean normalized;

        Step(Fields f) {
            step = f.choice("step", "align_long_axis", "resize", "crop", "pad");
            boolean resize = step.equals("resize");
            boolean crop = step.equals("crop");
            boolean pad = step.equals("pad");
            height = f.whole("height");
            width = f.whole("width");
            mode = resize
                    ? f.choice(
                            "mode",
                            "stretch",
                            "shortest_edge",
                            "longest_edge",
                            "fit",
                            "cover",
                            "least_change",
                            "thumbnail")
                    : null;
            longest = resize ? f.whole("longest") : 0;
            multipleOf = resize || pad ? f.whole("multiple_of") : 1;
            rounding = resize || crop ? f.choice("rounding", "floor", "nearest_even", "nearest_away", "ceil") : null;
            shrinkOnly = resize && f.flag("shrink_only");
            filter = resize
                    ? f.choice("filter", "nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
                    : null;
            antialias = resize && f.flag("antialias");
            asymmetric = resize && f.choice("coordinates", "half_pixel", "asymmetric").equals("asymmetric");
            arithmetic = resize ? f.choice("arithmetic", "pillow", "pillow_fused", "pillow_matrix", "matrix") : null;
            fraction = crop ? f.real("fraction") : 0;
            fill = crop ? new double[] {f.real("fill")} : pad ? f.reals("fill") : null;
            to = pad ? f.choice("to", "size", "multiple", "square") : null;
            centred = pad && f.choice("position", "top_left", "center").equals("center");
            normalized = pad && f.choice("stage", "pixels", "normalized").equals("normalized");
        }
    }
}
