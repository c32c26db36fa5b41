package dev.edgekit;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Logits to probabilities, probabilities to labels, token states to one vector, vectors to similarities. */
final class Scores {
    private Scores() {}

    static void refuseUnlessFinite(float[] values, String what) {
        for (float value : values) {
            if (!Float.isFinite(value)) {
                throw new GraphRefused(what + " has NaN or infinite numbers: no answer can be made of it");
            }
        }
    }

    /** One row of logits through `none`, `softmax` or `sigmoid`, in float64. */
    static double[] activate(String name, double[] logits) {
        double[] made = logits.clone();
        if (name.equals("sigmoid")) {
            for (int i = 0; i < made.length; i++) {
                double small = Math.exp(-Math.abs(made[i]));
                made[i] = made[i] >= 0 ? 1.0 / (1.0 + small) : small / (1.0 + small);
            }
        }
        if (name.equals("softmax")) {
            double largest = Double.NEGATIVE_INFINITY;
            for (double logit : logits) {
                largest = Math.max(largest, logit);
            }
            double total = 0.0;
            for (int i = 0; i < made.length; i++) {
                made[i] = Math.exp(made[i] - largest);
                total += made[i];
            }
            for (int i = 0; i < made.length; i++) {
                made[i] /= total;
            }
        }
        return made;
    }

    /** Label to score, best first; logits (rows, classes). */
    static Map<String, Double> classify(Postprocess spec, Tensor logits, List<String> labels) {
        int classes = logits.shape[logits.shape.length - 1];
        int rows = logits.size() / classes;
        if (classes != labels.size()) {
            throw new GraphRefused("'" + spec.value + "' has " + classes + " classes and " + spec.labels + " has "
                    + labels.size() + " labels");
        }
        if (spec.aggregate.equals("none") && rows != 1) {
            throw new GraphRefused("'" + spec.value + "' has " + rows + " rows where one answer is expected");
        }
        refuseUnlessFinite(logits.floats(), "'" + spec.value + "'");
        double[] total = new double[classes];
        for (int row = 0; row < rows; row++) {
            double[] one = new double[classes];
            for (int i = 0; i < classes; i++) {
                one[i] = logits.at(row * classes + i);
            }
            one = activate(spec.activation, one);
            for (int i = 0; i < classes; i++) {
                boolean largest = spec.aggregate.equals("max") && row > 0;
                total[i] = largest ? Math.max(total[i], one[i]) : total[i] + one[i];
            }
        }
        for (int i = 0; i < classes && !spec.aggregate.equals("max"); i++) {
            total[i] /= rows;
        }
        return ranked(labels, total, spec.topK);
    }

    /** Label to score, best first, `topK` of them (0 = all); equal scores keep the labels' order. */
    static Map<String, Double> ranked(List<String> labels, double[] scores, int topK) {
        List<Integer> order = new ArrayList<>();
        for (int i = 0; i < scores.length; i++) {
            order.add(i);
        }
        order.sort((a, b) -> Double.compare(scores[b] + 0.0, scores[a] + 0.0)); // 0.0 and -0.0 are equal in Python
        Map<String, Double> ranking = new LinkedHashMap<>();
        for (int i : order.subList(0, topK == 0 ? order.size() : Math.min(topK, order.size()))) {
            ranking.put(labels.get(i), scores[i]);
        }
        return ranking;
    }

    /** The (rows, width) float32 embeddings of one input. */
    static Tensor embed(Postprocess.Source source, Map<String, Tensor> values, boolean normalize) {
        Tensor states = values.get(source.value).cast("FP32");
        Tensor rows = source.mode == null ? states : pool(source, states, values.get(source.mask));
        rows = rows.shaped(rows.rows(), rows.size() / rows.rows());
        refuseUnlessFinite(rows.floats(), "'" + source.value + "'");
        return normalize ? unit(rows) : rows;
    }

    private static Tensor pool(Postprocess.Source source, Tensor states, Tensor mask) {
        int rows = states.shape[0];
        int tokens = states.shape[1];
        int width = states.shape[2];
        float[] data = states.floats();
        float[] made = new float[rows * width];
        for (int row = 0; row < rows; row++) {
            double count = 0;
            int last = tokens - 1; // numpy's argmax of a row without any 1 is the first of the reversed row
            for (int t = tokens - 1; t >= 0; t--) {
                count += mask == null ? 1 : mask.at(row * tokens + t);
            }
            for (int t = tokens - 1; t >= 0; t--) {
                if (mask == null || mask.at(row * tokens + t) == 1) {
                    last = t;
                    break;
                }
            }
            for (int i = 0; i < width; i++) {
                double sum = 0.0;
                float largest = Float.NEGATIVE_INFINITY;
                for (int t = 0; t < tokens; t++) {
                    double weight = mask == null ? 1 : mask.at(row * tokens + t);
                    float state = data[(row * tokens + t) * width + i];
                    sum += state * weight;
                    largest = Math.max(largest, weight > 0 ? state : -1e9f);
                }
                switch (source.mode) {
                    case "cls":
                        made[row * width + i] = data[row * tokens * width + i];
                        break;
                    case "last":
                        made[row * width + i] = data[(row * tokens + last) * width + i];
                        break;
                    case "max":
                        made[row * width + i] = largest;
                        break;
                    default:
                        made[row * width + i] = (float) ((float) sum / Math.max(count, 1e-9));
                }
            }
        }
        return Tensor.of(made, rows, width);
    }

    /** Each row divided by its Euclidean length. */
    static Tensor unit(Tensor rows) {
        int width = rows.shape[1];
        float[] data = rows.floats();
        float[] made = new float[data.length];
        for (int row = 0; row < rows.shape[0]; row++) {
            double sum = 0.0;
            for (int i = 0; i < width; i++) {
                sum += (double) data[row * width + i] * data[row * width + i];
            }
            float length = (float) Math.max(Math.sqrt(sum), 1e-12);
            for (int i = 0; i < width; i++) {
                made[row * width + i] = data[row * width + i] / length;
            }
        }
        return Tensor.of(made, rows.shape);
    }

    /** score = activation(scale * cos(query, candidate) + bias). */
    static double[] similarity(Postprocess spec, Tensor query, Tensor candidates) {
        float[] a = unit(query).floats();
        float[] b = unit(candidates).floats();
        double[] logits = new double[candidates.shape[0]];
        for (int row = 0; row < logits.length; row++) {
            double cosine = 0.0;
            for (int i = 0; i < a.length; i++) {
                cosine += (double) a[i] * b[row * a.length + i];
            }
            logits[row] = spec.scale * cosine + spec.bias;
        }
        return activate(spec.activation, logits);
    }
}
