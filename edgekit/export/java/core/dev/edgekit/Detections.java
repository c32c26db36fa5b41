package dev.edgekit;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** Things found, best first: `boxes` (n, 4) as left, top, right, bottom in pixels of the original picture. */
public final class Detections extends Result {
    public final Tensor boxes;
    public final List<String> labels;
    public final List<Double> scores;

    private Detections(Tensor boxes, List<String> labels, List<Double> scores, Map<String, Double> timings) {
        super(timings);
        this.boxes = boxes;
        this.labels = labels;
        this.scores = scores;
    }

    @Override
    void fields(Map<String, Object> into) {
        into.put("boxes", boxes);
        into.put("labels", labels);
        into.put("scores", scores);
    }

    /** One class of one query. */
    private static final class Candidate {
        final double score;
        final int label;
        final int query;

        Candidate(double score, int label, int query) {
            this.score = score;
            this.label = label;
            this.query = query;
        }
    }

    /** From logits (1, queries, classes) and boxes (1, queries, 4). */
    static Detections detect(
            Postprocess spec,
            Map<String, Tensor> values,
            Geometry where,
            List<String> names,
            Map<String, Double> timings) {
        Tensor boxes = one(spec.boxes, values.get(spec.boxes));
        List<String> labels = new ArrayList<>();
        List<Double> scores = new ArrayList<>();
        List<double[]> corners = new ArrayList<>();
        for (Candidate candidate : candidates(spec, one(spec.logits, values.get(spec.logits)))) {
            if (candidate.score > spec.threshold) {
                if (candidate.label >= names.size()) {
                    throw new GraphRefused("'" + spec.logits + "' has class " + candidate.label + ", " + spec.labels
                            + " " + names.size() + " labels");
                }
                labels.add(names.get(candidate.label));
                scores.add(candidate.score);
                corners.add(corners(spec, boxes, candidate.query, where));
            }
        }
        float[] flat = new float[4 * corners.size()];
        for (int i = 0; i < flat.length; i++) {
            flat[i] = (float) corners.get(i / 4)[i % 4];
        }
        return new Detections(Tensor.of(flat, corners.size(), 4), labels, scores, timings);
    }

    private static Tensor one(String name, Tensor tensor) {
        if (tensor.shape.length != 3 || tensor.shape[0] != 1) {
            throw new GraphRefused("'" + name + "': expected (1, queries, n)");
        }
        Scores.refuseUnlessFinite(tensor.floats(), "'" + name + "'");
        return tensor;
    }

    /** Best first; those as good keep their order. */
    private static List<Candidate> candidates(Postprocess spec, Tensor logits) {
        int queries = logits.shape[1];
        int classes = logits.shape[2];
        List<Candidate> found = new ArrayList<>();
        for (int query = 0; query < queries; query++) {
            double[] row = new double[classes];
            for (int i = 0; i < classes; i++) {
                row[i] = logits.at(query * classes + i);
            }
            row = Scores.activate(spec.noObject ? "softmax" : "sigmoid", row);
            int best = 0;
            for (int i = 0; i < classes; i++) {
                if (!spec.noObject) {
                    found.add(new Candidate(row[i], i, query));
                } else if (i < classes - 1 && row[i] > row[best]) {
                    best = i;
                }
            }
            if (spec.noObject) {
                found.add(new Candidate(row[best], best, query));
            }
        }
        found.sort((a, b) -> Double.compare(b.score, a.score));
        int kept = spec.topK == 0 ? queries : spec.topK;
        return spec.noObject ? found : found.subList(0, Math.min(kept, found.size()));
    }

    private static double[] corners(Postprocess spec, Tensor boxes, int query, Geometry where) {
        double[] box = new double[4];
        for (int i = 0; i < 4; i++) {
            box[i] = boxes.at(4 * query + i);
        }
        if (spec.centred) {
            box = new double[] {
                box[0] - box[2] / 2, box[1] - box[3] / 2, box[0] + box[2] / 2, box[1] + box[3] / 2
            };
        }
        if (spec.fractions) {
            return new double[] {box[0] * where.width, box[1] * where.height, box[2] * where.width, box[3] * where.height};
        }
        for (int i = 0; i < 4; i++) {
            box[i] = i % 2 == 0 ? box[i] * where.scaleX + where.offsetX : box[i] * where.scaleY + where.offsetY;
        }
        return where.turned
                ? new double[] {box[1], where.height - box[2], box[3], where.height - box[0]}
                : box;
    }
}
