package dev.edgekit;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** How the values of the flow become a result; `task` says which keys it has, the others are null or 0. */
public final class Postprocess {
    public final String task;
    final String value;
    final String activation;
    final String aggregate;
    final String labels;
    final int topK;
    final String boxes;
    final String logits;
    final String image;
    final boolean noObject;
    final boolean centred;
    final boolean fractions;
    final double threshold;
    final Anchors anchors;
    final Suppression suppression;
    final Map<String, Source> sources;
    final boolean normalize;
    final double scale;
    final double bias;
    final String template;
    final List<String> values;

    Postprocess(Fields f) {
        task = f.choice("task", "classification", "embedding", "similarity", "detections", "raw");
        boolean classification = task.equals("classification");
        boolean similarity = task.equals("similarity");
        value = classification ? f.text("value") : null;
        activation = classification || similarity ? f.choice("activation", "none", "softmax", "sigmoid") : null;
        aggregate = classification ? f.choice("aggregate", "none", "mean", "max") : null;
        boolean detections = task.equals("detections");
        labels = classification || detections ? f.text("labels") : null;
        topK = classification || detections ? f.whole("top_k") : 0;
        boxes = detections ? f.text("boxes") : null;
        logits = detections ? f.text("logits") : null;
        image = detections ? f.text("image") : null;
        noObject = detections && f.choice("scoring", "softmax_no_object", "sigmoid_top").equals("softmax_no_object");
        centred = detections && f.choice("format", "cxcywh", "xyxy").equals("cxcywh");
        fractions = detections && f.choice("unit", "picture", "tensor").equals("picture");
        threshold = detections ? f.real("threshold") : 0;
        anchors = detections ? f.recordOrNull("anchors", Anchors::new) : null;
        suppression = detections ? f.recordOrNull("suppression", Suppression::new) : null;
        sources = similarity || task.equals("embedding") ? f.named("sources", Source::new) : null;
        normalize = task.equals("embedding") && f.flag("normalize");
        scale = similarity ? f.real("scale") : 0;
        bias = similarity ? f.real("bias") : 0;
        template = similarity ? f.text("template") : null;
        values = task.equals("raw") ? f.texts("values") : null;
    }

    /** Grids over a tensor; a cell of strides[i] pixels has perCell[i] boxes, which count from its middle. */
    static final class Anchors {
        final int height;
        final int width;
        final int[] strides;
        final int[] perCell;

        Anchors(Fields f) {
            height = f.whole("height");
            width = f.whole("width");
            strides = f.wholes("strides");
            perCell = f.wholes("per_cell");
        }

        /** The middle (x, y) of each box's cell in tensor pixels. */
        List<double[]> centres() {
            List<double[]> found = new ArrayList<>();
            for (int level = 0; level < strides.length; level++) {
                int rows = (height + strides[level] - 1) / strides[level];
                int columns = (width + strides[level] - 1) / strides[level];
                for (int cell = 0; cell < rows * columns; cell++) {
                    double x = (cell % columns + 0.5) * ((double) width / columns);
                    double y = (cell / columns + 0.5) * ((double) height / rows);
                    for (int i = 0; i < perCell[level]; i++) {
                        found.add(new double[] {x, y});
                    }
                }
            }
            return found;
        }
    }

    /** Of boxes of one label that overlap by more than `overlap` one is left: the best, or the mean by score. */
    static final class Suppression {
        final boolean weighted;
        final double overlap;

        Suppression(Fields f) {
            weighted = f.choice("method", "best", "weighted").equals("weighted");
            overlap = f.real("overlap");
        }
    }

    /** Where the embedding of one input comes from; `mode` null takes the value as it is. */
    static final class Source {
        final String value;
        final String mode;
        final String mask;

        Source(Fields f) {
            value = f.text("value");
            String[] pooling = f.recordOrNull("pooling", p -> new String[] {
                p.choice("mode", "mean", "cls", "last", "max"), p.textOrNull("mask")
            });
            mode = pooling == null ? null : pooling[0];
            mask = pooling == null ? null : pooling[1];
        }
    }
}
